//! Drives connections: flushes, reads, parses, and writes the responses, within a budget of time and steps. Decides what a
//! [`Step`] of the exchange means for its connection.

use super::connection::{Connection, FlushOutcome, MAX_OUTPUT, Phase};
use super::exchange::Step;
use super::timeout::TimeoutKind;
use super::{Budget, ConnectionId, Connections, Effect, IterationContext, READS_PER_ITERATION};
use crate::api::DeferredReply;
use crate::api::subscribe::LookupReply;
use crate::net::{Reactor, ReadOutcome, SocketKey, Stream};

/// Microseconds of a loop iteration for driving queued connections. With one request beyond it, the most expensive of which is
/// a token to verify with two keys, and with the time for serving streams, an iteration stays within about 5 ms.
const DRIVE_MICROS: u64 = 2_000;
/// The cost of a slice of work on a publish, in steps of the budget.
const SLICE_STEPS: usize = 128;

/// What a connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It continues at once.
    Continue,
    /// It waits for readiness, for a reply, or in a queue.
    Wait,
    /// It is closed.
    Close,
    /// Its opening is written, and its socket becomes a subscriber's.
    BeginStream,
}

/// What is left to drive in one loop iteration: the connections that were queued when it began, each once.
#[derive(Debug)]
pub(crate) enum Round {
    /// This many connections in `ready`, and then those in `working`.
    Ready(usize),
    /// This many connections in `working`.
    Working(usize),
}

impl<S: Stream> Connections<S> {
    /// Begins to drive the queued connections, and queues publishes that wait for room in the hub to be tried again.
    pub(crate) fn begin_round(&mut self, cx: &IterationContext) -> Round {
        self.release_delayed(cx);
        while let Some(key) = self.parked.pop_front() {
            if let Some(connection) = self.slab.get_mut(key) {
                connection.queues.is_parked = false;
                self.enqueue(key);
            }
        }
        self.begin_budget(DRIVE_MICROS, cx);
        Round::Ready(self.ready.len())
    }

    /// Drives the next queued connection, for its share of the iteration at most. Returns whether there was one, and budget for
    /// it. Those that are left, and those that have more to do, are first in the next iteration.
    pub(crate) fn drive_next<K: Reactor<Stream = S>>(
        &mut self,
        round: &mut Round,
        cx: &IterationContext,
        reactor: &K,
    ) -> bool {
        let is_done = match round {
            Round::Ready(left) => *left == 0 && self.working.is_empty(),
            Round::Working(left) => *left == 0,
        };
        if is_done {
            return false;
        }
        self.budget.measure(cx.clock.elapsed_micros());
        let Some(key) = self.next_queued(round) else { return false };
        if let Some(connection) = self.slab.get_mut(key) {
            connection.queues.is_ready = false;
            self.drive(key, cx, reactor);
        }
        true
    }

    fn next_queued(&mut self, round: &mut Round) -> Option<usize> {
        let is_spent = self.budget.is_spent();
        match round {
            Round::Ready(left) if *left > 0 && !is_spent => {
                *left -= 1;
                return self.ready.pop_front();
            }
            Round::Ready(_) => {
                let queued = self.working.len();
                // At least one slice: small requests must not keep a large publish waiting forever.
                *round = Round::Working(if is_spent { queued.min(1) } else { queued });
            }
            Round::Working(_) if is_spent => return None,
            Round::Working(_) => {}
        }
        let Round::Working(left) = round else { return None };
        *left = left.checked_sub(1)?;
        self.working.pop_front()
    }

    /// Begins a budget of this many microseconds.
    pub(crate) fn begin_budget(&mut self, micros: u64, cx: &IterationContext) {
        self.budget = Budget::new(micros, cx.clock.elapsed_micros());
    }

    /// Returns whether the budget is spent.
    pub(crate) fn is_budget_spent(&mut self, cx: &IterationContext) -> bool {
        self.budget.measure(cx.clock.elapsed_micros());
        self.budget.is_spent()
    }

    /// Drives a connection as far as it gets without blocking, and as its share of the budget allows.
    pub(super) fn drive<K: Reactor<Stream = S>>(&mut self, key: usize, cx: &IterationContext, reactor: &K) {
        let waiting = self.queue_of(key).len();
        self.budget.begin_share(waiting);
        let mut out = std::mem::take(&mut self.output);
        match self.advance(key, &mut out, cx, reactor) {
            Progress::Continue | Progress::Wait => {
                self.update_deadline(key, cx);
                self.count_buffers(key, cx);
            }
            Progress::Close => self.close(key, cx),
            Progress::BeginStream => self.begin_stream(key),
        }
        out.clear();
        out.shrink_to(MAX_OUTPUT);
        self.output = out;
    }

