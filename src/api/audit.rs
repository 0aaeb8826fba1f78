//! `GET /audit/{event}` and `GET /audit?event=`: every version of a record, oldest first, page by page.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::authorize::{admit, demand};
use super::record::check_name;
use super::{Context, Plan, RECORDS};
use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::quota::Client;
use crate::store::{Page, PageQuery, StoreError};

/// Versions on a page unless asked otherwise.
const DEFAULT_LIMIT: usize = 1000;
/// The most that may be asked for.
const MAX_LIMIT: usize = 10_000;

/// A page to be read.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub query: PageQuery,
    /// Where the name is.
    pub place: NameSource,
    /// Who asks.
    pub(crate) client: Client,
    /// The second since the Unix epoch from which on they may not be read.
    pub(crate) expires: Option<u64>,
}

/// Where a request has the record's name, and so the link to its next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// Behind `/audit/`.
    Path,
    /// In the parameter `event`: some proxies decode or normalize paths.
    Query,
}

pub(super) fn plan(in_path: Option<&str>, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let (name, place) = match in_path {
        Some(name) => (check_segments(name)?.to_owned(), NameSource::Path),
        None => (name_in_query(head)?, NameSource::Query),
    };
    check_name(&name)?;
    let grant = admit(Role::Subscriber, head, context)?;
    demand(&grant, RECORDS)?;
    let after = number(head, "after")?.unwrap_or(0);
    let limit = number(head, "limit")?.map_or(Ok(DEFAULT_LIMIT), check_limit)?;
    let query = PageQuery { name: name.into(), after, limit };
    let client = Client::from(context.address);
    Ok(Plan::Audit(Request { query, place, client, expires: grant.expires() }))
}

/// Refuses what a proxy or a client may have resolved on the way: the name that arrives need not be the one that was meant.
fn check_segments(name: &str) -> Result<&str, Problem> {
    if name.split('/').all(|segment| !matches!(segment, "." | "..")) {
        return Ok(name);
    }
    let detail = "the name in the path has a . or .. segment, which proxies and clients resolve; use GET \
                  /audit?event=NAME instead";
    Err(Problem::bad_request(detail))
}

fn name_in_query(head: &Head<'_>) -> Result<String, Problem> {
    let mut names = head.target.query.all("event")?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => {
            Err(Problem::bad_request("the record's name is missing: use GET /audit/NAME or GET /audit?event=NAME"))
        }
        (Some(_), false) => Err(Problem::bad_request(
            "the query parameter event is repeated; an audit is for one record, so send it once",
        )),
    }
}

fn number(head: &Head<'_>, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = head.target.query.get(name)? else { return Ok(None) };
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.map(Some).ok_or_else(|| Problem::bad_request(format!("the query parameter {name} must be a whole number")))
}

fn check_limit(limit: u64) -> Result<usize, Problem> {
    let limit = usize::try_from(limit).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| Problem::bad_request("the query parameter limit must be between 1 and 10000"))
}

/// The answer once the store has spoken.
pub fn answer(request: &Request, page: Result<Page, StoreError>) -> Response {
    match page {
        Ok(page) => show(request, page),
        Err(error) => super::insert::refusal(error).into(),
    }
}

fn show(request: &Request, page: Page) -> Response {
    let Page { body, next } = page;
    let Some(after) = next else { return Response::json(body) };
    let name = utf8_percent_encode(&request.query.name, NON_ALPHANUMERIC);
    let target = match request.place {
        NameSource::Path => format!("/audit/{name}?"),
        NameSource::Query => format!("/audit?event={name}&"),
    };
    let link = format!("<{target}after={after}&limit={}>; rel=\"next\"", request.query.limit);
    Response::json(body).field("Link", link)
}
