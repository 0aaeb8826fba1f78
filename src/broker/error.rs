//! Why a broker can't start, and why it does not take what it is given.

use std::fmt;
use std::io;

use crate::config::{ConfigError, ListenAddress};
use crate::hub::ParseTopicError;
use crate::keys::KeyFileError;
use crate::sse::EventError;
use crate::store::{OpenError, StoreError};

/// Why a broker can't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration can't hold.
    Config(ConfigError),
    /// The records can't be opened.
    Store(OpenError),
    /// A key file can't be used.
    Key(KeyFileError),
    /// The address can't be listened on.
    Bind(ListenAddress, io::Error),
    /// A socket that the service manager handed over can't be listened on.
    InheritedListener(io::Error),
    /// The system refused something else.
    System(io::Error),
}

impl StartError {
    /// Whether an option's value is the cause, rather than the system or the want of keys.
    pub fn is_usage(&self) -> bool {
        let is_lack = |error: &ConfigError| {
            matches!(error, ConfigError::NoKeys | ConfigError::NoKey(_) | ConfigError::Descriptors)
        };
        matches!(self, Self::Config(error) if !is_lack(error))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "can't listen on {address}: the address is in use (perhaps by another esker, or by another option \
                 of this one); stop the other program or change {}",
                options(address)
            ),
            Self::Bind(address, error) => {
                write!(f, "can't listen on {address}: {error}; change {}", options(address))
            }
            Self::InheritedListener(error) => {
                write!(
                    f,
                    "a socket passed by the service manager can't be used: {error}; it must be a listening stream \
                     socket"
                )
            }
            Self::System(error) => write!(f, "the broker can't start: {error}"),
        }
    }
}

/// Where an address to listen on comes from.
fn options(address: &ListenAddress) -> &'static str {
    match address {
        ListenAddress::Tcp(_) => "--bind, --port, --listen or --admin",
        ListenAddress::Unix(_) => "the path in --listen or --admin",
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<KeyFileError> for StartError {
    fn from(error: KeyFileError) -> Self {
        Self::Key(error)
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Why an event was not published. Nothing of it was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic's name is none.
    Topic(ParseTopicError),
    /// The event can't go on the wire.
    Event(EventError),
    /// The broker can't take it now; try again a little later.
    Full,
    /// The broker is shutting down.
    Draining,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(error) => error.fmt(f),
            Self::Event(error) => error.fmt(f),
            Self::Full => f.write_str("the broker is overloaded with events of this topic; try again"),
            Self::Draining => f.write_str("the broker is shutting down"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Why a record was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertError {
    /// The name or the data is no record's.
    Record(String),
    /// The store did not take it.
    Store(StoreError),
    /// The newest records of all names take as much memory as they may.
    Full,
    /// The broker is shutting down.
    Draining,
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str(
                "the newest records of all names fill the memory limit (latest_bytes); raise it, or use fewer names",
            ),
            Self::Record(advice) => f.write_str(advice),
            Self::Store(error) => error.fmt(f),
            Self::Draining => f.write_str("the broker is shutting down"),
        }
    }
}

impl std::error::Error for InsertError {}
