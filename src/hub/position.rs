//! From what a client says it has seen to the cursor it goes on from. Knows no HTTP: the text may
//! come from a header or a query.
//!
//! A text can mean several events: one that a publisher gave it as its id, in any of the topics, and the one that has this
//! number as its id from the broker. The client saw one of them, and nobody knows which. So the earliest counts, and if one
//! that is not retained can be meant, the position is unknown.

use crate::engine::parse_id;
use crate::sse;

use super::{Feed, Gap, Slot, State, Topic};

/// Asks for everything that is retained.
const EVERYTHING: &str = "0";

/// Where a subscriber wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position<'a> {
    /// It asks for nothing of the past.
    Live,
    /// It asks for everything after this id.
    After(&'a str),
}

/// The cursor for a position, and the gap to tell of if events after it are gone or it is unknown.
pub(super) fn resolve(state: &State, slots: &[Slot], position: Position<'_>) -> (u64, Option<Gap>) {
    let Position::After(text) = position else {
        return (state.ids.newest(), None);
    };
    let oldest = slots.iter().filter_map(|&slot| state.feeds.get(slot).window.oldest()).min();
    // One before the oldest, or the present where nothing is retained.
    let all = oldest.map_or(state.ids.newest(), |id| id - 1);
    let reader = Reader { state, slots, text: sse::position(text) };
    match reader.read() {
        Some(Meaning::Everything) => (all, None),
        Some(Meaning::After(id)) => (id, None),
        None => (all, Some(Gap { oldest })),
    }
}

/// What a position stands for.
enum Meaning {
    /// All that is retained is asked for.
    Everything,
    /// All that follows this id is asked for, and is retained.
    After(u64),
}

/// A position and the topics in which it is one.
struct Reader<'a> {
    state: &'a State,
    slots: &'a [Slot],
    text: &'a str,
}

impl<'a> Reader<'a> {
    /// The earliest meaning; none if the position is unknown, or events after it are gone.
    fn read(&self) -> Option<Meaning> {
        if self.text.len() > sse::event::MAX_OWN_ID {
            return None;
        }
        let number = parse_id(self.text);
        let own = self.feeds().filter_map(|feed| feed.note.publisher_ids.get(self.text)).min().copied();
        if self.feeds().any(|feed| self.may_be_evicted(feed, number, own.is_some())) {
            return None;
        }
        if self.text == EVERYTHING {
            return own.is_none_or(|id| self.is_whole_after(id)).then_some(Meaning::Everything);
        }
        if number.is_some_and(|number| self.state.ids.may_be_from_an_earlier_run(number)) {
            // It may be an event from before the start, whatever has this id now.
            return None;
        }
        let given = number.filter(|&number| self.state.ids.may_have_assigned(number));
        let earliest = own.into_iter().chain(given).min()?;
        self.is_whole_after(earliest).then_some(Meaning::After(earliest))
    }

    /// Returns whether the topic may have lost an event of which this is the publisher's id.
    fn may_be_evicted(&self, feed: &Feed<Topic>, number: Option<u64>, is_retained: bool) -> bool {
        let topic = &feed.note;
        // Numbers that the topic still has are for the filter to judge: the bounds would put all of them in doubt where
        // publishers' numbers do not ascend.
        let is_in_bounds = !topic.publisher_ids.contains_key(self.text)
            && number.is_some_and(|number| topic.evicted_numbers.may_have(number));
        // Otherwise it is unknown anyway, or a number, for which the bounds are surer.
        let may_be_gone = || topic.evicted_numbers.has_any() && self.state.evicted_ids.may_have(&topic.name, self.text);
        is_in_bounds || (is_retained && may_be_gone())
    }

    fn is_whole_after(&self, id: u64) -> bool {
        self.feeds().all(|feed| feed.window.evicted_through() <= id)
    }

    fn feeds(&self) -> impl Iterator<Item = &'a Feed<Topic>> {
        self.slots.iter().map(|&slot| self.state.feeds.get(slot))
    }
}

#[cfg(test)]
mod tests;
