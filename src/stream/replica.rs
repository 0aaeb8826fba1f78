//! A worker's copy of the hub's feeds for its own subscribers: a window of each topic that one of them listens to, and for a
//! moment the records that it was sent. A [`Source`] selects what one group listens to. Independent of sockets.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::hub::{Feeds, JoinedTopic, Run, Slot, TopicId, Window};
use crate::sse::Frame;
use crate::stream::keys::GroupKey;
use crate::stream::records::Records;
use crate::util::shrink::Shrink;

/// The replica of one worker.
#[derive(Debug)]
pub struct Replica {
    feeds: Feeds<FeedMeta>,
    /// The hub numbers the topics, so clients can't choose keys that collide.
    slots: FxHashMap<TopicId, Slot>,
    records: Records,
    /// Feeds that may have more events than a topic's limit.
    over_limit: Vec<Slot>,
    /// The log has lost the events up to this id. They are not delivered, even while feeds still have them.
    lost_through: u64,
    /// Whether a feed may still have a lost event.
    has_lost: bool,
}

/// What the replica knows of a topic's feed.
#[derive(Debug)]
struct FeedMeta {
    topic: TopicId,
    /// The groups that listen to it.
    groups: Vec<GroupKey>,
    /// Whether it is in [`Replica::over_limit`].
    is_over_limit: bool,
}

/// Where the replica has what one group listens to.
#[derive(Debug)]
pub enum Source {
    /// The feeds of topics.
    Topics(Box<[Slot]>),
    /// Records with these names; all records if there are none.
    Records(Arc<[Arc<str>]>),
}

impl Source {
    /// Returns the names of records; none for all of them, and if it is no source of records.
    pub fn names(&self) -> &[Arc<str>] {
        match self {
            Self::Topics(_) => &[],
            Self::Records(names) => names,
        }
    }

    /// Returns the slots of the topics.
    fn slots(&self) -> &[Slot] {
        match self {
            Self::Topics(slots) => slots,
            Self::Records(_) => &[],
        }
    }
}

/// Opens and closes feeds, for the groups that listen to them.
impl Replica {
    /// Creates an empty replica; see [`Feeds::new`].
    pub fn new(events_per_topic: usize) -> Self {
        Self {
            feeds: Feeds::new(events_per_topic),
            slots: FxHashMap::default(),
            records: Records::default(),
            over_limit: Vec::new(),
            lost_through: 0,
            has_lost: false,
        }
    }

    /// Opens the feed of a topic if the worker had no listener of it before.
    pub fn open_feed(&mut self, topic: JoinedTopic) {
        let Some(backlog) = topic.backlog else { return };
        let meta = FeedMeta { topic: topic.id, groups: Vec::new(), is_over_limit: false };
        let slot = self.feeds.open(topic.evicted_through, meta);
        backlog.into_iter().for_each(|frame| self.feeds.push(slot, frame));
        let replaced = self.slots.insert(topic.id, slot);
        debug_assert!(replaced.is_none(), "a topic has one feed");
    }

    /// Returns the source of a group that listens to these topics, whose feeds are open.
    pub fn topics_source(&self, topics: &[TopicId]) -> Source {
        Source::Topics(topics.iter().map(|topic| self.slots[topic]).collect())
    }

    /// Adds a group to the feeds of its source.
    pub fn link(&mut self, source: &Source, group: GroupKey) {
        source.slots().iter().for_each(|&slot| self.feeds.meta_mut(slot).groups.push(group));
    }

    /// Removes a group from the feeds of its source; closes those that no other group listens to.
    pub fn unlink(&mut self, source: &Source, group: GroupKey) {
        for &slot in source.slots() {
            let meta = self.feeds.meta_mut(slot);
            meta.groups.retain(|&other| other != group);
            meta.groups.shrink_if_sparse();
            if meta.groups.is_empty() {
                let meta = self.feeds.close(slot);
                self.slots.remove(&meta.topic);
                if meta.is_over_limit {
                    self.over_limit.retain(|&over_limit| over_limit != slot);
                }
            }
        }
    }
}

/// Adds events and records, and evicts them.
impl Replica {
    /// Adds an event to a topic's feed. Returns the groups that listen to it; none if the feed is not open, or had the event
    /// from the beginning, because it was opened after the hub sent it, or if the event is lost.
    pub fn push_event(&mut self, topic: TopicId, frame: Arc<Frame>) -> &[GroupKey] {
        if frame.id() <= self.lost_through {
            return &[];
        }
        let Some(&slot) = self.slots.get(&topic) else { return &[] };
        if frame.id() <= self.feeds.get(slot).window.newest() {
            return &[];
        }
        self.feeds.push(slot, frame);
        let is_over_limit = self.feeds.is_over_limit(slot);
        let meta = self.feeds.meta_mut(slot);
        if is_over_limit && !std::mem::replace(&mut meta.is_over_limit, true) {
            self.over_limit.push(slot);
        }
        &meta.groups
    }

