//! Finds out at each connect whether the server fits: its version, its configuration, this user's rights and the keys.

use redis::{Cmd, Value};

#[cfg(any(test, feature = "internals"))]
use super::LAYOUT;
use super::guarantee::Fsync;
use super::scripts::CHECK;
use super::wire::Wire;
use super::{Keys, error, value};
use crate::engine::FORMAT;
use crate::engine::log::LogError;

/// The oldest version of Redis: scripts say what they need by their first line.
const MIN_VERSION: (u32, u32) = (7, 0);
/// The version of Redis with WAITAOF.
const WAITAOF_VERSION: (u32, u32) = (7, 2);

/// Returns the rules of an ACL with the least rights that a broker needs, without the user's name and password. WAITAOF can't be
/// named where it does not exist.
#[cfg(any(test, feature = "internals"))]
pub fn acl_rules(prefix: &str, has_waitaof: bool) -> String {
    let waitaof = if has_waitaof { " +waitaof" } else { "" };
    format!(
        "resetchannels ~{prefix}:{LAYOUT}:* -@all +info +config|get +client|setname +select +script|load +evalsha +wait{waitaof} \
         +time +hdel +hget +hgetall +hmget +hset +pexpire +rename +set +unlink +xadd +xdel +xlen +xrange +xread +xrevrange +xtrim +zadd +zlexcount \
         +zrange +zrem"
    )
}

/// What the server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The name and the version.
    pub name: String,
    version: (u32, u32),
    /// Whether it is a replica.
    pub is_replica: bool,
    is_loading: bool,
    is_cluster: bool,
    policy: String,
    has_aof: bool,
    /// The bytes of memory that it uses.
    pub memory_used: u64,
    /// The most bytes of memory; 0 if there is no limit.
    pub memory_limit: u64,
}

impl Facts {
    /// Asks the server.
    pub fn ask(wire: &mut Wire) -> Result<Self, LogError> {
        let info =
            value::text(wire.call(&redis::cmd("INFO"))?).ok_or_else(|| value::malformed("the answer to INFO"))?;
        Self::read(&info).ok_or_else(|| value::malformed("the version in the answer to INFO"))
    }

    fn read(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim_end)
        };
        let redis = field("redis_version");
        let mut numbers = redis.split('.').map(str::parse);
        let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let name = match field("valkey_version") {
            "" => format!("Redis {redis}"),
            valkey => format!("Valkey {valkey}"),
        };
        Some(Self {
            name,
            version,
            is_replica: field("role") == "slave",
            is_loading: field("loading") == "1",
            is_cluster: field("cluster_enabled") == "1",
            policy: field("maxmemory_policy").to_owned(),
            has_aof: field("aof_enabled") == "1",
            memory_used: field("used_memory").parse().unwrap_or(0),
            memory_limit: field("maxmemory").parse().unwrap_or(0),
        })
    }

    /// Returns whether the server can wait for an fsync.
    pub fn has_waitaof(&self) -> bool {
        self.version >= WAITAOF_VERSION
    }

    /// Fails if a broker can't work with the server.
    pub fn check(&self) -> Result<(), LogError> {
        let name = &self.name;
        if self.version < MIN_VERSION {
            return Err(error::setup(format!("it is {name}; Redis 7.0 or later, or Valkey, is needed")));
        }
        if self.is_cluster {
            return Err(error::from_server("CROSSSLOT", "cluster-enabled yes"));
        }
        if !matches!(self.policy.as_str(), "" | "noeviction") {
            return Err(error::setup(format!(
                "its maxmemory-policy is {}, which may remove the log at any time; set maxmemory-policy noeviction",
                self.policy
            )));
        }
        if self.is_loading {
            return Err(error::not_writable("it is loading its data"));
        }
        if self.is_replica {
            return Err(error::from_server("READONLY", "role:slave"));
        }
        Ok(())
    }

    /// Asks how often the append-only file is written to the disk, if there is one.
    pub fn fsync(&self, wire: &mut Wire) -> Result<Fsync, LogError> {
        if !self.has_aof {
            return Ok(Fsync::NoFile);
        }
        let mut command = redis::cmd("CONFIG");
        let answer = wire.ask(command.arg("GET").arg("appendfsync").arg("no-appendfsync-on-rewrite"))?;
        let Some([first, one, _, other]) = value::texts(answer) else { return Ok(Fsync::Unknown) };
        let (fsync, on_rewrite) = if first == "appendfsync" { (one, other) } else { (other, one) };
        Ok(if on_rewrite == "yes" && fsync == "always" { Fsync::Paused } else { Fsync::Known(fsync) })
    }
}

