//! What publishers and subscribers must have been told, given what the log has and had. Plain lists that are searched from end
//! to end.

use std::collections::{BTreeMap, BTreeSet};

use super::super::engine::oracle::Truth;
use super::publisher::{Message, Outcome};
use super::subscriber::{Received, Subscriber};

/// Everything that was sent.
#[derive(Debug, Default)]
pub struct Oracle {
    pub messages: Vec<Message>,
    /// Everything that the log has ever had is retained everywhere, so that there is no reason for a gap.
    pub is_roomy: bool,
    /// Everything was removed from the log at some time, publishers' ids of trimmed events included.
    pub was_flushed: bool,
    /// The brokers that run.
    pub running: Vec<u64>,
    /// For how long the log knows a publisher's id, and how far its clock has been set in all, in microseconds.
    pub own_id_micros: u64,
    pub clock_steps: u64,
}

/// An event that a subscriber must get: its id and whose it is.
#[derive(Clone, Copy, Debug)]
struct Due {
    id: u64,
    number: usize,
    index: usize,
}

impl Oracle {
    /// Checks what publishers were told.
    pub fn assert_answers(&self, truth: &Truth) {
        self.assert_published_once(truth);
        for (number, message) in self.messages.iter().enumerate() {
            for attempt in &message.attempts {
                match attempt.outcome {
                    Outcome::Sent => panic!("{number} is not answered: {message:?}"),
                    Outcome::Accepted { id, .. } => self.assert_accepted(number, id, truth),
                    Outcome::Refused | Outcome::Unknown => {}
                }
            }
            let kept = truth.kept.values().find(|seen| seen.number == number);
            assert!(!message.is_refused() || kept.is_none(), "{number} was refused: {message:?}, {kept:?}");
        }
    }

    /// Checks that no event is in the log twice, however often its message was sent.
    fn assert_published_once(&self, truth: &Truth) {
        let mut owners: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        let mut once = BTreeSet::new();
        for (id, seen) in &truth.kept {
            let message = &self.messages[seen.number];
            let own_id = message.own_ids[seen.index].as_deref();
            let before = own_id.and_then(|own_id| owners.insert((message.topic, own_id), *id));
            let is_first = before.is_none_or(|before| before + self.own_id_micros <= *id + self.clock_steps);
            let is_new = once.insert((seen.number, seen.index)) || (is_first && before.is_some());
            assert!((is_first && is_new) || self.was_flushed, "{seen:?} is published twice: {message:?}");
        }
    }

    /// Checks that the log has or had the event that an acknowledgement names: one of the message, or one that it repeats.
    fn assert_accepted(&self, number: usize, id: u64, truth: &Truth) {
        let message = &self.messages[number];
        let kept = truth.kept.get(&id).map(|seen| (seen.number, seen.index));
        let lost = truth.lost.iter().filter(|&&(lost, ..)| lost == id).map(|&(_, of, index)| (of, index));
        let is_same = |(of, index): (usize, usize)| {
            let other = &self.messages[of];
            let own_id = other.own_ids.get(index).and_then(Option::as_ref);
            let has_own_id = own_id.is_some() && message.own_ids.iter().any(|own| own.as_ref() == own_id);
            of == number || (other.topic == message.topic && has_own_id)
        };
        assert!(kept.into_iter().chain(lost).any(is_same), "{number} was accepted with {id}: {message:?}");
    }

    /// Checks what a subscriber has received. `is_caught_up` means that it has received everything.
    pub fn assert_received(&self, subscriber: &Subscriber, truth: &Truth, is_caught_up: bool) {
        self.assert_order(subscriber, truth);
        let is_sure = !self.has_resumed_after_a_repetition(subscriber, truth);
        if is_caught_up && is_sure && !self.is_deceived(subscriber, truth) {
            self.assert_complete(subscriber, truth);
        }
    }

    /// Checks that ids ascend, over several connections too, and that nothing was refused. A gap when a stream is opened begins
    /// everything that is retained anew.
    fn assert_order(&self, subscriber: &Subscriber, truth: &Truth) {
        let (mut newest, mut is_opening, mut last) = (0, false, "");
        for received in &subscriber.received {
            match received {
                Received::Opened => {
                    is_opening = true;
                    // A broker that has the lost one still has what came after it.
                    newest = if self.is_repetition(last, truth) { 0 } else { newest };
                }
                Received::Prime(id) => newest = *id,
                Received::Gap { .. } => {
                    let is_allowed = !self.is_roomy || truth.has_lost || truth.has_trimmed;
                    assert!(is_allowed, "a gap though everything is retained: {subscriber:?}");
                    newest = if is_opening { 0 } else { newest };
                }
                Received::Event { shown, number, index, .. } => {
                    (is_opening, last) = (false, shown);
                    newest = self.id_after(newest, shown, *number, *index, truth).unwrap_or_else(|| {
                        panic!("{shown} ({number} {index}) after {newest}: {subscriber:?}");
                    });
                    let message = &self.messages[*number];
                    assert!(subscriber.topics.contains(&message.topic), "{number} was not asked for: {subscriber:?}");
                }
            }
        }
    }

