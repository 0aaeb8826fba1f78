//! All feeds of one keeper (the hub, or a worker's replica), with what is retained counted in
//! events and bytes, and the feed with the oldest frame always at hand. `T` is what the keeper
//! itself wants to know of each feed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::window::Window;
use crate::sse::Frame;
use crate::util::paged_slab::PagedSlab;

/// Where a keeper holds a feed.
pub type Slot = u32;

/// A feed and its keeper's own note on it.
#[derive(Debug)]
pub struct Feed<T> {
    /// The retained frames.
    pub window: Window,
    /// The keeper's own.
    pub note: T,
}

/// The feeds of one keeper.
#[derive(Debug)]
pub struct Feeds<T> {
    feeds: PagedSlab<Feed<T>>,
    by_oldest: BTreeMap<u64, Slot>,
    events: usize,
    bytes: usize,
    limit: usize,
    surplus_bytes: usize,
}

impl<T> Feeds<T> {
    /// No feeds yet; what one has beyond its `limit` newest frames is counted as surplus.
    pub fn new(limit: usize) -> Self {
        Self { feeds: PagedSlab::default(), by_oldest: BTreeMap::new(), events: 0, bytes: 0, limit, surplus_bytes: 0 }
    }

    /// Opens an empty feed.
    pub fn open(&mut self, evicted_through: u64, note: T) -> Slot {
        self.feeds.insert(Feed { window: Window::new(evicted_through), note }) as Slot
    }

    /// Closes a feed and forgets its frames.
    pub fn close(&mut self, slot: Slot) -> T {
        let feed = self.feeds.remove(slot as usize);
        if let Some(oldest) = feed.window.oldest() {
            self.by_oldest.remove(&oldest);
        }
        self.events -= feed.window.len();
        self.bytes -= feed.window.frames().map(|frame| frame.cost()).sum::<usize>();
        self.surplus_bytes -= feed.window.beyond(self.limit).map(|frame| frame.cost()).sum::<usize>();
        feed.note
    }

    /// The feed in a slot that [`Feeds::open`] gave and [`Feeds::close`] did not take back.
    pub fn get(&self, slot: Slot) -> &Feed<T> {
        &self.feeds[slot as usize]
    }

    /// The keeper's note on a feed.
    pub fn note_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.feeds[slot as usize].note
    }

    /// The feed in a slot that may have been closed.
    pub fn find(&self, slot: Slot) -> Option<&Feed<T>> {
        self.feeds.get(slot as usize)
    }

    /// Appends a frame to a feed.
    pub fn push(&mut self, slot: Slot, frame: Arc<Frame>) {
        let window = &mut self.feeds[slot as usize].window;
        if window.is_empty() {
            self.by_oldest.insert(frame.id(), slot);
        }
        self.events += 1;
        self.bytes += frame.cost();
        window.push(frame);
        self.surplus_bytes += window.beyond(self.limit).next_back().map_or(0, |frame| frame.cost());
    }

    /// Removes the oldest frame of a feed.
    pub fn pop(&mut self, slot: Slot) -> Option<Arc<Frame>> {
        let window = &mut self.feeds[slot as usize].window;
        let is_surplus = window.len() > self.limit;
        let frame = window.pop()?;
        self.by_oldest.remove(&frame.id());
        if let Some(oldest) = window.oldest() {
            self.by_oldest.insert(oldest, slot);
        }
        self.events -= 1;
        self.bytes -= frame.cost();
        self.surplus_bytes -= if is_surplus { frame.cost() } else { 0 };
        Some(frame)
    }

    /// Whether a feed has more frames than its limit.
    pub fn has_surplus(&self, slot: Slot) -> bool {
        self.get(slot).window.len() > self.limit
    }

    /// What the frames beyond the limits cost in memory.
    pub fn surplus_bytes(&self) -> usize {
        self.surplus_bytes
    }

    /// The id of the oldest frame of all, and the feed that has it.
    pub fn oldest(&self) -> Option<(u64, Slot)> {
        self.by_oldest.first_key_value().map(|(&id, &slot)| (id, slot))
    }

    /// Retained frames in all feeds.
    pub fn events(&self) -> usize {
        self.events
    }

    /// What the retained frames cost in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of open feeds.
    pub fn count(&self) -> usize {
        self.feeds.len()
    }
}
