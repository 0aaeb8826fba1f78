//! Driving connections: reading, letting the exchange understand, writing what it answers, and the
//! ways in which a connection ends or becomes a subscriber.

use std::sync::Arc;

use super::connection::{Connection, Flushed, Got, MAX_LINGER_BYTES, MAX_OUTPUT, Patience, Phase};
use super::exchange::Step;
use super::streams::Close;
use super::{Kernel, Key, Mail, Parts, Peer, READS_PER_TURN, TALK_PER_TURN, Worker};
use crate::api::subscribe::Entry;
use crate::api::{Answer, Errand};

/// What a connection is after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Closes,
    BecomesSubscriber,
}

impl<K: Kernel> Worker<K> {
    /// Goes on with a connection as far as it can without blocking.
    pub(super) fn drive(&mut self, key: usize, may_have_ended: bool) {
        let mut out = std::mem::take(&mut self.out);
        match self.talk(key, may_have_ended, &mut out) {
            Fate::Stays => {
                self.set_deadline(key);
                self.count_buffers(key);
            }
            Fate::Closes => self.close(key),
            Fate::BecomesSubscriber => self.become_subscriber(key),
        }
        out.clear();
        out.shrink_to(MAX_OUTPUT);
        self.out = out;
    }

    fn talk(&mut self, key: usize, may_have_ended: bool, out: &mut Vec<u8>) -> Fate {
        for _ in 0..READS_PER_TURN {
            let connection = &mut self.connections[key];
            match flush(connection, &self.kernel, key, out, &self.parts) {
                Flushed::All => {}
                Flushed::Blocked => return Fate::Stays,
                Flushed::Gone => return Fate::Closes,
            }
            match connection.phase {
                Phase::Talking => {}
                Phase::Opening(_) => return Fate::BecomesSubscriber,
                Phase::Ending if connection.socket.shut().is_err() => return Fate::Closes,
                Phase::Ending => connection.phase = Phase::Lingering(MAX_LINGER_BYTES),
                Phase::Lingering(_) => {}
            }
            let may_go_on = match connection.phase {
                Phase::Lingering(left) => self.linger(key, left),
                _ => self.listen(key, may_have_ended, out),
            };
            match may_go_on {
                GoesOn::AtOnce if self.talk >= TALK_PER_TURN => break,
                GoesOn::AtOnce => {}
                GoesOn::WhenReady if out.is_empty() => return Fate::Stays,
                GoesOn::WhenReady => return self.finish_talk(key, out),
                GoesOn::Never => return Fate::Closes,
            }
        }
        self.postpone(key);
        self.finish_talk(key, out)
    }

    /// It is gone on with after those who wait already.
    pub(super) fn postpone(&mut self, key: usize) {
        if !std::mem::replace(&mut self.connections[key].is_queued, true) {
            self.ready.push_back(key);
        }
    }

    /// Writes what the last piece of input was answered with.
    fn finish_talk(&mut self, key: usize, out: &mut Vec<u8>) -> Fate {
        match flush(&mut self.connections[key], &self.kernel, key, out, &self.parts) {
            Flushed::Gone => Fate::Closes,
            Flushed::Blocked => Fate::Stays,
            Flushed::All if matches!(self.connections[key].phase, Phase::Opening(_)) => Fate::BecomesSubscriber,
            Flushed::All => Fate::Stays,
        }
    }

    /// Reads once, and drops it.
    fn linger(&mut self, key: usize, left: usize) -> GoesOn {
        let connection = &mut self.connections[key];
        if !connection.is_readable {
            return GoesOn::WhenReady;
        }
        let got = connection.read(&mut self.scratch, true);
        self.talk += cost(got);
        match got {
            Got::Nothing => GoesOn::WhenReady,
            Got::Bytes(count) if count < left => {
                connection.phase = Phase::Lingering(left - count);
                GoesOn::AtOnce
            }
            Got::Bytes(_) | Got::End => GoesOn::Never,
        }
    }

    /// Reads once, and lets the exchange understand what is there.
    fn listen(&mut self, key: usize, may_have_ended: bool, out: &mut Vec<u8>) -> GoesOn {
        let Self { connections, parts, scratch, talk, .. } = self;
        let connection = &mut connections[key];
        if connection.exchange.patience() == Patience::Store {
            return GoesOn::WhenReady;
        }
        if connection.exchange.patience() == Patience::Room {
            let step = connection.exchange.retry(parts.context(connection.scope, connection.address), out);
            return self.take_step(key, step);
        }
        let got = if connection.wants_more() { connection.read(scratch, may_have_ended) } else { Got::Nothing };
        *talk += cost(got);
        let fresh = match got {
            Got::Bytes(count) => &scratch[..count],
            Got::Nothing if connection.input.is_empty() => return GoesOn::WhenReady,
            Got::Nothing => &[],
            Got::End => return GoesOn::Never,
        };
        let mut input = std::mem::take(&mut connection.input);
        let bytes = if input.is_empty() {
            fresh
        } else {
            input.extend_from_slice(fresh);
            &input
        };
        let mut taken = 0;
        let step = loop {
            let (count, step) =
                connection.exchange.advance(&bytes[taken..], parts.context(connection.scope, connection.address), out);
            taken += count;
            *talk += 1;
            match step {
                Step::Answered if taken < bytes.len() && out.len() < MAX_OUTPUT => {}
                step => break step,
            }
        };
        connection.input = match (taken, input.is_empty()) {
            (taken, _) if taken == bytes.len() => Vec::new(),
            (0, false) => input,
            _ => bytes[taken..].to_vec(),
        };
        self.take_step(key, step)
    }

