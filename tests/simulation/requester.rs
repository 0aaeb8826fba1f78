//! A client that sends requests: it publishes, inserts, reads audits, and sometimes sends malformed requests. Checks every
//! response against the oracle.

use std::collections::VecDeque;
use std::ops::Range;

use fastrand::Rng;
use serde_json::Value;

use super::net::Net;
use super::oracle::{Feed, Oracle, State};
use super::parser::{Response, field, take_response};
use super::world::{NAMES, Scenario, TOPICS, name_in_use};

/// A request, and what its response must agree with.
#[derive(Debug)]
enum Request {
    Publish(Range<usize>),
    Insert(usize),
    /// With the versions that the response must have.
    Audit {
        name: usize,
        expected: Vec<usize>,
    },
    Health,
    /// A publish without an event.
    Empty,
}

/// A client and its requests without a response.
#[derive(Debug)]
pub struct Requester {
    pub pipe: usize,
    received: Vec<u8>,
    unanswered: VecDeque<Request>,
    /// It sends malformed requests, to which any response is right.
    is_malformed: bool,
    /// The time in milliseconds since which it has waited.
    pub waits_since: u64,
}

impl Requester {
    pub fn new(pipe: usize, is_malformed: bool) -> Self {
        Self { pipe, received: Vec::new(), unanswered: VecDeque::new(), is_malformed, waits_since: 0 }
    }

    pub fn is_waiting(&self) -> bool {
        !self.unanswered.is_empty() && !self.is_malformed
    }

    /// Sends some request.
    pub fn send_request(
        &mut self,
        rng: &mut Rng,
        net: &mut Net,
        oracle: &mut Oracle,
        scenario: &Scenario,
        millis: u64,
    ) {
        if self.unanswered.is_empty() {
            self.waits_since = millis;
        }
        let request = match rng.u8(0..10) {
            _ if self.is_malformed => malformed(rng),
            // Some topics are busier, so that they evict what others still retain.
            0..5 => self.publish(rng.usize(0..TOPICS.len()).min(rng.usize(0..TOPICS.len())), rng, oracle, scenario),
            5..8 => self.insert(rng, oracle, scenario),
            8 => self.audit(name_in_use(rng, oracle.step), oracle, scenario),
            _ if rng.u8(0..8) == 0 => self.empty(rng, scenario),
            _ => self.health(rng),
        };
        net.send(self.pipe, request.as_bytes());
    }

    /// Returns a request that publishes some events to a topic.
    pub fn publish(&mut self, topic: usize, rng: &mut Rng, oracle: &mut Oracle, scenario: &Scenario) -> String {
        let begin = oracle.items.len();
        let mut body = String::new();
        let publisher_id = oracle.some_publisher_id(rng);
        for _ in 0..if publisher_id.is_some() { 1 } else { rng.usize(1..4) } {
            let number = oracle.send(Feed::Topic(topic));
            let padding = "x".repeat(rng.usize(0..scenario.padding));
            body.push_str(&format!("data: {number} secret-payload {padding}\n\n"));
        }
        if let Some(id) = publisher_id {
            body = format!("id: {id}\n{body}");
            oracle.items[begin].publisher_id = Some(id);
        }
        // Comments after the last event are dropped. Parsing them takes several slices.
        if rng.u8(0..32) == 0 {
            body.push_str(&": a comment\n".repeat(rng.usize(0..20_000)));
        }
        self.unanswered.push_back(Request::Publish(begin..oracle.items.len()));
        post(&format!("/publish/{}", TOPICS[topic]), &body, &scenario.publisher_auth, rng)
    }

    fn insert(&mut self, rng: &mut Rng, oracle: &mut Oracle, scenario: &Scenario) -> String {
        let name = name_in_use(rng, oracle.step);
        let number = oracle.send(Feed::Name(name));
        self.unanswered.push_back(Request::Insert(number));
        let padding = "y".repeat(rng.usize(0..scenario.padding));
        let event = Value::from(NAMES[name]);
        let body = format!("{{\"event\":{event},\"data\":{{\"n\":{number},\"of\":\"secret-payload {padding}\"}}}}");
        post("/insert", &body, &scenario.publisher_auth, rng)
    }

