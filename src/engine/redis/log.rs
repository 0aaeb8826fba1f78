//! The requests of a broker, as commands.

use redis::{Cmd, Value};

use super::guarantee::Proof;
use super::scripts::{APPEND, ATTACH, FREE, HELLO, PULSE, is_unknown};
use super::wire::Wire;
use super::{Keys, LAYOUT, OWN_ID_MARGIN, SESSION_TTL, error, value};
use crate::engine::log::{
    About, Append, Appended, Attach, Attached, Body, Entry, From, Greeting, Hello, Log, LogError, Mark, Pulse, Refusal,
};
use crate::engine::settings::Retention;
use crate::engine::{COMMAND_TIMEOUT, READ_TIMEOUT, READ_WAIT};

/// The most entries that are read at once.
const MAX_COUNT: usize = 64;
/// The bytes of blobs that are read at once, if entries stay as large as they were.
const READ_BYTES: usize = 8 << 20;

/// A connection to the log on a server.
pub struct ServerLog {
    wire: Wire,
    about: About,
    keys: Keys,
    proof: Proof,
    retention: Retention,
    /// The most entries of the next read.
    count: usize,
    /// Whether the server refuses the command that proves an append.
    is_outdated: bool,
}

impl ServerLog {
    pub(super) fn new(wire: Wire, about: About, keys: Keys, proof: Proof, retention: Retention) -> Self {
        Self { wire, about, keys, proof, retention, count: MAX_COUNT / 4, is_outdated: false }
    }

    fn max_age(&self) -> u64 {
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

    /// Sends the command and the one that proves it at once, which saves a round trip.
    fn append_proven(&mut self, command: &Cmd) -> Result<Appended, LogError> {
        let mut answers = self.append_once(command)?;
        if is_unknown(&answers.0) {
            APPEND.load(&mut self.wire)?;
            answers = self.append_once(command)?;
        }
        let answer = value::texts(error::check(answers.0)?);
        let appended = answer.and_then(|[first, repetitions]| value::appended(&first, &repetitions));
        let appended = appended.ok_or_else(|| value::malformed("the answer to an append"))?;
        self.is_outdated = matches!(answers.1, Value::ServerError(_));
        self.proof.check(answers.1)?;
        Ok(appended)
    }

    fn append_once(&mut self, command: &Cmd) -> Result<(Value, Value), LogError> {
        let mut packed = command.get_packed_command();
        let proof = self.proof.command();
        if let Some(proof) = &proof {
            proof.write_packed_command(&mut packed);
        }
        self.wire.send(&packed)?;
        let answer = self.wire.receive()?;
        Ok((answer, if proof.is_some() { self.wire.receive()? } else { Value::Nil }))
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
        greeting(answer).ok_or_else(|| value::malformed("the answer to a greeting"))
    }

    fn prove(&mut self) -> Result<(), LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        match self.proof.command() {
            Some(command) => self.wire.ask(&command).and_then(|answer| self.proof.check(answer)),
            None => Ok(()),
        }
    }

    fn append(&mut self, append: &Append<'_>) -> Result<Appended, LogError> {
        if self.is_outdated {
            return Err(LogError::Unreachable(
                "it can no longer prove what it did when the connection was made".into(),
            ));
        }
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let command = self.append_command(append);
        match self.append_proven(&command) {
            Err(LogError::Refused(Refusal::Memory, _)) => {
                self.free()?;
                self.append_proven(&command)
            }
            done => done,
        }
    }

    fn pulse(&mut self, hello: Hello) -> Result<Pulse, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = PULSE.command(&[&self.keys.meta, &self.keys.session(hello.broker)]);
        let answer = PULSE.run(&mut self.wire, command.arg(session(hello)).arg(SESSION_TTL.as_millis() as u64))?;
        let pulse = value::texts(answer).and_then(|[time, last, era]| value::pulse(&time, &last, &era));
        pulse.ok_or_else(|| value::malformed("the answer to a pulse"))
    }

    fn attach(&mut self, attach: &Attach) -> Result<Attached, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = ATTACH.command(&[&self.keys.log, &self.keys.meta]);
        for mark in [&attach.read, &attach.appended] {
            let (id, token) = mark.as_ref().map_or_else(Default::default, parts);
            command.arg(id).arg(token);
        }
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let answer =
            ATTACH.run(&mut self.wire, command.arg(attach.floor).arg(token).arg(LAYOUT).arg(attach.applied))?;
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

fn session(hello: Hello) -> String {
    format!("{:016x}", hello.session)
}

fn parts(mark: &Mark) -> (String, &str) {
    (mark.entry.to_string(), &mark.token)
}

fn size(entry: &Entry) -> usize {
    if let Body::Events { blob, .. } = &entry.body { blob.len() } else { 0 }
}

fn greeting(answer: Value) -> Option<Greeting> {
    let [time, last, era, batch, first, repetitions] = value::texts(answer)?;
    let last_batch = match batch.as_str() {
        "" => None,
        batch => Some((batch.parse().ok()?, value::appended(&first, &repetitions)?)),
    };
    Some(Greeting { pulse: value::pulse(&time, &last, &era)?, last_batch })
}

fn attached(answer: Value) -> Option<Attached> {
    let [time, last, era, how, id] = value::texts(answer)?;
    let id = id.parse().ok()?;
    let from = match how.as_str() {
        "next" => From::Next,
        "oldest" => From::Oldest(id),
        "loss" => From::Loss(id),
        _ => return None,
    };
    Some(Attached { pulse: value::pulse(&time, &last, &era)?, from })
}
