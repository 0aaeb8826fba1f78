//! The heartbeat sweep: at intervals, every subscriber is checked, in slices, for a heartbeat to send or a stall to end. A
//! slab scanned in order costs less than a timer per subscriber, in memory and in time.

use std::io::IoSlice;

use crate::net::Socket;
use crate::sse::stream;
use crate::stream::budget::CHECKS_PER_ITERATION;
use crate::stream::keys::SubscriberKey;
use crate::stream::subscriber::{PartialWrite, Subscriber, WriteOutcome};
use crate::stream::{Close, Streams};

/// Writes that one loop iteration of the sweep makes.
const WRITES_PER_ITERATION: usize = 512;

/// The state of the sweep.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The subscriber to check next, while a sweep is running.
    next: Option<SubscriberKey>,
}

/// How long a subscriber may be silent, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// A ready subscriber that was sent nothing for this long gets a heartbeat.
    pub heartbeat: u32,
    /// A subscriber that accepted no data for this long is closed.
    pub stall: u32,
}

/// What the sweep does with a subscriber.
enum Action {
    Nothing,
    SendHeartbeat,
    TryLastWrite,
}

impl<S: Socket> Streams<S> {
    /// Begins a sweep unless one is running.
    pub fn begin_sweep(&mut self) {
        self.sweep.next.get_or_insert(0);
    }

    /// Continues the sweep for one loop iteration. Returns whether it is unfinished.
    pub fn continue_sweep(&mut self, silence: Silence, now: u32) -> bool {
        let Some(begin) = self.sweep.next else { return false };
        let mut writes = 0;
        for key in begin..begin + CHECKS_PER_ITERATION as SubscriberKey {
            if key >= self.subscribers.bound() {
                self.sweep.next = None;
                return false;
            }
            self.sweep.next = Some(key + 1);
            match self.subscribers.get(key).map_or(Action::Nothing, |subscriber| action(subscriber, silence, now)) {
                Action::Nothing => continue,
                Action::TryLastWrite => self.try_last_write(key, now),
                Action::SendHeartbeat => self.send_heartbeat(key, now),
            }
            writes += 1;
            if writes == WRITES_PER_ITERATION {
                return true;
            }
        }
        true
    }

    /// Closes a subscriber whose socket is full, unless it accepts data now. The poller reports room only once a good part
    /// of the socket's buffer is free: a subscriber that accepts data before that is slow, not stalled.
    fn try_last_write(&mut self, key: SubscriberKey, now: u32) {
        if !self.subscribers.unblock(key) {
            return; // It is queued, so its socket may have room.
        }
        self.catch_up(key, now);
        // If nothing was due to it, a heartbeat shows whether it accepts data.
        if self.is_silent(key, now) && self.subscribers[key].is_ready() {
            self.send_heartbeat(key, now);
        }
        if self.is_silent(key, now) {
            self.remove(key, Close::Stalled);
        }
    }

    /// Returns whether a subscriber accepted no data in this iteration.
    fn is_silent(&self, key: SubscriberKey, now: u32) -> bool {
        self.subscribers.get(key).is_some_and(|subscriber| subscriber.silent_for(now) > 0)
    }

    fn send_heartbeat(&mut self, key: SubscriberKey, now: u32) {
        let subscriber = &mut self.subscribers[key];
        let group = &self.groups[subscriber.group()];
        if group.poll().is_some() {
            return self.end_poll(key, now);
        }
        let bytes = stream::heartbeat(group.framing());
        match subscriber.write(&[IoSlice::new(bytes)], bytes.len(), now) {
            WriteOutcome::All => self.counters.add_write(0, bytes.len()),
            WriteOutcome::Blocked(0) => self.block(key, PartialWrite::Nothing),
            WriteOutcome::Blocked(written) => self.block(key, PartialWrite::Own(bytes.into(), written)),
            WriteOutcome::Gone => self.remove(key, Close::Peer),
        }
        self.subscribers.check_state(key);
    }
}

fn action<S>(subscriber: &Subscriber<S>, silence: Silence, now: u32) -> Action {
    match (subscriber.is_ready(), subscriber.silent_for(now)) {
        (false, silent) if silent >= silence.stall => Action::TryLastWrite,
        (true, silent) if silent >= silence.heartbeat => Action::SendHeartbeat,
        (true | false, _) => Action::Nothing,
    }
}
