//! Resume positions against an oracle that remembers every event there ever was: whatever ids publishers use, no event is
//! skipped without a gap.

use std::collections::BTreeSet;

use fastrand::Rng;

use crate::hub::{Hub, HubLimits, Inbox, Joined, Position, Published, TopicName, inbox};
use crate::ids::{MIN_ID, parse_id};
use crate::sse::frames_from_text;

const TOPICS: [&str; 4] = ["topicone1", "topictwo2", "topicthree3", "topicfour4"];
/// The start id, in 2026.
const START: u64 = 1_770_000_000_000_000;

struct Rig {
    hub: Hub,
    now: u64,
    _inbox: Inbox,
}

impl Rig {
    fn new(limits: HubLimits) -> Self {
        let (outbox, inbox) = inbox(Box::new(|| {}));
        Self { hub: Hub::new(limits, vec![outbox], START), now: START, _inbox: inbox }
    }

    /// Retains this many events of each topic.
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

    /// Publishes an event a millisecond later.
    fn publish(&mut self, topic: usize, publisher_id: Option<&str>) -> Published {
        self.now += 1000;
        let id = publisher_id.map_or(String::new(), |id| format!("id: {id}\n"));
        let frames = frames_from_text(&format!("{id}data: x")).unwrap();
        self.hub.publish(&name(topic), frames, self.now, None).unwrap()
    }

    fn join(&self, topics: &[usize], position: &str) -> Joined {
        let names: Vec<_> = topics.iter().map(|&topic| name(topic)).collect();
        let joined = self.hub.join(0, &names, Position::After(position)).unwrap();
        self.hub.abandon(0, &joined);
        joined
    }

    /// Returns the cursor, unless there is a gap.
    fn cursor(&self, topics: &[usize], position: &str) -> Option<u64> {
        let joined = self.join(topics, position);
        joined.gap.is_none().then_some(joined.cursor)
    }

    /// Returns the ids that a topic retains.
    fn retained(&self, topic: usize) -> Vec<u64> {
        let state = self.hub.lock();
        let slot = state.slot(&name(topic));
        slot.map_or(Vec::new(), |slot| state.feeds.get(slot).window.frames().map(|frame| frame.id()).collect())
    }
}

fn name(topic: usize) -> TopicName {
    TopicName::parse(TOPICS[topic]).unwrap()
}

#[test]
fn a_publisher_number_resumes_while_it_is_retained_and_is_a_gap_once_evicted() {
    let mut rig = Rig::retaining(5);
    let ids: Vec<_> = (0..=10).map(|number| rig.publish(0, Some(&number.to_string())).id).collect();
    assert!((0..=5).all(|number: u64| rig.cursor(&[0], &number.to_string()).is_none()));
    assert!((6..=10).all(|number| rig.cursor(&[0], &number.to_string()) == Some(ids[number])));
    assert_eq!(rig.cursor(&[0], &ids[10].to_string()), Some(ids[10]), "a broker id is outside of their range");
    assert_eq!(rig.cursor(&[1], "0"), Some(rig.hub.newest()), "they were not evicted from another topic");
    // The topic is retired, but its tombstone has the numbers.
    while rig.hub.expire(u64::MAX) {}
    assert_eq!(rig.hub.counts().topics, 0);
    assert!(["0", "7", "10"].iter().all(|position| rig.cursor(&[0], position).is_none()));
}

#[test]
fn evicted_publisher_numbers_like_clock_times_are_a_gap() {
    let mut rig = Rig::retaining(5);
    let publisher_id = |number: u64| (START + 2_000_000 + number * 1000).to_string();
    let ids: Vec<_> = (0..8).map(|number| rig.publish(0, Some(&publisher_id(number))).id).collect();
    rig.now += 10_000_000;
    let later = rig.publish(1, None).id;
    assert!(later > START + 3_000_000, "broker ids have overtaken them");
    assert_eq!(rig.cursor(&[0], &publisher_id(2)), None);
    assert_eq!(rig.cursor(&[0], &publisher_id(3)), Some(ids[3]));
}

