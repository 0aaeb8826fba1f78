//! The service manager (systemd or what speaks like it): the sockets it hands over, sd_listen_fds(3), and what it is told,
//! sd_notify(3). Without one, nothing is handed over and nobody is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt;

use super::listen::{InheritedListener, InheritedSocket};
use crate::clock;

/// A socket unit's `FileDescriptorName=` for the administration's.
const ADMIN: &str = "admin";
/// A manager that does not read what it is told is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sockets that were handed over to this process. To be called before other threads look at the environment: it takes `LISTEN_PID` and
/// `LISTEN_FDS` out of the environment, so that no child believes the sockets to be its own.
pub(super) fn sockets() -> io::Result<Vec<InheritedListener>> {
    // Another process's sockets, whose variables were inherited, are not ours to take.
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
        take_all()
    } else {
        Ok(Vec::new())
    }
}

fn take_all() -> io::Result<Vec<InheritedListener>> {
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

/// The broker serves.
pub(super) fn tell_ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}\n"));
}

/// The configuration is being read again; [`tell_ready`] tells of the end.
pub(super) fn tell_reloading() {
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", clock::monotonic().as_micros()));
}

/// The broker drains, and does not wait for a manager that is busy.
pub(super) fn tell_stopping() {
    tell_within("STOPPING=1\nSTATUS=draining\n", None);
}

fn tell(news: &str) {
    tell_within(news, Some(PATIENCE));
}

fn tell_within(news: &str, timeout: Option<Duration>) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&name, news, timeout) {
        log::warn!("can't notify the service manager: {error}");
    }
}

/// Sends without waiting if there is no `timeout`.
fn send(name: &OsStr, news: &str, timeout: Option<Duration>) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    match timeout {
        Some(timeout) => socket.set_write_timeout(Some(timeout))?,
        None => socket.set_nonblocking(true)?,
    }
    socket.send_to_addr(news.as_bytes(), &address).map(drop)
}
