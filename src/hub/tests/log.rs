//! Events whose ids a log has assigned.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::local::{Next, Reader};
use super::*;
use crate::hub::apply::{APPLY_SLICE, LoggedFrame};
use crate::ids::{MIN_ID, OutOfOrder, parse_id};

/// The oldest id of the log, in 2026.
const OLDEST: u64 = 1_770_000_000_000_000;
const TOPICS: [&str; 3] = ["topicone1", "topictwo2", "topicthree3"];

fn following(limits: HubLimits) -> (Hub, Inbox) {
    let (outbox, inbox) = inbox(Box::new(|| {}));
    let hub = Hub::following(limits, vec![outbox], 10);
    hub.begin(OLDEST);
    (hub, inbox)
}

fn event(topic: &str, id: u64, publisher_id: Option<&str>) -> LoggedFrame {
    let id_line = publisher_id.map_or(String::new(), |id| format!("id: {id}\n"));
    let frame = frames_from_text(&format!("{id_line}data: x")).unwrap().remove(0);
    (name(topic), frame.assign_id(OLDEST + id))
}

fn apply(hub: &Hub, events: impl IntoIterator<Item = LoggedFrame>) {
    let mut events: VecDeque<_> = events.into_iter().collect();
    hub.apply(&mut events).unwrap();
    assert!(events.is_empty(), "there is room");
}

/// Returns the cursor after a position, unless there is a gap. Both are relative to [`OLDEST`].
fn cursor(hub: &Hub, topics: &[&str], position: &str) -> Option<u64> {
    let names: Vec<_> = topics.iter().map(|topic| name(topic)).collect();
    let joined = hub.join(0, &names, Position::After(position)).unwrap();
    hub.abandon(0, &joined);
    joined.gap.is_none().then(|| joined.cursor - OLDEST)
}

fn id(relative: u64) -> String {
    (OLDEST + relative).to_string()
}

#[test]
fn events_keep_the_ids_of_the_log_and_workers_are_woken_once_per_slice() {
    let wakes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&wakes);
    let (outbox, mut inbox) = inbox(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let hub = Hub::following(LIMITS, vec![outbox], 10);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    let mut reader = Reader::new(&hub, &["topictwo2"], Position::Live);
    let numbers = 1..=APPLY_SLICE as u64;
    apply(&hub, numbers.clone().map(|id| event(if id % 2 == 0 { "topictwo2" } else { "topicone1" }, id, None)));
    let ids: Vec<_> = take_all(&mut inbox).iter().map(|delivery| delivery.frame.id() - OLDEST).collect();
    assert_eq!(ids, numbers.clone().step_by(2).collect::<Vec<_>>());
    let received: Vec<_> = numbers.skip(1).step_by(2).map(|id| Next::Id(OLDEST + id)).collect();
    assert_eq!((reader.rest(), wakes.load(Ordering::Relaxed)), (received, 1));
    assert_eq!((hub.counts().published, hub.subscribers_of(&name("topicone1"))), (APPLY_SLICE as u64, 1));
    assert_eq!(hub.newest(), 10, "ids of records are independent of the log");
}

#[test]
fn an_id_that_does_not_ascend_is_refused_and_stays_in_front() {
    let (hub, mut inbox) = following(LIMITS);
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    let mut events: VecDeque<_> = [3, 5, 5, 7].map(|id| event("topicone1", id, None)).into();
    let refused = OutOfOrder { id: OLDEST + 5, newest: OLDEST + 5 };
    assert_eq!((hub.apply(&mut events), events.len()), (Err(refused), 2));
    assert_eq!((hub.apply(&mut events), events.len()), (Err(refused), 2));
    events.pop_front();
    assert_eq!((hub.apply(&mut events), events.len(), take_all(&mut inbox).len()), (Ok(()), 0, 3));
    let (local, _inbox) = self::hub(LIMITS);
    assert!(local.apply(&mut [event("topicone1", 1, None)].into()).is_err(), "this process orders its events itself");
}

