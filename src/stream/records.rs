//! The records that a worker was sent and has not served to all ready subscribers yet. Those get every version, even if one
//! commit has several of a name. The others read the newest record of each name from the hub.
//!
//! When all records are replaced, ids may fall, and every subscriber to records is due a gap. A cursor among records therefore
//! has two parts: the id, and in the 11 bits above it the count of the replacements that its subscriber knows of. A cursor with
//! another count than the worker's is one whose subscriber has not been told. Nothing else is kept for a subscriber, and a
//! socket would have to be full during 2,048 replacements for one to go unnoticed. A hub without a log never replaces its
//! records; its cursors are ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::LOG_ID_BITS;
use crate::sse::Frame;

/// Returns the cursor after the record with this id, of a subscriber that knows of these replacements.
pub fn cursor(resets: u64, id: u64) -> u64 {
    debug_assert!(resets == 0 || id >> LOG_ID_BITS == 0, "the id {id} of a log is too large");
    (resets << LOG_ID_BITS) | id
}

/// The records and erasures to serve to ready subscribers, and what these know.
#[derive(Debug, Default)]
pub struct Records {
    /// By id. Kept until all notified groups are served, so they are no more than the hub sends before that.
    live: BTreeMap<u64, Arc<Frame>>,
    /// The same by name and id.
    by_name: BTreeMap<(Arc<str>, u64), Arc<Frame>>,
    /// The [`Hub::record_resets`](crate::hub::Hub::record_resets) that the worker has noticed.
    resets: u64,
    /// The id of the last erasure that the worker was sent.
    newest_erasure: u64,
    /// The id of the last erasure that all ready subscribers know of.
    erased_through: u64,
}

impl Records {
    /// Notes that the hub has replaced all records, for the last time with this count.
    pub fn reset(&mut self, resets: u64) {
        let (newest_erasure, erased_through) = (self.newest_erasure, self.erased_through);
        *self = Self { resets, newest_erasure, erased_through, ..Self::default() };
    }

    /// Returns the count of replacements that was noticed.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Returns the id of the last erasure that all ready subscribers know of.
    pub fn erased_through(&self) -> u64 {
        self.erased_through
    }

    /// Returns the cursor after the record with this id.
    pub fn cursor(&self, id: u64) -> u64 {
        cursor(self.resets, id)
    }

    /// Returns the id in a cursor.
    pub fn id(&self, cursor: u64) -> u64 {
        if self.resets == 0 { cursor } else { cursor & !(u64::MAX << LOG_ID_BITS) }
    }

    /// Returns whether the subscriber with this cursor knows of all replacements.
    pub fn is_current(&self, cursor: u64) -> bool {
        self.resets == 0 || cursor >> LOG_ID_BITS == self.cursor(0) >> LOG_ID_BITS
    }

    /// Notes an erasure that is newer than all others.
    pub fn note_erasure(&mut self, id: u64) {
        self.newest_erasure = id;
    }

    /// Adds a record or an erasure that is newer than all others.
    pub fn push(&mut self, frame: Arc<Frame>) {
        let Some(name) = frame.name() else { return };
        self.by_name.insert((Arc::clone(name), frame.id()), Arc::clone(&frame));
        self.live.insert(frame.id(), frame);
    }

    /// Removes everything, after all notified groups were served.
    pub fn clear(&mut self) {
        self.live.clear();
        self.by_name.clear();
        self.erased_through = self.newest_erasure;
    }

    /// Returns whether there is a newer record with the name of this one, or it is erased.
    pub fn is_superseded(&self, frame: &Frame) -> bool {
        frame.name().is_some_and(|name| self.first_of(name, frame.id()).is_some())
    }

    /// Returns the first record or erasure after an id with one of these names, or of all if there are no names.
    pub fn first_after(&self, names: &[Arc<str>], id: u64) -> Option<&Arc<Frame>> {
        if names.is_empty() {
            return self.live.range(id.saturating_add(1)..).next().map(|(_, frame)| frame);
        }
        names.iter().filter_map(|name| self.first_of(name, id)).min_by_key(|frame| frame.id())
    }

    fn first_of(&self, name: &Arc<str>, id: u64) -> Option<&Arc<Frame>> {
        let (first, last) = ((Arc::clone(name), id.saturating_add(1)), (Arc::clone(name), u64::MAX));
        self.by_name.range(first..=last).next().map(|(_, frame)| frame)
    }
}
