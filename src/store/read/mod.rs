//! Reads that run concurrently with the writer: pages of histories, and lookups of ids. Each kind has a thread and a connection
//! of its own, and in WAL mode readers and the writer never wait for each other.

pub(super) mod history;
pub(super) mod lookup;
pub(super) mod page;