    fn advance<K: Reactor<Stream = S>>(
        &mut self,
        key: usize,
        out: &mut Vec<u8>,
        cx: &IterationContext,
        reactor: &K,
    ) -> Progress {
        for _ in 0..READS_PER_ITERATION {
            match flush(&mut self.slab[key], key, out, cx, reactor) {
                Progress::Continue => {}
                progress => return progress,
            }
            let connection = &mut self.slab[key];
            if connection.phase == Phase::Ending && connection.begin_lingering().is_err() {
                return Progress::Close;
            }
            let progress = match connection.phase {
                Phase::Lingering(left) => self.linger(key, left),
                Phase::Exchanging | Phase::Opening | Phase::Ending => self.exchange(key, out, cx),
            };
            match progress {
                Progress::Continue => {
                    self.budget.measure(cx.clock.elapsed_micros());
                    if self.budget.is_share_spent() {
                        break;
                    }
                }
                Progress::Wait if !out.is_empty() => return flush(&mut self.slab[key], key, out, cx, reactor),
                progress => return progress,
            }
        }
        self.enqueue(key);
        flush(&mut self.slab[key], key, out, cx, reactor)
    }

    /// Reads once, and drops the bytes.
    fn linger(&mut self, key: usize, left: usize) -> Progress {
        let connection = &mut self.slab[key];
        if !connection.readability.is_readable {
            return Progress::Wait;
        }
        let outcome = connection.read(&mut self.read_buffer);
        self.budget.count(cost(outcome));
        match outcome {
            ReadOutcome::Nothing => Progress::Wait,
            ReadOutcome::Bytes(count) if count < left => {
                connection.phase = Phase::Lingering(left - count);
                Progress::Continue
            }
            ReadOutcome::Bytes(_) | ReadOutcome::End => Progress::Close,
        }
    }

    /// Reads once, and passes the input to the exchange.
    fn exchange(&mut self, key: usize, out: &mut Vec<u8>, cx: &IterationContext) -> Progress {
        let connection = &mut self.slab[key];
        match connection.exchange.awaited() {
            awaited if awaited.is_reply() => return Progress::Wait,
            _ if connection.queues.is_delayed => return Progress::Wait,
            awaited @ (TimeoutKind::Room | TimeoutKind::Work) => {
                self.budget.count(if awaited == TimeoutKind::Work { SLICE_STEPS } else { 0 });
                let step = connection.exchange.resume(cx.request_context(connection.role, connection.address), out);
                return self.take_step(key, step, cx);
            }
            _ => {}
        }
        let outcome = match connection.wants_read() {
            true => connection.read(&mut self.read_buffer),
            false => ReadOutcome::Nothing,
        };
        self.budget.count(cost(outcome));
        let fresh = match outcome {
            ReadOutcome::Bytes(count) => &self.read_buffer[..count],
            ReadOutcome::Nothing if connection.input.is_empty() => return Progress::Wait,
            ReadOutcome::Nothing => &[],
            ReadOutcome::End => return Progress::Close,
        };
        let mut input = std::mem::take(&mut connection.input);
        let bytes = if input.is_empty() {
            fresh
        } else {
            input.extend_from_slice(fresh);
            &input
        };
        let (taken, step) = parse(connection, bytes, out, &mut self.budget, cx);
        connection.input = match (taken, input.is_empty()) {
            (taken, _) if taken == bytes.len() => Vec::new(),
            (0, false) => input,
            _ => bytes[taken..].to_vec(),
        };
        let step = match step {
            Step::Delay if self.delayed.is_full() || self.is_draining => {
                connection.exchange.time_out(cx.request_context(connection.role, connection.address), out)
            }
            step => step,
        };
        self.take_step(key, step, cx)
    }

