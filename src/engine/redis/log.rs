//! The requests of a broker, as commands.

use redis::{Cmd, Value};

use super::guarantee::{Proof, RecordProofs};
use super::scripts::{APPEND, ATTACH, FREE, HELLO, PULSE, REGISTER, Script, is_unknown};
use super::wire::Wire;
use super::{BROKER_TTL, BROKERS_TTL, Keys, OWN_ID_MARGIN, SESSION_TTL, error, value};
use crate::engine::log::{
    About, Append, Appended, Attach, Attached, Body, Entry, From, Greeting, Hello, Insert, Inserted, LastBatch, Log,
    LogError, Mark, Peer, Pulse, Refusal,
};
use crate::engine::settings::Retention;
use crate::engine::{COMMAND_TIMEOUT, FORMAT, READ_TIMEOUT, READ_WAIT};

/// The most entries that are read at once.
const MAX_COUNT: usize = 64;
/// The bytes of blobs that are read at once, if entries stay as large as they were.
const READ_BYTES: usize = 8 << 20;

/// How the server proves that what was written is durable.
pub(super) struct Proofs {
    /// Events.
    pub events: Proof,
    /// Records, or why it can't.
    pub records: Result<RecordProofs, String>,
}

/// A connection to the log on a server.
pub struct ServerLog {
    pub(super) wire: Wire,
    about: About,
    pub(super) keys: Keys,
    pub(super) proofs: Proofs,
    pub(super) retention: Retention,
    /// The most entries of the next read.
    count: usize,
    /// Whether the server refuses the command that proves an append.
    is_outdated: bool,
    /// Whether the last batch that the greeting has told of was one of records.
    is_last_of_records: bool,
}

impl ServerLog {
    pub(super) fn new(wire: Wire, about: About, keys: Keys, proofs: Proofs, retention: Retention) -> Self {
        let count = MAX_COUNT / 4;
        Self { wire, about, keys, proofs, retention, count, is_outdated: false, is_last_of_records: false }
    }

    pub(super) fn max_age(&self) -> u64 {
        u64::try_from(self.retention.age.as_micros()).unwrap_or(u64::MAX)
    }

    fn append_command(&self, append: &Append<'_>) -> Cmd {
        let Keys { log, meta, own, .. } = &self.keys;
        let own_ttl = self.retention.age.saturating_add(OWN_ID_MARGIN).as_millis();
        let mut command = APPEND.command(&[log, meta, &self.keys.session(append.hello.broker)]);
        command.arg(session(append.hello)).arg(append.batch).arg(append.floor).arg(append.events);
        command.arg(append.blob).arg(append.token()).arg(self.max_age()).arg(self.retention.bytes);
        command.arg(own).arg(own_ttl.min(MAX_TTL) as u64).arg(SESSION_TTL.as_millis() as u64);
        for own_id in append.own_ids {
            command.arg(own_id.index).arg(&own_id.key);
        }
        command
    }

    /// Runs a command that appends, and has it proven. If the engine is out of memory, frees some and tries again.
    pub(super) fn run_proven(&mut self, script: &Script, command: &Cmd, proofs: &[Proof]) -> Result<Value, LogError> {
        if self.is_outdated {
            return Err(LogError::Unreachable(
                "it can no longer prove what it did when the connection was made".into(),
            ));
        }
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        match self.try_proven(script, command, proofs) {
            Err(LogError::Refused(Refusal::Memory, _)) => {
                self.free()?;
                self.try_proven(script, command, proofs)
            }
            done => done,
        }
    }

    fn try_proven(&mut self, script: &Script, command: &Cmd, proofs: &[Proof]) -> Result<Value, LogError> {
        let mut answers = self.ask_proven(command, proofs)?;
        if is_unknown(&answers.0) {
            script.load(&mut self.wire)?;
            answers = self.ask_proven(command, proofs)?;
        }
        let answer = error::check(answers.0)?;
        self.is_outdated = answers.1.iter().any(|proof| matches!(proof, Value::ServerError(_)));
        proofs.iter().zip(answers.1).try_for_each(|(proof, answer)| proof.check(answer))?;
        Ok(answer)
    }

