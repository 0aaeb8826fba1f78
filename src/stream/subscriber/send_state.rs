//! The send state of subscribers that are not ready: what a full socket interrupted, which gaps were reported, and whether
//! the stream is closing. A ready subscriber has none.

use std::collections::HashMap;

use super::partial_write::PartialWrite;
use super::pinned::PinnedFrames;
use crate::metrics::Close;
use crate::sse::Frame;
use crate::stream::keys::SubscriberKey;
use crate::util::shrink::Shrink;

/// The send state of one subscriber.
#[derive(Debug, Default)]
pub struct SendState {
    /// What is left of an interrupted write.
    pub partial: PartialWrite,
    /// For each feed of its group, the id through which evicted events were reported. Empty once its cursor is beyond
    /// them. With several feeds the cursor alone does not show this: after a gap it continues from the oldest frame of all
    /// feeds, and another feed may have evicted events after that one.
    pub reported: Box<[u64]>,
    /// Whether the socket is full, until the poller reports room.
    pub is_blocked: bool,
    /// Whether the stream is closing.
    pub closing: Closing,
    /// Whether [`Socket::set_patient`](super::Socket::set_patient) was called with `true`.
    pub is_patient: bool,
}

impl SendState {
    /// Creates a state in which evictions through these ids, one per feed, are reported. They are kept if one is after
    /// `cursor`.
    pub fn with_reported(evicted_through: impl Iterator<Item = u64> + Clone, cursor: u64) -> Self {
        let is_needed = evicted_through.clone().any(|id| id > cursor);
        Self { reported: if is_needed { evicted_through.collect() } else { Box::default() }, ..Self::default() }
    }
}

/// How far a stream has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closing {
    /// It stays open.
    #[default]
    No,
    /// A partial write and then the stream's last bytes are still to be written.
    FinalPending(Ending),
    /// The partial write is that of the last bytes.
    FinalStarted(Ending),
}

impl Closing {
    /// Returns why the stream is closing, if it is.
    pub fn ending(self) -> Option<Ending> {
        match self {
            Self::No => None,
            Self::FinalPending(ending) | Self::FinalStarted(ending) => Some(ending),
        }
    }
}

/// Why a stream is closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its token has expired, which a final event says.
    Expired,
    /// Its token was revoked, which a final event says.
    Revoked,
    /// It has reached its maximum age.
    Aged,
    /// It was a poll that has got its events.
    Polled,
    /// It was a poll that has got nothing until its first heartbeat was due.
    Idle,
}

impl From<Ending> for Close {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Expired => Self::Expired,
            Ending::Revoked => Self::Revoked,
            Ending::Aged => Self::Aged,
            Ending::Polled | Ending::Idle => Self::Polled,
        }
    }
}

/// The send states of all subscribers that have one.
#[derive(Debug, Default)]
pub struct SendStates {
    by_key: HashMap<SubscriberKey, SendState>,
    blocked: usize,
    pinned: PinnedFrames,
}

impl SendStates {
    /// Keeps a state. `is_retained` says whether its feed still has a frame.
    pub fn insert(&mut self, key: SubscriberKey, state: SendState, is_retained: impl FnOnce(&Frame) -> bool) {
        self.blocked += usize::from(state.is_blocked);
        if let Some((key, cost)) = state.partial.pinned() {
            let is_retained = match &state.partial {
                PartialWrite::Record { is_superseded, .. } => !is_superseded,
                other => other.frame().is_some_and(|frame| is_retained(frame)),
            };
            self.pinned.pin(key, cost, is_retained);
        }
        let replaced = self.by_key.insert(key, state);
        debug_assert!(replaced.is_none(), "subscriber {key} has one state");
    }

    /// Removes a state.
    pub fn remove(&mut self, key: SubscriberKey) -> Option<SendState> {
        let mut state = self.by_key.remove(&key)?;
        self.blocked -= usize::from(state.is_blocked);
        if let Some((key, _)) = state.partial.pinned() {
            let is_retained = self.pinned.unpin(key);
            if let PartialWrite::Record { is_superseded, .. } = &mut state.partial {
                *is_superseded = !is_retained;
            }
        }
        Some(state)
    }

