//! Reads beside the writer, each kind on a thread and a connection of its own: pages of histories, and whether a record exists.
//! With a write-ahead log (WAL) readers and the writer never wait for each other.

pub(super) mod history;
pub(super) mod lookup;
pub(super) mod page;
mod schedule;
