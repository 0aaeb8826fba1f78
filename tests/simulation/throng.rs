//! So many listeners that no turn may serve them all: they come at once, read everything and say nothing, and are gone some
//! time later. Whether turns stay bounded is seen by the net.

use super::world::{TOPICS, World, tell};

/// More than a turn may write to.
const HEADS: usize = 1_800;
/// The steps in which they come and go.
const COMES: usize = 60;
const GOES: usize = 260;

impl World {
    pub(super) fn throng(&mut self) {
        match self.truth.step {
            COMES if self.traits.is_thronged => self.throng_comes(),
            GOES => self.throng_goes(),
            _ => {}
        }
    }

    fn throng_comes(&mut self) {
        tell(self.truth.step, "a throng comes");
        let mut net = self.net.get();
        let request = format!("GET /subscribe/{} HTTP/1.1\r\nHost: h\r\n{}\r\n", TOPICS[0], self.traits.subscriber);
        for _ in 0..HEADS {
            let pipe = net.connect(None);
            net.send(pipe, request.as_bytes());
            net.deliver(pipe, usize::MAX);
            self.thronging.push(pipe);
        }
    }

    fn throng_goes(&mut self) {
        let mut net = self.net.get();
        self.thronging.drain(..).for_each(|pipe| net.reset(pipe));
    }
}
