//! Where a worker sits: its poll, and the bell that wakes it. The only place but for doors that calls the kernel.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use rustix::net::sockopt;

use crate::hub::WakeFn;
use crate::net::listener::Listener;
use crate::net::reactor::{Reactor, Readiness, Stream};
use crate::stream::subscriber::Socket;

/// Below it are the tokens of the listeners.
pub(crate) const WAKER: Token = Token(usize::MAX);
/// Events taken from the poll at once.
const EVENTS: usize = 1024;

/// After so many milliseconds the kernel gives up a peer that acknowledges nothing: one that vanished
/// without a word.
pub const VANISHED_MILLIS: u32 = 180_000;

impl Socket for TcpStream {
    fn set_patient(&self, is_patient: bool) {
        let millis = if is_patient { 0 } else { VANISHED_MILLIS };
        // A socket that refuses is broken, which the next write will show.
        let _ = sockopt::set_tcp_user_timeout(self, millis);
    }
}

impl Stream for TcpStream {
    fn shut(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn number(&self) -> RawFd {
        self.as_raw_fd()
    }
}

/// See the module's page.
pub struct MioPoller {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
}

impl MioPoller {
    /// A poll with a waker.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, events: Events::with_capacity(EVENTS), waker })
    }
}

impl Reactor for MioPoller {
    type Stream = TcpStream;
    type Listener = Listener;

    fn bell(&self) -> WakeFn {
        let waker = Arc::clone(&self.waker);
        Box::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("can't wake a worker: {error}");
            }
        })
    }

    fn wait(&mut self, timeout: Option<Duration>, seen: &mut Vec<Readiness>) -> io::Result<()> {
        self.poll.poll(&mut self.events, timeout)?;
        let events = self.events.iter().filter(|event| event.token() != WAKER);
        seen.extend(events.map(|event| Readiness {
            token: event.token(),
            is_readable: event.is_readable(),
            is_writable: event.is_writable(),
            has_ended: event.is_read_closed() || event.is_error(),
        }));
        Ok(())
    }

    fn listen(&self, listener: &mut Listener, token: Token) -> io::Result<()> {
        self.poll.registry().register(listener.source(), token, Interest::READABLE)
    }

    fn register(&self, socket: &mut TcpStream, token: Token) -> io::Result<()> {
        self.poll.registry().register(socket, token, Interest::READABLE)
    }

    fn register_both(&self, socket: &mut TcpStream, token: Token) -> io::Result<()> {
        self.poll.registry().reregister(socket, token, Interest::READABLE | Interest::WRITABLE)
    }
}
