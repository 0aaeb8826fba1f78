//! What must be true of everything that the followers were told and the publishers were answered. Plain lists that are searched
//! from end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker::internals::engine::EngineError;
use esker::internals::engine::blob;
use esker::internals::engine::log::{Body, Entry};
use esker::internals::engine::sim::SimLog;

use super::follower::{self, Seen, Told};
use super::node::{self, Answer};
use super::records::Records;

/// How long an acknowledgement waits for the tail, in milliseconds.
pub const ACK_MILLIS: u64 = 1_000;

/// What a publisher knows of its publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Sent,
    /// Published: the id, and how many events were new.
    Accepted(u64, usize),
    /// Nothing was published.
    Refused,
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Publish {
    pub topic: &'static str,
    /// The publisher's ids of its events.
    pub own_ids: Vec<Option<String>>,
    pub node: u64,
    pub sent: u64,
    pub state: State,
}

#[derive(Clone, Debug)]
pub struct Barrier {
    pub node: u64,
    /// The id of the newest event that the log had then.
    pub goal: u64,
    /// How many entries were lost by then.
    pub lost: usize,
    /// It may be put to a server that does not know that it was replaced.
    pub is_split: bool,
    pub is_answered: bool,
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub struct Oracle {
    pub publishes: Vec<Publish>,
    pub barriers: Vec<Barrier>,
    pub records: Records,
    /// Some server may not know that it was replaced.
    pub is_split: bool,
    /// How far the log's clock has been set in all, in microseconds.
    pub clock_steps: u64,
    /// Everything was removed from the log at some time, publishers' ids of trimmed events included.
    pub was_flushed: bool,
    /// For how long the log knows a publisher's id, in microseconds.
    pub own_id_micros: u64,
}

/// What was ever written to the log.
pub struct Truth {
    /// The events that the log has or had, by id.
    pub kept: BTreeMap<u64, Seen>,
    /// The events that were lost.
    pub lost: BTreeSet<(u64, usize, usize)>,
    pub has_lost: bool,
    pub has_trimmed: bool,
    /// The id of the oldest entry that the log has.
    pub oldest: u64,
    /// The events of entries that have the id of one that is lost. If they are trimmed, nobody can tell them apart.
    ambiguous: BTreeSet<u64>,
    /// Of each lost event, by its id and the number of its publish, the id of the entry.
    entry_of: BTreeMap<(u64, usize), u64>,
    /// The events that were appended without a proof that they are durable.
    unproven: BTreeSet<(u64, usize, usize)>,
}

impl Truth {
    pub fn new(log: &SimLog) -> Self {
        let (written, lost) = (log.written(), log.lost());
        let is_kept = |entry: &&Arc<Entry>| !lost.iter().any(|other| Arc::ptr_eq(entry, other));
        let kept = written.iter().filter(is_kept).flat_map(|entry| events(entry));
        let kept = kept.map(|seen| (seen.id, seen)).collect();
        let (has_lost, has_trimmed) = (!lost.is_empty(), log.trimmed() > 0);
        let lost_ids: BTreeSet<_> = lost.iter().map(|entry| entry.id).collect();
        let ambiguous = written.iter().filter(|entry| is_kept(entry) && lost_ids.contains(&entry.id));
        let ambiguous = ambiguous.flat_map(|entry| events(entry)).map(|seen| seen.id).collect();
        let entries = || lost.iter().flat_map(|entry| events(entry).into_iter().map(|seen| (seen, entry.id)));
        let entry_of = entries().map(|(seen, entry)| ((seen.id, seen.number), entry)).collect();
        let lost = entries().map(|(seen, _)| key(&seen)).collect();
        let oldest = log.entries().first().map_or(0, |entry| entry.id);
        let unproven = log.unproven().iter().flat_map(|entry| events(entry)).map(|seen| key(&seen)).collect();
        Self { kept, lost, has_lost, has_trimmed, oldest, ambiguous, entry_of, unproven }
    }

    fn is_kept(&self, seen: &Seen) -> bool {
        self.kept.get(&seen.id) == Some(seen)
    }

