//! Where a worker sits: its poll, and the bell that wakes it.

use std::io;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Poll, Waker};

use super::WAKER;
use super::parts::Key;
use crate::hub::Bell;

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
