//! Limits on token verification: one address may use only so much CPU time with forged tokens, and other clients are not
//! delayed.

use std::net::SocketAddr;

use super::limits::open_from;
use super::support::openssl::KeyPair;
use super::support::tokens::{self, SECRETS, assert_denied, bearer, now};
use super::support::{Broker, Connection, Response, Stream, TempDir};

const LIMITED: &str = "esker_verifications_limited_total";

/// A broker with one worker that verifies subscribers' tokens with ES384, the slowest algorithm.
struct Setup {
    broker: Broker,
    keys: KeyPair,
    forged: String,
    /// Counts the tokens made.
    made: u64,
    /// Further header fields of the forger.
    fields: &'static str,
    // Fields are dropped in this order: the program ends before its directory is removed.
    _home: TempDir,
}

impl Setup {
    fn new(arguments: &[&str]) -> Self {
        let (home, keys) = (TempDir::new(), KeyPair::ec("P-384"));
        let path = home.path.join("key.pem");
        std::fs::write(&path, keys.public_pem()).expect("a file can be written");
        let forged = KeyPair::ec("P-384").sign("ES384", &tokens::topic_claims("*", now() + 600));
        let path = path.display().to_string();
        let arguments = [&["--subscriber-key", &path, "--threads", "1"], arguments].concat();
        let broker = Broker::start_with_tokens(&arguments, &SECRETS[..1]);
        // From now on, the worker has cached the token for `/stats`.
        broker.metrics();
        Self { broker, keys, forged, made: 0, fields: "", _home: home }
    }

    fn address(&self) -> SocketAddr {
        self.broker.address
    }

    /// Returns a valid token that the broker has not seen.
    fn new_token(&mut self) -> String {
        self.made += 1;
        self.keys.sign("ES384", &tokens::topic_claims("*", now() + 600 + self.made))
    }

    fn send_forged(&self) -> Connection {
        self.send_as(self.fields, &self.forged)
    }

    /// Sends a request with further header fields.
    fn send_as(&self, fields: &str, token: &str) -> Connection {
        let mut connection = self.broker.connect();
        connection.send(format!("GET /audit/x HTTP/1.1\r\nHost: h\r\n{fields}{}\r\n", bearer(token)));
        connection
    }

    fn limited_total(&self, action: &str) -> f64 {
        self.broker.metrics().labeled(LIMITED, "action", action)
    }

    /// Sends forged tokens until at least half as many are delayed as were verified. The burst equals five seconds of the rate,
    /// so the last one waits for more than two seconds.
    fn exhaust_allowance(&self) -> Vec<Connection> {
        let mut connections = Vec::new();
        loop {
            connections.extend((0..10).map(|_| self.send_forged()));
            let metrics = self.broker.metrics();
            let delayed = metrics.labeled(LIMITED, "action", "delayed");
            if delayed * 2.0 > metrics.value("esker_requests_denied_total") || delayed > 200.0 {
                return connections;
            }
        }
    }
}

