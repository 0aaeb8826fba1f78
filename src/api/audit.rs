//! `GET /audit/{event}` and `GET /audit?event=`: returns all versions of a record, oldest first, in pages.

use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::authorize::{authorize, require_name};
use super::insert::{late, store_problem};
use super::query::{number, page_limit};
use super::record::check_name;
use super::{Context, Plan, RECORDS};
use crate::auth::{Role, Validity};
use crate::engine::EngineError;
use crate::http::{Head, Problem, Response};
use crate::quota::{Client, Limit};
use crate::store::{Page, PageQuery, StoreError};

/// The default number of versions on a page.
const DEFAULT_LIMIT: usize = 1000;
/// The maximum number of versions on a page.
const MAX_LIMIT: usize = 10_000;

/// The seconds after which to repeat a request for a page that found the engine away or busy.
const ENGINE_SECONDS: u32 = 5;

/// A request for a page.
#[derive(Debug)]
pub struct Request {
    /// Which versions to read.
    pub query: PageQuery,
    /// Where the request has the record's name.
    pub name_source: NameSource,
    /// The client in whose share of memory the page is read.
    pub(crate) client: Client,
    /// How long the token is valid.
    pub(crate) validity: Validity,
}

/// Where a request has the record's name. The link to the next page has it in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// In the path, after `/audit/`.
    Path,
    /// In the query parameter `event`, for clients behind proxies that decode or normalize paths.
    Query,
}

pub(super) fn plan(in_path: Option<&str>, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let (name, name_source) = record_name(in_path, head)?;
    let grant = authorize(Role::Subscriber, head, context)?;
    require_name(&grant, RECORDS)?;
    let after = number(head, "after")?.unwrap_or(0);
    let limit = page_limit(head, DEFAULT_LIMIT, MAX_LIMIT)?;
    let query = PageQuery { name, after, limit };
    let client = Client::from(context.address);
    Ok(Plan::Audit(Request { query, name_source, client, validity: grant.validity() }))
}

/// Returns the record's name, which is in the path or in the query.
pub(super) fn record_name(in_path: Option<&str>, head: &Head<'_>) -> Result<(Arc<str>, NameSource), Problem> {
    let (name, name_source) = match in_path {
        Some(name) => (check_segments(name)?.to_owned(), NameSource::Path),
        None => (name_in_query(head)?, NameSource::Query),
    };
    check_name(&name)?;
    Ok((name.into(), name_source))
}

/// Refuses `.` and `..` segments. Clients and proxies resolve them (RFC 3986 section 5.2.4), so the name that arrives may not
/// be the one that was meant.
fn check_segments(name: &str) -> Result<&str, Problem> {
    if name.split('/').all(|segment| !matches!(segment, "." | "..")) {
        return Ok(name);
    }
    let detail = "the name in the path has a . or .. segment, which proxies and clients resolve; use \
                  /audit?event=NAME instead";
    Err(Problem::bad_request(detail))
}

fn name_in_query(head: &Head<'_>) -> Result<String, Problem> {
    let mut names = head.target.query.all("event")?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => Err(Problem::bad_request("the record's name is missing: use /audit/NAME or /audit?event=NAME")),
        (Some(_), false) => Err(Problem::bad_request(
            "the query parameter event is repeated; the request is for one record, so send it once",
        )),
    }
}

/// Describes why the engine did not return a page.
pub fn engine_problem(error: &EngineError) -> Problem {
    Problem::unavailable(format!("{error}; try again"), ENGINE_SECONDS)
}

/// Refuses a request to which there was no reply in time.
pub fn timed_out(context: Context<'_>) -> Problem {
    match &context.service.engine {
        Some(_) => engine_problem(&EngineError::Busy),
        None => store_problem(late(context)),
    }
}

/// Refuses a request that found no memory for a page.
pub fn no_memory(request: &Request, context: Context<'_>) -> Problem {
    context.note_limit(Limit::Pages, &format_args!("GET /audit/{}", request.query.name));
    store_problem(StoreError::Busy)
}

/// Returns the response with a page, and a link to the next one (RFC 8288).
pub fn page_response(request: &Request, page: Page) -> Response {
    let Page { body, next } = page;
    let Some(after) = next else { return Response::json(body) };
    let name = utf8_percent_encode(&request.query.name, NON_ALPHANUMERIC);
    let target = match request.name_source {
        NameSource::Path => format!("/audit/{name}?"),
        NameSource::Query => format!("/audit?event={name}&"),
    };
    let link = format!("<{target}after={after}&limit={}>; rel=\"next\"", request.query.limit);
    Response::json(body).field("Link", link)
}
