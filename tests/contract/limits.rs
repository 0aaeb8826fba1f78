//! Connection limits: excess connections wait or are closed, and accepting resumes by itself.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::support::{Broker, Connection, Stream, TIMEOUT};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

/// The beginning of a request, which makes a connection active, and the rest of it.
const HALF: &str = "GET /healthz HTTP/1.1\r\n";
const REST: &str = "Host: h\r\n\r\n";

fn is_served(connection: &mut Connection) -> bool {
    connection.send(HEALTH);
    connection.response().text() == "ok"
}

/// Opens a connection and sends half a request.
fn begin_request(broker: &Broker) -> Connection {
    let mut connection = broker.connect();
    connection.send(HALF);
    connection
}

/// Completes the request in progress, and begins another one.
fn complete_and_begin(connection: &mut Connection) -> bool {
    connection.send([REST, HALF].concat());
    connection.response().text() == "ok"
}

#[test]
fn at_the_limit_connections_wait_until_others_close() {
    for threads in ["1", "3"] {
        let broker = Broker::start(&["--max-connections", "4", "--threads", threads]);
        let mut inside: Vec<_> = (0..4).map(|_| begin_request(&broker)).collect();
        assert!(inside.iter_mut().all(complete_and_begin));
        let mut waiting: Vec<_> = (0..8).map(|_| broker.connect()).collect();
        waiting.iter_mut().for_each(|connection| connection.send([HEALTH, HALF].concat()));
        assert!(waiting.iter_mut().all(|connection| connection.is_silent(Duration::from_millis(10))));
        assert!(inside.iter_mut().all(complete_and_begin), "accepted connections are not affected");
        // Waiting connections are accepted in order, each when another one closes.
        for mut connection in waiting {
            drop(inside.remove(0));
            assert_eq!(connection.response().text(), "ok");
            inside.push(connection);
        }
        drop(inside);
        broker.assert_healthy();
    }
}

#[test]
fn a_disconnected_subscriber_makes_room_for_another_connection() {
    let broker = Broker::start(&["--max-connections", "2", "--max-subscribers", "2", "--threads", "2"]);
    for _ in 0..10 {
        let mut streams: Vec<Stream> = (0..2).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
        streams.iter_mut().for_each(|stream| drop(stream.opening()));
        let mut waiting = broker.connect();
        waiting.send(HEALTH);
        assert!(waiting.is_silent(Duration::from_millis(5)));
        drop(streams.pop());
        assert_eq!(waiting.response().text(), "ok");
    }
    broker.wait_for("the only client", |stats| stats["clients"] == 1);
}

/// Opens a connection as soon as its address has room. A broker that refuses an address can't be asked over it whether a
/// connection has closed.
fn connect_when_accepted(address: SocketAddr) -> Connection {
    let begin = Instant::now();
    loop {
        let mut connection = Connection::open(address);
        connection.send(HEALTH);
        if !connection.is_closed() {
            assert_eq!(connection.response().text(), "ok");
            return connection;
        }
        assert!(begin.elapsed() < TIMEOUT, "the slot is never reused");
    }
}

/// Opens a connection from another loopback address.
pub fn open_from(source: [u8; 4], address: SocketAddr) -> Connection {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((source, 0))).expect("all of 127.0.0.0/8 is ours");
    connect(&socket, &address).expect("the broker accepts");
    Connection::from_socket(socket.into())
}

#[test]
fn each_address_has_its_own_limit() {
    let broker = Broker::start(&["--max-connections-per-ip", "3", "--bind", "0.0.0.0"]);
    let address = SocketAddr::from(([127, 0, 0, 1], broker.address.port()));
    let mut inside: Vec<_> = (0..3).map(|_| connect_when_accepted(address)).collect();
    for _ in 0..5 {
        assert!(Connection::open(address).is_closed(), "the connection above the limit is closed");
    }
    let mut others: Vec<_> = (0..3).map(|_| open_from([127, 0, 0, 2], address)).collect();
    assert!(others.iter_mut().all(is_served), "another address has its own limit");
    assert!(inside.iter_mut().all(is_served), "accepted connections are not affected");
    for _ in 0..20 {
        drop(inside.remove(0));
        inside.push(connect_when_accepted(address));
    }
}

#[test]
fn streams_count_against_the_limit_of_their_address() {
    let broker = Broker::start(&["--max-connections-per-ip", "2", "--threads", "2"]);
    for _ in 0..10 {
        let pair = [connect_when_accepted(broker.address), connect_when_accepted(broker.address)];
        let mut streams = pair.map(|connection| Stream::open(connection, "/subscribe/topicone1", ""));
        streams.iter_mut().for_each(|stream| drop(stream.opening()));
        assert!(broker.connect().is_closed());
    }
}

