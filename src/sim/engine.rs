//! A broker's part of the engine, whose threads are replaced by calls.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::StartError;
use crate::broker::engine::HubFollow;
use crate::clock::Clock;
use crate::engine::sim::{SimConnect, SimLog};
use crate::engine::{Appender, Engine, Reader, Tail};
use crate::hub::Hub;

/// After this many steps of the tail without any time passing, a start has failed.
const MAX_STEPS: usize = 10_000;

/// The log that a broker shares with others.
pub struct EngineEnv {
    /// The log.
    pub log: SimLog,
    /// The number that identifies the broker. Never used again by another one.
    pub broker: u64,
}

/// The engine of a broker that is run step by step.
pub struct ManualEngine {
    engine: Engine,
    appender: Appender<SimConnect>,
    tail: Tail<SimConnect, HubFollow>,
    reader: Reader<SimConnect>,
}

/// Returns the link over which a broker appends.
pub fn appender_link(broker: u64) -> u64 {
    broker * 3
}

/// Returns the link over which a broker follows the log.
pub fn tail_link(broker: u64) -> u64 {
    broker * 3 + 1
}

/// Returns the link over which a broker reads histories and looks up ids.
pub fn reader_link(broker: u64) -> u64 {
    broker * 3 + 2
}

impl ManualEngine {
    /// Catches up with the log.
    pub(super) fn start(env: EngineEnv, hub: &Arc<Hub>, clock: &Clock) -> Result<Self, StartError> {
        let EngineEnv { log, broker } = env;
        let engine = Engine::new(clock.clone());
        let appender = Appender::new(engine.clone(), log.connector(appender_link(broker)), broker);
        let mut tail = Tail::new(engine.clone(), log.connector(tail_link(broker)), HubFollow::new(Arc::clone(hub)));
        let reader = Reader::new(engine.clone(), log.connector(reader_link(broker)));
        for _ in 0..MAX_STEPS {
            if engine.is_caught_up() {
                return Ok(Self { engine, appender, tail, reader });
            }
            tail.step();
        }
        Err(StartError::Engine("the log does not arrive".into()))
    }

    /// Returns what workers use.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs one step of the appender.
    pub fn step_appender(&mut self) {
        if !self.appender.is_over() {
            self.appender.step(Duration::ZERO);
        }
    }

    /// Runs one step of the tail.
    pub fn step_tail(&mut self) {
        self.tail.step();
    }

    /// Looks up one id, or reads one slice of one page, if a request waits.
    pub fn step_reader(&mut self) {
        self.reader.step(Duration::ZERO);
    }

    /// Refuses what has waited for too long, as the watch does.
    pub fn expire(&self) {
        self.engine.expire();
    }

    /// Refuses new publishes. Called when all workers have ended.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Returns whether everything is done since it was closed.
    pub fn is_over(&self) -> bool {
        self.appender.is_over() && !self.engine.is_waiting()
    }
}
