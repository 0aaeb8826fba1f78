//! What a worker passes to the routes with each request.

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;

use super::service::Service;
use crate::auth::{Principal, TokenCache};
use crate::clock::Now;
use crate::config::AccessLog;
use crate::http::access_log::{AccessLine, Arrival, Summary};
use crate::http::response::CommonHeaders;
use crate::http::{Problem, forwarded};
use crate::hub::WorkerId;
use crate::net::ListenerRole;
use crate::quota::{BodyReservation, Client, Limit};

/// The circumstances of a request: the broker, the connection, the time and the worker.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The shared parts of the broker.
    pub service: &'a Service,
    /// Which routes are served on the connection.
    pub role: ListenerRole,
    /// The client's IP address; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether a trusted proxy has reported the address.
    pub is_forwarded: bool,
    /// What the fields that every response has depend on.
    pub headers: CommonHeaders<'a>,
    /// The time of this loop iteration.
    pub now: Now,
    /// The worker that serves the connection.
    pub worker: WorkerId,
    /// The tokens that the worker has verified recently.
    pub token_cache: &'a RefCell<TokenCache>,
}

impl<'a> Context<'a> {
    /// Returns the access log, if it includes the requests of this listener. Those of the administration are health checks and
    /// scrapes.
    pub fn access_log(self) -> Option<&'a AccessLog> {
        let log = self.service.settings.access_log.as_ref();
        log.filter(|_| self.role != ListenerRole::Administration)
    }

    /// Begins a line of the access log. `request` is `None` if the head is not known.
    pub fn begin_access_line(self, log: &AccessLog, request: Option<Summary<'_>>) -> AccessLine {
        let Self { address: client, now, headers, .. } = self;
        let arrival = Arrival { date: headers.date, unix_millis: now.unix_millis, millis: now.millis, client };
        AccessLine::begin(log.format, arrival, request)
    }

    /// Returns the client's address that a complete head reports, if this context's address is that of a trusted proxy.
    pub fn forwarded_address(&self, head: &[u8]) -> Option<IpAddr> {
        let proxies = &self.service.settings.trusted_proxies;
        if !proxies.contains(self.address) {
            return None;
        }
        forwarded::client_address(head, |address| proxies.contains(Some(address)))
    }

    /// Returns the context of a request that a proxy has forwarded for this address; unchanged without one.
    #[must_use]
    pub fn forwarded_for(self, address: Option<IpAddr>) -> Self {
        if address.is_none() {
            return self;
        }
        Self { address, is_forwarded: true, ..self }
    }

    /// Returns the client's address for log lines.
    pub fn client(&self) -> String {
        self.address.map_or_else(|| "a Unix socket".to_owned(), |address| address.to_canonical().to_string())
    }

    /// Logs a request that was refused because of its head.
    pub fn log_refusal(&self, problem: &Problem) {
        log::debug!("{} to {}: {}", problem.status, self.client(), problem.detail);
    }

    /// Logs a request that was refused after its body was received. Omits the detail, which may quote the body: payloads must
    /// not be logged.
    pub(super) fn log_refused_body(&self, problem: &Problem, what: &str, reason: &str) {
        log::debug!("{} to {}: {what} refused: {reason}", problem.status, self.client());
    }

    /// Notes that a request is refused because of a limit. `request` is its method and its path.
    pub(crate) fn note_limit(&self, limit: Limit, request: &dyn fmt::Display) {
        self.service.limits.refuse(limit, self.now.millis, || Some(format!("{request} from {}", self.client())));
    }

    /// Notes that a request is refused because of its token.
    pub(super) fn note_refused_token(&self, request: &dyn fmt::Display, problem: &Problem) {
        let describe = || Some(format!("{request} from {}: {}", self.client(), problem.detail));
        self.service.limits.refuse(Limit::Tokens, self.now.millis, describe);
    }

    /// Counts a request that was refused because of its token or its origin.
    pub(super) fn count_denial(&self, problem: &Problem) {
        if matches!(problem.status, 401 | 403) {
            self.service.metrics.worker(self.worker).denied.add(1);
        }
    }

    /// Creates an empty reservation for a body of this principal, or of the client's address without one.
    pub fn body_reservation(&self, principal: Option<Principal>) -> BodyReservation {
        self.service.bodies.reservation(principal.map_or_else(|| self.address.into(), Client::Principal))
    }
}
