//! Bounds on connections: whoever comes too many waits or is closed, and accepting goes on by itself.

use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::support::{Broker, Connection, Stream};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

fn is_served(connection: &mut Connection) -> bool {
    connection.send(HEALTH);
    connection.response().text() == "ok"
}

#[test]
fn at_the_limit_connections_wait_and_are_served_when_others_leave() {
    for threads in ["1", "3"] {
        let broker = Broker::start(&["--max-connections", "4", "--threads", threads]);
        let mut inside: Vec<_> = (0..4).map(|_| broker.connect()).collect();
        assert!(inside.iter_mut().all(is_served));
        let mut waiting: Vec<_> = (0..8).map(|_| broker.connect()).collect();
        waiting.iter_mut().for_each(|connection| connection.send(HEALTH));
        assert!(waiting.iter_mut().all(|connection| connection.is_silent(Duration::from_millis(10))));
        assert!(inside.iter_mut().all(is_served), "those inside suffer nothing");
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

#[test]
fn an_address_has_its_own_limit() {
    let broker = Broker::start(&["--max-connections-per-ip", "3", "--bind", "0.0.0.0"]);
    let port = broker.address.port();
    let connect = |last: u8| Connection::open(([127, 0, 0, last], port).into());
    let mut inside: Vec<_> = (0..3).map(|_| connect(1)).collect();
    assert!(inside.iter_mut().all(is_served));
    for _ in 0..5 {
        assert!(connect(1).is_closed(), "one too many is closed");
    }
    assert!(inside.iter_mut().all(is_served));
    for _ in 0..20 {
        drop(inside.remove(0));
        // The place is free as soon as the broker has noticed, which nobody can ask it from here.
        let begin = std::time::Instant::now();
        while !take_place(&mut inside, connect(1)) {
            assert!(begin.elapsed() < super::support::PATIENCE, "the place is never given on");
        }
    }
}

fn take_place(inside: &mut Vec<Connection>, mut connection: Connection) -> bool {
    connection.send(HEALTH);
    let is_in = !connection.is_closed();
    if is_in {
        assert_eq!(connection.response().text(), "ok");
        inside.push(connection);
    }
    is_in
}

/// The binary under a hard limit of descriptors.
fn limited(descriptors: usize) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_esker")]);
    command
}

#[test]
fn too_few_descriptors_to_be_of_use() {
    let output = limited(20).args(["--no-auth", "--port", "0"]).output().expect("sh runs");
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("ulimit -n"), "{log}");
}

/// The broker takes in so many that it never runs out, whatever it is told.
#[test]
fn few_descriptors_are_shared_out() {
    for arguments in [&["--threads", "2"][..], &["--threads", "2", "--max-connections", "1000000"]] {
        let broker = Broker::start_as(limited(64), arguments);
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

/// Something else takes the descriptors away that the broker reckoned with.
#[test]
fn accepting_goes_on_after_the_descriptors_ran_out() {
    let broker = Broker::start(&["--threads", "2", "--heartbeat", "200ms"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let mut inside: Vec<_> = (0..4).map(|_| broker.connect()).collect();
    assert!(inside.iter_mut().all(is_served));
    set_descriptors(&broker, next_descriptor(&broker));
    let mut waiting: Vec<_> = (0..8).map(|_| broker.connect()).collect();
    waiting.iter_mut().for_each(|connection| connection.send(HEALTH));
    assert!(waiting.iter_mut().all(|connection| connection.is_silent(Duration::from_millis(10))));
    assert!(inside.iter_mut().all(is_served), "those inside suffer nothing");
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
