//! Service managers: inherited sockets (sd_listen_fds(3)) and notifications (sd_notify(3)).

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use rusqlite::Connection as Database;

use super::support::{Broker, Connection, TIMEOUT, TempDir, addresses, command, finish};

/// Executes the binary with sockets passed as a service manager passes them: `tcp`, `unix:PATH`, and the invalid kinds `file`
/// and `mute`, which doesn't listen.
const PASS_SOCKETS: &str = "
import os, socket, sys
kinds, names, binary = sys.argv[1].split(), sys.argv[2], sys.argv[3:]
def make(kind):
    if kind == 'file':
        return open('/dev/null')
    made = socket.socket(socket.AF_UNIX if kind.startswith('unix:') else socket.AF_INET)
    made.bind(kind[5:] if kind.startswith('unix:') else ('127.0.0.1', 0))
    if kind != 'mute':
        made.listen()
    return made
made = [make(kind) for kind in kinds]
# First far away, so that none is overwritten.
for at, one in enumerate(made):
    os.dup2(one.fileno(), 100 + at)
for at, one in enumerate(made):
    os.dup2(100 + at, 3 + at, inheritable=True)
    os.close(100 + at)
os.environ.update(LISTEN_FDS=str(len(made)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
os.execv(binary[0], binary)
";

fn command_with_sockets(kinds: &str, names: &str, arguments: &[&str]) -> Command {
    let binary = command(&[]);
    let mut python = Command::new("python3");
    python.env_clear().env("ESKER_DATA", ":memory:").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    python
        .args(["-I", "-c", PASS_SOCKETS, kinds, names])
        .arg(binary.get_program())
        .args(["--no-auth", "--origin", "*"])
        .args(arguments);
    python
}

/// A broker with inherited sockets, and the line of its log that names its addresses.
struct SocketActivated {
    child: Child,
    line: String,
    _log: BufReader<ChildStderr>,
}

impl SocketActivated {
    fn start(kinds: &str, names: &str, arguments: &[&str]) -> Self {
        let child = command_with_sockets(kinds, names, arguments).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("python3 is installed");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut lines = log.by_ref().lines().map(|line| line.expect("the log is UTF-8"));
        let line = lines.find(|line| line.contains("listens on")).expect("it listens");
        Self { child, line, _log: log }
    }
}

impl Drop for SocketActivated {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn get(mut connection: Connection, target: &str) -> u16 {
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: esker\r\n\r\n"));
    connection.response().status
}

#[test]
fn inherited_sockets_replace_the_default_address() {
    let home = TempDir::new();
    let unix = format!("unix:{}", home.path.join("given").display());
    let activated = SocketActivated::start(&format!("tcp {unix}"), "esker.socket:esker.socket", &[]);
    let [address] = addresses(&activated.line)[..] else { panic!("{}", activated.line) };
    assert!(activated.line.contains(&format!(" and {unix} with")), "{}", activated.line);
    assert_eq!(get(Connection::open(address), "/healthz"), 200);
    let in_addition = SocketActivated::start("tcp", "", &["--port", "0"]);
    assert_eq!(addresses(&in_addition.line).len(), 2, "{}", in_addition.line);
}

#[test]
fn a_socket_named_admin_serves_admin_routes() {
    let activated = SocketActivated::start("tcp tcp", "http:admin", &[]);
    let [public, admin] = addresses(&activated.line)[..] else { panic!("{}", activated.line) };
    assert!(activated.line.contains("and for administration on"), "{}", activated.line);
    assert_eq!((get(Connection::open(public), "/healthz"), get(Connection::open(admin), "/healthz")), (404, 200));
    // With only an inherited admin socket, the broker still listens on the default address.
    let alone = SocketActivated::start("tcp", "admin", &["--port", "0"]);
    assert_eq!(addresses(&alone.line).len(), 2, "{}", alone.line);
}

#[test]
fn inherited_descriptors_that_do_not_listen_are_refused() {
    for kind in ["file", "mute"] {
        let ended = finish(&mut command_with_sockets(kind, "", &[]));
        assert!(ended.0 == Some(1) && ended.2.contains("listening stream socket"), "{kind}: {ended:?}");
    }
}

#[test]
fn too_many_inherited_sockets_are_refused() {
    for (kinds, names, part) in [
        (vec!["tcp"; 33].join(" "), "", "at most 32"),
        ("tcp tcp".into(), "admin:admin", "several addresses for administration"),
    ] {
        let ended = finish(&mut command_with_sockets(&kinds, names, &[]));
        assert!(ended.0 == Some(2) && ended.2.contains(part), "{ended:?}");
    }
}

/// A socket file that another process has created isn't removed.
#[test]
fn an_inherited_unix_socket_is_kept_after_the_stop() {
    let home = TempDir::new();
    let path = home.path.join("given");
    let mut activated = SocketActivated::start(&format!("unix:{}", path.display()), "", &[]);
    terminate(&activated.child);
    assert!(activated.child.wait().expect("it ends").success());
    assert!(path.exists());
}

fn terminate(child: &Child) {
    let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(done.expect("kill runs").success());
}

/// The receiving end of sd_notify(3).
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(path: &Path) -> Self {
        Self::with(UnixDatagram::bind(path).expect("a socket can be bound"))
    }

    fn with(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
        Self { socket }
    }

    /// Returns the next notification.
    fn next_notification(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("a notification arrives");
        String::from_utf8(bytes[..count].to_vec()).expect("UTF-8")
    }
}

#[test]
fn the_manager_is_notified_of_start_reload_and_stop() {
    let home = TempDir::new();
    let path = home.path.join("notify");
    let manager = Manager::at(&path);
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &path.display().to_string())]);
    let status = format!("STATUS=serves http://{}\n", broker.address);
    assert_eq!(manager.next_notification(), format!("READY=1\n{status}"));
    broker.signal("HUP");
    let reloading = manager.next_notification();
    let moment = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::trim_end);
    assert!(moment.is_some_and(|moment| moment.parse::<u64>().is_ok_and(|micros| micros > 0)), "{reloading}");
    assert_eq!(manager.next_notification(), format!("READY=1\n{status}"));
    broker.signal("TERM");
    assert_eq!(manager.next_notification(), "STOPPING=1\nSTATUS=draining\n");
    assert_eq!(broker.wait().0, Some(0));
}

