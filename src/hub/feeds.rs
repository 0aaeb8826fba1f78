//! All feeds of one owner, which is the hub or a worker's replica. Counts the retained events and bytes, and finds the feed
//! with the oldest frame without looking at all feeds. `M` is the owner's metadata on each feed.

use std::sync::Arc;

use super::window::Window;
use crate::sse::Frame;
use crate::util::min_tree::MinTree;
use crate::util::paged_slab::PagedSlab;

/// The index of a feed in its [`Feeds`].
pub type Slot = u32;

/// A feed and its owner's metadata.
#[derive(Debug)]
pub struct Feed<M> {
    /// The retained frames.
    pub window: Window,
    /// The owner's metadata.
    pub meta: M,
}

/// The feeds of one owner.
#[derive(Debug)]
pub struct Feeds<M> {
    feeds: PagedSlab<Feed<M>>,
    /// The id of the oldest frame of each feed that is not empty.
    oldest: MinTree,
    events: usize,
    bytes: usize,
    /// Frames per feed beyond which a feed is over its limit. The owner decides when to evict them.
    limit: usize,
    over_limit_bytes: usize,
}

impl<M> Feeds<M> {
    /// Creates an empty set of feeds. A feed with more than `limit` frames is over its limit.
    pub fn new(limit: usize) -> Self {
        Self {
            feeds: PagedSlab::default(),
            oldest: MinTree::default(),
            events: 0,
            bytes: 0,
            limit,
            over_limit_bytes: 0,
        }
    }

    /// Opens an empty feed.
    pub fn open(&mut self, evicted_through: u64, meta: M) -> Slot {
        let slot = self.feeds.insert(Feed { window: Window::new(evicted_through), meta });
        self.oldest.resize(self.feeds.bound());
        slot as Slot
    }

    /// Closes a feed, drops its frames and returns its metadata.
    pub fn close(&mut self, slot: Slot) -> M {
        let feed = self.feeds.remove(slot as usize);
        self.oldest.set(slot as usize, None);
        self.oldest.resize(self.feeds.bound());
        self.events -= feed.window.len();
        self.bytes -= feed.window.frames().map(|frame| frame.cost()).sum::<usize>();
        self.over_limit_bytes -= feed.window.over_limit(self.limit).map(|frame| frame.cost()).sum::<usize>();
        debug_assert!(!self.feeds.is_empty() || self.is_zero(), "closed feeds must not count");
        feed.meta
    }

    /// Returns whether all counts are zero.
    fn is_zero(&self) -> bool {
        (self.events, self.bytes, self.over_limit_bytes, self.oldest.min()) == (0, 0, 0, None)
    }

    /// Returns an open feed. Panics if the slot is closed.
    pub fn get(&self, slot: Slot) -> &Feed<M> {
        &self.feeds[slot as usize]
    }

    /// Returns the metadata of an open feed. Panics if the slot is closed.
    pub fn meta_mut(&mut self, slot: Slot) -> &mut M {
        &mut self.feeds[slot as usize].meta
    }

    /// Returns the feed in a slot that may be closed.
    pub fn find(&self, slot: Slot) -> Option<&Feed<M>> {
        self.feeds.get(slot as usize)
    }

    /// Returns the open feeds in the slots after `after`, or in all slots, by ascending slot.
    pub fn iter_after(&self, after: Option<Slot>) -> impl Iterator<Item = (Slot, &Feed<M>)> {
        let start = after.map_or(0, |slot| slot as usize + 1);
        self.feeds.iter_from(start).map(|(key, feed)| (key as Slot, feed))
    }

    /// Appends a frame to a feed.
    pub fn push(&mut self, slot: Slot, frame: Arc<Frame>) {
        let window = &mut self.feeds[slot as usize].window;
        if window.is_empty() {
            self.oldest.set(slot as usize, Some(frame.id()));
        }
        self.events += 1;
        self.bytes += frame.cost();
        window.push(frame);
        self.over_limit_bytes += window.over_limit(self.limit).next_back().map_or(0, |frame| frame.cost());
    }

    /// Removes the oldest frame of a feed and returns it.
    pub fn pop(&mut self, slot: Slot) -> Option<Arc<Frame>> {
        let window = &mut self.feeds[slot as usize].window;
        let is_over_limit = window.len() > self.limit;
        let frame = window.pop()?;
        self.oldest.set(slot as usize, window.oldest());
        self.events -= 1;
        self.bytes -= frame.cost();
        self.over_limit_bytes -= if is_over_limit { frame.cost() } else { 0 };
        Some(frame)
    }

    /// Returns whether a feed has more frames than its limit.
    pub fn is_over_limit(&self, slot: Slot) -> bool {
        self.get(slot).window.len() > self.limit
    }

    /// Returns the bytes of memory that the frames over the limits of their feeds take.
    pub fn over_limit_bytes(&self) -> usize {
        self.over_limit_bytes
    }

    /// Returns the id of the oldest frame in all feeds, and its feed.
    pub fn oldest(&self) -> Option<(u64, Slot)> {
        self.oldest.min().map(|(id, slot)| (id, slot as Slot))
    }

    /// Returns the number of retained frames in all feeds.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Returns the bytes of memory that the retained frames take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of open feeds.
    pub fn count(&self) -> usize {
        self.feeds.len()
    }
}
