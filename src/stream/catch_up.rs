//! Catching up: whoever has no seat, be it new, back from a stall or behind, is served alone until it
//! is caught up or its socket is full.

use std::sync::Arc;

use crate::sse::{Frame, Framing, stream};
use crate::stream::fanout::cost;
use crate::stream::group::SubscriberKey;
use crate::stream::replica::{Replica, Source};
use crate::stream::subscriber::{Backlog, NO_SEAT, PartialWrite, Socket, WriteOutcome};
use crate::stream::write_batch::{Merge, Stop, WriteBatch};
use crate::stream::{Close, Streams};

impl<S: Socket> Streams<S> {
    /// One write to a subscriber without a seat: the rest of what was half written or a gap, and
    /// the frames after its cursor. Caught up, it takes a seat. Answers what that cost.
    pub(crate) fn catch_up(&mut self, key: SubscriberKey, now: u32) -> usize {
        if let Some(absence) = self.absences.take_leaving(key) {
            return cost(self.see_off(key, absence, now));
        }
        let Self { audiences, subscribers, absences, replica, tally, hungry, .. } = self;
        let Some(subscriber) = subscribers.get_mut(key as usize).filter(|subscriber| subscriber.seat == NO_SEAT) else {
            return 0;
        };
        let audience = &mut audiences[subscriber.audience as usize];
        let (source, framing) = (&audience.source, audience.set.framing);
        let is_retained = |frame: &Frame| replica.has(source, frame);
        let mut absence = absences.take(key).unwrap_or_default();
        if absence.rest.is_nothing() && absence.is_untold(replica, source, subscriber.cursor) {
            let is_patient = absence.is_patient;
            absence = Backlog { is_patient, ..begin_after_gap(replica, source, framing, &mut subscriber.cursor) };
            tally.gaps += 1;
        }
        // A gap after the rest of a frame is told by the next write.
        let is_behind = absence.is_untold(replica, source, subscriber.cursor);
        let (rest, cursor) = (absence.rest.bytes(framing), subscriber.cursor);
        let mut gathering = WriteBatch::of_nothing();
        match is_behind {
            true => gathering.begin(rest, cursor),
            false => gathering.fill(rest, Merge::new(replica, source, cursor), framing),
        }
        let (bytes, is_behind) = (gathering.bytes, is_behind || gathering.is_truncated);
        let written = match gathering.is_empty() {
            true => WriteOutcome::All,
            false => subscriber.write(gathering.slices(), bytes, now),
        };
        match written {
            WriteOutcome::All => {
                tally.delivered += gathering.frames() as u64;
                tally.bytes += bytes as u64;
                subscriber.cursor = gathering.to;
                if is_behind {
                    absences.put(key, Backlog { rest: PartialWrite::Nothing, ..absence }, is_retained);
                    hungry.push_back(key);
                } else {
                    if absence.is_patient {
                        subscriber.socket.set_patient(false);
                    }
                    subscriber.seat = audience.seating.sit(key);
                }
            }
            WriteOutcome::Blocked(written) => {
                let (stop, rest) = (gathering.stop_at(written), std::mem::take(&mut absence.rest));
                let (rest, frames) =
                    rest_after(stop, rest, Merge::new(replica, source, subscriber.cursor), &mut subscriber.cursor);
                tally.delivered += frames;
                tally.bytes += written as u64;
                if !absence.is_patient {
                    subscriber.socket.set_patient(true);
                }
                absences.put(key, Backlog { rest, is_blocked: true, is_patient: true, ..absence }, is_retained);
            }
            WriteOutcome::Gone => self.remove(key, Close::Peer),
        }
        cost(bytes)
    }
}

/// What is left of a write that stopped there, and how many frames were given to the socket; the
/// frame it stopped within counts, for its rest is kept.
pub(crate) fn rest_after(
    stop: Stop,
    prefix: PartialWrite,
    mut merge: Merge<'_>,
    cursor: &mut u64,
) -> (PartialWrite, u64) {
    let (frames, offset) = match stop {
        Stop::InPrefix { offset } => return (prefix.advance(offset), 0),
        Stop::InFrame { frames, offset } => (frames, offset),
    };
    if let Some(last) = frames.checked_sub(1).and_then(|skipped| merge.nth(skipped)) {
        *cursor = last.id();
    }
    match merge.next().filter(|_| offset > 0) {
        Some(cut) => {
            *cursor = cut.id();
            (PartialWrite::Frame(Arc::clone(cut), offset), frames as u64 + 1)
        }
        None => (PartialWrite::Nothing, frames as u64),
    }
}

/// The gap to tell. The cursor moves to right before the oldest frame that is retained, or to the
/// present where none is, but never back.
fn begin_after_gap(replica: &Replica, source: &Source, framing: Framing, cursor: &mut u64) -> Backlog {
    let windows = || replica.windows(source);
    let oldest = windows().filter_map(|window| window.oldest()).min();
    let mut bytes = Vec::new();
    stream::gap(&cursor.to_string(), oldest, framing, &mut bytes);
    let base = match oldest {
        Some(id) => id - 1,
        None => windows().map(|window| window.newest()).max().unwrap_or(0),
    };
    *cursor = base.max(*cursor);
    let rest = PartialWrite::Own(bytes.into(), 0);
    Backlog { rest, ..Backlog::begin(windows().map(|window| window.evicted_through()), *cursor) }
}
