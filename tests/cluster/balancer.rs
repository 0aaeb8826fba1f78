//! A TCP load balancer without stickiness. It can also stand in for a server whose address moves.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(2);

/// Addresses that are chosen in turn.
#[derive(Default)]
pub struct Targets {
    addresses: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Targets {
    pub fn new(addresses: &[SocketAddr]) -> Arc<Self> {
        Arc::new(Self { addresses: Mutex::new(addresses.to_vec()), turn: AtomicUsize::new(0) })
    }

    fn addresses(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.addresses.lock().expect("no thread panicked while holding the lock")
    }

    pub fn set(&self, addresses: &[SocketAddr]) {
        *self.addresses() = addresses.to_vec();
    }

    /// Returns the next address, if there are any.
    pub fn next(&self) -> Option<SocketAddr> {
        let addresses = self.addresses();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        addresses.get(turn % addresses.len().max(1)).copied()
    }

    /// Connects to the next of the addresses that accepts.
    fn connect(&self) -> Option<TcpStream> {
        let tries = self.addresses().len();
        (0..tries).find_map(|_| TcpStream::connect_timeout(&self.next()?, CONNECT_TIMEOUT).ok())
    }
}

/// A running balancer.
pub struct Balancer {
    pub address: SocketAddr,
    pub targets: Arc<Targets>,
    line: Arc<Line>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Line {
    sockets: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

impl Balancer {
    pub fn start(targets: Arc<Targets>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let line = Arc::new(Line::default());
        let (known, own) = (Arc::clone(&targets), Arc::clone(&line));
        let acceptor = Some(thread::spawn(move || own.accept(&listener, &known)));
        Self { address, targets, line, acceptor }
    }

    /// Cuts all connections, and sends new ones to these addresses; without any, they are closed at once.
    pub fn switch_to(&self, addresses: &[SocketAddr]) {
        self.targets.set(addresses);
        self.line.cut();
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.line.is_over.store(true, Ordering::SeqCst);
        let _ = self.acceptor.take().map(JoinHandle::join);
        self.line.cut();
    }
}

impl Line {
    fn accept(&self, listener: &TcpListener, targets: &Targets) {
        // Whoever drops the balancer may be in another network namespace, and could not wake it by a connection.
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        while !self.is_over.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((client, _)) => targets.connect().into_iter().for_each(|server| self.join(&client, server)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(ACCEPT_PAUSE),
                Err(error) => panic!("the balancer accepts: {error}"),
            }
        }
    }

    fn join(&self, client: &TcpStream, server: TcpStream) {
        let copy = |socket: &TcpStream| socket.try_clone().expect("a socket can be cloned");
        for socket in [client, &server] {
            let _ = socket.set_nodelay(true);
        }
        self.sockets().extend([copy(client), copy(&server)]);
        let (question, target, reply) = (copy(client), copy(&server), copy(client));
        thread::spawn(move || forward(question, target));
        thread::spawn(move || forward(server, reply));
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.sockets.lock().expect("no thread panicked while holding the lock")
    }

    fn cut(&self) {
        self.sockets().drain(..).for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
    }
}

/// Forwards until either end closes, then closes both.
fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