    /// Carries out a step of the exchange, or leaves it to the worker.
    pub(super) fn take_step(&mut self, key: usize, step: Step, cx: &IterationContext) -> Progress {
        let connection = &mut self.slab[key];
        let id = ConnectionId { key, serial: connection.serial };
        match step {
            Step::Read if connection.readability.is_readable => return Progress::Continue,
            Step::Read => return Progress::Wait,
            Step::Responded if connection.readability.is_readable || !connection.input.is_empty() => {}
            Step::Responded => return Progress::Wait,
            Step::Wait => {
                if !std::mem::replace(&mut connection.queues.is_parked, true) {
                    self.parked.push_back(key);
                }
                return Progress::Wait;
            }
            Step::Work => {}
            Step::Delay => {
                self.delay(key, cx);
                return Progress::Wait;
            }
            Step::Defer(request) => {
                self.effects.push_back(Effect::Defer(id, request));
                return Progress::Wait;
            }
            Step::LookUp(lookup) => {
                self.effects.push_back(Effect::LookUp(id, lookup));
                return Progress::Wait;
            }
            Step::Stream(stream) => {
                connection.phase = Phase::Opening;
                self.effects.push_back(Effect::PrepareStream(key, stream));
            }
            Step::Close => {
                debug_assert_ne!(connection.phase, Phase::Opening, "a stream's opening is not a last response");
                connection.phase = Phase::Ending;
                connection.input = Vec::new();
            }
        }
        Progress::Continue
    }

    /// Passes the reply to a deferred request on to the exchange, which responds to the client.
    pub(crate) fn deliver(&mut self, id: ConnectionId, reply: DeferredReply, cx: &IterationContext) {
        let Some(connection) = self.get(id) else { return };
        let context = cx.request_context(connection.role, connection.address);
        let step = connection.exchange.deliver(reply.result, context, &mut connection.output);
        connection.memory.page = reply.reservation;
        self.take_step(id.key, step, cx);
        self.enqueue(id.key);
    }

    /// Opens a stream with the reply to its lookup.
    pub(crate) fn open_after_lookup(&mut self, id: ConnectionId, reply: LookupReply, cx: &IterationContext) {
        let Some(connection) = self.get(id) else { return };
        let context = cx.request_context(connection.role, connection.address);
        let step = connection.exchange.open_after_lookup(reply, context, &mut connection.output);
        self.take_step(id.key, step, cx);
        self.enqueue(id.key);
    }
}

/// Feeds bytes to the exchange, one request after the other, until it needs something or the share of the budget is spent.
/// Returns how many bytes it took, and its last step.
fn parse<S: Stream>(
    connection: &mut Connection<S>,
    bytes: &[u8],
    out: &mut Vec<u8>,
    budget: &mut Budget,
    cx: &IterationContext,
) -> (usize, Step) {
    let mut taken = 0;
    loop {
        let context = cx.request_context(connection.role, connection.address);
        let (count, step) = connection.exchange.advance(&bytes[taken..], context, out);
        taken += count;
        budget.count(1);
        let has_failed = cx.take_failed_verification();
        let has_more = matches!(step, Step::Responded) && taken < bytes.len() && out.len() < MAX_OUTPUT;
        // Otherwise the time of the last request is measured with what follows it.
        if has_failed || has_more {
            let micros = budget.measure(cx.clock.elapsed_micros());
            if has_failed {
                cx.charge_verification(connection.client_address(), micros);
            }
        }
        if !has_more || budget.is_share_spent() {
            return (taken, step);
        }
    }
}

/// Writes a connection's pending output; if its socket is full, registers it for writing.
fn flush<K: Reactor>(
    connection: &mut Connection<K::Stream>,
    key: usize,
    out: &mut Vec<u8>,
    cx: &IterationContext,
    reactor: &K,
) -> Progress {
    let before = connection.output.len() + out.len();
    let outcome = if before == 0 {
        connection.memory.page = None;
        FlushOutcome::All
    } else {
        let outcome = connection.flush(out);
        out.clear();
        cx.metrics().bytes_sent.add((before - connection.output.len()) as u64);
        outcome
    };
    match outcome {
        FlushOutcome::All if connection.phase == Phase::Opening => Progress::BeginStream,
        FlushOutcome::All => Progress::Continue,
        FlushOutcome::Gone => Progress::Close,
        FlushOutcome::Blocked => {
            match reactor.register_both(&mut connection.socket, SocketKey::Connection(key).token()) {
                Ok(()) => Progress::Wait,
                Err(_) => Progress::Close,
            }
        }
    }
}

/// Returns the cost of a read, in steps of the budget.
fn cost(outcome: ReadOutcome) -> usize {
    match outcome {
        ReadOutcome::Bytes(count) => 1 + count / (4 << 10),
        ReadOutcome::Nothing | ReadOutcome::End => 1,
    }
}
