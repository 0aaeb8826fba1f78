//! Inserts, audits and streams of records, and what must be true of them: a record that was inserted is in the history of its
//! name at every broker, once, unless the log has lost it.

use std::collections::BTreeMap;

use esker::internals::engine::sim::SimLog;
use esker::internals::records::insert::{Condition, InsertOutcome};
use serde_json::Value;

use super::super::engine::follower::SeenRecord;
use super::super::engine::records::{self, Insert, NAMES, RecordTruth, State};
use super::super::net::Net;
use super::super::parser::{Response, field, take_response};
use super::super::world::trace;
use super::listener::Listener;
use super::settle::{ROUND_MICROS, ROUNDS};
use super::world::{SITES, World};

/// The maximum number of streams of records at a time.
const LISTENERS: usize = 6;

/// What a client asks for.
#[derive(Clone, Debug)]
enum Request {
    Insert(usize),
    Page(Page),
}

/// A request for a page of a history.
#[derive(Clone, Debug)]
struct Page {
    name: usize,
    after: u64,
    limit: usize,
    /// The ids that it must have if it is long enough and nothing is lost.
    expected: Vec<u64>,
    /// All pages are read from this site.
    is_final: bool,
}

/// A request without a response.
#[derive(Debug)]
struct Call {
    request: Request,
    site: usize,
    pipe: usize,
    received: Vec<u8>,
}

/// The clients of records.
#[derive(Debug)]
pub struct Records {
    oracle: records::Records,
    calls: Vec<Call>,
    listeners: Vec<Listener>,
    /// Whole histories, by site and name.
    histories: BTreeMap<(usize, usize), Vec<SeenRecord>>,
}

impl Records {
    pub fn new(most_bytes: u64) -> Self {
        let oracle = records::Records { most_bytes, ..records::Records::default() };
        Self { oracle, calls: Vec::new(), listeners: Vec::new(), histories: BTreeMap::new() }
    }

    pub fn pipes(&self, site: usize) -> impl Iterator<Item = usize> {
        let calls = self.calls.iter().filter(move |call| call.site == site).map(|call| call.pipe);
        let links = self.listeners.iter().filter_map(|listener| listener.link.as_ref());
        calls.chain(links.filter(move |link| link.site == site).map(|link| link.pipe))
    }

    pub fn are_calm(&self) -> bool {
        self.calls.is_empty() && self.listeners.iter().all(Listener::is_connected)
    }

    /// Returns the number of records that were inserted.
    pub fn accepted(&self) -> usize {
        self.oracle.inserts.iter().filter(|insert| matches!(insert.state, State::Accepted(_))).count()
    }

    /// Checks everything that clients were told.
    pub fn assert_all(&self, truth: &RecordTruth, has_losses: bool, is_caught_up: bool) {
        self.oracle.assert_answers(truth, false);
        for listener in &self.listeners {
            listener.assert_heard(truth, has_losses, is_caught_up);
        }
        for ((site, name), history) in self.histories.iter().filter(|_| is_caught_up) {
            let expected: Vec<_> = truth.kept.iter().filter(|record| &*record.name == NAMES[*name]).collect();
            assert_eq!(history.iter().collect::<Vec<_>>(), expected, "the history of {name} at {site}");
        }
    }
}

impl World {
    /// A client inserts, reads a history, or opens or closes a stream of records.
    pub(super) fn use_records(&mut self) {
        match self.rng.u8(0..8) {
            0..4 => self.insert(),
            4 => self.read_page(),
            5 | 6 => self.connect_listener(),
            _ => self.disconnect_listener(),
        }
    }

