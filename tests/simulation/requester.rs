//! A client that sends requests: it publishes, inserts, reads audits, and sometimes sends malformed requests. Checks every
//! response against the oracle.

use std::collections::VecDeque;
use std::ops::Range;

use fastrand::Rng;
use serde_json::Value;

use super::conditions::{Repetition, Terms, check_versions, id_of, settle_conflict};
use super::erasures::{Erasure, assert_not_erased};
use super::net::Net;
use super::oracle::{Feed, Oracle, State};
use super::parser::{Response, field, take_response};
use super::world::{NAMES, Scenario, TOPICS, name_in_use};

/// A request, and what its response must agree with.
#[derive(Debug)]
enum Request {
    Publish(Range<usize>),
    Insert(usize, Terms),
    /// An insert whose key was used before.
    Again(Repetition),
    /// With the versions that the response must have, and the ids of such that rejected requests were told about.
    Audit {
        name: usize,
        expected: Vec<usize>,
        ids: Vec<u64>,
        /// The step in which it was sent.
        sent: usize,
    },
    Erase(Erasure),
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
            8 if oracle.has_erasures && rng.u8(0..3) == 0 => self.erase(rng, oracle, scenario),
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
        if rng.u8(0..6) == 0
            && let Some(again) = Repetition::choose(rng, oracle)
        {
            self.unanswered.push_back(Request::Again(again));
            let fields = again.fields(oracle);
            return insert_request(again.name, again.number, &fields, rng, scenario);
        }
        let name = name_in_use(rng, oracle.step);
        let terms = Terms::choose(name, rng, oracle);
        let number = oracle.send(Feed::Name(name));
        terms.note(number, oracle);
        self.unanswered.push_back(Request::Insert(number, terms));
        insert_request(name, number, &terms.fields(number), rng, scenario)
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
        let ids = oracle.conflicts.get(&name).into_iter().flatten().copied().collect();
        let expected = oracle.versions(name).collect();
        self.unanswered.push_back(Request::Audit { name, expected, ids, sent: oracle.step });
        format!("GET {}?limit=10000 HTTP/1.1\r\nHost: h\r\n{}\r\n", audit_path(name), scenario.subscriber_auth)
    }

    fn erase(&mut self, rng: &mut Rng, oracle: &mut Oracle, scenario: &Scenario) -> String {
        let erasure = Erasure::send(rng, oracle);
        let (path, token) = (audit_path(erasure.name), &scenario.publisher_auth);
        let before = erasure.before.map_or(String::new(), |before| format!("?before={before}"));
        self.unanswered.push_back(Request::Erase(erasure));
        format!("DELETE {path}{before} HTTP/1.1\r\nHost: h\r\n{token}\r\n")
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
                Request::Insert(number, _) => oracle.refuse(number..number + 1, State::Unknown),
                // The versions may be erased, now or later.
                Request::Erase(_) => {}
                Request::Again(_) | Request::Audit { .. } | Request::Health | Request::Empty => {}
            }
        }
    }
}

fn audit_path(name: usize) -> String {
    format!("/audit/{}", NAMES[name].replace('/', "%2F").replace('\u{e9}', "%C3%A9").replace(' ', "%20"))
}

fn insert_request(name: usize, number: usize, fields: &str, rng: &mut Rng, scenario: &Scenario) -> String {
    let padding = "y".repeat(rng.usize(0..scenario.padding));
    let event = Value::from(NAMES[name]);
    let body = format!("{{\"event\":{event},\"data\":{{\"n\":{number},\"of\":\"secret-payload {padding}\"}}}}");
    post("/insert", &body, &format!("{}{fields}", scenario.publisher_auth), rng)
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
        (Request::Insert(number, terms), 412) => {
            let json: Value = serde_json::from_slice(&response.body).expect("JSON");
            settle_conflict(number, terms, &json, oracle);
        }
        (Request::Again(again), status) => {
            let json: Value = serde_json::from_slice(&response.body).expect("JSON");
            again.settle(status, &json, oracle);
        }
        (Request::Insert(number, _), 200) => {
            let json: Value = serde_json::from_slice(&response.body).expect("JSON");
            let (Feed::Name(name), id) = (oracle.items[number].feed, id_of(&json)) else { panic!("no record") };
            assert_eq!(json["key"], format!("{}_v_{id}", NAMES[name]));
            // If it was sent again meanwhile, either request may be the first.
            let may_be_duplicate = oracle.items[number].sent_again.is_some();
            assert!(may_be_duplicate || json["duplicate"].is_null(), "{number} is taken for another: {json}");
            oracle.accept(number..number + 1, id);
        }
        // A disk that failed during the commit may have the record anyway.
        (Request::Insert(number, _), 503) if text().contains("has failed") || text().contains("in time") => {
            assert!(scenario.has_disk_faults || text().contains("in time"), "{}", text());
            oracle.refuse(number..number + 1, State::Unknown);
        }
        // The request took too long.
        (Request::Publish(items), 408) => oracle.refuse(items, State::Refused),
        (Request::Insert(number, _), 408) => oracle.refuse(number..number + 1, State::Refused),
        (Request::Audit { .. } | Request::Health | Request::Empty, 408) => {}
        (Request::Empty, 400) => assert!(text().contains("data"), "{}", text()),
        (Request::Empty, 503) => {}
        (Request::Publish(items), 503) => oracle.refuse(items, State::Refused),
        (Request::Insert(number, _), 503) => oracle.refuse(number..number + 1, State::Refused),
        (Request::Audit { name, expected, ids, sent }, 200) => {
            take_audit(name, &expected, &ids, &response.body, oracle);
            assert_not_erased(name, sent, &text(), oracle);
        }
        (Request::Erase(erasure), 200) => erasure.settle(oracle),
        // It was refused, or the outcome is unknown.
        (Request::Erase(_), 408 | 503) => {}
        (Request::Audit { .. }, 503) => assert!(scenario.has_disk_faults || scenario.is_ending, "{}", text()),
        (Request::Health, 200) => assert_eq!(text(), "ok"),
        (Request::Health, 503) => assert!(scenario.has_disk_faults || scenario.is_ending, "{}", text()),
        (request, status) => panic!("{status} for {request:?}: {}", text()),
    }
}

/// Checks that an audit has all versions that must exist, oldest first, and none that was never inserted.
fn take_audit(name: usize, expected: &[usize], ids: &[u64], body: &[u8], oracle: &mut Oracle) {
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
    check_versions(&shown, oracle);
    // A limited retention removes the oldest.
    let may_be_removed = |id: &u64| oracle.kept.is_some() && shown.first().is_none_or(|(first, _)| id < first);
    let is_missing = |id: &&u64| shown.binary_search_by_key(*id, |(shown, _)| *shown).is_err() && !may_be_removed(id);
    let told = ids.iter().filter(is_missing);
    assert_eq!(told.count(), 0, "a 412 has named a version that does not exist: {ids:?}, {text}");
    for number in expected {
        let is_there = shown.iter().any(|entry| entry.1 == *number);
        let is_due = oracle.items[*number].must_exist() && !oracle.items[*number].is_doubtful;
        assert!(
            is_there || !is_due || oracle.may_be_removed(*number),
            "the audit lacks {number}, {:?}: {text}",
            oracle.items[*number]
        );
    }
}
