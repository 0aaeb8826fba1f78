//! The way from the hub to one worker: a channel of notices whose bound is the worker's debt (what
//! was sent and not yet served), and a bell that wakes the worker at most once per turn.
//! Refuses to know how a worker sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryIter, unbounded};

use super::topic::FeedId;
use crate::sse::Frame;

/// At most so many events wait for one worker, unless a single publish alone has more, and
/// one commit of records.
pub const MAX_IN_FLIGHT_EVENTS: usize = 4096;
/// At most so many bytes of frames wait for one worker, unless a single publish alone has more, and one
/// commit of records.
pub const MAX_IN_FLIGHT_BYTES: usize = 32 << 20;

/// One published event, on its way to a worker's replica.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Which feed it belongs to.
    pub feed: FeedId,
    /// The event.
    pub frame: Arc<Frame>,
}

/// Wakes a sleeping worker; called from any thread.
pub type WakeFn = Box<dyn Fn() + Send + Sync>;

#[derive(Debug, Default)]
struct Shared {
    rung: AtomicBool,
    debt_events: AtomicUsize,
    debt_bytes: AtomicUsize,
    /// Whether the worker has ended, and serves nobody any more.
    has_ended: AtomicBool,
}

/// The hub's end.
pub struct Outbox {
    notices: Sender<Delivery>,
    shared: Arc<Shared>,
    bell: WakeFn,
}

/// The worker's end.
#[derive(Debug)]
pub struct Inbox {
    notices: Receiver<Delivery>,
    shared: Arc<Shared>,
    taken_events: usize,
    taken_bytes: usize,
}

/// Makes both ends.
pub fn inbox(bell: WakeFn) -> (Outbox, Inbox) {
    // Unbounded as a channel: `has_room` bounds what the hub sends, by events and by bytes.
    let (sender, receiver) = unbounded();
    let shared = Arc::new(Shared::default());
    let outbox = Outbox { notices: sender, shared: Arc::clone(&shared), bell };
    (outbox, Inbox { notices: receiver, shared, taken_events: 0, taken_bytes: 0 })
}

impl Outbox {
    /// Whether the worker can take so much more. One that owes nothing takes any single publish, and one that has ended
    /// keeps nobody waiting.
    pub(super) fn has_room(&self, events: usize, bytes: usize) -> bool {
        if self.shared.has_ended.load(Ordering::Acquire) {
            return true;
        }
        let owed_events = self.shared.debt_events.load(Ordering::Acquire);
        let owed_bytes = self.shared.debt_bytes.load(Ordering::Acquire);
        owed_events == 0 || (owed_events + events <= MAX_IN_FLIGHT_EVENTS && owed_bytes + bytes <= MAX_IN_FLIGHT_BYTES)
    }

    /// What was sent and not yet served: frames and bytes.
    pub(super) fn debt(&self) -> (usize, usize) {
        (self.shared.debt_events.load(Ordering::Relaxed), self.shared.debt_bytes.load(Ordering::Relaxed))
    }

    /// Sends one notice. A worker that has ended takes none, and has no subscriber left to miss it.
    pub(super) fn send(&self, notice: Delivery) {
        self.shared.debt_events.fetch_add(1, Ordering::AcqRel);
        self.shared.debt_bytes.fetch_add(notice.frame.cost(), Ordering::AcqRel);
        let _ = self.notices.send(notice);
    }

    /// Wakes the worker, unless somebody has done so since it last looked.
    pub fn ring(&self) {
        if !self.shared.rung.swap(true, Ordering::AcqRel) {
            (self.bell)();
        }
    }
}

impl Inbox {
    /// From here on the bell rings anew; call before looking at what is there.
    pub fn hush(&self) {
        self.shared.rung.store(false, Ordering::SeqCst);
    }

    /// Whether notices wait.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty()
    }

    /// How many notices wait; all that were sent before this call are among them.
    pub fn len(&self) -> usize {
        self.notices.len()
    }

    /// The waiting notices, in the hub's order.
    pub fn waiting(&self) -> TryIter<'_, Delivery> {
        self.notices.try_iter()
    }

    /// Notes that a notice was taken; it stays a debt until [`Inbox::settle`].
    pub fn note_taken(&mut self, notice: &Delivery) {
        self.taken_events += 1;
        self.taken_bytes += notice.frame.cost();
    }

    /// All that was taken has been served to every audience: room for more.
    pub fn settle(&mut self) {
        if self.taken_events == 0 {
            return;
        }
        self.shared.debt_bytes.fetch_sub(std::mem::take(&mut self.taken_bytes), Ordering::AcqRel);
        self.shared.debt_events.fetch_sub(std::mem::take(&mut self.taken_events), Ordering::AcqRel);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Release);
    }
}
