//! One client that takes as much as it can: forged tokens, bodies with very many events, and bodies, responses and connections
//! that are held open. Honest clients must still be served in time, and none is refused.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::net::sockopt;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use super::honest_clients::{Credentials, HonestClients, TOPIC};
use super::lock_machine;
use super::support::openssl::KeyPair;
use super::support::{Broker, Connection, TIMEOUT, TempDir, tokens};

/// How long an attack lasts.
const ROUND: Duration = Duration::from_secs(4);
/// The source address of attackers; honest clients connect from 127.0.0.1.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// Connects from the attacker's address. Returns `None` if the broker accepts no connection now.
fn attack(address: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    socket.bind(&SocketAddr::new(ATTACKER, 0).into()).expect("all of 127.0.0.0/8 is this machine");
    socket.connect_timeout(&address.into(), Duration::from_secs(2)).ok()?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
    Some(socket)
}

/// Connects like [`attack`], with a small receive buffer, for a peer that reads little.
fn attack_with_small_buffer(address: SocketAddr) -> Option<TcpStream> {
    let socket = attack(address)?;
    sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("a buffer can be small");
    Some(socket)
}

/// Repeats an attack in several threads until the round is over. Returns the total number of runs.
fn rounds(threads: usize, honest: &HonestClients, attack: impl Fn() + Sync) -> usize {
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    attack();
                    count.fetch_add(1, SeqCst);
                }
            });
        }
        while begin.elapsed() < ROUND {
            thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, SeqCst);
    });
    honest.await_more(5);
    count.into_inner()
}

/// Returns a token that is well-formed but has a signature of random bytes.
fn forged() -> String {
    let message = tokens::message(
        &json!({"alg": "ES384", "typ": "JWT"}).to_string(),
        &tokens::topic_claims("*", tokens::now() + 600).to_string(),
    );
    let signature: Vec<u8> = (0..96).map(|_| fastrand::u8(..)).collect();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn forged_tokens_harm_nobody() {
    let _lock = lock_machine();
    let (keys, dir) = (KeyPair::ec("P-384"), TempDir::new());
    let file = dir.path.join("key.pem");
    std::fs::write(&file, keys.public_pem()).expect("a file can be written");
    let file = file.display().to_string();
    let broker = Broker::start_with_tokens(&["--subscriber-key", &file, "--heartbeat", "1s"], &tokens::SECRETS[..1]);
    let listens = keys.sign("ES384", &tokens::topic_claims(TOPIC, tokens::now() + 600));
    let credentials = Credentials { publisher: Some(tokens::publisher(TOPIC)), subscriber: Some(listens) };
    let honest = HonestClients::start(&broker, &credentials);
    let address = broker.address;
    let forgeries = rounds(8, &honest, || {
        let Some(mut socket) = attack(address) else { return };
        let request =
            || format!("GET /subscribe/{TOPIC} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", tokens::bearer(&forged()));
        let _ = socket.write_all((0..50).map(|_| request()).collect::<String>().as_bytes());
        let mut responses = Vec::new();
        let _ = socket.read_to_end(&mut responses);
        let responses = String::from_utf8_lossy(&responses).matches("HTTP/1.1 ").count();
        assert!(responses <= 1, "the connection closes after a forged token; {responses} arrived");
    });
    // A token that the broker has never seen, from another address, is accepted while the attacker's forgeries still wait.
    let fresh = keys.sign("ES384", &json!({"exp": tokens::now() + 500, "topics": [TOPIC]}));
    let response = tokens::try_subscribe(&broker, &format!("/subscribe/{TOPIC}"), &tokens::bearer(&fresh));
    assert_eq!(response.status, 200, "{response:?}");
    honest.finish(&format!("{forgeries} connections with forged tokens"));
}

#[test]
fn bodies_with_very_many_events_harm_nobody() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s"]);
    let honest = HonestClients::start(&broker, &Credentials::default());
    let bodies = ["data\n\n".repeat((1 << 20) / 6), "data: x\n\n".repeat(10_000)];
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < ROUND {
        sent += send_at_once(broker.address, &bodies, 250);
    }
    honest.await_more(5);
    honest.finish(&format!("{sent} bodies of 174 762 or 10 000 events"));
}

/// Sends this many bodies on as many connections, first all but their last byte, and then all the last bytes at once. Returns
/// how many responses arrived.
fn send_at_once(address: SocketAddr, bodies: &[String], count: usize) -> usize {
    let begin = |body: &String| {
        let mut socket = attack(address)?;
        let head = format!(
            "POST /publish/floodtopic HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let all_but_one = &body.as_bytes()[..body.len() - 1];
        socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(all_but_one)).ok()?;
        Some(socket)
    };
    let mut sockets: Vec<_> = bodies.iter().cycle().take(count).filter_map(begin).collect();
    sockets.iter_mut().for_each(|socket| drop(socket.write(b"\n")));
    let responses = sockets.iter_mut().map(|socket| socket.read(&mut [0; 4096]));
    responses.filter(|response| response.as_ref().is_ok_and(|&count| count > 0)).count()
}

