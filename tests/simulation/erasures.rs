//! Erasures: what a requester may erase, and what of it may still be shown.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::oracle::{Feed, Item, Oracle, State};
use super::world::name_in_use;

/// What is known about whether a version was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erased {
    /// No erasure has covered it.
    No,
    /// An erasure that covers it was sent.
    Maybe,
    /// It existed when an erasure was sent whose response, in this step, was 200.
    Since(usize),
}

/// A request to erase versions of a name.
#[derive(Debug)]
pub struct Erasure {
    pub name: usize,
    pub before: Option<u64>,
    /// The versions that must exist when it is sent.
    certain: Vec<usize>,
}

impl Erasure {
    /// Chooses what is erased, and notes that it may be from now on.
    pub fn send(rng: &mut Rng, oracle: &mut Oracle) -> Self {
        let name = name_in_use(rng, oracle.step);
        let ids: Vec<u64> = oracle.versions(name).filter_map(|number| oracle.items[number].id).collect();
        let before = (!ids.is_empty() && rng.u8(0..3) == 0).then(|| ids[rng.usize(0..ids.len())]);
        let is_covered = |item: &Item| before.is_none_or(|before| item.is_through(before - 1));
        let may_be_covered = |item: &Item| before.is_none_or(|before| !item.is_after(before - 1));
        let certain = oracle.versions(name).filter(|&number| is_covered(&oracle.items[number])).collect();
        for item in oracle.items.iter_mut().filter(|item| item.feed == Feed::Name(name) && item.erased == Erased::No) {
            if may_be_covered(item) && item.state != State::Refused {
                item.erased = Erased::Maybe;
            }
        }
        // What is sent before there is a response may be erased as well.
        if before.is_none() {
            oracle.erasing.push(name);
        }
        Self { name, before, certain }
    }

    /// The response is 200: the versions are gone.
    pub fn settle(self, oracle: &mut Oracle) {
        if self.before.is_none() {
            let position = oracle.erasing.iter().position(|&name| name == self.name);
            oracle.erasing.swap_remove(position.expect("it was sent"));
        }
        for number in self.certain {
            if oracle.items[number].erased == Erased::Maybe {
                oracle.items[number].erased = Erased::Since(oracle.step);
            }
        }
    }
}

/// The erasures that a stream was told of.
#[derive(Debug, Default)]
pub struct Told {
    /// The id of the newest one.
    pub newest: u64,
    /// The names, each with the number of events that came before.
    names: Vec<(usize, usize)>,
}

impl Told {
    pub fn add(&mut self, name: usize, id: u64, events: usize) {
        self.newest = id;
        self.names.push((name, events));
    }

    /// Returns whether one of this name came after this many events.
    pub fn has_after(&self, name: usize, events: usize) -> bool {
        self.names.iter().any(|&(told, before)| told == name && before >= events)
    }
}

/// Checks that what a stream shows as the newest version of a name was not erased. `events` are the ids and numbers of what it has
/// received, and `gaps` the numbers of events before each gap.
pub fn assert_told(events: &[(u64, usize)], gaps: &[usize], told: &Told, oracle: &Oracle, who: &str) {
    let mut seen = BTreeSet::new();
    for (at, (id, number)) in events.iter().enumerate().rev() {
        let item = &oracle.items[*number];
        let Feed::Name(name) = item.feed else { continue };
        let is_newest = seen.insert(name);
        let is_excused = told.has_after(name, at + 1) || gaps.iter().any(|&before| before > at);
        let is_erased = matches!(item.erased, Erased::Since(_));
        assert!(!is_newest || !is_erased || is_excused, "{who} was not told that {number} ({id}) is erased: {item:?}");
    }
}

/// Checks that an audit, sent in this step, does not show what was erased before.
pub fn assert_not_erased(name: usize, sent: usize, text: &str, oracle: &Oracle) {
    for item in oracle.items.iter().filter(|item| item.feed == Feed::Name(name) && !oracle.has_failed) {
        let (Erased::Since(step), Some(id)) = (item.erased, item.id) else { continue };
        let is_shown = text.contains(&format!("_v_{id}\":"));
        assert!(step >= sent || !is_shown, "{id} is shown, and was erased before: {item:?}, {text}");
    }
}
