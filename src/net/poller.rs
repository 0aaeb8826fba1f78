//! The reactor on mio, with the waker that interrupts its poll. Polling and socket options go through here.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Waker};
use rustix::net::sockopt;

use crate::hub::WakeFn;
use crate::net::listener::Listener;
use crate::net::reactor::{Reactor, Readiness};
use crate::net::socket::{Socket, Stream};
use crate::net::token::{Token, WAKER};

/// Events taken from the poll at once.
const EVENTS: usize = 1024;

/// Milliseconds after which the kernel gives up on a peer that acknowledges nothing: one that vanished without closing the
/// connection.
pub const VANISHED_MILLIS: u32 = 180_000;

impl Socket for TcpStream {
    fn set_patient(&self, is_patient: bool) {
        let millis = if is_patient { 0 } else { VANISHED_MILLIS };
        // A socket that refuses this is broken; the next write will report it.
        let _ = sockopt::set_tcp_user_timeout(self, millis);
    }
}

impl Stream for TcpStream {
    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn descriptor(&self) -> RawFd {
        self.as_raw_fd()
    }
}

/// A poll and its waker.
pub struct MioPoller {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
}

impl MioPoller {
    /// Creates a poller without sockets.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, events: Events::with_capacity(EVENTS), waker })
    }
}

impl Reactor for MioPoller {
    type Stream = TcpStream;
    type Listener = Listener;

    fn waker(&self) -> WakeFn {
        let waker = Arc::clone(&self.waker);
        Box::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("can't wake a worker: {error}");
            }
        })
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()> {
        self.poll.poll(&mut self.events, timeout)?;
        let of_sockets = self.events.iter().filter(|event| event.token() != WAKER);
        events.extend(of_sockets.map(|event| Readiness {
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
