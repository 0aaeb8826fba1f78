//! So many listeners that no turn may serve them all: they come at once, read everything and say nothing, until the broker
//! is shut. Whether turns stay bounded is seen by the net.

use std::collections::BTreeSet;

use super::asker::Asker;
use super::world::{TOPICS, World, tell};

/// More than a turn may write to.
const HEADS: usize = 1_800;
/// The steps in which they come and go.
const COMES: usize = 60;
const GOES: usize = 120;

impl World {
    pub(super) fn throng(&mut self) {
        match self.truth.step {
            COMES if self.traits.is_thronged => self.throng_comes(),
            GOES if self.traits.is_thronged => self.throng_goes(),
            _ => {}
        }
    }

    fn throng_comes(&mut self) {
        tell(self.truth.step, "a throng comes");
        // One of it is listened to.
        self.listen_to(BTreeSet::from([0]), false, None, true);
        self.deliver_all();
        let mut net = self.net.get();
        let request = format!("GET /subscribe/{} HTTP/1.1\r\nHost: h\r\n{}\r\n", TOPICS[0], self.traits.subscriber);
        for _ in 0..HEADS {
            let pipe = net.connect(None);
            net.send(pipe, request.as_bytes());
            net.deliver(pipe, usize::MAX);
            self.thronging.push(pipe);
        }
    }

    /// The broker drains in the midst of a fan-out that takes several turns.
    fn throng_goes(&mut self) {
        let pipe = self.net.get().connect(None);
        let mut asker = Asker::new(pipe, false);
        let request = asker.publish(0, &mut self.rng, &mut self.truth, &self.traits);
        self.askers.push(asker);
        self.net.get().send(pipe, request.as_bytes());
        self.net.get().deliver(pipe, usize::MAX);
        self.turn(0);
        self.shut();
        self.start_anew();
    }
}
