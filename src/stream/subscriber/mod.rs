//! Subscribers. A subscriber is a socket and a cursor; nothing is queued for it. One that is not ready for the next frame
//! may also have a send state, which is kept separately and only until it is ready.

mod expiry;
mod partial_write;
mod pinned;
mod send_state;
mod table;
mod tokens;

use std::io::{self, IoSlice};

use crate::net::Socket;
use crate::stream::keys::GroupKey;
pub(super) use partial_write::PartialWrite;
pub(super) use send_state::{Closing, Ending, SendState};
pub(super) use table::Subscribers;

/// The ready index of a subscriber that is not in the ready set.
const NOT_READY: u32 = u32::MAX;

/// A socket in its stream. 24 bytes if the socket is a descriptor.
#[derive(Debug)]
pub struct Subscriber<S> {
    socket: S,
    group: GroupKey,
    /// The last id written to the socket. That of a subscriber to records contains more: see `records`.
    cursor: u64,
    /// The index in the group's ready set, or [`NOT_READY`].
    ready_index: u32,
    /// When the socket last accepted data: the low 32 bits of the worker's milliseconds.
    written_at: u32,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Everything was written.
    All,
    /// The socket's buffer is full after this many bytes; the poller reports when it has room.
    Blocked(usize),
    /// The connection is closed or failed.
    Gone,
}

impl<S> Subscriber<S> {
    pub(super) fn new(socket: S, group: GroupKey, cursor: u64, now: u32) -> Self {
        Self { socket, group, cursor, ready_index: NOT_READY, written_at: now }
    }

    pub(super) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    pub(super) fn into_socket(self) -> S {
        self.socket
    }

    pub(super) fn group(&self) -> GroupKey {
        self.group
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Moves the cursor to behind the last frame that was written.
    pub(super) fn advance_to(&mut self, cursor: u64) {
        debug_assert!(cursor >= self.cursor, "a cursor never moves back: {} to {cursor}", self.cursor);
        self.cursor = cursor;
    }

    /// Moves the cursor to where the subscriber continues after a gap.
    pub(super) fn continue_at(&mut self, cursor: u64) {
        self.cursor = cursor;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready_index != NOT_READY
    }

    /// Returns the index in the group's ready set, if the subscriber is ready.
    pub(super) fn ready_index(&self) -> Option<u32> {
        Some(self.ready_index).filter(|&index| index != NOT_READY)
    }

    pub(super) fn set_ready_index(&mut self, index: Option<u32>) {
        self.ready_index = index.unwrap_or(NOT_READY);
    }

    /// Returns the milliseconds since the socket last accepted data.
    pub(super) fn silent_for(&self, now: u32) -> u32 {
        // Wraps, because the timestamps are the low half of a clock. No time limit is as long as 49 days.
        now.wrapping_sub(self.written_at)
    }
}

impl<S: Socket> Subscriber<S> {
    /// Writes slices of `bytes` bytes in total to the socket, in one system call.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>], bytes: usize, now: u32) -> WriteOutcome {
        loop {
            // One frame is the usual case, and send(2) of it takes a twelfth less time than writev(2).
            let result = match slices {
                [frame] => self.socket.write(frame),
                frames => self.socket.write_vectored(frames),
            };
            match result {
                Ok(0) => return WriteOutcome::Gone,
                Ok(written) => {
                    self.written_at = now;
                    return if written == bytes { WriteOutcome::All } else { WriteOutcome::Blocked(written) };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return WriteOutcome::Blocked(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return WriteOutcome::Gone,
            }
        }
    }
}
