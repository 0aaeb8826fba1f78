//! The counters, and the table of metrics. Each worker writes only its own counters, so that counting needs no locked
//! instruction; readers add them up. `/stats` and `/metrics` are two views of one table.
//!
//! ```text
//! counter     a number with one writer
//! histogram   counts of durations
//! family      a row of the table
//! prometheus  the table as text for Prometheus
//! stats       the table as JSON
//! process     CPU time, memory and file descriptors of the process
//! ```

use std::sync::atomic::AtomicU64;

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

/// Lines that this process dropped because standard error was blocked. Programs with a logger of their own drop none.
pub static DROPPED_LOG_LINES: AtomicU64 = AtomicU64::new(0);

/// Lines of the access log that this process dropped because standard output was blocked.
pub static DROPPED_ACCESS_LOG_LINES: AtomicU64 = AtomicU64::new(0);

/// Why a stream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client closed the connection, or vanished.
    Peer,
    /// The client kept sending data, which subscribers must not.
    Talkative,
    /// The socket accepted no data for too long.
    Stalled,
    /// The token expired.
    Expired,
    /// The broker is shutting down.
    Drained,
    /// The subscriber stalled within a frame that was then evicted from the history, and too many such frames were kept.
    Shed,
    /// The socket could not be registered with the poller.
    Failed,
    /// The stream reached its maximum age.
    Aged,
    /// The token was revoked.
    Revoked,
    /// The stream was a poll, and is over.
    Polled,
}

impl Close {
    /// The names in metrics, in the order of the variants.
    pub const NAMES: [&str; 10] =
        ["peer", "talkative", "stalled", "expired", "drained", "shed", "failed", "aged", "revoked", "polled"];
}

/// Why a publish was refused, apart from its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefusal {
    /// The body is not valid.
    Invalid,
    /// The inbox of a worker with subscribers was full for too long.
    Room,
    /// The limit on topics is reached.
    Topics,
    /// The broker is shutting down.
    Draining,
    /// The publisher has reached its rate limit.
    Rate,
    /// The engine can't be reached, refuses, or has too much to do.
    Engine,
    /// Whether the events were published is unknown: the engine did not reply, or may lose them.
    Unknown,
}

impl PublishRefusal {
    /// The names in metrics, in the order of the variants.
    pub const NAMES: [&str; 7] = ["invalid", "room", "topics", "draining", "rate", "engine", "unknown"];
}

/// Why an insert was refused, apart from its token and from errors of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertRefusal {
    /// The body is not a record.
    Invalid,
    /// The newest records of all names have reached their memory limit.
    Memory,
    /// The broker is shutting down.
    Draining,
    /// The store or the engine took too long; whether the record is stored is unknown.
    Timeout,
    /// The publisher has reached its rate limit.
    Rate,
    /// The engine can't be reached, refuses, or has too much to do.
    Engine,
    /// The newest version is not the one that the request requires.
    Conflict,
    /// The idempotency key was used for another name.
    Key,
}

impl InsertRefusal {
    /// The names in metrics, in the order of the variants.
    pub const NAMES: [&str; 8] = ["invalid", "memory", "draining", "timeout", "rate", "engine", "conflict", "key"];
}

/// Why a request's body was refused, apart from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRefusal {
    /// The body is larger than `--max-body`.
    Large,
    /// All bodies together have reached their memory limit.
    Memory,
    /// The unfinished bodies of this client have reached the memory limit per client.
    Share,
    /// The body arrived too slowly.
    Slow,
}

impl BodyRefusal {
    /// The names in metrics, in the order of the variants.
    pub const NAMES: [&str; 4] = ["large", "memory", "share", "slow"];
}

/// Why the broker closed a connection whose client did not read its responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The client read its responses too slowly, or not at all.
    Slow,
    /// The buffers of all connections were too large, and this client had read nothing for the longest time.
    Memory,
}

impl Unread {
    /// The names in metrics, in the order of the variants.
    pub const NAMES: [&str; 2] = ["slow", "memory"];
}

