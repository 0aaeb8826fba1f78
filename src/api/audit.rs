//! `GET /audit/{event}`: every version of a record, oldest first, page by page.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::admission::{admit, demand};
use super::record::check_name;
use super::{Context, Plan, RECORDS};
use crate::auth::Role;
use crate::http::{Head, Problem, Response};
use crate::quota::{Client, Source};
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
    /// Who asks.
    pub(crate) client: Client,
    /// The second since the Unix epoch from which on they may not be read.
    pub(crate) expires: Option<u64>,
}

pub(super) fn plan(name: &str, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    check_name(name)?;
    let grant = admit(Role::Subscriber, head, context)?;
    demand(&grant, RECORDS)?;
    let after = number(head, "after")?.unwrap_or(0);
    let limit = number(head, "limit")?.map_or(Ok(DEFAULT_LIMIT), check_limit)?;
    let query = PageQuery { name: name.into(), after, limit };
    let client = context.address.map(Source::from);
    Ok(Plan::Audit(Request { query, client, expires: grant.expires() }))
}

fn number(head: &Head<'_>, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = head.target.query.get(name)? else { return Ok(None) };
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.map(Some).ok_or_else(|| Problem::bad_request(format!("the query parameter {name} must be a whole number")))
}

fn check_limit(limit: u64) -> Result<usize, Problem> {
    let limit = usize::try_from(limit).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| Problem::bad_request("the query parameter limit must be from 1 to 10000"))
}

/// The answer once the store has spoken.
pub fn answer(query: &PageQuery, page: Result<Page, StoreError>) -> Response {
    match page {
        Ok(page) => show(query, page),
        Err(error) => super::insert::refusal(error).into(),
    }
}

fn show(query: &PageQuery, page: Page) -> Response {
    match page {
        Page { body, next: None } => Response::json(body),
        Page { body, next: Some(after) } => {
            let name = utf8_percent_encode(&query.name, NON_ALPHANUMERIC);
            let link = format!("</audit/{name}?after={after}&limit={}>; rel=\"next\"", query.limit);
            Response::json(body).field("Link", link)
        }
    }
}
