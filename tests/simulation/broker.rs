//! Starts the simulated broker and runs its loop iterations. A worker runs one when its poll would return, and sometimes
//! without that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker::internals::sim;
use esker::internals::store::{Health, Tuning};

use super::net::SimKernel;
use super::world::{World, trace};

impl World {
    /// Starts a broker, unless one runs.
    pub(super) fn start(&mut self) {
        if self.broker.is_some() {
            return;
        }
        let (kernels, listener) = self.net.restart(self.scenario.workers);
        self.watches = kernels.iter().map(SimKernel::watch).collect();
        self.due = vec![Some(0); kernels.len()];
        let mut tuning = Tuning::default();
        (tuning.max_unindexed, tuning.index_slice, tuning.wal_growth) = (self.rng.usize(1..8), 2, 40 << 10);
        (tuning.prune_slice, tuning.free_pages) = (4, 2);
        (tuning.wal_limit, tuning.full_disk_retry) = (200 << 10, Duration::from_millis(300));
        // The workers, which make room, do not run in the meantime.
        tuning.reserve_attempts = 3;
        let (place, crashes) = (self.storage.place(), self.storage.crashes());
        let env = sim::Env {
            location: &place,
            tuning,
            clock: Arc::clone(&self.dial),
            reactors: kernels,
            listener,
            history: self.history.take(),
            engine: None,
        };
        let started = sim::Broker::start(&self.config, env);
        (self.oracle.boot, self.oracle.boot_covered) = (self.oracle.boot + 1, self.oracle.covered);
        self.oracle.boot_newest = self.oracle.newest;
        if self.storage.crashes() > crashes {
            drop(started);
            return self.start();
        }
        trace(self.oracle.step, &format!("start {}: {:?}", self.oracle.boot, started.as_ref().err()));
        self.oracle.has_failed = false;
        match started {
            Ok(broker) => {
                if broker.continues_history() {
                    self.totals.continued += 1;
                } else {
                    self.oracle.history = self.oracle.boot;
                }
                self.broker = Some(broker);
            }
            Err(error) => {
                // A lying disk has lost what a start needs: replace it.
                assert!(self.storage.may_refuse(), "it does not start: {error}");
                self.storage.replace();
                self.oracle.doubt_everything();
                self.oracle.is_damaged = false;
                self.start();
            }
        }
    }

    /// Runs an iteration of each worker that would wake. Returns whether there were any.
    pub(super) fn iterate_all(&mut self) -> bool {
        let waking: Vec<_> = (0..self.scenario.workers).filter(|&worker| self.would_wake(worker)).collect();
        waking.iter().for_each(|&worker| self.iterate(worker));
        !waking.is_empty()
    }

    pub(super) fn would_wake(&self, worker: usize) -> bool {
        let is_due = self.due[worker].is_some_and(|due| due <= self.millis());
        !self.has_ended(worker) && (is_due || self.watches[worker].would_wake())
    }

    pub(super) fn has_ended(&self, worker: usize) -> bool {
        self.broker.as_ref().is_none_or(|broker| broker.has_ended(worker))
    }

    pub(super) fn iterate_some(&mut self) {
        let worker = self.rng.usize(0..self.scenario.workers);
        if self.would_wake(worker) || self.rng.u8(0..20) == 0 {
            self.iterate(worker);
        }
    }

    pub(super) fn iterate(&mut self, worker: usize) {
        let Some(broker) = &mut self.broker else { return };
        broker.step(worker);
        let millis = self.dial.elapsed_micros.load(Ordering::Relaxed) / 1000;
        self.due[worker] = broker.timeout(worker).map(|timeout| millis + timeout);
    }

    pub(super) fn turn_store(&mut self) {
        let crashes = self.storage.crashes();
        if let Some(broker) = &mut self.broker {
            broker.step_store();
        }
        match self.health() {
            Some(Health::Ready) => self.oracle.covered = self.oracle.newest,
            Some(Health::Failed { .. }) => self.oracle.has_failed = true,
            _ => {}
        }
        if self.scenario.has_lying_disk && self.has_store_failed() {
            self.oracle.doubt_records();
        }
        // Power was lost during the iteration: nothing that the broker wrote since has been received.
        if self.storage.crashes() > crashes {
            self.lose_power();
            self.start_again();
        }
    }

    fn health(&self) -> Option<Health> {
        Some(self.broker.as_ref()?.store()?.status().health)
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
