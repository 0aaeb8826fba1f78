//! Takes over the sockets that a service manager passed to this process: sd_listen_fds(3).

use std::io;

use listenfd::ListenFd;
use rustix::net::sockopt;

use super::listen::{InheritedListener, InheritedSocket};

/// The `FileDescriptorName=` of the socket unit for the administration.
const ADMIN: &str = "admin";

/// Takes all sockets, and `LISTEN_PID` and `LISTEN_FDS` out of the environment.
pub(super) fn take_all() -> io::Result<Vec<InheritedListener>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut handed_over = ListenFd::from_env();
    let names = names.split(':').map(Some).chain(std::iter::repeat(None));
    (0..handed_over.len()).zip(names).map(|(index, name)| take(&mut handed_over, index, name == Some(ADMIN))).collect()
}

fn take(handed_over: &mut ListenFd, index: usize, is_admin: bool) -> io::Result<InheritedListener> {
    let socket = match handed_over.take_unix_listener(index) {
        Ok(Some(listener)) => InheritedSocket::Unix(listener),
        _ => match handed_over.take_tcp_listener(index)? {
            Some(listener) => InheritedSocket::Tcp(listener),
            None => return Err(io::Error::other(format!("socket {index} was used twice"))),
        },
    };
    let listens = match &socket {
        InheritedSocket::Tcp(listener) => sockopt::socket_acceptconn(listener)?,
        InheritedSocket::Unix(listener) => sockopt::socket_acceptconn(listener)?,
    };
    match listens {
        true => Ok(InheritedListener { socket, is_admin }),
        // A socket unit with Accept=yes hands over connections.
        false => Err(io::Error::other(format!("socket {index} is not a listening socket"))),
    }
}
