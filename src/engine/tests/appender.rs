use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::engine::blob::Part;
use crate::engine::log::{
    Append, Appended, Attach, Attached, Connect, Entry, Erase, Erased, From, Greeting, Hello, Insert, Inserted,
    LastBatch, Log, LogError, Peer, Pulse, ReadRecords, Refusal, RemoveRecords, Revocations, Revoke, Revoked, Swept,
    Version,
};
use crate::engine::{Appender, Engine, EngineError, FORMAT, Sequenced};
use crate::records::Record;

const PULSE: Pulse = Pulse { time: 1, last: 0, era: 0, record_bytes: 0 };

/// What a scripted log answers, in order.
#[derive(Default)]
struct Script {
    greetings: VecDeque<Option<(u64, Appended)>>,
    appends: VecDeque<Result<Appended, LogError>>,
    proofs: VecDeque<Result<(), LogError>>,
}

/// A log that answers by a script.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Connect for Scripted {
    type Log = Self;

    fn connect(&mut self) -> Result<Self, LogError> {
        Ok(self.clone())
    }
}

impl Log for Scripted {
    fn hello(&mut self, _: Hello) -> Result<Greeting, LogError> {
        let last_batch = self.0.lock().unwrap().greetings.pop_front().unwrap();
        let last_batch = last_batch.map(|(number, appended)| (number, LastBatch::Events(appended)));
        Ok(Greeting { pulse: PULSE, last_batch })
    }

    fn append(&mut self, _: &Append<'_>) -> Result<Appended, LogError> {
        self.0.lock().unwrap().appends.pop_front().unwrap()
    }

    fn prove(&mut self) -> Result<(), LogError> {
        self.0.lock().unwrap().proofs.pop_front().unwrap()
    }

    fn pulse(&mut self, _: Hello) -> Result<Pulse, LogError> {
        Ok(PULSE)
    }

    fn register(&mut self, _: Hello, _: u64) -> Result<Vec<Peer>, LogError> {
        Ok(Vec::new())
    }

    fn insert(&mut self, _: &Insert<'_>) -> Result<Inserted, LogError> {
        unreachable!()
    }

    fn attach(&mut self, _: &Attach) -> Result<Attached, LogError> {
        Ok(Attached { pulse: PULSE, from: From::Next, format: FORMAT, erased: 0, has_read: false })
    }

    fn read(&mut self, _: u64) -> Result<Vec<Entry>, LogError> {
        Ok(Vec::new())
    }
}

/// No record is ever read.
impl RemoveRecords for Scripted {
    fn erase(&mut self, _: &Erase<'_>) -> Result<Erased, LogError> {
        unreachable!()
    }

    fn sweep(&mut self, _: Hello) -> Result<Swept, LogError> {
        Ok(Swept { versions: 0, is_cut_short: false })
    }
}

impl Revocations for Scripted {
    fn revoke(&mut self, _: &Revoke<'_>) -> Result<u64, LogError> {
        unreachable!()
    }

    fn revoked(&mut self, _: u64) -> Result<Vec<Revoked>, LogError> {
        unreachable!()
    }
}

impl ReadRecords for Scripted {
    fn newest_records(&mut self, _: u64) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }

    fn records(&mut self, _: u64, _: u64) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }

    fn has_record(&mut self, _: u64) -> Result<bool, LogError> {
        Ok(false)
    }

    fn versions(&mut self, _: &str, _: u64, _: usize) -> Result<Vec<Version>, LogError> {
        Ok(Vec::new())
    }
}

fn appended() -> Appended {
    Appended { first: 7, repetitions: Vec::new() }
}

fn broken() -> LogError {
    LogError::Broken("no answer".into())
}

fn refused(refusal: Refusal) -> LogError {
    LogError::Refused(refusal, "no".into())
}

/// Publishes one event to a log with this script, and returns the result once the tail would have passed it.
fn publish(script: Script) -> Result<Sequenced, EngineError> {
    let engine = Engine::new(Clock::new());
    let log = Scripted(Arc::new(Mutex::new(script)));
    let mut appender = Appender::new(engine.clone(), log, 1);
    let (sender, result): (_, Receiver<_>) = channel();
    engine.publish(Part::new("sometopic", [(None, &b"data: x\n"[..])].into_iter()), move |result| {
        sender.send(result).unwrap();
    });
    loop {
        let wait = appender.step(Duration::ZERO);
        engine.waiting.advance(7);
        if let Ok(result) = result.try_recv() {
            return result;
        }
        std::thread::sleep(Duration::from_millis(wait));
    }
}

fn script(
    greetings: impl IntoIterator<Item = Option<(u64, Appended)>>,
    appends: impl IntoIterator<Item = Result<Appended, LogError>>,
) -> Script {
    Script { greetings: greetings.into_iter().collect(), appends: appends.into_iter().collect(), ..Script::default() }
}

#[test]
fn a_batch_without_an_answer_that_the_log_has_is_acknowledged() {
    let proven = Script { proofs: [Ok(())].into(), ..script([None, Some((1, appended()))], [Err(broken())]) };
    assert_eq!(publish(proven), Ok(Sequenced { id: 7, events: 1 }));
}

#[test]
fn a_batch_without_an_answer_that_the_log_does_not_have_is_appended_again() {
    let again = script([None, Some((9, appended()))], [Err(broken()), Ok(appended())]);
    assert_eq!(publish(again), Ok(Sequenced { id: 7, events: 1 }));
}

#[test]
fn a_batch_that_is_found_but_not_proven_is_unknown() {
    let proofs = [Err(LogError::Unproven("no replica".into()))].into();
    let unproven = Script { proofs, ..script([None, Some((1, appended()))], [Err(broken())]) };
    assert!(matches!(publish(unproven), Err(EngineError::Unknown(_))));
}

#[test]
fn a_batch_that_somebody_may_have_received_is_never_said_to_be_unpublished() {
    for refusal in [Refusal::Memory, Refusal::Setup] {
        let lost = script([None, Some((9, appended()))], [Err(broken()), Err(refused(refusal))]);
        assert!(matches!(publish(lost), Err(EngineError::Unknown(_))), "{refusal:?}");
        assert!(matches!(publish(script([None], [Err(refused(refusal))])), Err(EngineError::Unavailable(_))));
    }
}
