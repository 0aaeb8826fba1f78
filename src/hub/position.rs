//! Resolves the resume position that a client sends to the cursor from which it continues. Independent of HTTP: the text may
//! come from a header or from a query.
//!
//! A text can identify several events: those that have it as their publisher id, one in each topic, and the one that has this
//! number as its broker id. The client has seen one of them, but which one is unknown. Therefore the earliest counts, and if
//! the text may identify an event that is no longer retained, the position is unknown.

use super::order::TopicOrder;
use super::{Feed, Gap, Hub, Slot, State, Topic, TopicName};
use crate::ids::parse_id;
use crate::sse;

/// Requests everything that is retained.
const EVERYTHING: &str = "0";

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position<'a> {
    /// With the next event.
    Live,
    /// After the event with this id.
    After(&'a str),
}

/// Returns the cursor for a position, and a gap if the position is unknown or events after it are no longer retained.
pub(super) fn resolve(state: &State, slots: &[Slot], position: Position<'_>) -> (u64, Option<Gap>) {
    let newest = state.newest();
    let Position::After(text) = position else {
        return (newest, None);
    };
    let oldest = slots.iter().filter_map(|&slot| state.oldest(slot)).min();
    let before_all = oldest.map_or(newest, |id| id - 1);
    let resolver = Resolver { state, slots, text: sse::position(text) };
    match resolver.resolve() {
        Some(Meaning::Everything) => (before_all, None),
        Some(Meaning::After(id)) => (id, None),
        None => (before_all, Some(Gap { oldest })),
    }
}

impl Hub {
    /// Returns whether a position can be judged only once this broker has applied everything that the log has now: a client may
    /// have received an event elsewhere that this broker does not know yet. Never true without a log.
    pub fn needs_barrier(&self, names: &[TopicName], position: Position<'_>) -> bool {
        let Position::After(text) = position else { return false };
        let state = self.lock();
        let TopicOrder::Log(ids) = &state.order else { return false };
        let text = sse::position(text);
        if text == EVERYTHING || text.len() > sse::MAX_PUBLISHER_ID {
            return false;
        }
        let number = parse_id(text);
        let is_applied = number.is_some_and(|number| ids.may_contain(number) || ids.may_be_from_before(number));
        !is_applied && !names.iter().any(|name| state.is_decided(name, text, number))
    }
}

impl State {
    /// Returns whether a topic retains an event with this publisher id, or has evicted one, so that later events make no
    /// difference.
    fn is_decided(&self, name: &TopicName, text: &str, number: Option<u64>) -> bool {
        let topic = self.slot(name).map(|slot| &self.feeds.get(slot).meta);
        if topic.is_some_and(|topic| topic.publisher_ids.get(text).is_some()) {
            return true;
        }
        let evicted = topic.map_or_else(|| self.tombstones.get(name).numbers, |topic| topic.evicted_numbers);
        // The filter alone may take a number for a publisher id that is the id of an event still to come.
        let may_have_evicted = evicted.has_any() && number.is_none_or(|number| evicted.may_contain(number));
        may_have_evicted && self.evicted_ids.may_contain(name, text)
    }
}

/// What a known position requests.
enum Meaning {
    /// Everything that is retained.
    Everything,
    /// Everything after this id, which is all retained.
    After(u64),
}

/// A position and the topics it refers to.
struct Resolver<'a> {
    state: &'a State,
    slots: &'a [Slot],
    text: &'a str,
}

impl<'a> Resolver<'a> {
    /// Returns the earliest meaning. `None` if the position is unknown, or events after it are no longer retained.
    fn resolve(&self) -> Option<Meaning> {
        if self.text.len() > sse::MAX_PUBLISHER_ID {
            return None;
        }
        let number = parse_id(self.text);
        let by_publisher_id = self.feeds().filter_map(|feed| feed.meta.publisher_ids.get(self.text)).min();
        if self.feeds().any(|feed| self.may_be_evicted(feed, number, by_publisher_id.is_some())) {
            return None;
        }
        if self.text == EVERYTHING {
            return by_publisher_id.is_none_or(|id| self.is_complete_after(id)).then_some(Meaning::Everything);
        }
        if number.is_some_and(|number| self.state.may_be_from_an_earlier_run(number)) {
            // It may identify an event of an earlier run, whichever event has this publisher id now.
            return None;
        }
        let by_broker_id = number.filter(|&number| self.state.may_have_assigned(number));
        let earliest = by_publisher_id.into_iter().chain(by_broker_id).min()?;
        self.is_complete_after(earliest).then_some(Meaning::After(earliest))
    }

    /// Returns whether an event of the topic with this publisher id may have been evicted. `is_retained` says whether any of
    /// the topics retains an event with this publisher id.
    fn may_be_evicted(&self, feed: &Feed<Topic>, number: Option<u64>, is_retained: bool) -> bool {
        let topic = &feed.meta;
        // A number that the topic retains is left to the filter. The range would make all such numbers doubtful if the
        // publishers' numbers do not ascend.
        let is_in_range = topic.publisher_ids.get(self.text).is_none()
            && number.is_some_and(|number| topic.evicted_numbers.may_contain(number));
        // Without a retained event the position is unknown anyway, or a number, for which the range is more reliable.
        let is_in_filter =
            || topic.evicted_numbers.has_any() && self.state.evicted_ids.may_contain(&topic.name, self.text);
        is_in_range || (is_retained && is_in_filter())
    }

    /// Returns whether all events after this id are retained.
    fn is_complete_after(&self, id: u64) -> bool {
        self.state.order.lost_through() <= id && self.feeds().all(|feed| feed.window.evicted_through() <= id)
    }

    fn feeds(&self) -> impl Iterator<Item = &'a Feed<Topic>> {
        self.slots.iter().map(|&slot| self.state.feeds.get(slot))
    }
}