    pub(super) fn take_step(&mut self, key: usize, step: Step) -> GoesOn {
        let connection = &mut self.connections[key];
        match step {
            Step::Read if connection.is_readable => return GoesOn::AtOnce,
            Step::Read => return GoesOn::WhenReady,
            Step::Answered if connection.is_readable || !connection.input.is_empty() => {}
            Step::Answered => return GoesOn::WhenReady,
            Step::Wait => {
                if !std::mem::replace(&mut connection.is_parked, true) {
                    self.parked.push_back(key);
                }
                return GoesOn::WhenReady;
            }
            Step::Errand(errand) => {
                self.ask_store(key, errand);
                return GoesOn::WhenReady;
            }
            Step::Stream(Entry { joined, framing, expires, place }) => {
                self.parts.service.metrics.worker(self.parts.id).opened.add(1);
                connection.phase = Phase::Opening(self.streams.admit(joined, framing, expires).holding(place));
            }
            Step::Close => connection.phase = Phase::Ending,
        }
        GoesOn::AtOnce
    }

    /// The answer comes by mail, if the connection is still there then.
    fn ask_store(&self, key: usize, errand: Errand) {
        let worker = self.parts.id;
        let (serial, letters) = (self.connections[key].serial, self.letters[worker].clone());
        let service = Arc::clone(&self.parts.service);
        errand.run(&self.parts.service, move |answer| {
            // A worker that has ended has nobody left to answer.
            let _ = letters.send(Mail::Answer { key, serial, answer });
            service.hub.ring(worker);
        });
    }

    /// The store has answered.
    pub(super) fn deliver(&mut self, key: usize, serial: u64, answer: Answer) {
        let Self { connections, parts, .. } = self;
        let Some(connection) = connections.get_mut(key).filter(|connection| connection.serial == serial) else {
            return;
        };
        let step = connection.exchange.deliver(
            &answer.response,
            parts.context(connection.scope, connection.address),
            &mut connection.output,
        );
        connection.held = answer.held;
        self.take_step(key, step);
        self.drive(key, true);
    }

    fn become_subscriber(&mut self, key: usize) {
        let Connection { mut socket, scope, phase, counted, .. } = self.connections.remove(key);
        self.buffers.forget(counted);
        let Phase::Opening(ticket) = phase else {
            return self.leave(socket, scope);
        };
        let subscriber = Key::Subscriber(self.streams.next_key());
        match self.kernel.register_both(&mut socket, subscriber.token()) {
            Ok(()) => self.streams.seat(ticket, socket, self.parts.stamp()),
            Err(_) => {
                self.streams.abandon(ticket, Close::Failed);
                self.leave(socket, scope);
            }
        }
    }

    pub(super) fn close(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        self.buffers.forget(connection.counted);
        if let Phase::Opening(ticket) = connection.phase {
            let is_late = connection.deadline <= self.parts.now.millis;
            self.streams.abandon(ticket, if is_late { Close::Stalled } else { Close::Peer });
        }
        self.leave(connection.socket, connection.scope);
    }
}

/// What a read costs of [`TALK_PER_TURN`].
fn cost(got: Got) -> usize {
    match got {
        Got::Bytes(count) => 1 + count / (4 << 10),
        Got::Nothing | Got::End => 1,
    }
}

/// Whether a connection can go on.
pub(super) enum GoesOn {
    AtOnce,
    WhenReady,
    Never,
}

fn flush<K: Kernel>(
    connection: &mut Connection<K::Peer>,
    kernel: &K,
    key: usize,
    out: &mut Vec<u8>,
    parts: &Parts,
) -> Flushed {
    let before = connection.output.len() + out.len();
    if before == 0 {
        connection.held = None;
        return Flushed::All;
    }
    let flushed = connection.flush(out);
    out.clear();
    parts.service.metrics.worker(parts.id).bytes_sent.add((before - connection.output.len()) as u64);
    match flushed {
        Flushed::Blocked if kernel.register_both(&mut connection.socket, Key::Connection(key).token()).is_err() => {
            Flushed::Gone
        }
        flushed => flushed,
    }
}
