//! Records of a log that several brokers share: publishes those whose ids the log has assigned, and replaces all of them when
//! some may be lost.
//!
//! After a replacement ids may be smaller than before. Each replacement that a stream can notice is therefore counted. A worker
//! that finds the count changed tells its streams a gap, and they read all records anew.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Hub, Latest, WorkerId};
use crate::hub::apply::{APPLY_SLICE, SliceEnd};
use crate::hub::worker_set::WorkerSet;
use crate::records::Record;
use crate::sse::Frame;

/// What a worker must know of a replacement of all records.
#[derive(Debug)]
pub struct RecordReset {
    /// See [`Hub::record_resets`].
    pub resets: u64,
    /// The number of deliveries that wait in the worker's inbox. Their records may be replaced, and the others can be read.
    pub waiting: usize,
}

impl Hub {
    /// Publishes records from the front of the queue, removes them, and wakes the workers. Their ids ascend; one that is not
    /// larger than all before is dropped. Leaves those for which a worker has no room; try again in a moment.
    pub fn apply_records(&self, frames: &mut VecDeque<Arc<Frame>>) {
        while self.apply_record_slice(frames) == SliceEnd::Full {}
    }

    fn apply_record_slice(&self, frames: &mut VecDeque<Arc<Frame>>) -> SliceEnd {
        let mut state = self.lock();
        let records = &mut state.records;
        let listening: WorkerSet = records.workers().collect();
        let has_room = |frame: &Arc<Frame>| {
            let cost = frame.cost();
            listening.iter().all(|worker| self.outboxes[worker].has_room(1, cost))
        };
        let mut applied = 0;
        while applied < APPLY_SLICE
            && frames.front().is_some_and(has_room)
            && let Some(frame) = frames.pop_front()
        {
            applied += 1;
            if frame.id() > records.latest.newest() {
                self.add_record(records, &frame, &listening);
            }
        }
        drop(state);
        if applied > 0 {
            self.wake_all(&listening, None);
        }
        if applied == APPLY_SLICE { SliceEnd::Full } else { SliceEnd::Stop }
    }

    /// Publishes that the name was erased whose newest record has the id `record`, as [`Hub::publish_erasure`] does. Returns whether
    /// there is one. Called by the thread that applies records.
    pub fn erase_record(&self, record: u64, id: u64) -> bool {
        let name = self.lock().records.latest.get(record).map(|record| Arc::clone(&record.name));
        match name {
            Some(name) => {
                self.publish_erasure(&name, id);
                true
            }
            None => false,
        }
    }

    /// Replaces all records by the newest of each name, ascending by id: as found at the start, or because some may be lost. Of
    /// several with one name, the last is the newest. Each stream of records that is open gets one gap, and then all records
    /// anew.
    pub fn reset_records(&self, newest: Vec<Arc<Record>>) {
        // There may be a million: the lock is held neither while they are sorted in, nor while the old ones are freed.
        let latest = Latest::restore(newest);
        let mut state = self.lock();
        let records = &mut state.records;
        let recent = records.recent.as_mut().map(mem::take);
        let replaced = (mem::replace(&mut records.latest, latest), recent);
        // Every stream gets a gap, so none has to be told what was erased before.
        records.erasures.forget_through(records.erasures.through());
        records.replacements += 1;
        let listening: WorkerSet = records.workers().collect();
        // If there never was a stream, none must be told, and no inbox has a record that was replaced.
        if records.had_listeners {
            self.record_resets.fetch_add(1, Ordering::SeqCst);
        }
        drop(state);
        self.wake_all(&listening, None);
        drop(replaced);
    }

    /// Returns how often all records were replaced since the first subscriber to them.
    pub fn record_resets(&self) -> u64 {
        self.record_resets.load(Ordering::SeqCst)
    }

    /// Returns what a worker must know that notices a replacement.
    pub fn record_reset(&self, worker: WorkerId) -> RecordReset {
        let _state = self.lock();
        RecordReset { resets: self.record_resets(), waiting: self.outboxes[worker].waiting() }
    }
}
