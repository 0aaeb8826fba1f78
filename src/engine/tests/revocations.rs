//! Two brokers with the log in memory: what one revokes, the other refuses.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::auth::{Revocation, Revocations};
use crate::clock::{Clock, ManualClock};
use crate::engine::queue::MAX_WAIT_MILLIS;
use crate::engine::settings::Retention;
use crate::engine::sim::{Fault, Kind, OldServer, SimConnect, SimLog};
use crate::engine::{Appender, Engine, EngineError};
use crate::records::retention::Retention as VersionRetention;

/// The log's time at the start, in seconds.
const SECOND: u64 = 1_800_000_000;

struct Broker {
    engine: Engine,
    appender: Appender<SimConnect>,
    table: Arc<Revocations>,
}

struct Pair {
    log: SimLog,
    time: Arc<ManualClock>,
    brokers: [Broker; 2],
}

impl Pair {
    fn start() -> Self {
        let retention = Retention {
            age: Duration::from_secs(3600),
            bytes: 1 << 20,
            record_bytes: 1 << 20,
            versions: VersionRetention::ALL,
        };
        let log = SimLog::new(1, SECOND * 1_000_000, retention);
        let time = Arc::new(ManualClock::default());
        let start = |number: u64| {
            let table = Arc::new(Revocations::default());
            let engine = Engine::new(Clock::manual(Arc::clone(&time))).with_revocations(Some(Arc::clone(&table)));
            let appender = Appender::new(engine.clone(), log.connector(number), number);
            Broker { engine, appender, table }
        };
        let brokers = [1, 2].map(start);
        Self { log, time, brokers }
    }

    /// Lets both brokers do what they do within this time.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(100) {
            self.time.advance(100_000);
            self.log.advance(100_000);
            for broker in &mut self.brokers {
                broker.engine.expire();
                for _ in 0..4 {
                    broker.appender.step(Duration::ZERO);
                }
            }
        }
    }

    fn revoke(&self, name: &str) -> Receiver<Result<u64, EngineError>> {
        let (sender, result) = channel();
        self.brokers[0].engine.revoke(&Revocation::sub(name).unwrap(), move |told| sender.send(told).unwrap());
        result
    }

    /// Returns whether each broker refuses the tokens of this name that were issued in this second.
    fn refused(&self, name: &str, issued: u64) -> [bool; 2] {
        [0, 1].map(|index| {
            let table = &self.brokers[index].table;
            table.is_revoked(table.identify(Some(name), None, issued))
        })
    }
}

#[test]
fn every_broker_refuses_by_the_time_of_the_engine() {
    let mut pair = Pair::start();
    assert!(!pair.brokers[1].engine.knows_revocations(), "it has not asked yet");
    pair.pass(100);
    assert!(pair.brokers[1].engine.knows_revocations());
    let told = pair.revoke("user:1");
    pair.pass(2_000);
    let second = told.try_recv().unwrap().unwrap();
    assert!((SECOND..SECOND + 2).contains(&second), "{second}");
    assert_eq!(pair.refused("user:1", second), [true; 2]);
    assert_eq!(pair.refused("user:1", second + 1), [false; 2]);
    assert_eq!(pair.refused("user:2", 0), [false; 2]);
}

#[test]
fn a_revocation_without_the_engine_is_refused_in_time() {
    let mut pair = Pair::start();
    pair.pass(100);
    pair.log.set_away(true);
    let told = pair.revoke("user:1");
    pair.pass(MAX_WAIT_MILLIS + 200);
    assert!(matches!(told.try_recv().unwrap(), Err(EngineError::Unavailable(_))));
    pair.log.set_away(false);
    pair.pass(6_000);
    let told = pair.revoke("user:1");
    pair.pass(2_000);
    assert!(told.try_recv().unwrap().is_ok());
    assert_eq!(pair.refused("user:1", SECOND), [true; 2]);
}

#[test]
fn a_revocation_that_is_not_proven_is_unknown() {
    let mut pair = Pair::start();
    pair.pass(100);
    pair.log.plan(1, Kind::Revocations, Fault::Unproven);
    let told = pair.revoke("user:1");
    pair.pass(100);
    assert!(matches!(told.try_recv().unwrap(), Err(EngineError::Unknown(_))));
}

/// After a failover to a server that lacks a revocation, later ones may have earlier times than that one.
#[test]
fn a_lost_revocation_hides_no_later_one() {
    let mut pair = Pair::start();
    pair.pass(100);
    let before = pair.log.clone();
    let told = pair.revoke("user:1");
    pair.pass(2_000);
    assert!(told.try_recv().unwrap().is_ok());
    before.flush();
    before.step_clock(-3_600_000_000);
    before.fail_over(OldServer::Gone);
    let told = pair.revoke("user:2");
    pair.pass(8_000);
    let told = told.try_recv().unwrap().or_else(|_| {
        let again = pair.revoke("user:2");
        pair.pass(2_000);
        again.try_recv().unwrap()
    });
    assert!(told.unwrap() < SECOND - 3_000);
    assert_eq!(pair.refused("user:2", SECOND - 3_700), [true; 2]);
    assert_eq!(pair.refused("user:1", SECOND), [true; 2], "no broker forgets one");
}
