//! All streams of one worker. Live delivery, catching up after a stall and resuming are the same operation: write the frames
//! after the cursor. Generic over the socket, so that a simulation can drive it; independent of mio and HTTP.
//!
//! [`Streams`] is composed of parts that own their data:
//! - the replica: the worker's copy of the feeds that its subscribers listen to,
//! - the groups: subscribers that listen to the same feeds, and the ready ones among them,
//! - the subscribers: sockets and cursors, and what is kept for those that are not ready.
//!
//! ```text
//!           admit                    start                   caught up
//! (joined) ───────► PendingSubscription ───────► queued ───────────────────────► ready
//!                      │                    ▲      │ socket full                   │ socket full
//!                   abandon        writable │      ▼                               ▼
//!                      ▼                    └── blocked ◄──────────────────────────┘
//!                   (left)                         │ accepts no data for --stall
//!                                                  ▼
//!                                               (closed)
//! ```

mod budget;
mod catch_up;
mod closing;
mod counters;
mod fanout;
mod group;
mod heartbeat;
mod keys;
mod latency;
mod polls;
mod receive;
mod records;
mod replica;
mod slices;
pub mod subscriber;
#[cfg(test)]
mod tests;
mod write_batch;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::auth::TokenIdentity;
use crate::hub::{Hub, Inbox, Joined, JoinedFeeds, WorkerId};
pub use crate::metrics::Close;
use crate::net::Socket;
use crate::quota::StreamPermits;
use crate::sse::Framing;
use crate::stream::closing::Drain;
use crate::stream::group::{GroupSet, Groups, Interest};
use crate::stream::heartbeat::Sweep;
use crate::stream::keys::{GroupKey, SubscriberKey};
use crate::stream::replica::{Replica, Source};
use crate::stream::subscriber::{SendState, Subscriber, Subscribers};
use crate::util::shrink::Shrink;
pub use budget::BUDGET_PER_ITERATION;
pub use counters::StreamCounters;
pub use group::Poll;
pub use heartbeat::Silence;

/// A subscriber that is registered but whose opening is not written yet.
#[derive(Debug)]
#[must_use = "a pending subscription must be started or abandoned, or its group would never end"]
pub struct PendingSubscription {
    group: GroupKey,
    cursor: u64,
    state: SendState,
    expires: Option<u64>,
    age_limit: Option<u64>,
    token: Option<TokenIdentity>,
    is_revoked: bool,
    permits: StreamPermits,
}

impl PendingSubscription {
    /// Adds the second since the Unix epoch in which the stream reaches its maximum age.
    pub(crate) fn with_age_limit(self, age_limit: Option<u64>) -> Self {
        Self { age_limit, ..self }
    }

    /// Adds the identity of the stream's token.
    pub(crate) fn with_token(self, token: Option<TokenIdentity>) -> Self {
        Self { token, ..self }
    }

    /// Returns the identity of the stream's token.
    pub(crate) fn token(&self) -> Option<TokenIdentity> {
        self.token
    }

    /// Makes the stream end as soon as it begins, because its token is revoked.
    pub(crate) fn revoked(self) -> Self {
        Self { is_revoked: true, ..self }
    }

    /// Adds permits that are released when the stream ends.
    pub(crate) fn with_permits(self, permits: StreamPermits) -> Self {
        Self { permits, ..self }
    }
}

/// All streams of one worker.
pub struct Streams<S> {
    hub: Arc<Hub>,
    worker: WorkerId,
    inbox: Inbox,
    replica: Replica,
    groups: Groups,
    subscribers: Subscribers<S>,
    /// The sockets of subscribers that have left.
    closed: VecDeque<S>,
    counters: StreamCounters,
    sweep: Sweep,
    drain: Drain,
    /// The records of one write, encoded. Empty except during the write.
    encoded: Vec<u8>,
}

