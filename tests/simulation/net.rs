//! The simulated broker's kernel: pipes between clients and broker, edge-triggered readiness, a backlog, and their faults.
//! Independent of the bytes' meaning.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker::internals::hub::WakeFn;
use esker::internals::net::{Listen, Reactor, Readiness, Socket, Stream, Token};
use esker::internals::sim::ManualClock;
use esker::internals::stream::BUDGET_PER_ITERATION;

/// The maximum number of reads, and of writes, per socket and loop iteration: invariant 5.
const CALLS_PER_TURN: usize = 12;
/// The maximum number of accepted connections per iteration.
const ACCEPTS_PER_TURN: usize = 128;
/// The maximum number of writes per iteration: serving, the sweep and the drain have a budget each, and some requests get responses.
const WRITES_PER_TURN: usize = 3 * BUDGET_PER_ITERATION + ACCEPTS_PER_TURN;

/// A connection, seen from both ends.
#[derive(Debug, Default)]
pub struct Pipe {
    /// The last byte of the client's address.
    host: u8,
    /// Bytes that the client has sent and that have not arrived.
    in_flight: VecDeque<u8>,
    fin_in_flight: bool,
    /// Bytes that the broker can read.
    readable: VecDeque<u8>,
    has_fin: bool,
    /// Bytes that the client has received.
    received: Vec<u8>,
    /// The number of bytes that the broker may still write; `None`: no limit.
    room: Option<usize>,
    /// A write was short, so a writable event will follow.
    awaits_room: bool,
    is_reset: bool,
    /// The broker has shut down its writing side.
    is_shut: bool,
    is_closed: bool,
    registration: Option<Registration>,
    is_listed: bool,
    /// The iteration that `reads` and `writes` count for.
    iteration: u64,
    reads: usize,
    writes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Registration {
    kernel: usize,
    token: Token,
    wants_room: bool,
}

impl Pipe {
    fn begin(&mut self, iteration: u64) {
        if std::mem::replace(&mut self.iteration, iteration) != iteration {
            (self.reads, self.writes) = (0, 0);
        }
    }

    fn seen(&self, registration: Registration) -> Option<Readiness> {
        let has_ended = self.has_fin || self.is_reset;
        let is_readable = has_ended || !self.readable.is_empty();
        let is_writable = registration.wants_room && (self.is_reset || self.room != Some(0));
        (is_readable || is_writable).then_some(Readiness {
            token: registration.token,
            is_readable,
            is_writable,
            has_ended,
        })
    }
}

/// The simulated network.
#[derive(Debug, Default)]
pub struct Net {
    pipes: Vec<Pipe>,
    /// Per kernel, the pipes whose readiness the next wait reports.
    listed: Vec<VecDeque<usize>>,
    backlog: VecDeque<usize>,
    listener: Option<Token>,
    is_listener_listed: bool,
    /// The error of every accept while it is set.
    pub accept_fault: Option<i32>,
    /// The duration of each read and write in microseconds, if they take time.
    pub slow_calls: Option<(Arc<ManualClock>, u64)>,
    numbers: BTreeSet<RawFd>,
    /// Counts the iterations of all workers.
    iteration: u64,
    /// In this iteration.
    writes: usize,
    accepts: usize,
    /// A hash of all bytes and calls, to compare two runs.
    pub transcript: Transcript,
}

/// A hash of everything that happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transcript(u64);

impl Transcript {
    /// Adds an event to the hash.
    pub fn note(&mut self, what: u64, bytes: &[u8]) {
        let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        let word = |bytes: &[u8]| {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(eight)
        };
        let begin = mix(mix(self.0, what), bytes.len() as u64);
        self.0 = bytes.chunks(8).fold(begin, |sum, bytes| mix(sum, word(bytes)));
    }
}

/// A shared handle to the network.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Net>>);

impl Shared {
    /// Locks the network.
    pub fn get(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns kernels and a listener for a broker that starts. Resets all connections of the previous one.
    pub fn restart(&self, workers: usize) -> (Vec<SimKernel>, SimListener) {
        let mut net = self.get();
        net.backlog.clear();
        (net.listener, net.is_listener_listed) = (None, false);
        net.listed = vec![VecDeque::new(); workers];
        net.numbers.clear();
        for pipe in &mut net.pipes {
            (pipe.is_reset, pipe.registration, pipe.is_listed) = (true, None, false);
        }
        let kernel = |id| SimKernel { id, net: self.clone(), is_woken: Arc::default() };
        ((0..workers).map(kernel).collect(), SimListener { net: self.clone() })
    }
}

// The clients' side.
impl Net {
    /// Connects a client. `room` is the number of bytes that the broker may write for now; `None`: no limit.
    pub fn connect(&mut self, room: Option<usize>) -> usize {
        self.connect_from((self.pipes.len() % 5) as u8, room)
    }

