//! The sweep: now and then every subscriber is looked at, in slices, for a heartbeat to send or a
//! stall to end. A slab walked in order costs less than a timer per subscriber, in memory and in time.

use std::io::IoSlice;

use crate::sse::stream;
use crate::stream::group::SubscriberKey;
use crate::stream::subscriber::{NO_SEAT, PartialWrite, Socket, Subscriber, WriteOutcome};
use crate::stream::{Close, Streams};

/// So many subscribers are looked at in one turn.
pub(crate) const CHECKS_PER_ITERATION: usize = 8192;
/// So many writes are tried in one turn.
const WRITES_PER_ITERATION: usize = 512;

/// Where the sweep is.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    at: Option<usize>,
}

/// How long a subscriber may be silent, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// After so long it gets a heartbeat.
    pub heartbeat: u32,
    /// After so long without a byte taken it is closed.
    pub stall: u32,
}

/// What the sweep does with a subscriber.
enum Care {
    Leave,
    Heartbeat,
    LastTry,
}

impl<S: Socket> Streams<S> {
    /// Begins a sweep unless one is under way.
    pub fn begin_sweep(&mut self) {
        self.sweep.at.get_or_insert(0);
    }

    /// Goes on with the sweep for one turn. Answers whether there is more to do.
    pub fn go_on_sweeping(&mut self, silence: Silence, now: u32) -> bool {
        let Some(begin) = self.sweep.at else { return false };
        let mut writes = 0;
        for index in begin..begin + CHECKS_PER_ITERATION {
            if index >= self.subscribers.bound() {
                self.sweep.at = None;
                return false;
            }
            self.sweep.at = Some(index + 1);
            match self.subscribers.get(index).map_or(Care::Leave, |subscriber| care(subscriber, silence, now)) {
                Care::Leave => continue,
                Care::LastTry => self.try_once_more(index as SubscriberKey, now),
                Care::Heartbeat => self.beat(index as SubscriberKey, now),
            }
            writes += 1;
            if writes == WRITES_PER_ITERATION {
                return true;
            }
        }
        true
    }

    /// A full socket tells of room only once a good part of it is free. One that takes a byte before
    /// that is slow; one that takes none is closed.
    fn try_once_more(&mut self, key: SubscriberKey, now: u32) {
        if !self.absences.rouse(key) {
            return; // It waits for its turn, not for its socket.
        }
        self.catch_up(key, now);
        // Nothing was owed to it: a heartbeat shows whether it takes a byte.
        if self.took_none(key, now) && self.subscribers[key as usize].seat != NO_SEAT {
            self.beat(key, now);
        }
        if self.took_none(key, now) {
            self.remove(key, Close::Stalled);
        }
    }

    fn took_none(&self, key: SubscriberKey, now: u32) -> bool {
        self.subscribers.get(key as usize).is_some_and(|subscriber| subscriber.written_at != now)
    }

    fn beat(&mut self, key: SubscriberKey, now: u32) {
        let subscriber = &mut self.subscribers[key as usize];
        let bytes = stream::heartbeat(self.audiences[subscriber.audience as usize].set.framing);
        match subscriber.write(&[IoSlice::new(bytes)], bytes.len(), now) {
            WriteOutcome::All => self.tally.bytes += bytes.len() as u64,
            WriteOutcome::Blocked(0) => self.block(key, PartialWrite::Nothing),
            WriteOutcome::Blocked(written) => self.block(key, PartialWrite::Own(bytes.into(), written)),
            WriteOutcome::Gone => self.remove(key, Close::Peer),
        }
    }
}

fn care<S>(subscriber: &Subscriber<S>, silence: Silence, now: u32) -> Care {
    // Wrapping: the stamp is the low half of a clock, and no silence lasts 49 days.
    let silent = now.wrapping_sub(subscriber.written_at);
    match subscriber.seat {
        NO_SEAT if silent >= silence.stall => Care::LastTry,
        NO_SEAT => Care::Leave,
        _ if silent >= silence.heartbeat => Care::Heartbeat,
        _ => Care::Leave,
    }
}
