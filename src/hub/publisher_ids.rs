//! The publisher ids of the events that one topic retains.

use std::collections::HashMap;
use std::sync::Arc;

use crate::util::shrink::Shrink;

/// Finds retained events by the ids that their publishers assigned. Every topic has one of these and most publishers assign
/// no ids, so an empty one is only a pointer.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "an empty map would take six times as much as a pointer")]
pub(super) struct PublisherIds(Option<Box<HashMap<Arc<str>, u64>>>);

impl PublisherIds {
    /// Returns the broker's id of the event with this id.
    pub fn get(&self, publisher_id: &str) -> Option<u64> {
        self.0.as_ref()?.get(publisher_id).copied()
    }

    /// Adds an event, unless another one has the same publisher id.
    pub fn insert(&mut self, publisher_id: &Arc<str>, id: u64) {
        self.0.get_or_insert_default().entry(Arc::clone(publisher_id)).or_insert(id);
    }

    /// Removes this publisher id, if it still belongs to the event with this id.
    pub fn remove(&mut self, publisher_id: &Arc<str>, id: u64) {
        let Some(ids) = &mut self.0 else { return };
        if ids.get(publisher_id) == Some(&id) {
            ids.remove(publisher_id);
        }
        // Frees what a burst has allocated, as the topic's window does.
        if ids.is_empty() {
            self.0 = None;
        } else {
            ids.shrink_if_sparse();
        }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns how many there is room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |ids| ids.capacity())
    }
}