#[test]
fn a_number_is_read_as_a_broker_id_only_if_it_was_assigned() {
    let mut rig = Rig::retaining(100);
    let seen = rig.publish(1, None).id;
    let next = rig.publish(1, None).id;
    let foreign = rig.publish(0, Some(&seen.to_string())).id;
    assert!(foreign > next);
    assert_eq!(rig.cursor(&[0, 1], &seen.to_string()), Some(seen));
    assert_eq!(rig.cursor(&[0], &seen.to_string()), Some(seen), "it may be the position from ?prime");
    let (clock, between) = (rig.now - 1, rig.publish(0, Some(&(rig.now - 1).to_string())).id);
    assert_eq!(rig.cursor(&[0, 1], &clock.to_string()), Some(between), "no event has that number");
}

#[test]
fn an_id_that_an_earlier_run_may_have_assigned_is_a_gap() {
    let mut rig = Rig::retaining(100);
    rig.publish(1, None);
    let (small, old) = (rig.publish(0, Some("57")).id, START - 5_000_000);
    rig.publish(0, Some(&old.to_string()));
    assert_eq!(rig.cursor(&[0, 1], &old.to_string()), None);
    assert_eq!(rig.cursor(&[0, 1], "57"), Some(small));
    assert_eq!(rig.cursor(&[0, 1], "057"), None);
}

#[test]
fn an_id_that_was_evicted_from_another_of_the_topics_is_a_gap() {
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
    assert_eq!(rig.cursor(&[1], "a"), None, "two events had it");
}

/// An event as the oracle remembers it.
struct Event {
    id: u64,
    topic: usize,
    /// The id that clients see.
    shown: String,
    has_publisher_id: bool,
}

/// Every event there ever was, searched from end to end.
struct Oracle {
    rng: Rng,
    rig: Rig,
    events: Vec<Event>,
    /// The positions that streams with `?prime` were sent.
    primed: BTreeSet<u64>,
}

