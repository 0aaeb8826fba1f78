//! The baseline for requests: an epoll loop that reads what has arrived and writes a response as long as the broker's. Each
//! read counts as one complete request, which is true when the client waits for each response.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::{Failure, Running, floor};

const LISTENER: Token = Token(usize::MAX);

/// Starts it in a process of its own.
pub fn start(cores: &str) -> Result<Running, Failure> {
    super::start_self(cores, "echo", "read(2) and write(2)")
}

/// Runs in that process.
pub fn run() -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    eprintln!("the echo listens on http://{}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut request = vec![0; floor::TOO_LARGE];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut sockets)?;
            } else {
                respond(&mut sockets[event.token().0], &mut request);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, sockets: &mut Vec<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                socket.set_nodelay(true)?;
                poll.registry().register(&mut socket, Token(sockets.len()), Interest::READABLE)?;
                sockets.push(socket);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn respond(socket: &mut TcpStream, request: &mut [u8]) {
    let has_responded = match socket.read(request) {
        Ok(length) if length < floor::TOO_LARGE => length == 0 || socket.write_all(floor::RESPONSE).is_ok(),
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    if !has_responded {
        // A client that has disconnected is not an error.
        let _ = socket.shutdown(Shutdown::Both);
    }
}