#[test]
fn applying_stops_while_a_worker_has_too_much_in_flight() {
    let (hub, mut inbox) = following(HubLimits { events_per_topic: 100_000, bytes: 1 << 30, ..LIMITS });
    hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    let total = 2 * MAX_IN_FLIGHT_EVENTS as u64 + 7;
    let mut events: VecDeque<_> = (1..=total).map(|id| event("topicone1", id, None)).collect();
    let mut received = Vec::new();
    for _ in 0..3 {
        hub.apply(&mut events).unwrap();
        assert!(inbox.len() <= MAX_IN_FLIGHT_EVENTS);
        received.extend(take_all(&mut inbox).iter().map(|delivery| delivery.frame.id() - OLDEST));
        assert_eq!(received.len() + events.len(), total as usize);
    }
    assert_eq!(received, (1..=total).collect::<Vec<_>>());
}

#[test]
fn an_event_of_one_topic_too_many_is_not_skipped_silently() {
    let (hub, _inbox) = following(HubLimits { topics: 1, ..LIMITS });
    apply(&hub, [event("topicone1", 1, None), event("topictwo2", 2, Some("own")), event("topictwo2", 3, Some("7"))]);
    assert_eq!((hub.counts().topics, hub.counts().history_events), (1, 1));
    assert!(hub.can_publish(&name("topicone1")) && !hub.can_publish(&name("topictwo2")));
    while hub.expire(OLDEST + 1_000_000) {}
    assert!(hub.can_publish(&name("topictwo2")));
    assert_eq!(cursor(&hub, &["topictwo2"], &id(2)), None, "an event after it was not retained");
    assert_eq!(cursor(&hub, &["topictwo2"], &id(3)), Some(3));
    apply(&hub, [event("topictwo2", 4, Some("own"))]);
    assert_eq!(cursor(&hub, &["topictwo2"], "own"), None, "two events had it");
    assert_eq!(cursor(&hub, &["topictwo2"], "7"), None);
}

#[test]
fn positions_before_the_log_are_a_gap_and_passed_ids_are_known() {
    let (hub, _inbox) = following(LIMITS);
    hub.pass(OLDEST);
    assert_eq!(cursor(&hub, &["topicone1"], &id(0)), Some(0));
    apply(&hub, [event("topicone1", 5, Some(&(OLDEST - 3).to_string()))]);
    assert_eq!(cursor(&hub, &["topicone1"], &(OLDEST - 1).to_string()), None);
    assert_eq!(cursor(&hub, &["topicone1"], &(OLDEST - 3).to_string()), None, "it may be an earlier event's id");
    assert_eq!(cursor(&hub, &["topicone1"], &MIN_ID.to_string()), None);
    hub.pass(OLDEST + 9);
    hub.pass(OLDEST + 7);
    let known = [4, 5, 6, 7, 9, 10].map(|relative| cursor(&hub, &["topicone1"], &id(relative)));
    assert_eq!(known, [None, Some(5), None, None, Some(9), None]);
    let joined = hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    assert_eq!((joined.cursor, joined.newest), (OLDEST + 9, OLDEST + 9));
}

#[test]
fn an_id_that_the_log_has_again_means_the_earliest_retained_event() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 2, ..LIMITS });
    apply(&hub, [(1, "a"), (2, "a")].map(|(id, own)| event("topicone1", id, Some(own))));
    assert_eq!(cursor(&hub, &["topicone1"], "a"), Some(1));
    apply(&hub, [event("topicone1", 3, Some("b"))]);
    assert_eq!(cursor(&hub, &["topicone1"], "a"), None, "the first was evicted");
    apply(&hub, [event("topicone1", 4, Some("a")), event("topicone1", 5, Some("c"))]);
    let retained = || hub.lock().feeds.get(0).meta.publisher_ids.get("a").copied();
    assert_eq!(retained(), Some(OLDEST + 4), "the eviction of the second leaves the third");
    apply(&hub, [event("topicone1", 6, None)]);
    assert_eq!((retained(), cursor(&hub, &["topicone1"], "a")), (None, None));
}