/// The outcomes of joins.
#[derive(Debug, Default)]
struct Outcomes {
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
        Self { rng, rig, events: Vec::new(), primed: BTreeSet::from([START]) }
    }

    fn step(&mut self, outcomes: &mut Outcomes) {
        match self.rng.u8(0..20) {
            0..8 => self.publish(),
            8 => drop(self.primed.insert(self.rig.hub.newest())),
            9 => drop(self.rig.hub.expire(self.rig.now)),
            10 => self.rig.now += self.rng.u64(0..2_000_000),
            _ => self.join(outcomes),
        }
    }

    fn publish(&mut self) {
        let topic = self.rng.usize(0..TOPICS.len());
        let publisher_id = self.publisher_id(topic);
        let published = self.rig.publish(topic, publisher_id.as_deref());
        if !published.is_duplicate() {
            let (id, has_publisher_id) = (published.id, publisher_id.is_some());
            let shown = publisher_id.unwrap_or_else(|| id.to_string());
            self.events.push(Event { id, topic, shown, has_publisher_id });
        }
    }

    /// The topics differ in the ids that publishers use. The last one has none.
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
            2 => (START - self.rng.u64(0..3_000_000)).to_string(),
            3 => self.primed.iter().nth(self.rng.usize(0..self.primed.len())).map(u64::to_string).unwrap_or_default(),
            4 => some_event(self).map_or("nonsense".into(), |event| event.0),
            _ => some_event(self).map_or("5".into(), |event| event.1),
        }
    }

    fn join(&mut self, outcomes: &mut Outcomes) {
        let topics: BTreeSet<_> = (0..self.rng.usize(1..4)).map(|_| self.rng.usize(0..TOPICS.len())).collect();
        let topics: Vec<_> = topics.into_iter().collect();
        let text = self.position();
        let joined = self.rig.join(&topics, &text);
        let retained: BTreeSet<u64> = topics.iter().flat_map(|&topic| self.rig.retained(topic)).collect();
        let expected: Vec<&Event> = self.events.iter().filter(|event| topics.contains(&event.topic)).collect();
        let meanings = self.meanings(&expected, &text);
        let is_complete = |after: u64| expected.iter().all(|event| event.id <= after || retained.contains(&event.id));
        if let Some(gap) = joined.gap {
            assert_eq!(gap.oldest, retained.first().copied());
            assert!(retained.first().is_none_or(|&oldest| oldest > joined.cursor), "everything retained follows a gap");
            let is_lost = meanings.iter().any(|&id| !is_complete(id));
            assert!(is_lost || self.is_in_doubt(&expected, &retained, &text), "a gap without a reason");
            (outcomes.lost, outcomes.doubtful) =
                (outcomes.lost + usize::from(is_lost), outcomes.doubtful + usize::from(!is_lost));
            return;
        }
        assert!(text == "0" || !meanings.is_empty(), "no event has this id");
        // Without a gap, a client gets everything after the event it has seen, whichever of the possible ones that is.
        assert!(meanings.iter().all(|&id| is_complete(id)), "events are missing without a gap");
        let earliest = meanings.first().copied().filter(|_| text != "0").unwrap_or(joined.cursor);
        let begin = if text == "0" { 0 } else { earliest };
        let is_skipped =
            |event: &&&Event| event.id > begin && event.id <= joined.cursor && retained.contains(&event.id);
        assert_eq!(expected.iter().filter(is_skipped).count(), 0, "events are skipped without a gap");
        let is_repeated = |event: &&&Event| event.id > joined.cursor && event.id <= earliest;
        assert_eq!(expected.iter().filter(is_repeated).count(), 0, "events are repeated without need");
        (outcomes.exact, outcomes.earliest) = (outcomes.exact + 1, outcomes.earliest + usize::from(meanings.len() > 1));
    }

    /// Returns the ids of all events that a client with this position may have seen last.
    fn meanings(&self, expected: &[&Event], text: &str) -> BTreeSet<u64> {
        let mut meanings: BTreeSet<u64> =
            expected.iter().filter(|event| event.shown == text).map(|event| event.id).collect();
        let number = parse_id(text);
        meanings.extend(number.filter(|number| {
            let is_from_an_earlier_run = (MIN_ID..START).contains(number);
            is_from_an_earlier_run
                || self.primed.contains(number)
                || self.events.iter().any(|event| event.id == *number)
        }));
        meanings
    }

    /// Returns whether a condition holds under which the guide allows a gap although nothing may be missing.
    fn is_in_doubt(&self, expected: &[&Event], retained: &BTreeSet<u64>, text: &str) -> bool {
        let number = parse_id(text);
        let has_it = |event: &&&Event| event.has_publisher_id && event.shown == text;
        let is_evicted = expected.iter().filter(has_it).any(|event| !retained.contains(&event.id));
        let is_publisher_id = expected.iter().filter(has_it).count() > 0;
        let is_in_range = number.is_some_and(|number| self.is_in_range(expected, retained, text, number));
        let is_unknown = text != "0" && !is_publisher_id && self.meanings(expected, text).is_empty();
        let is_from_an_earlier_run = number.is_some_and(|number| (MIN_ID..START).contains(&number));
        is_evicted || is_in_range || is_unknown || is_from_an_earlier_run
    }

    /// Returns whether a topic that does not retain this publisher number has evicted it, or both smaller and larger ones.
    fn is_in_range(&self, expected: &[&Event], retained: &BTreeSet<u64>, text: &str, number: u64) -> bool {
        (0..TOPICS.len()).any(|topic| {
            let of_topic = || expected.iter().filter(|event| event.topic == topic && event.has_publisher_id);
            let has_now = of_topic().any(|event| event.shown == text && retained.contains(&event.id));
            let evicted = of_topic().filter(|event| !retained.contains(&event.id));
            let numbers: BTreeSet<u64> = evicted.filter_map(|event| parse_id(&event.shown)).collect();
            let is_between = numbers.first() <= Some(&number) && numbers.last() >= Some(&number);
            !has_now && !numbers.is_empty() && is_between
        })
    }
}

#[test]
fn no_event_is_skipped_without_a_gap_and_no_gap_is_without_a_reason() {
    let mut outcomes = Outcomes::default();
    for seed in 0..400 {
        let result = std::panic::catch_unwind(|| {
            let (mut oracle, mut outcomes) = (Oracle::new(seed), Outcomes::default());
            (0..300).for_each(|_| oracle.step(&mut outcomes));
            outcomes
        });
        let seen = result.unwrap_or_else(|_| panic!("seed {seed}"));
        outcomes.exact += seen.exact;
        outcomes.earliest += seen.earliest;
        outcomes.lost += seen.lost;
        outcomes.doubtful += seen.doubtful;
    }
    let Outcomes { exact, earliest, lost, doubtful } = outcomes;
    assert!(exact > 10_000 && earliest > 100 && lost > 10_000 && doubtful > 1_000, "{outcomes:?} covers too little");
}
