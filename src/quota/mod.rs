//! Quotas: how many streams a principal may have open, how fast it may publish, and how much memory and CPU time a client may
//! use. Independent of sockets, HTTP and clocks. What is not limited costs nothing.
//!
//! Request bodies and history pages share memory by different rules. A body that does not fit is refused, so a client may hold
//! no more than it leaves free. A page can be shorter instead, so a client may hold three times that.
//!
//! ```text
//! stream_limiter        how many streams each subject or address has open, over all workers
//! rate_limiter          how fast each principal publishes
//! verification_limiter  how much CPU time each address uses with invalid signatures
//! bucket_table          token buckets by key, bounded
//! token_bucket          the arithmetic of one token bucket
//! body_budget           the memory of request bodies, by client
//! page_budget           the memory of history pages, by client
//! fair_share            how much of a limited resource one client may take
//! usage                 how many bytes each client holds
//! source                what counts as one client
//! limit                 the limits whose reaching is logged
//! limit_log             logs when a limit is reached, and when it no longer is
//! ```

mod body_budget;
mod bucket_table;
mod fair_share;
mod limit;
mod limit_log;
mod page_budget;
mod rate_limiter;
mod source;
mod stream_limiter;
mod token_bucket;
mod usage;
mod verification_limiter;

pub use body_budget::{BodyBudget, BodyReservation, ReserveError};
pub use fair_share::fair_share;
pub use limit::Limit;
pub use limit_log::LimitLog;
pub use page_budget::{Growth, PageBudget, PageReservation};
pub use rate_limiter::RateLimiter;
pub use source::{Client, Source};
pub use stream_limiter::{Permit, Permits, StreamLimiter, StreamPermits};
pub use token_bucket::{Excess, Rate};
pub use verification_limiter::VerificationLimiter;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;

/// Counts the open streams of each address.
pub struct AddressLimiter {
    streams: Arc<StreamLimiter>,
    /// Reduces addresses to the numbers that are counted. Keyed, so that no client can choose two addresses with one number.
    hasher: RandomState,
}

impl AddressLimiter {
    fn new(max: usize) -> Self {
        Self { streams: Arc::new(StreamLimiter::new(max)), hasher: RandomState::new() }
    }

    /// Returns a permit for a stream of this address, or `None` if the address has reached its limit.
    pub fn acquire(&self, address: IpAddr) -> Option<Permit> {
        self.streams.acquire(self.hasher.hash_one(Source::from(address)))
    }
}

/// The limits that are configured, and those that always apply.
#[derive(Default)]
pub struct Quotas {
    /// Open streams of each subject.
    pub streams: Option<Arc<StreamLimiter>>,
    /// Open streams of each address that a trusted proxy has reported.
    pub forwarded_streams: Option<AddressLimiter>,
    /// Events published by each principal.
    pub publish_rate: Option<RateLimiter>,
    /// Failed verifications from each address.
    pub verifications: VerificationLimiter,
}

impl Quotas {
    /// Limits the open streams of each subject, and the rate at which each principal publishes.
    pub fn new(max_streams: Option<usize>, publish_rate: Option<Rate>) -> Self {
        Self {
            streams: max_streams.map(|max| Arc::new(StreamLimiter::new(max))),
            forwarded_streams: None,
            publish_rate: publish_rate.map(RateLimiter::new),
            verifications: VerificationLimiter::default(),
        }
    }

    /// Limits the open streams of each address that a trusted proxy has reported.
    #[must_use]
    pub fn with_forwarded_streams(self, max_streams: Option<usize>) -> Self {
        Self { forwarded_streams: max_streams.map(AddressLimiter::new), ..self }
    }

    /// Evicts some of the full token buckets and returns their memory. Cheap; to be called periodically.
    pub fn evict_full(&self, now_millis: u64) {
        self.publish_rate.iter().for_each(|limiter| limiter.evict_full(now_millis));
        self.verifications.evict_full(now_millis);
    }
}
