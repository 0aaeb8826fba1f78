//! The history that the hub should retain, as lists that are searched from end to end.

use std::collections::BTreeSet;

use esker::internals::hub::HubLimits;

pub const TOPICS: [&str; 4] = ["topicone1", "topictwo2", "topicthree3", "topicfour4"];

/// An event that was published. The publisher's id, if there is one, is what streams show.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: u64,
    pub topic: usize,
    pub publisher_id: Option<String>,
    pub serial: usize,
    cost: usize,
}

impl Event {
    pub fn new(topic: usize, publisher_id: Option<String>, serial: usize, cost: usize) -> Self {
        Self { id: 0, topic, publisher_id, serial, cost }
    }
}

pub struct History {
    limits: HubLimits,
    first_id: u64,
    pub last_id: u64,
    /// All events ever published.
    pub all: Vec<Event>,
    pub retained: Vec<Event>,
    /// The newest id evicted from each topic, or 0.
    pub evicted_through: [u64; TOPICS.len()],
    /// Publishers' ids that were evicted: topic, id.
    evicted_ids: Vec<(usize, String)>,
}

impl History {
    pub fn new(limits: HubLimits, now: u64) -> Self {
        Self {
            limits,
            first_id: now,
            last_id: now,
            all: Vec::new(),
            retained: Vec::new(),
            evicted_through: [0; TOPICS.len()],
            evicted_ids: Vec::new(),
        }
    }

    /// Publishes a body. Returns the id and the number of events that the response should have.
    pub fn publish(&mut self, now: u64, body: Vec<Event>) -> (u64, usize) {
        let (mut last, mut count) = (None, 0);
        for mut event in body {
            let is_duplicate = |other: &&Event| {
                other.publisher_id.is_some() && other.topic == event.topic && other.publisher_id == event.publisher_id
            };
            if let Some(original) = self.retained.iter().find(is_duplicate) {
                last = last.filter(|_| count > 0).or(Some(original.id));
                continue;
            }
            self.last_id = now.max(self.last_id + 1);
            event.id = self.last_id;
            let topic = event.topic;
            self.all.push(event.clone());
            self.retained.push(event);
            (last, count) = (Some(self.last_id), count + 1);
            while self.retained.iter().filter(|event| event.topic == topic).count() > self.limits.events_per_topic {
                self.evict(self.retained.iter().position(|event| event.topic == topic));
            }
            while self.bytes() > self.limits.bytes {
                self.evict(Some(0));
            }
        }
        (last.expect("a body has events"), count)
    }

    pub fn bytes(&self) -> usize {
        self.retained.iter().map(|event| event.cost).sum()
    }

    /// Evicts what is too old.
    pub fn expire(&mut self, now: u64) {
        while self.retained.first().is_some_and(|event| event.id < now.saturating_sub(self.limits.age_micros)) {
            self.evict(Some(0));
        }
    }

    fn evict(&mut self, index: Option<usize>) {
        let event = self.retained.remove(index.expect("there is something to evict"));
        self.evicted_through[event.topic] = event.id;
        self.evicted_ids.extend(event.publisher_id.map(|id| (event.topic, id)));
    }

    /// Returns the id that a `Last-Event-ID` stands for, or `None` if the stream must begin with a gap.
    pub fn resolve(&self, topics: &BTreeSet<usize>, text: &str) -> Option<u64> {
        let is_meant = |topic: usize, id: Option<&str>| topics.contains(&topic) && id == Some(text);
        let is_publishers = |event: &&Event| is_meant(event.topic, event.publisher_id.as_deref());
        let publishers = self.retained.iter().find(is_publishers).map(|event| event.id);
        let is_whole = |id: u64| topics.iter().all(|&topic| self.evicted_through[topic] <= id);
        let is_evicted = self.evicted_ids.iter().any(|(topic, id)| is_meant(*topic, Some(id)));
        let is_ambiguous = topics.iter().any(|&topic| self.is_between_evicted(topic, text));
        let number = text.parse().ok().filter(|number| (self.first_id..=self.last_id).contains(number));
        match (publishers, text) {
            (Some(_), _) if is_evicted || is_ambiguous => None,
            (None, _) if is_ambiguous => None,
            (_, "0") => publishers.is_none_or(is_whole).then_some(0),
            // Every number in the range that the simulation tries is the id of an event.
            _ => publishers.into_iter().chain(number).min().filter(|&id| is_whole(id)),
        }
    }

    /// Returns whether the number may be a publisher's id that the topic has evicted: it is none of those retained, and lies
    /// between the smallest and the largest of those evicted.
    fn is_between_evicted(&self, topic: usize, text: &str) -> bool {
        let Ok(number) = text.parse::<u64>() else { return false };
        let is_retained =
            self.retained.iter().any(|event| event.topic == topic && event.publisher_id.as_deref() == Some(text));
        let evicted = self.evicted_ids.iter().filter(|evicted| evicted.0 == topic);
        let numbers: BTreeSet<u64> = evicted.filter_map(|evicted| evicted.1.parse().ok()).collect();
        !is_retained && numbers.first() <= Some(&number) && numbers.last() >= Some(&number)
    }

    /// Returns the oldest id that is retained for these topics.
    pub fn oldest(&self, topics: &BTreeSet<usize>) -> Option<u64> {
        self.retained.iter().find(|event| topics.contains(&event.topic)).map(|event| event.id)
    }
}