/// Returns state for the worker.
impl<S: Socket> Streams<S> {
    /// Creates the streams of a worker, which has none yet.
    pub fn new(hub: Arc<Hub>, worker: WorkerId, inbox: Inbox) -> Self {
        let replica = Replica::new(hub.limits().events_per_topic);
        Self {
            hub,
            worker,
            inbox,
            replica,
            groups: Groups::default(),
            subscribers: Subscribers::default(),
            closed: VecDeque::new(),
            counters: StreamCounters::default(),
            sweep: Sweep::default(),
            drain: Drain::default(),
            encoded: Vec::new(),
        }
    }

    /// Returns the number of subscribers with a socket.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Returns whether there are no subscribers with a socket.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Returns the number of subscribers whose socket is full.
    pub fn blocked(&self) -> usize {
        self.subscribers.blocked()
    }

    /// Returns the second since the Unix epoch in which a stream may end next.
    pub fn next_end(&self) -> Option<u64> {
        self.subscribers.next_end()
    }

    /// Returns whether [`Streams::take_inbox`] and [`Streams::serve`] would find something to do.
    pub fn has_work(&self) -> bool {
        let has_lost = || self.replica.has_lost() || self.hub.lost_through() > self.replica.lost_through();
        let is_behind = || has_lost() || self.has_replaced_records();
        self.groups.has_ready() || self.subscribers.queued() > 0 || !self.inbox.is_empty() || is_behind()
    }

    /// Returns whether the hub's records were replaced since that was last noticed.
    fn has_replaced_records(&self) -> bool {
        self.replica.records().resets() != self.hub.record_resets()
    }

    /// Allows the hub to wake the worker again. Call it before looking for work.
    pub fn clear_wake(&self) {
        self.inbox.clear_wake();
    }

    /// Returns whether there is anything to report: after most loop iterations of a worker that only handles publishes there
    /// is not.
    pub fn has_news(&self) -> bool {
        self.counters.has_news()
    }

    /// Returns what happened since the last call.
    pub fn take_counters(&mut self) -> StreamCounters {
        std::mem::take(&mut self.counters)
    }

    /// Returns the sockets of subscribers that have left. Those that are not taken are returned by the next call.
    pub fn take_closed(&mut self) -> impl Iterator<Item = S> {
        std::iter::from_fn(|| {
            let socket = self.closed.pop_front();
            if socket.is_none() {
                // Frees the list: it may have been long.
                self.closed = VecDeque::new();
            }
            socket
        })
    }

    /// Returns whether the sockets of subscribers that have left are still to be taken.
    pub fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Returns the socket of a subscriber.
    pub fn socket_mut(&mut self, key: SubscriberKey) -> Option<&mut S> {
        self.subscribers.get_mut(key).map(Subscriber::socket_mut)
    }
}

/// Adds and removes subscribers.
impl<S: Socket> Streams<S> {
    /// Registers a subscriber that the hub has admitted, before its opening is written. Its stream ends in the second
    /// `expires` since the Unix epoch, if that is given.
    pub fn admit(&mut self, joined: Joined, framing: Framing, expires: Option<u64>) -> PendingSubscription {
        self.admit_to_group(joined, framing, expires, None)
    }

    /// Registers a subscriber like [`Streams::admit`] whose stream ends with the write that carries its first events, or
    /// instead of the first heartbeat.
    pub fn admit_poll(
        &mut self,
        joined: Joined,
        framing: Framing,
        expires: Option<u64>,
        poll: Poll,
    ) -> PendingSubscription {
        self.admit_to_group(joined, framing, expires, Some(poll))
    }

    fn admit_to_group(
        &mut self,
        joined: Joined,
        framing: Framing,
        expires: Option<u64>,
        poll: Option<Poll>,
    ) -> PendingSubscription {
        let Joined { mut cursor, feeds, .. } = joined;
        let (interest, state) = match feeds {
            JoinedFeeds::Topics(topics) => {
                let state = SendState::with_reported(topics.iter().map(|topic| topic.evicted_through), cursor);
                let ids = topics.iter().map(|topic| topic.id).collect();
                topics.into_iter().for_each(|topic| self.replica.open_feed(topic));
                (Interest::Topics(ids), state)
            }
            JoinedFeeds::Records { names, resets, erased_through } => {
                let state = SendState::with_reported([erased_through].into_iter(), cursor);
                cursor = records::cursor(resets, cursor);
                (Interest::Records(names), state)
            }
        };
        let set = GroupSet { interest, framing, poll };
        let group = self.groups.find(&set).unwrap_or_else(|| self.open_group(set));
        self.groups.add_member(group);
        PendingSubscription {
            group,
            cursor,
            state,
            expires,
            age_limit: None,
            token: None,
            is_revoked: false,
            permits: StreamPermits::default(),
        }
    }

