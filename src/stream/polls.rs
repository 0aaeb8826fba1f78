//! Polls: streams that end with the write that carries their first events, or instead of the first heartbeat, for networks
//! that hold a response back until it ends. A gap alone does not end a poll: it has no id, so that its client would ask from
//! the same position again at once.

use crate::net::Socket;
use crate::sse::{Framing, stream};
use crate::stream::Streams;
use crate::stream::fanout::{PassEnd, UnreadyReason};
use crate::stream::group::Poll;
use crate::stream::keys::{GroupKey, SubscriberKey};
use crate::stream::replica::{Replica, Source};
use crate::stream::subscriber::{Closing, Ending, SendState};
use crate::stream::write_batch::Stop;

impl<S: Socket> Streams<S> {
    /// Continues the pass of a group of polls, up to one to which something is due. It is served alone, because the write is
    /// its last.
    pub(super) fn find_due_poll(&mut self, group: GroupKey, left: &mut usize) -> PassEnd {
        while *left > 0 {
            *left -= 1;
            let (source, ready) = self.groups[group].parts_mut();
            let Some(key) = ready.next() else { return PassEnd::Finished };
            let cursor = self.subscribers[key].cursor();
            if self.replica.has_unreported_gap(source, cursor, &[]) {
                return PassEnd::Unready(key, UnreadyReason::Behind);
            }
            if self.replica.next(source, cursor).is_some() {
                return PassEnd::Unready(key, UnreadyReason::Polled);
            }
        }
        PassEnd::Paused
    }

    /// Ends a poll that has got nothing.
    pub(super) fn end_poll(&mut self, key: SubscriberKey, now: u32) {
        self.remove_from_ready_set(key);
        let state = SendState { closing: Closing::FinalPending(Ending::Idle), ..SendState::default() };
        self.send_final(key, state, Ending::Idle, now);
    }
}

/// Returns whether a poll may end with the event that has this id. If later events are no longer retained, as one topic may
/// retain older events than another, the next poll would get a gap and the same events again, and so would all that follow.
pub fn may_end_at(id: u64, replica: &Replica, source: &Source) -> bool {
    !replica.has_unreported_gap(source, id, &[])
}

/// Returns what a poll ends with, if the last event that it got, or the position that it began with, has this id. Streams of
/// records are never primed.
pub fn last_bytes(poll: Poll, id: u64, framing: Framing) -> Vec<u8> {
    match poll {
        Poll::Primed => end_at(id, framing),
        Poll::Plain => stream::end(framing).to_vec(),
    }
}

/// Returns what a poll ends with that is told a position: it knows of everything up to this id.
pub fn end_at(id: u64, framing: Framing) -> Vec<u8> {
    let mut out = Vec::new();
    stream::position(id, framing, &mut out);
    out.extend_from_slice(stream::end(framing));
    out
}

/// Returns what a poll ends with that has got nothing, or nothing more.
pub fn idle_bytes(replica: &Replica, source: &Source, cursor: u64, framing: Framing) -> Vec<u8> {
    let (records, erased) = (replica.records(), replica.records().erased_through());
    let is_before_erasure = records.is_current(cursor) && records.id(cursor) < erased;
    match source {
        Source::Records(_) if is_before_erasure => end_at(erased, framing),
        _ => stream::end(framing).to_vec(),
    }
}

/// Returns how far a poll has closed whose last write stopped here, after `frames` frames; one that is partly written counts.
pub fn closing_after(stop: Stop, frames: usize) -> Closing {
    match (stop, frames) {
        (Stop::End { .. }, _) => Closing::FinalStarted(Ending::Polled),
        (Stop::Prefix { .. } | Stop::Frame { .. }, 0) => Closing::No,
        (Stop::Prefix { .. } | Stop::Frame { .. }, _) => Closing::FinalPending(Ending::Polled),
    }
}
