//! A clean restart with the same data directory continues the history: nobody gets a `gap`, and nothing is lost or duplicated.
//! After anything else, a position from before the restart is a gap.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::support::{Broker, Connection, Event, Stream, TIMEOUT, TempDir, command};

/// The file between two runs.
const FILE: &str = "history.snapshot";

/// Starts a broker with the data directory and, from the second start on, the port of the one before.
fn start(dir: &TempDir, port: u16, more: &[&str]) -> Broker {
    let (data, port) = (dir.path.join("data").display().to_string(), port.to_string());
    Broker::start_listening(command(&[]), &[&["--data", &data, "--port", &port], more].concat())
}

/// Stops a broker cleanly, and returns its log.
fn stop(broker: Broker) -> String {
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0), "{log}");
    log
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path.join("data").join(FILE)
}

/// Returns the names of files in the data directory that belong to the history.
fn history_files(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path.join("data")).expect("it exists");
    let names = entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("it is ASCII"));
    names.filter(|name| name.starts_with("history")).collect()
}

fn id(published: &serde_json::Value) -> String {
    published["id"].as_str().expect("an id").to_owned()
}

/// Returns what a subscriber gets first that resumes in a topic.
fn first_after(broker: &Broker, topic: &str, position: &str) -> Event {
    resume(broker, topic, position).event()
}

fn resume(broker: &Broker, topic: &str, position: &str) -> Stream {
    let mut stream = broker.subscribe(&format!("/subscribe/{topic}"), &format!("Last-Event-ID: {position}\r\n"));
    stream.opening();
    stream
}

fn is_gap(event: &Event) -> bool {
    event.name.as_deref() == Some("gap")
}

/// A client that behaves as an EventSource does: it keeps the last id, and reconnects with it. It speaks HTTP/1.0, so that the
/// body has no framing.
#[derive(Default)]
struct Client {
    socket: Option<mio::net::TcpStream>,
    unread: Vec<u8>,
    last_id: Option<String>,
    is_body: bool,
    received: Vec<usize>,
    gaps: usize,
}

impl Client {
    /// Connects, if the broker listens.
    fn connect(&mut self, address: SocketAddr, target: &str, poll: &Poll, token: Token) {
        let Ok(mut socket) = TcpStream::connect(address) else { return };
        let position = self.last_id.as_ref().map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request = format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n{position}\r\n");
        if socket.write_all(request.as_bytes()).is_err() {
            return;
        }
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, token, Interest::READABLE).expect("a socket can be polled");
        (self.socket, self.is_body) = (Some(socket), false);
        self.unread.clear();
    }

    fn read(&mut self) {
        let mut bytes = [0; 16 << 10];
        while let Some(socket) = &mut self.socket {
            match socket.read(&mut bytes) {
                Ok(0) => self.socket = None,
                Ok(count) => self.unread.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.socket = None,
            }
            self.parse();
        }
    }

    fn parse(&mut self) {
        while let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n" || two == b"\n\r") {
            // A head ends with CR LF CR LF, an event with LF LF.
            let len = if self.unread[end + 1] == b'\r' { end + 3 } else { end + 2 };
            if self.unread.len() < len {
                return;
            }
            let block = String::from_utf8(self.unread.drain(..len).collect()).expect("it is UTF-8");
            if self.is_body {
                self.dispatch(&Event::parse(&block));
            } else {
                assert!(block.starts_with("HTTP/1.1 200") || block.starts_with("HTTP/1.0 200"), "{block}");
                self.is_body = true;
            }
        }
    }

    fn dispatch(&mut self, event: &Event) {
        if let Some(id) = &event.id {
            self.last_id = Some(id.clone());
        }
        match (&event.name, &event.data) {
            (Some(name), _) if name == "gap" => self.gaps += 1,
            (_, Some(data)) => self.received.push(data.parse().expect("a number")),
            _ => {}
        }
    }
}

