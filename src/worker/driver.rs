//! Driving connections: reading, letting the exchange understand, writing what it answers, and the
//! ways in which a connection ends or becomes a subscriber.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{IterationContext, Key, Message, READS_PER_ITERATION, Reactor, Worker};
use crate::api::subscribe::OpenStream;
use crate::api::{StoreReply, StoreRequest};
use crate::conn::connection::{
    Connection, FlushOutcome, MAX_LINGER_BYTES, MAX_OUTPUT, Phase, ReadOutcome, TimeoutKind,
};
use crate::conn::exchange::Step;
use crate::net::Stream;
use crate::store::StoreError;
use crate::stream::Close;

/// What a connection is after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Closes,
    BecomesSubscriber,
}

impl<K: Reactor> Worker<K> {
    /// Goes on with a connection as far as it can without blocking and its share of the iteration allows.
    pub(crate) fn drive(&mut self, key: usize) {
        let waiting = self.queue_of(key).len();
        self.budget.begin_share(waiting);
        let mut out = std::mem::take(&mut self.out);
        match self.talk(key, &mut out) {
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
        self.budget.measure(self.clock.elapsed_micros());
    }

    fn talk(&mut self, key: usize, out: &mut Vec<u8>) -> Fate {
        for _ in 0..READS_PER_ITERATION {
            let connection = &mut self.connections[key];
            match flush(connection, &self.kernel, key, out, &self.parts) {
                FlushOutcome::All => {}
                FlushOutcome::Blocked => return Fate::Stays,
                FlushOutcome::Gone => return Fate::Closes,
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
                _ => self.listen(key, out),
            };
            match may_go_on {
                GoesOn::AtOnce if self.budget.is_share_spent() => break,
                GoesOn::AtOnce => {}
                GoesOn::WhenReady if out.is_empty() => return Fate::Stays,
                GoesOn::WhenReady => return self.finish_talk(key, out),
                GoesOn::Never => return Fate::Closes,
            }
        }
        self.enqueue(key);
        self.finish_talk(key, out)
    }

    /// Queues a connection to be driven after those that wait already; one that waits itself keeps its place.
    pub(crate) fn enqueue(&mut self, key: usize) {
        if !std::mem::replace(&mut self.connections[key].is_queued, true) {
            self.queue_of(key).push_back(key);
        }
    }

    fn queue_of(&mut self, key: usize) -> &mut VecDeque<usize> {
        let is_working = self.connections[key].exchange.patience() == TimeoutKind::Work;
        if is_working { &mut self.working } else { &mut self.ready }
    }

    /// Writes what the last piece of input was answered with.
    fn finish_talk(&mut self, key: usize, out: &mut Vec<u8>) -> Fate {
        match flush(&mut self.connections[key], &self.kernel, key, out, &self.parts) {
            FlushOutcome::Gone => Fate::Closes,
            FlushOutcome::Blocked => Fate::Stays,
            FlushOutcome::All if matches!(self.connections[key].phase, Phase::Opening(_)) => Fate::BecomesSubscriber,
            FlushOutcome::All => Fate::Stays,
        }
    }

    /// Reads once, and drops it.
    fn linger(&mut self, key: usize, left: usize) -> GoesOn {
        let connection = &mut self.connections[key];
        if !connection.is_readable {
            return GoesOn::WhenReady;
        }
        let got = connection.read(&mut self.scratch);
        self.budget.count(cost(got));
        self.budget.measure(self.clock.elapsed_micros());
        match got {
            ReadOutcome::Nothing => GoesOn::WhenReady,
            ReadOutcome::Bytes(count) if count < left => {
                connection.phase = Phase::Lingering(left - count);
                GoesOn::AtOnce
            }
            ReadOutcome::Bytes(_) | ReadOutcome::End => GoesOn::Never,
        }
    }

    /// Reads once, and lets the exchange understand what is there.
    fn listen(&mut self, key: usize, out: &mut Vec<u8>) -> GoesOn {
        let Self { connections, parts, scratch, budget, clock, delayed, drain_until, .. } = self;
        let connection = &mut connections[key];
        if matches!(connection.exchange.patience(), TimeoutKind::Store | TimeoutKind::Lookup) || connection.is_delayed {
            return GoesOn::WhenReady;
        }
        if let patience @ (TimeoutKind::Room | TimeoutKind::Work) = connection.exchange.patience() {
            budget.count(if patience == TimeoutKind::Work { SLICE_STEPS } else { 0 });
            let step = connection.exchange.resume(parts.context(connection.role, connection.address), out);
            return self.take_step(key, step);
        }
        let got = if connection.wants_more() { connection.read(scratch) } else { ReadOutcome::Nothing };
        budget.count(cost(got));
        let fresh = match got {
            ReadOutcome::Bytes(count) => &scratch[..count],
            ReadOutcome::Nothing if connection.input.is_empty() => return GoesOn::WhenReady,
            ReadOutcome::Nothing => &[],
            ReadOutcome::End => return GoesOn::Never,
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
                connection.exchange.advance(&bytes[taken..], parts.context(connection.role, connection.address), out);
            taken += count;
            budget.count(1);
            let micros = budget.measure(clock.elapsed_micros());
            parts.charge_failed_verification(connection.address, micros);
            match step {
                Step::Answered if taken < bytes.len() && out.len() < MAX_OUTPUT && !budget.is_share_spent() => {}
                step => break step,
            }
        };
        let step = match step {
            Step::Delay if delayed.is_full() || drain_until.is_some() => {
                connection.exchange.time_out(parts.context(connection.role, connection.address), out)
            }
            step => step,
        };
        connection.input = match (taken, input.is_empty()) {
            (taken, _) if taken == bytes.len() => Vec::new(),
            (0, false) => input,
            _ => bytes[taken..].to_vec(),
        };
        self.take_step(key, step)
    }

    pub(crate) fn take_step(&mut self, key: usize, step: Step) -> GoesOn {
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
            Step::Work => {}
            Step::Delay => {
                self.delay(key);
                return GoesOn::WhenReady;
            }
            Step::StoreRequest(errand) => {
                self.ask_store(key, errand);
                return GoesOn::WhenReady;
            }
            Step::LookUp(id) => {
                self.look_up(key, id);
                return GoesOn::WhenReady;
            }
            Step::Stream(OpenStream { joined, framing, expires, place }) => {
                self.parts.service.metrics.worker(self.parts.id).opened.add(1);
                connection.phase = Phase::Opening(self.streams.admit(joined, framing, expires).with_permit(place));
            }
            Step::Close => {
                debug_assert!(
                    !matches!(connection.phase, Phase::Opening(_)),
                    "a stream that opens is not an answer's end"
                );
                connection.phase = Phase::Ending;
                connection.input = Vec::new();
            }
        }
        GoesOn::AtOnce
    }