fn send_request(mut connection: Connection, what: &str, token: &str) -> Connection {
    connection.send(format!("{what} HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(token)));
    connection
}

fn is_waiting(connection: &mut Connection) -> bool {
    connection.is_silent(std::time::Duration::from_millis(1))
}

fn assert_retry_later(response: &Response) {
    assert_eq!((response.status, response.field("Retry-After")), (429, Some("5")));
    assert_eq!((response.field("Connection"), response.field("WWW-Authenticate")), (Some("close"), None));
}

#[test]
fn forged_tokens_delay_only_new_tokens_from_their_own_address() {
    let mut setup = Setup::new(&["--request-timeout", "15s"]);
    let known = setup.new_token();
    let mut keeps = send_request(setup.broker.connect(), "GET /audit/x", &known);
    assert_eq!(keeps.response().status, 200);
    // These tokens are made beforehand: on a busy machine, making them takes longer than the limit needs to recover.
    let (there, here) = (setup.new_token(), setup.new_token());
    let mut forgers = setup.exhaust_allowance();
    let warning = setup.broker.wait_for_log("the limit on invalid signatures from an address is reached");
    assert!(warning.contains(" from 127.0.0.1); "), "{warning}");

    let before = setup.limited_total("delayed");
    let mut elsewhere = send_request(open_from([127, 0, 0, 2], setup.address()), "GET /audit/x", &there);
    assert_eq!(elsewhere.response().status, 200);
    keeps = send_request(keeps, "GET /audit/x", &known);
    assert_eq!(keeps.response().status, 200);
    // A new token from the attacker's address waits its turn and is then accepted.
    let mut waits = send_request(setup.broker.connect(), "GET /subscribe/topicone1", &here);
    setup.broker.metrics_once("waits", |metrics| metrics.labeled(LIMITED, "action", "delayed") > before);
    assert!(is_waiting(&mut waits) && forgers.last_mut().is_some_and(is_waiting));
    let mut stream = Stream::begin(waits);
    stream.opening();
    let publisher = bearer(&tokens::publisher("topicone1"));
    assert_eq!(setup.broker.post("/publish/topicone1", &publisher, "data: x").status, 200);
    assert_eq!(stream.data(1), ["x"]);
    for forger in &mut forgers {
        assert_denied(&forger.response(), 401, "signature");
        assert!(forger.is_closed());
    }
    assert_eq!(setup.limited_total("refused"), 0.0);
    assert_eq!(setup.broker.stats()["verifications_limited"]["refused"], 0);
}

/// The burst and the queue are those of one client of the proxy, not of the proxy.
#[test]
fn behind_a_trusted_proxy_forged_tokens_delay_only_their_client() {
    let mut setup = Setup::new(&["--request-timeout", "15s", "--trusted-proxy", "127.0.0.1"]);
    setup.fields = "X-Forwarded-For: 192.0.2.1\r\n";
    let (there, here) = (setup.new_token(), setup.new_token());
    let mut forgers = setup.exhaust_allowance();
    let before = setup.limited_total("delayed");
    let mut other = setup.send_as("X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n", &there);
    assert_eq!(other.response().status, 200);
    let mut waits = setup.send_as("X-Forwarded-For: 192.0.2.2, 192.0.2.1\r\n", &here);
    setup.broker.metrics_once("waits", |metrics| metrics.labeled(LIMITED, "action", "delayed") > before);
    assert!(is_waiting(&mut waits) && forgers.last_mut().is_some_and(is_waiting));
    assert_eq!(waits.response().status, 200);
    forgers.iter_mut().for_each(|forger| assert_denied(&forger.response(), 401, "signature"));
}

/// An attacker can't choose its own address.
#[test]
fn a_forwarded_address_from_elsewhere_is_ignored() {
    let mut setup = Setup::new(&["--request-timeout", "15s", "--trusted-proxy", "127.0.0.2"]);
    setup.fields = "X-Forwarded-For: 192.0.2.1\r\n";
    let token = setup.new_token();
    let _forgers = setup.exhaust_allowance();
    let before = setup.limited_total("delayed");
    let mut waits = setup.send_as("X-Forwarded-For: 192.0.2.2\r\n", &token);
    setup.broker.metrics_once("waits", |metrics| metrics.labeled(LIMITED, "action", "delayed") > before);
    assert_eq!(waits.response().status, 200);
}

#[test]
fn a_token_that_waits_too_long_gets_a_retry_time() {
    let setup = Setup::new(&["--request-timeout", "300ms"]);
    let mut refused = 0;
    for mut forger in setup.exhaust_allowance() {
        let response = forger.response();
        match response.status {
            401 => assert_denied(&response, 401, "signature"),
            _ => {
                assert_retry_later(&response);
                refused += 1;
            }
        }
        assert!(forger.is_closed());
    }
    assert!(refused > 0);
    assert_eq!(setup.limited_total("refused"), f64::from(refused));
    setup.broker.assert_healthy();
}

#[test]
fn only_a_bounded_number_of_tokens_waits() {
    let setup = Setup::new(&["--request-timeout", "15s"]);
    let mut forgers = setup.exhaust_allowance();
    forgers.extend((0..400).map(|_| setup.send_forged()));
    assert_retry_later(&forgers.pop().expect("there are many").response());
    assert!(setup.limited_total("refused") > 0.0);
}

#[test]
fn waiting_tokens_are_answered_when_the_broker_drains() {
    let mut setup = Setup::new(&["--request-timeout", "15s"]);
    let targets = ["GET /audit/x", "HEAD /subscribe/topicone1", "GET /subscribe/topicone1", "GET /events"];
    let tokens = targets.map(|_| setup.new_token());
    let _forgers = setup.exhaust_allowance();
    let before = setup.limited_total("delayed");
    let mut asked: Vec<_> = targets
        .iter()
        .zip(&tokens)
        .map(|(target, token)| send_request(setup.broker.connect(), target, token))
        .collect();
    setup.broker.metrics_once("wait", |metrics| metrics.labeled(LIMITED, "action", "delayed") >= before + 4.0);
    assert!(asked.iter_mut().all(is_waiting));
    setup.broker.signal("TERM");
    assert_retry_later(&asked[0].response());
    assert_retry_later(&Response::without_body(asked[1].head()));
    for connection in &mut asked[2..] {
        let head = Response::without_body(connection.head());
        assert_eq!((head.status, head.field("Content-Type")), (200, Some("text/event-stream")));
        let rest = String::from_utf8(connection.read_to_end()).expect("UTF-8");
        assert!(rest.contains("retry: ") && rest.contains("reconnect later") && rest.ends_with("0\r\n\r\n"), "{rest}");
    }
}
