//! Listening addresses: several at once, dual-stack sockets, Unix sockets, and the admin address with its own routes and
//! limits.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::support::tokens::{self, SECRETS};
use super::support::{Broker, Connection, Response, Stream, TempDir, addresses, command, run};

/// Opens a connection to a Unix socket. [`Connection`] uses system calls that work on any socket.
pub fn connect_unix(path: &Path) -> Connection {
    let socket = UnixStream::connect(path).expect("the broker accepts");
    Connection::from_socket(TcpStream::from(OwnedFd::from(socket)))
}

fn send_request(mut connection: Connection, method: &str, target: &str, rest: &str) -> Response {
    connection.send(format!("{method} {target} HTTP/1.1\r\nHost: esker\r\n{rest}"));
    connection.response()
}

fn get(connection: Connection, target: &str) -> Response {
    send_request(connection, "GET", target, "\r\n")
}

fn unix_url(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[test]
fn a_unix_socket_works_and_is_removed_after_the_stop() {
    let home = TempDir::new();
    let path = home.path.join("esker.sock");
    let broker = Broker::start(&["--listen", &unix_url(&path), "--unix-mode", "600"]);
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let mut stream = Stream::open(connect_unix(&path), "/subscribe/topicone1", "");
    let published =
        send_request(connect_unix(&path), "POST", "/publish/topicone1", "Content-Length: 11\r\n\r\ndata: hello");
    assert_eq!((published.status, published.json()["subscribers"].as_u64()), (200, Some(1)));
    assert_eq!(stream.event().data.as_deref(), Some("hello"));
    broker.publish("topicone1", "data: through the other listener");
    assert_eq!(stream.event().data.as_deref(), Some("through the other listener"));
    drop(stream);
    broker.wait_for("the end noticed", |stats| stats["subscribers"] == 0);
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    assert!(!path.exists());
}

/// A Unix socket's buffers behave differently from TCP's; data that doesn't fit must still arrive.
#[test]
fn a_slow_reader_of_a_unix_socket_catches_up() {
    let home = TempDir::new();
    let path = home.path.join("esker.sock");
    let broker = Broker::start(&["--listen", &unix_url(&path), "--history", "100000"]);
    let mut stream = Stream::open(connect_unix(&path), "/subscribe/topicone1", "");
    let data = "x".repeat(10_000);
    (0..200).for_each(|number| drop(broker.publish("topicone1", &format!("data: {number} {data}"))));
    broker.wait_for("a full socket", |stats| stats["subscribers_stalled"] == 1);
    for number in 0..200 {
        assert_eq!(stream.event().data, Some(format!("{number} {data}")));
    }
    broker.publish("topicone1", "data: live");
    assert_eq!(stream.event().data.as_deref(), Some("live"));
}

#[test]
fn only_an_abandoned_unix_socket_is_replaced() {
    let home = TempDir::new();
    let path = home.path.join("esker.sock");
    let listen = unix_url(&path);
    let first = Broker::start_listening(command(&[]), &["--listen", &listen]);
    let second = run(&["--no-auth", "--listen", &listen], &[]);
    assert!(second.0 == Some(1) && second.2.contains("in use"), "{second:?}");
    assert_eq!(get(connect_unix(&path), "/healthz").status, 200, "the first broker still listens");
    first.signal("KILL");
    first.wait();
    assert!(path.exists());
    let third = Broker::start_listening(command(&[]), &["--listen", &listen]);
    assert_eq!(get(connect_unix(&path), "/healthz").status, 200);
    // Another program has created a file at the path.
    std::fs::remove_file(&path).expect("it can be removed");
    std::fs::write(&path, "another's").expect("a file can be written");
    third.signal("TERM");
    assert_eq!(third.wait().0, Some(0));
    assert_eq!(std::fs::read(&path).expect("it is still there"), b"another's");
    let fourth = run(&["--no-auth", "--listen", &listen], &[]);
    assert!(fourth.0 == Some(1) && fourth.2.contains("not a socket"), "{fourth:?}");
}

/// Open connections keep a drain going for seconds, during which a new broker may start at the same path.
#[test]
fn a_draining_broker_keeps_the_socket_of_its_successor() {
    let home = TempDir::new();
    let path = home.path.join("esker.sock");
    let listen = unix_url(&path);
    for _ in 0..3 {
        let old = Broker::start(&["--listen", &listen]);
        let mut held = old.connect();
        held.send("POST /publish/topicone1 HTTP/1.1\r\nHost: esker\r\nContent-Length: 7\r\n\r\ndata");
        old.wait_for("the request", |stats| stats["requests"].as_u64() > Some(1));
        old.signal("TERM");
        while UnixStream::connect(&path).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let is_gone = !path.exists();
        let new = Broker::start(&["--listen", &listen]);
        held.send(": x");
        assert_eq!(held.response().status, 503);
        assert_eq!(old.wait().0, Some(0));
        assert!(path.exists(), "the old broker removed the new one's socket");
        assert_eq!(get(connect_unix(&path), "/healthz").status, 200);
        assert!(is_gone, "the broker removes the socket file when it stops listening");
        drop(new);
    }
}

#[test]
fn the_dual_stack_address_accepts_ipv4_and_ipv6() {
    let broker = Broker::start_listening(command(&[]), &["--listen", "[::]:0", "--max-connections-per-ip", "2"]);
    let port = broker.address.port();
    let at = |ip: &str| Connection::open(format!("{ip}:{port}").parse().expect("an address"));
    let stats = |ip: &str| get(at(ip), "/stats").json();
    assert_eq!(stats("127.0.0.1")["connections_accepted"], 1);
    assert!(stats("[::1]")["connections_accepted"].as_u64() > Some(1));
    // The limit counts 127.0.0.2 and 127.0.0.1 separately, though both arrive as IPv6 addresses.
    let held = [at("127.0.0.1"), at("127.0.0.1")];
    assert_eq!(get(at("[::1]"), "/healthz").status, 200);
    assert!(is_closed_unanswered(at("127.0.0.1")), "the third connection of an address");
    drop(held);
}

/// Returns whether the broker closes a connection without a response.
fn is_closed_unanswered(mut connection: Connection) -> bool {
    connection.send("GET /healthz HTTP/1.1\r\nHost: esker\r\n\r\n");
    let mut byte = [0];
    std::io::Read::read(&mut connection.socket, &mut byte).map_or(true, |count| count == 0)
}

#[test]
fn all_addresses_are_listened_on_and_logged() {
    let home = TempDir::new();
    let path = home.path.join("a");
    let listen = format!("127.0.0.2:0,{},[::1]:0", unix_url(&path));
    let broker = Broker::start_listening(command(&[("ESKER_LISTEN", &listen)]), &[]);
    assert_eq!(broker.address.ip().to_string(), "127.0.0.2", "the option replaces the default address");
    assert_eq!(get(connect_unix(&path), "/healthz").status, 200);
    broker.assert_healthy();
}

#[test]
fn both_wildcards_may_share_a_port() {
    let broker = Broker::start_listening(command(&[]), &["--listen", "0.0.0.0:0"]);
    let port = broker.address.port();
    drop(broker);
    let (four, six) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
    let broker = Broker::start_listening(command(&[]), &["--listen", &four, "--listen", &six]);
    for ip in ["127.0.0.1", "[::1]"] {
        let address: SocketAddr = format!("{ip}:{port}").parse().expect("an address");
        assert_eq!(get(Connection::open(address), "/healthz").status, 200);
    }
    drop(broker);
}

#[test]
fn addresses_that_cannot_be_bound_are_reported() {
    let long = format!("unix:/tmp/{}", "x".repeat(120));
    for (arguments, status, part) in [
        (&["--listen", "localhost:3000"][..], 2, "IP:PORT"),
        (&["--listen", "unix:"], 2, "unix:/PATH"),
        (&["--listen", "unix:@abstract"], 2, "unix:/PATH"),
        (&["--admin", "9000"], 2, "IP:PORT"),
        (&["--unix-mode", "rw"], 2, "octal"),
        (&["--listen", &long], 1, "can't listen on unix:/tmp/xxx"),
        (&["--listen", "unix:/nowhere/esker.sock"], 1, "No such file"),
        (&["--listen", "192.0.2.1:3000"], 1, "can't listen on http://192.0.2.1:3000"),
        (&["--listen", &["127.0.0.1:0"; 33].join(",")], 2, "at most 32"),
    ] {
        let ended = run(&[&["--no-auth"], arguments].concat(), &[]);
        assert!(ended.0 == Some(status) && ended.2.contains(part), "{arguments:?}: {ended:?}");
    }
}

/// Starts a broker with an admin address, and returns both.
fn with_admin(arguments: &[&str], environment: &[(&str, &str)]) -> (Broker, SocketAddr) {
    // The broker could choose a port, but only its log would say which.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let admin = free.expect("a port is free");
    let admin_text = admin.to_string();
    let arguments = [arguments, &["--admin", &admin_text]].concat();
    let broker = match environment {
        [] => Broker::start(&arguments),
        _ => Broker::start_with_tokens(&arguments, environment),
    };
    (broker, admin)
}

#[test]
fn admin_routes_move_to_the_admin_address() {
    let (broker, admin) = with_admin(&[], &[]);
    for target in ["/stats", "/metrics", "/topics", "/topics/topicone1", "/healthz", "/livez"] {
        let there = get(Connection::open(admin), target);
        assert_eq!(there.status, 200, "{there:?}");
        let here = broker.get(target);
        assert!(here.status == 404 && here.text().contains("--admin"), "{here:?}");
    }
    for target in ["/events", "/subscribe/topicone1", "/audit/user", "/"] {
        assert_eq!(get(Connection::open(admin), target).status, 404, "{target}");
    }
    let publish =
        send_request(Connection::open(admin), "POST", "/publish/topicone1", "Content-Length: 7\r\n\r\ndata: x");
    assert_eq!(publish.status, 404);
    let options = send_request(Connection::open(admin), "OPTIONS", "/stats", "\r\n");
    assert_eq!((options.status, options.field("Allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(broker.publish("topicone1", "data: x")["events"], 1);
}

#[test]
fn the_admin_address_requires_tokens() {
    let (_broker, admin) = with_admin(&[], &SECRETS);
    assert_eq!(get(Connection::open(admin), "/healthz").status, 200);
    for path in ["/stats", "/metrics", "/topics"] {
        assert_eq!(get(Connection::open(admin), path).status, 401);
        let target = format!("{path}?token={}", tokens::publisher("stats"));
        assert_eq!(get(Connection::open(admin), &target).status, 200);
    }
}

/// Health checks still get through to a full broker. The admin address has a limit of its own.
#[test]
fn the_admin_address_has_its_own_connection_limit() {
    let (broker, admin) = with_admin(&["--max-connections", "4"], &[]);
    let held: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    let stats = || get(Connection::open(admin), "/stats");
    // Connections to the admin address don't count.
    while stats().json()["clients"].as_u64() < Some(4) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut waiting = broker.connect();
    waiting.send("GET /events HTTP/1.1\r\nHost: esker\r\n\r\n");
    assert_eq!(stats().status, 200);
    assert_eq!(stats().json()["clients"], 4);
    let idle: Vec<_> = (0..200).map(|_| Connection::open(admin)).collect();
    drop(held);
    assert!(waiting.head().starts_with("HTTP/1.1 200"), "admin connections don't count against the limit");
    // New connections wait behind silent ones, but silent ones are closed soon.
    assert_eq!(stats().status, 200, "the admin address recovers by itself");
    drop(idle);
}

/// A connection with half a request keeps the drain going.
#[test]
fn the_drain_is_visible_at_the_admin_address() {
    let (broker, admin) = with_admin(&[], &[]);
    let mut slow = broker.connect();
    slow.send("POST /publish/topicone1 HTTP/1.1\r\nHost: esker\r\nContent-Length: 7\r\n\r\nda");
    let mut idle = Connection::open(admin);
    idle.send("GET /stats HTTP/1.1\r\nHost: esker\r\n\r\n");
    while idle.response().json()["clients"] != 1 {
        idle.send("GET /stats HTTP/1.1\r\nHost: esker\r\n\r\n");
    }
    broker.signal("TERM");
    broker.wait_for_log("draining");
    while get(Connection::open(admin), "/healthz").status == 200 {}
    assert_eq!(get(Connection::open(admin), "/stats").json()["draining"], true);
    assert_eq!(get(Connection::open(admin), "/healthz").status, 503);
    let begin = std::time::Instant::now();
    slow.send("ta: x");
    assert_eq!(slow.response().status, 503);
    drop(slow);
    assert_eq!(broker.wait().0, Some(0));
    assert!(begin.elapsed() < std::time::Duration::from_secs(5), "an idle connection delays the drain");
}

#[test]
fn the_log_names_the_admin_address() {
    let home = TempDir::new();
    let admin = unix_url(&home.path.join("admin"));
    let mut command = command(&[]);
    let output = command.args(["--no-auth", "--port", "0", "--admin", &admin]).stderr(std::process::Stdio::piped());
    let mut child = output.spawn().expect("the binary starts");
    let log = std::io::BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut lines = std::io::BufRead::lines(log).map(|line| line.expect("the log is UTF-8"));
    let line = lines.find(|line| line.contains("listens on")).expect("it listens");
    let _ = (child.kill(), child.wait());
    assert_eq!(addresses(&line).len(), 1, "{line}");
    assert!(line.contains(&format!("and for administration on {admin} with")), "{line}");
}
