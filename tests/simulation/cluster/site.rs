//! Where a broker runs: its network, its clock, and its loop iterations. Independent of what clients do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use esker::Config;
use esker::internals::engine::sim::SimLog;
use esker::internals::engine::{Health, Status};
use esker::internals::sim::{Broker, EngineEnv, Env, ManualClock, ManualEngine};
use esker::internals::store::{Location, Tuning};

use super::super::net::{Shared, SimKernel, Watch};

pub const WORKERS: usize = 2;
/// The maximum number of the tail's steps without a pause.
const TAIL_STEPS: usize = 12;

/// The maximum number of the reader's steps without a pause.
const READER_STEPS: usize = 8;

/// The place of one broker after another.
pub struct Site {
    pub net: Shared,
    pub clock: Arc<ManualClock>,
    /// The number of the broker that runs, or ran last. No other broker ever has it.
    pub serial: u64,
    broker: Option<Broker<SimKernel>>,
    watches: Vec<Watch>,
    /// When each worker is due for its next loop iteration, in milliseconds.
    due: Vec<Option<u64>>,
    pub is_draining: bool,
    is_closed: bool,
}

impl Site {
    pub fn new(unix_micros: u64) -> Self {
        let clock = ManualClock::default();
        clock.unix_micros.store(unix_micros, Ordering::Relaxed);
        Self {
            net: Shared::default(),
            clock: Arc::new(clock),
            serial: 0,
            broker: None,
            watches: Vec::new(),
            due: Vec::new(),
            is_draining: false,
            is_closed: false,
        }
    }

    /// Starts a broker. It does not start while it can't catch up with the log.
    pub fn start(&mut self, serial: u64, log: &SimLog, config: &Config) {
        let (kernels, listener) = self.net.restart(WORKERS);
        self.watches = kernels.iter().map(SimKernel::watch).collect();
        self.due = vec![Some(0); kernels.len()];
        let env = Env {
            location: &Location::Memory,
            tuning: Tuning::default(),
            clock: Arc::clone(&self.clock),
            reactors: kernels,
            listener,
            history: None,
            engine: Some(EngineEnv { log: log.clone(), broker: serial }),
        };
        self.serial = serial;
        (self.is_draining, self.is_closed) = (false, false);
        self.broker = Broker::start(config, env).ok();
    }

    pub fn kill(&mut self) {
        self.broker = None;
        drop(self.net.restart(WORKERS));
    }

    pub fn is_running(&self) -> bool {
        self.broker.is_some()
    }

    /// Returns whether clients are sent here.
    pub fn is_open(&self) -> bool {
        self.is_running() && !self.is_draining
    }

    pub fn drain(&mut self) {
        if let Some(broker) = &mut self.broker {
            broker.drain();
            self.is_draining = true;
        }
    }

    /// Goes on with a drain, if there is one. The engine ends after the workers.
    fn advance_drain(&mut self) {
        let Some(broker) = self.broker.as_mut().filter(|_| self.is_draining) else { return };
        if !(0..WORKERS).all(|worker| broker.has_ended(worker)) {
            return;
        }
        let Some(engine) = broker.engine() else { return };
        if !std::mem::replace(&mut self.is_closed, true) {
            engine.close();
        } else if engine.is_over()
            && let Some(broker) = self.broker.take()
        {
            broker.close();
            drop(self.net.restart(WORKERS));
        }
    }

    /// Runs an iteration of each worker that would wake. Returns whether there were any.
    pub fn iterate_all(&mut self) -> bool {
        let waking: Vec<_> = (0..WORKERS).filter(|&worker| self.would_wake(worker)).collect();
        waking.iter().for_each(|&worker| self.iterate(worker));
        !waking.is_empty()
    }

    fn would_wake(&self, worker: usize) -> bool {
        let Some(broker) = self.broker.as_ref().filter(|broker| !broker.has_ended(worker)) else { return false };
        let _ = broker;
        let is_due = self.due[worker].is_some_and(|due| due <= self.millis());
        is_due || self.watches[worker].would_wake()
    }

    /// Runs an iteration of a worker if it would wake.
    pub fn iterate_if_awake(&mut self, worker: usize) {
        if self.would_wake(worker) {
            self.iterate(worker);
        }
    }

    fn iterate(&mut self, worker: usize) {
        let millis = self.millis();
        let Some(broker) = &mut self.broker else { return };
        broker.step(worker);
        self.due[worker] = broker.timeout(worker).map(|timeout| millis + timeout);
    }

    fn engine(&mut self) -> Option<&mut ManualEngine> {
        self.broker.as_mut()?.engine()
    }

    pub fn step_appender(&mut self) {
        if let Some(engine) = self.engine() {
            engine.step_appender();
        }
        self.advance_drain();
    }

    pub fn step_tail(&mut self) {
        if let Some(engine) = self.engine() {
            engine.step_tail();
        }
    }

    pub fn step_reader(&mut self) {
        if let Some(engine) = self.engine() {
            engine.step_reader();
        }
    }

    pub fn expire(&mut self) {
        if let Some(engine) = self.engine() {
            engine.expire();
        }
    }

    /// Runs everything that the engine's threads would do now.
    pub fn run_engine(&mut self) {
        self.step_appender();
        (0..TAIL_STEPS).for_each(|_| self.step_tail());
        (0..READER_STEPS).for_each(|_| self.step_reader());
        self.expire();
    }

    pub fn status(&mut self) -> Option<Status> {
        Some(self.engine()?.engine().status())
    }

    pub fn is_ready(&mut self) -> bool {
        self.status().is_some_and(|status| status.health == Health::Ready)
    }

    pub fn millis(&self) -> u64 {
        self.clock.elapsed_micros.load(Ordering::Relaxed) / 1000
    }
}