/// Why a stream was refused with a request to reconnect later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// The limit on subscribers is reached.
    Full,
    /// The broker is shutting down.
    Draining,
    /// The token's `sub` has reached its limit on streams.
    Sub,
    /// The limit on topics is reached.
    Topics,
    /// The token was not verified in time, because its address had sent too many forged ones.
    Unverified,
    /// The names by which streams of records are filtered have reached their memory limit.
    Names,
    /// The engine can't be reached, and the broker alone does not know the client's position.
    Engine,
    /// The client's address, which a trusted proxy has reported, has reached its limit on streams.
    Address,
}

impl TurnedAway {
    /// The names in metrics, in the order of the variants.
    pub const NAMES: [&str; 8] = ["full", "draining", "sub", "topics", "unverified", "names", "engine", "address"];
}

/// What happened to a request whose token was not verified immediately, because its address had sent too many forged ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedVerification {
    /// The request had to wait.
    Delayed,
    /// The request was refused, after waiting or because too many others were waiting.
    Refused,
}

impl LimitedVerification {
    /// The names in metrics, in the order of the variants.
    pub const NAMES: [&str; 2] = ["delayed", "refused"];
}

/// All status codes of the broker's responses.
pub const CODES: [u16; 22] =
    [200, 204, 400, 401, 403, 404, 405, 408, 411, 412, 413, 414, 415, 417, 421, 422, 429, 431, 501, 503, 504, 505];

/// One worker's counters, on their own cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Connections received from the acceptor.
    pub accepted: Counter,
    /// Open connections, including subscribers.
    pub connections: Counter,
    /// Written by the acceptor: connections closed immediately because their address had too many.
    pub refused_address: Counter,
    /// Written by the acceptor: how often a connection had to wait because the limit on connections was reached.
    pub refused_limit: Counter,
    /// Written by the acceptor: how often it paused because the process had no file descriptors left.
    pub refused_descriptors: Counter,
    /// Idle connections closed because others were waiting to be accepted.
    pub idle_closed: Counter,
    /// Bytes buffered for connections, without bodies and history pages: received but not yet parsed, or not yet sent.
    pub buffered: Counter,
    /// Connections closed because the client did not read, by [`Unread`].
    pub unread_closed: CountersBy<{ Unread::NAMES.len() }>,
    /// Bodies refused, by [`BodyRefusal`].
    pub bodies_refused: CountersBy<{ BodyRefusal::NAMES.len() }>,
    /// Requests with a valid head.
    pub requests: Counter,
    /// Responses by status code, in the order of [`CODES`], and all others last.
    pub responses: CountersBy<{ CODES.len() + 1 }>,
    /// Responses with status 401 or 403.
    pub denied: Counter,
    /// Requests whose token was not verified immediately, by [`LimitedVerification`].
    pub limited_verifications: CountersBy<{ LimitedVerification::NAMES.len() }>,
    /// Publishes refused, by [`PublishRefusal`].
    pub publishes_refused: CountersBy<{ PublishRefusal::NAMES.len() }>,
    /// Inserts refused, by [`InsertRefusal`].
    pub inserts_refused: CountersBy<{ InsertRefusal::NAMES.len() }>,
    /// Streams opened.
    pub opened: Counter,
    /// Streams closed, by [`Close`].
    pub closed: CountersBy<{ Close::NAMES.len() }>,
    /// Streams refused, by [`TurnedAway`].
    pub turned_away: CountersBy<{ TurnedAway::NAMES.len() }>,
    /// Streams whose token expired. They are closed a moment later, so that the client can receive the reason.
    pub expired: Counter,
    /// Events written to subscribers.
    pub delivered: Counter,
    /// Bytes written to all connections.
    pub bytes_sent: Counter,
    /// Gaps reported to subscribers that fell behind.
    pub gaps: Counter,
    /// Gaps reported to subscribers that reconnected too late.
    pub resume_gaps: Counter,
    /// Subscribers whose socket is full.
    pub stalled: Counter,
    /// When the current loop iteration began, in milliseconds of the clock, plus 1. 0 while the worker waits for events.
    pub iteration_began: Counter,
    /// The duration of the longest loop iteration that has ended, without waiting for events, in microseconds.
    pub longest_iteration_micros: Counter,
    /// Durations from assigning an event's id to writing the event to the socket of a subscriber that was up to date.
    pub latency: Histogram,
}

impl WorkerMetrics {
    /// Counts a response with this status code.
    pub fn count_response(&self, status: u16) {
        self.responses.count(CODES.iter().position(|&code| code == status).unwrap_or(CODES.len()));
    }

