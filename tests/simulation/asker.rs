//! A client that asks: publishes, inserts, reads audits, and sometimes talks nonsense. Holds every answer against the truth.

use std::collections::VecDeque;
use std::ops::Range;

use fastrand::Rng;
use serde_json::Value;

use super::net::Net;
use super::talk::{Answer, field, take_answer};
use super::truth::{Feed, State, Truth};
use super::world::{NAMES, TOPICS, Traits, name_in_use};

/// What was asked, and what to hold the answer against.
#[derive(Debug)]
enum Question {
    Publish(Range<usize>),
    Insert(usize),
    /// The versions that the answer must have.
    Audit {
        name: usize,
        owed: Vec<usize>,
    },
    Health,
    /// A publish without an event.
    Empty,
}

/// See the module's page.
#[derive(Debug)]
pub struct Asker {
    pub pipe: usize,
    received: Vec<u8>,
    questions: VecDeque<Question>,
    /// Whether it says what no broker understands, so that any answer will do.
    is_mad: bool,
    /// In milliseconds, since when it has waited.
    pub waits_since: u64,
}

impl Asker {
    pub fn new(pipe: usize, is_mad: bool) -> Self {
        Self { pipe, received: Vec::new(), questions: VecDeque::new(), is_mad, waits_since: 0 }
    }

    pub fn is_waiting(&self) -> bool {
        !self.questions.is_empty() && !self.is_mad
    }

    /// Asks something.
    pub fn ask(&mut self, rng: &mut Rng, net: &mut Net, truth: &mut Truth, traits: &Traits, millis: u64) {
        if self.questions.is_empty() {
            self.waits_since = millis;
        }
        let request = match rng.u8(0..10) {
            _ if self.is_mad => nonsense(rng),
            // Some topics are busy, so that they lose what others still retain.
            0..5 => self.publish(rng.usize(0..TOPICS.len()).min(rng.usize(0..TOPICS.len())), rng, truth, traits),
            5..8 => self.insert(rng, truth, traits),
            8 => self.audit(name_in_use(rng, truth.step), truth, traits),
            _ if rng.u8(0..8) == 0 => self.empty(rng, traits),
            _ => self.health(rng),
        };
        net.send(self.pipe, request.as_bytes());
    }

    /// Some events for a topic.
    pub fn publish(&mut self, topic: usize, rng: &mut Rng, truth: &mut Truth, traits: &Traits) -> String {
        let begin = truth.items.len();
        let mut body = String::new();
        let own = truth.own_id(rng);
        for _ in 0..if own.is_some() { 1 } else { rng.usize(1..4) } {
            let number = truth.send(Feed::Topic(topic));
            let padding = "x".repeat(rng.usize(0..traits.padding));
            body.push_str(&format!("data: {number} secret-payload {padding}\n\n"));
        }
        if let Some(own) = own {
            body = format!("id: {own}\n{body}");
            truth.items[begin].own = Some(own);
        }
        // Comments after the last event are dropped: work for several slices, and nothing else.
        if rng.u8(0..32) == 0 {
            body.push_str(&": a comment\n".repeat(rng.usize(0..20_000)));
        }
        self.questions.push_back(Question::Publish(begin..truth.items.len()));
        post(&format!("/publish/{}", TOPICS[topic]), &body, &traits.publisher, rng)
    }

    fn insert(&mut self, rng: &mut Rng, truth: &mut Truth, traits: &Traits) -> String {
        let name = name_in_use(rng, truth.step);
        let number = truth.send(Feed::Name(name));
        self.questions.push_back(Question::Insert(number));
        let padding = "y".repeat(rng.usize(0..traits.padding));
        let event = Value::from(NAMES[name]);
        let body = format!("{{\"event\":{event},\"data\":{{\"n\":{number},\"of\":\"secret-payload {padding}\"}}}}");
        post("/insert", &body, &traits.publisher, rng)
    }

