//! What positions mean, against every event there ever was: nothing is skipped without a gap, whatever ids publishers give.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::*;
use crate::engine::MIN_ID;
use crate::hub::{Hub, HubLimits, Inbox, Joined, Published, TopicName, inbox};
use crate::sse::drafts_from_text;

const TOPICS: [&str; 4] = ["topicone1", "topictwo2", "topicthree3", "topicfour4"];
/// The first id, in 2026.
const BEGIN: u64 = 1_770_000_000_000_000;

struct Rig {
    hub: Hub,
    now: u64,
    _inbox: Inbox,
}

impl Rig {
    fn new(limits: HubLimits) -> Self {
        let (outbox, inbox) = inbox(Box::new(|| {}));
        Self { hub: Hub::new(limits, vec![outbox], BEGIN), now: BEGIN, _inbox: inbox }
    }

    /// With room for so many events of a topic.
    fn retaining(events_per_topic: usize) -> Self {
        Self::new(HubLimits {
            events_per_topic,
            age_micros: 1 << 40,
            bytes: 1 << 30,
            topics: 100,
            subscribers: 100,
            latest_bytes: 0,
        })
    }

    /// Publishes an event a millisecond later; its id from the broker.
    fn publish(&mut self, topic: usize, own: Option<&str>) -> Published {
        self.now += 1000;
        let id = own.map_or(String::new(), |own| format!("id: {own}\n"));
        let drafts = drafts_from_text(&format!("{id}data: x")).unwrap();
        self.hub.publish(&name(topic), drafts, self.now, None).unwrap()
    }

    fn join(&self, topics: &[usize], position: &str) -> Joined {
        let names: Vec<_> = topics.iter().map(|&topic| name(topic)).collect();
        let joined = self.hub.join(0, &names, Position::After(position)).unwrap();
        self.hub.abandon(0, &joined);
        joined
    }

    /// The cursor, unless there is a gap.
    fn cursor(&self, topics: &[usize], position: &str) -> Option<u64> {
        let joined = self.join(topics, position);
        joined.gap.is_none().then_some(joined.cursor)
    }

    /// The ids that a topic retains.
    fn retained(&self, topic: usize) -> Vec<u64> {
        let state = self.hub.lock();
        let slot = state.names.get(&name(topic));
        slot.map_or(Vec::new(), |&slot| state.feeds.get(slot).window.frames().map(|frame| frame.id()).collect())
    }
}

fn name(topic: usize) -> TopicName {
    TopicName::parse(TOPICS[topic]).unwrap()
}

#[test]
fn an_evicted_number_is_a_gap_and_a_retained_one_is_exact() {
    let mut rig = Rig::retaining(5);
    let ids: Vec<_> = (0..=10).map(|number| rig.publish(0, Some(&number.to_string())).id).collect();
    assert!((0..=5).all(|number: u64| rig.cursor(&[0], &number.to_string()).is_none()));
    assert!((6..=10).all(|number| rig.cursor(&[0], &number.to_string()) == Some(ids[number])));
    assert_eq!(rig.cursor(&[0], &ids[10].to_string()), Some(ids[10]), "a broker's id is out of their bounds");
    assert_eq!(rig.cursor(&[1], "0"), Some(rig.hub.newest()), "another topic has not lost them");
    // The topic is forgotten, but not what it has lost.
    while rig.hub.expire(u64::MAX) {}
    assert_eq!(rig.hub.counts().topics, 0);
    assert!(["0", "7", "10"].iter().all(|position| rig.cursor(&[0], position).is_none()));
}

#[test]
fn numbers_like_a_clocks_are_in_doubt_once_evicted() {
    let mut rig = Rig::retaining(5);
    let own = |number: u64| (BEGIN + 2_000_000 + number * 1000).to_string();
    let ids: Vec<_> = (0..8).map(|number| rig.publish(0, Some(&own(number))).id).collect();
    rig.now += 10_000_000;
    let later = rig.publish(1, None).id;
    assert!(later > BEGIN + 3_000_000, "the broker's ids have overtaken them");
    assert_eq!(rig.cursor(&[0], &own(2)), None);
    assert_eq!(rig.cursor(&[0], &own(3)), Some(ids[3]));
}

#[test]
fn the_brokers_own_reading_counts_if_it_gave_that_id() {
    let mut rig = Rig::retaining(100);
    let seen = rig.publish(1, None).id;
    let next = rig.publish(1, None).id;
    let foreign = rig.publish(0, Some(&seen.to_string())).id;
    assert!(foreign > next);
    assert_eq!(rig.cursor(&[0, 1], &seen.to_string()), Some(seen));
    assert_eq!(rig.cursor(&[0], &seen.to_string()), Some(seen), "as a priming may have told it");
    let (clock, between) = (rig.now - 1, rig.publish(0, Some(&(rig.now - 1).to_string())).id);
    assert_eq!(rig.cursor(&[0, 1], &clock.to_string()), Some(between), "no event has that number");
}