    fn is_lost(&self, seen: &Seen) -> bool {
        self.lost.contains(&key(seen))
    }
}

fn key(seen: &Seen) -> (u64, usize, usize) {
    (seen.id, seen.number, seen.index)
}

/// Returns the events of an entry that are to be delivered.
pub fn events(entry: &Entry) -> Vec<Seen> {
    let Body::Events { blob, repetitions, .. } = &entry.body else { return Vec::new() };
    let events = blob::read(blob).expect("a blob");
    let events = events.iter().enumerate().filter(|(index, _)| !repetitions.contains(index));
    let seen = events.map(|(at, event)| {
        let (number, index) = follower::numbers(event.lines);
        Seen { id: entry.id + at as u64, number, index }
    });
    seen.collect()
}

impl Oracle {
    pub fn take(&mut self, answer: Answer, log: &SimLog) {
        match answer.told {
            node::Told::Publish(number, result) => {
                let publish = &mut self.publishes[number];
                assert_eq!(publish.state, State::Sent, "a publish is answered twice: {publish:?}");
                publish.state = match result {
                    Ok(sequenced) => {
                        let is_late = answer.millis >= publish.sent + ACK_MILLIS;
                        // The tail may read from a server that was replaced, which has another entry with this id.
                        assert!(
                            answer.newest >= sequenced.id || is_late || !log.lost().is_empty(),
                            "{number} is acknowledged before the tail has passed {}: {publish:?}",
                            sequenced.id
                        );
                        State::Accepted(sequenced.id, sequenced.events)
                    }
                    Err(EngineError::Unknown(_)) => State::Unknown,
                    Err(_) => State::Refused,
                };
            }
            node::Told::Insert(number, result) => {
                self.records.take_insert(number, &result, answer.newest, answer.millis, log);
            }
            node::Told::Erasure(number, result) => self.records.take_erasure(number, &result),
            node::Told::Lookup(number, result) => self.records.take_lookup(number, &result, answer.newest, log),
            node::Told::Barrier(number, has_passed) => {
                let barrier = &mut self.barriers[number];
                barrier.is_answered = true;
                let is_comparable = !barrier.is_split && log.lost().len() == barrier.lost;
                let is_reached = answer.newest >= barrier.goal;
                assert!(!(has_passed && is_comparable) || is_reached, "{answer:?} is before the barrier {barrier:?}");
            }
        }
    }

    /// Returns whether nothing waits.
    pub fn is_answered(&self) -> bool {
        let is_answered = |publish: &Publish| publish.state != State::Sent;
        self.publishes.iter().all(is_answered)
            && self.records.are_answered()
            && self.barriers.iter().all(|barrier| barrier.is_answered)
    }

    /// A broker was killed: nobody knows what became of its publishes.
    pub fn forget(&mut self, node: u64) {
        let sent = |publish: &&mut Publish| publish.node == node && publish.state == State::Sent;
        self.publishes.iter_mut().filter(sent).for_each(|publish| publish.state = State::Unknown);
        self.barriers.iter_mut().filter(|barrier| barrier.node == node).for_each(|barrier| barrier.is_answered = true);
        self.records.forget(node);
    }

    /// Checks everything that a follower was told. `is_caught_up` means that it has read everything that the log has.
    pub fn assert_told(&self, who: u64, told: &[Told], truth: &Truth, is_caught_up: bool) {
        let mut newest = 0;
        for told in told {
            let is_larger = match told {
                Told::Begin(_) | Told::Record(_) | Told::Reset(_) | Told::Erased(..) | Told::Doubt(_) => true,
                Told::Event(Seen { id, .. }) | Told::Pass(id) => *id > newest,
                Told::LoseThrough(id) => {
                    assert!(
                        truth.has_lost || truth.has_trimmed,
                        "{who} is told a loss, and nothing was lost: {told:?}"
                    );
                    *id >= newest
                }
            };
            assert!(is_larger, "{who} is told {told:?} after {newest}");
            newest = told.newest().unwrap_or(newest);
        }
        self.assert_exists(who, told, truth, is_caught_up);
        self.assert_once(who, told, truth);
        self.assert_complete(who, told, truth, is_caught_up);
    }

    /// Checks that the log has or had everything that a follower was told, and that the follower knows of losses.
    fn assert_exists(&self, who: u64, told: &[Told], truth: &Truth, is_caught_up: bool) {
        for (at, seen) in told.iter().enumerate().filter_map(|(at, told)| Some((at, event(told)?))) {
            assert!(truth.is_kept(seen) || truth.is_lost(seen), "{who} is told {seen:?}, which is not in the log");
            let is_loss = |told: &Told| matches!(told, Told::LoseThrough(id) if *id >= seen.id);
            let is_known = truth.is_kept(seen) || told[at..].iter().any(is_loss);
            assert!(is_known || !is_caught_up, "{who} is not told that {seen:?} is lost: {told:?}");
            let publish = &self.publishes[seen.number];
            let is_allowed = publish.state != State::Refused || truth.is_lost(seen);
            assert!(is_allowed, "{who} is told {seen:?}, which was refused: {publish:?}");
        }
    }

    /// Checks that a node knows of the loss of what it has acknowledged. What is older than the log counts as trimmed.
    pub fn assert_losses_told(&self, who: u64, told: &[Told], truth: &Truth) {
        for &(id, number, _) in truth.lost.iter().filter(|&&(id, ..)| id >= truth.oldest) {
            let publish = &self.publishes[number];
            let is_acknowledged = publish.state == State::Accepted(id, publish.own_ids.len()) && publish.node == who;
            let entry = truth.entry_of[&(id, number)];
            let is_told = told.iter().any(|told| matches!(told, Told::LoseThrough(lost) if *lost >= entry));
            // It may have been appended again, with the same id.
            let is_told = is_told || truth.kept.get(&id).is_some_and(|seen| seen.number == number);
            assert!(
                !is_acknowledged || is_told,
                "{who} has acknowledged {number}, which is lost: {publish:?}, {told:?}"
            );
        }
    }

