//! Inserts records, and reads those that the log's entries refer to.

use redis::Cmd;

use super::log::{ServerLog, session};
use super::scripts::{HAS, INSERT, NEWEST, RECORDS, Script, VERSIONS};
use super::{Keys, SESSION_TTL, value};
use crate::engine::log::{Insert, LogError, NAME_COST, ReadRecords, Refusal, Version, record_cost};
use crate::engine::{COMMAND_TIMEOUT, RECORDS_FORMAT};
use crate::records::Record;

/// The most records that are read at once. The server does nothing else meanwhile.
const MAX_COUNT: usize = 256;
/// The bytes of records after which no other is read.
const READ_BYTES: usize = 1 << 20;

impl ServerLog {
    /// Inserts records, unless the server can't prove that they are durable.
    pub(super) fn insert_records(&mut self, insert: &Insert<'_>) -> Result<u64, LogError> {
        let proofs = self.proofs.records.clone().map_err(|why| LogError::Refused(Refusal::Records, why))?;
        if insert.records.is_empty() {
            return Err(LogError::Refused(Refusal::Records, "there are none".into()));
        }
        let command = self.insert_command(insert);
        let answer = self.run_proven(&INSERT, &command, &proofs)?;
        value::id(answer).ok_or_else(|| value::malformed("the answer to an insert"))
    }

    fn insert_command(&self, insert: &Insert<'_>) -> Cmd {
        let Keys { log, meta, records, index, newest, .. } = &self.keys;
        let mut command = INSERT.command(&[log, meta, &self.keys.session(insert.hello.broker), records, index, newest]);
        command.arg(session(insert.hello)).arg(insert.batch).arg(insert.floor).arg(insert.token());
        command.arg(self.max_age()).arg(self.retention.bytes).arg(SESSION_TTL.as_millis() as u64);
        let cost: u64 = insert.records.iter().map(record_cost).sum();
        command.arg(RECORDS_FORMAT).arg(self.retention.record_bytes).arg(cost).arg(NAME_COST);
        for record in insert.records {
            command.arg(&*record.name).arg(&*record.data);
        }
        command
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
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = RECORDS.command(&[&self.keys.records]);
        let answer = RECORDS.run(&mut self.wire, command.arg(first).arg(last).arg(MAX_COUNT).arg(READ_BYTES))?;
        value::records(answer).ok_or_else(|| value::malformed("a record"))
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
