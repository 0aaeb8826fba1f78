//! What the publishers of a test were answered. Each event has a number of its own, its marker, which says its topic and
//! whether it has an id of the publisher.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The topics of a test.
pub const TOPICS: [&str; 4] = ["topiczero0", "topicone11", "topictwo22", "topicthree"];

/// The number of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker(pub u64);

impl Marker {
    /// Returns the index of its topic.
    pub fn topic(self) -> usize {
        usize::try_from(self.0).expect("it is small") % TOPICS.len()
    }

    /// Returns its data.
    pub fn data(self) -> String {
        format!("marker {}", self.0)
    }

    /// Parses the data.
    pub fn parse(data: &str) -> Self {
        let number = data.strip_prefix("marker ").and_then(|number| number.parse().ok());
        Self(number.unwrap_or_else(|| panic!("{data:?} was never published")))
    }

    /// Returns the publisher's id.
    pub fn own_id(self) -> String {
        format!("own-{}", self.0)
    }
}

/// What became of the events.
#[derive(Default)]
pub struct Ledger {
    next: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
pub struct Entries {
    /// Acknowledged events and their ids.
    pub accepted: HashMap<Marker, u64>,
    /// Events that were refused, and were never sent otherwise.
    pub refused: HashSet<Marker>,
    /// Events whose connection broke, or whose outcome the broker did not know, and which were not repeated.
    pub unknown: HashSet<Marker>,
    /// Answers with status 504.
    pub timeouts: usize,
    /// Repetitions that the brokers recognized.
    pub duplicates: usize,
    /// The detail of the last refusal.
    pub refusal: String,
}

impl Ledger {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns an unused marker for this topic.
    pub fn marker(&self, topic: usize) -> Marker {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Marker(number * TOPICS.len() as u64 + topic as u64)
    }

    pub fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("no thread panicked while holding the lock")
    }

    pub fn accepted(&self) -> usize {
        self.entries().accepted.len()
    }

    pub fn refused(&self) -> usize {
        self.entries().refused.len()
    }

    /// Returns the largest id that was acknowledged.
    pub fn newest(&self) -> u64 {
        self.entries().accepted.values().max().copied().expect("something was acknowledged")
    }
}