#[test]
fn incomplete_bodies_harm_nobody() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s"]);
    let honest = HonestClients::start(&broker, &Credentials::default());
    let address = broker.address;
    // Smaller bodies fill the memory that the large ones leave.
    let sizes = [(290, (1 << 20) - 4096), (40, 128 << 10)];
    let held: Vec<_> =
        sizes.iter().flat_map(|&(count, size)| (0..count).filter_map(move |_| hold_body(address, size))).collect();
    let begin = Instant::now();
    while begin.elapsed() < ROUND {
        honest.await_more(1);
        // Other addresses can still send large bodies, within the limit for all bodies.
        let large = format!("data: {}", "y".repeat(1_000_000));
        let response = broker.post("/publish/largetopic", "", large);
        assert_eq!(response.status, 200, "{response:?}");
    }
    honest.finish(&format!("{} bodies held", held.len()));
}

/// Sends this much of a body of 1 MiB, and keeps the connection open.
fn hold_body(address: SocketAddr, size: usize) -> Option<TcpStream> {
    let mut socket = attack(address)?;
    let head =
        format!("POST /publish/floodtopic HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\ndata: ", 1 << 20);
    socket.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
    let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(&vec![b'x'; size]));
    Some(socket)
}

#[test]
fn connections_held_by_unneeded_bodies_are_closed() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s", "--request-timeout", "1s"]);
    let honest = HonestClients::start(&broker, &Credentials::default());
    let hold = |_| {
        let mut socket = attack(broker.address).expect("the broker accepts");
        socket
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\nx")
            .expect("it fits in the buffer");
        socket
    };
    let mut held: Vec<_> = (0..500).map(hold).collect();
    let begin = Instant::now();
    // The honest clients' 101 connections, and the one that requests `/stats`.
    while broker.stats()["clients"].as_u64() > Some(102) {
        assert!(begin.elapsed() < TIMEOUT, "the held connections are never closed: {}", broker.stats());
        held.iter_mut().for_each(|socket| drop(socket.write(b"x")));
        honest.await_more(1);
    }
    honest.finish("500 connections held by unwanted bodies");
}

/// Stores this many versions of 1 MB under a name.
fn store_large(broker: &Broker, name: &str, versions: usize) {
    let body = format!(r#"{{"event":"{name}","data":"{}"}}"#, "x".repeat(1_000_000));
    for _ in 0..versions {
        let response = broker.post("/insert", "", &body);
        assert_eq!(response.status, 200, "{response:?}");
    }
}

/// Reads a history page, which must be returned. Returns the time it took.
fn read_page(connection: &mut Connection, name: &str) -> Duration {
    let begin = Instant::now();
    connection.send(format!("GET /audit/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let response = connection.response();
    assert_eq!(response.status, 200, "{response:?}");
    begin.elapsed()
}

#[test]
fn readers_of_large_histories_harm_nobody() {
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s", "--stall", "2s"]);
    store_large(&broker, "large", 10);
    store_large(&broker, "medium", 5);
    assert_eq!(broker.post("/insert", "", r#"{"event":"small","data":1}"#).status, 200);
    let honest = HonestClients::start(&broker, &Credentials::default());
    let request = b"GET /audit/large?limit=10000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // Held pages: read at a kilobyte now and then.
    let mut slow: Vec<_> = (0..40).filter_map(|_| attack_with_small_buffer(broker.address)).collect();
    slow.iter_mut().for_each(|socket| drop(socket.write(request)));
    let mut connection = broker.connect();
    let mut worst = Duration::ZERO;
    let begin = Instant::now();
    while begin.elapsed() < ROUND {
        slow.iter_mut().for_each(|socket| {
            socket.set_nonblocking(true).expect("a socket can be non-blocking");
            let _ = socket.read(&mut [0; 1024]);
        });
        worst = worst.max(read_page(&mut connection, "small"));
        read_page(&mut connection, "medium");
        honest.await_more(1);
    }
    eprintln!("small pages while 40 large ones are held: {worst:?} at most");
    drop(slow);
    // Pages read as fast as they arrive, by 200 clients at once.
    let address = broker.address;
    let over = AtomicBool::new(false);
    let mut worst = Duration::ZERO;
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    let Some(mut socket) = attack(address) else { continue };
                    let _ = socket.write(request);
                    let _ = socket.read_to_end(&mut Vec::new());
                }
            });
        }
        let begin = Instant::now();
        while begin.elapsed() < ROUND {
            worst = worst.max(read_page(&mut connection, "small"));
            thread::sleep(Duration::from_millis(20));
        }
        over.store(true, SeqCst);
    });
    eprintln!("small pages while 200 read large ones: {worst:?} at most");
    honest.finish("readers of large histories");
}

#[test]
fn unread_responses_use_bounded_memory() {
    const CONNECTIONS: usize = 4000;
    /// Limit for the memory of all unsent responses together with 4 000 connections.
    const BOUND: usize = 160 << 20;
    let _lock = lock_machine();
    let broker = Broker::start(&["--heartbeat", "1s"]);
    let honest = HonestClients::start(&broker, &Credentials::default());
    let before = broker.private_bytes();
    let requests = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let mut unread: Vec<_> = (0..CONNECTIONS).filter_map(|_| attack_with_small_buffer(broker.address)).collect();
    unread.iter_mut().for_each(|socket| drop(socket.write(requests.as_bytes())));
    honest.await_more(100);
    let grown = broker.private_bytes().saturating_sub(before);
    eprintln!("{} connections that read nothing use {} MiB", unread.len(), grown >> 20);
    assert!(grown < BOUND, "{grown} bytes");
    // Other clients still get the console.
    assert_eq!(broker.get("/").status, 200);
    honest.finish("unread responses");
}
