//! What an acknowledgement guarantees, and how the server proves it.

use std::sync::{Arc, Mutex, PoisonError};

use redis::{Cmd, Value};

use super::check::Facts;
use super::{PROOF_TIMEOUT, error, value};
use crate::engine::log::LogError;
use crate::engine::settings::AckMode;

/// What an acknowledgement guarantees, as found when the connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// The server: its name, version and address.
    pub server: String,
    /// When a publish is acknowledged.
    pub ack: AckMode,
    /// What can nevertheless be lost, or is slow, and what to do about it.
    pub warning: Option<String>,
    /// Why records are refused, if the server can't prove that they are on its disk.
    pub records_refused: Option<String>,
}

/// The guarantee of the newest connection, shared with whoever reports it.
#[derive(Clone, Debug, Default)]
pub struct GuaranteeHandle(Arc<Mutex<Option<Guarantee>>>);

impl GuaranteeHandle {
    /// Returns the guarantee, if there was a connection yet.
    pub fn get(&self) -> Option<Guarantee> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the guarantee of a new connection, and warns if it is weaker than the one before it.
    pub(super) fn set(&self, guarantee: &Guarantee) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(guarantee.clone());
        if let (Some(before), Some(warning)) = (&before, &guarantee.warning)
            && before.warning != guarantee.warning
        {
            log::warn!("{}: publishes are now acknowledged by {}; {warning}", guarantee.server, guarantee.ack);
        }
        if let (Some(before), Some(why)) = (before, &guarantee.records_refused)
            && before.records_refused.is_none()
        {
            log::warn!("{}: records are now refused: {why}", guarantee.server);
        }
    }
}

/// How the server proves that an entry is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It answers. With `appendfsync always`, it does so after the fsync.
    Answer,
    /// `WAITAOF`
    Fsync,
    /// `WAIT`, with the number of replicas.
    Replicas(u32),
}

impl Proof {
    /// Returns the command that waits for the proof, if one is needed.
    pub fn command(self) -> Option<Cmd> {
        let timeout = PROOF_TIMEOUT.as_millis() as u64;
        match self {
            Self::Answer => None,
            Self::Fsync => Some(redis::cmd("WAITAOF").arg(1).arg(0).arg(timeout).take()),
            Self::Replicas(count) => Some(redis::cmd("WAIT").arg(count).arg(timeout).take()),
        }
    }

    /// Returns the same command with nothing to wait for, which shows whether this user may use it.
    pub fn permission(self) -> Option<Cmd> {
        match self {
            Self::Answer => None,
            Self::Fsync => Some(redis::cmd("WAITAOF").arg(0).arg(0).arg(1).take()),
            Self::Replicas(_) => Some(redis::cmd("WAIT").arg(0).arg(1).take()),
        }
    }

    /// Checks the answer to the command.
    pub fn check(self, answer: Value) -> Result<(), LogError> {
        let answer = error::check(answer).map_err(|why| LogError::Unproven(why.to_string()))?;
        let (reached, needed) = match self {
            Self::Answer => return Ok(()),
            Self::Fsync => (value::list(answer).and_then(|counts| value::integer(counts.first()?)), 1),
            Self::Replicas(count) => (value::integer(&answer), i64::from(count)),
        };
        let reached = reached.ok_or_else(|| value::malformed("the answer to WAIT or WAITAOF"))?;
        if reached >= needed { Ok(()) } else { Err(self.missed(reached)) }
    }

    fn missed(self, reached: i64) -> LogError {
        let seconds = PROOF_TIMEOUT.as_secs_f32();
        LogError::Unproven(match self {
            Self::Replicas(count) => format!("{reached} of {count} replicas had it after {seconds} s"),
            _ => format!("it was not on the engine's disk after {seconds} s"),
        })
    }
}

/// How often the server writes its append-only file to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// The value of `appendfsync`.
    Known(String),
    /// Always, except while the file is rewritten or a snapshot is saved (`no-appendfsync-on-rewrite yes`).
    Paused,
    /// This user may not read it.
    Unknown,
    /// There is no append-only file.
    NoFile,
}

