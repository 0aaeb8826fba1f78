//! Clients connect: some send requests, some subscribe, and some of those resume where another was disconnected.

use std::collections::BTreeSet;

use esker::Revocation;

use super::erasures::Told;
use super::log_check;
use super::oracle::{Feed, Item, Position, Start, StreamLog};
use super::requester::Requester;
use super::subscriber::{Rules, Subscriber};
use super::tokens;
use super::world::{NAMES, TOPICS, World, name_in_use, trace};

impl World {
    pub(super) fn rules(&mut self) -> Rules {
        self.latest_second = self.latest_second.max(self.second());
        Rules { is_roomy: self.scenario.is_roomy, latest_second: self.latest_second }
    }

    /// Checks what every client has received.
    pub(super) fn observe(&mut self) {
        let (rules, millis) = (self.rules(), self.millis());
        let (mut net, oracle) = (self.net.get(), &mut self.oracle);
        for requester in &mut self.requesters {
            requester.observe(&mut net, oracle, &self.scenario, millis);
        }
        for subscriber in &mut self.subscribers {
            let before = (subscriber.log.events.len(), subscriber.log.gaps.len());
            subscriber.observe(&mut net, oracle, rules);
            self.totals.events += subscriber.log.events.len() - before.0;
            self.totals.gaps += subscriber.log.gaps.len() - before.1;
        }
        for &pipe in &self.crowd {
            net.take_received(pipe);
        }
        drop(net);
        self.assert_bounded();
        log_check::assert_clean();
    }

    pub(super) fn connect_requester(&mut self) {
        let room = if self.rng.bool() { None } else { Some(self.rng.usize(0..2000)) };
        let pipe = self.net.get().connect(room);
        let is_malformed = self.rng.u8(0..6) == 0;
        self.requesters.push(Requester::new(pipe, is_malformed));
        self.send_request();
    }

