//! What happens to everybody: bytes that come in pieces, readers that take their time, broken connections, time, and troubles of
//! clock, descriptors and disk.

use std::sync::atomic::Ordering;

use super::world::{World, tell};

impl World {
    pub(super) fn pipes(&self) -> Vec<usize> {
        let askers = self.askers.iter().map(|asker| asker.pipe);
        askers.chain(self.listeners.iter().map(|listener| listener.pipe)).collect()
    }

    pub(super) fn pick(&mut self) -> Option<usize> {
        let pipes = self.pipes();
        (!pipes.is_empty()).then(|| pipes[self.rng.usize(0..pipes.len())])
    }

    pub(super) fn deliver(&mut self) {
        for pipe in self.pipes() {
            let bytes = match self.rng.u8(0..4) {
                0 => self.rng.usize(0..40),
                1 => 0,
                _ => usize::MAX,
            };
            self.net.get().deliver(pipe, bytes);
        }
    }

    pub(super) fn deliver_all(&self) {
        self.pipes().into_iter().for_each(|pipe| self.net.get().deliver(pipe, usize::MAX));
    }

    pub(super) fn read_some(&mut self) {
        for _ in 0..3 {
            if let Some(pipe) = self.pick() {
                let bytes = self.rng.usize(0..3000);
                self.net.get().give_room(pipe, Some(bytes));
            }
        }
    }

    pub(super) fn pass_time(&mut self) {
        let most = [1_000, 50_000, 1_000_000, 20_000_000][self.rng.usize(0..4)];
        self.dial.advance(self.rng.u64(1..most));
    }

    /// An operator or another machine sets the clock.
    pub(super) fn jump(&mut self) {
        let micros = self.rng.u64(0..7_200_000_000);
        let now = self.dial.unix_micros.load(Ordering::Relaxed);
        let jumped = if self.rng.bool() { now + micros } else { now - micros };
        self.dial.unix_micros.store(jumped, Ordering::Relaxed);
        tell(self.truth.step, &format!("the clock jumps from {now} to {jumped}"));
    }

    pub(super) fn break_some(&mut self) {
        let Some(pipe) = self.pick() else { return };
        self.listeners
            .iter_mut()
            .filter(|listener| listener.pipe == pipe)
            .for_each(|listener| listener.was_broken = true);
        match self.rng.bool() {
            true => self.net.get().reset(pipe),
            false => self.net.get().half_close(pipe),
        }
        self.forget();
    }

    /// Descriptors run out, the disk has its troubles, or they pass.
    pub(super) fn trouble(&mut self) {
        const EMFILE: i32 = 24;
        match self.rng.u8(0..4) {
            0 => self.net.get().accept_fault = Some(EMFILE),
            _ if self.traits.has_disk_faults => {
                let trouble = self.storage.trouble(&mut self.rng);
                tell(self.truth.step, &trouble);
            }
            _ => {}
        }
    }
}
