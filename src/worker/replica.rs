//! What a worker keeps of the hub's feeds for its own subscribers: a window of each topic that
//! somebody here listens to, and the newest records once somebody has asked for them. A [`Source`] is
//! what one audience hears of it. Refuses to know who hears it.

use std::sync::Arc;

use super::audience::AudienceKey;
use crate::hub::{Feeds, Latest, Run, Slot, TopicId, Window};
use crate::sse::Frame;

/// What is noted of a topic's feed.
#[derive(Debug)]
pub struct Heard {
    /// The topic.
    pub id: TopicId,
    /// Who hears it.
    pub audiences: Vec<AudienceKey>,
    /// Whether it is among those that may have more frames than the history's bound.
    pub is_overfull: bool,
}

/// See the module's page.
#[derive(Debug)]
pub struct Replica {
    /// The topics'.
    pub feeds: Feeds<Heard>,
    /// The records.
    pub records: Latest,
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
        Self { feeds: Feeds::new(events_per_topic), records: Latest::default() }
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
            Source::Records(names) if names.is_empty() => self.records.first_after(cursor),
            Source::Records(names) => self.records.first_among(names, cursor),
        }
    }

    /// Whether a frame of the source is retained.
    pub fn has(&self, source: &Source, frame: &Frame) -> bool {
        match source {
            Source::Topics(_) => self.windows(source).any(|window| window.has(frame.id())),
            Source::Records(_) => self.records.has(frame.id()),
        }
    }

    /// The windows of the source's topics. Records have none: what is superseded is no loss.
    pub fn windows(&self, source: &Source) -> impl Iterator<Item = &Window> + Clone {
        source.slots().iter().map(|&slot| &self.feeds.get(slot).window)
    }
}
