//! Requests to read records and to remove some of their versions, and the answers.

use super::{Hello, LogError, Mark, token};
use crate::records::Record;

/// The bytes of removed records after which one request removes no other. The engine does nothing else meanwhile.
pub const REMOVED_BYTES: u64 = 1 << 20;
/// The most versions that one request to erase removes.
pub const ERASED_AT_ONCE: usize = 256;
/// The most names that one sweep looks at.
pub const SWEPT_NAMES: usize = 256;
/// The most versions that one sweep removes.
pub const SWEPT_VERSIONS: usize = 256;
/// The most versions that an insert removes of each of its names.
pub const PRUNED_OF_A_NAME: usize = 4;
/// The most versions that an insert removes of all its names together, in addition to one for each of its records.
pub const PRUNED_BEYOND_THE_COUNT: usize = 16;

/// Reads the records that the log's entries refer to. They stay when the entries are trimmed. A server that can't write refuses
/// all of it, because it may have fewer records than the log, or other ones.
pub trait ReadRecords {
    /// Returns the newest record of each name, those with ids larger than `after`, ascending by id. May return only the first few;
    /// returns none only if there are none.
    fn newest_records(&mut self, after: u64) -> Result<Vec<Record>, LogError>;

    /// Returns the records with ids from `first` through `last`, ascending. May return only the first few; returns none only if
    /// there are none.
    fn records(&mut self, first: u64, last: u64) -> Result<Vec<Record>, LogError>;

    /// Returns the records as [`ReadRecords::records`] does, and whether the log had this entry at that moment. If so, those that
    /// are missing of its records and of those of entries before it were removed, not lost.
    fn records_of(&mut self, first: u64, last: u64, entry: &Mark) -> Result<(Vec<Record>, bool), LogError> {
        let _ = entry;
        self.records(first, last).map(|records| (records, false))
    }

    /// Returns whether there is a record with this id.
    fn has_record(&mut self, id: u64) -> Result<bool, LogError>;

    /// Returns the versions of a name with ids larger than `after`, ascending, at most `limit`. May return only the first few;
    /// returns none only if there are none.
    fn versions(&mut self, name: &str, after: u64, limit: usize) -> Result<Vec<Version>, LogError>;
}

/// Removes versions of records for good.
pub trait RemoveRecords {
    /// Erases the oldest versions of a name, a bounded number of them. The newest version goes last: together with it, an entry is
    /// appended that says so ([`Body::Erased`](super::Body::Erased)). Returns when all that this session has done is as durable as an insert.
    fn erase(&mut self, erase: &Erase<'_>) -> Result<Erased, LogError>;

    /// Removes versions which the retention does not keep, a bounded number of them, of the names that follow those of the last
    /// sweep, whichever broker made it. Inserts do that as well, for the names that they insert. Never removes a newest version.
    fn sweep(&mut self, hello: Hello) -> Result<Swept, LogError>;

    /// Gives back some of the memory that removed records still take, and their text with it, if there is enough of it or if some
    /// were erased.
    fn compact(&mut self, hello: Hello) -> Result<Compacted, LogError> {
        let _ = hello;
        Ok(Compacted::Done)
    }
}

/// What a compaction has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// There is nothing to do.
    Done,
    /// A part of it. There is more to do.
    Partly,
}

/// A request to erase versions of a name.
#[derive(Clone, Copy, Debug)]
pub struct Erase<'a> {
    /// The session, which must be the broker's newest.
    pub hello: Hello,
    /// The number of the batch, as in [`Append::batch`](super::Append::batch).
    pub batch: u64,
    /// The newest id that the broker knows. That of the entry is larger.
    pub floor: u64,
    /// The name.
    pub name: &'a str,
    /// Only versions with smaller ids; `None` for all that there are now.
    pub before: Option<u64>,
}

impl Erase<'_> {
    /// Returns the token of the entry.
    pub fn token(&self) -> String {
        token(self.hello, self.batch)
    }
}

/// What a request to erase has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// How many versions were removed.
    pub versions: u64,
    /// What to go on with, as [`Erase::before`]; `None` if nothing is left.
    pub rest: Option<u64>,
    /// The id of the entry that says so, if the newest version was removed.
    pub entry: Option<u64>,
    /// The newest id of the log.
    pub last: u64,
}

/// What a sweep has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// How many versions were removed.
    pub versions: u64,
    /// Whether there may be more to remove, because the sweep has removed as much as it may.
    pub is_cut_short: bool,
}

/// A version of a record whose name is known from the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: u64,
    /// JSON text.
    pub data: Box<str>,
}
