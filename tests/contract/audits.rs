//! Audits of many at once: those who read slowly take memory, and those who read much take time, from nobody else.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::records::insert;
use super::support::{Broker, Connection};

/// More than the memory for pages holds at 8 MiB each.
const SLOW_READERS: usize = 60;

/// A connection whose receive buffer is small, so that what is not read stays with the broker.
fn narrow(broker: &Broker) -> TcpStream {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let socket = socket.expect("there are sockets");
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).expect("it can be set");
    rustix::net::connect(&socket, &broker.address).expect("the broker listens");
    socket.into()
}

#[test]
fn slow_readers_of_large_pages_leave_room_for_others() {
    let broker = Broker::start(&["--stall", "10m"]);
    for _ in 0..20 {
        insert(&broker, "large", &format!("\"{}\"", "x".repeat(700_000)));
    }
    let small = insert(&broker, "small", "1");
    let slow: Vec<_> = (0..SLOW_READERS)
        .map(|_| {
            let mut socket = narrow(&broker);
            socket.write_all(b"GET /audit/large HTTP/1.1\r\nHost: h\r\n\r\n").expect("it can be sent");
            // The head shows that the page has been read.
            let mut head = [0; 9];
            std::io::Read::read_exact(&mut socket, &mut head).expect("an answer comes");
            let mut status = [0; 3];
            std::io::Read::read_exact(&mut socket, &mut status).expect("an answer comes");
            assert_eq!(&status, b"200");
            socket
        })
        .collect();
    let held = broker.metrics().of("esker_audit_page_bytes");
    assert!(held > f64::from(64 << 20) && held <= f64::from(256 << 20), "{held}");
    let page = broker.get("/audit/small");
    assert_eq!((page.status, page.text()), (200, format!("{{\"small_v_{small}\":1}}")), "a small page");
    // Shorter than it could be, and what is left out follows on the next.
    let page = broker.get("/audit/large");
    assert_eq!(page.status, 200, "{page:?}");
    let versions = page.json().as_object().expect("an object").len();
    assert!((1..11).contains(&versions) && page.field("Link").is_some(), "{versions}");
    drop(slow);
    broker.metrics_once("rid of the pages", |metrics| metrics.of("esker_audit_page_bytes") == 0.0);
    let page = broker.get("/audit/large");
    assert_eq!(page.json().as_object().expect("an object").len(), 11, "8 MiB again");
}

/// All of one address, each asking for its next page as soon as it has one.
#[test]
fn nobody_is_refused_among_two_hundred_auditors() {
    let broker = Broker::start(&[]);
    for _ in 0..100 {
        insert(&broker, "large", &format!("\"{}\"", "x".repeat(20_000)));
    }
    insert(&broker, "small", "1");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let auditors: Vec<_> = (0..200)
            .map(|_| {
                let mut connection = Connection::open(broker.address);
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut pages = 0;
                    while !is_over.load(SeqCst) || pages == 0 {
                        connection.send("GET /audit/large HTTP/1.1\r\nHost: h\r\n\r\n");
                        let page = connection.response();
                        assert_eq!(page.status, 200, "{}", page.text());
                        pages += 1;
                    }
                    pages
                })
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(broker.get("/audit/small").status, 200);
        }
        is_over.store(true, SeqCst);
        assert!(auditors.into_iter().all(|auditor| auditor.join().expect("it ends well") > 0));
    });
}
