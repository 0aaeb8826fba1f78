//! Under a service manager: sockets that are handed over (sd_listen_fds(3)), and what is told in return (sd_notify(3)).

use std::io::{BufRead as _, BufReader};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::support::{Broker, Connection, Folder, PATIENCE, addresses, command, finish};

/// Becomes the binary with these sockets as a manager hands them over: `tcp`, `unix:PATH`, and for wrong ones `file` and
/// `mute`, which does not listen.
const HAND_OVER: &str = "
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

fn handing_over(kinds: &str, names: &str, arguments: &[&str]) -> Command {
    let binary = command(&[]);
    let mut python = Command::new("python3");
    python.env_clear().env("ESKER_DATA", ":memory:").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    python
        .args(["-I", "-c", HAND_OVER, kinds, names])
        .arg(binary.get_program())
        .args(["--no-auth", "--origin", "*"])
        .args(arguments);
    python
}

/// A broker to which sockets were handed over, and the line of its log that says where it listens.
struct Handed {
    child: Child,
    line: String,
    _log: BufReader<ChildStderr>,
}

impl Handed {
    fn start(kinds: &str, names: &str, arguments: &[&str]) -> Self {
        let child = handing_over(kinds, names, arguments).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("python3 is installed");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("the log is UTF-8");
        Self { child, line, _log: log }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn get(mut connection: Connection, target: &str) -> u16 {
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: esker\r\n\r\n"));
    connection.response().status
}

#[test]
fn sockets_that_are_handed_over_take_the_place_of_the_default_address() {
    let home = Folder::new();
    let unix = format!("unix:{}", home.path.join("given").display());
    let handed = Handed::start(&format!("tcp {unix}"), "esker.socket:esker.socket", &[]);
    let [address] = addresses(&handed.line)[..] else { panic!("{}", handed.line) };
    assert!(handed.line.contains(&format!(" and {unix} with")), "{}", handed.line);
    assert_eq!(get(Connection::open(address), "/healthz"), 200);
    let beside = Handed::start("tcp", "", &["--port", "0"]);
    assert_eq!(addresses(&beside.line).len(), 2, "{}", beside.line);
}

#[test]
fn a_socket_named_admin_is_the_administrations() {
    let handed = Handed::start("tcp tcp", "http:admin", &[]);
    let [public, admin] = addresses(&handed.line)[..] else { panic!("{}", handed.line) };
    assert!(handed.line.contains("and for administration on"), "{}", handed.line);
    assert_eq!((get(Connection::open(public), "/healthz"), get(Connection::open(admin), "/healthz")), (404, 200));
    // With the administration's alone, the default address is where it was.
    let alone = Handed::start("tcp", "admin", &["--port", "0"]);
    assert_eq!(addresses(&alone.line).len(), 2, "{}", alone.line);
}

#[test]
fn what_is_no_listening_socket_is_refused_in_words() {
    for kind in ["file", "mute"] {
        let ended = finish(&mut handing_over(kind, "", &[]));
        assert!(ended.0 == Some(1) && ended.2.contains("listening stream socket"), "{kind}: {ended:?}");
    }
}

#[test]
fn more_sockets_than_there_may_be_are_refused() {
    for (kinds, names, part) in [
        (vec!["tcp"; 33].join(" "), "", "at most 32"),
        ("tcp tcp".into(), "admin:admin", "several addresses for administration"),
    ] {
        let ended = finish(&mut handing_over(&kinds, names, &[]));
        assert!(ended.0 == Some(2) && ended.2.contains(part), "{ended:?}");
    }
}

/// The file of a socket that somebody else has made is not the broker's to remove.
#[test]
fn a_unix_socket_that_was_handed_over_stays_after_the_stop() {
    let home = Folder::new();
    let path = home.path.join("given");
    let mut handed = Handed::start(&format!("unix:{}", path.display()), "", &[]);
    terminate(&handed.child);
    assert!(handed.child.wait().expect("it ends").success());
    assert!(path.exists());
}

fn terminate(child: &Child) {
    let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(done.expect("kill runs").success());
}

/// The manager's end of sd_notify(3).
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(path: &Path) -> Self {
        Self::with(UnixDatagram::bind(path).expect("a socket can be bound"))
    }

    fn with(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        Self { socket }
    }

    /// The next news.
    fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("there is news");
        String::from_utf8(bytes[..count].to_vec()).expect("UTF-8")
    }
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    let home = Folder::new();
    let path = home.path.join("notify");
    let manager = Manager::at(&path);
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &path.display().to_string())]);
    let status = format!("STATUS=serves http://{}\n", broker.address);
    assert_eq!(manager.hears(), format!("READY=1\n{status}"));
    broker.signal("HUP");
    let reloading = manager.hears();
    let moment = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").map(str::trim_end);
    assert!(moment.is_some_and(|moment| moment.parse::<u64>().is_ok_and(|micros| micros > 0)), "{reloading}");
    assert_eq!(manager.hears(), format!("READY=1\n{status}"));
    broker.signal("TERM");
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=draining\n");
    assert_eq!(broker.wait().0, Some(0));
}

/// A name that begins with `@` is one beside the file system, sd_notify(3).
#[test]
fn a_manager_with_an_abstract_name_is_told() {
    let name = format!("esker-manager-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = Manager::with(UnixDatagram::bind_addr(&address).expect("a socket can be bound"));
    let _broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &format!("@{name}"))]);
    assert!(manager.hears().starts_with("READY=1\n"));
}

/// It neither keeps the broker from serving nor from ending.
#[test]
fn a_manager_that_reads_nothing_is_not_waited_for() {
    let home = Folder::new();
    let path = home.path.join("notify");
    let _manager = Manager::at(&path);
    let flood = UnixDatagram::unbound().expect("a socket");
    flood.set_nonblocking(true).expect("it can be");
    while flood.send_to(b"full", &path).is_ok() {}
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &path.display().to_string())]);
    broker.logged("can't notify the service manager");
    broker.assert_well();
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", "")]);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert!(status == Some(0) && !log.contains("WARN"), "{log}");
}

/// What another process was handed over is not ours.
#[test]
fn sockets_of_another_process_are_left_alone() {
    for pid in ["", "1", "abc"] {
        let broker = Broker::start_with(&[], &[("LISTEN_FDS", "1"), ("LISTEN_PID", pid)]);
        broker.assert_well();
    }
    Broker::start_with(&[], &[("LISTEN_FDS", "1")]).assert_well();
}

#[test]
fn a_manager_that_is_gone_is_no_reason_not_to_serve() {
    let home = Folder::new();
    let broker = Broker::start_with(&[], &[("NOTIFY_SOCKET", &home.path.join("gone").display().to_string())]);
    broker.logged("can't notify the service manager");
    broker.assert_well();
}
