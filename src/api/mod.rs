//! What each route does: a request's head becomes a [`Plan`], the plan and the body an [`Outcome`].
//! Bytes and moments in, values out; knows no socket.

mod advice;
pub mod audit;
mod authorize;
mod body;
mod browsers;
mod console;
pub mod insert;
mod monitoring;
pub mod publish;
mod rate_limit;
pub mod record;
mod route;
pub mod subscribe;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::auth::{Auth, Principal, TokenCache};
use crate::clock::Now;
use crate::config::Settings;
use crate::http::problem::Consequence;
use crate::http::response::CommonHeaders;
use crate::http::{Head, Method, Problem, Response, cors};
use crate::hub::{Hub, Published, Refused, TopicName, WorkerId};
use crate::metrics::Metrics;
use crate::net::ListenerRole;
use crate::quota::{BodyBudget, BodyReservation, Client, PageBudget, PageReservation, Quotas};
use crate::sse::UnsequencedFrame;
use crate::store::{Store, StoreError};
pub use body::Body;
pub use browsers::LoopbackOnly;
use route::Route;

/// What a token must name for anything that has to do with records.
const RECORDS: &str = "events";

/// What all workers and the broker's own methods share.
pub struct Service {
    /// Order and history.
    pub hub: Arc<Hub>,
    /// The records.
    pub store: Store,
    /// The configuration, with every default filled in.
    pub settings: Settings,
    /// Who is let in.
    pub auth: Auth,
    /// Counters.
    pub metrics: Metrics,
    /// What one holder of tokens may take.
    pub quotas: Quotas,
    /// The memory of request bodies that are being received or whose publish waits for room.
    pub bodies: BodyBudget,
    /// The memory of audit pages that are read or sent: slow readers must not cost memory without bound.
    pub pages: PageBudget,
    /// Whether only this machine reaches it.
    pub loopback_only: LoopbackOnly,
    /// Inserts that the store has not answered.
    inserting: Arc<AtomicUsize>,
    draining: AtomicBool,
}

impl Service {
    /// A service that is not draining.
    pub fn new(hub: Arc<Hub>, store: Store, settings: Settings, auth: Auth, metrics: Metrics) -> Self {
        let quotas = Quotas::new(settings.max_subscribers_per_sub, settings.publish_rate);
        let bodies = BodyBudget::new(settings.max_body);
        Self {
            hub,
            store,
            settings,
            auth,
            metrics,
            quotas,
            bodies,
            pages: PageBudget::default(),
            loopback_only: LoopbackOnly::default(),
            inserting: Arc::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// The same, reached by these addresses.
    #[must_use]
    pub fn reached_by(self, loopback_only: LoopbackOnly) -> Self {
        Self { loopback_only, ..self }
    }

    /// Publishes all frames, in order, or none: see [`Hub::publish`]. Also reports the id to the store, so that no later run
    /// assigns it again.
    pub fn publish(
        &self,
        topic: &TopicName,
        frames: Vec<UnsequencedFrame>,
        id_micros: u64,
        from: Option<WorkerId>,
    ) -> Result<Published, Refused> {
        let published = self.hub.publish(topic, frames, id_micros, from)?;
        self.store.note_assigned_id(published.id);
        Ok(published)
    }

    /// From now on nothing new is taken.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the store has inserts to answer; what it answered is in the inboxes.
    pub fn is_inserting(&self) -> bool {
        self.inserting.load(Ordering::Acquire) > 0
    }

    /// Whether nothing new is taken.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// What a worker lends to the routes for one turn.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The shared parts.
    pub service: &'a Service,
    /// What is served here.
    pub role: ListenerRole,
    /// The IP address the request comes from; `None` through a Unix socket.
    pub address: Option<IpAddr>,
    /// What every answer's head needs.
    pub house: CommonHeaders<'a>,
    /// The moment of this turn.
    pub now: Now,
    /// The calling worker.
    pub worker: WorkerId,
    /// Tokens that the worker has verified lately.
    pub verified: &'a RefCell<TokenCache>,
}

impl Context<'_> {
    /// Returns the client's address for log lines.
    pub fn client(&self) -> String {
        self.address.map_or_else(|| "a Unix socket".to_owned(), |address| address.to_canonical().to_string())
    }

    /// Logs that a request was refused for its head.
    pub fn log_refusal(&self, problem: &Problem) {
        log::debug!("{} to {}: {}", problem.status, self.client(), problem.detail);
    }

    /// Logs that a request was refused after its body had come. The detail may quote the body, which must not reach a log.
    fn log_refused_body(&self, problem: &Problem, what: &str, reason: &str) {
        log::debug!("{} to {}: {what} refused: {reason}", problem.status, self.client());
    }

    /// Creates an empty reservation for a body of this holder of a token, or of the client's address if there is none.
    pub fn body_reservation(&self, holder: Option<Principal>) -> BodyReservation {
        self.service.bodies.reservation(holder.map_or_else(|| self.address.into(), Client::Principal))
    }
}

/// What a head asks for, before its body has come.
#[derive(Debug)]
pub enum Plan {
    /// The answer is known; a short body is read and dropped first.
    Respond(Response),
    /// The request is refused; a short body is read and dropped first.
    Refuse(Problem),
    /// The request's token may not be verified yet; the request is planned again later, or refused.
    Delay(Delay),
    /// The body is to be published.
    Publish(publish::Request),
    /// The body is a record to be stored.
    Insert(insert::Request),
    /// A page of a record's versions is to be read; a short body is read and dropped first.
    Audit(audit::Request),
    /// A stream is to be opened; a short body is read and dropped first.
    Subscribe(subscribe::Request),
}

/// A request whose token waits to be verified.
#[derive(Debug)]
pub struct Delay {
    /// What the request is refused with if it has waited for too long.
    pub problem: Problem,
    /// Whether it asks for a stream, which is told to come back later instead.
    pub opens_stream: bool,
}

impl Plan {
    /// Whether the body's content matters.
    pub fn wants_body(&self) -> bool {
        matches!(self, Self::Publish(_) | Self::Insert(_))
    }

