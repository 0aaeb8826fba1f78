//! Catching up with records: reads a slice of the newest ones from the hub, encodes it, and writes it. A subscriber becomes ready
//! when a slice had everything: what is published later is sent to the worker. Superseded records are skipped. Erasures that the
//! subscriber was not told of come between the records, so that it goes on where it was, however many names are erased meanwhile.
//! It gets a gap only if the hub has forgotten one of them.

use std::io::IoSlice;
use std::sync::Arc;

use crate::hub::{RecordChange, RecordSlice};
use crate::net::Socket;
use crate::sse::{Framing, encode_record, record_len, stream};
use crate::stream::budget::cost;
use crate::stream::group::Poll;
use crate::stream::keys::SubscriberKey;
use crate::stream::polls::{end_at, last_bytes};
use crate::stream::records::Records;
use crate::stream::subscriber::{Closing, Ending, PartialWrite, SendState, WriteOutcome};
use crate::stream::{Close, Streams};

/// Data with more bytes is not copied but written where it is.
const MAX_COPIED: usize = 64 << 10;
/// Reading this many records costs as much as a write.
const RECORDS_PER_UNIT: usize = 16;

/// The records and erasures of one write, after the rest of an earlier one.
struct Batch {
    /// Those that are encoded, ascending by id.
    changes: Vec<RecordChange>,
    /// The cursor before the write.
    from: u64,
    /// The cursor before the encoded records. Another one than `from` if a record is written where it is, instead of the rest of
    /// an earlier write.
    base: u64,
    /// The cursor when everything is written.
    to: u64,
    /// Whether the subscriber has everything then.
    is_complete: bool,
    /// The id of the last erasure.
    erased_through: u64,
    /// What a poll ends with, if it does.
    end: Option<Vec<u8>>,
}

/// Where a full socket interrupted a write.
struct Cut {
    partial: PartialWrite,
    cursor: u64,
    /// The number of records and erasures written; one that is partly written counts.
    count: usize,
}

impl<S: Socket> Streams<S> {
    /// Writes once to a subscriber to records that is not ready: the rest of an interrupted write or a gap event, and the newest
    /// records after its cursor. Returns the cost.
    pub(super) fn write_missed_records(&mut self, key: SubscriberKey, mut state: SendState, now: u32) -> usize {
        let Self { hub, groups, subscribers, replica, counters, encoded, .. } = self;
        let (subscriber, records) = (&mut subscribers[key], replica.records());
        let group = &groups[subscriber.group()];
        let framing = group.framing();
        let after = records.id(subscriber.cursor());
        // Fresh subscribers know of what was erased before they joined, though it comes after their cursor.
        let told_through = state.reported.first().copied().unwrap_or(0).max(after);
        let slice = hub.read_records(group.source().names(), after, told_through);
        let cost_of_slice = slice.changes.len() / RECORDS_PER_UNIT;
        let batch = if slice.resets != records.resets() {
            // The worker notices the replacement in its next iteration.
            Batch::nothing(subscriber.cursor())
        } else if !records.is_current(subscriber.cursor()) || slice.forgotten_through > told_through {
            // After the rest of a frame, it is reported by the next write.
            if state.partial.is_nothing() {
                state = report_gap(records, &slice, framing, subscriber.cursor(), &state);
                subscriber.continue_at(records.cursor(0));
                counters.add_gap();
            }
            Batch::nothing(subscriber.cursor())
        } else {
            let batch = Batch::encode(slice, records, framing, subscriber.cursor(), &mut state.partial, encoded);
            batch.with_end(records, group.poll(), framing)
        };
        cost_of_slice + cost(self.write_records(key, state, &batch, now))
    }

    /// Returns the number of bytes that the write was to have.
    fn write_records(&mut self, key: SubscriberKey, mut state: SendState, batch: &Batch, now: u32) -> usize {
        let Self { groups, subscribers, replica, counters, encoded, .. } = self;
        let subscriber = &mut subscribers[key];
        let framing = groups[subscriber.group()].framing();
        let end = batch.end.as_deref().unwrap_or_default();
        let rest = state.partial.remaining(framing);
        let (rest_len, bytes) = (rest.len(), rest.len() + encoded.len() + end.len());
        let outcome = match (bytes, rest_len, end) {
            (0, ..) => WriteOutcome::All,
            (_, 0, []) => subscriber.write(&[IoSlice::new(encoded)], bytes, now),
            _ => {
                let [head, data, tail] = rest.parts().map(IoSlice::new);
                subscriber.write(&[head, data, tail, IoSlice::new(encoded), IoSlice::new(end)], bytes, now)
            }
        };
        drop(rest);
        encoded.clear();
        match outcome {
            WriteOutcome::All => {
                counters.add_write(batch.count(), bytes);
                subscriber.advance_to(batch.to);
                match (&batch.end, batch.is_complete) {
                    (Some(_), _) => self.remove(key, Close::Polled),
                    (None, false) => self.remain_behind(key, state),
                    (None, true) => self.become_ready(key, state.is_patient),
                }
            }
            WriteOutcome::Blocked(written) => {
                let partial = std::mem::take(&mut state.partial);
                let cut = batch.cut(written, rest_len, partial, replica.records(), framing);
                counters.add_write(cut.count, written);
                subscriber.advance_to(cut.cursor);
                let closing = batch.closing_after(&cut, replica.records());
                self.block_behind(key, SendState { partial: cut.partial, closing, ..state });
            }
            WriteOutcome::Gone => self.remove(key, Close::Peer),
        }
        bytes
    }
}

