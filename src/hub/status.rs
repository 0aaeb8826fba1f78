//! What each open topic has: subscribers, retained events, and how many were published. Topics are listed in pages, in the order
//! of their slots. A topic keeps its slot while it is open, so one that is open during the whole listing is listed exactly once.

use super::{Feed, Hub, Slot, State, Topic, TopicName};

/// The number of topics that are read at a time, so that the lock is held only briefly.
pub(super) const STATUS_SLICE: usize = 256;

/// What a topic has at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    /// Its name.
    pub name: TopicName,
    /// Subscribers at this broker, including those inside this process.
    pub subscribers: usize,
    /// Retained events.
    pub events: usize,
    /// Bytes of memory that they take.
    pub bytes: usize,
    /// Events accepted since the topic was opened at this broker.
    pub published: u64,
    /// The ids of the oldest and the newest retained event. `None` if nothing is retained.
    pub ids: Option<(u64, u64)>,
}

/// A page of the list of topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPage {
    /// The topics.
    pub topics: Vec<TopicStatus>,
    /// The slot of the last one, if there were more after it.
    pub next: Option<Slot>,
}

impl TopicStatus {
    /// Returns the status of a topic that is not open.
    fn closed(name: TopicName) -> Self {
        Self { name, subscribers: 0, events: 0, bytes: 0, published: 0, ids: None }
    }
}

impl Hub {
    /// Returns what a topic has.
    pub fn topic_status(&self, name: &TopicName) -> TopicStatus {
        let state = self.lock();
        let slot = state.slot(name);
        let open = slot.and_then(|slot| Some(state.status(slot, state.feeds.find(slot)?)));
        open.unwrap_or_else(|| TopicStatus::closed(*name))
    }

    /// Returns at most `limit` topics: those in the slots after `after`, or from the first slot on.
    pub fn topics(&self, after: Option<Slot>, limit: usize) -> TopicPage {
        let mut page = TopicPage { topics: Vec::with_capacity(limit), next: after };
        while page.topics.len() < limit {
            let more = STATUS_SLICE.min(limit - page.topics.len());
            page.next = self.lock().append_statuses(page.next, more, &mut page.topics);
            if page.next.is_none() {
                break;
            }
        }
        page
    }
}

impl State {
    /// Appends at most `limit` topics after a slot. Returns the slot of the last one, if there are more.
    fn append_statuses(&self, after: Option<Slot>, limit: usize, topics: &mut Vec<TopicStatus>) -> Option<Slot> {
        let mut open = self.feeds.iter_after(after);
        let mut last = after;
        for (slot, feed) in open.by_ref().take(limit) {
            topics.push(self.status(slot, feed));
            last = Some(slot);
        }
        open.next().and(last)
    }

    fn status(&self, slot: Slot, feed: &Feed<Topic>) -> TopicStatus {
        let Topic { name, bytes, published, .. } = feed.meta;
        let subscribers = feed.meta.subscribers() + self.local.count(slot);
        match self.oldest(slot) {
            Some(oldest) => {
                let ids = Some((oldest, feed.window.newest()));
                TopicStatus { name, subscribers, events: feed.window.len(), bytes, published, ids }
            }
            // What the log has lost may not be evicted yet.
            None => TopicStatus { subscribers, published, ..TopicStatus::closed(name) },
        }
    }
}
