//! The settings of the engine, checked.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::url::write_url;
use crate::records::retention::Retention as VersionRetention;

/// The settings of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSettings {
    /// Where the engine is.
    pub address: EngineAddress,
    /// The user name, if it is not the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Password>,
    /// The number of the database.
    pub database: i64,
    /// The file with the certificates of the authorities that are trusted, in PEM, instead of the system's. With TLS only.
    pub ca_file: Option<PathBuf>,
    /// The prefix of all keys, in braces, so that they share a hash slot.
    pub prefix: String,
    /// When a publish is acknowledged. `None` chooses [`AckMode::Fsync`] if the engine can prove it, else [`AckMode::Reply`].
    pub ack: Option<AckMode>,
    /// How much of the log is retained.
    pub retention: Retention,
}

/// Formats the address as a URL, without the password.
impl fmt::Display for EngineSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_url(f, &self.address, self.user.as_deref(), self.database)
    }
}

/// How much of the log is retained. More is trimmed when entries are appended. Records are not trimmed with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The age of the oldest entry.
    pub age: Duration,
    /// The bytes of all entries' events.
    pub bytes: u64,
    /// The bytes of memory that records may take, about. More are refused.
    pub record_bytes: u64,
    /// Which versions of records are kept.
    pub versions: VersionRetention,
}

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAddress {
    /// A server: host, port, and whether TLS is used.
    Server(HostPort, Tls),
    /// Sentinels that know the server by this name, and whether TLS is used for the server and the sentinels.
    Sentinels(Vec<HostPort>, String, Tls),
}

/// A host's name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The name, or the address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// `redis://` and `redis+sentinel://`.
    Off,
    /// `rediss://` and `rediss+sentinel://`.
    On,
}

/// When a publish is acknowledged.
///
/// ```
/// use esker::AckMode;
/// assert_eq!("replicas:2".parse(), Ok(AckMode::Replicas(2)));
/// assert_eq!(AckMode::Fsync.to_string(), "fsync");
/// assert!("replicas".parse::<AckMode>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckMode {
    /// When the engine has answered. If the engine crashes, it may lose what it has not written to its disk yet.
    Reply,
    /// When the engine has written it to its disk.
    Fsync,
    /// When this many replicas have it, 1 to 100.
    Replicas(u32),
}

/// The largest number of replicas that can be waited for.
pub const MAX_REPLICAS: u32 = 100;

/// The error for text that does not say when a publish is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseAckError;

impl fmt::Display for ParseAckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give reply, fsync, or replicas:N with N from 1 to {MAX_REPLICAS}")
    }
}

impl std::error::Error for ParseAckError {}

impl FromStr for AckMode {
    type Err = ParseAckError;

    fn from_str(text: &str) -> Result<Self, ParseAckError> {
        match text {
            "reply" => Ok(Self::Reply),
            "fsync" => Ok(Self::Fsync),
            _ => {
                let number = text.strip_prefix("replicas:").ok_or(ParseAckError)?;
                let count = number.parse().ok().filter(|count| (1..=MAX_REPLICAS).contains(count));
                count.filter(|_| !number.starts_with('+')).map(Self::Replicas).ok_or(ParseAckError)
            }
        }
    }
}

impl fmt::Display for AckMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply => f.write_str("reply"),
            Self::Fsync => f.write_str("fsync"),
            Self::Replicas(count) => write!(f, "replicas:{count}"),
        }
    }
}

/// A password, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}
