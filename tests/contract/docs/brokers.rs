//! The configurations of load balancers in the guide's page on several brokers: streams spread over the brokers, requests of a
//! broker that has stopped reach another one, and streams are served even if no broker is ready.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::support::front::{CADDY, HAPROXY, NGINX, ProxyKind, load_balancer, start};
use super::super::support::{Broker, Connection, DiskFault, FaultyDisk, Response, Stream, TIMEOUT};

/// Returns a reserved address (RFC 6890) whose port 1 refuses connections.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 9], 1))
}

fn publish(balancer: SocketAddr) -> Response {
    let mut connection = Connection::open(balancer);
    connection.send("POST /publish/greeting HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\ndata: x");
    connection.response()
}

fn subscribe(balancer: SocketAddr) -> Stream {
    let mut stream = Stream::open(Connection::open(balancer), "/subscribe/greeting", "");
    stream.opening();
    stream
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < TIMEOUT, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A publish may fail until the load balancer has noticed that a broker has stopped, a stream may not.
fn assert_balances(kind: &ProxyKind, language: &str) {
    let [one, two] = [Broker::start(&[]), Broker::start(&[])];
    let (balancer, _front) =
        start(kind, |listen| load_balancer(language, [one.address, two.address, nobody()], listen));
    let mut streams = [subscribe(balancer), subscribe(balancer)];
    for broker in [&one, &two] {
        broker.wait_for("subscribed to", |stats| stats["subscribers"] == 1);
        broker.publish("greeting", "data: hello");
    }
    for stream in &mut streams {
        assert_eq!(stream.event().data.as_deref(), Some("hello"));
    }
    one.signal("TERM");
    assert_eq!(one.wait().0, Some(0));
    let _streams = [subscribe(balancer), subscribe(balancer), subscribe(balancer)];
    two.wait_for("subscribed to", |stats| stats["subscribers"] == 4);
    wait_until("no publish fails", || (0..6).all(|_| publish(balancer).status == 200));
}

/// Brokers whose stores have failed are as little ready as brokers without their engine.
fn assert_serves_streams_anyway(kind: &ProxyKind, language: &str) {
    let disks = [FaultyDisk::new(), FaultyDisk::new()];
    let brokers = disks.each_ref().map(|disk| disk.start(&[]));
    let (balancer, _front) =
        start(kind, |listen| load_balancer(language, [0, 1, 1].map(|at: usize| brokers[at].address), listen));
    for (disk, broker) in disks.iter().zip(&brokers) {
        disk.inject(DiskFault::Failing);
        broker.post("/insert", "", "{\"event\":\"a\",\"data\":1}");
        wait_until("the broker is not ready", || broker.get("/healthz").status == 503);
    }
    // Some of these are answered before the load balancer has noticed.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        subscribe(balancer);
        assert_eq!(publish(balancer).status, 200);
    }
}

#[test]
fn the_guides_haproxy_balances() {
    assert_balances(&HAPROXY, "haproxy");
}

#[test]
fn the_guides_haproxy_serves_streams_when_no_broker_is_ready() {
    assert_serves_streams_anyway(&HAPROXY, "haproxy");
}

#[test]
fn the_guides_caddy_balances() {
    assert_balances(&CADDY, "caddy");
}

#[test]
fn the_guides_caddy_serves_streams_when_no_broker_is_ready() {
    assert_serves_streams_anyway(&CADDY, "caddy");
}

#[test]
fn the_guides_nginx_balances() {
    assert_balances(&NGINX, "nginx");
}

#[test]
fn the_guides_nginx_serves_streams_when_no_broker_is_ready() {
    assert_serves_streams_anyway(&NGINX, "nginx");
}
