//! Tests of the engine's parts that need no log on a server. The simulation has those of the whole.

mod appender;
mod queue;
#[cfg(feature = "internals")]
mod reader;
#[cfg(feature = "internals")]
mod revocations;
#[cfg(feature = "internals")]
mod time;
mod waiting;
