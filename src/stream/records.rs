//! The records of a worker's replica: the newest one of every name, and for a moment those that were just superseded.
//!
//! When all records are replaced, ids may fall, and every subscriber to records is due a gap. A cursor among records therefore
//! has two parts: the id, and in the 11 bits above it the count of the replacements that its subscriber knows of. A cursor with
//! another count than the replica's is one whose subscriber has not been told. Nothing else is kept for a subscriber, and a
//! socket would have to be full during 2,048 replacements for one to go unnoticed. A hub without a log never replaces its
//! records; its cursors are ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::Latest;
use crate::ids::LOG_ID_BITS;
use crate::sse::Frame;

/// Returns the cursor after the record with this id, of a subscriber that knows of these replacements.
pub fn cursor(resets: u64, id: u64) -> u64 {
    debug_assert!(resets == 0 || id >> LOG_ID_BITS == 0, "the id {id} of a log is too large");
    (resets << LOG_ID_BITS) | id
}

/// The newest record of every name and the superseded ones that ready subscribers have not been sent yet: they get every
/// version, even if one commit has several of a name.
#[derive(Debug, Default)]
pub struct Records {
    latest: Latest,
    /// By id. Kept until all notified groups are served, so they are no more than the hub sends before that.
    superseded: BTreeMap<u64, Arc<Frame>>,
    /// The [`Hub::record_resets`](crate::hub::Hub::record_resets) that they include.
    resets: u64,
    /// Whether they were ever copied from the hub.
    is_open: bool,
}

impl Records {
    /// Replaces everything with the records that the hub has after this many replacements: ascending by id, one of each name.
    pub fn restore(&mut self, frames: Vec<Arc<Frame>>, resets: u64) {
        *self = Self { latest: Latest::restore(frames), superseded: BTreeMap::new(), resets, is_open: true };
    }

    /// Returns the replacements that they include; `None` if there are no records because no subscriber ever asked for them.
    pub fn resets(&self) -> Option<u64> {
        self.is_open.then_some(self.resets)
    }

    /// Returns the smallest id of a newest record.
    pub fn oldest(&self) -> Option<u64> {
        self.latest.oldest()
    }

    /// Returns the largest id.
    pub fn newest(&self) -> u64 {
        self.latest.newest()
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

    /// Adds a record that is newer than all others.
    pub fn push(&mut self, frame: Arc<Frame>) {
        if let Some(superseded) = self.latest.push(frame) {
            self.superseded.insert(superseded.id(), superseded);
        }
    }

    /// Evicts the superseded records, after all notified groups were served.
    pub fn take_superseded(&mut self) -> impl Iterator<Item = Arc<Frame>> {
        std::mem::take(&mut self.superseded).into_values()
    }

    /// Returns whether this record is retained. One that was replaced is not, even if another one has its id.
    pub fn has(&self, frame: &Frame) -> bool {
        let retained = self.latest.get(frame.id()).or_else(|| self.superseded.get(&frame.id()));
        retained.is_some_and(|retained| std::ptr::eq(&**retained, frame))
    }

    /// Returns the first record after an id with one of these names, or of all records if there are no names.
    pub fn first_after(&self, names: &[Arc<str>], id: u64) -> Option<&Arc<Frame>> {
        let latest = match names {
            [] => self.latest.first_after(id),
            names => self.latest.first_among(names, id),
        };
        if self.superseded.is_empty() {
            return latest;
        }
        let has_name = |frame: &&Arc<Frame>| names.is_empty() || frame.name().is_some_and(|name| names.contains(name));
        let superseded = self.superseded.range(id.saturating_add(1)..).map(|(_, frame)| frame).find(has_name);
        [latest, superseded].into_iter().flatten().min_by_key(|frame| frame.id())
    }
}
