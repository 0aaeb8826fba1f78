//! What each route does: a request's head becomes a [`Plan`], the plan and the body an [`Outcome`].
//! Bytes and moments in, values out; knows no socket.

mod admission;
pub mod audit;
mod console;
pub mod insert;
mod metrics;
mod overview;
pub mod publish;
pub mod record;
mod route;
mod stats;
pub mod subscribe;
mod throttle;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::auth::{Auth, Holder, Verified};
use crate::clock::Now;
use crate::config::Settings;
use crate::http::response::House;
use crate::http::{Head, Held, Ledger, Method, Problem, Response};
use crate::hub::{Hub, WorkerId};
use crate::metrics::Metrics;
use crate::quota::{Client, MemoryBudget, Quotas, Reservation, Source};
use crate::store::{Health, Store, StoreError};
use route::Route;
pub use route::Scope;

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
    pub bodies: MemoryBudget,
    /// The pages of histories that are being sent: a reader that takes its time must not cost memory without bound.
    pub pages: Ledger,
    /// Inserts that the store has not answered.
    inserting: Arc<AtomicUsize>,
    draining: AtomicBool,
}

impl Service {
    /// A service that is not draining.
    pub fn new(hub: Arc<Hub>, store: Store, settings: Settings, auth: Auth, metrics: Metrics) -> Self {
        let quotas = Quotas::new(settings.max_subscribers_per_sub, settings.publish_rate);
        let (bodies, pages) = (MemoryBudget::for_bodies(settings.max_body), Ledger::new(settings.max_body));
        Self {
            hub,
            store,
            settings,
            auth,
            metrics,
            quotas,
            bodies,
            pages,
            inserting: Arc::default(),
            draining: AtomicBool::new(false),
        }
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
    pub scope: Scope,
    /// The IP address the request comes from; `None` through a Unix socket.
    pub address: Option<IpAddr>,
    /// What every answer's head needs.
    pub house: House<'a>,
    /// The moment of this turn.
    pub now: Now,
    /// The calling worker.
    pub worker: WorkerId,
    /// Tokens that the worker has verified lately.
    pub verified: &'a RefCell<Verified>,
}

impl Context<'_> {
    /// Returns the client's address for log lines.
    fn client(&self) -> String {
        self.address.map_or_else(|| "a Unix socket".to_owned(), |address| address.to_canonical().to_string())
    }

    /// Creates an empty reservation for a body of this holder of a token, or of the client's address if there is none.
    pub fn body_reservation(&self, holder: Option<Holder>) -> Reservation {
        let by_address = || self.address.map_or(Client::Local, |address| Client::Address(Source::from(address)));
        self.service.bodies.reservation(holder.map_or_else(by_address, Client::Principal))
    }
}

/// What a head asks for, before its body has come.
#[derive(Debug)]
pub enum Plan {
    /// The answer is known; a short body is read and dropped first.
    Answer(Response),
    /// The request is refused; a short body is read and dropped first.
    Refuse(Problem),
    /// The body is to be published.
    Publish(publish::Request),
    /// The body is a record to be stored.
    Insert(insert::Request),
    /// A page of a record's versions is to be read; a short body is read and dropped first.
    Audit(audit::Request),
    /// A stream is to be opened; a short body is read and dropped first.
    Subscribe(subscribe::Request),
}

impl Plan {
    /// Whether the body's content matters.
    pub fn wants_body(&self) -> bool {
        matches!(self, Self::Publish(_) | Self::Insert(_))
    }

    /// Carries the plan out, now that the whole body is here.
    pub fn finish(self, body: &[u8], context: Context<'_>) -> Outcome {
        if let Err(problem) = admission::demand_time(self.expires(), context) {
            note_denial(&problem, context);
            return Outcome::Answer(problem.into());
        }
        match self {
            Self::Answer(response) => Outcome::Answer(response),
            Self::Refuse(problem) => Outcome::Answer(problem.into()),
            Self::Subscribe(request) => Outcome::Subscribe(request),
            Self::Publish(request) => publish::finish(&request, body, context),
            Self::Insert(request) => insert::finish(&request, body, context),
            Self::Audit(request) => Outcome::Errand(Errand::Audit(request)),
        }
    }

    /// Returns whose token came with a body that is wanted.
    pub fn holder(&self) -> Option<Holder> {
        match self {
            Self::Publish(request) => request.holder,
            Self::Insert(request) => request.holder,
            Self::Answer(_) | Self::Refuse(_) | Self::Audit(_) | Self::Subscribe(_) => None,
        }
    }