    /// The answer comes by mail, if the connection is still there then.
    fn ask_store(&self, key: usize, errand: StoreRequest) {
        let send = self.mailer(key, move |serial, answer| Message::StoreReply { key, serial, answer });
        errand.run(&self.parts.service, send);
    }

    /// Asks the store whether a stream's position exists; the answer comes by mail, as any other.
    fn look_up(&self, key: usize, id: u64) {
        let send = self.mailer(key, move |serial, found: Result<bool, StoreError>| {
            // What can't be told is in doubt.
            Message::Found { key, serial, exists: found.unwrap_or(false) }
        });
        self.parts.service.store.contains(id, send);
    }

    /// Returns what sends the store's answer for a connection to this worker; `wrap` is given the connection's serial.
    fn mailer<T>(
        &self,
        key: usize,
        wrap: impl FnOnce(u64, T) -> Message<K::Stream> + Send + 'static,
    ) -> impl FnOnce(T) + Send + 'static {
        let worker = self.parts.id;
        let (serial, letters) = (self.connections[key].serial, self.letters[worker].clone());
        let service = Arc::clone(&self.parts.service);
        move |answer| {
            // A worker that has ended has nobody left to answer.
            let _ = letters.send(wrap(serial, answer));
            service.hub.wake(worker);
        }
    }

    /// The store has answered.
    pub(crate) fn deliver(&mut self, key: usize, serial: u64, answer: StoreReply) {
        let Self { connections, parts, .. } = self;
        let Some(connection) = connections.get_mut(key).filter(|connection| connection.serial == serial) else {
            return;
        };
        let step = connection.exchange.deliver(
            &answer.response,
            parts.context(connection.role, connection.address),
            &mut connection.output,
        );
        connection.held = answer.held;
        self.take_step(key, step);
        self.enqueue(key);
    }

    /// Opens a stream now that the store has answered.
    pub(crate) fn open_after_lookup(&mut self, key: usize, serial: u64, exists: bool) {
        let Self { connections, parts, .. } = self;
        let Some(connection) = connections.get_mut(key).filter(|connection| connection.serial == serial) else {
            return;
        };
        let context = parts.context(connection.role, connection.address);
        let step = connection.exchange.open_after_lookup(exists, context, &mut connection.output);
        self.take_step(key, step);
        self.enqueue(key);
    }

    fn become_subscriber(&mut self, key: usize) {
        let Connection { mut socket, role, phase, counted, .. } = self.connections.remove(key);
        self.buffers.forget(counted);
        let Phase::Opening(ticket) = phase else {
            return self.leave(socket, role);
        };
        let subscriber = Key::Subscriber(self.streams.next_key());
        match self.kernel.register_both(&mut socket, subscriber.token()) {
            Ok(()) => self.streams.start(ticket, socket, self.parts.stamp()),
            Err(_) => {
                self.streams.abandon(ticket, Close::Failed);
                self.leave(socket, role);
            }
        }
    }

    pub(crate) fn close(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        self.buffers.forget(connection.counted);
        if let Phase::Opening(ticket) = connection.phase {
            let is_late = connection.deadline <= self.parts.now.millis;
            self.streams.abandon(ticket, if is_late { Close::Stalled } else { Close::Peer });
        }
        self.leave(connection.socket, connection.role);
    }
}

/// What a slice of work on a publish costs, in steps of the budget.
const SLICE_STEPS: usize = 128;

/// What a read costs, in steps of the budget.
fn cost(got: ReadOutcome) -> usize {
    match got {
        ReadOutcome::Bytes(count) => 1 + count / (4 << 10),
        ReadOutcome::Nothing | ReadOutcome::End => 1,
    }
}

/// Whether a connection can go on.
pub(crate) enum GoesOn {
    AtOnce,
    WhenReady,
    Never,
}

fn flush<K: Reactor>(
    connection: &mut Connection<K::Stream>,
    kernel: &K,
    key: usize,
    out: &mut Vec<u8>,
    parts: &IterationContext,
) -> FlushOutcome {
    let before = connection.output.len() + out.len();
    if before == 0 {
        connection.held = None;
        return FlushOutcome::All;
    }
    let flushed = connection.flush(out);
    out.clear();
    parts.service.metrics.worker(parts.id).bytes_sent.add((before - connection.output.len()) as u64);
    match flushed {
        FlushOutcome::Blocked
            if kernel.register_both(&mut connection.socket, Key::Connection(key).token()).is_err() =>
        {
            FlushOutcome::Gone
        }
        flushed => flushed,
    }
}
