//! The floor for requests: an epoll loop that reads what is there and writes an answer of the broker's length. Each read
//! is taken for one whole request, which it is where the other side waits for the answer.

use std::env;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::{Failure, IS_BENCH, Running, Scratch, esker, floor, pinned, spawn_told};

const LISTENER: Token = Token(usize::MAX);

/// Starts it in a process of its own: this program, called as `bench echo`.
pub fn start(cores: &str) -> Result<Running, Failure> {
    let mut command = pinned(cores, env::current_exe()?);
    command.args(["echo", IS_BENCH]);
    let (root, address) = spawn_told(command)?;
    let version = "read(2) and write(2)".to_owned();
    Ok(Running {
        version,
        root,
        scratch: Scratch::new()?,
        subscribe_at: address,
        publish_at: address,
        dialect: esker::dialect(),
    })
}

/// What that process does.
pub fn run() -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    eprintln!("the echo listens on http://{}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut sockets: Vec<TcpStream> = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut sockets)?;
            } else {
                // Whoever hangs up is no failure.
                let _ = answer(&mut sockets[event.token().0]);
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

fn answer(socket: &mut TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    if socket.read(&mut request)? > 0 {
        socket.write_all(floor::ANSWER)?;
    }
    Ok(())
}
