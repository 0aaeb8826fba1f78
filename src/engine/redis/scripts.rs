//! The scripts, which the server runs as a whole or not at all.

use std::sync::LazyLock;

use redis::{Cmd, Value};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::wire::Wire;
use super::{error, value};
use crate::engine::log::LogError;

/// A script, which the server knows by its hash.
pub struct Script {
    text: String,
    hash: String,
}

/// Defines a script. Its first line makes the server refuse it if the server can't write. Those that are allowed when memory
/// is short write a few bytes at most.
macro_rules! script {
    ($name:ident, $flags:literal, $file:literal) => {
        #[doc = concat!("`", $file, "`")]
        pub static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!("#!lua", $flags, "\n"), include_str!($file)));
    };
}

/// Defines a script of the commands on an engine.
macro_rules! tool_script {
    ($name:ident, $flags:literal, $file:literal) => {
        #[cfg(feature = "cli")]
        script!($name, $flags, $file);
    };
}

script!(APPEND, "", "append.lua");
script!(FREE, " flags=allow-oom", "free.lua");
script!(HELLO, " flags=allow-oom", "hello.lua");
script!(PULSE, " flags=allow-oom", "pulse.lua");
script!(ATTACH, " flags=allow-oom", "attach.lua");
script!(INSERT, "", "insert.lua");
// What removes records is allowed when memory is short, because it frees memory.
script!(ERASE, " flags=allow-oom", "erase.lua");
// Needs memory, and leaves it alone if it is short.
script!(COMPACT, "", "compact.lua");
script!(SWEEP, " flags=allow-oom", "sweep.lua");
script!(REGISTER, " flags=allow-oom", "register.lua");
script!(REVOKE, " flags=allow-oom", "revoke.lua");
// The scripts that only read records are not declared as such (`no-writes`): a server that can't write then refuses them. A
// primary that was replaced, and does not serve this broker's log any more, would otherwise answer with what it has.
script!(NEWEST, " flags=allow-oom", "newest.lua");
script!(VERSIONS, " flags=allow-oom", "versions.lua");
script!(RECORDS, " flags=allow-oom", "records.lua");
script!(HAS, " flags=allow-oom", "has.lua");
script!(CHECK, " flags=no-writes", "check.lua");
tool_script!(BEGIN, " flags=no-writes", "tools/begin.lua");
tool_script!(LOAD, "", "tools/load.lua");
tool_script!(RAISE, " flags=allow-oom", "tools/raise.lua");
tool_script!(STATUS, " flags=no-writes", "tools/status.lua");
tool_script!(CHECK_RECORDS, " flags=no-writes", "tools/check_records.lua");
tool_script!(CHECK_INDEX, " flags=no-writes", "tools/check_index.lua");
tool_script!(CHECK_LOG, " flags=no-writes", "tools/check_log.lua");

impl Script {
    /// Creates a script from its first line and its own part. What all scripts share comes between them.
    fn new(first_line: &str, own: &str) -> Self {
        let text = [first_line, include_str!("shared.lua"), own].concat();
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let hash = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, hash }
    }

    /// Returns the command that runs it with these keys. Arguments follow.
    pub fn command(&self, keys: &[&str]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }

    /// Runs a command that [`Script::command`] has returned.
    pub fn run(&self, wire: &mut Wire, command: &Cmd) -> Result<Value, LogError> {
        let answer = wire.ask(command)?;
        if !is_unknown(&answer) {
            return error::check(answer);
        }
        self.load(wire)?;
        wire.call(command)
    }

    /// Sends the script to the server, which forgets scripts when it restarts.
    pub fn load(&self, wire: &mut Wire) -> Result<(), LogError> {
        let answer = wire.call(redis::cmd("SCRIPT").arg("LOAD").arg(&self.text))?;
        match value::text(answer) {
            Some(hash) if hash == self.hash => Ok(()),
            _ => Err(value::malformed("the hash of a script")),
        }
    }
}

/// Returns whether the server does not know the script. Nothing was done then.
pub fn is_unknown(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use crate::engine::log::{NAME_COST, RECORDS_COST, REMOVED_BYTES, removed_cost};

    #[test]
    fn an_entry_of_records_counts_the_same_in_scripts() {
        assert!(include_str!("shared.lua").contains(&format!("\nlocal RECORDS_COST = {RECORDS_COST}\n")));
    }

    #[test]
    fn a_removed_record_counts_the_same_in_scripts() {
        let record_cost = removed_cost("", "");
        for line in [
            format!("local NAME_COST, RECORD_COST = {NAME_COST}, {record_cost}"),
            format!("local REMOVED_BYTES = {REMOVED_BYTES}"),
        ] {
            assert!(include_str!("shared.lua").contains(&format!("\n{line}\n")), "{line}");
        }
    }
}
