//! A TCP relay to one address, or to several in turn. Its connections can be cut, stalled or slowed down.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The interval at which a connection checks whether it is stalled. Bytes that may pass do so at once.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of one direction that a stalled connection takes; then it stops reading.
const MAX_HELD: usize = 1 << 20;
/// A slow connection forwards this many bytes at a time, after a pause.
const PIECE: usize = 4096;
const PAUSE: Duration = Duration::from_millis(40);

/// What a connection does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Gate {
    Open,
    /// Everything arrives late, and in pieces.
    Slow,
    /// Nothing arrives until the gate is open.
    Stalled,
    /// What the server sends is held back, so that requests are carried out without a reply.
    RepliesStalled,
}

/// A running relay. It runs until the process ends.
pub struct Relay {
    pub address: SocketAddr,
    lines: Arc<Lines>,
}

struct Lines {
    targets: Vec<SocketAddr>,
    turn: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// How new connections begin; `None` refuses them.
    gate: Option<Gate>,
    open: HashMap<usize, Line>,
}

/// One connection.
struct Line {
    sockets: [TcpStream; 2],
    gate: Arc<AtomicU8>,
}

/// The end of a connection from which bytes come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

impl Relay {
    /// Starts a relay on a free port.
    pub fn start(targets: Vec<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Mutex::new(State { gate: Some(Gate::Open), open: HashMap::new() });
        let lines = Arc::new(Lines { targets, turn: AtomicUsize::new(0), state });
        let own = Arc::clone(&lines);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| own.join(client)));
        Ok(Self { address, lines })
    }

    /// Sets the gate of all connections, present and future.
    pub fn set(&self, gate: Gate) {
        let mut state = self.lines.state();
        state.gate = Some(gate);
        state.open.values().for_each(|line| line.gate.store(gate as u8, SeqCst));
    }

    /// Sets the gate of the present connections only.
    pub fn set_present(&self, gate: Gate) {
        self.lines.state().open.values().for_each(|line| line.gate.store(gate as u8, SeqCst));
    }

    /// Closes all connections, with what they hold, and refuses new ones.
    pub fn cut(&self) {
        let mut state = self.lines.state();
        state.gate = None;
        state.open.drain().for_each(|(_, line)| line.close());
    }
}

impl Line {
    fn close(&self) {
        // Either end may have closed it already.
        self.sockets.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
    }
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a client to the next target that accepts; without one, its connection is closed.
    fn join(self: &Arc<Self>, client: TcpStream) {
        let turn = self.turn.fetch_add(1, SeqCst);
        let next = |nth: usize| self.targets[(turn + nth) % self.targets.len()];
        let connect = |nth| TcpStream::connect_timeout(&next(nth), CONNECT_TIMEOUT).ok();
        let Some(server) = (0..self.targets.len()).find_map(connect) else { return };
        // A connection that breaks here ends like any other.
        let _ = self.carry(turn, client, server);
    }

    fn carry(self: &Arc<Self>, number: usize, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(CHECK_INTERVAL))?;
        }
        let copies = [client.try_clone()?, server.try_clone()?];
        let mut state = self.state();
        let Some(first) = state.gate else { return Ok(()) };
        let gate = Arc::new(AtomicU8::new(first as u8));
        state
            .open
            .insert(number, Line { sockets: [client.try_clone()?, server.try_clone()?], gate: Arc::clone(&gate) });
        drop(state);
        let [reply_to, request_to] = copies;
        for (from, source, target) in [(From::Client, client, request_to), (From::Server, server, reply_to)] {
            let (lines, gate) = (Arc::clone(self), Arc::clone(&gate));
            std::thread::spawn(move || {
                forward(from, source, target, &gate);
                // Both directions end together.
                lines.state().open.remove(&number).iter().for_each(Line::close);
            });
        }
        Ok(())
    }
}

/// Forwards until an end closes its connection, and what it sent before has been forwarded.
fn forward(from: From, mut source: TcpStream, mut target: TcpStream, gate: &AtomicU8) {
    let (mut held, mut bytes, mut has_ended) = (Vec::new(), [0; 65_536], false);
    while !has_ended || !held.is_empty() {
        if has_ended || held.len() >= MAX_HELD {
            std::thread::sleep(CHECK_INTERVAL);
        } else {
            match source.read(&mut bytes) {
                Ok(count @ 1..) => held.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Ok(_) | Err(_) => has_ended = true,
            }
        }
        let count = passing(from, gate, held.len());
        if target.write_all(&held[..count]).is_err() {
            return;
        }
        held.drain(..count);
    }
}

/// Returns how many of the held bytes pass now.
fn passing(from: From, gate: &AtomicU8, held: usize) -> usize {
    let gate = gate.load(SeqCst);
    if gate == Gate::Stalled as u8 || (gate == Gate::RepliesStalled as u8 && from == From::Server) {
        return 0;
    }
    if gate == Gate::Slow as u8 && held > 0 {
        std::thread::sleep(PAUSE);
        return held.min(PIECE);
    }
    held
}