#[test]
fn a_loss_leaves_nothing_and_makes_all_positions_before_it_a_gap() {
    let (hub, _inbox) = following(LIMITS);
    let joined = hub.join(0, &[name("topicone1")], Position::Live).unwrap();
    apply(&hub, [event("topicone1", 1, Some("own")), event("topictwo2", 2, None), event("topictwo2", 3, Some("0"))]);
    hub.lose_through(OLDEST + 9);
    let counts = hub.counts();
    assert_eq!((counts.topics, counts.history_events, counts.history_bytes), (1, 0, 0));
    for topic in TOPICS {
        for position in [&id(1), &id(2), &id(3), &id(4), &id(8), &id(10), "own", "nonsense"] {
            assert_eq!(cursor(&hub, &[topic], position), None, "{topic} after {position}");
        }
        assert_eq!(cursor(&hub, &[topic], &id(9)), Some(9), "the loss itself is a position");
    }
    assert_eq!(cursor(&hub, &["topicone1"], "0"), Some(9));
    assert_eq!(cursor(&hub, &["topictwo2"], "0"), None, "an event with this id was lost");
    apply(&hub, [event("topicone1", 10, Some("own"))]);
    assert_eq!(cursor(&hub, &["topicone1"], "own"), None, "a lost event had it, too");
    assert_eq!(cursor(&hub, &["topicone1"], "0"), Some(9));
    let again = hub.join(0, &[name("topicone1"), name("topictwo2")], Position::After("0")).unwrap();
    let JoinedFeeds::Topics(topics) = &again.feeds else { panic!("topics were joined") };
    assert!(topics.iter().all(|topic| topic.evicted_through == OLDEST + 9));
    hub.abandon(0, &joined);
}

#[test]
fn a_loss_of_less_than_what_was_applied_loses_all_of_it() {
    let (hub, _inbox) = following(LIMITS);
    apply(&hub, [event("topicone1", 1, None), event("topicone1", 5, None)]);
    hub.lose_through(OLDEST + 3);
    assert_eq!((hub.lost_through(), hub.counts().history_events), (OLDEST + 5, 0));
    assert!(hub.apply(&mut [event("topicone1", 5, None)].into()).is_err());
    assert_eq!([3, 5].map(|relative| cursor(&hub, &["topicone1"], &id(relative))), [None, Some(5)]);
}

#[test]
fn many_lost_events_are_evicted_in_slices() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 10_000, bytes: 1 << 30, ..LIMITS });
    apply(&hub, (1..=9_000).map(|id| event(&format!("topic{:06}", id % 3_000), id, None)));
    hub.lose_through(OLDEST + 9_000);
    let counts = hub.counts();
    assert_eq!((counts.topics, counts.history_events, counts.history_bytes), (0, 0, 0));
}

#[test]
fn lost_events_are_hidden_until_they_are_evicted() {
    let (hub, _inbox) = following(LIMITS);
    let mut local = Reader::new(&hub, &["topicone1"], Position::Live);
    apply(&hub, [event("topicone1", 1, Some("0")), event("topicone1", 2, Some("own")), event("topictwo2", 3, None)]);
    let through = hub.note_loss(OLDEST + 9).unwrap();
    assert_eq!(hub.counts().history_events, 3);
    for position in [&id(1), &id(2), &id(3), "0", "own"] {
        assert_eq!(cursor(&hub, &["topicone1"], position), None, "{position}");
    }
    assert_eq!(["0", &id(9)].map(|position| cursor(&hub, &["topictwo2"], position)), [Some(9); 2]);
    let joined = hub.join(0, &[name("topicone1")], Position::After("own")).unwrap();
    let JoinedFeeds::Topics(topics) = &joined.feeds else { panic!("a topic was joined") };
    let backlog = topics[0].backlog.as_ref().map(Vec::len);
    assert_eq!((joined.gap, backlog, topics[0].evicted_through), (Some(Gap { oldest: None }), Some(0), OLDEST + 9));
    assert_eq!(local.rest(), [Next::Id(OLDEST + 1), Next::Id(OLDEST + 2), Next::Gap(None)]);
    while hub.evict_lost(through) {}
    assert_eq!((hub.counts().history_events, hub.counts().topics), (0, 1));
    assert_eq!(local.rest(), []);
}

