//! What happens around the broker: bytes arrive in pieces, readers are slow, connections break, time passes, the clock is set,
//! and descriptors and the disk fail.

use std::sync::atomic::Ordering;

use super::world::{World, trace};

impl World {
    pub(super) fn pipes(&self) -> Vec<usize> {
        let requesters = self.requesters.iter().map(|requester| requester.pipe);
        requesters.chain(self.subscribers.iter().map(|subscriber| subscriber.pipe)).collect()
    }

    pub(super) fn pick_pipe(&mut self) -> Option<usize> {
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
            if let Some(pipe) = self.pick_pipe() {
                let bytes = self.rng.usize(0..3000);
                self.net.get().give_room(pipe, Some(bytes));
            }
        }
    }

    pub(super) fn pass_time(&mut self) {
        let most = [1_000, 50_000, 1_000_000, 20_000_000][self.rng.usize(0..4)];
        self.dial.advance(self.rng.u64(1..most));
    }

    /// An operator or a time server sets the clock.
    pub(super) fn step_clock(&mut self) {
        let micros = self.rng.u64(0..7_200_000_000);
        let now = self.dial.unix_micros.load(Ordering::Relaxed);
        let jumped = if self.rng.bool() { now + micros } else { now - micros };
        self.dial.unix_micros.store(jumped, Ordering::Relaxed);
        trace(self.oracle.step, &format!("the clock jumps from {now} to {jumped}"));
    }

    pub(super) fn break_connection(&mut self) {
        let Some(pipe) = self.pick_pipe() else { return };
        self.subscribers
            .iter_mut()
            .filter(|subscriber| subscriber.pipe == pipe)
            .for_each(|subscriber| subscriber.was_broken = true);
        match self.rng.bool() {
            true => self.net.get().reset(pipe),
            false => self.net.get().half_close(pipe),
        }
        self.remove_closed();
    }

    /// Descriptors run out, or the disk gets a fault.
    pub(super) fn inject_fault(&mut self) {
        const EMFILE: i32 = 24;
        match self.rng.u8(0..4) {
            0 => self.net.get().accept_fault = Some(EMFILE),
            _ if self.scenario.has_disk_faults => {
                let fault = self.storage.inject_fault(&mut self.rng);
                trace(self.oracle.step, &fault);
            }
            _ => {}
        }
    }
}
