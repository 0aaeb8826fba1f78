//! All streams of one worker: a replica of the feeds that its subscribers listen to, the audiences,
//! and the subscribers. Live delivery, catching up after a stall and resuming are one move: write
//! the frames after the cursor. Generic over the socket, so that a simulation can drive it; knows
//! neither mio nor HTTP.
//!
//! ```text
//!            admit              seat                    caught up
//! (joined) ────────► PendingSubscription ──────────► hungry ───────────────────────► seated
//!                      │                 ▲   │ socket full                │ socket full
//!                   abandon     writable │   ▼                            ▼
//!                      ▼                 └── stalled ◄────────────────────┘
//!                    left                      │ takes no byte for --stall
//!                                              ▼
//!                                            gone
//! ```

pub(crate) mod backlog;
pub(crate) mod catch_up;
pub(crate) mod closing;
pub(crate) mod expiry;
pub(crate) mod fanout;
pub(crate) mod group;
pub(crate) mod heartbeat;
pub(crate) mod latency;
pub(crate) mod name_index;
pub(crate) mod replica;
pub mod subscriber;
pub mod write_batch;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::hub::{FeedId, Hub, Inbox, Joined, JoinedFeeds, JoinedTopic, Slot, TopicId, WorkerId};
pub use crate::metrics::{Buckets, Close};
use crate::quota::{Permit, Permits};
use crate::sse::{Frame, Framing};
use crate::stream::backlog::Backlogs;
use crate::stream::expiry::Expiries;
use crate::stream::group::{GroupKey, GroupSet, Interest, SubscriberGroup, SubscriberKey};
use crate::stream::heartbeat::Sweep;
use crate::stream::name_index::NameIndex;
use crate::stream::replica::{FeedMeta, Replica, Source};
use crate::stream::subscriber::{Backlog, NO_SEAT, Socket, Subscriber};
use crate::util::paged_slab::PagedSlab;
use crate::util::shrink::Shrink;
pub use fanout::BUDGET_PER_ITERATION;
pub use heartbeat::Silence;

/// All workers together keep this part of the history's bytes for those who fall behind in a burst
/// that is longer than a topic's history, so that a moment's full socket is no gap.
pub(crate) const SURPLUS_SHARE: usize = 8;

/// A subscriber that is registered but whose opening is not yet written.
#[derive(Debug)]
#[must_use = "a ticket must be seated or abandoned, or its audience would never end"]
pub struct PendingSubscription {
    audience: GroupKey,
    cursor: u64,
    absence: Backlog,
    expires: Option<u64>,
    place: Option<Permit>,
}

impl PendingSubscription {
    /// The same with a place that is kept as long as the stream lasts.
    pub(crate) fn holding(self, place: Option<Permit>) -> Self {
        Self { place, ..self }
    }
}

/// What happened, for the metrics; taken once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Events written.
    pub delivered: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Gaps told.
    pub gaps: u64,
    /// Streams whose token expired.
    pub expired: u64,
    /// Streams ended, by [`Close`].
    pub closed: [u64; Close::NAMES.len()],
    /// From ids to writes, of those who were caught up.
    pub latency: Buckets,
}

/// See the module's page.
pub struct Streams<S> {
    pub(crate) hub: Arc<Hub>,
    worker: WorkerId,
    pub(crate) inbox: Inbox,
    pub(crate) subscribers: PagedSlab<Subscriber<S>>,
    /// What is noted of subscribers without a seat.
    pub(crate) absences: Backlogs,
    pub(crate) expiries: Expiries,
    places: Permits,
    pub(crate) replica: Replica,
    slots: HashMap<TopicId, Slot>,
    /// Feeds that may have more frames than the history's bound.
    pub(crate) overfull: Vec<Slot>,
    /// At most so many bytes of such frames are kept for those whose sockets are full for a moment.
    pub(crate) surplus_limit: usize,
    pub(crate) audiences: PagedSlab<SubscriberGroup>,
    by_set: HashMap<GroupSet, GroupKey>,
    /// The audiences of records.
    hearers: NameIndex,
    /// Audiences with a pass to go on with.
    pub(crate) due: VecDeque<GroupKey>,
    /// Subscribers that are behind, and whose sockets may take bytes.
    pub(crate) hungry: VecDeque<SubscriberKey>,
    closed: Vec<S>,
    pub(crate) tally: StreamCounters,
    pub(crate) sweep: Sweep,
    /// Where ending all streams goes on.
    pub(crate) end_at: usize,
}

impl<S: Socket> Streams<S> {
    /// No streams yet.
    pub fn new(hub: Arc<Hub>, worker: WorkerId, inbox: Inbox) -> Self {
        let limits = hub.limits();
        Self {
            worker,
            inbox,
            subscribers: PagedSlab::default(),
            absences: Backlogs::default(),
            expiries: Expiries::new(),
            places: Permits::default(),
            replica: Replica::new(limits.events_per_topic),
            surplus_limit: limits.bytes / SURPLUS_SHARE / hub.workers(),
            hub,
            slots: HashMap::new(),
            overfull: Vec::new(),
            audiences: PagedSlab::default(),
            by_set: HashMap::new(),
            hearers: NameIndex::default(),
            due: VecDeque::new(),
            hungry: VecDeque::new(),
            closed: Vec::new(),
            tally: StreamCounters::default(),
            sweep: Sweep::default(),
            end_at: 0,
        }
    }

