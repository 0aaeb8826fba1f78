//! A crowd of subscribers that read everything immediately, on a thread of their own, with a publisher that never pauses.
//! Whatever happens to the broker, each of them must get every event, in order and without a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::publisher::{Ledger, Publisher};
use super::support::{Broker, Crowd, TIMEOUT};

/// Their topic.
const TOPIC: &str = "fasttopic1";

/// A running crowd of fast subscribers.
pub struct FastSubscribers {
    is_over: Arc<AtomicBool>,
    /// Events that all subscribers have received.
    served: Arc<AtomicUsize>,
    thread: JoinHandle<usize>,
}

impl FastSubscribers {
    /// Starts this many subscribers; all have joined when this returns.
    pub fn start(broker: &Broker, count: usize) -> Self {
        let (address, is_over, served) = (broker.address, Arc::default(), Arc::default());
        let (over, served_so_far): (Arc<AtomicBool>, Arc<AtomicUsize>) = (Arc::clone(&is_over), Arc::clone(&served));
        let mut crowd = Crowd::new();
        crowd.join(address, count, |_| format!("/subscribe/{TOPIC}"));
        let thread = thread::spawn(move || {
            let ledger = Ledger::new();
            let mut publisher = Publisher::new(address, TOPIC, &ledger);
            while !over.load(SeqCst) {
                // Refused events were not delivered, so their numbers can be used again.
                publisher.publish(&ledger.accepted().to_string());
                crowd.read_for(Duration::from_millis(5));
                assert_eq!(ledger.entries().unknown, 0, "the publisher's connection broke");
                let fewest = crowd.all().iter().map(|member| member.received).min();
                served_so_far.store(fewest.unwrap_or(0), SeqCst);
            }
            let accepted = ledger.accepted();
            crowd.read_until("served", |crowd| crowd.all().iter().all(|member| member.received == accepted));
            assert!(
                crowd.all().iter().all(|member| member.gaps == 0 && !member.is_closed),
                "a fast subscriber fell behind"
            );
            accepted
        });
        Self { is_over, served, thread }
    }

    /// Waits until all have received this many more events.
    pub fn await_more(&self, count: usize) {
        let wanted = self.served.load(SeqCst) + count;
        let begin = std::time::Instant::now();
        while self.served.load(SeqCst) < wanted {
            assert!(begin.elapsed() < TIMEOUT && !self.thread.is_finished(), "fast subscribers are not served");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the publisher, and returns the number of events that each subscriber got: all that were accepted.
    pub fn finish(self) -> usize {
        self.is_over.store(true, SeqCst);
        self.thread.join().expect("fast subscribers are served")
    }
}