    /// Returns the number of open streams, including those whose response head is not written yet.
    pub fn subscribers(&self) -> u64 {
        // `closed` is read first, so that a stream closed in between counts as open and the difference is never negative.
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
    /// Creates counters for a broker that started at `started`, in milliseconds since the Unix epoch.
    pub fn new(workers: usize, started: u64) -> Self {
        Self { started, workers: (0..workers).map(|_| WorkerMetrics::default()).collect() }
    }

    /// Returns when the broker started, in seconds since the Unix epoch.
    pub fn started_seconds(&self) -> f64 {
        self.started as f64 / 1e3
    }

    /// Returns the counters of one worker.
    pub fn worker(&self, worker: usize) -> &WorkerMetrics {
        &self.workers[worker]
    }

    /// Returns a number for each worker.
    pub fn each(&self, number: impl Fn(&WorkerMetrics) -> u64) -> Samples {
        Samples::by_index("worker", self.workers.iter().map(number))
    }

    /// Returns the sum of a number over all workers.
    pub fn sum(&self, number: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.workers.iter().map(number).sum()
    }

    /// Returns the sums of labelled counters over all workers.
    pub fn sum_by<const N: usize>(
        &self,
        label: &'static str,
        words: &[&'static str; N],
        counters: impl Fn(&WorkerMetrics) -> &CountersBy<N>,
    ) -> Samples {
        Samples::by_word(label, words, |kind| self.sum(|worker| counters(worker).get(kind)))
    }

    /// Returns how many milliseconds the longest unfinished loop iteration has taken so far.
    pub fn longest_iteration(&self, now_millis: u64) -> u64 {
        let began = self.workers.iter().map(|worker| worker.iteration_began.get()).filter(|&began| began != 0);
        began.map(|began| (now_millis + 1).saturating_sub(began)).max().unwrap_or(0)
    }

    /// Returns the duration of the longest loop iteration that has ended, of all workers, in microseconds.
    pub fn longest_completed_iteration(&self) -> u64 {
        self.workers.iter().map(|worker| worker.longest_iteration_micros.get()).max().unwrap_or(0)
    }

    /// Returns the latencies of all workers.
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
    fn responses_are_counted_by_a_bounded_set_of_codes() {
        let metrics = WorkerMetrics::default();
        [200, 505, 418, 599].into_iter().for_each(|status| metrics.count_response(status));
        let counts: Vec<_> = (0..=CODES.len()).map(|index| metrics.responses.get(index)).collect();
        assert_eq!((counts[0], counts[CODES.len() - 1], counts[CODES.len()]), (1, 1, 2));
        assert_eq!(metrics.responses.sum(), 4);
    }

    #[test]
    fn open_streams_are_those_opened_and_not_closed() {
        let metrics = Metrics::new(2, 1500);
        metrics.worker(0).opened.add(3);
        metrics.worker(1).opened.add(1);
        metrics.worker(0).closed.count(Close::Shed as usize);
        assert_eq!(metrics.sum(WorkerMetrics::subscribers), 3);
        assert_eq!(metrics.started_seconds(), 1.5);
        assert_eq!(
            (Close::NAMES[Close::Revoked as usize], Close::NAMES[Close::Polled as usize]),
            ("revoked", "polled")
        );
    }

    #[test]
    fn a_waiting_worker_has_no_iteration() {
        let metrics = Metrics::new(3, 0);
        assert_eq!(metrics.longest_iteration(5), 0);
        metrics.worker(1).iteration_began.set(1);
        metrics.worker(2).iteration_began.set(3);
        assert_eq!(metrics.longest_iteration(5), 5);
        metrics.worker(1).iteration_began.set(0);
        assert_eq!(metrics.longest_iteration(5), 3);
        assert_eq!(metrics.longest_iteration(0), 0);
    }

    #[test]
    fn the_longest_iteration_is_that_of_any_worker() {
        let metrics = Metrics::new(3, 0);
        assert_eq!(metrics.longest_completed_iteration(), 0);
        [(0, 20), (1, 700), (2, 80), (1, 30)]
            .into_iter()
            .for_each(|(worker, micros)| metrics.worker(worker).longest_iteration_micros.raise_to(micros));
        assert_eq!(metrics.longest_completed_iteration(), 700);
    }
}
