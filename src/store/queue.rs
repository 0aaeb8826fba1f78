//! What waits to be written, bounded by count and by bytes, and answers that are never lost: whoever drops one unsent says by
//! it that the store is closed. Refuses to know what is done with an insert.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::Record;
use super::error::StoreError;
use super::state::Shared;

/// At most so many inserts wait.
const MAX_QUEUED: u64 = 1 << 16;
/// At most so many bytes of them wait, unless a single one has more.
const MAX_QUEUED_BYTES: u64 = 64 << 20;
/// At most so many are one transaction.
const MAX_BATCH: usize = 4096;
/// At most so many bytes are one transaction, unless a single insert has more.
const MAX_BATCH_BYTES: u64 = 8 << 20;
/// What an insert costs beside its data.
const OVERHEAD: u64 = 128;

type ReplyFn<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// Where an answer goes. Sent once.
pub(super) struct Completion<T>(Option<ReplyFn<T>>);

impl<T> Completion<T> {
    pub fn new(answer: impl FnOnce(Result<T, StoreError>) + Send + 'static) -> Self {
        Self(Some(Box::new(answer)))
    }

    pub fn send(mut self, result: Result<T, StoreError>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<T, StoreError>) {
        if let Some(answer) = self.0.take() {
            answer(result);
        }
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        self.answer(Err(StoreError::Closed));
    }
}

/// A record that waits for its id.
pub(super) struct Insert {
    pub name: Arc<str>,
    pub data: Box<str>,
    pub reply: Completion<u64>,
}

impl Insert {
    /// Has it now.
    pub fn with(self, id: u64) -> (Record, Completion<u64>) {
        (Record { id, name: self.name, data: self.data }, self.reply)
    }

    fn cost(&self) -> u64 {
        (self.data.len() + self.name.len()) as u64 + OVERHEAD
    }
}

enum Job {
    Insert(Insert),
    Look,
    Close,
}

/// The end of those who insert.
pub(super) struct Queue {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

/// The writer's end.
pub(super) struct Waiting {
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
}

/// What the writer got.
pub(super) enum Taken {
    /// Some inserts, in the order of their coming.
    Inserts(Vec<Insert>),
    /// Nothing for so long.
    Nothing,
    /// Ids were given that the mark is to cover.
    News,
    /// What came before the end, and the end.
    Last(Vec<Insert>),
}

/// Makes both ends.
pub(super) fn queue(shared: &Arc<Shared>) -> (Queue, Waiting) {
    // Unbounded as a channel: `push` bounds it, by inserts and by bytes.
    let (sender, receiver) = unbounded();
    let queue = Queue { jobs: sender, shared: Arc::clone(shared) };
    (queue, Waiting { jobs: receiver, shared: Arc::clone(shared) })
}

impl Queue {
    /// Queues it, or says at once that there is no room.
    pub fn push(&self, insert: Insert) {
        let cost = insert.cost();
        let counters = &self.shared.counters;
        let queued = counters.queued.fetch_add(1, Ordering::AcqRel);
        let bytes = counters.queued_bytes.fetch_add(cost, Ordering::AcqRel);
        if queued > 0 && (queued >= MAX_QUEUED || bytes + cost > MAX_QUEUED_BYTES) {
            self.shared.leave_queue(1, cost);
            return insert.reply.send(Err(StoreError::Busy));
        }
        // After the end nobody takes it, and its reply says so.
        let _ = self.jobs.send(Job::Insert(insert));
    }

    /// The writer is to look at the newest id.
    pub fn nudge(&self) {
        let _ = self.jobs.send(Job::Look);
    }

    /// What is queued by now is the last.
    pub fn close(&self) {
        let _ = self.jobs.send(Job::Close);
    }
}

impl Shared {
    fn leave_queue(&self, inserts: u64, bytes: u64) {
        self.counters.queued.fetch_sub(inserts, Ordering::AcqRel);
        self.counters.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Waiting {
    /// Waits for inserts, and takes all that are there, up to a batch's bounds.
    pub fn take(&self, patience: Duration) -> Taken {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut has_news = false;
        let mut next = match self.jobs.recv_timeout(patience) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => return Taken::Nothing,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Close),
        };
        let mut last = false;
        while let Some(job) = next {
            match job {
                Job::Insert(insert) => {
                    bytes += insert.cost();
                    batch.push(insert);
                }
                Job::Look => has_news = true,
                Job::Close => {
                    last = true;
                    break;
                }
            }
            let has_room = batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES;
            next = if has_room { self.jobs.try_recv().ok() } else { None };
        }
        self.shared.leave_queue(batch.len() as u64, bytes);
        match (last, has_news && batch.is_empty()) {
            (true, _) => Taken::Last(batch),
            (false, true) => Taken::News,
            (false, false) => Taken::Inserts(batch),
        }
    }
}
