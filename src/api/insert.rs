//! `POST /insert`: stores a version of a record durably, publishes it, and then responds.

use std::path::Path;

use serde_json::Value;

use super::authorize::{authorize, require_name};
use super::body::{Body, check_coding};
use super::conditions;
use super::rate_limit::{check_rate, peek_rate};
use super::record;
use super::{Context, Deferred, Outcome, Plan, RECORDS, publish};
use crate::auth::{Principal, Role, Validity};
use crate::engine::EngineError;
use crate::http::head::is_media_type;
use crate::http::{Head, Problem, Response};
use crate::metrics::InsertRefusal;
use crate::quota::Limit;
use crate::records::insert::{Condition, IdempotencyKey, InsertOutcome, InsertRequest};
use crate::store::{Health, HeldBy, StoreError, UNLOCK};

/// The seconds after which to repeat an insert that found the engine's queue full.
const BUSY_SECONDS: u32 = 1;
/// The seconds after which to repeat an insert that found the engine away, or the broker shutting down.
const AWAY_SECONDS: u32 = 5;

/// The seconds after which to repeat an insert that an operator has to make possible.
const REFUSED_SECONDS: u32 = 60;

const KEY_REUSED: &str = "nothing was stored, because the Idempotency-Key was used within the last 24 hours for a \
                          record with another name (event); use a new key for each record";

/// The request line for the log.
pub(super) const REQUEST: &str = "POST /insert";

/// An insert whose body has not arrived yet.
#[derive(Debug)]
pub struct Request {
    /// How long the token is valid.
    pub(super) validity: Validity,
    pub(super) principal: Option<Principal>,
    /// On which condition the record is stored.
    condition: Condition,
    /// Identifies a repetition of the request.
    key: Option<IdempotencyKey>,
}

pub(super) fn plan(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let grant = authorize(Role::Publisher, head, context)?;
    require_name(&grant, RECORDS)?;
    check_coding(head)?;
    if head.body.content_type.is_some_and(|text| !is_media_type(text, "application/json")) {
        return Err(Problem::new(
            415,
            "a record must be JSON; send Content-Type: application/json, or no Content-Type",
        ));
    }
    if !head.body.has_framing {
        return Err(Problem::new(
            411,
            "the request has no body (no Content-Length and no chunked coding); send \
             {\"event\":<name>,\"data\":<any JSON>}",
        ));
    }
    let (condition, key) = conditions::parse(&head.conditions)?;
    Ok(Plan::Insert(Request { validity: grant.validity(), principal: grant.principal(), condition, key }))
}

pub(super) fn finish(request: Request, body: &Body<'_>, context: Context<'_>) -> Outcome {
    if context.service.is_draining() {
        return Outcome::Respond(refused(InsertRefusal::Draining, super::draining(), context).into());
    }
    if !context.service.hub.has_room_for_records() {
        return Outcome::Respond(refused(InsertRefusal::Memory, records_full(), context).into());
    }
    // Before parsing, which takes milliseconds for a large body.
    if let Err(problem) = peek_rate(request.principal, context) {
        return Outcome::Respond(refused(InsertRefusal::Rate, problem, context).into());
    }
    let record = match record::parse(body.bytes()) {
        Ok(record) => record,
        Err(problem) => return Outcome::Respond(refused(InsertRefusal::Invalid, problem, context).into()),
    };
    match check_rate(request.principal, 1, context) {
        Ok(()) => {
            let Request { condition, key, .. } = request;
            Outcome::Deferred(Deferred::Insert(InsertRequest { record, condition, key }))
        }
        Err(problem) => Outcome::Respond(refused(InsertRefusal::Rate, problem, context).into()),
    }
}

/// Counts and logs an insert that is refused. The store counts its errors.
fn refused(why: InsertRefusal, problem: Problem, context: Context<'_>) -> Problem {
    context.service.metrics.worker(context.worker).inserts_refused.count(why as usize);
    match why {
        InsertRefusal::Memory => context.note_limit(Limit::LatestRecords, &REQUEST),
        InsertRefusal::Rate => context.note_limit(Limit::PublishRate, &REQUEST),
        _ => {}
    }
    context.log_refused_body(&problem, "insert", InsertRefusal::NAMES[why as usize]);
    problem
}

/// Returns the response for the store's reply. `directory` is the data directory.
pub(super) fn response(
    name: &str,
    stored: Result<InsertOutcome, StoreError>,
    directory: &Path,
    context: Context<'_>,
) -> Response {
    match stored {
        Ok(outcome) => outcome_response(name, outcome, context),
        Err(error @ StoreError::Busy) => {
            context.note_limit(Limit::Inserts, &REQUEST);
            store_problem(error).into()
        }
        Err(StoreError::Locked) => locked(context).into(),
        // Only clients that may insert see the directory; /healthz needs no token.
        Err(error @ StoreError::Full(_)) => {
            let detail = format!("{error}; the data directory is {}", directory.display());
            Problem::unavailable(detail, retry_seconds(error)).into()
        }
        Err(error) => store_problem(error).into(),
    }
}