    /// Checks that nothing was told twice, unless it was lost in between.
    fn assert_once(&self, who: u64, told: &[Told], truth: &Truth) {
        let mut before: BTreeMap<(usize, usize), &Seen> = BTreeMap::new();
        let mut owners: BTreeMap<(&str, &str), &Seen> = BTreeMap::new();
        for told in told {
            if let (Told::LoseThrough(_), true) = (told, self.was_flushed) {
                owners.clear();
            }
            let Some(seen) = event(told) else { continue };
            if let Some(first) = before.insert((seen.number, seen.index), seen) {
                assert!(truth.is_lost(first), "{who} is told {first:?} and {seen:?}");
            }
            let publish = &self.publishes[seen.number];
            let Some(own_id) = &publish.own_ids[seen.index] else { continue };
            if let Some(first) = owners.insert((publish.topic, own_id), seen) {
                let may_have_expired = first.id + self.own_id_micros <= seen.id + self.clock_steps;
                assert!(truth.is_lost(first) || may_have_expired, "{who} is told {own_id} twice: {first:?}, {seen:?}");
            }
        }
    }

    /// Checks that nothing was skipped, unless the follower was told so.
    fn assert_complete(&self, who: u64, told: &[Told], truth: &Truth, is_caught_up: bool) {
        let Some(begin) = told.iter().find_map(|told| if let Told::Begin(id) = told { Some(*id) } else { None }) else {
            return;
        };
        let all: BTreeSet<_> = told.iter().filter_map(event).map(key).collect();
        let newest = told.iter().filter_map(Told::newest).max().unwrap_or(0);
        let end = if is_caught_up { u64::MAX } else { newest };
        let is_loss = |told: &Told| if let Told::LoseThrough(id) = told { Some(*id) } else { None };
        let lost_through = told.iter().filter_map(is_loss).max().unwrap_or(0);
        // A follower of a server that was replaced does not know yet that it was.
        let has_read_lost = told.iter().filter_map(event).any(|seen| truth.is_lost(seen));
        for seen in truth.kept.range(begin..).map(|(_, seen)| seen).take_while(|seen| seen.id <= end) {
            let is_ambiguous = seen.id < truth.oldest && truth.ambiguous.contains(&seen.id);
            let is_excused = seen.id <= lost_through || (has_read_lost && !is_caught_up) || is_ambiguous;
            assert!(is_excused || all.contains(&key(seen)), "{who} skips {seen:?}: {told:?}");
        }
    }

    /// Checks what publishers were answered against what the log has.
    pub fn assert_answers(&self, truth: &Truth) {
        for (number, publish) in self.publishes.iter().enumerate() {
            let kept = truth.kept.values().filter(|seen| seen.number == number);
            match publish.state {
                State::Sent => panic!("{number} is not answered: {publish:?}"),
                State::Unknown => {}
                State::Refused => assert_eq!(kept.count(), 0, "{number} was refused: {publish:?}"),
                State::Accepted(id, 0) => self.assert_repeats(number, id, truth),
                State::Accepted(id, events) => {
                    assert!(
                        !truth.unproven.iter().any(|&(unproven, of, _)| (unproven, of) == (id, number)),
                        "{number} was accepted without proof: {publish:?}"
                    );
                    let kept: Vec<_> = kept.collect();
                    let is_kept = kept.len() == events && kept.last().is_some_and(|seen| seen.id == id);
                    let is_lost = truth.lost.iter().any(|&(lost, of, _)| lost == id && of == number);
                    // After everything was removed, an id may be assigned again.
                    assert!(is_kept || is_lost || self.was_flushed, "{number} was accepted: {publish:?}, {kept:?}");
                }
            }
        }
        let unanswered = self.barriers.iter().find(|barrier| !barrier.is_answered);
        assert!(unanswered.is_none(), "{unanswered:?} is not answered");
    }

    /// Checks that a publish which is said to repeat another does.
    fn assert_repeats(&self, number: usize, id: u64, truth: &Truth) {
        let publish = &self.publishes[number];
        let lost = truth.lost.iter().filter(|&&(lost, ..)| lost == id).map(|&(_, of, index)| (of, index));
        let kept = truth.kept.get(&id).map(|seen| (seen.number, seen.index));
        let is_same = |(of, index): (usize, usize)| {
            let other = &self.publishes[of];
            other.topic == publish.topic && publish.own_ids.contains(&other.own_ids[index])
        };
        assert!(lost.chain(kept).any(is_same), "{number} repeats nothing: {publish:?}");
    }
}

fn event(told: &Told) -> Option<&Seen> {
    match told {
        Told::Event(seen) => Some(seen),
        _ => None,
    }
}
