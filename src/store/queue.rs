//! The queue of inserts, bounded by number and by bytes, and the completions by which every request gets its reply.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, unbounded};

use super::error::{StoreError, Unerased};
use super::state::Shared;
use crate::records::insert::{InsertOutcome, InsertRequest};

/// The maximum number of queued inserts.
const MAX_QUEUED: u64 = 1 << 16;
/// The maximum bytes of queued inserts, unless a single insert is larger.
const MAX_QUEUED_BYTES: u64 = 64 << 20;
/// The maximum number of inserts in a transaction.
const MAX_BATCH: usize = 4096;
/// The maximum bytes of a transaction, unless a single insert is larger.
const MAX_BATCH_BYTES: u64 = 8 << 20;
/// The maximum number of erasures that wait for the writer, and of those that it has begun.
pub(super) const MAX_ERASURES: usize = 1024;

type CompletionFn<T, E> = Box<dyn FnOnce(Result<T, E>) + Send>;

/// Delivers the result of a request, exactly once. Dropping it unsent delivers [`StoreError::Closed`].
pub(super) struct Completion<T, E: From<StoreError> = StoreError>(Option<CompletionFn<T, E>>);

impl<T, E: From<StoreError>> Completion<T, E> {
    pub fn new(deliver: impl FnOnce(Result<T, E>) + Send + 'static) -> Self {
        Self(Some(Box::new(deliver)))
    }

    pub fn send(mut self, result: Result<T, E>) {
        self.deliver(result);
    }

    fn deliver(&mut self, result: Result<T, E>) {
        if let Some(deliver) = self.0.take() {
            deliver(result);
        }
    }
}

impl<T, E: From<StoreError>> Drop for Completion<T, E> {
    fn drop(&mut self) {
        self.deliver(Err(StoreError::Closed.into()));
    }
}

/// A request to insert a record, and the completion to be sent once it is carried out.
pub(super) struct Insert {
    pub request: InsertRequest,
    pub completion: Completion<InsertOutcome>,
}

impl Insert {
    fn cost(&self) -> u64 {
        self.request.cost() as u64
    }
}

/// A revocation of tokens, to be stored.
pub(super) struct Revoke {
    pub text: String,
    /// When it was revoked, in seconds since the Unix epoch.
    pub second: u64,
    pub completion: Completion<()>,
}

/// An erasure of versions.
pub(super) struct Erase {
    pub name: Arc<str>,
    /// Only versions with a smaller id are erased; `None` for all.
    pub before: Option<u64>,
    /// Gets the number of versions.
    pub completion: Completion<u64, Unerased>,
}

enum Job {
    Insert(Insert),
    CheckMark,
    Close,
}

/// The sending end of the queue.
pub(super) struct InsertQueue {
    jobs: Sender<Job>,
    revokes: Sender<Revoke>,
    erasures: Sender<Erase>,
    shared: Arc<Shared>,
}

/// The writer's end of the queue.
pub(super) struct InsertReceiver {
    jobs: Receiver<Job>,
    revokes: Receiver<Revoke>,
    erasures: Receiver<Erase>,
    shared: Arc<Shared>,
}

/// What the writer received.
pub(super) enum Batch {
    /// Inserts, in the order in which they were queued.
    Inserts(Vec<Insert>),
    /// Nothing, until the timeout.
    Timeout,
    /// A request to check the high-water mark, and no inserts.
    CheckMark,
    /// The last inserts: the queue is closed.
    Last(Vec<Insert>),
}

/// Returns both ends of a new queue.
pub(super) fn queue(shared: &Arc<Shared>) -> (InsertQueue, InsertReceiver) {
    // The channel is unbounded because `push` applies the bounds, by number and by bytes.
    let (sender, receiver) = unbounded();
    // This one is bounded by the connections and threads, each of which waits for one revocation at most.
    let (revokes, revokes_receiver) = unbounded();
    let (erasures, erasures_receiver) = bounded(MAX_ERASURES);
    let queue = InsertQueue { jobs: sender, revokes, erasures, shared: Arc::clone(shared) };
    let shared = Arc::clone(shared);
    (queue, InsertReceiver { jobs: receiver, revokes: revokes_receiver, erasures: erasures_receiver, shared })
}

impl InsertQueue {
    /// Queues an insert, or completes it with [`StoreError::Busy`] if the queue is full.
    pub fn push(&self, insert: Insert) {
        let cost = insert.cost();
        let counters = &self.shared.counters;
        let queued = counters.queued.fetch_add(1, Ordering::AcqRel);
        let bytes = counters.queued_bytes.fetch_add(cost, Ordering::AcqRel);
        if queued > 0 && (queued >= MAX_QUEUED || bytes + cost > MAX_QUEUED_BYTES) {
            counters.dequeue(1, cost);
            return insert.completion.send(Err(self.shared.overflow()));
        }
        // If the writer has ended, this drops the insert, which completes it with `Closed`.
        let _ = self.jobs.send(Job::Insert(insert));
    }

    /// Queues a revocation, and wakes the writer.
    pub fn push_revoke(&self, revoke: Revoke) {
        // If the writer has ended, this drops the revocation, which completes it with `Closed`.
        let _ = self.revokes.send(revoke);
        self.request_mark_check();
    }

    /// Queues an erasure, and wakes the writer. Completes it with [`StoreError::Busy`] if too many wait.
    pub fn push_erase(&self, erase: Erase) {
        // If the writer has ended, this drops the erasure, which completes it with `Closed`.
        if let Err(TrySendError::Full(erase)) = self.erasures.try_send(erase) {
            return erase.completion.send(Err(StoreError::Busy.into()));
        }
        self.request_mark_check();
    }

    /// Makes the writer check whether the high-water mark must be raised.
    pub fn request_mark_check(&self) {
        let _ = self.jobs.send(Job::CheckMark);
    }

    /// Closes the queue. Inserts that are queued already are still stored.
    pub fn close(&self) {
        let _ = self.jobs.send(Job::Close);
    }
}

impl InsertReceiver {
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes the revocations that are queued, as many as make up a transaction.
    pub fn take_revokes(&self) -> Vec<Revoke> {
        self.revokes.try_iter().take(MAX_BATCH).collect()
    }

    /// Takes the next erasure that is queued.
    pub fn take_erase(&self) -> Option<Erase> {
        self.erasures.try_recv().ok()
    }

    /// Returns whether erasures are queued.
    pub fn has_erasures(&self) -> bool {
        !self.erasures.is_empty()
    }

    /// Waits for an insert, and returns it with all others that are queued, up to the limits of a batch.
    pub fn receive(&self, timeout: Duration) -> Batch {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut must_check_mark = false;
        let mut next = match self.jobs.recv_timeout(timeout) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => return Batch::Timeout,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Close),
        };
        let mut is_last = false;
        while let Some(job) = next {
            match job {
                Job::Insert(insert) => {
                    bytes += insert.cost();
                    batch.push(insert);
                }
                Job::CheckMark => must_check_mark = true,
                Job::Close => {
                    is_last = true;
                    break;
                }
            }
            let has_room = batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES;
            next = if has_room { self.jobs.try_recv().ok() } else { None };
        }
        self.shared.counters.dequeue(batch.len() as u64, bytes);
        match (is_last, must_check_mark && batch.is_empty()) {
            (true, _) => Batch::Last(batch),
            (false, true) => Batch::CheckMark,
            (false, false) => Batch::Inserts(batch),
        }
    }
}
