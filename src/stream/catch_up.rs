//! Catching up: a subscriber that is not ready, because it is new, was blocked or is behind, is served alone until it is
//! ready or its socket is full. A poll is also served like this when it has waited for an event, and ends.

use crate::net::Socket;
use crate::sse::{Framing, stream};
use crate::stream::budget::cost;
use crate::stream::keys::SubscriberKey;
use crate::stream::polls::{closing_after, last_bytes, may_end_at};
use crate::stream::replica::{Replica, Source};
use crate::stream::subscriber::{Closing, PartialWrite, SendState, WriteOutcome};
use crate::stream::write_batch::{Merge, WriteBatch};
use crate::stream::{Close, Streams};

impl<S: Socket> Streams<S> {
    /// Writes once to a subscriber that is not ready: the rest of an interrupted write or a gap event, and the frames after
    /// its cursor. When it is caught up, it becomes ready. A poll ends instead. Returns the cost.
    pub(super) fn catch_up(&mut self, key: SubscriberKey, now: u32) -> usize {
        if let Some((state, ending)) = self.subscribers.take_closing(key) {
            return cost(self.send_final(key, state, ending, now));
        }
        if self.subscribers.get(key).is_none_or(|subscriber| subscriber.is_ready()) {
            return 0;
        }
        let state = self.subscribers.take_state(key).unwrap_or_default();
        // It may be blocked: the queue may still have its key from a subscriber that has left.
        let state = SendState { is_blocked: false, ..state };
        let cost = match self.groups[self.subscribers[key].group()].source() {
            Source::Topics(_) => cost(self.write_missed(key, state, now)),
            Source::Records(_) => self.write_missed_records(key, state, now),
        };
        self.subscribers.check_state(key);
        cost
    }

    /// Writes what the replica has: everything of topics, or of records those that a poll is sent. Returns the number of bytes
    /// that the write was to have.
    pub(super) fn write_missed(&mut self, key: SubscriberKey, mut state: SendState, now: u32) -> usize {
        let Self { groups, subscribers, replica, counters, .. } = self;
        let subscriber = &mut subscribers[key];
        let group = &groups[subscriber.group()];
        let (framing, source) = (group.framing(), group.source());
        if state.partial.is_nothing() && replica.has_unreported_gap(source, subscriber.cursor(), &state.reported) {
            let gap = gap(replica, source, framing, subscriber.cursor());
            subscriber.continue_at(gap.cursor);
            state = SendState { partial: gap.event, reported: gap.reported, ..state };
            counters.add_gap();
        }
        // A gap after the rest of a frame is reported by the next write.
        let has_gap = replica.has_unreported_gap(source, subscriber.cursor(), &state.reported);
        let (prefix, cursor) = (state.partial.remaining(framing), subscriber.cursor());
        let prefix = &prefix.parts();
        let mut last = None;
        let mut batch = WriteBatch::new();
        match has_gap {
            true => batch.fill_with_prefix(prefix, cursor),
            false => batch.fill(prefix, Merge::new(replica, source, cursor), framing),
        }
        if let Some(poll) = group.poll().filter(|_| batch.frames() > 0 && may_end_at(batch.to(), replica, source)) {
            last = Some(last_bytes(poll, batch.to(), framing));
        }
        batch.end_with(last.as_deref().unwrap_or_default());
        let (bytes, is_behind) = (batch.bytes(), has_gap || batch.is_truncated());
        let outcome = match batch.is_empty() {
            true => WriteOutcome::All,
            false => subscriber.write(batch.slices(), bytes, now),
        };
        match outcome {
            WriteOutcome::All => {
                counters.add_write(batch.frames(), bytes);
                subscriber.advance_to(batch.to());
                // It borrows from the replica until it is dropped.
                drop(batch);
                match (last, is_behind) {
                    (Some(_), _) => self.remove(key, Close::Polled),
                    (None, true) => self.remain_behind(key, state),
                    (None, false) => self.become_ready(key, state.is_patient),
                }
            }
            WriteOutcome::Blocked(written) => {
                let stop = batch.stop_at(written);
                drop(batch);
                let prefix = std::mem::take(&mut state.partial);
                let frames = Merge::new(replica, source, cursor);
                let remainder = stop.remainder(prefix, frames, last.as_deref().unwrap_or_default());
                counters.add_write(remainder.frames, written);
                subscriber.advance_to(remainder.cursor);
                let ends = last.is_some() && may_end_at(remainder.cursor, replica, source);
                let closing = if ends { closing_after(stop, remainder.frames) } else { Closing::No };
                self.block_behind(key, SendState { partial: remainder.partial, closing, ..state });
            }
            WriteOutcome::Gone => {
                drop(batch);
                self.remove(key, Close::Peer);
            }
        }
        bytes
    }

    /// Queues a subscriber that has got everything except what did not fit into its write.
    pub(super) fn remain_behind(&mut self, key: SubscriberKey, state: SendState) {
        let source = self.groups[self.subscribers[key].group()].source();
        let state = SendState { partial: PartialWrite::Nothing, ..state };
        self.subscribers.put_state(key, state, |frame| self.replica.has(source, frame));
        self.subscribers.queue(key);
    }

    /// Adds a subscriber that is caught up to its group's ready set.
    pub(super) fn become_ready(&mut self, key: SubscriberKey, was_patient: bool) {
        let subscriber = &mut self.subscribers[key];
        if was_patient {
            subscriber.socket_mut().set_patient(false);
        }
        let (_, ready) = self.groups[subscriber.group()].parts_mut();
        subscriber.set_ready_index(Some(ready.insert(key)));
    }

    /// Keeps what is left for a subscriber until its socket has room.
    pub(super) fn block_behind(&mut self, key: SubscriberKey, state: SendState) {
        let subscriber = &mut self.subscribers[key];
        if !state.is_patient {
            subscriber.socket_mut().set_patient(true);
        }
        let source = self.groups[subscriber.group()].source();
        let state = SendState { is_blocked: true, is_patient: true, ..state };
        self.subscribers.put_state(key, state, |frame| self.replica.has(source, frame));
    }
}

/// A gap to report, and what follows from it.
struct Gap {
    event: PartialWrite,
    /// See [`Replica::cursor_after_gap`].
    cursor: u64,
    /// See [`SendState::reported`].
    reported: Box<[u64]>,
}

fn gap(replica: &Replica, source: &Source, framing: Framing, cursor: u64) -> Gap {
    let after = replica.id(source, cursor).to_string();
    let mut bytes = Vec::new();
    stream::gap(&after, replica.oldest(source), framing, &mut bytes);
    let cursor = replica.cursor_after_gap(source, cursor);
    let evicted_through = replica.evicted_through(source);
    let reported = SendState::with_reported(evicted_through, cursor).reported;
    Gap { event: PartialWrite::Own(bytes.into(), 0), cursor, reported }
}
