//! Reads the newest records a slice at a time, for streams that begin or were behind, with the erasures that they have not been
//! told of. The lock is held only while pointers are copied, and all streams share the records themselves.

use std::sync::Arc;

use crate::hub::Hub;
use crate::records::Record;
use crate::sse::Frame;

/// The maximum number of records and erasures of a slice.
pub(in crate::hub) const MAX_RECORDS: usize = 128;
/// Once the records of a slice have this many bytes, no further one is added.
const MAX_BYTES: usize = 128 << 10;

/// What a stream is told of a name.
#[derive(Clone, Debug)]
pub enum RecordChange {
    /// Its newest version.
    Version(Arc<Record>),
    /// That its newest version was erased: the event that says so.
    Erasure(Arc<Frame>),
}

impl RecordChange {
    /// Returns its id. Versions and erasures are in one order.
    pub fn id(&self) -> u64 {
        match self {
            Self::Version(record) => record.id,
            Self::Erasure(frame) => frame.id(),
        }
    }

    /// Returns the bytes that it takes of a slice.
    fn cost(&self) -> usize {
        match self {
            Self::Version(record) => record.name.len() + record.data.len(),
            Self::Erasure(frame) => frame.cost(),
        }
    }
}

/// Some of the newest records, and what was true when they were read.
#[derive(Debug)]
pub struct RecordSlice {
    /// The newest records after a position, and the erasures that the stream does not know of, ascending by id.
    pub changes: Vec<RecordChange>,
    /// Whether no others follow.
    pub is_complete: bool,
    /// The smallest id of all records.
    pub oldest: Option<u64>,
    /// See [`Hub::record_resets`].
    pub resets: u64,
    /// The id of the last erasure.
    pub erased_through: u64,
    /// The id of the last erasure of which it is no longer known what was erased.
    pub forgotten_through: u64,
}

impl Hub {
    /// Returns the first of the newest records after an id that have one of these names, or of all if there are no names. Between
    /// them are the erasures after `told_through`, which is not smaller than the id.
    pub fn read_records(&self, names: &[Arc<str>], after: u64, told_through: u64) -> RecordSlice {
        let mut changes = Vec::with_capacity(if names.is_empty() { MAX_RECORDS } else { names.len() });
        let state = self.lock();
        let (latest, erasures) = (&state.records.latest, &state.records.erasures);
        let erased = erasures.after(names, told_through);
        let is_complete = if names.is_empty() {
            take_some(latest.after(after), erased, &mut changes)
        } else {
            let mut found: Vec<_> = names.iter().filter_map(|name| latest.of(name)).collect();
            found.retain(|record| record.id > after);
            found.sort_unstable_by_key(|record| record.id);
            take_some(found.into_iter(), erased, &mut changes)
        };
        RecordSlice {
            changes,
            is_complete,
            oldest: latest.oldest(),
            resets: self.record_resets(),
            erased_through: erasures.through(),
            forgotten_through: erasures.forgotten_through(),
        }
    }
}

/// Takes as many records and erasures as a slice may have, ascending by id. Returns whether those are all.
fn take_some<'a>(
    records: impl Iterator<Item = &'a Arc<Record>>,
    erasures: impl Iterator<Item = &'a Arc<Frame>>,
    changes: &mut Vec<RecordChange>,
) -> bool {
    let (mut records, mut erasures, mut bytes) = (records.peekable(), erasures.peekable(), 0);
    while changes.len() < MAX_RECORDS && bytes < MAX_BYTES {
        let is_next = |frame: &&Arc<Frame>| records.peek().is_none_or(|record| frame.id() < record.id);
        let change = match erasures.next_if(is_next) {
            Some(frame) => RecordChange::Erasure(Arc::clone(frame)),
            None => match records.next() {
                Some(record) => RecordChange::Version(Arc::clone(record)),
                None => return true,
            },
        };
        bytes += change.cost();
        changes.push(change);
    }
    records.peek().is_none() && erasures.peek().is_none()
}
