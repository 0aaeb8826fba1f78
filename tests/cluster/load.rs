//! Publishers through a balancer, and subscribers at all its brokers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::balancer::Targets;
use super::cluster::Cluster;
use super::followers::Followers;
use super::ledger::{Ledger, Marker, TOPICS};
use super::oracle::{Gaps, Verdict, judge};
use super::publishers::{Publisher, Publishers};
use super::wait_until;

/// The pause of a publisher between its publishes: all subscribers together must be able to read all events.
const PAUSE: Duration = Duration::from_millis(40);

/// A load on a cluster.
pub struct Load {
    pub ledger: Arc<Ledger>,
    pub followers: Followers,
    publishers: Publishers,
}

impl Load {
    /// Starts this many subscribers, then this many publishers.
    pub fn start(cluster: &Cluster, publishers: usize, followers: usize) -> Self {
        Self::start_with(cluster, &Ledger::new(), (publishers, PAUSE), followers)
    }

    /// Starts a load with a ledger, and another pause of each publisher.
    pub fn start_with(
        cluster: &Cluster,
        ledger: &Arc<Ledger>,
        (publishers, pause): (usize, Duration),
        followers: usize,
    ) -> Self {
        let followers = Followers::start(followers, cluster.targets());
        let publishers = Publishers::start(publishers, pause, cluster.balancer.address, ledger);
        Self { ledger: Arc::clone(ledger), followers, publishers }
    }

    /// Starts a load through a proxy.
    pub fn start_through(
        proxy: SocketAddr,
        ledger: &Arc<Ledger>,
        (publishers, pause): (usize, Duration),
        followers: usize,
    ) -> Self {
        let followers = Followers::start(followers, &Targets::new(&[proxy]));
        let publishers = Publishers::start(publishers, pause, proxy, ledger);
        Self { ledger: Arc::clone(ledger), followers, publishers }
    }

    /// Waits until this many more events are acknowledged.
    pub fn await_accepted(&self, more: usize) {
        let before = self.ledger.accepted();
        wait_until("acknowledged again", || self.ledger.accepted() >= before + more);
    }

    /// Waits until this many more events are refused.
    pub fn await_refused(&self, more: usize) {
        let before = self.ledger.refused();
        wait_until("refused", || self.ledger.refused() >= before + more);
    }

    /// Stops the publishers. The subscribers go on.
    pub fn stop(self) -> Followers {
        self.publishers.stop();
        self.followers
    }

    /// Stops the publishers, publishes a last event in each topic, waits until the subscribers have them, and judges.
    pub fn judge(self, cluster: &Cluster, gaps: Gaps) -> Verdict {
        let ledger = Arc::clone(&self.ledger);
        let followers = self.stop();
        let finals = publish_finals(cluster, &ledger);
        judge(&ledger, &followers.finish(&finals), gaps)
    }
}

/// Publishes an event in each topic, until it is acknowledged.
pub fn publish_finals(cluster: &Cluster, ledger: &Arc<Ledger>) -> Vec<Marker> {
    let mut publisher = Publisher::new(cluster.balancer.address, ledger);
    let publish = |topic: usize| {
        let mut last = None;
        wait_until("accepted", || {
            last = publisher.publish(topic);
            last.is_some()
        });
        last.expect("it was accepted")
    };
    (0..TOPICS.len()).map(publish).collect()
}
