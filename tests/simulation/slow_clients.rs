//! Slow clients, on a simulated clock: the time limits for each, and the memory that all of them may hold. Each test is one
//! script, without faults and random choices.

use std::time::Duration;

use esker::Config;

use super::script::Harness;

const SECOND: u64 = 1000;
/// The limit on the bytes of all unsent responses.
const MAX_UNSENT: f64 = (64 << 20) as f64;

fn publish_head(length: usize) -> String {
    format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn a_slow_body_times_out_however_much_arrived_at_first() {
    let mut harness = Harness::new(Config::new(), 1);
    let (burst, drip) = (harness.connect(1, None), harness.connect(1, None));
    harness.send(burst, &[publish_head(1 << 20).as_bytes(), &vec![b'x'; 900_000]].concat());
    harness.send(drip, publish_head(1000).as_bytes());
    harness.pass(20 * SECOND);
    for pipe in [burst, drip] {
        harness.send(pipe, b"x");
        assert_eq!(harness.received(pipe), "");
    }
    harness.pass(9 * SECOND);
    assert!(!harness.is_over(burst) && !harness.is_over(drip));
    assert!(harness.metric("esker_bodies_bytes") > 900_000.0);
    harness.pass(2 * SECOND);
    for pipe in [burst, drip] {
        let answer = harness.received(pipe);
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("1 KiB/s"), "{answer}");
        assert!(harness.is_over(pipe));
    }
    assert_eq!(harness.metric("esker_bodies_bytes"), 0.0);
    assert_eq!(harness.metric("esker_bodies_refused_total"), 2.0);
}

#[test]
fn a_body_at_the_minimum_rate_is_accepted() {
    let mut harness = Harness::new(Config::new(), 1);
    let pipe = harness.connect(1, None);
    harness.send(pipe, publish_head(200 << 10).as_bytes());
    harness.send(pipe, b"data:");
    for _ in 0..20 {
        harness.pass(10 * SECOND);
        harness.send(pipe, &[b'x'; 10 << 10]);
    }
    assert!(!harness.is_over(pipe) && harness.received(pipe).starts_with("HTTP/1.1 200 "));
}

#[test]
fn bytes_of_a_discarded_body_do_not_extend_its_time_limit() {
    let mut harness = Harness::new(Config::new(), 1);
    let (pipe, refused) = (harness.connect(1, None), harness.connect(1, None));
    harness.send(pipe, b"GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    harness.send(refused, b"POST /publish/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..9 {
        harness.pass(SECOND);
        harness.send(pipe, b"x");
        harness.send(refused, b"1\r\nx\r\n");
        assert_eq!((harness.received(pipe), harness.received(refused)), (String::new(), String::new()));
    }
    harness.pass(2 * SECOND);
    for (pipe, status) in [(pipe, 200), (refused, 400)] {
        let answer = harness.received(pipe);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains("Connection: close"), "{answer}");
        assert!(harness.is_over(pipe));
    }
    // Bytes after the response are discarded for some seconds; then the socket is closed.
    for _ in 0..6 {
        harness.pass(SECOND);
        harness.send(pipe, b"x");
    }
    assert!(harness.net.get().was_given_back(pipe));
}

/// The console's page is larger than what the slow clients read here.
#[test]
fn a_response_must_be_read_at_a_minimum_rate() {
    let mut harness = Harness::new(Config::new().stall(Duration::from_secs(5)), 1);
    let pipes = [1, 2000, 10 << 10].map(|per_second| (per_second, harness.connect(1, Some(per_second))));
    for (_, pipe) in pipes {
        harness.send(pipe, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for second in 0..10 {
        harness.pass(SECOND);
        for (per_second, pipe) in pipes {
            harness.net.get().give_room(pipe, Some(per_second));
        }
        harness.settle();
        assert!(second >= 4 || pipes.iter().all(|&(_, pipe)| !harness.is_over(pipe)), "second {second}");
    }
    assert_eq!(pipes.map(|(_, pipe)| harness.is_over(pipe)), [true, true, false]);
    assert_eq!(harness.metric("esker_unsent_closed_total"), 2.0);
    harness.pass(6 * SECOND);
    harness.net.get().give_room(pipes[2].1, None);
    harness.settle();
    assert!(harness.received(pipes[2].1).contains("</html>"));
}

#[test]
fn clients_that_read_nothing_stay_within_the_memory_limit() {
    const CLIENTS: usize = 700;
    for workers in [1, 3] {
        let mut harness = Harness::new(Config::new(), workers);
        let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2000);
        // A client that sends its request early, and reads the response.
        let reader = harness.connect(2, Some(1000));
        harness.send(reader, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        // A client whose request arrives in two parts, and whose time limit ends before those of the clients that read nothing.
        let halting = harness.connect(3, None);
        harness.send(halting, b"GET /healthz HTTP/1.1\r\nHo");
        for number in 0..CLIENTS {
            harness.pass(1);
            let pipe = harness.connect(1, Some(0));
            harness.send(pipe, requests.as_bytes());
            harness.net.get().give_room(reader, Some(100));
            if number % 50 == 0 {
                let unsent = harness.metric("esker_unsent_bytes");
                assert!(unsent <= MAX_UNSENT, "{unsent}");
            }
        }
        let unsent = harness.metric("esker_unsent_bytes");
        assert!((MAX_UNSENT / 2.0..=MAX_UNSENT).contains(&unsent), "{unsent}");
        assert!(harness.metric("esker_unsent_closed_total") > 100.0);
        harness.send(halting, b"st: h\r\n\r\n");
        assert!(harness.received(halting).ends_with("ok"), "a client with a partial request was closed");
        harness.net.get().give_room(reader, None);
        harness.settle();
        assert!(harness.received(reader).contains("</html>"), "a client that reads was not served");
        harness.pass(70 * SECOND);
        assert_eq!(harness.metric("esker_unsent_bytes"), 0.0);
    }
}

#[test]
fn an_idle_connection_outlives_the_idle_timeouts_of_proxies() {
    let mut harness = Harness::new(Config::new(), 1);
    let pipe = harness.connect(1, None);
    for _ in 0..2 {
        harness.send(pipe, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(harness.received(pipe).ends_with("ok"));
        harness.pass(649 * SECOND);
        assert!(!harness.is_over(pipe));
    }
    harness.pass(3 * SECOND);
    assert!(harness.is_over(pipe));
}

/// A connection whose next request has begun is not idle, even if the worker has not read it yet.
#[test]
fn the_longest_idle_connection_makes_room_at_the_limit() {
    for workers in [1, 3] {
        let mut harness = Harness::new(Config::new().max_connections(4), workers);
        let pipes: Vec<_> = (0..4).map(|host| harness.connect(host, None)).collect();
        for &pipe in &pipes {
            harness.send(pipe, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
            harness.pass(SECOND);
        }
        // Part of another request head has been read, or is still in the socket.
        harness.send(pipes[0], b"GET /");
        harness.net.get().send(pipes[1], b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        let new_client = harness.connect(9, None);
        harness.net.get().deliver(pipes[1], usize::MAX);
        harness.send(new_client, b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        harness.pass(2 * SECOND);
        assert!(harness.received(new_client).ends_with("ok"));
        assert!(!harness.is_over(pipes[0]) && !harness.is_over(pipes[1]), "connections with a request were closed");
        let closed = pipes.iter().filter(|&&pipe| harness.is_over(pipe)).count();
        assert_eq!((closed, harness.is_over(pipes[2]) || workers > 1), (1, true));
    }
}
