//! What one holder of tokens may take: streams that are open at the same time, and events published per second; and what an
//! address may cost with tokens that are none. Knows no socket and no HTTP, reads no clock; what is not limited costs nothing.
//!
//! Bodies and pages are shared by different rules: a body that finds no room is refused, so one client may hold no more than it
//! leaves free; a page can be shorter, so one client may hold three times that.
//!
//! ```text
//! places        how many streams each subject has open, over all workers
//! bucket        the arithmetic of one token bucket
//! buckets       buckets by key, bounded
//! pace          the buckets of all publishers
//! source        what counts as one client
//! share         how much of something limited one client may take
//! bodies        the memory of request bodies, by client
//! pages         the memory of audit pages, by client
//! verification  the time that each address may take with bad signatures
//! ```

mod bodies;
mod bucket_table;
mod pages;
mod rate_limiter;
mod share;
mod source;
mod stream_limiter;
mod token_bucket;
mod verification;

pub use bodies::{BodyBudget, BodyReservation, Shortage};
pub use pages::{Growth, PageBudget, PageReservation};
pub use rate_limiter::RateLimiter;
pub use share::share;
pub use source::{Client, Source};
pub use stream_limiter::{Permit, Permits, StreamLimiter};
pub use token_bucket::{Excess, Rate};
pub use verification::VerificationLimiter;

use std::sync::Arc;

/// What holders may take, as far as it is limited.
#[derive(Default)]
pub struct Quotas {
    /// Streams of each subject.
    pub places: Option<Arc<StreamLimiter>>,
    /// Events of each publisher.
    pub pace: Option<RateLimiter>,
    /// Failed verifications of each address.
    pub verifications: VerificationLimiter,
}

impl Quotas {
    /// At most so many streams of each subject, and events of each publisher at this rate.
    pub fn new(streams: Option<usize>, rate: Option<Rate>) -> Self {
        Self {
            places: streams.map(|max| Arc::new(StreamLimiter::new(max))),
            pace: rate.map(RateLimiter::new),
            verifications: VerificationLimiter::default(),
        }
    }

    /// Gives back what surges took, bit by bit: cheap, to be called now and then.
    pub fn tidy(&self, now_millis: u64) {
        self.pace.iter().for_each(|pace| pace.tidy(now_millis));
        self.verifications.tidy(now_millis);
    }
}