/// Publishes a body in two parts, the first of which the broker has to buffer.
fn publish_in_pieces(mut connection: Connection, size: usize) -> u16 {
    let body = format!("data: {}", "x".repeat(size));
    connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()));
    connection.send(&body[..size / 2]);
    assert!(connection.is_silent(Duration::from_millis(20)));
    connection.send(&body[size / 2..]);
    connection.response().status
}

#[test]
fn incomplete_bodies_of_one_address_leave_memory_for_others() {
    const SIZE: usize = 1 << 20;
    let broker = Broker::start(&[]);
    let head = format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
    let unfinished = [head.as_bytes(), &vec![b'x'; SIZE - 1]].concat();
    let mut greedy: Vec<_> = (0..150).map(|_| broker.connect()).collect();
    greedy.iter_mut().for_each(|connection| connection.send(&unfinished));
    let share = |metrics: &super::support::Metrics| metrics.labeled("esker_bodies_refused_total", "reason", "share");
    let metrics = broker.metrics_once("refused", |metrics| share(metrics) >= 30.0);
    assert!((119e6..128e6).contains(&metrics.value("esker_bodies_bytes")), "{metrics:?}");
    let answered = greedy.iter_mut().find_map(|connection| {
        let is_answered = !connection.is_silent(Duration::from_millis(1));
        is_answered.then(|| connection.response())
    });
    let refused = answered.expect("some are refused");
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("5")));
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("per client")), "{refused:?}");
    // Other addresses have room for large bodies. So has this address for small ones: several clients may share it.
    assert_eq!(publish_in_pieces(open_from([127, 0, 0, 2], broker.address), SIZE - 10), 200);
    assert_eq!(publish_in_pieces(broker.connect(), 4000), 200);
    let warning = broker.wait_for_log("the memory for request bodies is used up");
    assert!(
        warning.contains(" WARN ") && warning.contains("(first: POST /publish/topicone1 from 127.0.0.1)"),
        "{warning}"
    );
    assert_eq!(broker.metrics().labeled("esker_bodies_refused_total", "reason", "memory"), 0.0);
}

/// Returns the binary as a command that runs after `ulimit` with these arguments.
fn with_ulimit(limit: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_esker")]).env("ESKER_DATA", ":memory:");
    command
}

#[test]
fn too_few_descriptors_are_refused_at_startup() {
    let output = with_ulimit("-n 20").args(["--no-auth", "--port", "0"]).output().expect("sh runs");
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("ulimit -n"), "{log}");
}

/// The broker lowers its own limit so that descriptors never run out, whatever the options say.
#[test]
fn few_descriptors_lower_the_connection_limit() {
    for arguments in [&["--threads", "2"][..], &["--threads", "2", "--max-connections", "1000000"]] {
        let broker = Broker::start_command(with_ulimit("-n 64"), arguments);
        let mut clients: Vec<_> = (0..100).map(|_| broker.connect()).collect();
        clients.iter_mut().for_each(|connection| connection.send(HEALTH));
        for mut connection in clients {
            assert_eq!(connection.response().text(), "ok");
        }
        broker.assert_healthy();
        broker.signal("TERM");
        let (code, log) = broker.wait();
        assert!(code == Some(0) && !log.contains("accepting connections fails"), "{log}");
    }
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let broker = Broker::start_command(with_ulimit("-S -n 64"), &["--threads", "2"]);
    let mut clients: Vec<_> = (0..100).map(|_| broker.connect()).collect();
    assert!(clients.iter_mut().all(is_served));
}

