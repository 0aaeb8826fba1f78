//! Two brokers that follow one log, of which one is late, against an oracle that remembers everything that the log has said: no
//! event is skipped without a gap, and no gap is told that a barrier would have avoided.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::log::{OLDEST, TOPICS, apply, event, following};
use super::*;
use crate::ids::parse_id;

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
                    let slot = state.slot(&name(TOPICS[*topic]));
                    let is_retained = slot.is_some_and(|slot| state.feeds.get(slot).window.contains(*id));
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
