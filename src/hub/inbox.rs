//! The channel from the hub to one worker. It is bounded by what is in flight: what was sent and not yet acknowledged. A flag
//! makes sure that a sleeping worker is woken at most once per loop iteration. Independent of how a worker sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryIter, unbounded};

use super::topic::FeedId;
use crate::sse::Frame;

/// The maximum number of events in flight to one worker. A single publish and a single commit of records may exceed it.
pub const MAX_IN_FLIGHT_EVENTS: usize = 4096;
/// The maximum number of bytes of frames in flight to one worker. A single publish and a single commit of records may exceed
/// it.
pub const MAX_IN_FLIGHT_BYTES: usize = 32 << 20;

/// One published event on its way to a worker's replica.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The feed that it belongs to.
    pub feed: FeedId,
    /// The event.
    pub frame: Arc<Frame>,
    /// The id of the record that this one replaces or that was erased; 0 if there is none.
    pub superseded: u64,
}

/// Wakes a sleeping worker. Called from any thread.
pub type WakeFn = Box<dyn Fn() + Send + Sync>;

#[derive(Debug, Default)]
struct Shared {
    /// Whether the worker was woken since it last called [`Inbox::clear_wake`].
    is_woken: AtomicBool,
    /// How often the worker was woken.
    wakes: AtomicU64,
    in_flight_events: AtomicUsize,
    in_flight_bytes: AtomicUsize,
    /// Whether the worker has ended and has no subscriber any more.
    has_ended: AtomicBool,
}

/// The hub's end.
pub struct Outbox {
    deliveries: Sender<Delivery>,
    shared: Arc<Shared>,
    wake: WakeFn,
}

/// The worker's end.
#[derive(Debug)]
pub struct Inbox {
    deliveries: Receiver<Delivery>,
    shared: Arc<Shared>,
    taken_events: usize,
    taken_bytes: usize,
}

/// Creates both ends.
pub fn inbox(wake: WakeFn) -> (Outbox, Inbox) {
    // The channel itself is unbounded. `has_room` bounds what the hub sends, by events and by bytes.
    let (sender, receiver) = unbounded();
    let shared = Arc::new(Shared::default());
    let outbox = Outbox { deliveries: sender, shared: Arc::clone(&shared), wake };
    (outbox, Inbox { deliveries: receiver, shared, taken_events: 0, taken_bytes: 0 })
}

impl Outbox {
    /// Returns whether the worker has room for this many events and bytes more. With nothing in flight there is room for any
    /// single publish. A worker that has ended always has room, so that it delays no publisher.
    pub(super) fn has_room(&self, events: usize, bytes: usize) -> bool {
        if self.shared.has_ended.load(Ordering::Acquire) {
            return true;
        }
        let in_flight_events = self.shared.in_flight_events.load(Ordering::Acquire);
        let in_flight_bytes = self.shared.in_flight_bytes.load(Ordering::Acquire);
        in_flight_events == 0
            || (in_flight_events + events <= MAX_IN_FLIGHT_EVENTS && in_flight_bytes + bytes <= MAX_IN_FLIGHT_BYTES)
    }

    /// Returns what was sent and not yet acknowledged: events and bytes.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        let (events, bytes) = (&self.shared.in_flight_events, &self.shared.in_flight_bytes);
        (events.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    /// Returns the number of deliveries that wait in the inbox.
    pub(super) fn waiting(&self) -> usize {
        self.deliveries.len()
    }

    /// Sends a delivery. If the worker has ended it is dropped: no subscriber is left to miss it.
    pub(super) fn send(&self, delivery: Delivery) {
        self.shared.in_flight_events.fetch_add(1, Ordering::AcqRel);
        self.shared.in_flight_bytes.fetch_add(delivery.frame.cost(), Ordering::AcqRel);
        let _ = self.deliveries.send(delivery);
    }

    /// Wakes the worker, unless it was woken since it last called [`Inbox::clear_wake`].
    pub fn wake(&self) {
        if !self.shared.is_woken.swap(true, Ordering::AcqRel) {
            self.shared.wakes.fetch_add(1, Ordering::Relaxed);
            (self.wake)();
        }
    }

    /// Returns how often the worker was woken.
    pub(super) fn wakes(&self) -> u64 {
        self.shared.wakes.load(Ordering::Relaxed)
    }
}

impl Inbox {
    /// Lets the next [`Outbox::wake`] wake the worker again. Call it before looking for deliveries, or one may go unnoticed.
    pub fn clear_wake(&self) {
        self.shared.is_woken.store(false, Ordering::SeqCst);
    }

    /// Returns whether no delivery is waiting.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Returns the number of waiting deliveries, including all that were sent before this call.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Receives the waiting deliveries, in the hub's order.
    pub fn waiting(&self) -> TryIter<'_, Delivery> {
        self.deliveries.try_iter()
    }

    /// Records that a delivery was received. It stays in flight until [`Inbox::ack`].
    pub fn mark_taken(&mut self, delivery: &Delivery) {
        self.taken_events += 1;
        self.taken_bytes += delivery.frame.cost();
    }

    /// Acknowledges all deliveries that were marked as taken, once they have been served to every subscriber group.
    pub fn ack(&mut self) {
        if self.taken_events == 0 {
            return;
        }
        let (events, bytes) = (std::mem::take(&mut self.taken_events), std::mem::take(&mut self.taken_bytes));
        let bytes_before = self.shared.in_flight_bytes.fetch_sub(bytes, Ordering::AcqRel);
        let events_before = self.shared.in_flight_events.fetch_sub(events, Ordering::AcqRel);
        debug_assert!(events_before >= events && bytes_before >= bytes, "only what was sent is acknowledged");
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Release);
    }
}
