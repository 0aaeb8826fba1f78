//! Counters. Each worker writes its own and nobody else's, so that counting needs no locked
//! instruction; `/stats` adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Connections taken over from the acceptor.
    pub accepted: Counter,
    /// Open connections, subscribers among them.
    pub connections: Counter,
    /// Requests understood.
    pub requests: Counter,
    /// Requests answered with 401 or 403.
    pub denied: Counter,
    /// Streams ended because their token expired.
    pub expired: Counter,
    /// Events written to subscribers.
    pub delivered: Counter,
    /// Bytes written, to subscribers and others.
    pub bytes_sent: Counter,
    /// Gap events sent.
    pub gaps: Counter,
    /// Subscribers whose socket takes no more for now.
    pub stalled: Counter,
}

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts up. Only the owning worker may call this.
    pub fn add(&self, count: u64) {
        self.set(self.get() + count);
    }

    /// Counts down. Only the owning worker may call this.
    pub fn subtract(&self, count: u64) {
        self.set(self.get().saturating_sub(count));
    }

    /// Overwrites. Only the owning worker may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All workers' counters.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[WorkerMetrics]>,
}

/// The sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// See [`WorkerMetrics::accepted`].
    pub accepted: u64,
    /// See [`WorkerMetrics::connections`].
    pub connections: u64,
    /// See [`WorkerMetrics::requests`].
    pub requests: u64,
    /// See [`WorkerMetrics::denied`].
    pub denied: u64,
    /// See [`WorkerMetrics::expired`].
    pub expired: u64,
    /// See [`WorkerMetrics::delivered`].
    pub delivered: u64,
    /// See [`WorkerMetrics::bytes_sent`].
    pub bytes_sent: u64,
    /// See [`WorkerMetrics::gaps`].
    pub gaps: u64,
    /// See [`WorkerMetrics::stalled`].
    pub stalled: u64,
}

impl Metrics {
    /// Counters for so many workers.
    pub fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| WorkerMetrics::default()).collect() }
    }

    /// One worker's.
    pub fn worker(&self, worker: usize) -> &WorkerMetrics {
        &self.workers[worker]
    }

    /// The sums over all workers.
    pub fn totals(&self) -> Totals {
        let sum =
            |counter: fn(&WorkerMetrics) -> &Counter| self.workers.iter().map(|worker| counter(worker).get()).sum();
        Totals {
            accepted: sum(|worker| &worker.accepted),
            connections: sum(|worker| &worker.connections),
            requests: sum(|worker| &worker.requests),
            denied: sum(|worker| &worker.denied),
            expired: sum(|worker| &worker.expired),
            delivered: sum(|worker| &worker.delivered),
            bytes_sent: sum(|worker| &worker.bytes_sent),
            gaps: sum(|worker| &worker.gaps),
            stalled: sum(|worker| &worker.stalled),
        }
    }
}
