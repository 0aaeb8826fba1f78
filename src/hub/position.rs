//! From what a client says it has seen to the cursor it goes on from. Knows no HTTP: the text may
//! come from a header or a query.

use crate::sse;

use super::{Feed, Gap, Slot, State, Topic};

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
        return (state.last_id, None);
    };
    let text = sse::position(text);
    let feeds = || slots.iter().map(|&slot| state.feeds.get(slot));
    let known = feeds().filter_map(|feed| feed.note.own_ids.get(text)).min().copied();
    let oldest = feeds().filter_map(|feed| feed.window.oldest()).min();
    // One before the oldest, or the present where nothing is retained.
    let all = oldest.map_or(state.last_id, |id| id - 1);
    match known.or_else(|| parse_id(text)) {
        Some(0) => (all, None),
        Some(id) if is_retained_after(state, feeds(), id) => (id, None),
        _ => (all, Some(Gap { oldest })),
    }
}

fn is_retained_after<'a>(state: &State, mut feeds: impl Iterator<Item = &'a Feed<Topic>>, id: u64) -> bool {
    (state.first_id..=state.last_id).contains(&id) && feeds.all(|feed| feed.window.evicted_through() <= id)
}

/// A broker's id: decimal digits and nothing else.
pub(super) fn parse_id(text: &str) -> Option<u64> {
    let all_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if all_digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::parse_id;

    #[test]
    fn only_digits_are_an_id() {
        assert_eq!(parse_id("0"), Some(0));
        assert_eq!(parse_id("0018"), Some(18));
        assert_eq!(parse_id("18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", "1.0", " 1", "0x1", "18446744073709551616", "١"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
