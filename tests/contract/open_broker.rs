//! Access to a broker with `--no-auth`: only this machine and its pages may use it, unless `--origin` says otherwise.

use super::support::tokens::{SECRETS, bearer, publisher};
use super::support::{Broker, Connection, Response, TempDir};

/// Hosts that always mean this machine.
const LOCAL_HOSTS: [&str; 6] =
    ["localhost", "LOCALHOST:3000", "127.0.0.1:3000", "127.8.8.8", "[::1]:3000", "app.localhost:1"];

/// Hosts that a site's owner may define in DNS.
const FOREIGN_HOSTS: [&str; 6] =
    ["evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example:80", "192.0.2.1:3000", "h"];

/// Origins of pages on this machine.
const LOCAL_ORIGINS: [&str; 4] =
    ["http://localhost:5173", "https://localhost", "http://127.0.0.1:1", "http://[::1]:8080"];

/// Origins of other pages.
const FOREIGN_ORIGINS: [&str; 5] = [
    "https://evil.example",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example:3000",
    "null",
    "http://192.0.2.1",
];

fn guarded_broker() -> Broker {
    Broker::start_with_default_origins(&["--port", "0"])
}

/// Sends a request without a body. Of a stream, only the head is read.
fn send_request(mut connection: Connection, line: &str, fields: &str) -> Response {
    connection.send(format!("{line} HTTP/1.1\r\n{fields}\r\n"));
    let head = Response::without_body(connection.head());
    match head.field("Content-Length").map(str::parse) {
        Some(length) if !line.starts_with("HEAD ") => {
            Response { body: connection.take(length.expect("a length is a number")), ..head }
        }
        _ => head,
    }
}

/// Sends a valid body with these fields.
fn post(broker: &Broker, target: &str, fields: &str) -> Response {
    let body = if target == "/insert" { "{\"event\":\"a\",\"data\":1}" } else { "data: x" };
    broker.post(target, fields, body)
}

fn assert_refused(response: &Response, status: u16, parts: &[&str]) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"));
    let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
}

#[test]
fn pages_on_this_machine_may_read_and_write() {
    let broker = guarded_broker();
    for origin in LOCAL_ORIGINS {
        let fields = format!("Origin: {origin}\r\nSec-Fetch-Site: same-site\r\n");
        for target in ["/publish/topicone1", "/insert"] {
            let response = post(&broker, target, &fields);
            assert_eq!(response.status, 200, "{origin}: {response:?}");
            assert_eq!(response.field("Access-Control-Allow-Origin"), Some(origin));
        }
        let stream = broker.subscribe("/subscribe/topicone1", &fields);
        assert!(stream.head.contains(&format!("Access-Control-Allow-Origin: {origin}\r\n")), "{}", stream.head);
    }
}

#[test]
fn foreign_pages_may_neither_read_nor_write() {
    let broker = guarded_broker();
    for origin in FOREIGN_ORIGINS {
        let fields = format!("Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n");
        for target in ["/publish/topicone1", "/insert", "/nowhere"] {
            let response = post(&broker, target, &fields);
            assert_refused(&response, 403, &["--no-auth", "--origin", origin]);
            assert!(!response.head.contains("Access-Control-"), "{response:?}");
        }
        let erase = send_request(broker.connect(), "DELETE /audit/a", &format!("Host: localhost\r\n{fields}"));
        assert_refused(&erase, 403, &["--origin"]);
        for line in ["GET /stats", "GET /audit/a", "GET /subscribe/topicone1", "GET /events", "OPTIONS /insert"] {
            let response = send_request(broker.connect(), line, &format!("Host: localhost\r\n{fields}"));
            assert!(response.status < 300 && !response.head.contains("\nAccess-Control-"), "{line}: {response:?}");
        }
    }
    let stats = broker.stats();
    assert_eq!((&stats["events_published"], &stats["record_names"]), (&0.into(), &0.into()), "{stats}");
    assert_eq!(stats["requests_denied"], FOREIGN_ORIGINS.len() * 4);
}

#[test]
fn a_request_without_an_origin_is_not_from_a_page() {
    let broker = guarded_broker();
    assert_eq!(post(&broker, "/publish/topicone1", "").status, 200);
    assert_eq!(post(&broker, "/insert", "").status, 200);
}

/// The console's page may write, whichever host name it was opened with.
#[test]
fn the_brokers_own_pages_may_write() {
    let broker = Broker::start_with_default_origins(&["--bind", "0.0.0.0", "--port", "0"]);
    let publish = |host: &str, fields: &str| {
        let body = "Content-Length: 7\r\n\r\ndata: x";
        let mut connection = broker.connect();
        connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: {host}\r\n{fields}{body}"));
        connection.response().status
    };
    for (host, fields, status) in [
        ("broker.example:3000", "Origin: http://broker.example:3000\r\n", 200),
        ("BROKER.example", "Origin: https://broker.example\r\n", 200),
        ("broker.example:443", "Origin: https://broker.example\r\n", 200),
        ("127.0.0.1:3000", "Origin: https://broker.example\r\nSec-Fetch-Site: same-origin\r\n", 200),
        ("127.0.0.1:3000", "Origin: https://broker.example\r\nSec-Fetch-Site: same-site\r\n", 403),
        ("broker.example", "Origin: http://broker.example:3000\r\n", 403),
        ("broker.example:3000", "Origin: http://broker.example\r\n", 403),
        ("broker.example", "Origin: https://evil.example\r\n", 403),
        ("broker.example", "", 200),
    ] {
        assert_eq!(publish(host, fields), status, "{host} {fields}");
    }
}