#[test]
fn every_local_subscriber_gets_one_gap_after_a_loss() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 10_000, ..LIMITS });
    let mut live = Reader::new(&hub, &["topicone1"], Position::Live);
    let mut quiet = Reader::new(&hub, &["topicquiet"], Position::Live);
    let mut both = Reader::new(&hub, &["topicone1", "topicquiet"], Position::Live);
    let mut behind = Reader::new(&hub, &["topictwo2", "topicone1"], Position::Live);
    apply(&hub, (1..=600).map(|id| event(["topicone1", "topictwo2"][id as usize % 2], id, None)));
    let first: Vec<_> = (1..=300).map(|id| Next::Id(OLDEST + 2 * id)).collect();
    assert_eq!((live.rest(), both.rest().len()), (first, 300));
    hub.lose_through(OLDEST + 1_000);
    assert_eq!(live.rest(), [Next::Gap(None)]);
    apply(&hub, [event("topicone1", 1_001, None), event("topicquiet", 1_002, None)]);
    hub.lose_through(OLDEST + 1_000 - 1 + 1_000);
    apply(&hub, [event("topicone1", 3_000, None)]);
    assert_eq!(live.rest(), [Next::Id(OLDEST + 1_001), Next::Gap(Some(OLDEST + 3_000)), Next::Id(OLDEST + 3_000)]);
    assert_eq!(quiet.rest(), [Next::Gap(None)]);
    let after = |received: Vec<Next>| received.into_iter().skip_while(|next| matches!(next, Next::Id(_)));
    let expected = [Next::Gap(Some(OLDEST + 3_000)), Next::Id(OLDEST + 3_000)];
    for reader in [&mut both, &mut behind] {
        assert_eq!(after(reader.rest()).collect::<Vec<_>>(), expected);
    }
    let mut late = Reader::new(&hub, &["topicone1"], Position::After("0"));
    assert_eq!(late.rest(), [Next::Id(OLDEST + 3_000)]);
}

#[test]
fn a_position_waits_for_a_barrier_only_if_later_events_may_explain_it() {
    let (hub, _inbox) = following(HubLimits { events_per_topic: 2, ..LIMITS });
    let needs = |topics: &[&str], position: &str| {
        let names: Vec<_> = topics.iter().map(|topic| name(topic)).collect();
        hub.needs_barrier(&names, Position::After(position))
    };
    apply(&hub, [(1, "a"), (2, "40"), (3, "60"), (4, "b")].map(|(id, own)| event("topicone1", id, Some(own))));
    assert!(!hub.needs_barrier(&[name("topicone1")], Position::Live));
    let decided = [&id(1), &id(4), &(OLDEST - 1).to_string(), "0", "a", "b", "60", "40", &"x".repeat(5_000)];
    assert_eq!(decided.map(|position| needs(&["topicone1"], position)), [false; 9]);
    let undecided = [&id(5), &id(9), "c", "57", "41", "18446744073709551615", "99999999999999999999"];
    assert_eq!(undecided.map(|position| needs(&["topicone1"], position)), [true; 7]);
    assert!(needs(&["topictwo2"], "a") && needs(&["topictwo2"], "b") && !needs(&["topictwo2"], &id(1)));
    assert!(!needs(&["topictwo2", "topicone1"], "b") && !needs(&["topictwo2", "topicone1"], "a"));
    while hub.expire(OLDEST + 1_000_000) {}
    assert_eq!(hub.counts().topics, 0);
    assert!(!needs(&["topicone1"], "b") && !needs(&["topicone1"], "60") && needs(&["topicone1"], "c"));
    hub.lose_through(OLDEST + 20);
    assert!(!needs(&["topicone1"], &id(15)) && !needs(&["topicone1"], &id(20)) && needs(&["topicone1"], &id(21)));
    let (local, _inbox) = self::hub(LIMITS);
    assert!(!local.needs_barrier(&[name("topicone1")], Position::After("c")));
}

