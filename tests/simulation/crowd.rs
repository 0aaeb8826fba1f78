//! Who comes: those who ask and those who listen, some of them from where another was cut off.

use std::collections::BTreeSet;

use super::asker::Asker;
use super::journal;
use super::listener::{Listener, Rules};
use super::tokens;
use super::truth::{Account, Feed, Item, Seen, Start};
use super::world::{NAMES, TOPICS, World, name_in_use, tell};

impl World {
    pub(super) fn rules(&mut self) -> Rules {
        self.latest_second = self.latest_second.max(self.second());
        Rules { is_roomy: self.traits.is_roomy, latest_second: self.latest_second }
    }

    /// Everybody reads what has come.
    pub(super) fn look(&mut self) {
        let (rules, millis) = (self.rules(), self.millis());
        let (mut net, truth) = (self.net.get(), &mut self.truth);
        for asker in &mut self.askers {
            asker.look(&mut net, truth, &self.traits, millis);
        }
        for listener in &mut self.listeners {
            let before = (listener.account.log.len(), listener.account.gaps.len());
            listener.look(&mut net, truth, rules);
            self.tally.events += listener.account.log.len() - before.0;
            self.tally.gaps += listener.account.gaps.len() - before.1;
        }
        for &pipe in &self.thronging {
            net.take_received(pipe);
        }
        drop(net);
        self.assert_bounded();
        journal::assert_clean();
    }

    pub(super) fn come(&mut self) {
        let room = if self.rng.bool() { None } else { Some(self.rng.usize(0..2000)) };
        let pipe = self.net.get().connect(room);
        let is_mad = self.rng.u8(0..6) == 0;
        self.askers.push(Asker::new(pipe, is_mad));
        self.ask();
    }