    /// Connects a client from the address 10.0.0.`host`.
    pub fn connect_from(&mut self, host: u8, room: Option<usize>) -> usize {
        self.pipes.push(Pipe { host, room, ..Pipe::default() });
        let pipe = self.pipes.len() - 1;
        self.backlog.push_back(pipe);
        self.is_listener_listed = self.listener.is_some();
        pipe
    }

    /// The client sends bytes.
    pub fn send(&mut self, pipe: usize, bytes: &[u8]) {
        self.pipes[pipe].in_flight.extend(bytes);
    }

    /// Some of the bytes sent arrive at the broker.
    pub fn deliver(&mut self, pipe: usize, bytes: usize) {
        let here = &mut self.pipes[pipe];
        let count = bytes.min(here.in_flight.len());
        if count == here.in_flight.len() && here.readable.is_empty() {
            std::mem::swap(&mut here.readable, &mut here.in_flight);
        } else {
            here.readable.extend(here.in_flight.drain(..count));
        }
        let has_fin = here.fin_in_flight && here.in_flight.is_empty();
        if count > 0 || (has_fin && !here.has_fin) {
            here.has_fin |= has_fin;
            self.list(pipe);
        }
    }

    /// The client shuts down its writing side, and continues to read.
    pub fn half_close(&mut self, pipe: usize) {
        self.pipes[pipe].fin_in_flight = true;
        self.deliver(pipe, 0);
    }

    /// The connection breaks.
    pub fn reset(&mut self, pipe: usize) {
        let here = &mut self.pipes[pipe];
        here.is_reset = true;
        here.readable.clear();
        here.in_flight.clear();
        self.list(pipe);
    }

    /// The client reads, so that the broker may write this many bytes more; `None`: from now on it reads everything.
    pub fn give_room(&mut self, pipe: usize, bytes: Option<usize>) {
        let here = &mut self.pipes[pipe];
        here.room = here.room.and_then(|room| bytes.map(|bytes| room + bytes));
        if here.room != Some(0) && std::mem::take(&mut here.awaits_room) {
            self.list(pipe);
        }
    }

    /// Takes the bytes received since the last call.
    pub fn take_received(&mut self, pipe: usize) -> Vec<u8> {
        std::mem::take(&mut self.pipes[pipe].received)
    }

    /// Returns whether the client can receive nothing more.
    pub fn is_over(&self, pipe: usize) -> bool {
        let here = &self.pipes[pipe];
        here.is_reset || here.is_shut || here.is_closed
    }

    /// Returns whether the broker has closed its end.
    pub fn was_given_back(&self, pipe: usize) -> bool {
        self.pipes[pipe].is_closed
    }

    /// Returns the number of connections that wait to be accepted.
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Returns the number of the broker's open sockets.
    pub fn open(&self) -> usize {
        self.numbers.len()
    }

    fn list(&mut self, pipe: usize) {
        let here = &mut self.pipes[pipe];
        if let Some(registration) = here.registration
            && !std::mem::replace(&mut here.is_listed, true)
        {
            self.listed[registration.kernel].push_back(pipe);
        }
    }

    fn take_time(&self) {
        if let Some((dial, micros)) = &self.slow_calls {
            dial.advance(*micros);
        }
    }

    fn is_ready(&self, kernel: usize) -> bool {
        !self.listed[kernel].is_empty() || (kernel == 0 && self.is_listener_listed)
    }
}

/// The broker's side of one worker.
#[derive(Debug)]
pub struct SimKernel {
    id: usize,
    net: Shared,
    is_woken: Arc<AtomicBool>,
}

/// Reports whether a worker's wait would return.
#[derive(Clone, Debug)]
pub struct Watch {
    id: usize,
    net: Shared,
    is_woken: Arc<AtomicBool>,
}

impl Watch {
    /// Returns whether a socket is ready or the worker was woken.
    pub fn would_wake(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed) || self.net.get().is_ready(self.id)
    }
}

impl SimKernel {
    /// Returns a handle that remains when the worker owns the kernel.
    pub fn watch(&self) -> Watch {
        Watch { id: self.id, net: self.net.clone(), is_woken: Arc::clone(&self.is_woken) }
    }

    fn note(&self, socket: &End, wants_room: bool, token: Token) {
        let mut net = self.net.get();
        let registration = Registration { kernel: self.id, token, wants_room };
        let pipe = &mut net.pipes[socket.pipe];
        pipe.registration = Some(registration);
        // As epoll_ctl does, report what is ready already.
        if pipe.seen(registration).is_some() {
            net.list(socket.pipe);
        }
    }
}

impl Reactor for SimKernel {
    type Stream = End;
    type Listener = SimListener;

    fn waker(&self) -> WakeFn {
        let is_woken = Arc::clone(&self.is_woken);
        Box::new(move || is_woken.store(true, Ordering::Relaxed))
    }

