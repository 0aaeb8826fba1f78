//! `esker health`: the exit code and message of a container's health check.

use std::net::SocketAddr;

use super::support::{Broker, Connection, TempDir, run};

/// Returns the exit code and everything printed.
fn health(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let (code, out, err) = run(&[&["health"], arguments].concat(), environment);
    (code, out + &err)
}

fn stats_at(address: SocketAddr) -> serde_json::Value {
    let mut connection = Connection::open(address);
    connection.send("GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.response().json()
}

#[test]
fn a_healthy_broker_is_found_by_url_and_by_environment() {
    let broker = Broker::start(&[]);
    let (address, port) = (broker.address.to_string(), broker.address.port().to_string());
    let healthy = (Some(0), "ok\n".to_owned());
    for url in [&address, &format!("http://{address}"), &format!("http://localhost:{port}/healthz")] {
        assert_eq!(health(&[url], &[]), healthy, "{url}");
    }
    for environment in [
        &[("PORT", port.as_str())][..],
        &[("ESKER_PORT", &port), ("PORT", "1"), ("ESKER_BIND", "0.0.0.0")],
        &[("ESKER_LISTEN", &address)],
        &[("ESKER_ADMIN", &address), ("PORT", "1")],
    ] {
        assert_eq!(health(&[], environment), healthy, "{environment:?}");
    }
}

/// A liveness check must not restart a broker, and so end its streams, because a disk is full or the broker is draining.
#[test]
fn a_draining_broker_is_alive_but_not_ready() {
    let broker = Broker::start(&["--admin", "127.0.0.1:0"]);
    let admin = broker.addresses[1];
    let url = |path: &str| format!("http://{admin}{path}");
    let healthy = (Some(0), "ok\n".to_owned());
    assert_eq!(health(&["--live", &admin.to_string()], &[]), healthy);
    assert_eq!(health(&[&url("/livez")], &[]), healthy);
    assert_eq!(health(&[&url("/healthz")], &[]), healthy);
    // An incomplete body keeps the drain going.
    let mut slow = broker.connect();
    slow.send("POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\nda");
    while stats_at(admin)["clients"] != 1 {}
    broker.signal("TERM");
    broker.wait_for_log("draining");
    while health(&[&url("/healthz")], &[]).0 == Some(0) {}
    assert_eq!(health(&["--live", &url("/healthz")], &[]), healthy);
    let (code, output) = health(&[&admin.to_string()], &[]);
    assert!(code == Some(1) && output.contains("503") && output.contains("shutting down"), "{output}");
    slow.send("ta: x");
    assert_eq!(slow.response().status, 503);
    drop(slow);
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn unix_sockets_and_admin_addresses_can_be_checked() {
    let home = TempDir::new();
    let socket_url = |name: &str| format!("unix:{}", home.path.join(name).display());
    let (socket, admin) = (socket_url("socket"), socket_url("admin"));
    let broker = Broker::start(&["--listen", &socket, "--admin", &admin]);
    assert_eq!(health(&[&admin], &[]), (Some(0), "ok\n".to_owned()));
    assert_eq!(health(&[], &[("ESKER_LISTEN", &socket), ("ESKER_ADMIN", &admin)]).0, Some(0));
    let (code, output) = health(&[&socket], &[]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("404"), "{output}");
    drop(broker);
}

#[test]
fn an_unhealthy_broker_is_reported() {
    let broker = Broker::start(&[]);
    let address = broker.address.to_string();
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let (code, output) = health(&[&address], &[]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.starts_with("esker: ") && output.contains(&address), "{output}");
    let (code, output) = health(&["https://example.com"], &[]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("unix:/PATH") && output.contains("esker health --help"), "{output}");
}

#[test]
fn other_servers_are_not_mistaken_for_a_broker() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address").to_string();
    let server = std::thread::spawn(move || drop(listener.accept()));
    assert_eq!(health(&[&address], &[]).0, Some(1));
    server.join().expect("the server thread ends");
}