/// The manager would kill the broker after `TimeoutStopSec`, which is 20 s in `esker.service`.
#[test]
fn the_manager_is_asked_to_wait_for_a_drain() {
    let home = TempDir::new();
    let path = home.path.join("notify");
    let manager = Manager::at(&path);
    let broker = Broker::start_with(&["--drain", "60s"], &[("NOTIFY_SOCKET", &path.display().to_string())]);
    assert!(manager.next_notification().starts_with("READY=1\n"));
    broker.signal("TERM");
    assert_eq!(manager.next_notification(), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=80000000\n");
    assert_eq!(broker.wait().0, Some(0));
}

/// The manager would end the start after `TimeoutStartSec`.
#[test]
fn the_manager_is_asked_to_wait_while_another_program_holds_the_database() {
    let home = TempDir::new();
    let (path, data) = (home.path.join("notify"), home.path.join("data").display().to_string());
    drop(Broker::start(&["--data", &data]));
    let other = Database::open(home.path.join("data/records.db")).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("the database is not locked");
    let manager = Manager::at(&path);
    let environment = [("NOTIFY_SOCKET", &*path.display().to_string())];
    let arguments = ["--no-auth", "--port", "0", "--data", &data];
    let mut child = command(&environment).args(arguments).stderr(Stdio::null()).spawn().expect("it starts");
    let waiting = "STATUS=waiting for another program to release the database\nEXTEND_TIMEOUT_USEC=60000000\n";
    assert_eq!(manager.next_notification(), waiting);
    drop(other);
    assert!(manager.next_notification().starts_with("READY=1\n"));
    terminate(&child);
    assert!(child.wait().expect("it ends").success());
}

/// A name that begins with `@` is in the abstract namespace, sd_notify(3).
#[test]
fn a_manager_with_an_abstract_socket_is_notified() {
    let name = format!("esker-manager-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = Manager::with(UnixDatagram::bind_addr(&address).expect("a socket can be bound"));
    let _broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &format!("@{name}"))]);
    assert!(manager.next_notification().starts_with("READY=1\n"));
}

/// A full notification socket delays neither the start nor the stop.
#[test]
fn a_manager_that_reads_nothing_delays_nothing() {
    let home = TempDir::new();
    let path = home.path.join("notify");
    let _manager = Manager::at(&path);
    let flood = UnixDatagram::unbound().expect("a socket");
    flood.set_nonblocking(true).expect("it can be");
    while flood.send_to(b"full", &path).is_ok() {}
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &path.display().to_string())]);
    broker.wait_for_log("can't notify the service manager");
    broker.assert_healthy();
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", "")]);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert!(status == Some(0) && !log.contains("WARN"), "{log}");
}

/// `LISTEN_PID` names another process, so its sockets are ignored.
#[test]
fn sockets_for_another_process_are_ignored() {
    for pid in ["", "1", "abc"] {
        let broker = Broker::start_with(&[], &[("LISTEN_FDS", "1"), ("LISTEN_PID", pid)]);
        broker.assert_healthy();
    }
    Broker::start_with(&[], &[("LISTEN_FDS", "1")]).assert_healthy();
}

#[test]
fn a_missing_manager_does_not_prevent_serving() {
    let home = TempDir::new();
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &home.path.join("gone").display().to_string())]);
    broker.wait_for_log("can't notify the service manager");
    broker.assert_healthy();
}
