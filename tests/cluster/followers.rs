//! Many subscribers on one poll, in a thread of their own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::balancer::Targets;
use super::follower::Follower;
use super::ledger::{Marker, TOPICS};
use super::{PATIENCE, wait_until};

/// Running subscribers.
pub struct Followers {
    shared: Arc<Shared>,
    thread: JoinHandle<Vec<Follower>>,
}

struct Shared {
    targets: Arc<Targets>,
    /// Each subscriber's streams.
    openings: Vec<AtomicUsize>,
    /// Each subscriber's heartbeats.
    heartbeats: Vec<AtomicUsize>,
    /// Each subscriber's gaps.
    gaps: Vec<AtomicUsize>,
    /// Each subscriber's events.
    events: Vec<AtomicUsize>,
    primed: AtomicUsize,
    /// The events after which the subscribers stop.
    finals: Mutex<Vec<Marker>>,
    is_over: AtomicBool,
}

impl Followers {
    /// Subscribes this many times at any of the targets: every third to all topics, the others to one. Each has its position
    /// when this returns.
    pub fn start(count: usize, targets: &Arc<Targets>) -> Self {
        let counters = || (0..count).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
        let shared = Arc::new(Shared {
            targets: Arc::clone(targets),
            openings: counters(),
            heartbeats: counters(),
            gaps: counters(),
            events: counters(),
            primed: AtomicUsize::new(0),
            finals: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || own.follow());
        let followers = Self { shared, thread };
        wait_until("subscribed", || {
            followers.assert_running();
            followers.shared.primed.load(Ordering::SeqCst) >= count
        });
        followers
    }

    pub fn assert_running(&self) {
        assert!(!self.thread.is_finished(), "the subscribers failed");
    }

    /// Waits until each subscriber has opened this many more streams.
    pub fn await_openings(&self, more: usize) {
        self.await_more("reconnected", more, |shared, index| shared.openings[index].load(Ordering::SeqCst));
    }

    /// Waits until each subscriber has received this many more heartbeats.
    pub fn await_heartbeats(&self, more: usize) {
        self.await_more("heartbeats", more, |shared, index| shared.heartbeats[index].load(Ordering::SeqCst));
    }

    /// Waits until each subscriber has received this many more events.
    pub fn await_events(&self, more: usize) {
        self.await_more("events", more, |shared, index| shared.events[index].load(Ordering::SeqCst));
    }

    /// Waits until each subscriber has received this many more events or heartbeats.
    pub fn await_life(&self, more: usize) {
        self.await_more("events or heartbeats", more, |shared, index| {
            shared.events[index].load(Ordering::SeqCst) + shared.heartbeats[index].load(Ordering::SeqCst)
        });
    }

    /// Waits until each subscriber has been told a gap.
    pub fn await_gaps(&self) {
        wait_until("told a gap", || {
            self.assert_running();
            self.shared.gaps.iter().all(|gaps| gaps.load(Ordering::SeqCst) > 0)
        });
    }

    fn await_more(&self, what: &str, more: usize, count: impl Fn(&Shared, usize) -> usize) {
        let counts = || (0..self.shared.events.len()).map(|index| count(&self.shared, index));
        let before: Vec<usize> = counts().collect();
        wait_until(what, || {
            self.assert_running();
            counts().zip(&before).all(|(count, before)| count >= before + more)
        });
    }

    /// Waits until each subscriber has received these events of its topics, and returns the subscribers.
    pub fn finish(self, finals: &[Marker]) -> Vec<Follower> {
        *self.shared.finals.lock().expect("no thread panicked while holding the lock") = finals.to_vec();
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Shared {
    fn follow(&self) -> Vec<Follower> {
        let mut poll = Poll::new().expect("a poll can be made");
        let (mut events, mut scratch) = (Events::with_capacity(1024), vec![0; 64 << 10]);
        let mut followers: Vec<Follower> = (0..self.events.len()).map(|index| Follower::new(topics(index))).collect();
        let mut over_since = None;
        while !self.is_finished(&followers, &mut over_since) {
            for (index, follower) in followers.iter_mut().enumerate() {
                follower.connect(poll.registry(), Token(index), || self.targets.next());
            }
            poll.poll(&mut events, Some(Duration::from_millis(10))).expect("the poll works");
            for event in &events {
                let Token(index) = event.token();
                self.read(index, &mut followers[index], &mut scratch);
            }
        }
        followers
    }

    fn read(&self, index: usize, follower: &mut Follower, scratch: &mut [u8]) {
        let news = follower.read(scratch);
        self.openings[index].fetch_add(news.openings, Ordering::SeqCst);
        self.events[index].fetch_add(news.events, Ordering::SeqCst);
        self.heartbeats[index].fetch_add(news.heartbeats, Ordering::SeqCst);
        self.gaps[index].fetch_add(news.gaps, Ordering::SeqCst);
        self.primed.fetch_add(usize::from(news.is_primed), Ordering::SeqCst);
    }

    fn is_finished(&self, followers: &[Follower], over_since: &mut Option<Instant>) -> bool {
        if !self.is_over.load(Ordering::SeqCst) {
            return false;
        }
        let finals = self.finals.lock().expect("no thread panicked while holding the lock").clone();
        let late = followers.iter().filter(|follower| !follower.has_all(&finals)).count();
        let since = over_since.get_or_insert_with(Instant::now);
        assert!(since.elapsed() < PATIENCE, "{late} of {} subscribers never get the last events", followers.len());
        late == 0
    }
}

fn topics(index: usize) -> Vec<usize> {
    if index.is_multiple_of(3) { (0..TOPICS.len()).collect() } else { vec![index % TOPICS.len()] }
}