    fn insert(&mut self) {
        let Some(site) = self.some_open_site() else { return };
        let (node, sent) = (self.sites[site].serial, self.sites[site].millis());
        let number = self.records.oracle.send(node, sent, &mut self.rng);
        let insert = &self.records.oracle.inserts[number];
        trace(self.step, &format!("insert {number} at {site}: {insert:?}"));
        let body = format!("{{\"event\":{},\"data\":{number}}}", Value::from(insert.name));
        let (fields, length) = (insert.fields(), body.len());
        let request = format!("POST /insert HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
        self.call(Request::Insert(number), site, &request);
    }

    fn read_page(&mut self) {
        let Some(site) = self.some_open_site() else { return };
        let name = self.rng.usize(0..NAMES.len());
        let of_name = self.records.oracle.inserts.iter().filter(|insert| insert.name == NAMES[name]);
        let mut ids: Vec<_> = of_name.filter_map(Insert::id).collect();
        ids.sort_unstable();
        let after = if ids.is_empty() || self.rng.bool() { 0 } else { ids[self.rng.usize(0..ids.len())] };
        let expected = ids.into_iter().filter(|id| *id > after).collect();
        let limit = [1, 3, 10_000][self.rng.usize(0..3)];
        self.ask(site, Page { name, after, limit, expected, is_final: false });
    }

    fn ask(&mut self, site: usize, page: Page) {
        let Page { name, after, limit, .. } = page;
        let path = format!("/audit?event={}&after={after}&limit={limit}", encode(NAMES[name]));
        self.call(Request::Page(page), site, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }

    fn call(&mut self, request: Request, site: usize, text: &str) {
        let mut net = self.sites[site].net.get();
        let pipe = net.connect(None);
        net.send(pipe, text.as_bytes());
        self.records.calls.push(Call { request, site, pipe, received: Vec::new() });
    }

    fn connect_listener(&mut self) {
        let listeners = &mut self.records.listeners;
        let away: Vec<_> = (0..listeners.len()).filter(|&at| listeners[at].link.is_none()).collect();
        if !away.is_empty() && (listeners.len() == LISTENERS || self.rng.bool()) {
            let index = away[self.rng.usize(0..away.len())];
            return self.open_listener(index);
        }
        if listeners.len() < LISTENERS {
            let mut names: Vec<_> = (0..self.rng.usize(0..3)).map(|_| self.rng.usize(0..NAMES.len())).collect();
            names.sort_unstable();
            names.dedup();
            listeners.push(Listener::new(names, self.rng.bool()));
            self.open_listener(self.records.listeners.len() - 1);
        }
    }

    fn open_listener(&mut self, index: usize) {
        let Some(site) = self.some_open_site() else { return };
        let listener = &mut self.records.listeners[index];
        let mut net = self.sites[site].net.get();
        let pipe = net.connect(if listener.is_fast { None } else { Some(self.rng.usize(0..600)) });
        let request = listener.connect(site, self.sites[site].serial, pipe);
        trace(self.step, &format!("listener {index} at {site}: {}", request.trim().replace("\r\n", ", ")));
        net.send(pipe, request.as_bytes());
    }

    fn disconnect_listener(&mut self) {
        if self.records.listeners.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.records.listeners.len());
        let listener = &mut self.records.listeners[index];
        let Some(site) = listener.link.as_ref().map(|link| link.site) else { return };
        let mut net = self.sites[site].net.get();
        self.totals.records += listener.observe(&mut net);
        listener.disconnect(&mut net);
    }

    /// Connects every client that has no stream.
    pub(super) fn connect_listeners(&mut self) {
        for index in 0..self.records.listeners.len() {
            if self.records.listeners[index].link.is_none() {
                self.open_listener(index);
            }
        }
    }

    /// Takes what every client of records has received.
    pub(super) fn observe_records(&mut self) {
        for mut call in std::mem::take(&mut self.records.calls) {
            let mut net = self.sites[call.site].net.get();
            match call.response(&mut net) {
                None if !net.is_over(call.pipe) => {
                    self.records.calls.push(call);
                    continue;
                }
                response => {
                    net.reset(call.pipe);
                    drop(net);
                    let said = response.as_ref().map(|response| (response.status, response.body.len()));
                    trace(self.step, &format!("{:?} at {}: {said:?}", call.request, call.site));
                    self.take_response(call, response.as_ref());
                }
            }
        }
        for (index, listener) in self.records.listeners.iter_mut().enumerate() {
            let Some(site) = listener.link.as_ref().map(|link| link.site) else { continue };
            let before = listener.heard.len();
            self.totals.records += listener.observe(&mut self.sites[site].net.get());
            for heard in &listener.heard[before..] {
                trace(self.step, &format!("listener {index}: {heard:?}"));
            }
        }
    }

    fn take_response(&mut self, call: Call, response: Option<&Response>) {
        match call.request {
            Request::Insert(number) => self.records.oracle.inserts[number].take(number, response),
            Request::Page(page) => {
                let response = response.filter(|response| response.status == 200);
                let Some(response) = response else { return self.retry(call.site, page) };
                self.totals.audited += 1;
                let records = page.read(response);
                let next = field(&response.head, "Link").and(records.last()).map(|record| record.id);
                page.assert_page(&records, next, &self.log);
                if page.is_final {
                    self.records.histories.entry((call.site, page.name)).or_default().extend(records);
                    if let Some(after) = next {
                        self.ask(call.site, Page { after, ..page });
                    }
                }
            }
        }
    }

    /// Asks again for a page of a whole history.
    fn retry(&mut self, site: usize, page: Page) {
        if page.is_final {
            self.ask(site, page);
        }
    }

    /// Reads all histories at all brokers.
    pub(super) fn audit_all(&mut self) {
        self.records.histories.clear();
        for (site, name) in (0..SITES).flat_map(|site| (0..NAMES.len()).map(move |name| (site, name))) {
            self.records.histories.insert((site, name), Vec::new());
            let limit = [2, 10_000][self.rng.usize(0..2)];
            self.ask(site, Page { name, after: 0, limit, expected: Vec::new(), is_final: true });
        }
        for _ in 0..ROUNDS {
            self.run_round(true);
            if self.records.calls.is_empty() {
                return;
            }
            self.advance(ROUND_MICROS);
        }
        panic!("histories are not returned: {:?}", self.records.calls);
    }
}

impl Call {
    fn response(&mut self, net: &mut Net) -> Option<Response> {
        self.received.extend(net.take_received(self.pipe));
        take_response(&mut self.received)
    }
}

impl Insert {
    /// Returns the fields that say its condition and its key.
    fn fields(&self) -> String {
        let condition = match &self.condition {
            Condition::Always => String::new(),
            Condition::Exists => "If-Match: *\r\n".to_owned(),
            Condition::Absent => "If-None-Match: *\r\n".to_owned(),
            Condition::NewestIs(ids) => {
                // A weak tag never matches.
                let tags = ids.iter().map(|id| format!(", \"{id}\"")).collect::<String>();
                format!("If-Match: W/\"1\"{tags}\r\n")
            }
        };
        let key = self.key.map_or(String::new(), |key| format!("Idempotency-Key: key-{key}\r\n"));
        condition + &key
    }

