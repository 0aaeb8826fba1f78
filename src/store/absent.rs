//! The store of a build without the feature `records`: it has the store's types, but contains nothing and accepts nothing.
//! The routes of records are not served in such a build, so hardly anything here is ever called.

mod report;
#[path = "disk/shortage.rs"]
mod shortage;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

pub use crate::records::{Page, PageQuery, Record, check_name};
pub use report::{Health, StartWait, Status, StoreError, Unerased};
pub(crate) use report::{HeldBy, UNLOCK};
pub use shortage::Shortage;

use crate::ids::Order;
use crate::quota::{Client, PageReservation};
use crate::records::insert::{InsertOutcome, InsertRequest};
use crate::records::retention::Retention;

/// Whether records can be stored: see the feature `records`.
pub const IS_AVAILABLE: bool = false;

/// Where records would be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location(());

impl Location {
    /// Returns no directory.
    pub fn directory(&self) -> Option<&Path> {
        None
    }

    /// Returns the directory if it has records: there is none.
    pub fn directory_with_records(&self) -> Option<&Path> {
        None
    }
}

/// Why a store can't be opened; without records there is no reason.
#[derive(Debug)]
pub enum OpenError {}

impl OpenError {
    /// Returns whether another program holds the database: there is none.
    pub(crate) fn is_lock(&self) -> bool {
        match *self {}
    }

    /// Returns whether the caller has interrupted the check of a copy: there is none.
    pub(crate) fn is_interruption(&self) -> bool {
        match *self {}
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for OpenError {}

/// An opened store, without records.
pub struct Opening {
    /// The newest record of every name: none.
    pub latest: Vec<Record>,
    /// The id that all ids exceed: any.
    pub ids_through: u64,
    /// Revocations of tokens: none.
    pub revocations: Vec<(String, u64)>,
    /// The id of the last erasure: there was none.
    pub erased_through: u64,
}

impl Opening {
    /// Returns no history.
    pub fn take_history(&self) -> io::Result<Option<(File, u64)>> {
        Ok(None)
    }

    /// Does nothing: there are no versions.
    #[must_use]
    pub fn retain(self, _: Retention) -> Self {
        self
    }

    /// Starts nothing.
    pub fn start(self, _: Box<dyn Order<Record>>) -> Result<Store, OpenError> {
        Ok(Store)
    }
}

/// A store without records.
pub struct Store;

impl Store {
    /// Opens nothing.
    pub fn open(_: &Location) -> Result<Opening, OpenError> {
        Ok(Opening { latest: Vec::new(), ids_through: 0, revocations: Vec::new(), erased_through: 0 })
    }

    /// Opens nothing.
    pub fn open_waiting(location: &Location, _: &mut dyn FnMut(StartWait) -> bool) -> Result<Opening, OpenError> {
        Self::open(location)
    }

    /// Refuses the record.
    pub fn insert(&self, _: InsertRequest, reply: impl FnOnce(Result<InsertOutcome, StoreError>) + Send + 'static) {
        reply(Err(StoreError::Closed));
    }

    /// Stores nothing.
    pub fn revoke(&self, _: String, _: u64, reply: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        reply(Ok(()));
    }

    /// Refuses the erasure.
    pub fn erase(&self, _: Arc<str>, _: Option<u64>, reply: impl FnOnce(Result<u64, Unerased>) + Send + 'static) {
        reply(Err(StoreError::Closed.into()));
    }

    /// Refuses the query.
    pub fn read_history(
        &self,
        _: PageQuery,
        _: Client,
        _: PageReservation,
        reply: impl FnOnce(Result<(Page, PageReservation), StoreError>) + Send + 'static,
    ) {
        reply(Err(StoreError::Closed));
    }

    /// Finds nothing.
    pub fn contains(&self, _: u64, reply: impl FnOnce(Result<bool, StoreError>) + Send + 'static) {
        reply(Ok(false));
    }

    /// Does nothing: no high-water mark is stored.
    pub fn note_assigned_id(&self, _: u64) {}

    /// Returns an empty path.
    pub fn directory(&self) -> Arc<Path> {
        Path::new("").into()
    }

    /// Returns the state: ready, and empty.
    pub fn status(&self) -> Status {
        Status::empty()
    }

    /// Does nothing: there is no data directory for the history.
    pub fn close_with_history(
        &self,
        _: &mut dyn FnMut(u64, &mut dyn Write) -> io::Result<()>,
        _: &dyn Fn() -> bool,
    ) -> io::Result<Option<u64>> {
        Ok(None)
    }
}