/// Fails if this user lacks a right, or if the keys hold something else.
pub fn check_keys(wire: &mut Wire, keys: &Keys, proof: Option<&Cmd>) -> Result<(), LogError> {
    let Keys { log, meta, records, index, newest, brokers, revocations, copy, .. } = keys;
    let session = keys.session(0);
    let mut command = CHECK.command(&[
        log,
        meta,
        &session,
        records,
        index,
        newest,
        brokers,
        revocations,
        copy,
        &keys.keys,
        &keys.key_order,
    ]);
    command.arg(format!("{}topic:id", keys.own));
    let answer = CHECK.run(wire, &command)?;
    let [denied, key, format] = value::texts(answer).ok_or_else(|| value::malformed("the answer to the check"))?;
    if !denied.is_empty() {
        return Err(error::from_server("NOPERM", &format!("on {} it may not use {denied}", keys.log)));
    }
    if !key.is_empty() {
        return Err(error::from_server("WRONGTYPE", &format!("the key {key}")));
    }
    check_format(&format)?;
    proof.map_or(Ok(()), |proof| check_proof(wire, proof))
}

fn check_format(format: &str) -> Result<(), LogError> {
    match format.parse::<u32>() {
        Err(_) if format.is_empty() => Ok(()),
        Ok(1..=FORMAT) => Ok(()),
        _ => Err(error::setup(format!(
            "its log has format {format}, which this version of Esker does not know; upgrade this broker"
        ))),
    }
}

/// Fails if this user may not use the command that proves something.
pub fn check_proof(wire: &mut Wire, proof: &Cmd) -> Result<(), LogError> {
    match wire.ask(proof)? {
        Value::ServerError(error) if error.code() == "NOPERM" => {
            Err(error::from_server("NOPERM", error.details().unwrap_or("")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log::Refusal;

    fn facts(info: &str) -> Facts {
        Facts::read(&info.replace(' ', "\r\n")).unwrap()
    }

    #[test]
    fn a_server_is_known_by_its_info() {
        let read =
            facts("redis_version:7.2.4 server_name:valkey valkey_version:8.0.1 role:master aof_enabled:1 loading:0");
        assert_eq!(read.name, "Valkey 8.0.1");
        assert!(read.has_waitaof() && read.has_aof);
        assert_eq!(read.check(), Ok(()));
        assert!(!facts("redis_version:7.0.15").has_waitaof());
        for info in ["", "role:master", "redis_version:seven", "redis_version:7"] {
            assert_eq!(Facts::read(info), None, "{info}");
        }
    }

    #[test]
    fn a_server_that_does_not_fit_is_refused() {
        let refused = |info: &str| match facts(info).check() {
            Err(LogError::Refused(refusal, _)) => refusal,
            other => panic!("{info}: {other:?}"),
        };
        for info in [
            "redis_version:6.2.14",
            "redis_version:7.4.0 cluster_enabled:1",
            "redis_version:7.4.0 maxmemory_policy:allkeys-lru",
        ] {
            assert_eq!(refused(info), Refusal::Setup);
        }
        for info in ["redis_version:7.4.0 role:slave", "redis_version:7.4.0 loading:1"] {
            assert_eq!(refused(info), Refusal::NotWritable);
        }
    }

    #[test]
    fn a_newer_format_is_refused() {
        for format in ["", "1", "2", "3"] {
            assert_eq!(check_format(format), Ok(()));
        }
        for format in ["0", "4", "x", "99999999999"] {
            assert!(check_format(format).is_err(), "{format}");
        }
    }
}