#[test]
fn what_may_be_from_before_the_start_is_in_doubt() {
    let mut rig = Rig::retaining(100);
    rig.publish(1, None);
    let (small, old) = (rig.publish(0, Some("57")).id, BEGIN - 5_000_000);
    rig.publish(0, Some(&old.to_string()));
    assert_eq!(rig.cursor(&[0, 1], &old.to_string()), None);
    assert_eq!(rig.cursor(&[0, 1], "57"), Some(small));
    assert_eq!(rig.cursor(&[0, 1], "057"), None);
}

#[test]
fn an_id_that_another_topic_has_lost_is_in_doubt() {
    let mut rig = Rig::retaining(2);
    let other = rig.publish(2, Some("b")).id;
    for own in ["a", "b", "c"] {
        rig.publish(1, Some(own));
    }
    let foreign = rig.publish(0, Some("a")).id;
    assert_eq!(rig.cursor(&[0], "a"), Some(foreign));
    assert_eq!(rig.cursor(&[0, 1], "a"), None, "it would skip two events");
    assert_eq!(rig.cursor(&[2], "b"), Some(other));
    rig.publish(1, Some("a"));
    assert_eq!(rig.cursor(&[1], "a"), None, "given twice");
}

/// An event as the oracle remembers it; what a client sees as its id is `shown`.
struct Event {
    id: u64,
    topic: usize,
    shown: String,
    has_own: bool,
}

/// All there ever was, searched from end to end.
struct Oracle {
    rng: Rng,
    rig: Rig,
    events: Vec<Event>,
    /// What primed streams were told.
    primed: BTreeSet<u64>,
}

/// What became of the joins.
#[derive(Debug, Default)]
struct StreamCounters {
    exact: usize,
    earliest: usize,
    lost: usize,
    doubtful: usize,
}

