//! One feed: the newest frame of each name, ascending by id. A frame that is superseded is no loss,
//! and nobody is told of it. Refuses to know who listens.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::sse::Frame;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Latest {
    frames: BTreeMap<u64, Arc<Frame>>,
    by_name: HashMap<Arc<str>, u64>,
    bytes: usize,
}

impl Latest {
    /// The number of names.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What the frames cost in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The smallest id.
    pub fn oldest(&self) -> Option<u64> {
        self.frames.first_key_value().map(|(&id, _)| id)
    }

    /// The largest id there ever was: the newest frame is never superseded by an older one.
    pub fn newest(&self) -> u64 {
        self.frames.last_key_value().map_or(0, |(&id, _)| id)
    }

    /// The frames, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.frames.values()
    }

    /// The first frame after a cursor.
    pub fn first_after(&self, cursor: u64) -> Option<&Arc<Frame>> {
        // The usual answer is found without a search.
        self.frames.last_key_value().filter(|(id, _)| **id > cursor)?;
        self.frames.range(cursor + 1..).next().map(|(_, frame)| frame)
    }

    /// The first frame after a cursor that has one of these names.
    pub fn first_among(&self, names: &[Arc<str>], cursor: u64) -> Option<&Arc<Frame>> {
        let ids = names.iter().filter_map(|name| self.by_name.get(name)).filter(|id| **id > cursor);
        ids.min().and_then(|id| self.frames.get(id))
    }

    /// The id of a name's frame.
    pub fn id_of(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    /// Whether the frame with this id is still its name's newest.
    pub fn has(&self, id: u64) -> bool {
        self.frames.contains_key(&id)
    }

    /// From frames ascending by id, one of each name: much faster than one after the other.
    pub fn restore(frames: Vec<Arc<Frame>>) -> Self {
        let bytes = frames.iter().map(|frame| frame.cost()).sum();
        let by_name = frames.iter().filter_map(|frame| Some((Arc::clone(frame.name()?), frame.id()))).collect();
        let frames = frames.into_iter().map(|frame| (frame.id(), frame)).collect();
        Self { frames, by_name, bytes }
    }

    /// Takes a frame in that is newer than all others; answers the one that it supersedes.
    pub fn push(&mut self, frame: Arc<Frame>) -> Option<Arc<Frame>> {
        debug_assert!(frame.id() > self.newest(), "a feed ascends");
        let name = Arc::clone(frame.name()?);
        self.bytes += frame.cost();
        let superseded = self.by_name.insert(name, frame.id()).and_then(|id| self.frames.remove(&id));
        self.bytes -= superseded.as_ref().map_or(0, |frame| frame.cost());
        self.frames.insert(frame.id(), frame);
        superseded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::record_frame;

    #[test]
    fn each_name_has_its_newest() {
        let mut latest = Latest::default();
        for (id, name) in [(1, "a"), (2, "b"), (5, "a"), (7, "c"), (9, "b")] {
            let superseded = latest.push(record_frame(&Arc::from(name), "1", id));
            assert_eq!(
                superseded.map(|frame| frame.id()),
                [(5, 1), (9, 2)].into_iter().find(|pair| pair.0 == id).map(|pair| pair.1)
            );
        }
        assert_eq!(latest.frames().map(|frame| frame.id()).collect::<Vec<_>>(), [5, 7, 9]);
        assert_eq!((latest.oldest(), latest.newest(), latest.len()), (Some(5), 9, 3));
        assert_eq!(latest.first_after(5).map(|frame| frame.id()), Some(7));
        assert_eq!(latest.first_after(9).map(|frame| frame.id()), None);
        assert_eq!(latest.first_after(u64::MAX).map(|frame| frame.id()), None);
        let names = ["a", "b", "x"].map(Arc::from);
        assert_eq!(latest.first_among(&names, 0).map(|frame| frame.id()), Some(5));
        assert_eq!(latest.first_among(&names, 5).map(|frame| frame.id()), Some(9));
        assert!(latest.has(5) && !latest.has(1) && latest.id_of("c") == Some(7));
        assert_eq!(latest.bytes(), latest.frames().map(|frame| frame.cost()).sum::<usize>());
        let mut restored = Latest::restore(latest.frames().cloned().collect());
        assert_eq!((restored.bytes(), restored.newest(), restored.id_of("b")), (latest.bytes(), 9, Some(9)));
        assert_eq!(restored.push(record_frame(&Arc::from("b"), "2", 10)).map(|frame| frame.id()), Some(9));
    }
}
