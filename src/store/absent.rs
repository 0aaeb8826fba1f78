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
pub use report::{Health, Status, StoreError};
pub use shortage::Shortage;

use crate::ids::Order;
use crate::quota::{Client, PageReservation};

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
}

impl Opening {
    /// Returns no history.
    pub fn take_history(&self) -> io::Result<Option<(File, u64)>> {
        Ok(None)
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
        Ok(Opening { latest: Vec::new(), ids_through: 0, revocations: Vec::new() })
    }

    /// Refuses the record.
    pub fn insert(&self, _: Arc<str>, _: Box<str>, reply: impl FnOnce(Result<u64, StoreError>) + Send + 'static) {
        reply(Err(StoreError::Closed));
    }

    /// Stores nothing.
    pub fn revoke(&self, _: String, _: u64, reply: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        reply(Ok(()));
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