/// DNS rebinding: to the browser, the page has the broker's origin.
#[test]
fn a_loopback_broker_refuses_foreign_host_names() {
    let broker = guarded_broker();
    let lines =
        ["GET /", "GET /stats", "GET /events", "GET /subscribe/topicone1", "GET /healthz", "OPTIONS *", "DELETE /a"];
    for host in FOREIGN_HOSTS {
        for line in lines {
            let fields = format!("Host: {host}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n");
            assert_refused(&send_request(broker.connect(), line, &fields), 421, &["--no-auth", host, "--origin '*'"]);
        }
        let post = format!("Host: {host}\r\nContent-Length: 7\r\n\r\ndata: x");
        let mut connection = broker.connect();
        connection.send(format!("POST /publish/topicone1 HTTP/1.1\r\n{post}"));
        assert_eq!(connection.response().status, 421);
        let absolute = send_request(broker.connect(), &format!("GET http://{host}/stats"), "Host: localhost\r\n");
        assert_eq!(absolute.status, 421, "the target's host takes precedence over the Host field");
    }
    for host in LOCAL_HOSTS {
        assert_eq!(send_request(broker.connect(), "GET /stats", &format!("Host: {host}\r\n")).status, 200, "{host}");
    }
    let absolute = send_request(broker.connect(), "GET http://localhost:1/stats", "Host: evil.example\r\n");
    assert_eq!(absolute.status, 200);
    assert_eq!(broker.stats()["events_published"], 0);
}

/// Old health checks of proxies send no Host; browsers always do.
#[test]
fn a_request_without_a_host_is_not_from_a_browser() {
    let broker = guarded_broker();
    let mut connection = broker.connect();
    connection.send("GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    assert_eq!(send_request(broker.connect(), "GET /healthz", "Host:\r\n").status, 200);
}

#[test]
fn listed_origins_replace_local_ones_and_their_hosts_are_served() {
    let broker = Broker::start(&["--origin", "https://app.example:8443", "--origin", "https://*.dev.example"]);
    let status = |host: &str| send_request(broker.connect(), "GET /stats", &format!("Host: {host}\r\n")).status;
    for host in ["app.example", "APP.example:8443", "app.example:3000", "x.y.dev.example", "localhost:3000"] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in ["dev.example", "evil.example", "app.example.evil.example", "xapp.example"] {
        assert_eq!(status(host), 421, "{host}");
    }
    let publish = |origin: &str| post(&broker, "/publish/topicone1", &format!("Origin: {origin}\r\n"));
    assert_eq!(publish("https://app.example:8443").status, 200);
    assert_eq!(publish("https://a.dev.example").status, 200);
    assert_refused(&publish("http://localhost:5173"), 403, &["http://localhost:5173"]);
    assert_refused(&publish("https://app.example"), 403, &["https://app.example"]);
}

#[test]
fn the_asterisk_allows_every_origin_and_host() {
    let broker = Broker::start_with_default_origins(&["--port", "0", "--origin", "*"]);
    for host in FOREIGN_HOSTS {
        assert_eq!(send_request(broker.connect(), "GET /stats", &format!("Host: {host}\r\n")).status, 200);
    }
    for origin in FOREIGN_ORIGINS {
        let response = post(&broker, "/publish/topicone1", &format!("Origin: {origin}\r\n"));
        assert_eq!((response.status, response.field("Access-Control-Allow-Origin")), (200, Some("*")));
    }
}

#[test]
fn with_tokens_every_origin_and_host_is_served() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let token = bearer(&publisher("stats"));
    let fields = format!("Host: evil.example\r\nOrigin: https://evil.example\r\n{token}");
    let response = send_request(broker.connect(), "GET /stats", &fields);
    assert_eq!((response.status, response.field("Access-Control-Allow-Origin")), (200, Some("*")));
}

/// A reverse proxy in front of the broker passes on its own host names, and no browser connects to a Unix socket.
#[test]
fn any_host_is_served_through_a_unix_socket() {
    let home = TempDir::new();
    let path = home.path.join("socket");
    let listen = format!("unix:{}", path.display());
    let broker = Broker::start_with_default_origins(&["--port", "0", "--listen", &listen]);
    let fields = "Host: events.example\r\n";
    assert_eq!(send_request(super::listeners::connect_unix(&path), "GET /stats", fields).status, 200);
    assert_eq!(send_request(broker.connect(), "GET /stats", fields).status, 421);
}

/// Each address is checked by itself: letting others reach the admin address doesn't open the client address to pages.
#[test]
fn client_and_admin_addresses_are_checked_separately() {
    let statuses = |arguments: &[&str]| {
        let broker = Broker::start_with_default_origins(arguments);
        let [clients, admin] = broker.addresses[..] else { panic!("{:?}", broker.addresses) };
        let ask_at =
            |address, line: &str| send_request(Connection::open(address), line, "Host: evil.example\r\n").status;
        (ask_at(clients, "GET /events"), ask_at(admin, "GET /metrics"))
    };
    assert_eq!(statuses(&["--port", "0", "--admin", "127.0.0.1:0"]), (421, 421));
    assert_eq!(statuses(&["--port", "0", "--admin", "0.0.0.0:0"]), (421, 200));
    assert_eq!(statuses(&["--port", "0", "--bind", "0.0.0.0", "--admin", "127.0.0.1:0"]), (200, 421));
}

/// At an address that others can reach, the broker may have host names that it doesn't know.
#[test]
fn one_address_that_others_reach_disables_the_host_check() {
    let broker = Broker::start_with_default_origins(&["--port", "0", "--listen", "0.0.0.0:0"]);
    assert_eq!(send_request(broker.connect(), "GET /stats", "Host: events.example\r\n").status, 200);
    assert_refused(&post(&broker, "/publish/topicone1", "Origin: https://evil.example\r\n"), 403, &["--origin"]);
}
