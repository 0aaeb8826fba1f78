//! All subscribers of a worker: their slab, what is kept separately for some of them, and the queue of those that catch up.

use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::{Index, IndexMut};

use super::Subscriber;
use super::expiry::Expiries;
use super::send_state::{Ending, SendState, SendStates};
use super::tokens::StreamTokens;
use crate::auth::{Revocations, TokenIdentity};
use crate::quota::{Permits, StreamPermits};
use crate::sse::Frame;
use crate::stream::keys::SubscriberKey;
use crate::util::paged_slab::PagedSlab;
use crate::util::shrink::Shrink;

/// The subscribers of one worker.
///
/// After a write a subscriber is in exactly one of four states: ready (in its group's ready set), queued to catch up,
/// blocked (until its socket has room), or removed.
#[derive(Debug)]
pub struct Subscribers<S> {
    slab: PagedSlab<Subscriber<S>>,
    states: SendStates,
    /// When their tokens expire.
    expiries: Expiries,
    /// When they reach their maximum age.
    ages: Expiries,
    /// The identities of their tokens, for revocation.
    tokens: StreamTokens,
    permits: Permits,
    /// Subscribers that are behind and whose sockets may have room. A removed subscriber stays until its turn and is then
    /// skipped; one that has reused its key is written to once more than necessary.
    catch_up_queue: VecDeque<SubscriberKey>,
}

impl<S> Default for Subscribers<S> {
    fn default() -> Self {
        Self {
            slab: PagedSlab::default(),
            states: SendStates::default(),
            expiries: Expiries::default(),
            ages: Expiries::default(),
            tokens: StreamTokens::default(),
            permits: Permits::default(),
            catch_up_queue: VecDeque::new(),
        }
    }
}

impl<S> Subscribers<S> {
    /// Returns the number of subscribers.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns whether there are no subscribers.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Returns a number that all keys are less than.
    pub fn bound(&self) -> SubscriberKey {
        self.slab.bound() as SubscriberKey
    }

    /// Returns the key that the next subscriber gets.
    pub fn next_key(&self) -> SubscriberKey {
        self.slab.vacant_key() as SubscriberKey
    }

    /// Adds a subscriber and queues it to catch up.
    pub fn insert(&mut self, subscriber: Subscriber<S>, expires: Option<u64>, permits: StreamPermits) -> SubscriberKey {
        let key = self.slab.insert(subscriber) as SubscriberKey;
        self.expiries.set(key, expires);
        self.permits.insert(key, permits);
        self.catch_up_queue.push_back(key);
        key
    }

    /// Removes a subscriber and everything that is kept for it.
    pub fn remove(&mut self, key: SubscriberKey) -> Option<Subscriber<S>> {
        let subscriber = self.slab.try_remove(key as usize)?;
        self.states.remove(key);
        self.expiries.remove(key);
        self.ages.remove(key);
        self.tokens.remove(key);
        self.permits.remove(key);
        Some(subscriber)
    }

    /// Returns the subscriber with this key, if there is one.
    pub fn get(&self, key: SubscriberKey) -> Option<&Subscriber<S>> {
        self.slab.get(key as usize)
    }

    /// Returns the subscriber with this key, if there is one.
    pub fn get_mut(&mut self, key: SubscriberKey) -> Option<&mut Subscriber<S>> {
        self.slab.get_mut(key as usize)
    }

    /// Loads the entries of these subscribers into the cache. After churn they are scattered in memory, and reading all of
    /// them before the first is served lets their cache misses overlap.
    pub fn prefetch(&self, keys: &[SubscriberKey]) {
        // In the order in which they will be served: backwards, so that adjacent entries are read in order.
        let found = keys.iter().rev().filter_map(|&key| self.get(key));
        black_box(found.map(|subscriber| subscriber.cursor).max());
    }

    /// Queues a subscriber that is behind.
    pub fn queue(&mut self, key: SubscriberKey) {
        debug_assert!(!self[key].is_ready() && !self.states.is_blocked(key), "subscriber {key} is only queued");
        self.catch_up_queue.push_back(key);
    }

    /// Takes the next subscriber from the queue; it may have been removed.
    pub fn pop_queued(&mut self) -> Option<SubscriberKey> {
        self.catch_up_queue.pop_front()
    }

    /// Returns the length of the queue; some of the subscribers in it may have been removed.
    pub fn queued(&self) -> usize {
        self.catch_up_queue.len()
    }

    /// Queues a subscriber whose socket has room again. Does nothing if the socket was not full.
    pub fn wake(&mut self, key: SubscriberKey) {
        if self.unblock(key) {
            self.catch_up_queue.push_back(key);
        }
    }

    /// Notes that a subscriber's socket may have room. Returns whether it was full.
    pub fn unblock(&mut self, key: SubscriberKey) -> bool {
        self.states.unblock(key)
    }

