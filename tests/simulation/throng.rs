//! So many listeners that no turn may serve them all: they come at once, read everything and say nothing, until the broker is
//! shut in the midst of a fan-out. Whether turns stay bounded is seen by the net.

use std::collections::BTreeSet;

use super::asker::Asker;
use super::world::{TOPICS, World, tell};

/// More than a turn may write to.
const HEADS: usize = 1_800;
/// The step in which they come.
const COMES: usize = 60;

impl World {
    pub(super) fn throng(&mut self) {
        if !self.traits.is_thronged || self.truth.step != COMES {
            return;
        }
        tell(self.truth.step, "a throng comes");
        self.heal();
        // The first of it is listened to, and served last.
        self.listen_to(BTreeSet::from([0]), false, None, true);
        self.come_to_rest();
        // What follows is sent after it was let in.
        self.truth.step += 1;
        self.gather();
        self.come_to_rest();
        self.publish_to_all();
        self.come_to_rest();
        self.publish_to_all();
        self.shut();
        self.start_anew();
    }

    fn gather(&mut self) {
        let mut net = self.net.get();
        let request = format!("GET /subscribe/{} HTTP/1.1\r\nHost: h\r\n{}\r\n", TOPICS[0], self.traits.subscriber);
        for _ in 0..HEADS {
            let pipe = net.connect(None);
            net.send(pipe, request.as_bytes());
            net.deliver(pipe, usize::MAX);
            self.thronging.push(pipe);
        }
    }

    /// It is accepted in the turn after which they have not all been served.
    fn publish_to_all(&mut self) {
        let pipe = self.net.get().connect(None);
        let mut asker = Asker::new(pipe, false);
        let request = asker.publish(0, &mut self.rng, &mut self.truth, &self.traits);
        self.askers.push(asker);
        self.net.get().send(pipe, request.as_bytes());
        self.net.get().deliver(pipe, usize::MAX);
        self.turn(0);
    }
}