    /// Notes that the log has lost the events up to this id. Returns whether that is new. Takes no longer if there are many:
    /// [`Replica::evict_lost`] evicts them.
    pub fn lose_through(&mut self, id: u64) -> bool {
        let is_new = id > self.lost_through;
        if is_new {
            (self.lost_through, self.has_lost) = (id, true);
        }
        is_new
    }

    /// Returns the id through which the log has lost events.
    pub fn lost_through(&self) -> u64 {
        self.lost_through
    }

    /// Returns whether [`Replica::evict_lost`] may find an event.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Evicts the oldest lost event.
    pub fn evict_lost(&mut self) -> Option<Arc<Frame>> {
        if !self.has_lost {
            return None;
        }
        let lost = self.feeds.oldest().filter(|(id, _)| *id <= self.lost_through);
        self.has_lost = lost.is_some();
        lost.and_then(|(_, slot)| self.feeds.pop(slot))
    }

    /// Returns the records that are to be served.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Returns the records that are to be served.
    pub fn records_mut(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Evicts the oldest event of a topic that has more events than its limit, if all such events take more than
    /// `max_bytes`.
    pub fn evict_over_limit(&mut self, max_bytes: usize) -> Option<Arc<Frame>> {
        while self.feeds.over_limit_bytes() > max_bytes {
            let &slot = self.over_limit.last()?;
            if self.feeds.is_over_limit(slot) {
                return self.feeds.pop(slot);
            }
            self.feeds.meta_mut(slot).is_over_limit = false;
            self.over_limit.pop();
        }
        None
    }

    /// Evicts the oldest event of all if the hub has evicted it, that is, if its id is at most `evicted_through`, and if all
    /// events take more than `max_bytes`.
    pub fn evict_oldest(&mut self, max_bytes: usize, evicted_through: u64) -> Option<Arc<Frame>> {
        if self.feeds.bytes() <= max_bytes {
            return None;
        }
        let (id, slot) = self.feeds.oldest()?;
        if id <= evicted_through { self.feeds.pop(slot) } else { None }
    }
}

/// Translates between ids and cursors. Among topics they are the same.
impl Replica {
    /// Returns the cursor after the frame of a source with this id.
    pub fn cursor(&self, source: &Source, id: u64) -> u64 {
        match source {
            Source::Topics(_) => id,
            Source::Records(_) => self.records.cursor(id),
        }
    }

    /// Returns the id of the frame after which a cursor is.
    pub fn id(&self, source: &Source, cursor: u64) -> u64 {
        match source {
            Source::Topics(_) => cursor,
            Source::Records(_) => self.records.id(cursor),
        }
    }

    /// Returns the cursor after a gap among topics: right before the oldest retained frame, or at the newest id if no frame is
    /// retained.
    pub fn cursor_after_gap(&self, source: &Source, cursor: u64) -> u64 {
        self.oldest(source).map_or_else(|| self.newest(source), |id| id - 1).max(cursor)
    }
}

/// Reads the frames of a group's source.
impl Replica {
    /// Returns all frames after a cursor, if the source is one topic.
    pub fn run_after(&self, source: &Source, cursor: u64) -> Option<Run<'_>> {
        let &[slot] = source.slots() else { return None };
        Some(self.feeds.get(slot).window.after(cursor))
    }

    /// Returns the next frame after a cursor.
    pub fn next(&self, source: &Source, cursor: u64) -> Option<&Arc<Frame>> {
        match source {
            Source::Topics(slots) => {
                let heads = slots.iter().filter_map(|&slot| self.feeds.get(slot).window.after(cursor).next());
                heads.min_by_key(|frame| frame.id())
            }
            Source::Records(names) => self.records.first_after(names, self.records.id(cursor)),
        }
    }

    /// Returns whether a frame of the source is retained.
    pub fn has(&self, source: &Source, frame: &Frame) -> bool {
        match source {
            Source::Topics(_) => self.windows(source).any(|window| window.contains(frame.id())),
            // Only until all groups are served; a record is pinned instead of its frame.
            Source::Records(_) => false,
        }
    }

