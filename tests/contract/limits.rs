//! Bounds on connections: whoever comes too many waits or is closed, and accepting goes on by itself.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::support::{Broker, Connection, PATIENCE, Stream};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

/// The beginning of a request, after which a connection is not idle, and the rest of it.
const HALF: &str = "GET /healthz HTTP/1.1\r\n";
const REST: &str = "Host: h\r\n\r\n";

fn is_served(connection: &mut Connection) -> bool {
    connection.send(HEALTH);
    connection.response().text() == "ok"
}

/// A connection with a request under way.
fn begin(broker: &Broker) -> Connection {
    let mut connection = broker.connect();
    connection.send(HALF);
    connection
}

/// Completes the request that is under way, and begins another one.
fn goes_on(connection: &mut Connection) -> bool {
    connection.send([REST, HALF].concat());
    connection.response().text() == "ok"
}

#[test]
fn at_the_limit_connections_wait_and_are_served_when_others_leave() {
    for threads in ["1", "3"] {
        let broker = Broker::start(&["--max-connections", "4", "--threads", threads]);
        let mut inside: Vec<_> = (0..4).map(|_| begin(&broker)).collect();
        assert!(inside.iter_mut().all(goes_on));
        let mut waiting: Vec<_> = (0..8).map(|_| broker.connect()).collect();
        waiting.iter_mut().for_each(|connection| connection.send([HEALTH, HALF].concat()));
        assert!(waiting.iter_mut().all(|connection| connection.is_silent(Duration::from_millis(10))));
        assert!(inside.iter_mut().all(goes_on), "those inside suffer nothing");
        // In the order in which they came, each takes the place of one that leaves.
        for mut connection in waiting {
            drop(inside.remove(0));
            assert_eq!(connection.response().text(), "ok");
            inside.push(connection);
        }
        drop(inside);
        broker.assert_well();
    }
}

#[test]
fn the_place_of_a_subscriber_that_leaves_is_given_on() {
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
    broker.wait_for("alone", |stats| stats["clients"] == 1);
}

/// A connection that is served, as soon as its address has a place: a broker that shuts its address out can't be
/// asked whether it has noticed that somebody left.
fn enter(address: SocketAddr) -> Connection {
    let begin = Instant::now();
    loop {
        let mut connection = Connection::open(address);
        connection.send(HEALTH);
        if !connection.is_closed() {
            assert_eq!(connection.response().text(), "ok");
            return connection;
        }
        assert!(begin.elapsed() < PATIENCE, "the place is never given on");
    }
}

/// A connection from another of this machine's addresses.
pub fn open_from(source: [u8; 4], address: SocketAddr) -> Connection {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((source, 0))).expect("all of 127.0.0.0/8 is ours");
    connect(&socket, &address).expect("the broker accepts");
    Connection::over(socket.into())
}

#[test]
fn an_address_has_its_own_limit() {
    let broker = Broker::start(&["--max-connections-per-ip", "3", "--bind", "0.0.0.0"]);
    let address = SocketAddr::from(([127, 0, 0, 1], broker.address.port()));
    let mut inside: Vec<_> = (0..3).map(|_| enter(address)).collect();
    for _ in 0..5 {
        assert!(Connection::open(address).is_closed(), "one too many is closed");
    }
    let mut others: Vec<_> = (0..3).map(|_| open_from([127, 0, 0, 2], address)).collect();
    assert!(others.iter_mut().all(is_served), "another address has its own places");
    assert!(inside.iter_mut().all(is_served), "those inside suffer nothing");
    for _ in 0..20 {
        drop(inside.remove(0));
        inside.push(enter(address));
    }
}

#[test]
fn streams_count_for_their_address_as_long_as_they_last() {
    let broker = Broker::start(&["--max-connections-per-ip", "2", "--threads", "2"]);
    for _ in 0..10 {
        let pair = [enter(broker.address), enter(broker.address)];
        let mut streams = pair.map(|connection| Stream::open(connection, "/subscribe/topicone1", ""));
        streams.iter_mut().for_each(|stream| drop(stream.opening()));
        assert!(broker.connect().is_closed());
    }
}