    /// Carries the plan out, now that the whole body is here.
    pub fn finish(self, body: Body<'_>, context: Context<'_>) -> Outcome {
        if let Err(problem) = authorize::demand_time(self.expires(), context) {
            note_denial(&problem, context);
            context.log_refusal(&problem);
            return Outcome::Respond(problem.into());
        }
        match self {
            Self::Respond(response) => Outcome::Respond(response),
            Self::Refuse(problem) | Self::Delay(Delay { problem, .. }) => Outcome::Respond(problem.into()),
            Self::Subscribe(request) => Outcome::Subscribe(request),
            Self::Publish(request) => publish::finish(request, body, context),
            Self::Insert(request) => insert::finish(&request, &body, context),
            Self::Audit(request) => Outcome::StoreRequest(StoreRequest::Audit(request)),
        }
    }

    /// Returns whether the connection is closed after the answer, so that no body need be read.
    pub fn ends_connection(&self) -> bool {
        matches!(self, Self::Refuse(problem) if problem.consequence != Consequence::KeepOpen)
    }

    /// Returns whose token came with a body that is wanted.
    pub fn holder(&self) -> Option<Principal> {
        match self {
            Self::Publish(request) => request.holder,
            Self::Insert(request) => request.holder,
            Self::Respond(_) | Self::Refuse(_) | Self::Delay(_) | Self::Audit(_) | Self::Subscribe(_) => None,
        }
    }