    /// Returns the id of the oldest event of the source's topics.
    pub fn oldest(&self, source: &Source) -> Option<u64> {
        let heads = self.windows(source).filter_map(|window| window.after(self.lost_through).next());
        heads.map(|frame| frame.id()).min()
    }

    /// Returns the id of the newest event that the source's topics ever had, or through which events are lost.
    fn newest(&self, source: &Source) -> u64 {
        self.windows(source).map(Window::newest).max().unwrap_or(0).max(self.lost_through)
    }

    /// Returns the id through which each of the source's topics has evicted events.
    pub fn evicted_through(&self, source: &Source) -> impl Iterator<Item = u64> + Clone {
        self.windows(source).map(|window| window.evicted_through().max(self.lost_through))
    }

    fn windows(&self, source: &Source) -> impl Iterator<Item = &Window> + Clone {
        source.slots().iter().map(|&slot| &self.feeds.get(slot).window)
    }

    /// Returns whether events after `cursor` were evicted that are not `reported`: for each feed, the id through which
    /// evicted events were reported, or nothing at all. For records: whether all were replaced since. Ready subscribers are sent
    /// erasures like records.
    pub fn has_unreported_gap(&self, source: &Source, cursor: u64, reported: &[u64]) -> bool {
        if let Source::Records(_) = source {
            return !self.records.is_current(cursor);
        }
        self.evicted_through(source)
            .enumerate()
            .any(|(index, evicted)| evicted > cursor && reported.get(index).is_none_or(|&reported| evicted > reported))
    }
}

#[cfg(test)]
impl Replica {
    /// Returns the number of events in all feeds.
    pub fn events(&self) -> usize {
        self.feeds.events()
    }

    /// Returns the memory of events beyond their topics' limits.
    pub fn over_limit_bytes(&self) -> usize {
        self.feeds.over_limit_bytes()
    }
}

impl Shrink for Replica {
    fn shrink_if_sparse(&mut self) {
        self.slots.shrink_if_sparse();
        self.over_limit.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::UnsequencedFrame;

    const LIMIT: usize = 2;

    fn topic(slot: Slot) -> TopicId {
        TopicId { serial: 1, slot }
    }

    fn frame(id: u64) -> Arc<Frame> {
        UnsequencedFrame::writer(0).finish(None).assign_id(id)
    }

    fn open(replica: &mut Replica, slot: Slot) -> Source {
        let evicted_through = 0;
        replica.open_feed(JoinedTopic { id: topic(slot), evicted_through, backlog: Some(vec![frame(1)]) });
        replica.topics_source(&[topic(slot)])
    }

    #[test]
    fn a_feed_notifies_its_groups_and_closes_with_the_last_one() {
        let mut replica = Replica::new(LIMIT);
        let source = open(&mut replica, 0);
        replica.link(&source, 7);
        replica.link(&source, 8);
        assert!(replica.push_event(topic(0), frame(1)).is_empty(), "the backlog has this event");
        assert_eq!(replica.push_event(topic(0), frame(2)), [7, 8]);
        replica.unlink(&source, 7);
        assert_eq!(replica.push_event(topic(0), frame(3)), [8]);
        replica.unlink(&source, 8);
        assert!(replica.push_event(topic(0), frame(4)).is_empty());
        assert_eq!((replica.events(), replica.over_limit.len(), replica.slots.len()), (0, 0, 0));
    }

    #[test]
    fn events_over_the_limit_and_events_that_the_hub_evicted_are_evicted() {
        let mut replica = Replica::new(LIMIT);
        let source = open(&mut replica, 0);
        replica.link(&source, 7);
        (2..=5).for_each(|id| assert_eq!(replica.push_event(topic(0), frame(id)), [7]));
        let kept = 2 * frame(1).cost();
        assert_eq!(replica.evict_over_limit(kept).map(|frame| frame.id()), Some(1));
        assert_eq!(replica.evict_over_limit(kept).map(|frame| frame.id()), None);
        let evicted = std::iter::from_fn(|| replica.evict_over_limit(0));
        assert_eq!(evicted.map(|frame| frame.id()).collect::<Vec<_>>(), [2, 3]);
        assert!(replica.has_unreported_gap(&source, 2, &[]) && !replica.has_unreported_gap(&source, 2, &[3]));
        assert_eq!(replica.evict_oldest(0, 3).map(|frame| frame.id()), None, "the hub still has it");
        assert_eq!(replica.evict_oldest(0, 4).map(|frame| frame.id()), Some(4));
        assert_eq!(replica.next(&source, 0).map(|frame| frame.id()), Some(5));
    }
}
