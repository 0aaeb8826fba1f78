//! `--drain` spreads the end of streams over some time, so that not all clients reconnect at once.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime};

use super::support::{Broker, Connection, Crowd, Stream, run};

/// Longer than any test.
const LONG: [&str; 4] = ["--drain", "1h", "--threads", "1"];

fn join(broker: &Broker, count: usize) -> Crowd {
    let mut crowd = Crowd::new();
    crowd.join(broker.address, count, |_| "/subscribe/topicone1".to_owned());
    crowd
}

fn ended(crowd: &Crowd) -> usize {
    crowd.all().iter().filter(|member| member.has_ended).count()
}

/// A slow machine can only delay the end of a stream, so these limits hold on every machine.
#[test]
fn streams_end_spread_over_the_time() {
    const STREAMS: usize = 200;
    const THREADS: usize = 2;
    const TIME: Duration = Duration::from_secs(2);
    let broker = Broker::start(&["--drain", "2s", "--threads", "2"]);
    let mut crowd = join(&broker, STREAMS);
    let begin = SystemTime::now();
    broker.signal("TERM");
    crowd.read_until("ended", |crowd| ended(crowd) == STREAMS);
    assert_eq!(broker.wait().0, Some(0));
    let ends = crowd.all().iter().map(|member| member.ended_at.expect("it has ended"));
    let mut ends: Vec<_> = ends.map(|end| end.duration_since(begin).expect("the clock does not go back")).collect();
    ends.sort_unstable();
    for (before, end) in ends.into_iter().enumerate() {
        // In each thread, one stream may end early by up to one interval; the thread's clock counts milliseconds.
        let early = before.saturating_sub(THREADS) as u32;
        let earliest = (TIME * early / STREAMS as u32).saturating_sub(Duration::from_millis(2));
        assert!(end >= earliest, "{} streams have ended after {end:?}", before + 1);
    }
}

/// Also without an engine, a stream that has not ended is a whole stream.
#[test]
fn streams_go_on_until_their_turn() {
    let broker = Broker::start(&[&LONG[..], &["--heartbeat", "50ms", "--admin", "127.0.0.1:0"]].concat());
    let admin = broker.addresses[1];
    let mut crowd = join(&broker, 20);
    broker.signal("TERM");
    broker.wait_for_log("within 3610s");
    let beats: Vec<_> = crowd.all().iter().map(|member| member.heartbeats).collect();
    // The first stream of a thread may end at any time.
    crowd.read_until("got heartbeats", |crowd| {
        let mut pairs = crowd.all().iter().zip(&beats);
        pairs.all(|(member, before)| member.has_ended || member.heartbeats >= before + 3)
    });
    assert!(ended(&crowd) <= 1, "{} have ended", ended(&crowd));
    let mut health = Connection::open(admin);
    health.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(health.response().status, 503);
    broker.signal("INT");
    assert_eq!(broker.wait().0, Some(1), "a second signal exits immediately");
}

#[test]
fn meanwhile_publishes_are_refused_and_new_streams_told_to_reconnect() {
    let broker = Broker::start(&[&LONG[..], &["--request-timeout", "1h"]].concat());
    let _crowd = join(&broker, 2);
    let mut idle = broker.connect();
    idle.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.response().status, 200);
    let begun = |half: &str| {
        let mut connection = broker.connect();
        connection.send(half);
        connection
    };
    let mut publishing = begun("POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\nda");
    let mut inserting = begun("POST /insert HTTP/1.1\r\nHost: localhost\r\nContent-Length: 22\r\n\r\n{\"event\":");
    let mut subscribing = begun("GET /subscribe/topicone1 HTTP/1.1\r\n");
    broker.wait_for("connected", |stats| stats["clients"] == 7);
    broker.signal("TERM");
    assert!(idle.is_closed(), "a connection between two requests is closed");
    assert!(TcpStream::connect(broker.address).is_err(), "no new connection is accepted");
    publishing.send("ta: x");
    inserting.send("\"a\",\"data\":1}");
    for connection in [&mut publishing, &mut inserting] {
        let response = connection.response();
        assert_eq!(response.status, 503, "{response:?}");
        assert!(response.field("Retry-After").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{response:?}");
        assert!(connection.is_closed());
    }
    subscribing.send("Host: localhost\r\n\r\n");
    let mut stream = Stream::begin(subscribing);
    let retry = stream.opening().lines().find_map(|line| line.strip_prefix("retry: ")?.parse::<u64>().ok());
    assert!(retry.is_some_and(|retry| (5_000..=15_000).contains(&retry)), "{retry:?}");
    assert_eq!(stream.chunk(), None);
}

#[test]
fn without_streams_there_is_nothing_to_wait_for() {
    let broker = Broker::start(&LONG);
    drop(join(&broker, 3));
    broker.wait_for("left", |stats| stats["subscribers"] == 0);
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
}

/// Clients that disconnect by themselves leave nothing to wait for either.
#[test]
fn a_drain_ends_with_the_last_stream() {
    let broker = Broker::start(&LONG);
    let crowd = join(&broker, 3);
    broker.signal("TERM");
    broker.wait_for_log("draining");
    drop(crowd);
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn a_drain_of_more_than_an_hour_is_refused() {
    let (code, _, err) = run(&["--no-auth", "--port", "0", "--drain", "61m"], &[]);
    assert!(code == Some(2) && err.contains("--drain must be at most 1h"), "{code:?} {err}");
    let (code, _, err) = run(&["--no-auth", "--port", "0", "--drain", "soon"], &[]);
    assert!(code == Some(2) && err.contains("--drain can't be \"soon\""), "{code:?} {err}");
}

/// Connects and publishes again and again, until the broker refuses connections. Returns how often there was no response.
fn knock(address: SocketAddr) -> usize {
    let mut unanswered = 0;
    while let Ok(socket) = TcpStream::connect(address) {
        let mut connection = Connection::from_socket(socket);
        let request = "POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\ndata: x";
        let is_sent = connection.socket.write_all(request.as_bytes()).is_ok();
        unanswered += usize::from(!is_sent || connection.response_or_end().is_none());
    }
    unanswered
}

/// A proxy can't know whether a request without a response was served, so it must not send it to another broker. Only between the
/// last look at the backlog and its end, which takes microseconds, the kernel may still accept for the broker.
#[test]
fn whoever_was_accepted_gets_a_response() {
    const ROUNDS: usize = 10;
    const CLIENTS: usize = 8;
    let round = |_| {
        let broker = Broker::start(&["--threads", "2"]);
        let address = broker.address;
        let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || knock(address))).collect();
        broker.wait_for("busy", |stats| stats["events_published"].as_u64() > Some(100));
        broker.signal("TERM");
        let unanswered: usize = clients.into_iter().map(|client| client.join().expect("no panic")).sum();
        assert_eq!(broker.wait().0, Some(0));
        unanswered
    };
    let unanswered: Vec<_> = (0..ROUNDS).map(round).collect();
    assert!(unanswered.iter().sum::<usize>() < ROUNDS, "of {CLIENTS} clients each: {unanswered:?}");
}
