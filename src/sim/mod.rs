//! A whole broker without threads, clocks or sockets of its own, so that a simulation can drive it step by step from one
//! thread and one seed. Compiled only with the feature `internals`.

mod broker;
mod engine;

pub use crate::clock::{Clock, ManualClock};
pub use crate::store::ManualStore;
pub use broker::{Broker, Env};
pub use engine::{EngineEnv, ManualEngine, appender_link, reader_link, tail_link};
