//! A client with a stream of records. When its stream ends, it resumes at any broker after the last id that it has received.

use std::collections::BTreeMap;

use super::super::engine::follower::SeenRecord;
use super::super::engine::records::{NAMES, RecordTruth};
use super::super::net::Net;
use super::super::parser::StreamItem;
use super::records::encode;
use super::subscriber::Link;

/// What a client has received, over all its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has connected.
    Opened,
    Record(SeenRecord),
    /// What it has is no longer certain: the newest record of every name follows.
    Gap,
}

/// A client and its stream.
#[derive(Debug)]
pub struct Listener {
    /// The names that it asks for; all if there are none.
    names: Vec<usize>,
    pub is_fast: bool,
    pub link: Option<Link>,
    position: Option<u64>,
    pub heard: Vec<Heard>,
}

impl Listener {
    pub fn new(names: Vec<usize>, is_fast: bool) -> Self {
        Self { names, is_fast, link: None, position: None, heard: Vec::new() }
    }

    /// Connects. Returns the request.
    pub fn connect(&mut self, site: usize, broker: u64, pipe: usize) -> String {
        self.link = Some(Link::new(site, broker, pipe));
        let names: Vec<_> = self.names.iter().map(|&name| format!("event={}", encode(NAMES[name]))).collect();
        let position = self.position.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        format!("GET /events?{} HTTP/1.1\r\nHost: h\r\n{position}\r\n", names.join("&"))
    }

    /// Returns whether it receives records.
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_open)
    }

    /// Takes what has arrived. Returns how many records it was.
    pub fn observe(&mut self, net: &mut Net) -> usize {
        let Some(link) = &mut self.link else { return 0 };
        let was_open = link.is_open;
        let items = link.feed(net.take_received(link.pipe));
        let is_over = link.is_over || net.is_over(link.pipe);
        if link.is_open && !was_open {
            self.heard.push(Heard::Opened);
        }
        let before = self.heard.len();
        items.into_iter().for_each(|item| self.take(item));
        if is_over {
            self.disconnect(net);
        }
        self.heard[before..].iter().filter(|heard| matches!(heard, Heard::Record(_))).count()
    }

    pub fn disconnect(&mut self, net: &mut Net) {
        if let Some(link) = self.link.take() {
            net.reset(link.pipe);
        }
    }

    fn take(&mut self, item: StreamItem) {
        match item {
            StreamItem::Event { id, name, data } => {
                let id = id.parse().expect("an id is a number");
                self.position = Some(id);
                let number = data.parse().expect("a number");
                self.heard.push(Heard::Record(SeenRecord { id, name: name.into(), number }));
            }
            StreamItem::Gap { .. } => self.heard.push(Heard::Gap),
            StreamItem::Prime { .. } | StreamItem::Expired | StreamItem::Erased { .. } => {
                panic!("{item:?} in a stream of records")
            }
            StreamItem::End => {}
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|&wanted| NAMES[wanted] == name)
    }

    /// Checks what it has received. `is_caught_up` means that it has received everything.
    pub fn assert_heard(&self, truth: &RecordTruth, has_losses: bool, is_caught_up: bool) {
        let (mut newest, mut names) = (0, BTreeMap::new());
        for heard in &self.heard {
            match heard {
                Heard::Opened => {}
                Heard::Gap => {
                    assert!(has_losses, "a gap though nothing is lost: {self:?}");
                    (newest, names) = (0, BTreeMap::new());
                }
                Heard::Record(record) => {
                    assert!(record.id > newest, "{record:?} after {newest}: {self:?}");
                    assert!(truth.has_had(record), "{record:?} is not in the log");
                    assert!(self.wants(&record.name), "{record:?} was not asked for: {self:?}");
                    newest = record.id;
                    names.insert(&*record.name, record);
                }
            }
        }
        if is_caught_up && !self.is_deceived(truth) {
            let wanted: BTreeMap<_, _> = truth.newest().into_iter().filter(|(name, _)| self.wants(name)).collect();
            assert_eq!(names, wanted, "the newest records are not there: {self:?}");
        }
    }

    /// Returns whether it may have resumed after an id that is of two records, one of which is lost.
    fn is_deceived(&self, truth: &RecordTruth) -> bool {
        self.heard.iter().any(|heard| matches!(heard, Heard::Record(record) if truth.is_ambiguous(record)))
    }
}