/// Sets the running broker's soft limit of descriptors; the hard limit stays.
fn set_descriptors(broker: &Broker, current: u64) {
    let pid = Pid::from_raw(i32::try_from(broker.pid()).expect("a pid is small"));
    let limit = Rlimit { current: Some(current), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(pid, Resource::Nofile, limit).expect("a child's limit can be set");
}

/// Returns the number that the broker's next descriptor would get. It may have inherited some with large numbers.
fn next_descriptor(broker: &Broker) -> u64 {
    let is_free = |number: &u64| !std::path::Path::new(&format!("/proc/{}/fd/{number}", broker.pid())).is_symlink();
    (0..).find(is_free).expect("some number is free")
}

/// The connection that has been idle longest is closed for one that waits, but never one with a request in progress or one that
/// has not sent its first request yet.
#[test]
fn an_idle_connection_makes_room_for_a_waiting_one() {
    let broker = Broker::start(&["--max-connections", "5", "--threads", "1"]);
    let mut idle: Vec<_> = (0..3).map(|_| broker.connect()).collect();
    for connection in &mut idle {
        assert!(is_served(connection));
        // Idle times are compared in milliseconds.
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut busy, mut silent) = (begin_request(&broker), broker.connect());
    for mut oldest in idle {
        let mut new_client = begin_request(&broker);
        assert!(complete_and_begin(&mut new_client));
        assert!(oldest.is_closed());
        assert!(complete_and_begin(&mut new_client) && complete_and_begin(&mut busy));
        std::mem::forget(new_client);
    }
    let mut waiting = broker.connect();
    waiting.send(HEALTH);
    assert!(waiting.is_silent(Duration::from_millis(50)), "no connection is idle");
    assert!(is_served(&mut silent));
    assert_eq!(waiting.response().text(), "ok", "one connection is idle now");
    assert!(silent.is_closed() && complete_and_begin(&mut busy));
}

#[test]
fn idle_connections_of_every_worker_make_room() {
    let broker = Broker::start(&["--max-connections", "4", "--threads", "3"]);
    let mut before: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    assert!(before.iter_mut().all(is_served));
    let mut after: Vec<_> = (0..4).map(|_| begin_request(&broker)).collect();
    assert!(after.iter_mut().all(complete_and_begin));
    assert!(before.iter_mut().all(Connection::is_closed), "no client disconnected by itself");
    drop(after);
    assert_eq!(broker.metrics().value("esker_connections_idle_closed_total"), 4.0);
}

/// Descriptors that the broker counted on are taken away.
#[test]
fn accepting_resumes_after_descriptors_ran_out() {
    let broker = Broker::start(&["--threads", "2", "--heartbeat", "200ms"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let mut inside: Vec<_> = (0..4).map(|_| begin_request(&broker)).collect();
    assert!(inside.iter_mut().all(complete_and_begin));
    set_descriptors(&broker, next_descriptor(&broker));
    let mut waiting: Vec<_> = (0..8).map(|_| broker.connect()).collect();
    waiting.iter_mut().for_each(|connection| connection.send([HEALTH, HALF].concat()));
    assert!(waiting.iter_mut().all(|connection| connection.is_silent(Duration::from_millis(10))));
    assert!(inside.iter_mut().all(complete_and_begin), "accepted connections are not affected");
    assert_eq!(stream.chunk().as_deref(), Some(":\n"));
    drop(inside.pop());
    assert_eq!(waiting.remove(0).response().text(), "ok", "a closed connection makes room");
    set_descriptors(&broker, 1000);
    for mut connection in waiting {
        assert_eq!(connection.response().text(), "ok", "and so does a higher limit");
    }
    broker.signal("TERM");
    let (code, log) = broker.wait();
    let fails = "accepting connections fails (first: Too many open files";
    assert_eq!((code, log.contains(fails)), (Some(0), true), "{log}");
    assert!(log.lines().count() < 20, "{log}");
}

/// Returns as many distinct names, as long, as a request target can hold.
fn many_names(stream: usize) -> String {
    let names: Vec<_> = (0..31).map(|number| format!("event={stream:04}{number:0240}")).collect();
    format!("/events?{}", names.join("&"))
}

#[test]
fn names_kept_by_streams_are_bounded_and_deduplicated() {
    // 1 MiB is the smallest limit for names.
    let broker = Broker::start(&["--latest-bytes", "1M", "--threads", "1"]);
    let mut streams = Vec::new();
    let turned_away = loop {
        let mut stream = broker.subscribe(&many_names(streams.len()), "");
        let opening = stream.opening();
        if !opening.starts_with(":\n") {
            break (stream, opening);
        }
        streams.push(stream);
        assert!(streams.len() < 200, "there is no bound");
    };
    let (mut stream, opening) = turned_away;
    assert!(opening.starts_with(": the names that streams of records are limited to"), "{opening}");
    assert!(opening.contains("\nretry: ") && stream.chunk().is_none(), "no reconnection time: {opening}");
    let metrics = broker.metrics();
    assert_eq!(metrics.labeled("esker_streams_turned_away_total", "reason", "names"), 1.0);
    let warning = broker.wait_for_log("the limit on names in /events?event=");
    assert!(warning.contains(" is reached (first: GET /events from 127.0.0.1)"), "{warning}");
    let bytes = metrics.value("esker_subscribed_name_bytes");
    assert!(bytes > f64::from(900 << 10) && bytes <= f64::from(1 << 20), "{bytes}");
    for target in [&many_names(0), "/events"] {
        assert!(broker.subscribe(target, "").opening().starts_with(":\n"), "{target} needs no more memory");
    }
    assert_eq!(broker.metrics().value("esker_subscribed_name_bytes"), bytes);
    drop(streams);
    broker.metrics_once("free of names", |metrics| metrics.value("esker_subscribed_name_bytes") == 0.0);
    assert!(broker.subscribe(&many_names(1000), "").opening().starts_with(":\n"));
}