/// Refuses an insert while another program holds the database, and names the program as far as it is known. Only clients that may
/// insert see that.
fn locked(context: Context<'_>) -> Problem {
    let holder = match context.service.store_status().health {
        Health::Locked { holder, .. } => holder,
        _ => None,
    };
    Problem::unavailable(format!("{}; {UNLOCK}", HeldBy(holder)), retry_seconds(StoreError::Locked))
}

/// Returns why a request to the store got no reply in time.
pub fn late(context: Context<'_>) -> StoreError {
    match context.service.store_status().health {
        Health::Locked { .. } => StoreError::Locked,
        _ => StoreError::Busy,
    }
}

/// Returns the response for the outcome of a request that was judged.
fn outcome_response(name: &str, outcome: InsertOutcome, context: Context<'_>) -> Response {
    match outcome {
        InsertOutcome::Stored(id) => accepted(name, id, ""),
        InsertOutcome::Repeated(id) => accepted(name, id, ",\"duplicate\":true"),
        InsertOutcome::KeyReused => refused(InsertRefusal::Key, Problem::new(422, KEY_REUSED), context).into(),
        InsertOutcome::Conflict(newest) => {
            let problem = refused(InsertRefusal::Conflict, conflict(name, newest), context);
            let response = Response::from(problem);
            newest.into_iter().fold(response, |response, id| response.field("ETag", entity_tag(id)))
        }
    }
}

/// Describes a request whose condition does not hold, with the newest version, which the client may look at.
fn conflict(name: &str, newest: Option<u64>) -> Problem {
    let event = Value::from(name);
    let detail = match newest {
        Some(id) => format!(
            "nothing was stored, because the newest version of {event} is {id}; read it with GET /audit, and insert \
             again with If-Match: {} if your change still applies",
            entity_tag(id)
        ),
        None => format!("nothing was stored, because {event} has no version; insert it with If-None-Match: *"),
    };
    let (id, key) = (newest.map(|id| id.to_string()), newest.map(|id| version_key(name, id)));
    let members = vec![("event", event), ("id", id.into()), ("key", key.into())];
    Problem { members, ..Problem::new(412, detail) }
}

/// Returns the entity tag of a version (RFC 9110 section 8.8.3).
fn entity_tag(id: u64) -> String {
    format!("\"{id}\"")
}

/// Returns the response for the engine's reply.
pub fn engine_response(name: &str, done: Result<InsertOutcome, EngineError>, context: Context<'_>) -> Response {
    match done {
        Ok(outcome) => outcome_response(name, outcome, context),
        Err(error) => engine_refusal(&error, context).into(),
    }
}

/// Refuses an insert to which the engine did not reply in time. It is unknown whether the record was stored.
pub fn engine_timed_out(context: Context<'_>) -> Problem {
    engine_refusal(&publish::no_reply(), context)
}

fn engine_refusal(error: &EngineError, context: Context<'_>) -> Problem {
    let detail = error.of_insert();
    if matches!(error, EngineError::Busy) {
        context.note_limit(Limit::Engine, &REQUEST);
    }
    let (why, problem) = match error {
        EngineError::Busy => (InsertRefusal::Engine, Problem::unavailable(detail, BUSY_SECONDS)),
        EngineError::Unavailable(_) => (InsertRefusal::Engine, Problem::unavailable(detail, AWAY_SECONDS)),
        EngineError::Refused(_) => (InsertRefusal::Engine, Problem::unavailable(detail, REFUSED_SECONDS)),
        EngineError::Closed => (InsertRefusal::Draining, Problem::unavailable(detail, AWAY_SECONDS)),
        EngineError::Unknown(_) => (InsertRefusal::Timeout, Problem::new(504, detail)),
    };
    refused(why, problem, context)
}

/// Returns the response to a request whose record is stored. `more` are further members.
fn accepted(name: &str, id: u64, more: &str) -> Response {
    let (event, key) = (Value::from(name), Value::from(version_key(name, id)));
    let body = format!("{{\"event\":{event},\"id\":\"{id}\",\"key\":{key}{more}}}");
    Response::json(body).field("ETag", entity_tag(id))
}

/// Returns the key of a version in an audit.
fn version_key(name: &str, id: u64) -> String {
    format!("{name}_v_{id}")
}

/// Refuses an insert to which the store did not reply in time. It is unknown whether the record was stored.
pub fn timed_out(context: Context<'_>) -> Problem {
    let detail = "the store did not respond in time; repeat the request if it has an Idempotency-Key, otherwise check \
                  GET /audit to see whether the record was stored";
    refused(InsertRefusal::Timeout, Problem::unavailable(detail, 5), context)
}

fn records_full() -> Problem {
    let detail = "the newest records of all names fill --latest-bytes; raise it, or use fewer names";
    Problem::unavailable(detail, 60)
}

/// Describes an error of the store.
pub fn store_problem(error: StoreError) -> Problem {
    Problem::unavailable(error.to_string(), retry_seconds(error))
}

pub(super) fn retry_seconds(error: StoreError) -> u32 {
    match error {
        StoreError::Busy => 1,
        StoreError::Locked | StoreError::Full(_) | StoreError::Closed => 5,
        StoreError::Failed | StoreError::Removed => 60,
    }
}
