//! The acceptor: one listener, served by the first worker, that deals connections out to all
//! workers in turn. It survives the want of descriptors, and goes on by itself when there are some.

use std::io;
use std::net::IpAddr;

use mio::net::{TcpListener, TcpStream};

use super::gate::Gate;
use crate::hub::WorkerId;

/// At most so many connections are accepted in one turn.
const ACCEPTS_PER_TURN: usize = 128;
/// How a turn's accepting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepting {
    /// No connection waits; an edge will tell of the next.
    Drained,
    /// More may wait.
    More,
    /// There is no room; somebody who leaves, or time, will tell.
    Shut,
}

/// See the module's page.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    next: WorkerId,
    workers: usize,
    state: Accepting,
    is_warned: bool,
}

impl Acceptor {
    /// Deals out what comes to this listener.
    pub fn new(listener: TcpListener, workers: usize) -> Self {
        Self { listener, next: 0, workers, state: Accepting::Drained, is_warned: false }
    }

    /// The listener, to be registered.
    pub fn listener_mut(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// Connections may wait.
    pub fn wake(&mut self) {
        self.state = Accepting::More;
    }

    /// How the last turn's accepting ended.
    pub fn state(&self) -> Accepting {
        self.state
    }

    /// Accepts what waits, up to a bound, and hands each connection to the worker whose turn it is.
    pub fn accept(&mut self, gate: &Gate, mut deal: impl FnMut(WorkerId, TcpStream)) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.state != Accepting::More {
                return;
            }
            if !gate.has_place() {
                self.state = Accepting::Shut;
                return;
            }
            match self.listener.accept() {
                Ok((socket, peer)) => self.deal(gate, socket, peer.ip(), &mut deal),
                Err(error) => self.state = self.after(&error, gate),
            }
        }
    }

    fn deal(&mut self, gate: &Gate, socket: TcpStream, address: IpAddr, deal: &mut impl FnMut(WorkerId, TcpStream)) {
        let Some(socket) = gate.enter(socket, address) else { return };
        deal(self.next, socket);
        self.next = (self.next + 1) % self.workers;
    }

    fn after(&mut self, error: &io::Error, gate: &Gate) -> Accepting {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                self.is_warned = false;
                Accepting::Drained
            }
            // The peer gave up before it was accepted: that says nothing about the next.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {
                Accepting::More
            }
            _ => {
                if !std::mem::replace(&mut self.is_warned, true) {
                    log::warn!("can't accept connections now, those that wait stay in the backlog: {error}");
                }
                gate.shut();
                Accepting::Shut
            }
        }
    }
}