    pub(super) fn ask(&mut self) {
        if self.askers.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.askers.len());
        let millis = self.millis();
        let (mut net, asker) = (self.net.get(), &mut self.askers[index]);
        if !net.is_over(asker.pipe) {
            asker.ask(&mut self.rng, &mut net, &mut self.truth, &self.traits, millis);
        }
    }

    pub(super) fn listen(&mut self) {
        let resumes = self.rng.bool().then(|| self.cut_one()).flatten();
        let is_records = resumes.as_ref().map_or_else(|| self.rng.u8(0..4) == 0, |old| old.account.is_records);
        let feeds = resumes.as_ref().map(|old| old.account.feeds.clone());
        let mut feeds = feeds.unwrap_or_else(|| self.feeds(is_records));
        let position = match resumes {
            Some(old) => old.position.map(|seen| (seen, old.account.boot)),
            None => self.position(is_records),
        };
        // In other topics the id may be another event's.
        if let Some((Seen::Item(number), _)) = position
            && let Feed::Topic(topic) = self.truth.items[number].feed
        {
            feeds.insert(topic);
        }
        let is_fast = self.rng.bool();
        self.listen_to(feeds, is_records, position, is_fast);
    }

    pub(super) fn listen_to(
        &mut self,
        feeds: BTreeSet<usize>,
        is_records: bool,
        position: Option<(Seen, usize)>,
        is_fast: bool,
    ) {
        let start = self.start_of(position, is_records);
        let pipe = self.net.get().connect(if is_fast { None } else { Some(self.rng.usize(0..600)) });
        let expires = self.traits.has_tokens.then(|| self.second() + self.rng.u64(1..100));
        let token = expires.map_or(String::new(), |expires| tokens::field(tokens::SUBSCRIBER, expires));
        let target = target(&feeds, is_records);
        let field = position.map_or(String::new(), |(seen, _)| format!("Last-Event-ID: {}\r\n", self.text_of(seen)));
        self.net.get().send(pipe, format!("GET {target} HTTP/1.1\r\nHost: h\r\n{token}{field}\r\n").as_bytes());
        let boot = self.truth.boot;
        tell(self.truth.step, &format!("pipe {pipe} listens to {target} from {start:?}"));
        let account = Account {
            feeds,
            is_records,
            is_all_retained: self.traits.is_roomy,
            start,
            opened: None,
            boot,
            log: Vec::new(),
            gaps: Vec::new(),
        };
        self.listeners.push(Listener::new(pipe, account, is_fast, expires));
    }

    /// A listener whose connection is cut, to go on where it was.
    pub(super) fn cut_one(&mut self) -> Option<Listener> {
        if self.listeners.is_empty() {
            return None;
        }
        let index = self.rng.usize(0..self.listeners.len());
        let listener = self.listeners.swap_remove(index);
        self.net.get().reset(listener.pipe);
        listener.account.assert_whole(&self.truth, false, &listener.who());
        Some(listener)
    }

    pub(super) fn feeds(&mut self, is_records: bool) -> BTreeSet<usize> {
        let step = self.truth.step;
        match is_records {
            true => (0..self.rng.usize(0..4)).map(|_| name_in_use(&mut self.rng, step)).collect(),
            false => (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect(),
        }
    }

    fn text_of(&self, seen: Seen) -> String {
        match seen {
            Seen::Id(id) => id.to_string(),
            Seen::Item(number) => self.truth.items[number].own.clone().expect("it has one"),
        }
    }

    /// What was seen, and the start of the broker that showed it.
    pub(super) fn position(&mut self, is_records: bool) -> Option<(Seen, usize)> {
        match self.rng.u8(0..6) {
            0..3 => None,
            3 => Some((Seen::Id(0), self.truth.boot)),
            4 if !is_records => Some((Seen::Id(5), 0)),
            _ => {
                // An id that no broker knows any more may be another event's by now.
                let (boot, covered) = (self.truth.boot, self.truth.boot_covered);
                let (newest, is_sure) = (self.truth.boot_newest, !self.truth.ids_are_doubtful);
                let through = |item: &Item| if item.is_lost && is_sure { newest } else { covered };
                let is_known = |item: &Item| item.boot == boot || item.id.is_some_and(|id| id <= through(item));
                let seen = |(number, item): (usize, &Item)| match item.own {
                    None => Some((Seen::Id(item.id?), item.boot)),
                    Some(_) => (item.boot == boot && item.counts()).then_some((Seen::Item(number), boot)),
                };
                let items = self.truth.items.iter().enumerate();
                let items = items.filter(|(_, item)| item.is_record() == is_records && is_known(item));
                let (lost, there): (Vec<_>, Vec<_>) = items.partition(|(_, item)| item.is_lost);
                let known = if lost.is_empty() || self.rng.bool() { there } else { lost };
                let known: Vec<_> = known.into_iter().filter_map(seen).collect();
                (!known.is_empty()).then(|| known[self.rng.usize(0..known.len())])
            }
        }
    }

    pub(super) fn start_of(&self, position: Option<(Seen, usize)>, is_records: bool) -> Start {
        match position {
            None if is_records => Start::Retained { is_all: true },
            None => Start::Live,
            Some((Seen::Id(0), _)) => Start::Retained { is_all: is_records || self.traits.is_roomy },
            Some((Seen::Id(id), _)) if is_records => self.truth.record_start(id),
            Some((Seen::Id(id), boot)) if boot == self.truth.boot => Start::After(id),
            Some((Seen::Item(number), boot)) if boot == self.truth.boot => Start::AfterItem(number),
            Some(_) => Start::Unknown,
        }
    }
}

fn target(feeds: &BTreeSet<usize>, is_records: bool) -> String {
    if is_records {
        let names =
            feeds.iter().map(|&name| format!("event={}", NAMES[name].replace('\u{e9}', "%C3%A9").replace(' ', "%20")));
        return format!("/events?{}", names.collect::<Vec<_>>().join("&"));
    }
    format!("/subscribe/{}", feeds.iter().map(|&topic| TOPICS[topic]).collect::<Vec<_>>().join(","))
}