/// Publishes in two pieces, of which the broker has to keep the first.
fn publish_in_pieces(mut connection: Connection, size: usize) -> u16 {
    let body = format!("data: {}", "x".repeat(size));
    connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()));
    connection.send(&body[..size / 2]);
    assert!(connection.is_silent(Duration::from_millis(20)));
    connection.send(&body[size / 2..]);
    connection.response().status
}

#[test]
fn unfinished_bodies_of_one_address_leave_room_for_others() {
    const SIZE: usize = 1 << 20;
    let broker = Broker::start(&[]);
    let head = format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n");
    let unfinished = [head.as_bytes(), &vec![b'x'; SIZE - 1]].concat();
    let mut greedy: Vec<_> = (0..150).map(|_| broker.connect()).collect();
    greedy.iter_mut().for_each(|connection| connection.send(&unfinished));
    let share = |metrics: &super::support::Metrics| metrics.by("esker_bodies_refused_total", "reason", "share");
    let metrics = broker.metrics_once("refused", |metrics| share(metrics) >= 30.0);
    assert!((119e6..128e6).contains(&metrics.of("esker_bodies_bytes")), "{metrics:?}");
    let answered = greedy.iter_mut().find_map(|connection| {
        let is_answered = !connection.is_silent(Duration::from_millis(1));
        is_answered.then(|| connection.response())
    });
    let refused = answered.expect("some are refused");
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("5")));
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("per client")), "{refused:?}");
    // Others have room for large bodies, and the same address for small ones: others may be behind it.
    assert_eq!(publish_in_pieces(open_from([127, 0, 0, 2], broker.address), SIZE - 10), 200);
    assert_eq!(publish_in_pieces(broker.connect(), 4000), 200);
    assert_eq!(broker.metrics().by("esker_bodies_refused_total", "reason", "memory"), 0.0);
}

/// The binary after a `ulimit` with these arguments.
fn limited(limit: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_esker")]).env("ESKER_DATA", ":memory:");
    command
}

#[test]
fn too_few_descriptors_to_be_of_use() {
    let output = limited("-n 20").args(["--no-auth", "--port", "0"]).output().expect("sh runs");
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("ulimit -n"), "{log}");
}

/// The broker takes in so many that it never runs out, whatever it is told.
#[test]
fn few_descriptors_are_shared_out() {
    for arguments in [&["--threads", "2"][..], &["--threads", "2", "--max-connections", "1000000"]] {
        let broker = Broker::start_as(limited("-n 64"), arguments);
        let mut clients: Vec<_> = (0..100).map(|_| broker.connect()).collect();
        clients.iter_mut().for_each(|connection| connection.send(HEALTH));
        for mut connection in clients {
            assert_eq!(connection.response().text(), "ok");
        }
        broker.assert_well();
        broker.signal("TERM");
        let (code, log) = broker.wait();
        assert!(code == Some(0) && !log.contains("can't accept"), "{log}");
    }
}

#[test]
fn the_soft_limit_of_descriptors_is_none() {
    let broker = Broker::start_as(limited("-S -n 64"), &["--threads", "2"]);
    let mut clients: Vec<_> = (0..100).map(|_| broker.connect()).collect();
    assert!(clients.iter_mut().all(is_served));
}

