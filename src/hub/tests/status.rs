//! What topics have, compared with a naive account, and the list of topics while topics open and close.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::local::Reader;
use super::log::{OLDEST, apply, event, following};
use super::*;
use crate::hub::status::STATUS_SLICE;

const ROOMY: HubLimits = HubLimits { subscribers: usize::MAX, ..LIMITS };

/// What is expected of an open topic.
#[derive(Clone, Debug, Default)]
struct Expected {
    ids: VecDeque<u64>,
    published: u64,
    joined: Vec<Vec<TopicId>>,
}

/// A hub beside its naive account.
struct Pair {
    hub: Hub,
    inbox: Inbox,
    open: HashMap<TopicName, Expected>,
    now: u64,
}

#[derive(Clone, Debug)]
enum Act {
    Publish(u8, usize),
    Join(u8),
    Leave(u8),
    Expire(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (any::<u8>(), 1..7_usize).prop_map(|(topic, events)| Act::Publish(topic, events)),
        any::<u8>().prop_map(Act::Join),
        any::<u8>().prop_map(Act::Leave),
        (0..1500_u64).prop_map(Act::Expire),
    ]
}

impl Pair {
    fn new() -> Self {
        let (hub, inbox) = hub(ROOMY);
        Self { hub, inbox, open: HashMap::new(), now: 1_000 }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Publish(topic, events) => self.publish(*topic, *events),
            Act::Join(topic) => {
                let name = numbered(*topic);
                let joined = self.hub.join(0, &[name], Position::Live).unwrap();
                let JoinedFeeds::Topics(topics) = joined.feeds else { unreachable!("it joined a topic") };
                let ids = topics.into_iter().map(|topic| topic.id).collect();
                self.open.entry(name).or_default().joined.push(ids);
            }
            Act::Leave(topic) => {
                let joined = self.open.get_mut(&numbered(*topic)).and_then(|expected| expected.joined.pop());
                joined.iter().for_each(|ids| self.hub.leave(0, ids));
            }
            Act::Expire(micros) => {
                self.now += micros;
                while self.hub.expire(self.now) {}
                let horizon = self.now - ROOMY.age_micros.min(self.now);
                self.open.values_mut().for_each(|expected| expected.ids.retain(|&id| id >= horizon));
            }
        }
        self.open.retain(|_, expected| !expected.ids.is_empty() || !expected.joined.is_empty());
        take_all(&mut self.inbox);
    }

    fn publish(&mut self, topic: u8, events: usize) {
        let name = numbered(topic);
        let last = publish(&self.hub, name.as_str(), events, self.now).unwrap().id;
        let expected = self.open.entry(name).or_default();
        expected.ids.extend(last + 1 - events as u64..=last);
        while expected.ids.len() > ROOMY.events_per_topic {
            expected.ids.pop_front();
        }
        expected.published += events as u64;
    }

    fn expected(&self, name: TopicName) -> TopicStatus {
        let Expected { ids, published, joined } = self.open.get(&name).cloned().unwrap_or_default();
        let state = self.hub.lock();
        let frames = state.slot(&name).map(|slot| state.feeds.get(slot).window.frames());
        let bytes = frames.into_iter().flatten().map(|frame| frame.cost()).sum();
        let ids_retained = ids.front().copied().zip(ids.back().copied());
        TopicStatus { name, subscribers: joined.len(), events: ids.len(), bytes, published, ids: ids_retained }
    }
}

fn numbered(topic: u8) -> TopicName {
    name(&format!("topic{topic:04}"))
}

/// Returns all topics, in pages of these lengths, one after the other. `between` is called after each page but the last.
fn list(pair: &mut Pair, limits: &[usize], mut between: impl FnMut(&mut Pair)) -> Vec<TopicStatus> {
    let (mut topics, mut after) = (Vec::new(), None);
    for &limit in limits.iter().cycle() {
        let page = pair.hub.topics(after, limit);
        assert!(page.topics.len() == limit || page.next.is_none(), "only the last page is shorter");
        topics.extend(page.topics);
        after = page.next;
        if after.is_none() {
            break;
        }
        between(pair);
    }
    topics
}

proptest! {
    #[test]
    fn topics_have_what_a_naive_account_says(
        acts in prop::collection::vec(act(), 0..300),
        limits in prop::collection::vec(1..40_usize, 1..4),
    ) {
        let mut pair = Pair::new();
        acts.iter().for_each(|act| pair.act(act));
        for topic in 0..=u8::MAX {
            prop_assert_eq!(pair.hub.topic_status(&numbered(topic)), pair.expected(numbered(topic)));
        }
        let listed = list(&mut pair, &limits, |_| {});
        prop_assert_eq!(listed.iter().map(|status| status.name).collect::<HashSet<_>>().len(), pair.open.len());
        prop_assert_eq!(listed.len(), pair.open.len());
        for status in listed {
            prop_assert!(pair.open.contains_key(&status.name));
            prop_assert_eq!(status, pair.expected(status.name));
        }
    }

    #[test]
    fn a_topic_that_stays_open_is_listed_once(
        before in prop::collection::vec(act(), 0..200),
        during in prop::collection::vec(prop::collection::vec(act(), 0..10), 1..20),
        limit in 1..10_usize,
    ) {
        let mut pair = Pair::new();
        before.iter().for_each(|act| pair.act(act));
        let mut stayed: HashSet<_> = pair.open.keys().copied().collect();
        let mut acts = during.iter().flatten();
        let listed = list(&mut pair, &[limit], |pair| {
            for act in acts.by_ref().take(10) {
                pair.act(act);
                stayed.retain(|name| pair.open.contains_key(name));
            }
        });
        for name in stayed {
            prop_assert_eq!(listed.iter().filter(|status| status.name == name).count(), 1, "{:?}", name);
        }
    }
}

#[test]
fn pages_longer_than_a_slice_are_complete() {
    let mut pair = Pair::new();
    let count = 3 * STATUS_SLICE + 1;
    for number in 0..count {
        publish(&pair.hub, &format!("topic{number:05}"), 1, 1_000).unwrap();
    }
    for limit in [STATUS_SLICE - 1, STATUS_SLICE, STATUS_SLICE + 1, count - 1, count, count + 1] {
        let listed: HashSet<_> = list(&mut pair, &[limit], |_| {}).iter().map(|status| status.name).collect();
        assert_eq!(listed.len(), count, "pages of {limit}");
    }
    assert_eq!(pair.hub.topics(Some(Slot::MAX), 10), TopicPage { topics: vec![], next: None });
}

#[test]
fn subscribers_inside_the_process_count() {
    let (hub, _inbox) = hub(ROOMY);
    let _reader = Reader::new(&hub, &["topicone1"], Position::Live);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    let status = hub.topic_status(&name("topicone1"));
    assert_eq!((status.subscribers, status.events, status.ids), (2, 0, None));
}

/// Lost events count as gone at once, although they are evicted later.
#[test]
fn what_a_log_has_lost_is_not_retained() {
    let (hub, _inbox) = following(ROOMY);
    apply(&hub, [event("topicone1", 1, None), event("topicone1", 2, None), event("topictwo2", 3, None)]);
    let status = hub.topic_status(&name("topicone1"));
    assert_eq!((status.events, status.published, status.ids), (2, 2, Some((OLDEST + 1, OLDEST + 2))));
    hub.note_loss(OLDEST + 3);
    let status = hub.topic_status(&name("topicone1"));
    assert_eq!((status.events, status.bytes, status.published, status.ids), (0, 0, 2, None));
}
