//! The events that were published since the last judgment, and with what outcome. All brokers together have one order of
//! them, by id. Independent of sockets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of topics. The last is for large events.
pub const TOPICS: usize = 5;
pub const LARGE: usize = TOPICS - 1;

/// What is known of an event or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has no response yet.
    Sent,
    Acknowledged,
    /// It must never be seen.
    Refused,
    /// It may be seen, even long after.
    Unknown,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub topic: usize,
    /// It has an id of its publisher, so that subscribers don't see the broker's.
    pub has_own_id: bool,
    pub state: State,
    /// The id that a response or a stream had.
    pub id: Option<u64>,
    pub is_seen: bool,
}

/// The last event of a topic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Final {
    pub number: u64,
    pub id: u64,
}

/// All events that are not judged yet.
#[derive(Default)]
pub struct Ledger {
    next: AtomicU64,
    /// The largest id in a response so far.
    newest_id: AtomicU64,
    events: Mutex<HashMap<u64, Event>>,
    /// The last event of each topic, which every subscriber must get before the judgment.
    finals: Mutex<[Final; TOPICS]>,
}

/// The one order of all events whose ids are known.
pub struct Order {
    pub ids: HashMap<u64, u64>,
    /// The id and number of each event of a topic, ascending.
    pub topics: [Vec<(u64, u64)>; TOPICS],
}

impl Order {
    /// Returns the newest id of these topics.
    pub fn newest(&self, topics: &[usize]) -> u64 {
        topics.iter().filter_map(|topic| self.topics[*topic].last()).map(|(id, _)| *id).max().unwrap_or(0)
    }
}

/// Returns the name of a topic.
pub fn topic(index: usize) -> String {
    format!("soaktopic{index}")
}

impl Ledger {
    /// Notes that events are sent. Returns the number of the first; the others have the next ones. Numbers begin with 1.
    pub fn begin(&self, topic: usize, count: u64, has_own_id: bool) -> u64 {
        let first = self.next.fetch_add(count, SeqCst) + 1;
        let event = Event { topic, has_own_id, state: State::Sent, id: None, is_seen: false };
        self.events().extend((first..first + count).map(|number| (number, event)));
        first
    }

    /// Notes the outcome of events that were sent together. An acknowledged body has the id of its first event.
    pub fn settle(&self, first: u64, count: u64, state: State, first_id: Option<u64>) -> Result<(), String> {
        let mut events = self.events();
        for nth in 0..count {
            let Some(event) = events.get_mut(&(first + nth)) else { return Err("it was judged before".to_owned()) };
            event.state = state;
            let id = first_id.map(|id| id + nth);
            if event.id.is_some() && id.is_some() && event.id != id {
                return Err(format!("{} was acknowledged with the id {id:?}, and was seen as {event:?}", first + nth));
            }
            event.id = event.id.or(id);
        }
        if let Some(id) = first_id {
            self.newest_id.fetch_max(id + count - 1, SeqCst);
        }
        Ok(())
    }

    /// Notes an event that a subscriber to these topics has received, with the broker's id if it shows. Returns its topic.
    pub fn note_seen(&self, topics: &[usize], number: u64, id: Option<u64>) -> Result<usize, String> {
        let mut events = self.events();
        let event = events.get_mut(&number).ok_or("was never sent, or is long past")?;
        if !topics.contains(&event.topic) {
            return Err("is of another topic".to_owned());
        }
        if event.has_own_id == id.is_some() {
            return Err(format!("came with the id {id:?}: {event:?}"));
        }
        if event.id.is_some() && id.is_some() && event.id != id {
            return Err(format!("came with the id {id:?}, and has another: {event:?}"));
        }
        event.id = event.id.or(id);
        event.is_seen = true;
        Ok(event.topic)
    }

    /// Notes the id of a record: it has the same order as the events.
    pub fn note_id(&self, id: u64) {
        self.newest_id.fetch_max(id, SeqCst);
    }

    /// Returns the largest id that was acknowledged.
    pub fn newest_id(&self) -> u64 {
        self.newest_id.load(SeqCst)
    }

    /// Notes that an acknowledged event is the last of its topic before a judgment.
    pub fn end_with(&self, number: u64) {
        let Some(event) = self.events().get(&number).copied() else { return };
        let id = event.id.unwrap_or(0);
        self.finals.lock().unwrap_or_else(PoisonError::into_inner)[event.topic] = Final { number, id };
    }

    /// Returns the last event of a topic.
    pub fn final_of(&self, topic: usize) -> Final {
        self.finals.lock().unwrap_or_else(PoisonError::into_inner)[topic]
    }

    /// Returns the order of all events, and what is wrong with them.
    pub fn order(&self) -> (Order, Vec<String>) {
        let (mut order, mut faults) = (Order { ids: HashMap::new(), topics: Default::default() }, Vec::new());
        let mut owners = HashMap::new();
        for (&number, event) in self.events().iter() {
            if event.state == State::Refused && event.is_seen {
                faults.push(format!("event {number} was refused and delivered: {event:?}"));
            }
            let Some(id) = event.id else { continue };
            if let Some(other) = owners.insert(id, number) {
                faults.push(format!("the events {other} and {number} have the same id {id}"));
            }
            order.ids.insert(number, id);
            order.topics[event.topic].push((id, number));
        }
        order.topics.iter_mut().for_each(|topic| topic.sort_unstable());
        (order, faults)
    }

    /// Forgets what was judged. What has an unknown outcome and was not seen may still come.
    pub fn forget(&self) {
        self.events().retain(|_, event| event.state == State::Unknown && !event.is_seen);
    }

    fn events(&self) -> MutexGuard<'_, HashMap<u64, Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