    /// The second since the Unix epoch from which on it may no longer be carried out.
    fn expires(&self) -> Option<u64> {
        match self {
            Self::Answer(_) | Self::Refuse(_) => None,
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
    Answer(Response),
    /// It opens a stream.
    Subscribe(subscribe::Request),
    /// The hub has no room for it now; try again.
    Wait(publish::Pending),
    /// The store is to be asked.
    Errand(Errand),
}

/// What the store is asked for; the answer comes later.
#[derive(Debug)]
pub enum Errand {
    /// To store a record.
    Insert(record::Record),
    /// To read versions.
    Audit(audit::Request),
}

/// What the store had to say.
pub struct Answer {
    /// In HTTP's words.
    pub response: Response,
    /// What it takes of a ledger until it is sent.
    pub held: Option<Held>,
}

impl Errand {
    /// Runs it; `answer` is called by one of the store's threads.
    pub fn run(self, service: &Service, answer: impl FnOnce(Answer) + Send + 'static) {
        let Service { store, pages, .. } = service;
        match self {
            Self::Insert(record) => {
                let name = Arc::clone(&record.name);
                let inserting = Arc::clone(&service.inserting);
                inserting.fetch_add(1, Ordering::AcqRel);
                store.insert(record.name, record.data, move |stored| {
                    inserting.fetch_sub(1, Ordering::AcqRel);
                    answer(Answer { response: insert::answer(&name, stored), held: None });
                });
            }
            Self::Audit(request) => {
                let (name, after, limit, pages) =
                    (Arc::clone(&request.name), request.after, request.limit, pages.clone());
                store.audit(name, after, limit, move |page| answer(audit::answer(&request, page, &pages)));
            }
        }
    }
}

/// Decides on a request by its head.
pub fn plan(head: &Head<'_>, context: Context<'_>) -> Plan {
    if head.method == Method::Options {
        return Plan::Answer(preflight(head, context));
    }
    let plan = route(head, context).and_then(|route| match (route, head.method) {
        (Route::Console, Method::Get | Method::Head) => Ok(Plan::Answer(console::answer())),
        (Route::Publish(topic), Method::Post) => publish::plan(&topic, head, context),
        (Route::Subscribe(topics), Method::Get | Method::Head) => subscribe::plan(&topics, head, context),
        (Route::Events, Method::Get | Method::Head) => subscribe::plan_records(head, context),
        (Route::Insert, Method::Post) => insert::plan(head, context),
        (Route::Audit(name), Method::Get | Method::Head) => audit::plan(&name, head, context),
        (Route::Stats, Method::Get | Method::Head) => stats::plan(head, context),
        (Route::Metrics, Method::Get | Method::Head) => metrics::plan(head, context),
        (Route::Health, Method::Get | Method::Head) => Ok(health(context.service)),
        (route, _) => Err(Problem::method_not_allowed(route.allow())),
    });
    plan.unwrap_or_else(|problem| {
        note_denial(&problem, context);
        Plan::Refuse(problem)
    })
}

/// Counts a request that was refused for its token.
fn note_denial(problem: &Problem, context: Context<'_>) {
    if problem.challenge.is_some() {
        context.service.metrics.worker(context.worker).denied.add(1);
        log::debug!("{} to {}: {}", problem.status, context.client(), problem.detail);
    }
}

fn route<'a>(head: &Head<'a>, context: Context<'_>) -> Result<Route<'a>, Problem> {
    Route::parse(&head.target, context.scope, context.service.settings.console)
}

fn preflight(head: &Head<'_>, context: Context<'_>) -> Response {
    let allow = route(head, context).map_or("GET, HEAD, POST, OPTIONS", |route| route.allow());
    Response::preflight(allow)
}

fn health(service: &Service) -> Plan {
    if service.is_draining() {
        return Plan::Refuse(draining());
    }
    match service.store.status().health {
        Health::Ready | Health::Closed => Plan::Answer(Response::new(200, "text/plain", "ok")),
        Health::Full => Plan::Refuse(insert::refusal(StoreError::Full)),
        Health::Failed { .. } => Plan::Refuse(insert::refusal(StoreError::Failed)),
    }
}

/// The answer to what comes too late.
fn draining() -> Problem {
    Problem::unavailable("the broker is shutting down; try again when it is back", 5)
}
