//! Judges what a subscriber received by the one order of all events: it must have its topics' part of it.

use std::collections::HashSet;

pub use crate::engine::ledger::Order;

/// What a subscriber received in a row, over several streams if it resumed.
#[derive(Debug)]
pub struct Stretch {
    /// Every event with a larger id was due.
    pub begin: u64,
    /// The numbers of the events.
    pub numbers: Vec<u64>,
}

impl Stretch {
    /// Returns an empty one, which begins after this id.
    pub fn after(begin: u64) -> Self {
        Self { begin, numbers: Vec::new() }
    }
}

/// Checks that these are all events of the topics, each once and in the order, from the stretch's beginning to its last event, or
/// to the last event of all. Returns the id of the last one, or what is wrong.
pub fn judge(stretch: &Stretch, topics: &[usize], order: &Order, is_complete: bool) -> Result<u64, String> {
    let (mut last, mut received) = (stretch.begin, HashSet::new());
    for number in &stretch.numbers {
        // Its publisher has reported that it never knew the outcome.
        let Some(&id) = order.ids.get(number) else { continue };
        if id <= last {
            return Err(format!(
                "event {number} ({id}) came after {last}, in a stretch that began after {}",
                stretch.begin
            ));
        }
        last = id;
        received.insert(id);
    }
    for topic in topics {
        let events = &order.topics[*topic];
        let due = &events[events.partition_point(|(id, _)| *id <= stretch.begin)..];
        let due = due.iter().take_while(|(id, _)| is_complete || *id <= last);
        if let Some((id, number)) = due.clone().find(|(id, _)| !received.contains(id)) {
            let missing = due.filter(|(id, _)| !received.contains(id)).count();
            return Err(format!(
                "event {number} ({id}) of topic {topic} never came, {missing} in all, in a stretch from {} to {last}",
                stretch.begin
            ));
        }
    }
    Ok(last)
}
