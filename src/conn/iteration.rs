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
    /// The same moment in microseconds since the clock was created.
    began_micros: u64,
    tokens: RefCell<TokenCache>,
    date: String,
    date_seconds: u64,
}

impl IterationContext {
    /// Creates a worker's context.
    pub(crate) fn new(worker: WorkerId, service: Arc<Service>, clock: Clock) -> Self {
        let (now, began_micros) = clock.now_and_micros();
        let (tokens, date, date_seconds) = (RefCell::default(), String::new(), u64::MAX);
        Self { worker, service, clock, now, began_micros, tokens, date, date_seconds }
    }

    /// Reads the clock for the next iteration.
    pub(crate) fn advance(&mut self) {
        let (now, began_micros) = self.clock.now_and_micros();
        (self.now, self.began_micros) = (now.not_before(self.now), began_micros);
        if self.date_seconds != self.now.unix_seconds() {
            self.date_seconds = self.now.unix_seconds();
            self.date = imf_fixdate(self.date_seconds);
        }
    }

    /// Returns for how long the iteration has worked so far, in microseconds. Reads the clock.
    pub(crate) fn elapsed_micros(&self) -> u64 {
        self.clock.elapsed_micros().saturating_sub(self.began_micros)
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