    fn open_group(&mut self, set: GroupSet) -> GroupKey {
        let source = match &set.interest {
            Interest::Topics(topics) => self.replica.topics_source(topics),
            Interest::Records(names) => Source::Records(Arc::clone(names)),
        };
        let key = self.groups.insert(set, source);
        self.replica.link(self.groups[key].source(), key);
        key
    }

    /// Returns the key that the next subscriber gets, for registering the socket before [`Streams::start`].
    pub fn next_key(&self) -> SubscriberKey {
        self.subscribers.next_key()
    }

    /// Makes the socket a subscriber, once the opening is written. It is served from its cursor on.
    pub fn start(&mut self, pending: PendingSubscription, socket: S, now: u32) {
        let PendingSubscription { group, cursor, state, expires, age_limit, token, is_revoked, permits } = pending;
        // Only queued, not served: what the hub sent before the join may still be in the inbox, and the backlog of a feed
        // that is new here could be ahead of it.
        let key = self.subscribers.insert(Subscriber::new(socket, group, cursor, now), expires, permits);
        self.subscribers.set_age_limit(key, age_limit);
        if is_revoked {
            self.subscribers.revoke(key);
        } else {
            self.subscribers.set_token(key, token);
        }
        if !state.reported.is_empty() {
            self.subscribers.put_state(key, state, |_| true);
        }
    }

    /// Removes a subscriber that left before its opening was written.
    #[expect(clippy::needless_pass_by_value, reason = "a pending subscription is used once")]
    pub fn abandon(&mut self, pending: PendingSubscription, why: Close) {
        self.counters.add_closed(why);
        self.leave(pending.group);
    }

    /// Notes that a socket that was full has room again.
    pub fn writable(&mut self, key: SubscriberKey) {
        self.subscribers.wake(key);
    }

    /// Removes a subscriber; [`Streams::take_closed`] returns its socket.
    pub fn remove(&mut self, key: SubscriberKey, why: Close) {
        self.remove_from_ready_set(key);
        let Some(subscriber) = self.subscribers.remove(key) else { return };
        self.counters.add_closed(why);
        let group = subscriber.group();
        self.closed.push_back(subscriber.into_socket());
        self.leave(group);
    }

    /// Removes a subscriber from its group's ready set, if it is there, and updates the one that is moved to its index.
    fn remove_from_ready_set(&mut self, key: SubscriberKey) {
        let Some(subscriber) = self.subscribers.get_mut(key) else { return };
        let Some(index) = subscriber.ready_index() else { return };
        subscriber.set_ready_index(None);
        let group = subscriber.group();
        let (_, ready) = self.groups[group].parts_mut();
        if let Some(moved) = ready.remove(index) {
            self.subscribers[moved].set_ready_index(Some(index));
        }
    }

    /// Removes a member of a group from the hub, and the group and its feeds with the last one.
    fn leave(&mut self, key: GroupKey) {
        match self.groups[key].interest() {
            Interest::Topics(topics) => self.hub.leave(self.worker, topics),
            Interest::Records(names) => self.hub.leave_records(self.worker, names),
        }
        if let Some(group) = self.groups.remove_member(key) {
            self.replica.unlink(group.source(), key);
        }
    }
}

impl<S> Shrink for Streams<S> {
    fn shrink_if_sparse(&mut self) {
        self.replica.shrink_if_sparse();
        self.groups.shrink_if_sparse();
        self.subscribers.shrink_if_sparse();
        self.encoded.shrink_if_sparse();
    }
}