    /// Returns the id of an event that is larger than another, if it has such an id.
    fn id_after(&self, newest: u64, shown: &str, number: usize, index: usize, truth: &Truth) -> Option<u64> {
        let own_id = self.messages[number].own_ids[index].as_deref();
        let is_shown = |id: &u64| own_id.map_or_else(|| id.to_string() == shown, |own_id| own_id == shown);
        let kept = truth.kept.values().filter(|seen| (seen.number, seen.index) == (number, index)).map(|seen| seen.id);
        let lost = truth.lost.iter().filter(|&&(_, of, at)| (of, at) == (number, index)).map(|&(id, ..)| id);
        kept.chain(lost).filter(|id| *id > newest).filter(is_shown).min()
    }

    /// Returns whether a subscriber has resumed after a publisher's id that is of two events: one that is lost, and one with which
    /// it was published again. A broker that never had the first takes it for the second.
    fn has_resumed_after_a_repetition(&self, subscriber: &Subscriber, truth: &Truth) -> bool {
        let mut last = "";
        subscriber.received.iter().any(|received| {
            match received {
                Received::Event { shown, .. } => last = shown,
                Received::Opened => return self.is_repetition(last, truth),
                Received::Prime(_) | Received::Gap { .. } => {}
            }
            false
        })
    }

    /// Returns whether a publisher's id is of an event that is lost.
    fn is_repetition(&self, shown: &str, truth: &Truth) -> bool {
        let is_same = |number: usize, index: usize| {
            self.messages[number].own_ids.get(index).is_some_and(|own_id| own_id.as_deref() == Some(shown))
        };
        truth.lost.iter().any(|&(_, number, index)| is_same(number, index))
    }

    /// Checks that a subscriber which has received what is lost has received a gap since. Returns whether it may not have,
    /// because the brokers that had it are gone and nobody can know.
    fn is_deceived(&self, subscriber: &Subscriber, truth: &Truth) -> bool {
        let is_gap = |received: &Received| matches!(received, Received::Gap { .. });
        let mut is_deceived = false;
        for (at, received) in subscriber.received.iter().enumerate() {
            let Received::Event { number, index, broker, .. } = received else { continue };
            let is_kept = truth.kept.values().any(|seen| (seen.number, seen.index) == (*number, *index));
            if is_kept || subscriber.received[at..].iter().any(is_gap) {
                continue;
            }
            let is_known = self.running.contains(broker);
            assert!(!is_known, "{number} {index} is lost, and there is no gap: {subscriber:?}");
            is_deceived = true;
        }
        is_deceived
    }

    /// Checks that a subscriber has received everything since it was there, or a gap.
    fn assert_complete(&self, subscriber: &Subscriber, truth: &Truth) {
        let Some(start) = subscriber.start else { return };
        let has = |due: &Due| {
            subscriber.received.iter().any(|received| {
                matches!(received, Received::Event { number, index, .. } if (*number, *index) == (due.number, due.index))
            })
        };
        let is_wanted = |due: &Due| due.id > start && subscriber.topics.contains(&self.messages[due.number].topic);
        for due in truth.kept.values().map(|seen| Due { id: seen.id, number: seen.number, index: seen.index }) {
            let is_excused = || subscriber.received.iter().any(|received| is_excused(due.id, received, subscriber));
            assert!(!is_wanted(&due) || has(&due) || is_excused(), "{due:?} is missing: {subscriber:?}");
        }
        let has_gap = subscriber.received.iter().any(|received| matches!(received, Received::Gap { .. }));
        // What is older than the log counts as trimmed.
        for &(id, number, index) in truth.lost.iter().filter(|&&(id, ..)| id >= truth.oldest) {
            let due = Due { id, number, index };
            let is_missing = self.knows_of_loss(number, id) && is_wanted(&due) && !has(&due) && !has_gap;
            assert!(!is_missing, "{due:?} was acknowledged and lost, and there is no gap: {subscriber:?}");
        }
    }

    /// Returns whether a broker that runs has acknowledged an event that is lost. If all brokers that have had it are gone, nobody
    /// can know.
    fn knows_of_loss(&self, number: usize, id: u64) -> bool {
        let message = &self.messages[number];
        let ids = id..id + message.own_ids.len() as u64;
        let is_acknowledged =
            |outcome: Outcome| matches!(outcome, Outcome::Accepted { id: last, .. } if ids.contains(&last));
        let mut attempts = message.attempts.iter();
        attempts.any(|attempt| is_acknowledged(attempt.outcome) && self.running.contains(&attempt.broker))
    }
}

/// Returns whether a gap reports that an event is no longer retained. With several topics, one may retain events that are older
/// than what another has evicted.
fn is_excused(id: u64, received: &Received, subscriber: &Subscriber) -> bool {
    match *received {
        Received::Gap { oldest: Some(oldest), .. } if subscriber.topics.len() == 1 => id < oldest,
        Received::Gap { newest, .. } => id <= newest,
        _ => false,
    }
}