/// Returns the state of a subscriber that gets a gap event and then all records.
fn report_gap(records: &Records, slice: &RecordSlice, framing: Framing, cursor: u64, state: &SendState) -> SendState {
    let mut bytes = Vec::new();
    stream::gap(&records.id(cursor).to_string(), slice.oldest, framing, &mut bytes);
    SendState {
        partial: PartialWrite::Own(bytes.into(), 0),
        reported: [slice.erased_through].into(),
        is_blocked: state.is_blocked,
        closing: state.closing,
        is_patient: state.is_patient,
    }
}

fn is_large(change: &RecordChange) -> bool {
    matches!(change, RecordChange::Version(record) if record.data.len() > MAX_COPIED)
}

fn encode(change: &RecordChange, framing: Framing, out: &mut Vec<u8>) {
    match change {
        RecordChange::Version(record) => encode_record(record, framing, out),
        RecordChange::Erasure(frame) => out.extend_from_slice(frame.wire(framing)),
    }
}

/// Returns the number of bytes of a record or an erasure.
fn encoded_len(change: &RecordChange, framing: Framing) -> usize {
    match change {
        RecordChange::Version(record) => record_len(record, framing),
        RecordChange::Erasure(frame) => frame.wire(framing).len(),
    }
}

/// Returns what is left of a record or an erasure after this many bytes.
fn partial(change: &RecordChange, offset: usize) -> PartialWrite {
    match change {
        RecordChange::Version(record) => PartialWrite::of_record(record, offset),
        RecordChange::Erasure(frame) => PartialWrite::Frame(Arc::clone(frame), offset),
    }
}

impl Batch {
    /// Creates a batch without records, after which the subscriber is still behind.
    fn nothing(cursor: u64) -> Self {
        let (from, base, to) = (cursor, cursor, cursor);
        Self { changes: Vec::new(), from, base, to, is_complete: false, erased_through: 0, end: None }
    }

    /// Encodes the records of a slice after a cursor. If the first one is large, and no rest of an earlier write comes before
    /// it, it takes the place of that rest.
    fn encode(
        slice: RecordSlice,
        feed: &Records,
        framing: Framing,
        from: u64,
        partial: &mut PartialWrite,
        encoded: &mut Vec<u8>,
    ) -> Self {
        let RecordSlice { mut changes, mut is_complete, erased_through, .. } = slice;
        let mut base = from;
        if partial.is_nothing()
            && let Some(first) = changes.first().filter(|first| is_large(first))
        {
            (*partial, base) = (self::partial(first, 0), feed.cursor(first.id()));
            changes.remove(0);
        }
        if let Some(large) = changes.iter().position(is_large) {
            changes.truncate(large);
            is_complete = false;
        }
        changes.iter().for_each(|change| encode(change, framing, encoded));
        let mut to = changes.last().map_or(base, |last| feed.cursor(last.id()));
        if is_complete {
            // What was erased until now is not in what the subscriber has.
            to = to.max(feed.cursor(erased_through));
        }
        Self { changes, from, base, to, is_complete, erased_through, end: None }
    }

    /// Adds a poll's end if it may end with these records.
    fn with_end(mut self, feed: &Records, poll: Option<Poll>, framing: Framing) -> Self {
        let last = self.changes.last().map_or(self.base, |last| feed.cursor(last.id()));
        let poll = poll.filter(|_| self.count() > 0);
        self.end = match poll {
            Some(poll) if self.may_end_at(last, feed) => Some(last_bytes(poll, last, framing)),
            Some(_) if self.is_complete => Some(end_at(self.erased_through, framing)),
            _ => None,
        };
        self
    }

    /// Returns whether a poll may end with the record at this cursor. Before an erasure, the next poll would get a gap and the
    /// same records again, and so would all that follow. Such a poll ends with the position of the erasure instead.
    fn may_end_at(&self, cursor: u64, feed: &Records) -> bool {
        feed.id(cursor) >= self.erased_through
    }

    /// Returns the number of records and erasures.
    fn count(&self) -> usize {
        self.changes.len() + usize::from(self.base != self.from)
    }

    /// Returns what is left after `written` bytes, of which the rest of an earlier write had `rest_len`.
    fn cut(&self, written: usize, rest_len: usize, rest: PartialWrite, feed: &Records, framing: Framing) -> Cut {
        let mut count = usize::from(self.base != self.from);
        let Some(mut left) = written.checked_sub(rest_len) else {
            return match (written, count) {
                // A record that is not begun is read again: it may be superseded, or erased.
                (0, 1) => Cut { partial: PartialWrite::Nothing, cursor: self.from, count: 0 },
                _ => Cut { partial: rest.advance(written), cursor: self.base, count },
            };
        };
        let mut cursor = self.base;
        for change in &self.changes {
            let len = encoded_len(change, framing);
            if left == 0 {
                return Cut { partial: PartialWrite::Nothing, cursor, count };
            }
            (cursor, count) = (feed.cursor(change.id()), count + 1);
            if left < len {
                return Cut { partial: partial(change, left), cursor, count };
            }
            left -= len;
        }
        let partial =
            self.end.as_ref().map_or(PartialWrite::Nothing, |end| PartialWrite::Own(end.clone().into(), left));
        Cut { partial, cursor, count }
    }

    /// Returns how far a poll has closed whose write was interrupted.
    fn closing_after(&self, cut: &Cut, feed: &Records) -> Closing {
        match &cut.partial {
            _ if self.end.is_none() || cut.count == 0 => Closing::No,
            PartialWrite::Own(..) => Closing::FinalStarted(Ending::Polled),
            _ if !self.may_end_at(cut.cursor, feed) => Closing::No,
            _ => Closing::FinalPending(Ending::Polled),
        }
    }
}
