//! Where a worker sits: its poll, and the bell that wakes it.

use std::io;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Poll, Waker};

use rustix::net::sockopt;

use super::WAKER;
use super::parts::Key;
use super::subscriber::Socket;
use crate::hub::Bell;

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

/// See the module's page.
pub struct Station {
    pub(super) poll: Poll,
    waker: Arc<Waker>,
}

impl Station {
    /// A poll with a waker.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, waker })
    }

    /// What wakes the worker from any other thread.
    pub fn bell(&self) -> Bell {
        let waker = Arc::clone(&self.waker);
        Box::new(move || {
            if let Err(error) = waker.wake() {
                log::error!("can't wake a worker: {error}");
            }
        })
    }

    /// A connection's socket: only what it says matters, until its output blocks.
    pub(super) fn register(&self, socket: &mut TcpStream, key: Key) -> io::Result<()> {
        self.poll.registry().register(socket, key.token(), Interest::READABLE)
    }

    /// A socket whose output is blocked, or that becomes a subscriber's: room matters, too.
    pub(super) fn register_both(&self, socket: &mut TcpStream, key: Key) -> io::Result<()> {
        self.poll.registry().reregister(socket, key.token(), Interest::READABLE | Interest::WRITABLE)
    }
}
