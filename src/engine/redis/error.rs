//! What the errors of the server and of the connection mean.

use redis::{ErrorKind, RedisError, Value};

use crate::engine::log::{LogError, Refusal};

const LATE: &str = "it did not answer in time";
const UNKNOWN_ENTRIES: &str = "its keys do not fit together, because some were deleted or restored alone; stop the brokers, export the records with esker \
     dump, delete the keys of this --engine-prefix, and import the records again";

/// Returns an answer that is not an error of the server's.
pub fn check(answer: Value) -> Result<Value, LogError> {
    match answer {
        Value::ServerError(error) => Err(from_server(error.code(), error.details().unwrap_or_default())),
        answer => Ok(answer),
    }
}

/// Returns what the failure of a connection means over which requests were sent.
pub fn broken(why: &RedisError) -> LogError {
    match why.kind() {
        ErrorKind::Parse => LogError::Malformed(text(why)),
        _ => LogError::Broken(text(why)),
    }
}

/// Returns what it means that a connection can't be made.
pub fn unreachable(why: &RedisError) -> LogError {
    match why.kind() {
        ErrorKind::Parse => {
            LogError::Malformed(format!("{why}; is it a Redis or Valkey server, and without TLS at this port?"))
        }
        ErrorKind::InvalidClientConfig => setup(why.to_string()),
        _ => LogError::Unreachable(text(why)),
    }
}

/// Returns the error for a connection that takes too long to be made.
pub fn late() -> LogError {
    LogError::Unreachable(LATE.to_owned())
}

fn text(why: &RedisError) -> String {
    match why.kind() {
        ErrorKind::Io if why.is_timeout() => LATE.to_owned(),
        _ => why.to_string(),
    }
}

/// Returns a refusal that lasts until somebody changes a configuration.
pub fn setup(why: impl Into<String>) -> LogError {
    LogError::Refused(Refusal::Setup, why.into())
}

/// Returns a refusal that another connection may not meet.
pub fn not_writable(why: impl Into<String>) -> LogError {
    LogError::Refused(Refusal::NotWritable, why.into())
}

/// Returns what an error of the server's means.
pub fn from_server(code: &str, details: &str) -> LogError {
    let said = format!("{code} {details}");
    let said = said.trim();
    match code {
        "FENCED" => LogError::Fenced,
        "OOM" => LogError::Refused(
            Refusal::Memory,
            format!("it is out of memory; raise its maxmemory, or lower --history-bytes and --engine-records ({said})"),
        ),
        "NOLOG" => not_writable(
            "the log does not exist at the moment; it was deleted, and is created again when a broker connects",
        ),
        "READONLY" => not_writable(format!("it is a replica; --engine must name the primary ({said})")),
        "MISCONF" => not_writable(format!("it can't save its data, see its own log ({said})")),
        "NOREPLICAS" => not_writable(format!("it has fewer replicas than its min-replicas-to-write demands ({said})")),
        "LOADING" | "MASTERDOWN" | "UNBLOCKED" | "CLUSTERDOWN" | "BUSY" | "TRYAGAIN" => not_writable(said),
        "INUSE" => {
            let brokers = if details == "1" { "1 broker uses".to_owned() } else { format!("{details} brokers use") };
            setup(format!("{brokers} this log; stop every broker first (a stopped broker is still counted for 10 s)"))
        }
        "BADIDS" => setup(format!("somebody else stores records, or the engine's clock was set back ({said})")),
        "OLDREMOVAL" => LogError::Refused(
            Refusal::Records,
            format!(
                "the log has format {details}, in which records can't be removed; when all brokers are upgraded, run \
                 esker engine raise URL"
            ),
        ),
        "OLDFORMAT" | "RECORDSFULL" => LogError::Refused(Refusal::Records, from_records(code, details)),
        _ => from_setup(code, said).unwrap_or_else(|| from_general(said)),
    }
}

fn from_records(code: &str, details: &str) -> String {
    match details.split_once(' ') {
        Some((taken, most)) if code == "RECORDSFULL" => format!(
            "records have reached --engine-records: they take {taken} bytes of {most}; raise it at all brokers, and the engine's \
             maxmemory"
        ),
        _ => format!(
            "the log has format {details}, without records; when all brokers are upgraded, run esker engine raise URL"
        ),
    }
}

fn from_setup(code: &str, said: &str) -> Option<LogError> {
    let advice = match code {
        "NOAUTH" => "it demands a password; set ESKER_ENGINE_PASSWORD",
        "WRONGPASS" => "the user or the password is wrong",
        "NOPERM" => "this user lacks a right; give it those that the guide lists",
        "WRONGTYPE" => "a key holds something else; choose another --engine-prefix, or delete the key",
        "MOVED" | "ASK" | "CROSSSLOT" => {
            "it is a Redis Cluster, which is not supported; use a server without cluster mode"
        }
        "NOTLAST" => UNKNOWN_ENTRIES,
        "DENIED" => "it is in protected mode; set a password, or bind it to other addresses",
        _ => return None,
    };
    Some(setup(format!("{advice} ({said})")))
}

/// Errors whose code is ERR, and those with unknown codes.
fn from_general(said: &str) -> LogError {
    let has = |words: &str| said.contains(words);
    if has("max number of clients") {
        return not_writable(format!("it has too many connections; raise its maxclients ({said})"));
    }
    let advice = if has("unknown command") || has("nknown subcommand") {
        "it lacks a command; Redis 7.0 or Valkey is needed, with the command not renamed"
    } else if has("without any password configured") || has("AUTH") {
        "it does not accept this password"
    } else if has("DB index") {
        "it does not have this database; correct the number at the end of --engine"
    } else if has("ACL failure") || has("The user executing the script can't") {
        "this user lacks a right; give it those that the guide lists"
    } else if has("equal or smaller than the target stream top item") {
        UNKNOWN_ENTRIES
    } else {
        return LogError::Malformed(format!("it answered with the error {said:?}"));
    };
    setup(format!("{advice} ({said})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, details: &str) -> Option<Refusal> {
        match from_server(code, details) {
            LogError::Refused(refusal, _) => Some(refusal),
            _ => None,
        }
    }

    #[test]
    fn errors_that_pass_are_told_from_those_that_last() {
        for code in
            ["READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED", "CLUSTERDOWN", "BUSY", "MISCONF", "NOLOG"]
        {
            assert_eq!(refusal(code, "why"), Some(Refusal::NotWritable), "{code}");
        }
        for code in ["NOAUTH", "WRONGPASS", "NOPERM", "WRONGTYPE", "MOVED", "CROSSSLOT"] {
            assert_eq!(refusal(code, "why"), Some(Refusal::Setup), "{code}");
        }
        assert_eq!(refusal("OOM", "command not allowed"), Some(Refusal::Memory));
        assert_eq!(refusal("OLDFORMAT", "1"), Some(Refusal::Records));
        assert_eq!(refusal("RECORDSFULL", "9 10"), Some(Refusal::Records));
        assert_eq!(refusal("ERR", "max number of clients reached"), Some(Refusal::NotWritable));
        assert_eq!(refusal("ERR", "unknown command 'EVALSHA'"), Some(Refusal::Setup));
    }

    #[test]
    fn a_fenced_session_and_unknown_errors_are_no_refusals() {
        assert_eq!(from_server("FENCED", "why"), LogError::Fenced);
        assert!(matches!(from_server("ERR", "never seen"), LogError::Malformed(_)));
        assert!(matches!(from_server("", ""), LogError::Malformed(_)));
    }
}
