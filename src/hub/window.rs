//! One feed: the newest frames of a topic, ascending by id. Independent of who listens.

use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;

use crate::sse::Frame;
use crate::util::shrink::Shrink;

/// Iterates over frames of one feed, ascending by id.
pub type Run<'a> = vec_deque::Iter<'a, Arc<Frame>>;

/// A window with at least this many frames grows by an eighth rather than to twice its size. Full windows are as long as the
/// limit allows, or a little longer for a moment, and would otherwise be half empty.
const DOUBLING_BELOW: usize = 64;

/// The retained frames of one topic, and the largest id that it no longer retains.
#[derive(Debug, Default)]
pub struct Window {
    frames: VecDeque<Arc<Frame>>,
    evicted_through: u64,
}

impl Window {
    /// Creates an empty window that has evicted everything up to `evicted_through`.
    pub fn new(evicted_through: u64) -> Self {
        Self { frames: VecDeque::new(), evicted_through }
    }

    /// Returns the largest id that was evicted. Events after a position that is smaller are missing.
    pub fn evicted_through(&self) -> u64 {
        self.evicted_through
    }

    /// Returns the number of retained frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether nothing is retained.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns the id of the oldest retained frame.
    pub fn oldest(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.id())
    }

    /// Returns the id of the newest frame there ever was.
    pub fn newest(&self) -> u64 {
        self.frames.back().map_or(self.evicted_through, |frame| frame.id())
    }

    /// Returns the frames that are over the limit: all but the newest `limit`, oldest first.
    pub(super) fn over_limit(&self, limit: usize) -> impl DoubleEndedIterator<Item = &Arc<Frame>> {
        self.frames.range(..self.len().saturating_sub(limit))
    }

    /// Returns the retained frames, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.frames.iter()
    }

    /// Returns the retained frames whose id is larger than `cursor`, oldest first.
    pub fn after(&self, cursor: u64) -> Run<'_> {
        self.frames.range(self.index_after(cursor)..)
    }

    /// Returns whether the frame with this id is retained.
    pub fn contains(&self, id: u64) -> bool {
        self.frames.binary_search_by_key(&id, |frame| frame.id()).is_ok()
    }

    /// Returns the index of the first frame after `cursor`. The common cases, none and one, need no search.
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
        let len = self.frames.len();
        if len >= DOUBLING_BELOW && len == self.frames.capacity() {
            self.frames.reserve_exact(len / 8);
        }
        self.frames.push_back(frame);
    }

    /// Removes the oldest frame and returns it.
    pub(super) fn pop(&mut self) -> Option<Arc<Frame>> {
        let frame = self.frames.pop_front()?;
        self.evicted_through = frame.id();
        // Frees what a burst has allocated. A feed of constant length is not reallocated.
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        } else {
            self.frames.shrink_if_sparse();
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::UnsequencedFrame;

    #[test]
    fn a_full_window_is_not_half_empty() {
        let mut window = Window::new(0);
        for id in 1..=1_000 {
            window.push(UnsequencedFrame::writer(0).finish(None).assign_id(id));
            if window.len() > 256 {
                window.pop();
            }
        }
        assert!(window.frames.capacity() < 300, "{}", window.frames.capacity());
    }

    #[test]
    fn the_capacity_shrinks_after_a_burst() {
        let mut window = Window::new(0);
        (1..=100_000).for_each(|id| window.push(UnsequencedFrame::writer(0).finish(None).assign_id(id)));
        while window.len() > 100 {
            window.pop();
        }
        assert!(window.frames.capacity() < 1000, "{}", window.frames.capacity());
        assert_eq!((window.oldest(), window.newest()), (Some(99_901), 100_000));
    }
}
