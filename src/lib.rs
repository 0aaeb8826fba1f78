//! Esker is a server-sent-events broker: `POST` an event to a topic, and every browser, curl or service that subscribes to it
//! receives the event at once and in order. After a lost connection, a client resumes exactly where it was.
//!
//! This crate is the library behind the `esker` binary. A program that embeds it runs the same broker on threads of its own,
//! publishes without a round trip over HTTP, and can subscribe from within the process:
//!
//! ```
//! use esker::{Broker, Config, Event};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Broker::start(Config::new().no_auth(true).in_memory().port(0).origin("*"))?;
//! broker.publish("greeting1", &Event::new("hello").name("greeting"))?;
//! broker.shutdown();
//! # Ok(())
//! # }
//! ```
//!
//! The [`guide`] is for operators and authors of clients; [`guide::library`] describes embedding. `ARCHITECTURE.md` in the
//! repository explains how the broker works: its modules, its terms and its invariants.
//!
//! # Features
//!
//! All are on by default except `tls` and `internals`.
//!
//! | feature | |
//! |---|---|
//! | `records` | `/insert`, `/events`, `/audit` and `Broker::insert`: records in SQLite. A program can link only one copy of SQLite; one that uses another crate for it leaves this out, and those routes are not found. |
//! | `engine` | [`Config::engine`]: several brokers that share their topics and records through a log in Redis or Valkey. |
//! | `tls` | encrypted connections to the engine (`rediss://`). |
//! | `cli`, `jemalloc` | the `esker` binary: its command line, log and allocator. Programs that embed the library don't need them. `cli` includes [`Config::from_env`]. |
//! | `internals` | modules for this repository's tests and benchmarks. Not part of the public API. |
#![forbid(unsafe_code)]
// Without the feature `records`, the code that serves records is compiled but unused.
#![cfg_attr(not(feature = "records"), allow(dead_code, unused_imports))]

mod api;
mod auth;
mod broker;
mod clock;
mod config;
mod conn;
#[cfg_attr(not(feature = "engine"), allow(dead_code, unused_imports, reason = "nothing starts it"))]
mod engine;
#[cfg(feature = "internals")]
mod fuzz;
pub mod guide;
mod http;
mod hub;
mod ids;
mod keys;
mod metrics;
mod net;
mod quota;
mod records;
#[cfg(feature = "internals")]
mod sim;
mod sse;
#[cfg(feature = "records")]
mod store;
#[cfg(not(feature = "records"))]
#[path = "store/absent.rs"]
mod store;
mod stream;
mod util;
mod worker;

// Used only by the binary.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod logging;

pub use api::erase::EraseError;
pub use api::revoke::RevokeError;
pub use auth::{KeyError, Revocation, RevocationError, Role};
pub use broker::{
    Broker, InsertError, PublishError, Published, ReceiveError, Received, ReceivedEvent, StartError, StartFrom,
    SubscribeError, Subscription, run,
};
#[cfg(any(feature = "records", feature = "engine"))]
pub use broker::{Insert, Inserted};
#[cfg(feature = "cli")]
pub use cli::EnvError;
pub use config::{Config, ConfigError, ListenAddress, ParseAddressError};
pub use engine::{AckMode, EngineError, EngineUrlError, ParseAckError};
pub use http::access_log::AccessLogFormat;
pub use hub::ParseTopicError;
pub use keys::KeyFileError;
pub use sse::{Event, EventError};
pub use store::{OpenError, Shortage, StoreError};

/// Modules for this repository's tests and benchmarks. They may change in any release.
#[cfg(feature = "internals")]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internals {
    pub mod engine {
        pub use crate::engine::*;
    }
    pub mod fuzz {
        pub use crate::fuzz::*;
    }
    pub mod hub {
        pub use crate::hub::*;
    }
    pub mod net {
        pub use crate::net::*;
    }
    pub mod records {
        pub use crate::records::progress::Silent;
        pub use crate::records::retention::Retention as VersionRetention;
        pub use crate::records::*;
    }
    pub mod sim {
        pub use crate::sim::*;
    }
    pub mod sse {
        pub use crate::sse::*;
    }
    pub mod store {
        pub use crate::store::*;
    }
    pub mod stream {
        pub use crate::stream::*;
    }
}