    /// Asks how it is, now and then with a body that nobody wants, and that is sometimes too long to be dropped.
    fn health(&mut self, rng: &mut Rng) -> String {
        self.questions.push_back(Question::Health);
        let body = "z".repeat(if rng.u8(0..4) == 0 { rng.usize(0..80 << 10) } else { 0 });
        format!("GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// Publishes nothing in many bytes, more than one turn reads.
    fn empty(&mut self, rng: &mut Rng, traits: &Traits) -> String {
        self.questions.push_back(Question::Empty);
        let body = ":".repeat(rng.usize(1..1 << 20));
        post(&format!("/publish/{}", TOPICS[0]), &body, &traits.publisher, rng)
    }

    /// Asks for all versions of a name.
    pub fn audit(&mut self, name: usize, truth: &Truth, traits: &Traits) -> String {
        self.questions.push_back(Question::Audit { name, owed: truth.versions(name).collect() });
        let path = NAMES[name].replace('/', "%2F").replace('\u{e9}', "%C3%A9").replace(' ', "%20");
        format!("GET /audit/{path}?limit=10000 HTTP/1.1\r\nHost: h\r\n{}\r\n", traits.subscriber)
    }

    /// Reads what has come.
    pub fn look(&mut self, net: &mut Net, truth: &mut Truth, traits: &Traits, millis: u64) {
        self.received.extend(net.take_received(self.pipe));
        if self.is_mad {
            return self.received.clear();
        }
        while let Some(answer) = take_answer(&mut self.received) {
            self.waits_since = millis;
            let question = self.questions.pop_front().unwrap_or_else(|| panic!("nobody asked for {answer:?}"));
            settle(question, &answer, truth, traits);
        }
    }

    /// The connection is lost: nobody knows what became of what was not answered.
    pub fn lose(&mut self, truth: &mut Truth) {
        for question in self.questions.drain(..) {
            match question {
                Question::Publish(items) => truth.refuse(items, State::Unknown),
                Question::Insert(number) => truth.refuse(number..number + 1, State::Unknown),
                Question::Audit { .. } | Question::Health | Question::Empty => {}
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

/// Parts of requests, wrong ones, and bytes.
fn nonsense(rng: &mut Rng) -> String {
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
    ];
    (0..rng.usize(1..8)).map(|_| texts[rng.usize(0..texts.len())]).collect()
}

fn settle(question: Question, answer: &Answer, truth: &mut Truth, traits: &Traits) {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status == 503 {
        assert!(field(&answer.head, "Retry-After").is_some(), "{answer:?}");
    }
    match (question, answer.status) {
        (Question::Publish(items), 200) => {
            let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
            if json["duplicate"] == true {
                return truth.repeat(items.start);
            }
            assert_eq!(json["events"], items.len(), "{json}");
            truth.accept(items, id_of(&json));
        }
        (Question::Insert(number), 200) => {
            let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
            let (Feed::Name(name), id) = (truth.items[number].feed, id_of(&json)) else { panic!("no record") };
            assert_eq!(json["key"], format!("{}_v_{id}", NAMES[name]));
            truth.accept(number..number + 1, id);
        }
        // A disk that failed in the middle may have it all the same.
        (Question::Insert(number), 503) if text().contains("has failed") || text().contains("in time") => {
            assert!(traits.has_disk_faults || text().contains("in time"), "{}", text());
            truth.refuse(number..number + 1, State::Unknown);
        }
        // It took its time.
        (Question::Publish(items), 408) => truth.refuse(items, State::Refused),
        (Question::Insert(number), 408) => truth.refuse(number..number + 1, State::Refused),
        (Question::Audit { .. } | Question::Health | Question::Empty, 408) => {}
        (Question::Empty, 400) => assert!(text().contains("data"), "{}", text()),
        (Question::Empty, 503) => {}
        (Question::Publish(items), 503) => truth.refuse(items, State::Refused),
        (Question::Insert(number), 503) => truth.refuse(number..number + 1, State::Refused),
        (Question::Audit { name, owed }, 200) => take_audit(name, &owed, &answer.body, truth),
        (Question::Audit { .. }, 503) => assert!(traits.has_disk_faults || traits.is_ending, "{}", text()),
        (Question::Health, 200) => assert_eq!(text(), "ok"),
        (Question::Health, 503) => assert!(traits.has_disk_faults || traits.is_ending, "{}", text()),
        (question, status) => panic!("{status} for {question:?}: {}", text()),
    }
}

fn id_of(json: &Value) -> u64 {
    json["id"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("an id in {json}"))
}

/// All versions there must be, oldest first, and none that nobody inserted.
fn take_audit(name: usize, owed: &[usize], body: &[u8], truth: &mut Truth) {
    let text = std::str::from_utf8(body).expect("UTF-8");
    let prefix = format!("\"{}_v_", NAMES[name]);
    let mut shown = Vec::new();
    for piece in text.split(&prefix).skip(1) {
        let (id, rest) = piece.split_once("\":{\"n\":").expect("a version");
        let number: usize = rest.split(',').next().and_then(|digits| digits.parse().ok()).expect("a number");
        let id: u64 = id.parse().expect("an id");
        assert!(shown.last().is_none_or(|&(last, _)| id > last), "versions are out of order: {text}");
        let item = &truth.items[number];
        // A disk that lied may have left anything.
        assert!(item.feed == Feed::Name(name) || item.is_doubtful, "{item:?} is no version of {}", NAMES[name]);
        truth.see(number, Some(id));
        shown.push((id, number));
    }
    if truth.has_failed {
        return;
    }
    for number in owed {
        let is_there = shown.iter().any(|entry| entry.1 == *number);
        assert!(
            is_there || truth.items[*number].is_doubtful,
            "the audit lacks {number}, {:?}: {text}",
            truth.items[*number]
        );
    }
}
