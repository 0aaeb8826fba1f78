//! Revocations of tokens, as commands.

use super::log::{ServerLog, session};
use super::scripts::REVOKE;
use super::value;
use crate::engine::COMMAND_TIMEOUT;
use crate::engine::log::{LogError, Revocations, Revoke, Revoked};

/// The most revocations that are read at once.
const MAX_READ: usize = 512;

impl Revocations for ServerLog {
    fn revoke(&mut self, revoke: &Revoke<'_>) -> Result<u64, LogError> {
        let mut command = REVOKE.command(&[&self.keys.session(revoke.hello.broker), &self.keys.revocations]);
        command.arg(session(revoke.hello)).arg(revoke.max).arg(revoke.texts);
        let answer = self.run_proven(&REVOKE, &command, &[self.proofs.events])?;
        value::id(answer).ok_or_else(|| value::malformed("the answer to a revocation"))
    }

    fn revoked(&mut self, after: u64) -> Result<Vec<Revoked>, LogError> {
        self.wire.set_limit(COMMAND_TIMEOUT)?;
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.keys.revocations).arg(format!("({after}-0")).arg("+").arg("COUNT").arg(MAX_READ);
        value::revoked(self.wire.call(&command)?).ok_or_else(|| value::malformed("a revocation"))
    }
}
