//! One feed: the run of a topic's newest frames, ascending by id. Refuses to know who listens.

use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;

use crate::sse::Frame;

/// Frames of one feed, ascending.
pub type Run<'a> = vec_deque::Iter<'a, Arc<Frame>>;

/// The retained frames of one topic and the mark below which frames are gone.
#[derive(Debug, Default)]
pub struct Window {
    frames: VecDeque<Arc<Frame>>,
    evicted_through: u64,
}

impl Window {
    /// An empty window in which everything up to `evicted_through` counts as gone.
    pub fn new(evicted_through: u64) -> Self {
        Self { frames: VecDeque::new(), evicted_through }
    }

    /// The largest id that this feed no longer has. A position before it has lost events.
    pub fn evicted_through(&self) -> u64 {
        self.evicted_through
    }

    /// The number of retained frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The id of the oldest retained frame.
    pub fn oldest(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.id())
    }

    /// The id of the newest frame there ever was.
    pub fn newest(&self) -> u64 {
        self.frames.back().map_or(self.evicted_through, |frame| frame.id())
    }

    /// The oldest frames beyond the newest `limit` ones.
    pub(super) fn beyond(&self, limit: usize) -> impl DoubleEndedIterator<Item = &Arc<Frame>> {
        self.frames.range(..self.len().saturating_sub(limit))
    }

    /// The retained frames, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.frames.iter()
    }

    /// The retained frames whose id is larger than `cursor`, oldest first.
    pub fn after(&self, cursor: u64) -> Run<'_> {
        self.frames.range(self.index_after(cursor)..)
    }

    /// Whether the frame with this id is retained.
    pub fn has(&self, id: u64) -> bool {
        self.frames.binary_search_by_key(&id, |frame| frame.id()).is_ok()
    }

    /// How many frames follow `cursor`; the usual answers, none and one, are found without a search.
    fn index_after(&self, cursor: u64) -> usize {
        let len = self.frames.len();
        match self.frames.iter().rev().take(2).take_while(|frame| frame.id() > cursor).count() {
            0 => len,
            1 => len - 1,
            _ => self.frames.partition_point(|frame| frame.id() <= cursor),
        }
    }

    /// Appends a frame; its id must be larger than [`Window::newest`].
    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        debug_assert!(frame.id() > self.newest(), "a feed ascends");
        self.frames.push_back(frame);
    }

    /// Removes the oldest frame.
    pub(super) fn pop(&mut self) -> Option<Arc<Frame>> {
        let frame = self.frames.pop_front()?;
        self.evicted_through = frame.id();
        // What a burst took is given back; a feed as long as ever is not reallocated.
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        } else if self.frames.capacity() > 64 && self.frames.len() < self.frames.capacity() / 4 {
            self.frames.shrink_to(self.frames.len() * 2);
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::UnsequencedFrame;

    #[test]
    fn a_burst_leaves_no_room_behind() {
        let mut window = Window::new(0);
        (1..=100_000).for_each(|id| window.push(UnsequencedFrame::writer(0).finish(None).stamp(id)));
        while window.len() > 100 {
            window.pop();
        }
        assert!(window.frames.capacity() < 1000, "{}", window.frames.capacity());
        assert_eq!((window.oldest(), window.newest()), (Some(99_901), 100_000));
    }
}
