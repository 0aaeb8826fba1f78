//! What a worker keeps of the hub's feeds for its own subscribers: a window of each topic that
//! somebody here listens to, and the newest records once somebody has asked for them. A [`Source`] is
//! what one audience hears of it. Refuses to know who hears it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::{Feeds, Latest, Run, Slot, TopicId, Window};
use crate::sse::Frame;
use crate::stream::group::GroupKey;

/// What is noted of a topic's feed.
#[derive(Debug)]
pub struct FeedMeta {
    /// The topic.
    pub id: TopicId,
    /// Who hears it.
    pub audiences: Vec<GroupKey>,
    /// Whether it is among those that may have more frames than the history's bound.
    pub is_overfull: bool,
}

/// See the module's page.
#[derive(Debug)]
pub struct Replica {
    /// The topics'.
    pub feeds: Feeds<FeedMeta>,
    /// The records.
    pub records: Records,
}

/// The newest record of every name, and what was superseded a moment ago: whoever reads at once gets every version, however
/// many of a name one commit brings.
#[derive(Debug, Default)]
pub struct Records {
    latest: Latest,
    /// By id. Until all who were called have been served, so no more than the hub may send before that.
    superseded: BTreeMap<u64, Arc<Frame>>,
}

impl Records {
    /// All that the hub had when somebody here first asked.
    pub fn restore(&mut self, frames: Vec<Arc<Frame>>) {
        self.latest = Latest::restore(frames);
    }

    /// The largest id.
    pub fn newest(&self) -> u64 {
        self.latest.newest()
    }

    /// Takes a record in that is newer than all others.
    pub fn push(&mut self, frame: Arc<Frame>) {
        if let Some(superseded) = self.latest.push(frame) {
            self.superseded.insert(superseded.id(), superseded);
        }
    }

    /// Whoever reads at once has what was superseded; it is let go.
    pub fn settle(&mut self) -> impl Iterator<Item = Arc<Frame>> {
        std::mem::take(&mut self.superseded).into_values()
    }

    fn has(&self, id: u64) -> bool {
        self.latest.contains(id) || self.superseded.contains_key(&id)
    }

    /// The first after a cursor, of these names; of all if there are none.
    fn first_after(&self, names: &[Arc<str>], cursor: u64) -> Option<&Arc<Frame>> {
        let latest = match names {
            [] => self.latest.first_after(cursor),
            names => self.latest.first_among(names, cursor),
        };
        if self.superseded.is_empty() {
            return latest;
        }
        let is_asked_for =
            |frame: &&Arc<Frame>| names.is_empty() || frame.name().is_some_and(|name| names.contains(name));
        let superseded = self.superseded.range(cursor.saturating_add(1)..).map(|(_, frame)| frame).find(is_asked_for);
        [latest, superseded].into_iter().flatten().min_by_key(|frame| frame.id())
    }
}

/// What one audience hears.
#[derive(Debug)]
pub enum Source {
    /// These topics.
    Topics(Box<[Slot]>),
    /// Records of these names; all if there are none.
    Records(Arc<[Arc<str>]>),
}

impl Source {
    /// The slots of its topics.
    pub fn slots(&self) -> &[Slot] {
        match self {
            Self::Topics(slots) => slots,
            Self::Records(_) => &[],
        }
    }
}

impl Replica {
    /// Nothing yet; see [`Feeds::new`].
    pub fn new(events_per_topic: usize) -> Self {
        Self { feeds: Feeds::new(events_per_topic), records: Records::default() }
    }

    /// All frames after a cursor, of a source that is one topic.
    pub fn run_after(&self, source: &Source, cursor: u64) -> Option<Run<'_>> {
        let &[slot] = source.slots() else { return None };
        Some(self.feeds.get(slot).window.after(cursor))
    }

    /// The next frame after a cursor.
    pub fn next(&self, source: &Source, cursor: u64) -> Option<&Arc<Frame>> {
        match source {
            Source::Topics(slots) => {
                let heads = slots.iter().filter_map(|&slot| self.feeds.get(slot).window.after(cursor).next());
                heads.min_by_key(|frame| frame.id())
            }
            Source::Records(names) => self.records.first_after(names, cursor),
        }
    }

    /// Whether a frame of the source is retained.
    pub fn has(&self, source: &Source, frame: &Frame) -> bool {
        match source {
            Source::Topics(_) => self.windows(source).any(|window| window.contains(frame.id())),
            Source::Records(_) => self.records.has(frame.id()),
        }
    }

    /// The windows of the source's topics. Records have none: what is superseded is no loss.
    pub fn windows(&self, source: &Source) -> impl Iterator<Item = &Window> + Clone {
        source.slots().iter().map(|&slot| &self.feeds.get(slot).window)
    }
}
