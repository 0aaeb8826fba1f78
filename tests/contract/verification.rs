//! Forged tokens and those who suffer from them: what an address may cost by showing them is limited, and nobody else waits.

use std::net::SocketAddr;

use super::limits::open_from;
use super::support::openssl::KeyPair;
use super::support::tokens::{self, SECRETS, assert_denied, bearer, now};
use super::support::{Broker, Connection, Folder, Response, Stream};

const LIMITED: &str = "esker_verifications_limited_total";

/// A broker with one worker that verifies subscribers' tokens with ES384, the slowest kind.
struct House {
    broker: Broker,
    keys: KeyPair,
    forged: String,
    /// Counts the tokens that were made.
    made: u64,
    // In this order: the program ends before its folder goes.
    _home: Folder,
}

impl House {
    fn new(arguments: &[&str]) -> Self {
        let (home, keys) = (Folder::new(), KeyPair::ec("P-384"));
        let path = home.path.join("key.pem");
        std::fs::write(&path, keys.public_pem()).expect("a file can be written");
        let forged = KeyPair::ec("P-384").sign("ES384", &tokens::allowing("*", now() + 600));
        let path = path.display().to_string();
        let arguments = [&["--subscriber-key", &path, "--threads", "1"], arguments].concat();
        let broker = Broker::start_secured(&arguments, &SECRETS[..1]);
        // From now on the worker knows the token for the numbers.
        broker.metrics();
        Self { broker, keys, forged, made: 0, _home: home }
    }

    fn address(&self) -> SocketAddr {
        self.broker.address
    }

    /// A good token that the broker has not seen.
    fn new_token(&mut self) -> String {
        self.made += 1;
        self.keys.sign("ES384", &tokens::allowing("*", now() + 600 + self.made))
    }

    fn forge(&self) -> Connection {
        asking(self.broker.connect(), "GET /audit/x", &self.forged)
    }

    fn limited(&self, action: &str) -> f64 {
        self.broker.metrics().by(LIMITED, "action", action)
    }

    /// Shows forged tokens until they wait, and so many of them that the last one waits for seconds: half as many as were
    /// verified for what is allowed at once, which is as much as five seconds bring.
    fn exhaust(&self) -> Vec<Connection> {
        let mut connections = Vec::new();
        loop {
            connections.extend((0..10).map(|_| self.forge()));
            let metrics = self.broker.metrics();
            let delayed = metrics.by(LIMITED, "action", "delayed");
            if delayed * 2.0 > metrics.of("esker_requests_denied_total") || delayed > 200.0 {
                return connections;
            }
        }
    }
}

fn asking(mut connection: Connection, what: &str, token: &str) -> Connection {
    connection.send(format!("{what} HTTP/1.1\r\nHost: h\r\n{}\r\n", bearer(token)));
    connection
}

fn is_waiting(connection: &mut Connection) -> bool {
    connection.is_silent(std::time::Duration::from_millis(1))
}

fn assert_come_back(response: &Response) {
    assert_eq!((response.status, response.field("Retry-After")), (429, Some("5")));
    assert_eq!((response.field("Connection"), response.field("WWW-Authenticate")), (Some("close"), None));
}

#[test]
fn forged_tokens_slow_their_own_address_down_and_known_tokens_and_other_addresses_wait_for_nothing() {
    let mut house = House::new(&["--request-timeout", "15s"]);
    let known = house.new_token();
    let mut keeps = asking(house.broker.connect(), "GET /audit/x", &known);
    assert_eq!(keeps.response().status, 200);
    // Made before, for that takes longer than the allowance needs to recover on a busy machine.
    let (there, here) = (house.new_token(), house.new_token());
    let mut forgers = house.exhaust();

    let before = house.limited("delayed");
    let mut elsewhere = asking(open_from([127, 0, 0, 2], house.address()), "GET /audit/x", &there);
    assert_eq!(elsewhere.response().status, 200);
    keeps = asking(keeps, "GET /audit/x", &known);
    assert_eq!(keeps.response().status, 200);
    // A new token behind the forgers' address waits its turn, and is good then.
    let mut waits = asking(house.broker.connect(), "GET /subscribe/topicone1", &here);
    house.broker.metrics_once("waits", |metrics| metrics.by(LIMITED, "action", "delayed") > before);
    assert!(is_waiting(&mut waits) && forgers.last_mut().is_some_and(is_waiting));
    let mut stream = Stream::begin(waits);
    stream.opening();
    let publisher = bearer(&tokens::publisher("topicone1"));
    assert_eq!(house.broker.post("/publish/topicone1", &publisher, "data: x").status, 200);
    assert_eq!(stream.data(1), ["x"]);
    for forger in &mut forgers {
        assert_denied(&forger.response(), 401, "signature");
        assert!(forger.is_closed());
    }
    assert_eq!(house.limited("refused"), 0.0);
    assert_eq!(house.broker.stats()["verifications_limited"]["refused"], 0);
}

#[test]
fn a_token_that_has_waited_for_too_long_is_answered_with_a_time_to_come_back() {
    let house = House::new(&["--request-timeout", "300ms"]);
    let mut refused = 0;
    for mut forger in house.exhaust() {
        let response = forger.response();
        match response.status {
            401 => assert_denied(&response, 401, "signature"),
            _ => {
                assert_come_back(&response);
                refused += 1;
            }
        }
        assert!(forger.is_closed());
    }
    assert!(refused > 0);
    assert_eq!(house.limited("refused"), f64::from(refused));
    house.broker.assert_well();
}

#[test]
fn so_many_wait_and_the_next_is_answered_at_once() {
    let house = House::new(&["--request-timeout", "15s"]);
    let mut forgers = house.exhaust();
    forgers.extend((0..400).map(|_| house.forge()));
    assert_come_back(&forgers.pop().expect("there are many").response());
    assert!(house.limited("refused") > 0.0);
}

#[test]
fn those_that_wait_are_answered_when_the_broker_drains_and_streams_come_back_later() {
    let mut house = House::new(&["--request-timeout", "15s"]);
    let targets = ["GET /audit/x", "HEAD /subscribe/topicone1", "GET /subscribe/topicone1", "GET /events"];
    let tokens = targets.map(|_| house.new_token());
    let _forgers = house.exhaust();
    let before = house.limited("delayed");
    let mut asked: Vec<_> =
        targets.iter().zip(&tokens).map(|(target, token)| asking(house.broker.connect(), target, token)).collect();
    house.broker.metrics_once("wait", |metrics| metrics.by(LIMITED, "action", "delayed") >= before + 4.0);
    assert!(asked.iter_mut().all(is_waiting));
    house.broker.signal("TERM");
    assert_come_back(&asked[0].response());
    assert_come_back(&Response::without_body(asked[1].head()));
    for connection in &mut asked[2..] {
        let head = Response::without_body(connection.head());
        assert_eq!((head.status, head.field("Content-Type")), (200, Some("text/event-stream")));
        let said = String::from_utf8(connection.rest()).expect("UTF-8");
        assert!(said.contains("retry: ") && said.contains("reconnect later") && said.ends_with("0\r\n\r\n"), "{said}");
    }
}