    /// The number of subscribers with a socket here.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether nobody listens here.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// The number of subscribers whose socket takes no more for now.
    pub fn stalled(&self) -> usize {
        self.absences.blocked()
    }

    /// The second since the Unix epoch in which a token may expire next.
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiries.next()
    }

    /// Whether a turn now would find something to do.
    pub fn has_work(&self) -> bool {
        !self.due.is_empty() || !self.hungry.is_empty() || !self.inbox.is_empty()
    }

    /// The bell may ring again; call before looking at what there is to do.
    pub fn hush(&self) {
        self.inbox.clear_wake();
    }

    /// Whether anything happened that is not yet told: most turns of a worker that is published to have no news here.
    pub fn has_news(&self) -> bool {
        let StreamCounters { bytes, gaps, expired, closed, .. } = &self.tally;
        // Nothing is delivered without a byte, and nothing else is timed.
        *bytes > 0 || *gaps > 0 || *expired > 0 || closed.iter().sum::<u64>() > 0
    }

    /// What happened since the last call.
    pub fn take_tally(&mut self) -> StreamCounters {
        std::mem::take(&mut self.tally)
    }

    /// The sockets of subscribers that have left.
    pub fn take_closed(&mut self) -> std::vec::IntoIter<S> {
        std::mem::take(&mut self.closed).into_iter()
    }

    /// A subscriber's socket.
    pub fn socket_mut(&mut self, key: SubscriberKey) -> Option<&mut S> {
        self.subscribers.get_mut(key as usize).map(|subscriber| &mut subscriber.socket)
    }

    /// Registers a subscriber that the hub has admitted, before its opening is written. Its stream ends
    /// in the second `expires` since the Unix epoch, if there is one.
    pub fn admit(&mut self, joined: Joined, framing: Framing, expires: Option<u64>) -> PendingSubscription {
        let Joined { cursor, feeds, .. } = joined;
        let (interest, absence) = match feeds {
            JoinedFeeds::Topics(topics) => {
                let absence = Backlog::begin(topics.iter().map(|topic| topic.evicted_through), cursor);
                let ids = topics.iter().map(|topic| topic.id).collect();
                topics.into_iter().for_each(|topic| self.replicate(topic));
                (Interest::Topics(ids), absence)
            }
            JoinedFeeds::Records { names, backlog } => {
                if let Some(frames) = backlog {
                    self.replica.records.restore(frames);
                }
                (Interest::Records(names), Backlog::default())
            }
        };
        let key = self.audience_of(GroupSet { interest, framing });
        self.audiences[key as usize].members += 1;
        PendingSubscription { audience: key, cursor, absence, expires, place: None }
    }

    /// The worker's first listener of a topic brings a copy of its feed.
    fn replicate(&mut self, topic: JoinedTopic) {
        let Some(backlog) = topic.backlog else { return };
        let heard = FeedMeta { id: topic.id, audiences: Vec::new(), is_overfull: false };
        let slot = self.replica.feeds.open(topic.evicted_through, heard);
        backlog.into_iter().for_each(|frame| self.replica.feeds.push(slot, frame));
        self.slots.insert(topic.id, slot);
    }

    fn audience_of(&mut self, set: GroupSet) -> GroupKey {
        if let Some(&key) = self.by_set.get(&set) {
            return key;
        }
        let source = match &set.interest {
            Interest::Topics(topics) => Source::Topics(topics.iter().map(|topic| self.slots[topic]).collect()),
            Interest::Records(names) => Source::Records(Arc::clone(names)),
        };
        let key = self.audiences.insert(SubscriberGroup::new(set.clone(), source)) as GroupKey;
        let audience = &self.audiences[key as usize];
        match &audience.source {
            Source::Records(names) => self.hearers.add(key, names),
            Source::Topics(slots) => {
                slots.iter().for_each(|&slot| self.replica.feeds.meta_mut(slot).audiences.push(key));
            }
        }
        self.by_set.insert(set, key);
        key
    }

    /// The key that the next subscriber will have, for the registration that must come before it.
    pub fn next_key(&self) -> SubscriberKey {
        self.subscribers.vacant_key() as SubscriberKey
    }

    /// The opening is written: the socket becomes a subscriber, and is served from its cursor on.
    pub fn seat(&mut self, ticket: PendingSubscription, socket: S, now: u32) {
        let PendingSubscription { audience, cursor, absence, expires, place } = ticket;
        let subscriber = Subscriber { socket, audience, cursor, seat: NO_SEAT, written_at: now };
        let key = self.subscribers.insert(subscriber) as SubscriberKey;
        if !absence.told.is_empty() {
            self.absences.put(key, absence, |_| true);
        }
        self.expiries.put(key, expires);
        self.places.put(key, place);
        // Not served right here: what the hub sent before the join may still be in the inbox, and
        // the backlog of a feed that is new here could be ahead of it.
        self.hungry.push_back(key);
    }

    /// The stream ended before its opening was written.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub fn abandon(&mut self, ticket: PendingSubscription, why: Close) {
        self.tally.closed[why as usize] += 1;
        self.leave(ticket.audience);
    }

    /// A stalled socket has room again.
    pub fn writable(&mut self, key: SubscriberKey) {
        if self.absences.rouse(key) {
            self.hungry.push_back(key);
        }
    }

    /// Removes a subscriber; its socket is among [`Streams::take_closed`].
    pub fn remove(&mut self, key: SubscriberKey, why: Close) {
        let Some(subscriber) = self.subscribers.try_remove(key as usize) else { return };
        self.tally.closed[why as usize] += 1;
        if subscriber.seat != NO_SEAT {
            self.stand(subscriber.audience, subscriber.seat);
        }
        self.absences.take(key);
        self.expiries.remove(key);
        self.places.remove(key);
        self.closed.push(subscriber.socket);
        self.leave(subscriber.audience);
    }

    pub(crate) fn stand(&mut self, audience: GroupKey, seat: u32) {
        if let Some(moved) = self.audiences[audience as usize].seating.stand(seat) {
            self.subscribers[moved as usize].seat = seat;
        }
    }

    fn leave(&mut self, key: GroupKey) {
        let audience = &mut self.audiences[key as usize];
        audience.members -= 1;
        match &audience.set.interest {
            Interest::Topics(topics) => self.hub.leave(self.worker, topics),
            Interest::Records(names) => self.hub.leave_records(self.worker, names),
        }
        if audience.members == 0 {
            self.end_audience(key);
        }
    }

    /// The last one of an audience has left; feeds that no other audience hears go with it.
    fn end_audience(&mut self, key: GroupKey) {
        let audience = self.audiences.remove(key as usize);
        self.by_set.remove(&audience.set);
        if audience.is_queued {
            self.due.retain(|&queued| queued != key);
        }
        if let Source::Records(names) = &audience.source {
            self.hearers.remove(key, names);
        }
        for &slot in audience.source.slots() {
            let heard = self.replica.feeds.meta_mut(slot);
            heard.audiences.retain(|&other| other != key);
            heard.audiences.shrink_if_sparse();
            if heard.audiences.is_empty() {
                let heard = self.replica.feeds.close(slot);
                self.slots.remove(&heard.id);
                if heard.is_overfull {
                    self.overfull.retain(|&overfull| overfull != slot);
                }
            }
        }
    }

    /// Puts all that waits in the inbox into the replica, and calls the audiences concerned.
    pub fn take_inbox(&mut self) {
        for _ in 0..self.inbox.len() {
            let Some(notice) = self.inbox.waiting().next() else { return };
            self.inbox.mark_taken(&notice);
            match notice.feed {
                FeedId::Topic(topic) => self.take_event(topic, notice.frame),
                FeedId::Records => self.take_record(notice.frame),
            }
        }
    }

    fn take_event(&mut self, topic: TopicId, frame: Arc<Frame>) {
        let Some(&slot) = self.slots.get(&topic) else { return };
        // A feed opened after this notice was sent has the frame already.
        if frame.id() > self.replica.feeds.get(slot).window.newest() {
            self.replica.feeds.push(slot, frame);
            self.call_audiences(slot);
        }
    }

    fn take_record(&mut self, frame: Arc<Frame>) {
        if frame.id() <= self.replica.records.newest() {
            return;
        }
        let Some(name) = frame.name() else { return };
        for key in self.hearers.of(name) {
            call(&mut self.audiences[key as usize], key, &mut self.due);
        }
        self.replica.records.push(frame);
    }

    fn call_audiences(&mut self, slot: Slot) {
        let Self { replica: Replica { feeds, .. }, audiences, due, overfull, .. } = self;
        let has_surplus = feeds.is_over_limit(slot);
        let heard = feeds.meta_mut(slot);
        if has_surplus && !std::mem::replace(&mut heard.is_overfull, true) {
            overfull.push(slot);
        }
        for &key in &heard.audiences {
            call(&mut audiences[key as usize], key, due);
        }
    }
}

impl<S> Shrink for Streams<S> {
    fn shrink_if_sparse(&mut self) {
        self.absences.shrink_if_sparse();
        self.slots.shrink_if_sparse();
        self.overfull.shrink_if_sparse();
        self.by_set.shrink_if_sparse();
        self.hearers.shrink_if_sparse();
        self.due.shrink_if_sparse();
        self.hungry.shrink_if_sparse();
    }
}

/// There is something for an audience.
fn call(audience: &mut SubscriberGroup, key: GroupKey, due: &mut VecDeque<GroupKey>) {
    audience.seating.call();
    if !std::mem::replace(&mut audience.is_queued, true) {
        due.push_back(key);
    }
}
