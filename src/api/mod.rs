//! Implements the routes: turns a request's head into a [`Plan`], and the plan and the body into an [`Outcome`]. One file per
//! route. Independent of sockets and clocks: bytes and the time are passed in, values are returned.
//!
//! ```text
//! head ─► plan: check origin, route, authorize ─► Plan ─► (body) ─► Plan::finish ─► Outcome
//!                                                                                   ├─ Respond
//!                                                                                   ├─ Subscribe: subscribe::open
//!                                                                                   ├─ Wait, Work: publish::resume
//!                                                                                   └─ Deferred::run ─► DeferredReply
//!                                                                                      ─► Response
//! ```

mod advice;
pub mod audit;
mod authorize;
mod body;
mod browsers;
mod conditions;
mod console;
mod context;
pub mod erase;
pub mod insert;
mod monitoring;
pub mod publish;
mod query;
mod rate_limit;
pub mod record;
pub mod revoke;
mod route;
mod service;
pub mod subscribe;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::auth::{Principal, Validity};
use crate::engine::{EngineError, Sequenced};
use crate::http::problem::Consequence;
use crate::http::{Head, Method, Problem, Response, cors};
use crate::hub::TopicName;
use crate::quota::{Limit, PageReservation};
use crate::records::insert::{InsertOutcome, InsertRequest};
use crate::store::{Page, StoreError};
pub use body::Body;
pub use context::Context;
use route::{Route, Served};
use service::PendingEvents;
pub use service::{LoopbackOnly, Service};

/// The number of characters of a path that are logged.
const MAX_LOGGED_PATH: usize = 200;

/// The name that a token must allow for every route of records.
const RECORDS: &str = "events";

/// What a request's head asks for, before its body has arrived.
#[derive(Debug)]
pub enum Plan {
    /// The response is known; a short body is read and dropped first.
    Respond(Response),
    /// The request is refused; a short body is read and dropped first.
    Refuse(Problem),
    /// The request's token may not be verified yet. Plan the request again later, or refuse it.
    Delay(Delay),
    /// Publish the body.
    Publish(publish::Request),
    /// Store the body as a record.
    Insert(insert::Request),
    /// Revoke the tokens that the body names.
    Revoke(revoke::Request),
    /// Read a page of a record's versions; a short body is read and dropped first.
    Audit(audit::Request),
    /// Erase a record's versions; a short body is read and dropped first.
    Erase(erase::Request),
    /// Open a stream; a short body is read and dropped first.
    Subscribe(subscribe::Request),
}

/// A request whose token waits to be verified.
#[derive(Debug)]
pub struct Delay {
    /// The error with which the request is refused if it waits too long.
    pub problem: Problem,
    /// Whether the request opens a stream, which is closed with a time to reconnect instead of the error.
    pub opens_stream: bool,
}

impl Plan {
    /// Returns whether the plan uses the body.
    pub fn wants_body(&self) -> bool {
        matches!(self, Self::Publish(_) | Self::Insert(_) | Self::Revoke(_))
    }

    /// Carries out the plan. The body is complete.
    pub fn finish(self, body: Body<'_>, context: Context<'_>) -> Outcome {
        if let Err(problem) = authorize::require_valid(self.validity(), context) {
            context.count_denial(&problem);
            context.log_refusal(&problem);
            return Outcome::Respond(problem.into());
        }
        match self {
            Self::Respond(response) => Outcome::Respond(response),
            Self::Refuse(problem) | Self::Delay(Delay { problem, .. }) => Outcome::Respond(problem.into()),
            Self::Subscribe(request) => Outcome::Subscribe(request),
            Self::Publish(request) => publish::finish(request, body, context),
            Self::Insert(request) => insert::finish(request, &body, context),
            Self::Revoke(_) => revoke::finish(&body, context),
            Self::Audit(request) => Outcome::Deferred(Deferred::Audit(request)),
            Self::Erase(request) => erase::finish(request, context),
        }
    }

    /// Returns whether the connection is closed after the response, so that the body need not be read.
    pub fn ends_connection(&self) -> bool {
        matches!(self, Self::Refuse(problem) if problem.consequence != Consequence::KeepOpen)
    }

    /// Notes that the body is refused, because bodies take too much memory.
    pub fn note_body_limit(&self, context: Context<'_>) {
        match self {
            Self::Publish(request) => request.note_body_limit(context),
            Self::Revoke(_) => context.note_limit(Limit::Bodies, &"POST /revoke"),
            _ => context.note_limit(Limit::Bodies, &insert::REQUEST),
        }
    }

    /// Returns the principal whose body is received, if the plan uses the body.
    pub fn principal(&self) -> Option<Principal> {
        match self {
            Self::Publish(request) => request.principal,
            Self::Insert(request) => request.principal,
            Self::Revoke(request) => request.principal,
            Self::Respond(_)
            | Self::Refuse(_)
            | Self::Delay(_)
            | Self::Audit(_)
            | Self::Erase(_)
            | Self::Subscribe(_) => None,
        }
    }