    /// The second since the Unix epoch from which on it may no longer be carried out.
    fn expires(&self) -> Option<u64> {
        match self {
            Self::Respond(_) | Self::Refuse(_) | Self::Delay(_) => None,
            Self::Insert(request) => request.expires,
            Self::Audit(request) => request.expires,
            Self::Publish(request) => request.expires,
            Self::Subscribe(request) => request.expires,
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It is answered.
    Respond(Response),
    /// It opens a stream.
    Subscribe(subscribe::Request),
    /// The hub has no room for it now; resume it after a while.
    Wait(Box<publish::Pending>),
    /// There is more work to do than fits in one slice; resume it when others have had their share.
    Work(Box<publish::Pending>),
    /// The store is to be asked.
    StoreRequest(StoreRequest),
}

/// What the store is asked for; the answer comes later.
#[derive(Debug)]
pub enum StoreRequest {
    /// To store a record.
    Insert(record::Record),
    /// To read versions.
    Audit(audit::Request),
}

/// What the store had to say.
pub struct StoreReply {
    /// In HTTP's words.
    pub response: Response,
    /// The memory that is reserved for it until it is sent.
    pub held: Option<PageReservation>,
}

impl StoreRequest {
    /// Runs it; `answer` is called by one of the store's threads.
    pub fn run(self, service: &Service, answer: impl FnOnce(StoreReply) + Send + 'static) {
        let Service { store, pages, .. } = service;
        match self {
            Self::Insert(record) => {
                let name = Arc::clone(&record.name);
                let inserting = Arc::clone(&service.inserting);
                let directory = store.directory();
                inserting.fetch_add(1, Ordering::AcqRel);
                store.insert(record.name, record.data, move |stored| {
                    inserting.fetch_sub(1, Ordering::AcqRel);
                    answer(StoreReply { response: insert::answer(&name, stored, &directory), held: None });
                });
            }
            Self::Audit(request) => {
                let client = request.client;
                let Some(reservation) = pages.reserve(client) else {
                    let response = audit::answer(&request, Err(StoreError::Busy));
                    return answer(StoreReply { response, held: None });
                };
                store.read_history(request.query.clone(), client, reservation, move |read| {
                    let (page, held) = match read {
                        Ok((page, held)) => (Ok(page), Some(held)),
                        Err(error) => (Err(error), None),
                    };
                    answer(StoreReply { response: audit::answer(&request, page), held });
                });
            }
        }
    }
}

/// Decides on a request by its head.
pub fn plan(head: &Head<'_>, context: Context<'_>) -> Plan {
    let plan = browsers::check_open_broker(head, context).and_then(|()| dispatch(head, context));
    plan.unwrap_or_else(|problem| match problem.consequence {
        Consequence::Delay => Plan::Delay(Delay { problem, opens_stream: opens_stream(head, context) }),
        Consequence::KeepOpen | Consequence::Close => {
            note_denial(&problem, context);
            context.log_refusal(&problem);
            Plan::Refuse(problem)
        }
    })
}

fn dispatch(head: &Head<'_>, context: Context<'_>) -> Result<Plan, Problem> {
    if head.method == Method::Options {
        return Ok(Plan::Respond(preflight(head, context)));
    }
    match (route(head, context)?, head.method) {
        (Route::Console, Method::Get | Method::Head) => Ok(Plan::Respond(console::answer())),
        (Route::Publish(topic), Method::Post) => publish::plan(&topic, head, context),
        (Route::Subscribe(topics), Method::Get | Method::Head) => subscribe::plan(&topics, head, context),
        (Route::Events, Method::Get | Method::Head) => subscribe::plan_records(head, context),
        (Route::Insert, Method::Post) => insert::plan(head, context),
        (Route::Audit(name), Method::Get | Method::Head) => audit::plan(name.as_deref(), head, context),
        (Route::Stats, Method::Get | Method::Head) => monitoring::stats::plan(head, context),
        (Route::Metrics, Method::Get | Method::Head) => monitoring::metrics::plan(head, context),
        (Route::Health, Method::Get | Method::Head) => Ok(monitoring::health::ready(context)),
        (Route::Liveness, Method::Get | Method::Head) => Ok(monitoring::health::live(context)),
        (route, _) => Err(Problem::method_not_allowed(route.allow(), route.advice())),
    }
}

fn opens_stream(head: &Head<'_>, context: Context<'_>) -> bool {
    head.method == Method::Get && matches!(route(head, context), Ok(Route::Subscribe(_) | Route::Events))
}

/// Counts a request that was refused for who sent it: its token, or its page.
fn note_denial(problem: &Problem, context: Context<'_>) {
    if matches!(problem.status, 401 | 403) {
        context.service.metrics.worker(context.worker).denied.add(1);
    }
}

fn route<'a>(head: &Head<'a>, context: Context<'_>) -> Result<Route<'a>, Problem> {
    Route::parse(&head.target, context.role, context.service.settings.console)
}

fn preflight(head: &Head<'_>, context: Context<'_>) -> Response {
    let allow = route(head, context).map_or("GET, HEAD, POST, OPTIONS", |route| route.allow());
    Response::preflight(allow, head.requested_headers.and_then(cors::requested_headers))
}

/// The answer to what comes too late.
fn draining() -> Problem {
    Problem::unavailable("the broker is shutting down; try again after its restart", 5)
}