    /// Removes the state of a stream that is closing, and returns it with the reason.
    pub fn remove_closing(&mut self, key: SubscriberKey) -> Option<(SendState, Ending)> {
        let ending = self.by_key.get(&key)?.closing.ending()?;
        Some((self.remove(key)?, ending))
    }

    /// Returns whether the subscriber's socket is full.
    pub fn is_blocked(&self, key: SubscriberKey) -> bool {
        self.by_key.get(&key).is_some_and(|state| state.is_blocked)
    }

    /// Notes that a socket has room. Returns whether it was full.
    pub fn unblock(&mut self, key: SubscriberKey) -> bool {
        let was_blocked = self.by_key.get_mut(&key).is_some_and(|state| std::mem::take(&mut state.is_blocked));
        self.blocked -= usize::from(was_blocked);
        was_blocked
    }

    /// Returns the number of subscribers whose socket is full.
    pub fn blocked(&self) -> usize {
        self.blocked
    }

    /// Notes that the history has evicted a frame.
    pub fn on_evicted(&mut self, id: u64) {
        self.pinned.on_evicted(id);
    }

    /// Notes that all records were replaced.
    pub fn on_records_replaced(&mut self) {
        for record in self.by_key.values().filter_map(|state| state.partial.record()) {
            self.pinned.on_evicted(record.id);
        }
    }

    /// Returns the subscribers to close because too much is kept for them: those within the oldest evicted frame.
    pub fn over_limit(&self) -> Option<Vec<SubscriberKey>> {
        let oldest = self.pinned.oldest_over_limit()?;
        let is_within = |state: &SendState| state.partial.pinned().is_some_and(|(key, _)| key == oldest);
        Some(self.by_key.iter().filter(|(_, state)| is_within(state)).map(|(&key, _)| key).collect())
    }
}

impl Shrink for SendStates {
    fn shrink_if_sparse(&mut self) {
        self.by_key.shrink_if_sparse();
        self.pinned.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sse::UnsequencedFrame;

    fn frame(id: u64, len: usize) -> Arc<Frame> {
        let mut writer = UnsequencedFrame::writer(len);
        writer.field("data", &"x".repeat(len));
        writer.finish(None).assign_id(id)
    }

    fn blocked_within(frame: &Arc<Frame>) -> SendState {
        SendState { partial: PartialWrite::Frame(Arc::clone(frame), 1), is_blocked: true, ..SendState::default() }
    }

    #[test]
    fn blocked_subscribers_are_counted() {
        let mut states = SendStates::default();
        states.insert(1, blocked_within(&frame(1, 10)), |_| true);
        states.insert(2, SendState::default(), |_| true);
        assert_eq!(states.blocked(), 1);
        assert!(states.unblock(1) && !states.unblock(1) && !states.unblock(2));
        assert_eq!(states.blocked(), 0);
        assert!(states.remove(1).is_some() && states.remove(1).is_none());
    }

    #[test]
    fn subscribers_within_the_oldest_evicted_frame_are_over_the_limit() {
        let mut states = SendStates::default();
        let frames: Vec<_> = (0..40).map(|id| frame(id, 1 << 20)).collect();
        for (key, frame) in frames.iter().enumerate() {
            states.insert(key as SubscriberKey, blocked_within(frame), |_| true);
            states.insert(key as SubscriberKey + 100, blocked_within(frame), |_| true);
        }
        assert_eq!(states.over_limit(), None, "retained frames cost nothing");
        (0..31).for_each(|id| states.on_evicted(id));
        assert_eq!(states.over_limit(), None);
        states.on_evicted(31);
        let mut over_limit = states.over_limit().unwrap();
        over_limit.sort_unstable();
        assert_eq!(over_limit, [0, 100]);
        // A subscriber that accepted some bytes is still within an evicted frame.
        let state = states.remove(0).unwrap();
        states.insert(0, state, |_| false);
        assert!(states.over_limit().is_some());
        over_limit.iter().for_each(|&key| assert!(states.remove(key).is_some()));
        assert_eq!(states.over_limit(), None);
        for key in (1..40).chain(101..140) {
            states.remove(key);
        }
        assert!(states.pinned.is_empty());
    }
}
