//! An unreliable connection: a TCP proxy that forwards bytes and cuts connections, on command or after a random number of
//! bytes, which is in the middle of an event most of the time.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

pub struct Proxy {
    pub address: SocketAddr,
    line: Arc<Line>,
    acceptor: Option<JoinHandle<()>>,
}

struct Line {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    sockets: Vec<TcpStream>,
    cuts: usize,
    is_held: bool,
    is_over: bool,
    /// How many bytes of a response's body are forwarded before the connection is cut.
    limit: Option<Range<usize>>,
    chance: fastrand::Rng,
}

impl Proxy {
    /// Starts a proxy that cuts connections only on command.
    pub fn start(target: SocketAddr) -> Self {
        Self::start_with(target, None)
    }

    /// Starts a proxy that cuts each connection after a random number of bytes of the response's body. The head is spared,
    /// because browsers accept half a head as a complete but invalid one.
    pub fn cutting(target: SocketAddr, limit: Range<usize>) -> Self {
        Self::start_with(target, Some(limit))
    }

    fn start_with(target: SocketAddr, limit: Option<Range<usize>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let chance = fastrand::Rng::with_seed(7);
        let state = State { sockets: Vec::new(), cuts: 0, is_held: false, is_over: false, limit, chance };
        let line = Arc::new(Line { target, state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = std::thread::spawn({
            let line = Arc::clone(&line);
            move || line.accept(&listener)
        });
        Self { address, line, acceptor: Some(acceptor) }
    }

    /// Returns how many connections have been cut.
    pub fn cuts(&self) -> usize {
        self.line.state().cuts
    }

    /// Stops cutting new connections. Existing ones are still cut.
    pub fn stop_cutting(&self) {
        self.line.state().limit = None;
    }

    /// Cuts all connections. New ones wait until [`Proxy::release`].
    pub fn cut_and_hold(&self) {
        let mut state = self.line.state();
        state.is_held = true;
        state.cut_all();
    }

    pub fn release(&self) {
        self.line.state().is_held = false;
        self.line.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.line.state();
            state.is_over = true;
            state.cut_all();
        }
        self.line.changed.notify_all();
        // Wakes the acceptor if it is waiting for a connection.
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked while holding the lock")
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let client = client.expect("the proxy accepts");
            let held = self.state();
            let state = self.changed.wait_while(held, |state| state.is_held && !state.is_over);
            if state.expect("no thread panicked while holding the lock").is_over {
                return;
            }
            self.join(client);
        }
    }

    /// Connects a client to the target, or drops it if that fails.
    fn join(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.target) else { return };
        let copy = |socket: &TcpStream| socket.try_clone().expect("a socket can be cloned");
        let limit = {
            let mut state = self.state();
            state.sockets.extend([copy(&client), copy(&server)]);
            state.random_limit()
        };
        let (question, target) = (copy(&client), copy(&server));
        std::thread::spawn(move || forward(question, target, None));
        let line = Arc::clone(self);
        std::thread::spawn(move || {
            if forward(server, client, limit) {
                line.state().cuts += 1;
            }
        });
    }
}

impl State {
    fn random_limit(&mut self) -> Option<usize> {
        self.limit.clone().map(|range| self.chance.usize(range))
    }

    fn cut_all(&mut self) {
        self.cuts += self.sockets.len() / 2;
        self.sockets.drain(..).for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
    }
}

/// Forwards until either end closes or the limit is reached, then closes both. Returns whether the limit was reached.
fn forward(mut from: TcpStream, mut to: TcpStream, limit: Option<usize>) -> bool {
    let mut bytes = [0; 65_536];
    let mut left = None;
    let mut is_burnt = false;
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        // The broker sends the head in one write, so it arrives in one read.
        let allowed = *left.get_or_insert_with(|| limit.map_or(usize::MAX, |limit| head(&bytes[..count]) + limit));
        let passing = count.min(allowed);
        is_burnt = passing < count;
        if to.write_all(&bytes[..passing]).is_err() || is_burnt {
            break;
        }
        left = Some(allowed - passing);
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    is_burnt
}

fn head(bytes: &[u8]) -> usize {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a response begins with its head") + 4
}
