//! The service manager (systemd or what speaks like it): the sockets it hands over, sd_listen_fds(3), and what it is told,
//! sd_notify(3). Without one, nothing is handed over and nobody is told.

use std::io;

use listenfd::ListenFd;
use rustix::net::sockopt;
use sd_notify::NotifyState;

use super::listen::{Given, GivenSocket};

/// A socket unit's `FileDescriptorName=` for the administration's.
const ADMIN: &str = "admin";

/// The sockets that were handed over to this process. To be called before there are other threads: it takes the variables out
/// of the environment, so that no child believes them to be its own.
pub(super) fn sockets() -> io::Result<Vec<Given>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut handed_over = ListenFd::from_env();
    let names = names.split(':').map(Some).chain(std::iter::repeat(None));
    (0..handed_over.len()).zip(names).map(|(index, name)| take(&mut handed_over, index, name == Some(ADMIN))).collect()
}

fn take(handed_over: &mut ListenFd, index: usize, is_admin: bool) -> io::Result<Given> {
    let socket = match handed_over.take_unix_listener(index) {
        Ok(Some(listener)) => GivenSocket::Unix(listener),
        _ => match handed_over.take_tcp_listener(index)? {
            Some(listener) => GivenSocket::Tcp(listener),
            None => return Err(io::Error::other(format!("socket {index} was taken twice"))),
        },
    };
    let listens = match &socket {
        GivenSocket::Tcp(listener) => sockopt::socket_acceptconn(listener)?,
        GivenSocket::Unix(listener) => sockopt::socket_acceptconn(listener)?,
    };
    match listens {
        true => Ok(Given { socket, is_admin }),
        // A socket unit with Accept=yes hands over connections.
        false => Err(io::Error::other(format!("socket {index} does not listen"))),
    }
}

/// The broker serves.
pub(super) fn tell_ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is being read again; [`tell_ready`] tells of the end.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("can't read the clock for the service manager: {error}"),
    }
}

/// The broker drains.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("can't tell the service manager: {error}");
    }
}