    /// Sends the command and those that prove it at once, which saves round trips. Returns the answers.
    fn ask_proven(&mut self, command: &Cmd, proofs: &[Proof]) -> Result<(Value, Vec<Value>), LogError> {
        let mut packed = command.get_packed_command();
        let commands = proofs.iter().map(|proof| proof.command()).collect::<Vec<_>>();
        commands.iter().flatten().for_each(|command| command.write_packed_command(&mut packed));
        self.wire.send(&packed)?;
        let answer = self.wire.receive()?;
        let proofs = commands.iter().map(|command| command.as_ref().map_or(Ok(Value::Nil), |_| self.wire.receive()));
        Ok((answer, proofs.collect::<Result<_, _>>()?))
    }

    /// Removes entries that are too old. Appends do that as well, but not when the engine is out of memory.
    fn free(&mut self) -> Result<(), LogError> {
        let mut command = FREE.command(&[&self.keys.log, &self.keys.meta]);
        command.arg(self.max_age()).arg(self.retention.bytes);
        FREE.run(&mut self.wire, &command).map(drop)
    }

    /// Fails if there is no log, which XREAD does not tell from a log without new entries.
    fn check_exists(&mut self) -> Result<(), LogError> {
        match self.wire.call(redis::cmd("XLEN").arg(&self.keys.log))? {
            Value::Int(0) => Err(error::from_server("NOLOG", "")),
            Value::Int(_) => Ok(()),
            _ => Err(value::malformed("the answer to XLEN")),
        }
    }

    fn adapt(&mut self, entries: &[Entry]) {
        if let Some(largest) = entries.iter().map(size).max() {
            self.count = (READ_BYTES / largest.max(1)).clamp(1, MAX_COUNT);
        }
    }
}

/// The longest time to live in milliseconds, a hundred years: the server refuses those that end beyond what it can count.
const MAX_TTL: u128 = 100 * 365 * 24 * 3600 * 1000;

impl Log for ServerLog {
    fn about(&self) -> Option<About> {
        Some(self.about.clone())
    }

