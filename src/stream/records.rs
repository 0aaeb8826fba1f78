//! The records of a worker's replica: the newest one of every name, and for a moment those that were just superseded.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::Latest;
use crate::sse::Frame;

/// The newest record of every name and the superseded ones that ready subscribers have not been sent yet: they get every
/// version, even if one commit has several of a name.
#[derive(Debug, Default)]
pub struct Records {
    latest: Latest,
    /// By id. Kept until all notified groups are served, so they are no more than the hub sends before that.
    superseded: BTreeMap<u64, Arc<Frame>>,
}

impl Records {
    /// Replaces everything with the records that the hub has: ascending by id, one of each name.
    pub fn restore(&mut self, frames: Vec<Arc<Frame>>) {
        self.latest = Latest::restore(frames);
    }

    /// Returns the largest id.
    pub fn newest(&self) -> u64 {
        self.latest.newest()
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

    /// Returns whether the record with this id is retained.
    pub fn has(&self, id: u64) -> bool {
        self.latest.contains(id) || self.superseded.contains_key(&id)
    }

    /// Returns the first record after a cursor with one of these names, or of all records if there are no names.
    pub fn first_after(&self, names: &[Arc<str>], cursor: u64) -> Option<&Arc<Frame>> {
        let latest = match names {
            [] => self.latest.first_after(cursor),
            names => self.latest.first_among(names, cursor),
        };
        if self.superseded.is_empty() {
            return latest;
        }
        let has_name = |frame: &&Arc<Frame>| names.is_empty() || frame.name().is_some_and(|name| names.contains(name));
        let superseded = self.superseded.range(cursor.saturating_add(1)..).map(|(_, frame)| frame).find(has_name);
        [latest, superseded].into_iter().flatten().min_by_key(|frame| frame.id())
    }
}
