//! Removals of records, as commands.

use super::log::{ServerLog, session};
use super::scripts::{COMPACT, ERASE, SWEEP};
use super::{Keys, SESSION_TTL, value};
use crate::engine::log::{
    Compacted, ERASED_AT_ONCE, Erase, Erased, Hello, LogError, REMOVED_BYTES, Refusal, RemoveRecords, SWEPT_NAMES,
    SWEPT_VERSIONS, Swept,
};
use crate::engine::{COMMAND_TIMEOUT, REMOVAL_FORMAT};
use crate::records::retention::Retention;

/// The most records that are copied at once.
const COPIED_AT_ONCE: usize = 256;
/// The records are copied if at least this many were removed, or any were erased.
const WORTHWHILE: usize = 1000;

/// Returns the most versions of a name (0 for all) and their longest age in microseconds (empty for any), as scripts take them.
pub(super) fn version_limits(retention: &Retention) -> (u64, String) {
    let micros = retention.age.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX).to_string());
    (retention.versions.map_or(0, Into::into), micros.unwrap_or_default())
}

impl ServerLog {
    /// Ends the session of a broker that does not go on.
    #[cfg(feature = "cli")]
    pub(super) fn end_session(&mut self, broker: u64) -> Result<(), LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let key = self.keys.session(broker);
        self.wire.call(redis::cmd("PEXPIRE").arg(key).arg(1)).map(drop)
    }
}

impl RemoveRecords for ServerLog {
    fn erase(&mut self, erase: &Erase<'_>) -> Result<Erased, LogError> {
        let proofs = self.proofs.records.clone().map_err(|why| LogError::Refused(Refusal::Records, why))?;
        let Keys { log, meta, records, index, newest, copy, .. } = &self.keys;
        let session_key = self.keys.session(erase.hello.broker);
        let mut command = ERASE.command(&[log, meta, &session_key, records, index, newest, copy]);
        command.arg(session(erase.hello)).arg(erase.floor).arg(erase.token()).arg(SESSION_TTL.as_millis() as u64);
        command.arg(REMOVAL_FORMAT).arg(ERASED_AT_ONCE).arg(erase.name);
        command.arg(erase.before.map_or_else(String::new, |before| before.to_string()));
        let answer = self.run_proven(&ERASE, &command, &proofs)?;
        value::erased(answer).ok_or_else(|| value::malformed("the answer to an erasure"))
    }

    fn sweep(&mut self, hello: Hello) -> Result<Swept, LogError> {
        if !self.retention.versions.is_limited() {
            return Ok(Swept { versions: 0, is_cut_short: false });
        }
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let Keys { meta, records, index, newest, copy, .. } = &self.keys;
        let mut command = SWEEP.command(&[meta, &self.keys.session(hello.broker), records, index, newest, copy]);
        let (versions, age) = version_limits(&self.retention.versions);
        command.arg(session(hello)).arg(versions).arg(age).arg(REMOVAL_FORMAT).arg(SWEPT_NAMES).arg(SWEPT_VERSIONS);
        let answer = value::texts(SWEEP.run(&mut self.wire, &command)?);
        let swept = answer.and_then(|[versions, is_cut_short]| {
            Some(Swept { versions: versions.parse().ok()?, is_cut_short: is_cut_short == "1" })
        });
        swept.ok_or_else(|| value::malformed("the answer to a sweep"))
    }

    fn compact(&mut self, hello: Hello) -> Result<Compacted, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let Keys { meta, records, copy, .. } = &self.keys;
        let mut command = COMPACT.command(&[meta, &self.keys.session(hello.broker), records, copy]);
        command.arg(session(hello)).arg(COPIED_AT_ONCE).arg(REMOVED_BYTES).arg(WORTHWHILE);
        match value::text(COMPACT.run(&mut self.wire, &command)?).as_deref() {
            Some("nothing") => Ok(Compacted::Done),
            Some("more") => Ok(Compacted::Partly),
            Some("memory") => Err(LogError::Refused(
                Refusal::Memory,
                "it has too little memory for a second copy of the records, so it keeps the text of removed ones; \
                 raise its maxmemory"
                    .into(),
            )),
            _ => Err(value::malformed("the answer to a compaction")),
        }
    }
}
