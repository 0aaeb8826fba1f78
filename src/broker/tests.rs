//! The running broker, seen from inside.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::AtomicBool;

#[cfg(feature = "engine")]
mod engine;
mod follow;

use super::builder::hub_limits;
use super::*;
use crate::config::MAX_ADMIN_CONNECTIONS;
use crate::hub::TopicName;
use crate::ids::MAX_CLOCK_LEAD;
use crate::sse::Event;

#[test]
fn the_age_of_history_can_be_unlimited() {
    let config = Config::new().no_auth(true).data(":memory:").port(0).history_age(Duration::MAX);
    let limits = hub_limits(&config.settle(1000).unwrap());
    assert_eq!(limits.age_micros, u64::MAX);
}

/// A full broker must still respond on the address for administration.
#[test]
fn inherited_sockets_reduce_the_limit_of_connections() {
    let config = Config::new().no_auth(true).data(":memory:").port(0).threads(1);
    let room = |names: &[bool]| {
        let given = |&is_admin: &bool| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            InheritedListener { socket: listen::InheritedSocket::Tcp(listener), is_admin }
        };
        let broker = Broker::start_with(&config, names.iter().map(given).collect(), None, &mut || false).unwrap();
        broker.service.0.settings.max_connections
    };
    let all = room(&[]);
    assert_eq!(all - room(&[false]), 1);
    assert_eq!(all - room(&[false, true]), 2 + MAX_ADMIN_CONNECTIONS);
}

#[test]
fn a_broker_continues_the_history_of_the_one_before_it() {
    let directory = std::env::temp_dir().join(format!("esker-history-{}", std::process::id()));
    let start = || Broker::start(Config::new().no_auth(true).data(&directory).port(0).threads(1)).unwrap();
    let broker = start();
    let first = broker.publish("topicone1", &Event::new("one")).unwrap().id;
    broker.publish("topicone1", &Event::new("two")).unwrap();
    // A subscription that its owner still has.
    let mut kept = broker.subscribe(["topictwo2"], StartFrom::Now).unwrap();
    broker.shutdown();
    let broker = start();
    let mut resumed = broker.subscribe(["topicone1"], StartFrom::After(&first.to_string())).unwrap();
    assert!(
        matches!(resumed.recv_timeout(Duration::from_secs(20)), Ok(Received::Event(event)) if event.data() == "two")
    );
    assert!(kept.try_recv().is_err());
    drop(broker);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Ids run ahead of the clock, so that a publish has to wait.
#[test]
fn a_client_that_closes_while_its_publish_waits_gets_all_responses() {
    let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0).threads(1)).unwrap();
    let topic = TopicName::parse("topicone1").unwrap();
    let frames = vec![Event::new("x").to_frame().unwrap()];
    let ahead = broker.clock.now().id_micros + 2 * MAX_CLOCK_LEAD;
    broker.service.0.hub.publish(&topic, frames, ahead, None).unwrap();
    let mut client = TcpStream::connect(broker.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
        .write_all(b"POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\ndata: x")
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut responses = String::new();
    client.read_to_string(&mut responses).unwrap();
    assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), 2, "{responses}");
    assert!(responses.ends_with("ok"));
}

/// The store refuses immediately, so that each response is followed by the next request of the pipeline.
#[test]
fn a_pipeline_of_refused_inserts_does_not_delay_other_clients() {
    let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0).threads(1)).unwrap();
    broker.service.0.store.as_ref().unwrap().close();
    let is_answered = Arc::new(AtomicBool::new(false));
    let mut flood = TcpStream::connect(broker.local_addr().unwrap()).unwrap();
    let mut drain = flood.try_clone().unwrap();
    let reader = std::thread::spawn(move || io::copy(&mut drain, &mut io::sink()));
    let is_over = Arc::clone(&is_answered);
    let writer = std::thread::spawn(move || {
        let body = "{\"event\":\"a\",\"data\":1}";
        let request =
            format!("POST /insert HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (requests, begin) = (request.repeat(500), std::time::Instant::now());
        while !is_over.load(std::sync::atomic::Ordering::Acquire) && begin.elapsed() < Duration::from_secs(4) {
            flood.write_all(requests.as_bytes()).unwrap();
        }
        flood.shutdown(Shutdown::Both).unwrap();
    });
    std::thread::sleep(Duration::from_millis(300));
    let begin = std::time::Instant::now();
    let mut client = TcpStream::connect(broker.local_addr().unwrap()).unwrap();
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    client.read_to_string(&mut String::new()).unwrap();
    let waited = begin.elapsed();
    is_answered.store(true, std::sync::atomic::Ordering::Release);
    writer.join().unwrap();
    let _ = reader.join().unwrap();
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

/// The last stream ends when at most the interval of one stream is left.
#[test]
fn a_shutdown_takes_the_time_that_streams_are_given() {
    let time = Duration::from_millis(400);
    let config = Config::new().no_auth(true).data(":memory:").port(0).threads(1).drain(time);
    let broker = Broker::start(config).unwrap();
    let mut clients = [(); 4].map(|()| TcpStream::connect(broker.local_addr().unwrap()).unwrap());
    for client in &mut clients {
        client.write_all(b"GET /subscribe/topicone1 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        client.read_exact(&mut [0; 64]).unwrap();
    }
    let begin = std::time::Instant::now();
    broker.shutdown();
    assert!(begin.elapsed() >= time * 3 / 4 - Duration::from_millis(2), "{:?}", begin.elapsed());
    for mut client in clients {
        let mut stream = String::new();
        client.read_to_string(&mut stream).unwrap();
        assert!(stream.ends_with("\r\n0\r\n\r\n"), "{stream}");
    }
}

#[test]
fn memory_for_pages_that_are_being_sent_is_bounded() {
    let broker = Broker::start(Config::new().no_auth(true).data(":memory:").port(0).threads(1)).unwrap();
    broker.insert("user", "1").unwrap();
    let mut client = TcpStream::connect(broker.local_addr().unwrap()).unwrap();
    let mut status = || {
        client.write_all(b"GET /audit/user HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut response = [0; 4096];
        let len = client.read(&mut response).unwrap();
        String::from_utf8_lossy(&response[9..12.min(len)]).into_owned()
    };
    let (pages, address) = (&broker.service.0.pages, broker.local_addr().unwrap().ip());
    let others: Vec<_> = std::iter::from_fn(|| pages.reserve(Some(address).into())).collect();
    assert_eq!(status(), "503");
    drop(others);
    assert_eq!(status(), "200");
    assert_eq!(status(), "200");
    // The reservation is released when the page is sent, perhaps a moment after it was read.
    let is_released = || {
        std::thread::sleep(Duration::from_millis(1));
        pages.bytes() == 0
    };
    assert!((0..5_000).any(|_| is_released()));
}