    /// Returns a health check, sometimes with an unexpected body, which may be too long to be discarded.
    fn health(&mut self, rng: &mut Rng) -> String {
        self.unanswered.push_back(Request::Health);
        let body = "z".repeat(if rng.u8(0..4) == 0 { rng.usize(0..80 << 10) } else { 0 });
        format!("GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Returns a publish without events, in more bytes than one loop iteration reads.
    fn empty(&mut self, rng: &mut Rng, scenario: &Scenario) -> String {
        self.unanswered.push_back(Request::Empty);
        let body = ":".repeat(rng.usize(1..1 << 20));
        post(&format!("/publish/{}", TOPICS[0]), &body, &scenario.publisher_auth, rng)
    }

    /// Returns a request for all versions of a name.
    pub fn audit(&mut self, name: usize, oracle: &Oracle, scenario: &Scenario) -> String {
        self.unanswered.push_back(Request::Audit { name, expected: oracle.versions(name).collect() });
        let path = NAMES[name].replace('/', "%2F").replace('\u{e9}', "%C3%A9").replace(' ', "%20");
        format!("GET /audit/{path}?limit=10000 HTTP/1.1\r\nHost: h\r\n{}\r\n", scenario.subscriber_auth)
    }

    /// Checks the responses that have arrived.
    pub fn observe(&mut self, net: &mut Net, oracle: &mut Oracle, scenario: &Scenario, millis: u64) {
        self.received.extend(net.take_received(self.pipe));
        if self.is_malformed {
            return self.received.clear();
        }
        while let Some(response) = take_response(&mut self.received) {
            self.waits_since = millis;
            let request = self.unanswered.pop_front().unwrap_or_else(|| panic!("no request for {response:?}"));
            settle(request, &response, oracle, scenario);
        }
    }

    /// The connection is lost: the outcome of requests without a response is unknown.
    pub fn lose_connection(&mut self, oracle: &mut Oracle) {
        for request in self.unanswered.drain(..) {
            match request {
                Request::Publish(items) => oracle.refuse(items, State::Unknown),
                Request::Insert(number) => oracle.refuse(number..number + 1, State::Unknown),
                Request::Audit { .. } | Request::Health | Request::Empty => {}
            }
        }
    }
}

fn post(path: &str, body: &str, token: &str, rng: &mut Rng) -> String {
    if rng.bool() {
        return format!("POST {path} HTTP/1.1\r\nHost: h\r\n{token}Content-Length: {}\r\n\r\n{body}", body.len());
    }
    let cut = (rng.usize(0..body.len())..).find(|&cut| body.is_char_boundary(cut)).unwrap_or(body.len());
    let (first, second) = body.split_at(cut);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunks = [first, second].map(|text| if text.is_empty() { String::new() } else { chunk(text) }).concat();
    format!("POST {path} HTTP/1.1\r\nHost: h\r\n{token}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

/// Returns parts of requests, invalid ones, and bytes.
fn malformed(rng: &mut Rng) -> String {
    let texts = [
        "GET ",
        "/",
        " HTTP/1.1\r\n",
        "Host: h\r\n",
        "\r\n",
        "POST /publish/topicone1",
        "Content-Length: 10\r\n",
        "Transfer-Encoding: chunked\r\n",
        "ffffffff\r\n",
        "0\r\n\r\n",
        "\0",
        "\u{e9}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "Authorization: Bearer secret-token\r\n",
        "GET /stats?token=secret-token HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    (0..rng.usize(1..8)).map(|_| texts[rng.usize(0..texts.len())]).collect()
}

fn settle(request: Request, response: &Response, oracle: &mut Oracle, scenario: &Scenario) {
    let text = || String::from_utf8_lossy(&response.body).into_owned();
    if response.status == 503 {
        assert!(field(&response.head, "Retry-After").is_some(), "{response:?}");
    }
    match (request, response.status) {
        (Request::Publish(items), 200) => {
            let json: Value = serde_json::from_slice(&response.body).expect("JSON");
            if json["duplicate"] == true {
                return oracle.accept_duplicate(items.start);
            }
            assert_eq!(json["events"], items.len(), "{json}");
            oracle.accept(items, id_of(&json));
        }
        (Request::Insert(number), 200) => {
            let json: Value = serde_json::from_slice(&response.body).expect("JSON");
            let (Feed::Name(name), id) = (oracle.items[number].feed, id_of(&json)) else { panic!("no record") };
            assert_eq!(json["key"], format!("{}_v_{id}", NAMES[name]));
            oracle.accept(number..number + 1, id);
        }
        // A disk that failed during the commit may have the record anyway.
        (Request::Insert(number), 503) if text().contains("has failed") || text().contains("in time") => {
            assert!(scenario.has_disk_faults || text().contains("in time"), "{}", text());
            oracle.refuse(number..number + 1, State::Unknown);
        }
        // The request took too long.
        (Request::Publish(items), 408) => oracle.refuse(items, State::Refused),
        (Request::Insert(number), 408) => oracle.refuse(number..number + 1, State::Refused),
        (Request::Audit { .. } | Request::Health | Request::Empty, 408) => {}
        (Request::Empty, 400) => assert!(text().contains("data"), "{}", text()),
        (Request::Empty, 503) => {}
        (Request::Publish(items), 503) => oracle.refuse(items, State::Refused),
        (Request::Insert(number), 503) => oracle.refuse(number..number + 1, State::Refused),
        (Request::Audit { name, expected }, 200) => take_audit(name, &expected, &response.body, oracle),
        (Request::Audit { .. }, 503) => assert!(scenario.has_disk_faults || scenario.is_ending, "{}", text()),
        (Request::Health, 200) => assert_eq!(text(), "ok"),
        (Request::Health, 503) => assert!(scenario.has_disk_faults || scenario.is_ending, "{}", text()),
        (request, status) => panic!("{status} for {request:?}: {}", text()),
    }
}

fn id_of(json: &Value) -> u64 {
    json["id"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("an id in {json}"))
}

/// Checks that an audit has all versions that must exist, oldest first, and none that was never inserted.
fn take_audit(name: usize, expected: &[usize], body: &[u8], oracle: &mut Oracle) {
    let text = std::str::from_utf8(body).expect("UTF-8");
    let prefix = format!("\"{}_v_", NAMES[name]);
    let mut shown = Vec::new();
    for piece in text.split(&prefix).skip(1) {
        let (id, rest) = piece.split_once("\":{\"n\":").expect("a version");
        let number: usize = rest.split(',').next().and_then(|digits| digits.parse().ok()).expect("a number");
        let id: u64 = id.parse().expect("an id");
        assert!(shown.last().is_none_or(|&(last, _)| id > last), "versions are out of order: {text}");
        let item = &oracle.items[number];
        // A lying disk may have left anything.
        assert!(item.feed == Feed::Name(name) || item.is_doubtful, "{item:?} is not a version of {}", NAMES[name]);
        oracle.show(number, Some(id));
        shown.push((id, number));
    }
    if oracle.has_failed {
        return;
    }
    for number in expected {
        let is_there = shown.iter().any(|entry| entry.1 == *number);
        assert!(
            is_there || oracle.items[*number].is_doubtful,
            "the audit lacks {number}, {:?}: {text}",
            oracle.items[*number]
        );
    }
}
