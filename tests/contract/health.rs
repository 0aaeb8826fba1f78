//! `esker health`: what a container's health check sees, by exit code and in words.

use std::net::SocketAddr;

use super::support::{Broker, Connection, Folder, run};

/// Exit code and all that is said.
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
fn a_broker_that_is_well_is_found_by_url_and_by_its_environment() {
    let broker = Broker::start(&[]);
    let (address, port) = (broker.address.to_string(), broker.address.port().to_string());
    let well = (Some(0), "ok\n".to_owned());
    for url in [&address, &format!("http://{address}"), &format!("http://localhost:{port}/healthz")] {
        assert_eq!(health(&[url], &[]), well, "{url}");
    }
    for environment in [
        &[("PORT", port.as_str())][..],
        &[("ESKER_PORT", &port), ("PORT", "1"), ("ESKER_BIND", "0.0.0.0")],
        &[("ESKER_LISTEN", &address)],
        &[("ESKER_ADMIN", &address), ("PORT", "1")],
    ] {
        assert_eq!(health(&[], environment), well, "{environment:?}");
    }
}

/// What restarts a broker that is not alive must not end its streams because a disk is full or it is about to stop.
#[test]
fn a_broker_that_drains_is_alive_but_not_ready() {
    let broker = Broker::start(&["--admin", "127.0.0.1:0"]);
    let admin = broker.addresses[1];
    let url = |path: &str| format!("http://{admin}{path}");
    let well = (Some(0), "ok\n".to_owned());
    assert_eq!(health(&["--live", &admin.to_string()], &[]), well);
    assert_eq!(health(&[&url("/livez")], &[]), well);
    assert_eq!(health(&[&url("/healthz")], &[]), well);
    // A body that does not come keeps the drain going.
    let mut slow = broker.connect();
    slow.send("POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\nda");
    while stats_at(admin)["clients"] != 1 {}
    broker.signal("TERM");
    broker.logged("draining");
    while health(&[&url("/healthz")], &[]).0 == Some(0) {}
    assert_eq!(health(&["--live", &url("/healthz")], &[]), well);
    let (code, said) = health(&[&admin.to_string()], &[]);
    assert!(code == Some(1) && said.contains("503") && said.contains("shutting down"), "{said}");
    slow.send("ta: x");
    assert_eq!(slow.response().status, 503);
    drop(slow);
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn unix_sockets_and_listeners_for_administration_are_asked_as_well() {
    let home = Folder::new();
    let place = |name: &str| format!("unix:{}", home.path.join(name).display());
    let (socket, admin) = (place("socket"), place("admin"));
    let broker = Broker::start(&["--listen", &socket, "--admin", &admin]);
    assert_eq!(health(&[&admin], &[]), (Some(0), "ok\n".to_owned()));
    assert_eq!(health(&[], &[("ESKER_LISTEN", &socket), ("ESKER_ADMIN", &admin)]).0, Some(0));
    let (code, said) = health(&[&socket], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("404"), "{said}");
    drop(broker);
}

#[test]
fn one_that_is_not_well_is_said_to_be_so() {
    let broker = Broker::start(&[]);
    let address = broker.address.to_string();
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    let (code, said) = health(&[&address], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("esker: ") && said.contains(&address), "{said}");
    let (code, said) = health(&["https://example.com"], &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("unix:/PATH") && said.contains("esker health --help"), "{said}");
}

#[test]
fn what_is_no_broker_is_told_from_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address").to_string();
    let stranger = std::thread::spawn(move || drop(listener.accept()));
    assert_eq!(health(&[&address], &[]).0, Some(1));
    stranger.join().expect("it has hung up");
}
