//! Judges what subscribers received by what publishers were answered. There is one order, by ids, of all events: each
//! subscriber must have received its topics' part of it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::follower::{Follower, Seen};
use super::ledger::{Entries, Ledger, Marker};

/// Whether events may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// No subscriber may be told a gap.
    Forbidden,
    /// The fault loses acknowledged events: a gap must stand where they are missing.
    Allowed,
}

/// What was judged.
#[derive(Debug, Default)]
pub struct Verdict {
    accepted: usize,
    refused: usize,
    unknown: usize,
    timeouts: usize,
    duplicates: usize,
    pub received: usize,
    /// Gaps of all subscribers.
    pub gaps: usize,
    /// Acknowledged events that a subscriber did not get, and was told so by a gap; of all subscribers.
    pub announced: usize,
    connections: usize,
    silences: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, refused, unknown, timeouts, duplicates, received, gaps, announced, connections, silences } =
            self;
        write!(
            f,
            "{accepted} accepted, {refused} refused, {unknown} unknown, {timeouts} times 504, {duplicates} repetitions; \
             {received} received, {announced} announced by {gaps} gaps, {connections} connections, {silences} silences"
        )
    }
}

/// Judges all subscribers of a ledger's topics.
pub fn judge(ledger: &Arc<Ledger>, followers: &[Follower], gaps: Gaps) -> Verdict {
    let entries = ledger.entries();
    let order = order(&entries, followers);
    let mut verdict = Verdict {
        accepted: entries.accepted.len(),
        refused: entries.refused.len(),
        unknown: entries.unknown.len(),
        timeouts: entries.timeouts,
        duplicates: entries.duplicates,
        ..Verdict::default()
    };
    for (index, follower) in followers.iter().enumerate() {
        assert!(gaps == Gaps::Allowed || follower.gaps() == 0, "subscriber {index} was told {} gaps", follower.gaps());
        judge_one(index, follower, &entries, &order, &mut verdict);
    }
    verdict
}

/// Returns the id of each event: as its publisher knows it, otherwise the newest that a subscriber got.
fn order(entries: &Entries, followers: &[Follower]) -> HashMap<Marker, u64> {
    let mut seen_ids = HashMap::new();
    for seen in followers.iter().flat_map(|follower| &follower.seen) {
        if let Seen::Event(marker, Some(id)) = seen {
            let newest = seen_ids.entry(*marker).or_insert(*id);
            *newest = (*id).max(*newest);
        }
    }
    let mut order = seen_ids;
    order.extend(&entries.accepted);
    let ids: HashSet<u64> = order.values().copied().collect();
    assert_eq!(ids.len(), order.len(), "two events have the same id");
    order
}

fn judge_one(
    index: usize,
    follower: &Follower,
    entries: &Entries,
    order: &HashMap<Marker, u64>,
    verdict: &mut Verdict,
) {
    let (mut received, mut last) = (HashSet::new(), follower.begin);
    let kept = without_lost(&follower.seen, order);
    for (at, seen) in kept.iter().enumerate() {
        let around = || &kept[at.saturating_sub(5)..kept.len().min(at + 3)];
        let &Seen::Event(marker, given) = seen else {
            continue;
        };
        let id = *order.get(&marker).unwrap_or_else(|| panic!("subscriber {index} got {marker:?}, never acknowledged"));
        assert!(given.is_none_or(|given| given == id), "subscriber {index} got {seen:?} with another id than {id}");
        assert!(received.insert(marker), "subscriber {index} got {marker:?} twice: {:?}", around());
        assert!(id > last, "subscriber {index} got {marker:?} with the id {id} after {last}: {:?}", around());
        assert!(!entries.refused.contains(&marker), "{marker:?} was refused, and subscriber {index} got it");
        assert!(follower.topics.contains(&marker.topic()), "{marker:?} is not of subscriber {index}'s topics");
        last = id;
    }
    let gone = gone(&kept, follower.begin);
    for (marker, id) in &entries.accepted {
        let is_owed = follower.topics.contains(&marker.topic()) && (follower.begin + 1..=last).contains(id);
        if is_owed && !received.contains(marker) {
            let is_announced = gone.iter().any(|(after, next)| after < id && id < next);
            assert!(is_announced, "{marker:?} ({id}) was acknowledged, and subscriber {index} never got it");
            verdict.announced += 1;
        }
    }
    verdict.received += received.len();
    verdict.gaps += gone.len();
    verdict.connections += follower.connections;
    verdict.silences += follower.silences;
}

/// Returns the ids that gaps report as gone, as ranges that exclude both ends. Their ends are events whose id the broker gave:
/// the id of another is not certain if it was lost and published again.
fn gone(seen: &[Seen], begin: u64) -> Vec<(u64, u64)> {
    let (mut last, mut gone): (u64, Vec<(u64, u64)>) = (begin, Vec::new());
    for seen in seen {
        match seen {
            Seen::Gap => gone.push((last, u64::MAX)),
            Seen::Event(_, None) => {}
            Seen::Event(_, Some(id)) => {
                gone.iter_mut().filter(|(_, next)| *next == u64::MAX).for_each(|(_, next)| *next = *id);
                last = *id;
            }
        }
    }
    gone
}

