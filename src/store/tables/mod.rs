//! The tables, through the one connection that writes them.

pub(super) mod commit;
pub(super) mod index;
pub(super) mod recovery;
pub(super) mod revocations;
pub(super) mod schema;

use rusqlite::Connection;

use self::commit::{Names, Version};
use self::index::Index;
use self::schema::CEILING;
use crate::clock::Clock;
use crate::records::Record;

/// The writing connection, with the state in memory that mirrors the tables: the key of every name, and the records that the
/// index is missing.
pub(super) struct Tables {
    connection: Connection,
    names: Names,
    index: Index,
    clock: Clock,
}

impl Tables {
    /// `unindexed` are the records after `indexed_through`.
    pub fn new(connection: Connection, names: Names, unindexed: Vec<Version>, clock: Clock) -> Self {
        Self { connection, names, index: Index::new(unindexed), clock }
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the number of names.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// Stores records, and the ceiling if there is one, in a durable transaction. After an error nothing is stored, or the
    /// outcome is unknown.
    pub fn commit(&mut self, records: &mut [Record], ceiling: Option<u64>) -> rusqlite::Result<()> {
        let versions = commit::commit(&mut self.connection, &mut self.names, records, ceiling)?;
        debug_assert!(self.is_durable(), "the transaction ended with an fsync");
        debug_assert!(
            records.iter().map(|record| schema::to_sql(record.id)).eq(versions.iter().map(|version| version.1))
        );
        self.index.add(&versions);
        Ok(())
    }

    /// Stores the ceiling of all ids in a durable transaction.
    pub fn set_ceiling(&self, ceiling: u64) -> rusqlite::Result<()> {
        schema::set_meta(&self.connection, CEILING, schema::to_sql(ceiling))
    }

    /// Stores revocations of tokens in a durable transaction.
    pub fn revoke(&mut self, new: &[(String, u64)], max: usize) -> rusqlite::Result<()> {
        revocations::add(&mut self.connection, new, max)?;
        debug_assert!(self.is_durable(), "the transaction ended with an fsync");
        Ok(())
    }

    /// Returns whether no transaction is open and each one's end waits for an fsync.
    fn is_durable(&self) -> bool {
        self.connection.is_autocommit() && schema::is_fully_synchronous(&self.connection)
    }
}

// The index.
impl Tables {
    /// Returns the number of records that the index is missing.
    pub fn unindexed(&self) -> usize {
        self.index.unindexed()
    }

    /// Returns how many of them are waiting for the next pass.
    pub fn pending(&self) -> usize {
        self.index.pending()
    }

    /// Returns whether a pass of the index is under way.
    pub fn is_indexing(&self) -> bool {
        self.index.is_in_pass()
    }

    /// Begins a pass of the index, unless one is under way.
    pub fn begin_indexing(&mut self) {
        self.index.begin_pass();
    }

    /// Indexes the next slice of a pass that is under way: see [`Index::run_slice`].
    pub fn index_slice(&mut self, min_versions: usize) -> rusqlite::Result<()> {
        self.index.run_slice(&mut self.connection, min_versions, &self.clock)
    }

    /// Completes the index.
    pub fn index_all(&mut self) -> rusqlite::Result<()> {
        self.index.complete(&mut self.connection, &self.clock)
    }
}