/// Publishes numbers, in turn to each topic, with ids of its own. What it gets no response for it sends again.
fn publish_until(is_over: &AtomicBool, published: &AtomicUsize, address: SocketAddr, topics: &[String]) {
    let mut attempts = 0;
    while !is_over.load(Ordering::Relaxed) {
        let number = published.load(Ordering::Relaxed);
        let body = format!("id: own{number}\ndata: {number}\n\n");
        let request = format!(
            "POST /publish/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            topics[number % topics.len()],
            body.len()
        );
        let mut response = String::new();
        let sent = TcpStream::connect(address).and_then(|mut socket| {
            socket.set_read_timeout(Some(TIMEOUT))?;
            socket.write_all(request.as_bytes())?;
            socket.read_to_string(&mut response)
        });
        attempts += 1;
        if sent.is_ok() && response.starts_with("HTTP/1.1 200") {
            published.store(number + 1, Ordering::Relaxed);
            attempts = 0;
        }
        assert!(attempts < 10_000, "{sent:?} {response}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn thousands_of_clients_get_every_event_once_across_clean_restarts() {
    const CLIENTS: usize = 2_000;
    const RESTARTS: usize = 3;
    const EVENTS_BETWEEN: usize = 60;
    let dir = TempDir::new();
    let mut broker = start(&dir, 0, &["--retry", "100ms"]);
    let address = broker.address;
    let topics: Vec<_> = (0..4).map(|number| format!("topic{number:04}")).collect();
    let (is_over, published) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::default()).collect();
    std::thread::scope(|scope| {
        let (mut poll, mut events) = (Poll::new().expect("a poll can be made"), Events::with_capacity(4096));
        let mut restarts = 0;
        let mut begin = Instant::now();
        let is_complete = |clients: &[Client]| {
            let count = published.load(Ordering::Relaxed);
            let due =
                |client: usize| (0..count).filter(|number| number % topics.len() == client % topics.len()).count();
            clients.iter().enumerate().all(|(index, client)| client.received.len() >= due(index))
        };
        loop {
            for (index, client) in clients.iter_mut().enumerate().filter(|(_, client)| client.socket.is_none()) {
                let target = format!("/subscribe/{}?prime", topics[index % topics.len()]);
                client.connect(address, &target, &poll, Token(index));
            }
            poll.poll(&mut events, Some(Duration::from_millis(20))).expect("the poll works");
            events.iter().for_each(|event| clients[event.token().0].read());
            let are_primed = clients.iter().all(|client| client.last_id.is_some());
            if are_primed && published.load(Ordering::Relaxed) == 0 && restarts == 0 {
                // The first restart comes before the first event.
                (broker, restarts) = (restart(broker, &dir, address), 1);
                scope.spawn(|| publish_until(&is_over, &published, address, &topics));
                begin = Instant::now();
            } else if restarts > 0
                && restarts < RESTARTS
                && published.load(Ordering::Relaxed) >= restarts * EVENTS_BETWEEN
            {
                (broker, restarts) = (restart(broker, &dir, address), restarts + 1);
                begin = Instant::now();
            } else if restarts == RESTARTS && published.load(Ordering::Relaxed) >= RESTARTS * EVENTS_BETWEEN {
                is_over.store(true, Ordering::Relaxed);
                if is_complete(&clients) {
                    return;
                }
            }
            assert!(begin.elapsed() < 3 * TIMEOUT, "{restarts} restarts, {published:?} events");
        }
    });
    for (index, client) in clients.iter().enumerate() {
        let count = published.load(Ordering::Relaxed);
        let expected: Vec<_> = (0..count).filter(|number| number % topics.len() == index % topics.len()).collect();
        assert_eq!((client.gaps, &client.received), (0, &expected), "client {index}");
    }
}

/// Restarts a broker with its port and directory.
fn restart(broker: Broker, dir: &TempDir, address: SocketAddr) -> Broker {
    let log = stop(broker);
    assert!(log.contains("the history was saved"), "{log}");
    let broker = start(dir, address.port(), &["--retry", "100ms"]);
    assert_eq!(history_files(dir), [""; 0], "the file is used once");
    broker
}

#[test]
fn a_clean_restart_keeps_history_positions_and_publishers_ids() {
    let dir = TempDir::new();
    let broker = start(&dir, 0, &[]);
    let first = id(&broker.publish("topicone1", "data: 1"));
    broker.publish("topicone1", "id: own\ndata: 2");
    broker.publish("topictwo2", "data: 3");
    let log = stop(broker);
    assert!(log.contains("the history was saved: 3 events of 2 topics, "), "{log}");
    let broker = start(&dir, 0, &[]);
    assert_eq!(history_files(&dir), [""; 0]);
    assert_eq!(resume(&broker, "topicone1", "0").data(2), ["1", "2"]);
    assert_eq!(resume(&broker, "topicone1", &first).data(1), ["2"]);
    let repeated = broker.publish("topicone1", "id: own\ndata: 2");
    assert_eq!((&repeated["duplicate"], &repeated["events"]), (&true.into(), &0.into()));
    let mut streams = ["own", &first].map(|position| resume(&broker, "topicone1,topictwo2", position));
    assert_eq!(streams[0].data(1), ["3"]);
    assert_eq!(streams[1].data(2), ["2", "3"]);
    broker.publish("topicone1", "data: 4");
    assert!(streams.iter_mut().all(|stream| stream.data(1) == ["4"]));
    // Another restart continues both runs.
    stop(broker);
    let broker = start(&dir, 0, &["--history", "1"]);
    assert_eq!(first_after(&broker, "topictwo2", &first).data.as_deref(), Some("3"));
    assert!(is_gap(&first_after(&broker, "topicone1", &first)), "the present limits apply");
}

#[test]
fn what_is_acknowledged_during_the_drain_is_saved() {
    let dir = TempDir::new();
    let broker = start(&dir, 0, &[]);
    let before = id(&broker.publish("topicone1", "data: 1"));
    let body = "data: 2\n\n";
    let mut connection = broker.connect();
    let head = format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.send(head + "data");
    broker.signal("TERM");
    broker.wait_for_log("draining");
    connection.send(&body[4..]);
    let is_accepted = connection.response().status == 200;
    let (code, log) = broker.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&format!("the history was saved: {} events", 1 + usize::from(is_accepted))), "{log}");
    let broker = start(&dir, 0, &[]);
    broker.publish("topicone1", "data: 3");
    let expected: &[&str] = if is_accepted { &["2", "3"] } else { &["3"] };
    assert_eq!(resume(&broker, "topicone1", &before).data(expected.len()), expected);
}

