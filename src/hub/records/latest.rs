//! The feed of records: the newest frame of each name, ascending by id. A newer frame of the same name replaces the older one
//! without a gap. Independent of who listens.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::sse::Frame;

/// The newest frame of each name.
#[derive(Debug, Default)]
pub struct Latest {
    frames: BTreeMap<u64, Arc<Frame>>,
    by_name: HashMap<Arc<str>, u64>,
    bytes: usize,
}

impl Latest {
    /// Returns the number of names.
    #[allow(clippy::len_without_is_empty, reason = "not needed")]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns the bytes of memory that the frames take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the smallest id.
    pub fn oldest(&self) -> Option<u64> {
        self.frames.first_key_value().map(|(&id, _)| id)
    }

    /// Returns the largest id there ever was. The newest frame is never replaced by an older one.
    pub fn newest(&self) -> u64 {
        self.frames.last_key_value().map_or(0, |(&id, _)| id)
    }

    /// Returns the frames, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.frames.values()
    }

    /// Returns the first frame after a cursor.
    pub fn first_after(&self, cursor: u64) -> Option<&Arc<Frame>> {
        // Most cursors are at the newest frame, which is found without a search.
        self.frames.last_key_value().filter(|(id, _)| **id > cursor)?;
        self.frames.range(cursor + 1..).next().map(|(_, frame)| frame)
    }

    /// Returns the first frame after a cursor that has one of these names.
    pub fn first_among(&self, names: &[Arc<str>], cursor: u64) -> Option<&Arc<Frame>> {
        let ids = names.iter().filter_map(|name| self.by_name.get(name)).filter(|id| **id > cursor);
        ids.min().and_then(|id| self.frames.get(id))
    }

    /// Returns whether the frame with this id is still the newest of its name.
    pub fn contains(&self, id: u64) -> bool {
        self.frames.contains_key(&id)
    }

    /// Returns the frame with this id, if it is still the newest of its name.
    pub fn get(&self, id: u64) -> Option<&Arc<Frame>> {
        self.frames.get(&id)
    }

    /// Creates the feed from frames that ascend by id. Of several with one name, only the last is kept. Much faster than pushing
    /// them one by one.
    pub fn restore(frames: Vec<Arc<Frame>>) -> Self {
        debug_assert!(frames.is_sorted_by(|one, next| one.id() < next.id()), "a feed ascends");
        let (mut by_name, mut superseded) = (HashMap::with_capacity(frames.len()), Vec::new());
        for frame in &frames {
            superseded.extend(frame.name().and_then(|name| by_name.insert(Arc::clone(name), frame.id())));
        }
        let mut frames: BTreeMap<_, _> = frames.into_iter().map(|frame| (frame.id(), frame)).collect();
        superseded.iter().for_each(|id| drop(frames.remove(id)));
        let bytes = frames.values().map(|frame| frame.cost()).sum();
        Self { frames, by_name, bytes }
    }

    /// Adds a frame that is newer than all others and returns the one that it replaces.
    pub fn push(&mut self, frame: Arc<Frame>) -> Option<Arc<Frame>> {
        debug_assert!(frame.id() > self.newest(), "a feed ascends");
        let name = Arc::clone(frame.name()?);
        self.bytes += frame.cost();
        let superseded = self.by_name.insert(name, frame.id()).and_then(|id| self.frames.remove(&id));
        self.bytes -= superseded.as_ref().map_or(0, |frame| frame.cost());
        self.frames.insert(frame.id(), frame);
        debug_assert_eq!(self.frames.len(), self.by_name.len(), "each name has one frame");
        superseded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::record_frame;

    #[test]
    fn keeps_the_newest_frame_of_each_name() {
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
        assert!(latest.contains(5) && !latest.contains(1) && latest.by_name.get("c") == Some(&7));
        assert_eq!(latest.bytes(), latest.frames().map(|frame| frame.cost()).sum::<usize>());
        let mut restored = Latest::restore(latest.frames().cloned().collect());
        assert_eq!((restored.bytes(), restored.newest(), restored.by_name.get("b")), (latest.bytes(), 9, Some(&9)));
        assert_eq!(restored.push(record_frame(&Arc::from("b"), "2", 10)).map(|frame| frame.id()), Some(9));
    }

    #[test]
    fn of_several_restored_frames_with_one_name_the_last_is_kept() {
        let frames = [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "c")];
        let frames = frames.map(|(id, name)| record_frame(&Arc::from(name), "1", id));
        let mut restored = Latest::restore(frames.to_vec());
        assert_eq!(restored.frames().map(|frame| frame.id()).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!((restored.bytes(), restored.len()), (3 * frames[0].cost(), 3));
        assert_eq!(restored.push(record_frame(&Arc::from("a"), "2", 6)).map(|frame| frame.id()), Some(4));
    }
}
