//! Why a broker can't start, and why it does not accept an event or a record.
//!
//! Messages name a setting as the method of [`Config`](crate::Config) in backquotes; the binary replaces it with its option.

use std::error::Error;
use std::fmt;
use std::io;

use crate::config::{ConfigError, ListenAddress};
use crate::engine::EngineError;
use crate::hub::ParseTopicError;
use crate::keys::KeyFileError;
use crate::records::insert::MAX_KEY;
use crate::sse::{EventError, MAX_EVENTS};
use crate::store::{OpenError, StoreError};

/// Why a broker can't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is invalid.
    Config(ConfigError),
    /// The records can't be opened.
    Store(OpenError),
    /// A key file can't be used.
    Key(KeyFileError),
    /// An address can't be listened on.
    Bind(ListenAddress, io::Error),
    /// A socket that the service manager passed can't be listened on.
    InheritedListener(io::Error),
    /// The engine can't be used: it can't be reached, or refuses, or its log can't be read.
    Engine(String),
    /// A signal came before the broker was ready.
    Stopped,
    /// A system call failed.
    System(io::Error),
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
                settings_of(address)
            ),
            Self::Bind(address, error) => {
                write!(f, "can't listen on {address}: {error}; change {}", settings_of(address))
            }
            Self::InheritedListener(error) => {
                write!(
                    f,
                    "a socket passed by the service manager can't be used: {error}; it must be a listening stream \
                     socket"
                )
            }
            Self::Engine(why) => f.write_str(why),
            Self::Stopped => f.write_str("the broker was stopped before it was ready"),
            Self::System(error) => write!(f, "the broker can't start: {error}"),
        }
    }
}

/// Returns the settings that an address to listen on comes from.
fn settings_of(address: &ListenAddress) -> &'static str {
    match address {
        ListenAddress::Tcp(_) => "`bind`, `port`, `listen` or `admin`",
        ListenAddress::Unix(_) => "the path in `listen` or `admin`",
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Their messages are the message of this error, so it has their source.
            Self::Config(error) => error.source(),
            Self::Store(error) => error.source(),
            Self::Key(error) => error.source(),
            Self::Engine(_) | Self::Stopped => None,
            Self::Bind(_, error) | Self::InheritedListener(error) | Self::System(error) => Some(error),
        }
    }
}

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

/// Why events were not published. None of them was delivered, except perhaps after [`EngineError::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic's name is invalid.
    Topic(ParseTopicError),
    /// An event can't be sent.
    Event(EventError),
    /// The number of events is 0 or more than 10 000. Contains the number.
    Count(usize),
    /// The broker can't accept them now; try again a little later.
    Full,
    /// The topic is new, and the broker has as many topics as [`Config::max_topics`](crate::Config::max_topics) allows.
    TooManyTopics,
    /// The broker is shutting down.
    Draining,
    /// The engine did not accept them, or it is unknown whether it did.
    Engine(EngineError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(error) => error.fmt(f),
            Self::Event(error) => error.fmt(f),
            Self::Count(0) => f.write_str("there is no event to publish"),
            Self::Count(count) => write!(f, "there are {count} events; publish at most {MAX_EVENTS} at a time"),
            Self::Full => f.write_str("the broker is overloaded with events of this topic; try again"),
            Self::TooManyTopics => {
                f.write_str("there are as many topics as `max_topics` allows; try again when some have expired")
            }
            Self::Draining => f.write_str("the broker is shutting down"),
            Self::Engine(error) => f.write_str(&error.of_publish()),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Engine(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a record was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertError {
    /// The name or the data is invalid; the text says how.
    Record(String),
    /// The store did not accept it.
    Store(StoreError),
    /// The engine did not accept it, or it is unknown whether it did.
    Engine(EngineError),
    /// The newest version of the name is not the one that was required.
    Conflict {
        /// Its id, if there is one.
        newest: Option<u64>,
    },
    /// The idempotency key was used for a record with another name within the last 24 hours.
    KeyReused,
    /// The idempotency key is empty, too long, or not ASCII.
    Key,
    /// The newest records of all names take as much memory as [`Config::latest_bytes`](crate::Config::latest_bytes) allows.
    Full,
    /// The broker is shutting down.
    Draining,
    /// The broker serves no records: it was built without them.
    Off,
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str(
                "the newest records of all names fill the memory limit `latest_bytes`; raise it, or use fewer names",
            ),
            Self::Conflict { newest: Some(id) } => {
                write!(f, "the newest version is {id}, not the one that was required")
            }
            Self::Conflict { newest: None } => f.write_str("there is no version of the record yet"),
            Self::KeyReused => f.write_str(
                "the idempotency key was used for a record with another name; use a new key for each record",
            ),
            Self::Key => write!(f, "an idempotency key must have 1 to {MAX_KEY} bytes of printable ASCII"),
            Self::Off => f.write_str("there are no records: the broker was built without them"),
            Self::Record(advice) => f.write_str(advice),
            Self::Store(error) => error.fmt(f),
            Self::Engine(error) => f.write_str(&error.of_insert()),
            Self::Draining => f.write_str("the broker is shutting down"),
        }
    }
}

impl Error for InsertError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Engine(error) => Some(error),
            _ => None,
        }
    }
}
