//! What all steps of a loop iteration share: the moment, the `Date` field that goes with it, and the service.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use crate::api::{Context, Service};
use crate::auth::TokenCache;
use crate::clock::{Clock, Now, imf_fixdate};
use crate::http::response::CommonHeaders;
use crate::hub::WorkerId;
use crate::metrics::WorkerMetrics;
use crate::net::ListenerRole;

/// The context of a worker's loop iteration.
pub(crate) struct IterationContext {
    pub(crate) worker: WorkerId,
    pub(crate) service: Arc<Service>,
    pub(crate) clock: Clock,
    /// The moment at which the iteration began to work.
    pub(crate) now: Now,
    tokens: RefCell<TokenCache>,
    date: String,
    date_seconds: u64,
}

impl IterationContext {
    /// Creates a worker's context.
    pub(crate) fn new(worker: WorkerId, service: Arc<Service>, clock: Clock) -> Self {
        let now = clock.now();
        Self { worker, service, clock, now, tokens: RefCell::default(), date: String::new(), date_seconds: u64::MAX }
    }

    /// Reads the clock for the next iteration.
    pub(crate) fn advance(&mut self) {
        self.now = self.clock.now().not_before(self.now);
        if self.date_seconds != self.now.unix_seconds() {
            self.date_seconds = self.now.unix_seconds();
            self.date = imf_fixdate(self.date_seconds);
        }
    }

    /// Returns the context of a request from this listener and address.
    pub(crate) fn request_context(&self, role: ListenerRole, address: Option<IpAddr>) -> Context<'_> {
        Context {
            service: &self.service,
            role,
            address,
            is_forwarded: false,
            headers: CommonHeaders { date: &self.date, origins: &self.service.settings.origins },
            now: self.now,
            worker: self.worker,
            token_cache: &self.tokens,
        }
    }

    /// Returns the worker's metrics.
    pub(crate) fn metrics(&self) -> &WorkerMetrics {
        self.service.metrics.worker(self.worker)
    }

    /// Returns the low 32 bits of the worker's milliseconds.
    pub(crate) fn timestamp(&self) -> u32 {
        self.now.millis as u32
    }

    /// Returns whether a token failed verification since the last call.
    pub(super) fn take_failed_verification(&self) -> bool {
        self.tokens.borrow_mut().take_failure()
    }

    /// Charges a client's address with the time of a request whose token failed verification.
    pub(super) fn charge_verification(&self, address: Option<IpAddr>, micros: u64) {
        self.service.quotas.verifications.charge(address.into(), micros, self.now.millis);
    }

    /// Returns whether a token from this address may be verified now.
    pub(super) fn may_verify(&self, address: Option<IpAddr>) -> bool {
        self.service.quotas.verifications.check(address.into(), self.now.millis).is_ok()
    }
}
