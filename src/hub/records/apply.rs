//! Records of a log that several brokers share: publishes those whose ids the log has assigned, and replaces all of them when
//! some may be lost.
//!
//! After a replacement ids may be smaller than before. Each replacement that a stream can notice is therefore counted. A worker
//! that finds the count changed copies all records anew, and tells its streams a gap.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Hub, Latest, WorkerId};
use crate::hub::apply::{APPLY_SLICE, SliceEnd};
use crate::hub::worker_set::WorkerSet;
use crate::sse::Frame;

/// All records at one moment, for a worker's replica.
#[derive(Debug)]
pub struct CurrentRecords {
    /// The newest record of every name, ascending by id.
    pub frames: Vec<Arc<Frame>>,
    /// See [`Hub::record_resets`].
    pub resets: u64,
    /// The number of deliveries that wait in the worker's inbox. Their records are in `frames`, superseded or replaced.
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
                self.add_record(records, frame, &listening);
            }
        }
        drop(state);
        if applied > 0 {
            self.wake_all(&listening, None);
        }
        if applied == APPLY_SLICE { SliceEnd::Full } else { SliceEnd::Stop }
    }

    /// Replaces all records by the newest of each name, ascending by id: as found at the start, or because some may be lost. Of
    /// several with one name, the last is the newest. Each stream of records that is open gets one gap, and then all records
    /// anew.
    pub fn reset_records(&self, frames: Vec<Arc<Frame>>) {
        // There may be a million: the lock is held neither while they are sorted in, nor while the old ones are freed.
        let latest = Latest::restore(frames);
        let mut state = self.lock();
        let records = &mut state.records;
        let replaced = (mem::replace(&mut records.latest, latest), mem::take(&mut records.recent));
        records.replacements += 1;
        let listening: WorkerSet = records.workers().collect();
        // Without a replica there is no stream that must be told.
        if records.replicas.contains(&true) {
            self.record_resets.fetch_add(1, Ordering::SeqCst);
        }
        drop(state);
        self.wake_all(&listening, None);
        drop(replaced);
    }

    /// Returns how often all records were replaced while a worker had a replica of them.
    pub fn record_resets(&self) -> u64 {
        self.record_resets.load(Ordering::SeqCst)
    }

    /// Returns all records, for a worker whose replica was made before the last replacement.
    pub fn current_records(&self, worker: WorkerId) -> CurrentRecords {
        let state = self.lock();
        debug_assert!(state.records.replicas[worker], "only a worker with a replica needs them");
        let frames = state.records.latest.frames().cloned().collect();
        CurrentRecords { frames, resets: self.record_resets(), waiting: self.outboxes[worker].waiting() }
    }
}
