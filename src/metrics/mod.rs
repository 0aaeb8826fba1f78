//! What is counted, and the table that shows it. Each worker writes counters of its own and nobody else's, so that
//! counting needs no locked instruction; whoever asks adds them up. `/stats` and `/metrics` are two views of one table.
//!
//! ```text
//! counter     a number with one writer
//! histogram   how often something took how long
//! family      a row of the table
//! prometheus  the table as text for Prometheus
//! stats       the table as JSON
//! process     what the system says of the process
//! ```

mod counter;
mod family;
mod histogram;
mod process;
mod prometheus;
mod stats;

pub use counter::{Counter, CountersBy};
pub use family::{Family, Label, Number, Samples, View};
pub use histogram::{Buckets, Histogram};
pub use process::families as process;
pub use prometheus::{Exposition, MEDIA_TYPE};
pub use stats::stats;

/// Why a stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Its peer has left or is gone.
    Peer,
    /// Its peer kept talking, which subscribers must not.
    Talkative,
    /// Its socket took no byte for too long.
    Stalled,
    /// Its token has expired.
    Expired,
    /// The broker drains.
    Drained,
    /// It stalled within a frame that the history had let go, and too many such frames were kept.
    Shed,
    /// The system could not watch its socket.
    Failed,
}

impl Close {
    /// What they are called, in their order.
    pub const NAMES: [&str; 7] = ["peer", "talkative", "stalled", "expired", "drained", "shed", "failed"];
}

/// Why a publish was not accepted, its token apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefusal {
    /// Its body is not what can be published.
    Invalid,
    /// A worker that must hear of it had no room for too long.
    Room,
    /// There are as many topics as there may be.
    Topics,
    /// The broker drains.
    Draining,
    /// Its publisher has published as much as it may for now.
    Rate,
}

impl PublishRefusal {
    /// What they are called, in their order.
    pub const NAMES: [&str; 5] = ["invalid", "room", "topics", "draining", "rate"];
}

/// Why a record did not come as far as the store, its token apart, or was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertRefusal {
    /// Its body is no record.
    Invalid,
    /// The newest records of all names take as much memory as they may.
    Memory,
    /// The broker drains.
    Draining,
    /// The store took too long; nobody knows whether it is stored.
    Timeout,
    /// Its publisher has published as much as it may for now.
    Rate,
}

impl InsertRefusal {
    /// What they are called, in their order.
    pub const NAMES: [&str; 5] = ["invalid", "memory", "draining", "timeout", "rate"];
}

/// Why a request's body was not taken, its content apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRefusal {
    /// It is larger than `--max-body`.
    Large,
    /// All bodies together hold as much memory as they may.
    Memory,
    /// The unfinished bodies of its client hold as much memory as those of one client may.
    Share,
    /// It came too slowly.
    Slow,
}

impl BodyRefusal {
    /// What they are called, in their order.
    pub const NAMES: [&str; 4] = ["large", "memory", "share", "slow"];
}

/// Why a connection was closed by the broker because of what it had not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Its answers were taken too slowly, or not at all.
    Slow,
    /// Too much was kept for all connections, and this one had taken nothing for longest.
    Memory,
}

impl Unread {
    /// What they are called, in their order.
    pub const NAMES: [&str; 2] = ["slow", "memory"];
}

/// Why a stream was told to come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// There are as many subscribers as there may be.
    Full,
    /// The broker drains.
    Draining,
    /// Its token's `sub` has as many streams as it may.
    Sub,
    /// There are as many topics as there may be.
    Topics,
    /// Its token was not verified in time, for its address has shown too many forged ones.
    Unverified,
    /// The names that streams of records are limited to take as much memory as they may.
    Names,
}

impl TurnedAway {
    /// What they are called, in their order.
    pub const NAMES: [&str; 6] = ["full", "draining", "sub", "topics", "unverified", "names"];
}

/// What became of a request whose token could not be verified at once, for its address has shown too many forged ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedVerification {
    /// It had to wait.
    Delayed,
    /// It was refused, after waiting or because too many others waited.
    Refused,
}

impl LimitedVerification {
    /// What they are called, in their order.
    pub const NAMES: [&str; 2] = ["delayed", "refused"];
}

/// Every status code that the broker answers with, the most frequent ones first.
pub const CODES: [u16; 19] =
    [200, 204, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 421, 429, 431, 501, 503, 505];

