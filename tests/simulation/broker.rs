//! The broker under simulation: its starts and its turns. A worker has one when its poll would return; now and then without.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker::stepped::{Ground, Stepped};
use esker::store::{Health, Tuning};

use super::net::SimKernel;
use super::world::{World, tell};

impl World {
    /// Starts one, unless one runs.
    pub(super) fn start(&mut self) {
        if self.broker.is_some() {
            return;
        }
        let (kernels, listener) = self.net.restart(self.traits.workers);
        self.watches = kernels.iter().map(SimKernel::watch).collect();
        self.due = vec![Some(0); kernels.len()];
        let mut tuning = Tuning::default();
        (tuning.unindexed, tuning.slice, tuning.log_growth) = (self.rng.usize(1..8), 2, 40 << 10);
        (tuning.log_bound, tuning.retry) = (200 << 10, Duration::from_millis(300));
        // The workers, which make room, have no turn meanwhile.
        tuning.reserve_tries = 3;
        let (place, crashes) = (self.storage.place(), self.storage.crashes());
        let ground = Ground { place: &place, tuning, dial: Arc::clone(&self.dial), kernels, listener };
        let started = Stepped::start(&self.config, ground);
        (self.truth.boot, self.truth.boot_covered) = (self.truth.boot + 1, self.truth.covered);
        self.truth.boot_newest = self.truth.newest;
        if self.storage.crashes() > crashes {
            drop(started);
            return self.start();
        }
        tell(self.truth.step, &format!("start {}: {:?}", self.truth.boot, started.as_ref().err()));
        self.truth.has_failed = false;
        match started {
            Ok(broker) => self.broker = Some(broker),
            Err(error) => {
                // A disk that lied has nothing to start from: there is another one.
                assert!(self.storage.may_refuse(), "it does not start: {error}");
                self.storage.replace();
                self.truth.doubt_everything();
                self.truth.is_damaged = false;
                self.start();
            }
        }
    }

    /// Those that would wake have a turn. Whether there were any.
    pub(super) fn turn_all(&mut self) -> bool {
        let waking: Vec<_> = (0..self.traits.workers).filter(|&worker| self.would_wake(worker)).collect();
        waking.iter().for_each(|&worker| self.turn(worker));
        !waking.is_empty()
    }

    pub(super) fn would_wake(&self, worker: usize) -> bool {
        let is_due = self.due[worker].is_some_and(|due| due <= self.millis());
        !self.has_ended(worker) && (is_due || self.watches[worker].would_wake())
    }

    pub(super) fn has_ended(&self, worker: usize) -> bool {
        self.broker.as_ref().is_none_or(|broker| broker.has_ended(worker))
    }

    pub(super) fn turn_some(&mut self) {
        let worker = self.rng.usize(0..self.traits.workers);
        if self.would_wake(worker) || self.rng.u8(0..20) == 0 {
            self.turn(worker);
        }
    }

    pub(super) fn turn(&mut self, worker: usize) {
        let Some(broker) = &mut self.broker else { return };
        broker.turn(worker);
        let millis = self.dial.elapsed_micros.load(Ordering::Relaxed) / 1000;
        self.due[worker] = broker.patience(worker).map(|patience| millis + patience);
    }

    pub(super) fn turn_store(&mut self) {
        let crashes = self.storage.crashes();
        if let Some(broker) = &mut self.broker {
            broker.turn_store();
        }
        match self.health() {
            Some(Health::Ready) => self.truth.covered = self.truth.newest,
            Some(Health::Failed { .. }) => self.truth.has_failed = true,
            _ => {}
        }
        if self.traits.has_lying_disk && self.has_store_failed() {
            self.truth.doubt_records();
        }
        // Power was lost in the midst of it: whatever it said since then nobody has heard.
        if self.storage.crashes() > crashes {
            self.lose_power();
            self.start_anew();
        }
    }

    fn health(&self) -> Option<Health> {
        Some(self.broker.as_ref()?.store().status().health)
    }

    pub(super) fn has_store_failed(&self) -> bool {
        matches!(self.health(), Some(Health::Failed { .. }))
    }

    pub(super) fn millis(&self) -> u64 {
        self.dial.elapsed_micros.load(Ordering::Relaxed) / 1000
    }

    pub(super) fn second(&self) -> u64 {
        self.dial.unix_micros.load(Ordering::Relaxed) / 1_000_000
    }
}