    fn hello(&mut self, hello: Hello) -> Result<Greeting, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = HELLO.command(&[&self.keys.meta, &self.keys.session(hello.broker)]);
        let answer = HELLO.run(&mut self.wire, command.arg(session(hello)).arg(SESSION_TTL.as_millis() as u64))?;
        let greeting = greeting(answer).ok_or_else(|| value::malformed("the answer to a greeting"))?;
        self.is_last_of_records = greeting.1 > 0;
        Ok(greeting.0)
    }

    fn prove(&mut self) -> Result<(), LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let proofs = match &self.proofs.records {
            _ if !self.is_last_of_records => &[self.proofs.events][..],
            Ok(proofs) => proofs,
            Err(why) => return Err(LogError::Unproven(why.clone())),
        };
        for proof in proofs {
            if let Some(command) = proof.command() {
                self.wire.ask(&command).and_then(|answer| proof.check(answer))?;
            }
        }
        Ok(())
    }

    fn append(&mut self, append: &Append<'_>) -> Result<Appended, LogError> {
        let command = self.append_command(append);
        let answer = value::texts(self.run_proven(&APPEND, &command, &[self.proofs.events])?);
        let appended = answer.and_then(|[first, repetitions]| value::appended(&first, &repetitions));
        appended.ok_or_else(|| value::malformed("the answer to an append"))
    }

    fn insert(&mut self, insert: &Insert<'_>) -> Result<Inserted, LogError> {
        self.insert_records(insert)
    }

    fn pulse(&mut self, hello: Hello) -> Result<Pulse, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = PULSE.command(&[&self.keys.meta, &self.keys.session(hello.broker)]);
        let answer = PULSE.run(&mut self.wire, command.arg(session(hello)).arg(SESSION_TTL.as_millis() as u64))?;
        let pulse = value::texts(answer).and_then(|pulse| value::pulse(&pulse));
        pulse.ok_or_else(|| value::malformed("the answer to a pulse"))
    }

    fn register(&mut self, hello: Hello, subscribers: u64) -> Result<Vec<Peer>, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = REGISTER.command(&[&self.keys.session(hello.broker), &self.keys.brokers]);
        let words = format!("{FORMAT} {subscribers} {}", env!("CARGO_PKG_VERSION"));
        command.arg(session(hello)).arg(format!("{:016x}", hello.broker)).arg(words);
        command.arg(BROKER_TTL.as_micros() as u64).arg(BROKERS_TTL.as_millis() as u64);
        let answer = REGISTER.run(&mut self.wire, &command)?;
        value::peers(answer).ok_or_else(|| value::malformed("the list of brokers"))
    }

    fn attach(&mut self, attach: &Attach) -> Result<Attached, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = ATTACH.command(&[&self.keys.log, &self.keys.meta, &self.keys.newest]);
        for mark in [&attach.read, &attach.appended] {
            let (id, token) = mark.as_ref().map_or_else(Default::default, parts);
            command.arg(id).arg(token);
        }
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let answer = ATTACH.run(
            &mut self.wire,
            command.arg(attach.floor).arg(token).arg(attach.format.unwrap_or(FORMAT)).arg(attach.applied),
        )?;
        attached(answer).ok_or_else(|| value::malformed("the answer to an attach"))
    }

    fn read(&mut self, after: u64) -> Result<Vec<Entry>, LogError> {
        self.wire.set_limit(READ_TIMEOUT)?;
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(self.count).arg("BLOCK").arg(READ_WAIT.as_millis() as u64);
        let answer = self.wire.call(command.arg("STREAMS").arg(&self.keys.log).arg(format!("{after}-0")))?;
        let entries = value::entries(answer);
        let entries = entries.ok_or_else(|| value::malformed("an entry of the log"))?;
        if entries.is_empty() {
            self.check_exists()?;
        }
        self.adapt(&entries);
        Ok(entries)
    }
}

pub(super) fn session(hello: Hello) -> String {
    format!("{:016x}", hello.session)
}

pub(super) fn parts(mark: &Mark) -> (String, &str) {
    (mark.entry.to_string(), &mark.token)
}

fn size(entry: &Entry) -> usize {
    if let Body::Events { blob, .. } = &entry.body { blob.len() } else { 0 }
}

/// Reads the answer to a greeting, and the number of records of the last batch.
fn greeting(answer: Value) -> Option<(Greeting, usize)> {
    let [time, last, era, bytes, batch, first, told, records] = value::texts(answer)?;
    let records = records.parse().ok()?;
    let last_batch = match (batch.as_str(), records) {
        ("", _) => None,
        (batch, 0) => Some((batch.parse().ok()?, LastBatch::Events(value::appended(&first, &told)?))),
        (batch, _) => Some((batch.parse().ok()?, LastBatch::Inserts(value::outcomes(&first, &told, records)?))),
    };
    Some((Greeting { pulse: value::pulse(&[time, last, era, bytes])?, last_batch }, records))
}

fn attached(answer: Value) -> Option<Attached> {
    let [time, last, era, bytes, how, id, format, erased, has_read] = value::texts(answer)?;
    let (id, format, erased) = (id.parse().ok()?, format.parse().ok()?, erased.parse().ok()?);
    let from = match how.as_str() {
        "next" => From::Next,
        "oldest" => From::Oldest(id),
        "loss" => From::Loss(id),
        _ => return None,
    };
    let pulse = value::pulse(&[time, last, era, bytes])?;
    Some(Attached { pulse, from, format, erased, has_read: has_read == "1" })
}