    pub(super) fn send_request(&mut self) {
        if self.requesters.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.requesters.len());
        let millis = self.millis();
        let (mut net, requester) = (self.net.get(), &mut self.requesters[index]);
        if !net.is_over(requester.pipe) {
            requester.send_request(&mut self.rng, &mut net, &mut self.oracle, &self.scenario, millis);
        }
    }

    pub(super) fn subscribe(&mut self) {
        let resumes = self.rng.bool().then(|| self.disconnect_one()).flatten();
        let is_records = resumes.as_ref().map_or_else(|| self.rng.u8(0..4) == 0, |old| old.log.is_records);
        let feeds = resumes.as_ref().map(|old| old.log.feeds.clone());
        let mut feeds = feeds.unwrap_or_else(|| self.feeds(is_records));
        let position = match resumes {
            Some(old) => old.position.map(|seen| (seen, old.log.boot)),
            None => self.position(is_records),
        };
        // In other topics the id may belong to another event.
        if let Some((Position::Item(number), _)) = position
            && let Feed::Topic(topic) = self.oracle.items[number].feed
        {
            feeds.insert(topic);
        }
        let is_fast = self.rng.bool();
        self.subscribe_to(feeds, is_records, position, is_fast);
    }

    pub(super) fn subscribe_to(
        &mut self,
        feeds: BTreeSet<usize>,
        is_records: bool,
        position: Option<(Position, usize)>,
        is_fast: bool,
    ) {
        let start = self.start_of(position, is_records);
        let pipe = self.net.get().connect(if is_fast { None } else { Some(self.rng.usize(0..600)) });
        let expires = self.scenario.has_tokens.then(|| self.second() + self.rng.u64(1..100));
        let token = expires.map_or(String::new(), |expires| tokens::field_with_id(tokens::SUBSCRIBER, expires, pipe));
        let is_poll = self.rng.u8(0..4) == 0;
        let target = target(&feeds, is_records, is_poll);
        let field = position.map_or(String::new(), |(seen, _)| format!("Last-Event-ID: {}\r\n", self.text_of(seen)));
        self.net.get().send(pipe, format!("GET {target} HTTP/1.1\r\nHost: h\r\n{token}{field}\r\n").as_bytes());
        let boot = self.oracle.begin(is_records);
        trace(self.oracle.step, &format!("pipe {pipe} listens to {target} from {start:?}"));
        let log = StreamLog {
            feeds,
            is_records,
            is_all_retained: self.scenario.is_roomy,
            start,
            opened: None,
            boot,
            events: Vec::new(),
            gaps: Vec::new(),
            told: Told::default(),
        };
        self.subscribers.push(Subscriber::new(pipe, log, is_fast, is_poll, expires));
    }

    /// Revokes the token of some subscriber, wherever its request or its stream is just now.
    pub(super) fn revoke_one(&mut self) {
        if !self.scenario.has_tokens || self.subscribers.is_empty() {
            return;
        }
        let (index, second) = (self.rng.usize(0..self.subscribers.len()), self.second());
        let (Some(broker), subscriber) = (&self.broker, &mut self.subscribers[index]) else { return };
        trace(self.oracle.step, &format!("the token on pipe {} is revoked", subscriber.pipe));
        broker.revoke(&Revocation::jti(subscriber.pipe.to_string()).expect("it is short"), second);
        subscriber.is_revoked = true;
    }

    /// Disconnects some subscriber and returns it, so that another may resume from its position.
    pub(super) fn disconnect_one(&mut self) -> Option<Subscriber> {
        if self.subscribers.is_empty() {
            return None;
        }
        let index = self.rng.usize(0..self.subscribers.len());
        let subscriber = self.subscribers.swap_remove(index);
        self.net.get().reset(subscriber.pipe);
        subscriber.log.assert_complete(&self.oracle, false, &subscriber.description());
        Some(subscriber)
    }

    pub(super) fn feeds(&mut self, is_records: bool) -> BTreeSet<usize> {
        let step = self.oracle.step;
        match is_records {
            true => (0..self.rng.usize(0..4)).map(|_| name_in_use(&mut self.rng, step)).collect(),
            false => (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect(),
        }
    }

    fn text_of(&self, seen: Position) -> String {
        match seen {
            Position::Id(id) => id.to_string(),
            Position::Item(number) => self.oracle.items[number].publisher_id.clone().expect("it has one"),
        }
    }

    /// Returns a position, and the number of the broker's start that it is from.
    pub(super) fn position(&mut self, is_records: bool) -> Option<(Position, usize)> {
        match self.rng.u8(0..6) {
            0..3 => None,
            3 => Some((Position::Id(0), self.oracle.begin(is_records))),
            4 if !is_records => Some((Position::Id(5), 0)),
            _ => {
                // An id that no broker knows any more may belong to another event by now.
                let (boot, covered) = (self.oracle.begin(is_records), self.oracle.boot_covered);
                let (newest, is_sure) = (self.oracle.boot_newest, !self.oracle.ids_are_doubtful);
                let through = |item: &Item| if item.is_lost && is_sure { newest } else { covered };
                let is_known = |item: &Item| item.boot == boot || item.id.is_some_and(|id| id <= through(item));
                let seen = |(number, item): (usize, &Item)| match item.publisher_id {
                    None => Some((Position::Id(item.id?), item.boot)),
                    Some(_) => (item.boot == boot && item.must_exist()).then_some((Position::Item(number), boot)),
                };
                let items = self.oracle.items.iter().enumerate();
                let items = items.filter(|(_, item)| item.is_record() == is_records && is_known(item));
                let (lost, there): (Vec<_>, Vec<_>) = items.partition(|(_, item)| item.is_lost);
                let known = if lost.is_empty() || self.rng.bool() { there } else { lost };
                let known: Vec<_> = known.into_iter().filter_map(seen).collect();
                (!known.is_empty()).then(|| known[self.rng.usize(0..known.len())])
            }
        }
    }

    pub(super) fn start_of(&self, position: Option<(Position, usize)>, is_records: bool) -> Start {
        match position {
            None if is_records => Start::Retained { is_all: true },
            None => Start::Live,
            Some((Position::Id(0), _)) => Start::Retained { is_all: is_records || self.scenario.is_roomy },
            Some((Position::Id(id), _)) if is_records => self.oracle.record_start(id),
            Some((Position::Id(id), boot)) if boot == self.oracle.history => Start::After(id),
            Some((Position::Item(number), boot)) if boot == self.oracle.history => Start::AfterItem(number),
            Some(_) => Start::Unknown,
        }
    }
}

fn target(feeds: &BTreeSet<usize>, is_records: bool, is_poll: bool) -> String {
    let poll = if is_poll { "poll" } else { "" };
    if is_records {
        let names =
            feeds.iter().map(|&name| format!("event={}", NAMES[name].replace('\u{e9}', "%C3%A9").replace(' ', "%20")));
        return format!("/events?{poll}&{}", names.collect::<Vec<_>>().join("&"));
    }
    format!("/subscribe/{}?{poll}", feeds.iter().map(|&topic| TOPICS[topic]).collect::<Vec<_>>().join(","))
}