    fn id(&self) -> Option<u64> {
        match self.state {
            State::Accepted(id) => Some(id),
            _ => None,
        }
    }

    /// Takes the response; none if the connection was lost.
    fn take(&mut self, number: usize, response: Option<&Response>) {
        let Some(response) = response else {
            self.state = State::Unknown;
            return;
        };
        let text = String::from_utf8_lossy(&response.body);
        self.state = match response.status {
            200 => {
                let json: Value = serde_json::from_str(&text).expect("JSON");
                let id: u64 = json["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
                assert_eq!(json["key"], format!("{}_v_{id}", self.name), "{number}");
                assert_eq!(field(&response.head, "ETag"), Some(&*format!("\"{id}\"")), "{number}");
                match json["duplicate"].as_bool() {
                    Some(true) => State::Declined(InsertOutcome::Repeated(id)),
                    _ => State::Accepted(id),
                }
            }
            412 => {
                let json: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(json["event"], self.name, "{number}");
                let newest = json["id"].as_str().map(|id| id.parse().expect("an id"));
                State::Declined(InsertOutcome::Conflict(newest))
            }
            422 => State::Declined(InsertOutcome::KeyReused),
            503 => {
                assert!(field(&response.head, "Retry-After").is_some(), "{text}");
                State::Refused
            }
            408 => State::Refused,
            504 => State::Unknown,
            status => panic!("{status}: {text}"),
        };
    }
}

impl Page {
    /// Reads `{"name_v_id":number,…}`.
    fn read(&self, response: &Response) -> Vec<SeenRecord> {
        let text = String::from_utf8_lossy(&response.body);
        let members = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect("an object");
        let members = members.split(',').filter(|member| !member.is_empty());
        let records = members.map(|member| {
            let (key, number) = member.rsplit_once(':').expect("a member");
            let key: String = serde_json::from_str(key).expect("a key");
            let (name, id) = key.rsplit_once("_v_").expect("a key");
            let number = number.parse().expect("a number");
            SeenRecord { id: id.parse().expect("an id"), name: name.into(), number }
        });
        records.collect()
    }

    /// Checks a page. `next` is its last id if more versions follow.
    fn assert_page(&self, records: &[SeenRecord], next: Option<u64>, log: &SimLog) {
        let truth = RecordTruth::new(log);
        let mut newest = self.after;
        for record in records {
            assert!(record.id > newest && truth.has_had(record), "{record:?} after {newest}: {self:?}");
            assert_eq!(&*record.name, NAMES[self.name], "{self:?}");
            newest = record.id;
        }
        assert!(records.len() <= self.limit, "{self:?}: {records:?}");
        let end = next.unwrap_or(u64::MAX);
        let missing = |id: &&u64| **id <= end && records.iter().all(|record| record.id != **id);
        let missing: Vec<_> = self.expected.iter().filter(missing).collect();
        assert!(missing.is_empty() || !log.lost().is_empty(), "{missing:?} are missing: {self:?}, {records:?}");
    }
}

/// Encodes a name for a query.
pub fn encode(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}
