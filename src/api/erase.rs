//! `DELETE /audit/{event}` and `DELETE /audit?event=`: erases versions of a record, from the files as well.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::audit::record_name;
use super::authorize::{PARAMETER as TOKEN, authorize, require_name};
use super::insert::retry_seconds;
use super::query::number;
use super::{Context, Deferred, Outcome, Plan, RECORDS, Service};
use crate::auth::{Role, Validity};
use crate::engine::EngineError;
use crate::http::{Head, Problem, Response};
use crate::store::{StoreError, Unerased};

/// The seconds after which to repeat an erasure that waits for another program.
const READING_SECONDS: u32 = 5;

/// The seconds after which to repeat an erasure that an operator has to make possible.
const REFUSED_SECONDS: u32 = 60;

/// A request to erase versions.
#[derive(Debug)]
pub struct Request {
    /// The record's name.
    pub name: Arc<str>,
    /// Only versions with a smaller id are erased; `None` for all.
    pub before: Option<u64>,
    /// How long the token is valid.
    pub(super) validity: Validity,
}

/// What was erased.
#[derive(Debug)]
pub struct Erased {
    /// The record's name.
    pub name: Arc<str>,
    /// The number of versions.
    pub versions: u64,
}

pub(super) fn plan(in_path: Option<&str>, head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    let (name, _) = record_name(in_path, head)?;
    let grant = authorize(Role::Publisher, head, context)?;
    require_name(&grant, RECORDS)?;
    refuse_ignored(in_path.is_some(), head)?;
    let before = number(head, "before")?;
    Ok(Plan::Erase(Request { name, before, validity: grant.validity() }))
}

/// Refuses what may be meant to limit the erasure but would be ignored, because an erasure can't be undone.
fn refuse_ignored(has_name_in_path: bool, head: &Head<'_>) -> Result<(), Problem> {
    if head.conditions.if_match.is_some() || head.conditions.if_none_match.is_some() {
        return Err(Problem::bad_request(
            "an erasure can't have the condition If-Match or If-None-Match, and can't be undone; to keep the versions from an \
             id on, add ?before=<id>",
        ));
    }
    let mut remaining = vec!["before", TOKEN];
    remaining.extend((!has_name_in_path).then_some("event"));
    for name in head.target.query.names() {
        let Some(index) = remaining.iter().position(|allowed| allowed.as_bytes() == name) else {
            return Err(Problem::bad_request(
                "an erasure can't be undone, so it accepts only the query parameters before, token, and event if the name is \
                 not in the path, each of them once",
            ));
        };
        remaining.swap_remove(index);
    }
    Ok(())
}

pub(super) fn finish(request: Request, context: Context<'_>) -> Outcome {
    if context.service.is_draining() {
        return Outcome::Respond(Problem::from(EraseError::Draining).into());
    }
    Outcome::Deferred(Deferred::Erase(request))
}

/// Has the store or the engine erase versions. Another thread calls `reply` when their text is gone from the files, or
/// this one if the request is refused immediately.
pub fn run(
    name: Arc<str>,
    before: Option<u64>,
    service: &Service,
    reply: impl FnOnce(Result<Erased, EraseError>) + Send + 'static,
) {
    let hub = Arc::clone(&service.hub);
    let reply = move |erased| {
        // Even after an error: a part may be erased.
        hub.versions_were_removed();
        reply(erased);
    };
    match (&service.engine, &service.store) {
        (None, Some(store)) => store.erase(Arc::clone(&name), before, move |erased| {
            reply(erased.map(|versions| Erased { name, versions }).map_err(EraseError::from));
        }),
        (Some(engine), _) => engine.erase(&Arc::clone(&name), before, move |erased| {
            reply(erased.map(|versions| Erased { name, versions }).map_err(EraseError::Engine));
        }),
        (None, None) => reply(Err(EraseError::Off)),
    }
}

/// Why versions were not erased, or not from the files yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EraseError {
    /// The name is invalid; the text says how.
    Name(String),
    /// The store can't erase them now. A part may be erased: repeat the call.
    Store(StoreError),
    /// Another program is using the database: it reads, or holds a lock. The versions are no longer served, but the database's log
    /// keeps their text until that program ends its transaction. Repeat the call.
    Reading,
    /// The engine can't erase them now, or it is unknown whether it has. A part may be erased: repeat the call.
    Engine(EngineError),
    /// The broker is shutting down.
    Draining,
    /// The broker has no store: it was built without records.
    Off,
}

impl fmt::Display for EraseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(advice) => f.write_str(advice),
            Self::Store(error) => write!(f, "{error}; the erasure may be incomplete, so repeat it afterwards"),
            Self::Reading => f.write_str(
                "another program, such as a backup or the sqlite3 shell, is using the database: the versions are no longer \
                 served, but the write-ahead log keeps their text until that program is done; repeat the erasure then",
            ),
            Self::Engine(error) => f.write_str(&error.of_erasure()),
            Self::Draining => f.write_str("the broker is shutting down; repeat the erasure after its restart"),
            Self::Off => f.write_str("there are no records to erase: the broker was built without them"),
        }
    }
}

impl std::error::Error for EraseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Store(error) = self { Some(error) } else { None }
    }
}

impl From<Unerased> for EraseError {
    fn from(why: Unerased) -> Self {
        match why {
            Unerased::Store(error) => Self::Store(error),
            Unerased::Reading => Self::Reading,
        }
    }
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        let detail = error.to_string();
        match error {
            EraseError::Name(_) => Self::bad_request(detail),
            EraseError::Store(error) => Self::unavailable(detail, retry_seconds(error)),
            EraseError::Reading | EraseError::Draining => Self::unavailable(detail, READING_SECONDS),
            EraseError::Engine(EngineError::Unknown(_)) => Self::new(504, detail),
            EraseError::Engine(EngineError::Refused(_)) => Self::unavailable(detail, REFUSED_SECONDS),
            EraseError::Engine(_) => Self::unavailable(detail, READING_SECONDS),
            EraseError::Off => Self::new(501, detail),
        }
    }
}

/// Returns the response to an erasure.
pub fn response(erased: Result<Erased, EraseError>) -> Response {
    match erased {
        Ok(Erased { name, versions }) => {
            Response::json(format!("{{\"event\":{},\"erased\":{versions}}}", Value::from(&*name)))
        }
        Err(error) => Problem::from(error).into(),
    }
}

/// Refuses an erasure to which the store did not reply in time. It continues nevertheless.
pub fn timed_out() -> Problem {
    let detail = "the erasure takes a while and continues in the background; repeat the request to wait for it";
    Problem::unavailable(detail, READING_SECONDS)
}