    /// Returns how long the request's token is valid.
    fn validity(&self) -> Validity {
        match self {
            Self::Respond(_) | Self::Refuse(_) | Self::Delay(_) => Validity::default(),
            Self::Insert(request) => request.validity,
            Self::Revoke(request) => request.validity,
            Self::Audit(request) => request.validity,
            Self::Erase(request) => request.validity,
            Self::Publish(request) => request.validity,
            Self::Subscribe(request) => request.validity,
        }
    }
}

/// What a request leads to.
#[derive(Debug)]
pub enum Outcome {
    /// The response is known.
    Respond(Response),
    /// Open a stream with [`subscribe::open`].
    Subscribe(subscribe::Request),
    /// The hub has no room now. Resume the publish after a while.
    Wait(Box<publish::PausedPublish>),
    /// The slice of work is spent. Resume the publish after other connections were served.
    Work(Box<publish::PausedPublish>),
    /// Have another thread answer the request.
    Deferred(Deferred),
}

/// A request that another thread answers later.
#[derive(Debug)]
pub enum Deferred {
    /// Append events to the engine's log.
    Publish(publish::DeferredPublish),
    /// Store a record.
    Insert(InsertRequest),
    /// Tell other brokers, or later runs, what was revoked.
    Revoke(revoke::Revoked),
    /// Read a page of a record's versions.
    Audit(audit::Request),
    /// Erase a record's versions.
    Erase(erase::Request),
}

/// The reply to a [`Deferred`] request.
pub struct DeferredReply {
    /// What the response says.
    pub result: DeferredResult,
    /// The memory of the response, reserved until the response is sent.
    pub reservation: Option<PageReservation>,
}

/// The result of a [`Deferred`] request.
pub enum DeferredResult {
    /// The engine's reply to a publish to this topic.
    Published(TopicName, Result<Sequenced, EngineError>),
    /// The engine's reply to an insert with this name.
    Inserted(Arc<str>, Result<InsertOutcome, EngineError>),
    /// The store's reply to an insert with this name, and the data directory.
    Stored(Arc<str>, Result<InsertOutcome, StoreError>, Arc<Path>),
    /// There was no memory for a page of this request.
    NoPageMemory(audit::Request),
    /// The response to any other request.
    Response(Response),
}

impl DeferredResult {
    /// Returns the response. To be called on the thread of the worker, whose counters count refusals.
    pub fn into_response(self, context: Context<'_>) -> Response {
        match self {
            Self::Published(topic, result) => publish::response(&topic, result, context),
            Self::Inserted(name, result) => insert::engine_response(&name, result, context),
            Self::Stored(name, result, directory) => insert::response(&name, result, &directory, context),
            Self::NoPageMemory(request) => audit::no_memory(&request, context).into(),
            Self::Response(response) => response,
        }
    }
}

impl From<Response> for DeferredReply {
    fn from(response: Response) -> Self {
        Self { result: DeferredResult::Response(response), reservation: None }
    }
}

impl Deferred {
    /// Hands the request over. Another thread calls `reply`, or this one if the request is refused immediately.
    pub fn run(self, service: &Service, reply: impl FnOnce(DeferredReply) + Send + 'static) {
        match self {
            Self::Publish(publish) => run_publish(publish, service, reply),
            Self::Insert(request) => run_insert(request, service, reply),
            Self::Revoke(revoked) => revoked.keep(service, move |kept| reply(revoke::response(kept).into())),
            Self::Audit(request) => run_audit(request, service, reply),
            Self::Erase(erase::Request { name, before, .. }) => {
                erase::run(name, before, service, move |erased| reply(erase::response(erased).into()));
            }
        }
    }
}

/// Publishes even if the client disconnects meanwhile. The memory stays reserved until the engine replies.
fn run_publish(
    publish: publish::DeferredPublish,
    service: &Service,
    reply: impl FnOnce(DeferredReply) + Send + 'static,
) {
    let publish::DeferredPublish { topic, part, reservation } = publish;
    let pending = PendingEvents::begin(service);
    let done = move |result| {
        drop((pending, reservation));
        reply(DeferredReply { result: DeferredResult::Published(topic, result), reservation: None });
    };
    match &service.engine {
        Some(engine) => engine.publish(part, done),
        None => done(Err(EngineError::Closed)),
    }
}

fn run_insert(request: InsertRequest, service: &Service, reply: impl FnOnce(DeferredReply) + Send + 'static) {
    let name = Arc::clone(&request.record.name);
    let pending = PendingEvents::begin(service);
    match (&service.engine, &service.store) {
        (Some(engine), _) => engine.insert(request, move |result| {
            drop(pending);
            reply(DeferredReply { result: DeferredResult::Inserted(name, result), reservation: None });
        }),
        (None, Some(store)) => {
            let directory = store.directory();
            store.insert(request, move |stored| {
                drop(pending);
                let result = DeferredResult::Stored(name, stored, directory);
                reply(DeferredReply { result, reservation: None });
            });
        }
        (None, None) => reply(Response::from(insert::store_problem(StoreError::Closed)).into()),
    }
}