#[test]
fn after_a_kill_a_position_is_a_gap() {
    let dir = TempDir::new();
    let broker = start(&dir, 0, &[]);
    let position = id(&broker.publish("topicone1", "data: 1"));
    stop(broker);
    let broker = start(&dir, 0, &[]);
    broker.signal("KILL");
    broker.wait();
    let broker = start(&dir, 0, &[]);
    assert!(is_gap(&first_after(&broker, "topicone1", &position)));
}

#[test]
fn without_a_data_directory_nothing_is_kept() {
    let broker = Broker::start(&["--data", ":memory:"]);
    let position = id(&broker.publish("topicone1", "data: 1"));
    let log = stop(broker);
    assert!(!log.contains("the history"), "{log}");
    let broker = Broker::start(&["--data", ":memory:"]);
    assert!(is_gap(&first_after(&broker, "topicone1", &position)));
}

/// Changes the file between two runs, and returns the log of the second until it listens. A position is then a gap.
fn start_with_changed_file(change: impl Fn(&mut Vec<u8>)) -> String {
    let dir = TempDir::new();
    let broker = start(&dir, 0, &[]);
    let position = id(&broker.publish("topicone1", &format!("data: {}", "x".repeat(100_000))));
    stop(broker);
    let mut bytes = fs::read(file(&dir)).expect("it was saved");
    change(&mut bytes);
    fs::write(file(&dir), bytes).expect("it can be written");
    discard(&dir, &position)
}

/// Starts a broker that discards the file, and returns the line of its log.
fn discard(dir: &TempDir, position: &str) -> String {
    let data = dir.path.join("data").display().to_string();
    let mut log = String::new();
    let broker = Broker::start_reading_log(&["--data", &data], &mut log);
    assert!(is_gap(&first_after(&broker, "topicone1", position)));
    assert_eq!(history_files(dir), [""; 0]);
    let line = log.lines().find(|line| line.contains("discarding the saved history"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("get a gap"), "{line}");
    line.to_owned()
}

#[test]
fn a_damaged_file_is_discarded() {
    let torn = start_with_changed_file(|bytes| bytes.truncate(bytes.len() / 2));
    assert!(torn.contains("its end is missing"), "{torn}");
    let flipped = start_with_changed_file(|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });
    assert!(flipped.contains("a checksum is wrong"), "{flipped}");
    let foreign = start_with_changed_file(|bytes| *bytes = b"not a snapshot".to_vec());
    assert!(foreign.contains("not written by Esker"), "{foreign}");
    let newer = start_with_changed_file(|bytes| bytes[8] = 2);
    assert!(newer.contains("has format 2"), "{newer}");
    let empty = start_with_changed_file(Vec::clear);
    assert!(empty.contains("not written by Esker"), "{empty}");
}

#[test]
fn a_file_of_an_earlier_run_is_discarded() {
    let dir = TempDir::new();
    let broker = start(&dir, 0, &[]);
    let position = id(&broker.publish("topicone1", "data: 1"));
    stop(broker);
    let old = fs::read(file(&dir)).expect("it was saved");
    // The next run is killed: what it published is lost.
    let broker = start(&dir, 0, &[]);
    broker.publish("topicone1", "data: 2");
    broker.signal("KILL");
    broker.wait();
    fs::write(file(&dir), &old).expect("it can be written");
    assert!(discard(&dir, &position).contains("not from the last run"));
    // The next run stops cleanly.
    stop(start(&dir, 0, &[]));
    fs::write(file(&dir), &old).expect("it can be written");
    assert!(discard(&dir, &position).contains("not from the last run"));
}

#[test]
fn on_a_full_disk_nothing_is_saved() {
    let dir = TempDir::new();
    let broker = start(&dir, 0, &[]);
    let position = id(&broker.publish("topicone1", "data: 1"));
    (0..3).for_each(|_| drop(broker.publish("topicone1", &format!("data: {}", "x".repeat(900_000)))));
    broker.limit_file_size(2_000_000);
    let log = stop(broker);
    let line = log.lines().find(|line| line.contains("the history was not saved")).expect("it is logged");
    assert!(line.contains("WARN") && line.contains("too large") && line.contains("get a gap"), "{line}");
    assert_eq!(history_files(&dir), [""; 0]);
    let broker = start(&dir, 0, &[]);
    assert!(is_gap(&first_after(&broker, "topicone1", &position)));
}

#[test]
fn a_second_signal_saves_nothing() {
    let dir = TempDir::new();
    let broker = start(&dir, 0, &["--drain", "1h", "--threads", "1"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let mut waiting = Connection::open(broker.address);
    waiting.send("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\ndata");
    broker.publish("topicone1", "data: 1");
    broker.signal("TERM");
    broker.wait_for_log("draining");
    broker.signal("INT");
    assert_eq!(broker.wait().0, Some(1));
    assert_eq!(history_files(&dir), [""; 0]);
}