    /// Returns the number of subscribers whose socket is full.
    pub fn blocked(&self) -> usize {
        self.states.blocked()
    }

    /// Keeps the send state of a subscriber that is not ready. `is_retained` says whether its feed still has a frame.
    pub fn put_state(&mut self, key: SubscriberKey, state: SendState, is_retained: impl FnOnce(&Frame) -> bool) {
        debug_assert!(!self[key].is_ready(), "subscriber {key} has a send state, hence is not ready");
        self.states.insert(key, state, is_retained);
    }

    /// Takes the send state of a subscriber.
    pub fn take_state(&mut self, key: SubscriberKey) -> Option<SendState> {
        self.states.remove(key)
    }

    /// Takes the send state of a subscriber that is closing, and the reason.
    pub fn take_closing(&mut self, key: SubscriberKey) -> Option<(SendState, Ending)> {
        self.states.remove_closing(key)
    }

    /// Notes that the history has evicted a frame.
    pub fn on_evicted(&mut self, id: u64) {
        self.states.on_evicted(id);
    }

    /// Notes that all records were replaced.
    pub fn on_records_replaced(&mut self) {
        self.states.on_records_replaced();
    }

    /// Returns the subscribers to close because they keep too many evicted frames in memory.
    pub fn over_limit(&self) -> Option<Vec<SubscriberKey>> {
        self.states.over_limit()
    }

    /// Returns the second since the Unix epoch in which a stream may end next.
    pub fn next_end(&self) -> Option<u64> {
        [self.expiries.next(), self.ages.next()].into_iter().flatten().min()
    }

    /// Sets the second in which a subscriber's stream reaches its maximum age, if it does.
    pub fn set_age_limit(&mut self, key: SubscriberKey, second: Option<u64>) {
        self.ages.set(key, second);
    }

    /// Sets the identity of a subscriber's token, for revocation.
    pub fn set_token(&mut self, key: SubscriberKey, token: Option<TokenIdentity>) {
        self.tokens.set(key, token);
    }

    /// Makes a subscriber expire at once, because its token is revoked.
    pub fn revoke(&mut self, key: SubscriberKey) {
        self.tokens.mark(key);
        self.expiries.set(key, Some(0));
    }

    /// Returns whether a subscriber expires because its token is revoked.
    pub fn is_revoked(&self, key: SubscriberKey) -> bool {
        self.tokens.is_marked(key)
    }

    /// Makes some of those expire at once whose tokens were revoked. Returns whether there may be more.
    pub fn take_revoked(&mut self, revocations: &Revocations) -> bool {
        let revoked = self.tokens.take_revoked(revocations);
        revoked.into_iter().for_each(|key| self.expiries.set(key, Some(0)));
        self.tokens.is_scanning()
    }

    /// Sets the second in which a subscriber that is closing is removed.
    pub fn set_grace(&mut self, key: SubscriberKey, second: u64) {
        self.ages.remove(key);
        self.tokens.remove(key);
        self.expiries.set(key, Some(second));
    }

    /// Removes the expiry of some of those whose tokens have expired or whose grace is over, and returns their keys.
    pub fn take_expired(&mut self, unix_seconds: u64) -> Vec<SubscriberKey> {
        self.expiries.take_expired(unix_seconds)
    }

    /// Removes the age limit of some of those who have reached it, and returns their keys.
    pub fn take_aged(&mut self, unix_seconds: u64) -> Vec<SubscriberKey> {
        self.ages.take_expired(unix_seconds)
    }

    /// Returns whether [`Subscribers::take_expired`] or [`Subscribers::take_aged`] has not looked at all subscribers yet.
    pub fn is_expiring(&self) -> bool {
        self.expiries.is_scanning() || self.ages.is_scanning()
    }

    /// Checks in debug builds that a subscriber that was written to is in exactly one state.
    pub fn check_state(&self, key: SubscriberKey) {
        let Some(subscriber) = self.get(key) else { return };
        debug_assert!(
            match (subscriber.is_ready(), self.states.is_blocked(key)) {
                (true, true) => false,
                (false, false) => self.catch_up_queue.back() == Some(&key),
                (true, false) | (false, true) => true,
            },
            "subscriber {key} is exactly one of ready, queued and blocked"
        );
    }
}

impl<S> Index<SubscriberKey> for Subscribers<S> {
    type Output = Subscriber<S>;

    fn index(&self, key: SubscriberKey) -> &Subscriber<S> {
        &self.slab[key as usize]
    }
}

impl<S> IndexMut<SubscriberKey> for Subscribers<S> {
    fn index_mut(&mut self, key: SubscriberKey) -> &mut Subscriber<S> {
        &mut self.slab[key as usize]
    }
}

impl<S> Shrink for Subscribers<S> {
    fn shrink_if_sparse(&mut self) {
        self.states.shrink_if_sparse();
        self.catch_up_queue.shrink_if_sparse();
    }
}