/// Lowers or raises the running broker's soft limit; the hard one stays.
fn set_descriptors(broker: &Broker, current: u64) {
    let pid = Pid::from_raw(i32::try_from(broker.pid()).expect("a pid is small"));
    let limit = Rlimit { current: Some(current), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(pid, Resource::Nofile, limit).expect("a child's limit can be set");
}

/// The number that the broker's next descriptor would get; it may have inherited some with large numbers.
fn next_descriptor(broker: &Broker) -> u64 {
    let is_free = |number: &u64| !std::path::Path::new(&format!("/proc/{}/fd/{number}", broker.pid())).is_symlink();
    (0..).find(is_free).expect("some number is free")
}

/// The longest idle connection is closed for one that waits; never one with a request under way, or that has yet to send its
/// first.
#[test]
fn an_idle_connection_makes_room_for_one_that_waits() {
    let broker = Broker::start(&["--max-connections", "5", "--threads", "1"]);
    let mut idle: Vec<_> = (0..3).map(|_| broker.connect()).collect();
    for connection in &mut idle {
        assert!(is_served(connection));
        // The idle times are told apart by milliseconds.
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut busy, mut silent) = (begin(&broker), broker.connect());
    for mut oldest in idle {
        let mut newcomer = begin(&broker);
        assert!(goes_on(&mut newcomer));
        assert!(oldest.is_closed());
        assert!(goes_on(&mut newcomer) && goes_on(&mut busy));
        std::mem::forget(newcomer);
    }
    let mut waiting = broker.connect();
    waiting.send(HEALTH);
    assert!(waiting.is_silent(Duration::from_millis(50)), "nobody is idle");
    assert!(is_served(&mut silent));
    assert_eq!(waiting.response().text(), "ok", "now somebody is");
    assert!(silent.is_closed() && goes_on(&mut busy));
}

#[test]
fn idle_connections_make_room_whichever_worker_has_them() {
    let broker = Broker::start(&["--max-connections", "4", "--threads", "3"]);
    let mut before: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    assert!(before.iter_mut().all(is_served));
    let mut after: Vec<_> = (0..4).map(|_| begin(&broker)).collect();
    assert!(after.iter_mut().all(goes_on));
    assert!(before.iter_mut().all(Connection::is_closed), "nobody has left by itself");
    drop(after);
    assert_eq!(broker.metrics().of("esker_connections_idle_closed_total"), 4.0);
}

/// Something else takes the descriptors away that the broker reckoned with.
#[test]
fn accepting_goes_on_after_the_descriptors_ran_out() {
    let broker = Broker::start(&["--threads", "2", "--heartbeat", "200ms"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let mut inside: Vec<_> = (0..4).map(|_| begin(&broker)).collect();
    assert!(inside.iter_mut().all(goes_on));
    set_descriptors(&broker, next_descriptor(&broker));
    let mut waiting: Vec<_> = (0..8).map(|_| broker.connect()).collect();
    waiting.iter_mut().for_each(|connection| connection.send([HEALTH, HALF].concat()));
    assert!(waiting.iter_mut().all(|connection| connection.is_silent(Duration::from_millis(10))));
    assert!(inside.iter_mut().all(goes_on), "those inside suffer nothing");
    assert_eq!(stream.chunk().as_deref(), Some(":\n"));
    drop(inside.pop());
    assert_eq!(waiting.remove(0).response().text(), "ok", "there is room when one leaves");
    set_descriptors(&broker, 1000);
    for mut connection in waiting {
        assert_eq!(connection.response().text(), "ok", "and when the system has some again");
    }
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!((code, log.contains("can't accept")), (Some(0), true), "{log}");
    assert!(log.lines().count() < 20, "{log}");
}

/// The names of a stream that are as many and as long as a target can have.
fn many_names(stream: usize) -> String {
    let names: Vec<_> = (0..31).map(|number| format!("event={stream:04}{number:0240}")).collect();
    format!("/events?{}", names.join("&"))
}

#[test]
fn the_names_that_streams_keep_have_a_bound_and_equal_ones_are_kept_once() {
    // A mebibyte is the least that there is for names.
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
    assert!(opening.contains("\nretry: ") && stream.chunk().is_none(), "it is to come back: {opening}");
    let metrics = broker.metrics();
    assert_eq!(metrics.by("esker_streams_turned_away_total", "reason", "names"), 1.0);
    let bytes = metrics.of("esker_subscribed_name_bytes");
    assert!(bytes > f64::from(900 << 10) && bytes <= f64::from(1 << 20), "{bytes}");
    for target in [&many_names(0), "/events"] {
        assert!(broker.subscribe(target, "").opening().starts_with(":\n"), "{target} takes nothing more");
    }
    assert_eq!(broker.metrics().of("esker_subscribed_name_bytes"), bytes);
    drop(streams);
    broker.metrics_once("rid of the names", |metrics| metrics.of("esker_subscribed_name_bytes") == 0.0);
    assert!(broker.subscribe(&many_names(1000), "").opening().starts_with(":\n"));
}
