//! Esker is a server-sent-events broker: `POST` an event, and every browser, curl or service that
//! listens gets it at once, in order, and after a broken connection exactly from where it was.
//!
//! The binary is a thin wrapper around this library, which can be embedded:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = esker::Broker::start(esker::Config::new().no_auth(true).data(":memory:").port(0).origin("*"))?;
//! broker.publish("greeting1", &esker::Event::new("hello").name("greeting"))?;
//! # Ok(())
//! # }
//! ```
//!
//! What an operator or a client's author wants to know is in the [`guide`].
//!
//! # The house
//!
//! Publishers and subscribers speak HTTP to a fixed pool of **workers**, each one thread with one
//! poll, owning its sockets alone. A publish goes through the **hub**, the one place where order is
//! made: under one short lock it gives the event its id, puts the frame into the topic's feed and
//! into the inbox of each worker that has a listener. Each worker keeps a replica of the feeds that
//! its subscribers listen to, and writes from it. A subscriber is a socket and a **cursor**; nothing
//! is queued for it. Live delivery, catching up after a stall and resuming after a disconnect are
//! one move: *write the frames after the cursor*.
//!
//! ```text
//! main    arguments → logger → run → exit code
//! cli     one table of options: parsing, --help, manual, completions, environment twins
//! config  what can be set; every bound has a name and a unit
//! quota/  what one holder of tokens may take                    knows no socket, no HTTP, reads no clock
//! keys    where keys come from: the configuration, files
//! json    JSON without its white space
//! clock   the only reader of clocks
//! logging/ the binary's log: a bounded queue and a thread that writes it
//! metrics/ counters, and the table that /stats and /metrics show
//! guide/  what operators and clients' authors want to know; no code
//! pages   slabs that give memory back; spare: containers that do
//! quota/  what one holder of tokens may take
//! broker  composition root: bind, start, drain, stop; stepped: the whole of it driven by hand, for simulation
//! http/   bytes ↔ HTTP                                          knows no topic, no socket
//! sse/    text ↔ events ↔ frames                                knows no socket
//! auth/   token → grant                                         knows no socket, reads no clock or file
//! store/  records: the commits, the schema, histories            knows no HTTP, no hub
//! hub/    ids, topics, feeds, who listens; one leaf lock        knows no socket, reads no clock
//! api/    one file per route: request → outcome                 knows no socket
//! worker/ the event loops: accept, exchange, audiences, serve, sweep; on a kernel, which may be simulated
//! fuzz/   what must hold of whatever bytes come; for tests and fuzzers alone
//! ```
//! Calls go down only: main → cli, broker → worker → api → http, sse, auth, hub, store.
//!
//! # Lexicon
//!
//! **worker** a loop thread · **turn** one pass of it · **exchange** one connection's requests and
//! answers · **subscriber** a socket in its stream · **event** what was published · **frame** an
//! event's wire bytes, encoded once and shared · **draft** a frame without its id · **id** the
//! broker-wide order · **feed** a retained run of frames · **cursor** the last id given to a socket
//! · **audience** a worker's subscribers to the same set of feeds · **seat** an index in it ·
//! **absence** what is noted of a subscriber without a seat · **rest** a frame half written ·
//! **debt** what the hub sent a worker and the worker has not yet served · **surplus** what a worker
//! keeps beyond a topic's history while somebody's socket is full · **role** publisher or subscriber,
//! each with a key of its own · **keyring** a role's key and the one before · **grant** what a token
//! allows · **holder** whose it is · **denial** why it allows nothing · **record** an event stored for good; each is a version of
//! its name · **errand** what a request asks of the store · **replica** a worker's copy of the feeds it
//! serves · **farewell** the last word to a stream that ends.
//!
//! # Invariants
//!
//! 1. Ids grow strictly over the whole broker; each feed ascends; a replica is complete up to its
//!    newest id whenever somebody is served from it.
//! 2. What is acknowledged is kept: a publish is in its feed, a record on the disk before the answer
//!    leaves, and nothing is shown that is not on the disk.
//! 3. A subscriber gets every event after its cursor once, in order, or a `gap` event; never silence.
//! 4. Delivery allocates nothing and locks nothing. An idle subscriber costs a slab entry and a seat.
//! 5. No subscriber can slow another, a publisher or the hub; each turn is bounded and resumable.
//! 6. Every queue, buffer, map and timer has a named bound. Full means an honest refusal or backpressure.
//! 7. After a write a subscriber is exactly one of seated, hungry (more to write, no edge will come),
//!    blocked (an edge will come) and gone.
//! 8. Accepting survives the want of descriptors and goes on by itself.
//! 9. Tokens, secrets and payloads never reach a log.
#![forbid(unsafe_code)]

mod api;
mod auth;
mod broker;
mod clock;
mod config;
mod conn;
mod engine;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod guide;
mod http;
mod keys;
mod metrics;
mod quota;
mod util;

// Not part of the public API: open for this repository's binary, tests and benches alone.
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod hub;
#[doc(hidden)]
pub mod logging;
#[doc(hidden)]
pub mod net;
#[doc(hidden)]
pub mod sse;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod stream;
#[doc(hidden)]
pub mod worker;

pub use auth::{KeyError, Role};
// A whole broker, driven by hand: for the simulation.
#[doc(hidden)]
pub use broker::stepped;
pub use broker::{Broker, InsertError, PublishError, Published, StartError, run};
pub use cli::UsageError;
pub use config::{Config, ConfigError, ListenAddress, ParseAddressError};
pub use hub::ParseTopicError;
pub use keys::KeyFileError;
pub use sse::{Event, EventError};
pub use store::{OpenError, Shortage, StoreError};

/// The README's Rust code, so that it is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
