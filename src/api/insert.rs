//! `POST /insert`: a record is stored for good, then published, then answered.

use std::path::Path;

use serde_json::Value;

use super::authorize::{admit, demand};
use super::body::{Body, check_coding};
use super::rate_limit::{demand_allowance, demand_pace};
use super::record::Record;
use super::{Context, Outcome, Plan, RECORDS, StoreRequest};
use crate::auth::{Principal, Role};
use crate::http::head::is_media_type;
use crate::http::{Head, Problem, Response};
use crate::metrics::InsertRefusal;
use crate::store::StoreError;

/// A record whose body is still to come.
#[derive(Debug)]
pub struct Request {
    /// The second since the Unix epoch from which on it may not be stored.
    pub(super) expires: Option<u64>,
    pub(super) holder: Option<Principal>,
}

pub(super) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let grant = admit(Role::Publisher, head, context)?;
    demand(&grant, RECORDS)?;
    check_coding(head)?;
    if head.content_type.is_some_and(|text| !is_media_type(text, "application/json")) {
        return Err(Problem::new(
            415,
            "a record must be JSON; send Content-Type: application/json, or no Content-Type",
        ));
    }
    if !head.has_framing {
        return Err(Problem::new(
            411,
            "the request has no body (no Content-Length and no chunked coding); send \
             {\"event\":<name>,\"data\":<any JSON>}",
        ));
    }
    Ok(Plan::Insert(Request { expires: grant.expires(), holder: grant.principal() }))
}

pub(super) fn finish(request: &Request, body: &Body<'_>, context: Context<'_>) -> Outcome {
    if context.service.is_draining() {
        return Outcome::Respond(refused(InsertRefusal::Draining, super::draining(), context).into());
    }
    if !context.service.hub.has_room_for_records() {
        return Outcome::Respond(refused(InsertRefusal::Memory, too_much(), context).into());
    }
    // Before the parsing, which takes milliseconds if the body is large.
    if let Err(problem) = demand_allowance(request.holder, context) {
        return Outcome::Respond(refused(InsertRefusal::Rate, problem, context).into());
    }
    let record = match Record::parse(body.bytes()) {
        Ok(record) => record,
        Err(problem) => return Outcome::Respond(refused(InsertRefusal::Invalid, problem, context).into()),
    };
    match demand_pace(request.holder, 1, context) {
        Ok(()) => Outcome::StoreRequest(StoreRequest::Insert(record)),
        Err(problem) => Outcome::Respond(refused(InsertRefusal::Rate, problem, context).into()),
    }
}

/// Counts a record that does not come as far as the store; what the store refuses it counts itself.
fn refused(why: InsertRefusal, problem: Problem, context: Context<'_>) -> Problem {
    context.service.metrics.worker(context.worker).inserts_refused.count(why as usize);
    context.log_refused_body(&problem, "insert", InsertRefusal::NAMES[why as usize]);
    problem
}

/// The answer once the store has spoken; its files are in `directory`.
pub fn answer(name: &str, stored: Result<u64, StoreError>, directory: &Path) -> Response {
    match stored {
        Ok(id) => {
            let (event, key) = (Value::from(name), Value::from(key(name, id)));
            Response::json(format!("{{\"event\":{event},\"id\":\"{id}\",\"key\":{key}}}"))
        }
        // Only to those who may insert: /healthz answers everybody.
        Err(error @ StoreError::Full(_)) => {
            let detail = format!("{error}; the data directory is {}", directory.display());
            Problem::unavailable(detail, retry_seconds(error)).into()
        }
        Err(error) => refusal(error).into(),
    }
}

/// What a version is called in an audit.
fn key(name: &str, id: u64) -> String {
    format!("{name}_v_{id}")
}

/// The answer when the store has none in time. Whether the record is stored nobody knows.
pub fn no_answer(context: Context<'_>) -> Problem {
    let detail = "the store did not respond in time; check GET /audit to see whether the record was stored";
    refused(InsertRefusal::Timeout, Problem::unavailable(detail, 5), context)
}

fn too_much() -> Problem {
    let detail = "the newest records of all names fill --latest-bytes; raise it, or use fewer names";
    Problem::unavailable(detail, 60)
}

pub fn refusal(error: StoreError) -> Problem {
    Problem::unavailable(error.to_string(), retry_seconds(error))
}

fn retry_seconds(error: StoreError) -> u32 {
    match error {
        StoreError::Busy => 1,
        StoreError::Locked | StoreError::Full(_) | StoreError::Closed => 5,
        StoreError::Failed => 60,
    }
}