/// Leaves out events that the log has lost and that were published again: a gap follows them, and they have a newer id or come
/// once more.
fn without_lost(seen: &[Seen], order: &HashMap<Marker, u64>) -> Vec<Seen> {
    let (mut after, mut since_gap, mut oldest) = (HashSet::new(), Vec::new(), u64::MAX);
    let (mut has_gap, mut kept) = (false, Vec::new());
    for seen in seen.iter().rev() {
        match seen {
            Seen::Gap => {
                has_gap = true;
                after.extend(since_gap.drain(..));
            }
            Seen::Event(marker, _) if after.contains(marker) => continue,
            Seen::Event(marker, None) if has_gap && order.get(marker).is_some_and(|id| *id > oldest) => continue,
            Seen::Event(marker, Some(id)) if has_gap && order.get(marker).is_some_and(|newer| newer > id) => continue,
            Seen::Event(marker, _) => {
                since_gap.push(*marker);
                oldest = order.get(marker).map_or(oldest, |id| oldest.min(*id));
            }
        }
        kept.push(*seen);
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subscriber to the first topic that received events with these numbers; 0 is a gap.
    fn follower(numbers: &[u64]) -> Follower {
        let mut follower = Follower::new(vec![0]);
        follower.begin = 1000;
        follower.seen = numbers.iter().map(|number| seen(*number)).collect();
        follower
    }

    fn marker(number: u64) -> Marker {
        Marker(number * 4)
    }

    /// Odd numbers are of events that have an id of the publisher; 12 is event 2 with an older id.
    fn seen(number: u64) -> Seen {
        match number {
            0 => Seen::Gap,
            12 => Seen::Event(marker(2), Some(1001)),
            _ => Seen::Event(marker(number), number.is_multiple_of(2).then_some(1000 + number)),
        }
    }

    /// Events 1 to 6 were acknowledged, 7 was refused, and the outcome of 8 is unknown.
    fn ledger() -> Arc<Ledger> {
        let ledger = Ledger::new();
        {
            let mut entries = ledger.entries();
            entries.accepted = (1..=6).map(|number| (marker(number), 1000 + number)).collect();
            entries.refused.insert(marker(7));
            entries.unknown.insert(marker(8));
        }
        ledger
    }

    fn fault(numbers: &[u64], gaps: Gaps) -> Option<String> {
        let ledger = ledger();
        let followers = [follower(&[1, 2, 3, 4, 5, 6]), follower(numbers)];
        let judged = std::thread::spawn(move || judge(&ledger, &followers, gaps)).join();
        judged.err().map(|panic| *panic.downcast::<String>().expect("a message"))
    }

    fn assert_fault(numbers: &[u64], gaps: Gaps, part: &str) {
        let fault = fault(numbers, gaps).unwrap_or_else(|| panic!("{numbers:?} is accepted"));
        assert!(fault.contains(part), "{fault}");
    }

    #[test]
    fn a_complete_order_is_accepted() {
        for numbers in [&[1, 2, 3, 4, 5, 6][..], &[1, 2, 3, 4, 5, 6, 8]] {
            assert_eq!(fault(numbers, Gaps::Forbidden), None);
        }
        for numbers in [
            &[1, 2, 0, 5, 6][..],
            &[0, 6],
            &[1, 2, 3, 0, 3, 4, 5, 6],
            &[1, 3, 2, 0, 4, 5, 6],
            &[1, 12, 0, 2, 3, 4, 5, 6],
        ] {
            assert_eq!(fault(numbers, Gaps::Allowed), None);
        }
    }

    #[test]
    fn every_fault_is_noticed() {
        assert_fault(&[1, 2, 4, 5, 6], Gaps::Forbidden, "never got it");
        assert_fault(&[1, 2, 4, 0, 5, 6], Gaps::Allowed, "never got it");
        assert_fault(&[1, 2, 3, 3, 4, 5, 6], Gaps::Forbidden, "twice");
        assert_fault(&[1, 2, 3, 3, 4, 0, 5, 6], Gaps::Allowed, "twice");
        assert_fault(&[1, 3, 2, 4, 5, 6], Gaps::Forbidden, "after");
        assert_fault(&[1, 12, 3, 4, 5, 6], Gaps::Forbidden, "another id");
        assert_fault(&[1, 0, 12, 3, 4, 5, 6], Gaps::Allowed, "another id");
        assert_fault(&[0, 1, 3, 2, 4, 5, 6], Gaps::Allowed, "after");
        assert_fault(&[2, 1, 3, 0, 4, 5, 6], Gaps::Allowed, "after");
        assert_fault(&[1, 2, 3, 4, 5, 6, 0], Gaps::Forbidden, "told 1 gaps");
        assert_fault(&[1, 2, 3, 4, 5, 6, 7], Gaps::Forbidden, "never acknowledged");
        assert_fault(&[1, 2, 3, 4, 5, 6, 10, 8], Gaps::Forbidden, "after");
    }

    #[test]
    fn a_refused_event_must_not_be_delivered() {
        let ledger = ledger();
        ledger.entries().refused.insert(marker(8));
        let followers = [follower(&[1, 2, 3, 4, 5, 6, 8])];
        let judged = std::thread::spawn(move || judge(&ledger, &followers, Gaps::Forbidden)).join();
        assert!(judged.is_err_and(|panic| panic.downcast::<String>().is_ok_and(|text| text.contains("refused"))));
    }

    #[test]
    fn an_id_is_of_one_event() {
        let ledger = ledger();
        ledger.entries().accepted.insert(marker(9), 1003);
        let judged = std::thread::spawn(move || judge(&ledger, &[], Gaps::Forbidden)).join();
        assert!(judged.is_err());
    }
}
