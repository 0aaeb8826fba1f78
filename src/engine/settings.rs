//! The settings of the engine, checked.

use std::path::PathBuf;
use std::time::Duration;

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

/// How much of the log is retained. More is trimmed when entries are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The age of the oldest entry.
    pub age: Duration,
    /// The bytes of all entries' events.
    pub bytes: u64,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// When the engine has answered.
    Reply,
    /// When the engine has written it to its disk.
    Fsync,
    /// When this many replicas have it.
    Replicas(u32),
}

/// A password, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}