/// One worker's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Connections taken over from the acceptor.
    pub accepted: Counter,
    /// Open connections, subscribers among them.
    pub connections: Counter,
    /// The acceptor's: connections closed at once because their address had too many.
    pub refused_address: Counter,
    /// The acceptor's: how often it let somebody wait because there were as many connections as there may be.
    pub refused_limit: Counter,
    /// The acceptor's: how often it stopped for want of descriptors.
    pub refused_descriptors: Counter,
    /// Connections closed while idle because others waited for a place.
    pub idle_closed: Counter,
    /// Bytes kept for connections beside bodies and pages of histories: what they sent and is not yet understood, and what
    /// they have not taken.
    pub buffered: Counter,
    /// Connections closed because of what they had not taken, by [`Unread`].
    pub unread_closed: CountersBy<{ Unread::NAMES.len() }>,
    /// Bodies not taken, by [`BodyRefusal`].
    pub bodies_refused: CountersBy<{ BodyRefusal::NAMES.len() }>,
    /// Requests understood.
    pub requests: Counter,
    /// Answers by status code, in the order of [`CODES`]; whatever else there is comes last.
    pub responses: CountersBy<{ CODES.len() + 1 }>,
    /// Requests answered with 401 or 403.
    pub denied: Counter,
    /// Requests whose token could not be verified at once, by [`LimitedVerification`].
    pub limited_verifications: CountersBy<{ LimitedVerification::NAMES.len() }>,
    /// Publishes not accepted, by [`PublishRefusal`].
    pub publishes_refused: CountersBy<{ PublishRefusal::NAMES.len() }>,
    /// Records that did not come as far as the store, by [`InsertRefusal`].
    pub inserts_refused: CountersBy<{ InsertRefusal::NAMES.len() }>,
    /// Streams opened.
    pub opened: Counter,
    /// Streams ended, by [`Close`].
    pub closed: CountersBy<{ Close::NAMES.len() }>,
    /// Streams that were told to come back later, by [`TurnedAway`].
    pub turned_away: CountersBy<{ TurnedAway::NAMES.len() }>,
    /// Streams whose token expired; they are given a moment to hear of it.
    pub expired: Counter,
    /// Events written to subscribers.
    pub delivered: Counter,
    /// Bytes written, to subscribers and others.
    pub bytes_sent: Counter,
    /// Gaps told to subscribers that fell behind.
    pub gaps: Counter,
    /// Gaps told to subscribers that came back too late.
    pub resume_gaps: Counter,
    /// Subscribers whose socket takes no more for now.
    pub stalled: Counter,
    /// When its loop iteration began, in the clock's milliseconds and one more; 0 while it waits for events.
    pub iteration_began: Counter,
    /// From an event's id to its write into the socket of a subscriber that was caught up.
    pub latency: Histogram,
}

impl WorkerMetrics {
    /// An answer with this status code.
    pub fn count_response(&self, status: u16) {
        self.responses.count(CODES.iter().position(|&code| code == status).unwrap_or(CODES.len()));
    }

    /// Open streams, those among them whose opening is not yet written.
    pub fn subscribers(&self) -> u64 {
        // In this order: whoever leaves meanwhile is counted as one who is there.
        let closed = self.closed.sum();
        self.opened.get().saturating_sub(closed)
    }
}

/// All workers' counters.
#[derive(Debug)]
pub struct Metrics {
    started: u64,
    workers: Box<[WorkerMetrics]>,
}

impl Metrics {
    /// Counters for so many workers of a broker that starts at this millisecond since the Unix epoch.
    pub fn new(workers: usize, started: u64) -> Self {
        Self { started, workers: (0..workers).map(|_| WorkerMetrics::default()).collect() }
    }

    /// The second since the Unix epoch in which the broker started.
    pub fn started_seconds(&self) -> f64 {
        self.started as f64 / 1e3
    }

    /// One worker's.
    pub fn worker(&self, worker: usize) -> &WorkerMetrics {
        &self.workers[worker]
    }

    /// A number of each worker.
    pub fn each(&self, number: impl Fn(&WorkerMetrics) -> u64) -> Samples {
        Samples::by_index("worker", self.workers.iter().map(number))
    }

    /// The sum of a number over all workers.
    pub fn sum(&self, number: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.workers.iter().map(number).sum()
    }

    /// The sums of numbers by words, over all workers.
    pub fn sum_by<const N: usize>(
        &self,
        label: &'static str,
        words: &[&'static str; N],
        counters: impl Fn(&WorkerMetrics) -> &CountersBy<N>,
    ) -> Samples {
        Samples::by_word(label, words, |kind| self.sum(|worker| counters(worker).get(kind)))
    }

    /// Returns how many milliseconds the longest loop iteration has taken that is not over.
    pub fn longest_iteration(&self, now_millis: u64) -> u64 {
        let began = self.workers.iter().map(|worker| worker.iteration_began.get()).filter(|&began| began != 0);
        began.map(|began| (now_millis + 1).saturating_sub(began)).max().unwrap_or(0)
    }

    /// All workers' latencies.
    pub fn latency(&self) -> Buckets {
        let mut all = Buckets::default();
        self.workers.iter().for_each(|worker| all.merge(&worker.latency.get()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_a_bounded_set_of_codes() {
        let metrics = WorkerMetrics::default();
        [200, 505, 418, 599].into_iter().for_each(|status| metrics.count_response(status));
        let counts: Vec<_> = (0..=CODES.len()).map(|index| metrics.responses.get(index)).collect();
        assert_eq!((counts[0], counts[CODES.len() - 1], counts[CODES.len()]), (1, 1, 2));
        assert_eq!(metrics.responses.sum(), 4);
    }

    #[test]
    fn open_streams_are_those_that_have_not_ended() {
        let metrics = Metrics::new(2, 1500);
        metrics.worker(0).opened.add(3);
        metrics.worker(1).opened.add(1);
        metrics.worker(0).closed.count(Close::Shed as usize);
        assert_eq!(metrics.sum(WorkerMetrics::subscribers), 3);
        assert_eq!(metrics.started_seconds(), 1.5);
        assert_eq!(Close::NAMES[Close::Failed as usize], "failed");
    }

    #[test]
    fn a_worker_that_waits_for_events_is_in_no_iteration() {
        let metrics = Metrics::new(3, 0);
        assert_eq!(metrics.longest_iteration(5), 0);
        metrics.worker(1).iteration_began.set(1);
        metrics.worker(2).iteration_began.set(3);
        assert_eq!(metrics.longest_iteration(5), 5);
        metrics.worker(1).iteration_began.set(0);
        assert_eq!(metrics.longest_iteration(5), 3);
        assert_eq!(metrics.longest_iteration(0), 0);
    }
}
