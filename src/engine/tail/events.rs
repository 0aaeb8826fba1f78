//! The events of an entry.

use std::collections::VecDeque;

use crate::engine::{LogEvent, blob};

/// Returns the events of an entry that are to be delivered, and the id of its last one.
pub(super) fn events(
    first: u64,
    count: usize,
    blob: &[u8],
    repetitions: &[usize],
) -> Result<(VecDeque<LogEvent>, u64), String> {
    let events = blob::read(blob).map_err(|error| error.to_string())?;
    if events.len() != count || count == 0 {
        return Err(format!("it has {} events instead of {count}", events.len()));
    }
    let last = first.checked_add(count as u64 - 1).ok_or("its ids are too large")?;
    let is_new = |index: &usize| repetitions.binary_search(index).is_err();
    let events = events.iter().enumerate().filter(|(index, _)| is_new(index)).map(|(index, event)| LogEvent {
        id: first + index as u64,
        topic: event.topic.into(),
        own_id: event.own_id.map(Into::into),
        lines: event.lines.into(),
    });
    Ok((events.collect(), last))
}
