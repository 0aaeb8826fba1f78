//! A socket in memory that accepts only as many bytes as it has room for.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;

/// What a socket shares with the test.
#[derive(Default)]
struct State {
    received: Vec<u8>,
    room: usize,
    is_dead: bool,
    /// A write was short, so the worker waits for a writable event.
    awaits_room: bool,
}

#[derive(Clone, Default)]
pub struct Socket(Rc<RefCell<State>>);

impl Socket {
    /// Adds room for this many bytes. Returns whether the worker waits for a writable event.
    pub fn add_room(&self, bytes: usize) -> bool {
        let mut state = self.0.borrow_mut();
        state.room = state.room.saturating_add(bytes);
        std::mem::take(&mut state.awaits_room)
    }

    /// Fails all later writes.
    pub fn kill(&self) {
        self.0.borrow_mut().is_dead = true;
    }

    pub fn is_dead(&self) -> bool {
        self.0.borrow().is_dead
    }

    /// Takes the bytes written since the last call.
    pub fn take_received(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().received)
    }

    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl esker::internals::net::Socket for Socket {
    fn set_patient(&self, _: bool) {}
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if state.is_dead {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut written = 0;
        for slice in slices {
            let count = slice.len().min(state.room);
            state.received.extend_from_slice(&slice[..count]);
            state.room -= count;
            written += count;
            if count < slice.len() {
                state.awaits_room = true;
                break;
            }
        }
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