impl Oracle {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rig = Rig::new(HubLimits {
            events_per_topic: rng.usize(0..8),
            age_micros: rng.u64(1_000..3_000_000),
            bytes: rng.usize(1_000..20_000),
            topics: 100,
            subscribers: 100,
            latest_bytes: 0,
        });
        Self { rng, rig, events: Vec::new(), primed: BTreeSet::from([BEGIN]) }
    }

    fn step(&mut self, tally: &mut StreamCounters) {
        match self.rng.u8(0..20) {
            0..8 => self.publish(),
            8 => drop(self.primed.insert(self.rig.hub.newest())),
            9 => drop(self.rig.hub.expire(self.rig.now)),
            10 => self.rig.now += self.rng.u64(0..2_000_000),
            _ => self.join(tally),
        }
    }

    fn publish(&mut self) {
        let topic = self.rng.usize(0..TOPICS.len());
        let own = self.publisher_id(topic);
        let published = self.rig.publish(topic, own.as_deref());
        if !published.is_duplicate() {
            let (id, has_own) = (published.id, own.is_some());
            self.events.push(Event { id, topic, shown: own.unwrap_or_else(|| id.to_string()), has_own });
        }
    }

    /// Topics differ in the ids that their publishers give; the last one has none.
    fn publisher_id(&mut self, topic: usize) -> Option<String> {
        let now = self.rig.now;
        match (topic, self.rng.u8(0..10)) {
            (3, _) | (_, 0..3) => None,
            (0, 3..6) => Some(self.events.len().to_string()),
            (0, _) => Some(self.rng.u64(0..12).to_string()),
            (1, 3..5) => Some((now + 2_000_000).to_string()),
            (1, 5..7) => Some((now - self.rng.u64(0..3_000_000)).to_string()),
            (1, _) => self.some_event().map(|event| event.id.to_string()),
            (_, 3) => self.some_event().map(|event| event.shown.clone()),
            (_, 4) => Some(["00", "007", "+1", "18446744073709551616"][self.rng.usize(0..4)].into()),
            (_, _) => Some(format!("own{}", self.rng.u8(0..20))),
        }
    }

    fn some_event(&mut self) -> Option<&Event> {
        let index = self.rng.usize(0..self.events.len().max(1));
        self.events.get(index)
    }

    fn position(&mut self) -> String {
        let some_event =
            |oracle: &mut Self| oracle.some_event().map(|event| (event.id.to_string(), event.shown.clone()));
        match self.rng.u8(0..10) {
            0 => "0".into(),
            1 => self.rng.u64(0..14).to_string(),
            2 => (BEGIN - self.rng.u64(0..3_000_000)).to_string(),
            3 => self.primed.iter().nth(self.rng.usize(0..self.primed.len())).map(u64::to_string).unwrap_or_default(),
            4 => some_event(self).map_or("nonsense".into(), |event| event.0),
            _ => some_event(self).map_or("5".into(), |event| event.1),
        }
    }

    fn join(&mut self, tally: &mut StreamCounters) {
        let topics: BTreeSet<_> = (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect();
        let topics: Vec<_> = topics.into_iter().collect();
        let text = self.position();
        let joined = self.rig.join(&topics, &text);
        let retained: BTreeSet<u64> = topics.iter().flat_map(|&topic| self.rig.retained(topic)).collect();
        let heard: Vec<&Event> = self.events.iter().filter(|event| topics.contains(&event.topic)).collect();
        let meanings = self.meanings(&heard, &text);
        let is_whole = |after: u64| heard.iter().all(|event| event.id <= after || retained.contains(&event.id));
        if let Some(gap) = joined.gap {
            assert_eq!(gap.oldest, retained.first().copied());
            assert!(retained.first().is_none_or(|&oldest| oldest > joined.cursor), "a gap comes before everything");
            let is_lost = meanings.iter().any(|&id| !is_whole(id));
            assert!(is_lost || self.is_in_doubt(&heard, &retained, &text), "nothing is lost, nor in doubt");
            (tally.lost, tally.doubtful) = (tally.lost + usize::from(is_lost), tally.doubtful + usize::from(!is_lost));
            return;
        }
        assert!(text == "0" || !meanings.is_empty(), "nothing has this id");
        // Without a gap whoever has seen any of the events that it can mean gets all that followed it.
        assert!(meanings.iter().all(|&id| is_whole(id)), "lost in silence");
        let earliest = meanings.first().copied().filter(|_| text != "0").unwrap_or(joined.cursor);
        let begin = if text == "0" { 0 } else { earliest };
        let is_skipped =
            |event: &&&Event| event.id > begin && event.id <= joined.cursor && retained.contains(&event.id);
        assert_eq!(heard.iter().filter(is_skipped).count(), 0, "skipped in silence");
        let is_repeated = |event: &&&Event| event.id > joined.cursor && event.id <= earliest;
        assert_eq!(heard.iter().filter(is_repeated).count(), 0, "repeated, though it means nothing earlier");
        (tally.exact, tally.earliest) = (tally.exact + 1, tally.earliest + usize::from(meanings.len() > 1));
    }

    /// After which ids a client that has this position may be.
    fn meanings(&self, heard: &[&Event], text: &str) -> BTreeSet<u64> {
        let mut meanings: BTreeSet<u64> =
            heard.iter().filter(|event| event.shown == text).map(|event| event.id).collect();
        let number = parse_id(text);
        meanings.extend(number.filter(|number| {
            let is_from_before = (MIN_ID..BEGIN).contains(number);
            is_from_before || self.primed.contains(number) || self.events.iter().any(|event| event.id == *number)
        }));
        meanings
    }

    /// The conditions that the guide states, beside the loss of an event.
    fn is_in_doubt(&self, heard: &[&Event], retained: &BTreeSet<u64>, text: &str) -> bool {
        let number = parse_id(text);
        let own = |event: &&&Event| event.has_own && event.shown == text;
        let is_evicted_own = heard.iter().filter(own).any(|event| !retained.contains(&event.id));
        let is_own = heard.iter().filter(own).count() > 0;
        let is_in_bounds = number.is_some_and(|number| self.is_in_bounds(heard, retained, text, number));
        let is_unknown = text != "0" && !is_own && self.meanings(heard, text).is_empty();
        let is_from_before = number.is_some_and(|number| (MIN_ID..BEGIN).contains(&number));
        is_evicted_own || is_in_bounds || is_unknown || is_from_before
    }

    /// Whether a topic that does not have the number now has lost smaller ones and larger ones, or that one.
    fn is_in_bounds(&self, heard: &[&Event], retained: &BTreeSet<u64>, text: &str, number: u64) -> bool {
        (0..TOPICS.len()).any(|topic| {
            let of_topic = || heard.iter().filter(|event| event.topic == topic && event.has_own);
            let has_now = of_topic().any(|event| event.shown == text && retained.contains(&event.id));
            let evicted = of_topic().filter(|event| !retained.contains(&event.id));
            let numbers: BTreeSet<u64> = evicted.filter_map(|event| parse_id(&event.shown)).collect();
            let is_between = numbers.first() <= Some(&number) && numbers.last() >= Some(&number);
            !has_now && !numbers.is_empty() && is_between
        })
    }
}

#[test]
fn no_position_skips_in_silence_and_no_gap_comes_without_a_reason() {
    let mut tally = StreamCounters::default();
    for seed in 0..400 {
        let result = std::panic::catch_unwind(|| {
            let (mut oracle, mut tally) = (Oracle::new(seed), StreamCounters::default());
            (0..300).for_each(|_| oracle.step(&mut tally));
            tally
        });
        let seen = result.unwrap_or_else(|_| panic!("seed {seed}"));
        tally.exact += seen.exact;
        tally.earliest += seen.earliest;
        tally.lost += seen.lost;
        tally.doubtful += seen.doubtful;
    }
    let StreamCounters { exact, earliest, lost, doubtful } = tally;
    assert!(exact > 10_000 && earliest > 100 && lost > 10_000 && doubtful > 1_000, "{tally:?} shows too little");
}