/// Chooses how an acknowledgement is proven. Without a wish, it is an fsync if that can be proven.
pub fn choose(
    wish: Option<AckMode>,
    facts: &Facts,
    fsync: &Fsync,
) -> Result<(Proof, AckMode, Option<String>), LogError> {
    match wish {
        Some(AckMode::Reply) => Ok((Proof::Answer, AckMode::Reply, None)),
        Some(AckMode::Replicas(count)) => Ok((Proof::Replicas(count), AckMode::Replicas(count), None)),
        Some(AckMode::Fsync) => match fsync_proof(facts, fsync) {
            Some(proof) => Ok((proof, AckMode::Fsync, slow(proof, fsync))),
            None => Err(error::setup(format!("--engine-ack fsync: {}", unproven(facts, fsync)))),
        },
        None => match fsync_proof(facts, fsync) {
            Some(proof) => Ok((proof, AckMode::Fsync, slow(proof, fsync))),
            None => Ok((Proof::Answer, AckMode::Reply, Some(unproven(facts, fsync)))),
        },
    }
}

/// How the server proves that records are durable: all of these together.
pub type RecordProofs = [Proof; 2];

/// Chooses how it is proven that records are durable: by an fsync, whatever publishes wait for, and with the replicas that
/// those wait for. Without a proof, returns why there is none.
pub fn choose_for_records(ack: AckMode, facts: &Facts, fsync: &Fsync) -> Result<RecordProofs, String> {
    let proof = fsync_proof(facts, fsync).ok_or_else(|| {
        let why = match fsync {
            Fsync::NoFile => "it keeps no append-only file. Set appendonly yes and appendfsync always",
            Fsync::Unknown => "this user may not read appendfsync. Allow it +config|get",
            Fsync::Known(_) => "appendfsync is not always. Set appendfsync always",
            Fsync::Paused => "no-appendfsync-on-rewrite is yes. Set it to no",
        };
        format!("the engine can't prove that records are on its disk: {why}{}", upgrade(facts))
    })?;
    let replicas = if let AckMode::Replicas(count) = ack { Proof::Replicas(count) } else { Proof::Answer };
    // The replicas may get them while they are written to the disk.
    Ok([replicas, proof])
}

fn upgrade(facts: &Facts) -> &'static str {
    if facts.has_waitaof() { "" } else { ", or use Redis 7.2 or Valkey, which can tell what is on the disk" }
}

fn fsync_proof(facts: &Facts, fsync: &Fsync) -> Option<Proof> {
    match fsync {
        Fsync::NoFile => None,
        Fsync::Known(value) if value == "always" => Some(Proof::Answer),
        // The server then never knows what is on the disk.
        Fsync::Known(value) if value == "no" => None,
        _ => facts.has_waitaof().then_some(Proof::Fsync),
    }
}

fn unproven(facts: &Facts, fsync: &Fsync) -> String {
    let risk = match fsync {
        Fsync::NoFile => {
            "the engine keeps no append-only file: if it stops, it loses all that was published since its last snapshot. \
             Set appendonly yes and appendfsync always"
        }
        Fsync::Unknown => {
            "this user may not read appendfsync: if the engine stops, it may lose what was published within the last \
             seconds. Allow it +config|get"
        }
        Fsync::Paused => {
            "no-appendfsync-on-rewrite is yes: if the engine's machine stops, it loses what was published while the \
             append-only file was rewritten. Set it to no"
        }
        Fsync::Known(_) => {
            "appendfsync is not always: if the engine's machine stops, it loses what was published within the last \
             seconds. Set appendfsync always"
        }
    };
    format!("{risk}{}", upgrade(facts))
}

fn slow(proof: Proof, fsync: &Fsync) -> Option<String> {
    (proof == Proof::Fsync).then(|| match fsync {
        Fsync::Paused => "no-appendfsync-on-rewrite is yes: while the append-only file is rewritten, publishes get no \
                          acknowledgement. Set it to no"
            .to_owned(),
        fsync => {
            let value = if let Fsync::Known(value) = fsync { value } else { "unknown" };
            format!(
                "appendfsync is {value}: each publish waits for the next fsync, up to a second. Set appendfsync always"
            )
        }
    })
}