/// What a log says next.
#[derive(Clone)]
enum Entry {
    Event { id: u64, topic: usize, publisher_id: Option<String> },
    Pass(u64),
    Loss(u64),
}

/// Two brokers that follow one log, of which one is late, and everything that the log has ever said.
struct Brokers {
    rng: Rng,
    ahead: Hub,
    late: Hub,
    /// What the late broker has not applied yet.
    pending: VecDeque<Entry>,
    said: Vec<Entry>,
    newest: u64,
    _inboxes: [Inbox; 2],
}

/// The outcomes of joins at the late broker.
#[derive(Debug, Default)]
struct Outcomes {
    exact: usize,
    gaps: usize,
    barriers: usize,
    needless: usize,
}

impl Brokers {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = HubLimits {
            events_per_topic: rng.usize(0..12),
            bytes: rng.usize(500..20_000),
            topics: rng.usize(2..4),
            subscribers: 9,
            ..LIMITS
        };
        let ((ahead, first), (late, second)) = (following(limits), following(limits));
        let (pending, said) = (VecDeque::new(), Vec::new());
        Self { rng, ahead, late, pending, said, newest: OLDEST - 1, _inboxes: [first, second] }
    }

    fn step(&mut self, outcomes: &mut Outcomes) {
        match self.rng.u8(0..20) {
            0..7 => self.say(),
            7..12 => self.catch_up(),
            _ => self.join(outcomes),
        }
    }

    fn say(&mut self) {
        self.newest += self.rng.u64(1..4);
        let entry = match self.rng.u8(0..40) {
            0 => Entry::Loss(self.newest),
            1 => Entry::Pass(self.newest),
            _ => {
                let publisher_id = self.publisher_id();
                Entry::Event { id: self.newest, topic: self.rng.usize(0..TOPICS.len()), publisher_id }
            }
        };
        follow(&self.ahead, &entry);
        self.said.push(entry.clone());
        self.pending.push_back(entry);
    }

    fn publisher_id(&mut self) -> Option<String> {
        match self.rng.u8(0..10) {
            0..4 => None,
            4..6 => Some(format!("own{}", self.rng.u8(0..30))),
            6..8 => Some(self.rng.u64(0..40).to_string()),
            8 => Some(self.said.len().to_string()),
            _ => Some((OLDEST + self.rng.u64(0..200)).to_string()),
        }
    }

    fn catch_up(&mut self) {
        let count = self.rng.usize(0..=self.pending.len());
        self.pending.drain(..count).for_each(|entry| follow(&self.late, &entry));
    }

    fn position(&mut self) -> String {
        match self.rng.u8(0..8) {
            0 => "0".into(),
            1 => self.publisher_id().unwrap_or_default(),
            2 => (self.newest + self.rng.u64(0..3)).to_string(),
            3 => (OLDEST - self.rng.u64(0..9)).to_string(),
            _ => {
                let entry = self.rng.usize(0..self.said.len().max(1));
                match (self.said.get(entry), self.rng.bool()) {
                    (Some(Entry::Event { publisher_id: Some(own), .. }), true) => own.clone(),
                    (Some(Entry::Event { id, .. } | Entry::Pass(id) | Entry::Loss(id)), _) => id.to_string(),
                    (None, _) => "nonsense".into(),
                }
            }
        }
    }

    fn join(&mut self, outcomes: &mut Outcomes) {
        let topics: BTreeSet<_> = (0..self.rng.usize(1..3)).map(|_| self.rng.usize(0..TOPICS.len())).collect();
        let names: Vec<_> = topics.iter().map(|&topic| name(TOPICS[topic])).collect();
        let text = self.position();
        let waits = self.late.needs_barrier(&names, Position::After(&text));
        let (now, later) = (try_cursor(&self.late, &names, &text), try_cursor(&self.ahead, &names, &text));
        let (Some(now), Some(later)) = (now, later) else { return };
        let is_false = !waits && now.is_none() && later.is_some();
        assert!(!is_false || self.is_in_doubt(&topics, &text), "a gap after {text} that a barrier would have avoided");
        assert!(!self.pending.is_empty() || now == later, "the same log, but not the same position");
        self.assert_nothing_skipped(&topics, &text, later);
        outcomes.exact += usize::from(now.is_some());
        outcomes.gaps += usize::from(now.is_none() && !waits);
        outcomes.barriers += usize::from(waits && now.is_none() && later.is_some());
        outcomes.needless += usize::from(waits && now.is_some());
    }

    /// Returns whether a number that is known may also have been evicted as a publisher's id, until it is retained as one.
    fn is_in_doubt(&self, topics: &BTreeSet<usize>, text: &str) -> bool {
        parse_id(text).is_some() && self.pending.iter().any(|entry| entry.is_publishers(topics, text))
    }

    /// Without a gap, a client gets everything after the event it has seen, whichever of the possible ones that is.
    fn assert_nothing_skipped(&self, topics: &BTreeSet<usize>, text: &str, cursor: Option<u64>) {
        let Some(cursor) = cursor.filter(|_| text != "0") else { return };
        let seen = self.said.iter().position(|entry| entry.is_meant(topics, text));
        let seen = seen.unwrap_or_else(|| panic!("nothing has the id {text}"));
        assert!(cursor <= self.said[seen].id(), "events after {text} are skipped");
        let state = self.ahead.lock();
        for entry in &self.said[seen + 1..] {
            match entry {
                Entry::Loss(id) => panic!("events after {text} are lost through {id}, but there is no gap"),
                Entry::Event { id, topic, .. } if topics.contains(topic) => {
                    let slot = state.names.get(&name(TOPICS[*topic]));
                    let is_retained = slot.is_some_and(|&slot| state.feeds.get(slot).window.contains(*id));
                    assert!(is_retained, "{id} after {text} is missing without a gap");
                }
                Entry::Event { .. } | Entry::Pass(_) => {}
            }
        }
    }
}

