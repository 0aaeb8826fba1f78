//! A crowd of subscribers, more than one loop iteration may serve. They connect at once, read everything, and stay until the
//! broker shuts down in the middle of a fan-out. The simulated network checks that loop iterations stay bounded.

use std::collections::BTreeSet;

use super::requester::Requester;
use super::world::{TOPICS, World, trace};

/// More subscribers than a loop iteration may write to.
const SIZE: usize = 1_800;
/// The step in which they connect.
const STEP: usize = 60;

impl World {
    pub(super) fn play_crowd(&mut self) {
        if !self.scenario.has_crowd || self.oracle.step != STEP {
            return;
        }
        trace(self.oracle.step, "a crowd connects");
        self.heal();
        // The oracle follows the first subscriber, which is served last.
        self.subscribe_to(BTreeSet::from([0]), false, None, true);
        self.run_until_idle();
        // So that the oracle knows that what follows was sent after the subscription.
        self.oracle.step += 1;
        self.connect_crowd();
        self.run_until_idle();
        self.publish_to_all();
        self.run_until_idle();
        self.publish_to_all();
        self.shut_down();
        self.start_again();
    }

    fn connect_crowd(&mut self) {
        let mut net = self.net.get();
        let request =
            format!("GET /subscribe/{} HTTP/1.1\r\nHost: h\r\n{}\r\n", TOPICS[0], self.scenario.subscriber_auth);
        for _ in 0..SIZE {
            let pipe = net.connect(None);
            net.send(pipe, request.as_bytes());
            net.deliver(pipe, usize::MAX);
            self.crowd.push(pipe);
        }
    }

    /// Publishes, and runs the one loop iteration that accepts the event and cannot serve all subscribers.
    fn publish_to_all(&mut self) {
        let pipe = self.net.get().connect(None);
        let mut requester = Requester::new(pipe, false);
        let request = requester.publish(0, &mut self.rng, &mut self.oracle, &self.scenario);
        self.requesters.push(requester);
        self.net.get().send(pipe, request.as_bytes());
        self.net.get().deliver(pipe, usize::MAX);
        self.iterate(0);
    }
}