    fn wait(&mut self, _: Option<Duration>, seen: &mut Vec<Readiness>) -> io::Result<()> {
        self.is_woken.store(false, Ordering::Relaxed);
        let mut net = self.net.get();
        net.iteration += 1;
        (net.writes, net.accepts) = (0, 0);
        if self.id == 0 && std::mem::take(&mut net.is_listener_listed) {
            seen.extend(net.listener.map(|token| Readiness {
                token,
                is_readable: true,
                is_writable: false,
                has_ended: false,
            }));
        }
        while let Some(index) = net.listed[self.id].pop_front() {
            let pipe = &mut net.pipes[index];
            pipe.is_listed = false;
            // A pipe closed in the meantime is no longer registered.
            seen.extend(pipe.registration.and_then(|registration| pipe.seen(registration)));
        }
        net.transcript.note(self.id as u64, &[seen.len() as u8]);
        Ok(())
    }

    fn listen(&self, _: &mut SimListener, token: Token) -> io::Result<()> {
        let mut net = self.net.get();
        net.listener = Some(token);
        net.is_listener_listed = !net.backlog.is_empty();
        Ok(())
    }

    fn register(&self, socket: &mut End, token: Token) -> io::Result<()> {
        self.note(socket, false, token);
        Ok(())
    }

    fn register_both(&self, socket: &mut End, token: Token) -> io::Result<()> {
        self.note(socket, true, token);
        Ok(())
    }
}

/// The broker's end of a pipe.
#[derive(Debug)]
pub struct End {
    pipe: usize,
    number: RawFd,
    net: Shared,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut net = self.net.get();
        // A killed broker must not close what its successor has opened.
        if net.pipes[self.pipe].registration.take().is_some() || net.numbers.contains(&self.number) {
            net.numbers.remove(&self.number);
        }
        net.pipes[self.pipe].is_closed = true;
    }
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut guard = self.net.get();
        let net = &mut *guard;
        net.take_time();
        let pipe = &mut net.pipes[self.pipe];
        pipe.begin(net.iteration);
        pipe.reads += 1;
        assert!(pipe.reads <= CALLS_PER_TURN, "one iteration reads from a socket too often");
        if pipe.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.readable.is_empty() && !pipe.has_fin {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (mut count, wanted) = (0, buffer.len().min(pipe.readable.len()));
        while count < wanted {
            count += pipe.readable.read(&mut buffer[count..])?;
        }
        Ok(count)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut guard = self.net.get();
        let net = &mut *guard;
        net.take_time();
        let pipe = &mut net.pipes[self.pipe];
        pipe.begin(net.iteration);
        pipe.writes += 1;
        assert!(pipe.writes <= CALLS_PER_TURN, "one iteration writes to a socket too often");
        net.writes += 1;
        assert!(net.writes <= WRITES_PER_TURN, "one iteration writes too often");
        assert!(!pipe.is_shut, "a write after the shutdown of the writing side");
        if pipe.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let (mut written, wanted) = (0, slices.iter().map(|slice| slice.len()).sum::<usize>());
        for slice in slices {
            let count = slice.len().min(pipe.room.unwrap_or(usize::MAX));
            pipe.received.extend_from_slice(&slice[..count]);
            net.transcript.note(self.pipe as u64, &slice[..count]);
            pipe.room = pipe.room.map(|room| room - count);
            written += count;
        }
        pipe.awaits_room |= written < wanted;
        if written == 0 && wanted > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for End {
    fn set_patient(&self, _: bool) {}
}

impl Stream for End {
    fn shutdown_write(&self) -> io::Result<()> {
        let mut net = self.net.get();
        let pipe = &mut net.pipes[self.pipe];
        if pipe.is_reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        pipe.is_shut = true;
        Ok(())
    }

    fn descriptor(&self) -> RawFd {
        self.number
    }
}

/// The broker's listener.
#[derive(Debug)]
pub struct SimListener {
    net: Shared,
}

impl Listen for SimListener {
    type Stream = End;

    fn accept(&self) -> io::Result<(End, Option<IpAddr>)> {
        let mut net = self.net.get();
        if let Some(fault) = net.accept_fault {
            return Err(io::Error::from_raw_os_error(fault));
        }
        let pipe = net.backlog.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        net.accepts += 1;
        assert!(net.accepts <= ACCEPTS_PER_TURN, "one iteration accepts too many connections");
        // As kernels do, assign the lowest free descriptor.
        let number = (3..).find(|number| !net.numbers.contains(number)).unwrap_or(RawFd::MAX);
        net.numbers.insert(number);
        let address = IpAddr::from(Ipv4Addr::new(10, 0, 0, net.pipes[pipe].host));
        Ok((End { pipe, number, net: self.net.clone() }, Some(address)))
    }

    fn has_pending(&self) -> bool {
        !self.net.get().backlog.is_empty()
    }
}