impl Entry {
    fn id(&self) -> u64 {
        let (Self::Event { id, .. } | Self::Pass(id) | Self::Loss(id)) = self;
        *id
    }

    /// Returns whether a client that sends this position may have seen it last.
    fn is_meant(&self, topics: &BTreeSet<usize>, text: &str) -> bool {
        self.is_publishers(topics, text) || self.id().to_string() == text
    }

    fn is_publishers(&self, topics: &BTreeSet<usize>, text: &str) -> bool {
        match self {
            Self::Event { topic, publisher_id, .. } => topics.contains(topic) && publisher_id.as_deref() == Some(text),
            Self::Pass(_) | Self::Loss(_) => false,
        }
    }
}

fn follow(hub: &Hub, entry: &Entry) {
    match entry {
        Entry::Event { id, topic, publisher_id } => {
            apply(hub, [event(TOPICS[*topic], id - OLDEST, publisher_id.as_deref())]);
        }
        Entry::Pass(id) => hub.pass(*id),
        Entry::Loss(id) => hub.lose_through(*id),
    }
}

/// Returns the cursor or a gap. `None` if there are too many topics.
fn try_cursor(hub: &Hub, names: &[TopicName], position: &str) -> Option<Option<u64>> {
    let joined = hub.join(0, names, Position::After(position)).ok()?;
    hub.abandon(0, &joined);
    Some(joined.gap.is_none().then_some(joined.cursor))
}

#[test]
fn a_late_broker_tells_no_false_gap_and_hides_none() {
    let mut outcomes = Outcomes::default();
    for seed in 0..300 {
        let result = std::panic::catch_unwind(|| {
            let (mut brokers, mut outcomes) = (Brokers::new(seed), Outcomes::default());
            (0..200).for_each(|_| brokers.step(&mut outcomes));
            outcomes
        });
        let seen = result.unwrap_or_else(|_| panic!("seed {seed}"));
        outcomes.exact += seen.exact;
        outcomes.gaps += seen.gaps;
        outcomes.barriers += seen.barriers;
        outcomes.needless += seen.needless;
    }
    let Outcomes { exact, gaps, barriers, needless } = outcomes;
    assert!(exact > 1_000 && gaps > 1_000 && barriers > 100 && needless < exact / 10, "{outcomes:?}");
}
