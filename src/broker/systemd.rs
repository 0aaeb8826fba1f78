//! The service manager, systemd or a compatible one: the sockets it passes, sd_listen_fds(3), and notifications to it,
//! sd_notify(3). Without one, there are no sockets, and notifications have no effect.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

#[cfg(feature = "cli")]
use super::handover::take_all;
use super::listen::InheritedListener;
use crate::clock;

/// The longest wait for a service manager that does not read notifications.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long the service manager should go on waiting for a start that is waiting itself.
const START_TIME: Duration = Duration::from_secs(60);
/// How long the service manager should wait for the broker's end after `--drain`: the `TimeoutStopSec` of `esker.service`.
const STOP_TIME: Duration = Duration::from_secs(20);

/// Takes the sockets that were passed to this process. Must be called before there are other threads: it removes `LISTEN_PID`
/// and `LISTEN_FDS` from the environment, so that no child process mistakes the sockets for its own.
pub(super) fn sockets() -> io::Result<Vec<InheritedListener>> {
    // Variables inherited from another process describe its sockets.
    if std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
        take_all()
    } else {
        Ok(Vec::new())
    }
}

/// Always fails: taking over sockets without unsafe code requires a crate that only the feature `cli` includes.
#[cfg(not(feature = "cli"))]
fn take_all() -> io::Result<Vec<InheritedListener>> {
    Err(io::Error::other("this program was built without esker's feature cli"))
}

/// Notifies that the broker serves.
pub(super) fn notify_ready(status: &str) {
    notify(&format!("READY=1\nSTATUS={status}\n"));
}

/// Notifies that the start waits for something. The service manager would otherwise end the start after `TimeoutStartSec`.
pub(super) fn notify_waiting(status: &str) {
    notify(&format!("STATUS={status}\nEXTEND_TIMEOUT_USEC={}\n", START_TIME.as_micros()));
}

/// Notifies that the keys are being read again; [`notify_ready`] ends this.
pub(super) fn notify_reloading() {
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", clock::monotonic().as_micros()));
}

/// Notifies that the broker drains, without waiting for a busy service manager. If streams end over some time, also asks the
/// service manager to wait for that long, because it would otherwise kill the broker after `TimeoutStopSec`.
pub(super) fn notify_stopping(drain: Duration) {
    let extension = match drain {
        Duration::ZERO => String::new(),
        drain => format!("EXTEND_TIMEOUT_USEC={}\n", (drain + STOP_TIME).as_micros()),
    };
    notify_within(&format!("STOPPING=1\nSTATUS=draining\n{extension}"), None);
}

fn notify(message: &str) {
    notify_within(message, Some(TIMEOUT));
}

fn notify_within(message: &str, timeout: Option<Duration>) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(&name, message, timeout) {
        log::warn!("can't notify the service manager: {error}");
    }
}

/// Sends a message; without a `timeout` it does not wait.
fn send(name: &OsStr, message: &str, timeout: Option<Duration>) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    match timeout {
        Some(timeout) => socket.set_write_timeout(Some(timeout))?,
        None => socket.set_nonblocking(true)?,
    }
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}
