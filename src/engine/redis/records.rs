//! Inserts records, and reads those that the log's entries refer to.

use redis::Cmd;

use super::log::{ServerLog, parts, session};
use super::removals::version_limits;
use super::scripts::{HAS, INSERT, NEWEST, RECORDS, Script, VERSIONS};
use super::{Keys, SESSION_TTL, value};
use crate::engine::log::{
    Insert, Inserted, LogError, Mark, NAME_COST, PRUNED_BEYOND_THE_COUNT, PRUNED_OF_A_NAME, ReadRecords, Refusal,
    Version, record_cost,
};
use crate::engine::{COMMAND_TIMEOUT, RECORDS_FORMAT, REMOVAL_FORMAT};
use crate::records::Record;
use crate::records::insert::{Condition, IdempotencyKey};

/// The most records that are read at once. The server does nothing else meanwhile.
const MAX_COUNT: usize = 256;
/// The bytes of records after which no other is read.
const READ_BYTES: usize = 1 << 20;

impl ServerLog {
    /// Inserts records, unless the server can't prove that they are durable.
    pub(super) fn insert_records(&mut self, insert: &Insert<'_>) -> Result<Inserted, LogError> {
        let proofs = self.proofs.records.clone().map_err(|why| LogError::Refused(Refusal::Records, why))?;
        if insert.requests.is_empty() {
            return Err(LogError::Refused(Refusal::Records, "there are none".into()));
        }
        let command = self.insert_command(insert);
        let answer = value::texts(self.run_proven(&INSERT, &command, &proofs)?);
        let inserted = answer.and_then(|[first, told, forgotten]| {
            let outcomes = value::outcomes(&first, &told, insert.requests.len())?;
            Some(Inserted { outcomes, forgotten: forgotten.parse().ok()? })
        });
        let inserted = inserted.filter(|inserted| inserted.outcomes.len() == insert.requests.len());
        inserted.ok_or_else(|| value::malformed("the answer to an insert"))
    }

    fn insert_command(&self, insert: &Insert<'_>) -> Cmd {
        let Keys { log, meta, records, index, newest, keys, key_order, copy, .. } = &self.keys;
        let session_key = self.keys.session(insert.hello.broker);
        let mut command = INSERT.command(&[log, meta, &session_key, records, index, newest, keys, key_order, copy]);
        command.arg(session(insert.hello)).arg(insert.batch).arg(insert.floor).arg(insert.token());
        command.arg(self.max_age()).arg(self.retention.bytes).arg(SESSION_TTL.as_millis() as u64);
        command.arg(RECORDS_FORMAT).arg(self.retention.record_bytes).arg(NAME_COST);
        command.arg(insert.keys.count).arg(insert.keys.age.as_micros() as u64);
        let (versions, age) = version_limits(&self.retention.versions);
        command.arg(versions).arg(age).arg(REMOVAL_FORMAT).arg(PRUNED_OF_A_NAME).arg(PRUNED_BEYOND_THE_COUNT);
        for request in insert.requests {
            command.arg(&*request.record.name).arg(&*request.record.data).arg(record_cost(&request.record));
            command.arg(condition_text(&request.condition));
            command.arg(request.key.as_ref().map_or("", IdempotencyKey::as_str));
        }
        command
    }

    /// Reads records, and whether the log has an entry, given by its id and its token.
    fn read_range(&mut self, first: u64, last: u64, entry: (&str, &str)) -> Result<(Vec<Record>, bool), LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let Keys { records, log, newest, .. } = &self.keys;
        let mut command = RECORDS.command(&[records, log, newest]);
        command.arg(first).arg(last).arg(MAX_COUNT).arg(READ_BYTES).arg(entry.0).arg(entry.1);
        let answer = RECORDS.run(&mut self.wire, &command)?;
        value::records(answer).ok_or_else(|| value::malformed("a record"))
    }

    /// Runs a script that tells how far it has looked, until it has found a record or looked at all of them.
    fn look(
        &mut self,
        script: &Script,
        after: u64,
        command: impl Fn(&Keys, u64) -> Cmd,
    ) -> Result<Vec<Record>, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut after = after;
        loop {
            let answer = script.run(&mut self.wire, &command(&self.keys, after))?;
            let (seen, found) = value::found(answer).ok_or_else(|| value::malformed("a record"))?;
            match seen.filter(|seen| found.is_empty() && *seen > after) {
                Some(seen) => after = seen,
                None => return Ok(found),
            }
        }
    }
}

impl ReadRecords for ServerLog {
    fn newest_records(&mut self, after: u64) -> Result<Vec<Record>, LogError> {
        self.look(&NEWEST, after, |keys, after| {
            NEWEST.command(&[&keys.records, &keys.newest]).arg(after).arg(MAX_COUNT).arg(READ_BYTES).take()
        })
    }

    fn records(&mut self, first: u64, last: u64) -> Result<Vec<Record>, LogError> {
        self.read_range(first, last, ("", "")).map(|(records, _)| records)
    }

    fn records_of(&mut self, first: u64, last: u64, entry: &Mark) -> Result<(Vec<Record>, bool), LogError> {
        let (id, token) = parts(entry);
        self.read_range(first, last, (&id, token))
    }

    fn has_record(&mut self, id: u64) -> Result<bool, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let answer = HAS.run(&mut self.wire, HAS.command(&[&self.keys.records]).arg(id))?;
        let found = value::integer(&answer).ok_or_else(|| value::malformed("the answer about a record"))?;
        Ok(found > 0)
    }

    fn versions(&mut self, name: &str, after: u64, limit: usize) -> Result<Vec<Version>, LogError> {
        let found = self.look(&VERSIONS, after, |keys, after| {
            let mut command = VERSIONS.command(&[&keys.records, &keys.index]);
            command.arg(name).arg(after).arg(limit.min(MAX_COUNT)).arg(READ_BYTES).take()
        })?;
        Ok(found.into_iter().map(|record| Version { id: record.id, data: record.data }).collect())
    }
}

/// Returns a condition as the script takes it.
fn condition_text(condition: &Condition) -> String {
    match condition {
        Condition::Always => String::new(),
        Condition::Exists => "*".to_owned(),
        Condition::Absent => "-".to_owned(),
        // Without an id, it never holds.
        Condition::NewestIs(ids) => ids.iter().fold(",".to_owned(), |text, id| format!("{text}{id},")),
    }
}
