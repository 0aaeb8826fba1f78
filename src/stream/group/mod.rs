//! Subscriber groups. All subscribers of a worker that listen to the same feeds with the same framing are one group; those
//! that poll are another. The ready ones are in the group's ready set; one that is blocked or has much to catch up with is not, so that a fan-out
//! never visits it. Independent of sockets.

mod name_index;
mod ready_set;
mod table;

use std::sync::Arc;

use crate::hub::TopicId;
use crate::sse::Framing;
use crate::stream::replica::Source;
use ready_set::ReadySet;
pub use table::Groups;

/// What the subscribers of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupSet {
    /// What they listen to.
    pub interest: Interest,
    /// How their bytes are delimited.
    pub framing: Framing,
    /// How their streams end with the first events, if they do.
    pub poll: Option<Poll>,
}

/// How a stream ends with its first events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Poll {
    /// Right after them.
    Plain,
    /// With a position: the broker's id of the last event. If the event also has a publisher's id, and an evicted event had the
    /// same one, that id would yield a gap and the same events with every poll.
    Primed,
}

/// What a group listens to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Topics, ascending.
    Topics(Arc<[TopicId]>),
    /// Records with these names, ascending; all records if there are none.
    Records(Arc<[Arc<str>]>),
}

/// A worker's subscribers to the same feeds with the same framing.
#[derive(Debug)]
pub struct SubscriberGroup {
    set: GroupSet,
    source: Source,
    /// All subscribers, ready or not.
    members: u32,
    /// Whether the group is in the queue of groups to serve, or being served.
    is_queued: bool,
    ready: ReadySet,
}

impl SubscriberGroup {
    fn new(set: GroupSet, source: Source) -> Self {
        Self { set, source, members: 0, is_queued: false, ready: ReadySet::default() }
    }

    /// Returns what the group listens to.
    pub fn interest(&self) -> &Interest {
        &self.set.interest
    }

    /// Returns where the replica has the group's frames.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns how the subscribers' bytes are delimited.
    pub fn framing(&self) -> Framing {
        self.set.framing
    }

    /// Returns how the subscribers' streams end with the first events, if they do.
    pub fn poll(&self) -> Option<Poll> {
        self.set.poll
    }

    /// Returns the source, and the subscribers that are ready for its next frame.
    pub fn parts_mut(&mut self) -> (&Source, &mut ReadySet) {
        debug_assert!(self.ready.len() <= self.members as usize, "only members are ready");
        (&self.source, &mut self.ready)
    }
}