fn run_audit(request: audit::Request, service: &Service, reply: impl FnOnce(DeferredReply) + Send + 'static) {
    let client = request.client;
    let Some(reservation) = service.pages.reserve(client) else {
        return reply(DeferredReply { result: DeferredResult::NoPageMemory(request), reservation: None });
    };
    let query = request.query.clone();
    match (&service.engine, &service.store) {
        (Some(engine), _) => engine.read_history(query, client, reservation, move |read| {
            reply(page_reply(&request, read.map_err(|error| audit::engine_problem(&error))));
        }),
        (None, Some(store)) => store.read_history(query, client, reservation, move |read| {
            reply(page_reply(&request, read.map_err(insert::store_problem)));
        }),
        (None, None) => reply(Response::from(insert::store_problem(StoreError::Closed)).into()),
    }
}

fn page_reply(request: &audit::Request, read: Result<(Page, PageReservation), Problem>) -> DeferredReply {
    match read {
        Ok((page, reservation)) => {
            let response = audit::page_response(request, page);
            DeferredReply { result: DeferredResult::Response(response), reservation: Some(reservation) }
        }
        Err(problem) => Response::from(problem).into(),
    }
}

/// Decides on a request by its head.
pub fn plan(head: &Head<'_>, context: Context<'_>) -> Plan {
    let plan = browsers::check_open_broker(head, context).and_then(|()| dispatch(head, context));
    plan.unwrap_or_else(|problem| match problem.consequence {
        Consequence::Delay => {
            context.note_limit(Limit::Verifications, &RequestLine(head));
            Plan::Delay(Delay { problem, opens_stream: opens_stream(head, context) })
        }
        Consequence::KeepOpen | Consequence::Close => {
            context.count_denial(&problem);
            context.log_refusal(&problem);
            if authorize::is_token_refused(&problem) {
                context.note_refused_token(&RequestLine(head), &problem);
            }
            Plan::Refuse(problem)
        }
    })
}

fn dispatch(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    if head.method == Method::Options {
        return Ok(Plan::Respond(preflight(head, context)));
    }
    match (route(head, context)?, head.method) {
        (Route::Console, Method::Get | Method::Head) => Ok(Plan::Respond(console::response())),
        (Route::Publish(topic), Method::Post) => publish::plan(&topic, head, context),
        (Route::Subscribe(topics), Method::Get | Method::Head) => subscribe::plan(&topics, head, context),
        (Route::Events, Method::Get | Method::Head) => subscribe::plan_records(head, context),
        (Route::Insert, Method::Post) => insert::plan(head, context),
        (Route::Revoke, Method::Post) => revoke::plan(head, context),
        (Route::Audit(name), Method::Get | Method::Head) => audit::plan(name.as_deref(), head, context),
        (Route::Audit(name), Method::Delete) => erase::plan(name.as_deref(), head, context),
        (Route::Stats, Method::Get | Method::Head) => monitoring::stats::plan(head, context),
        (Route::Metrics, Method::Get | Method::Head) => monitoring::metrics::plan(head, context),
        (Route::Topics(topic), Method::Get | Method::Head) => monitoring::topics::plan(topic.as_deref(), head, context),
        (Route::Health, Method::Get | Method::Head) => Ok(monitoring::health::ready(context)),
        (Route::Liveness, Method::Get | Method::Head) => Ok(monitoring::health::live(context)),
        (route, _) => Err(Problem::method_not_allowed(route.allow(), route.wrong_method_detail())),
    }
}

/// The method and the path of a request, for the log. Without the query, which may contain a token.
struct RequestLine<'a>(&'a Head<'a>);

impl fmt::Display for RequestLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { method, target, .. } = self.0;
        write!(f, "{} {:.*}", method.as_str(), MAX_LOGGED_PATH, target.path)
    }
}

/// Returns whether a request opens a stream. A HEAD request for one does not.
fn opens_stream(head: &Head<'_>, context: Context<'_>) -> bool {
    head.method == Method::Get && matches!(route(head, context), Ok(Route::Subscribe(_) | Route::Events))
}

fn route<'a>(head: &Head<'a>, context: Context<'_>) -> Result<Route<'a>, Problem> {
    let served = Served { console: context.service.settings.console, records: context.service.has_records() };
    Route::parse(&head.target, context.role, served)
}

fn preflight(head: &Head<'_>, context: Context<'_>) -> Response {
    let allow = route(head, context).map_or("GET, HEAD, POST, DELETE, OPTIONS", |route| route.allow());
    Response::preflight(allow, head.browser.requested_headers.and_then(cors::requested_headers))
}

/// Describes a request that is refused because the broker is shutting down.
fn draining() -> Problem {
    Problem::unavailable("the broker is shutting down; try again after its restart", 5)
}
