//! What was published, and what became of it: the one side of the oracle. A lane is a topic with one publisher, who numbers the events
//! and sends a body only when it knows what became of the one before. Knows no socket.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way.
    Sent,
    /// 200; the broker's id of its last event, if it is the broker's.
    Acknowledged(Option<u64>),
    /// Another status: it must never be seen.
    Refused,
    /// The connection broke before an answer: it may be seen, or not.
    Unknown,
}

/// Events that were published together: all of them are accepted, or none.
#[derive(Clone, Copy)]
struct Body {
    first: u64,
    last: u64,
    fate: Fate,
}

/// What a subscriber knows of a lane.
#[derive(Clone, Copy, Default, Debug)]
pub struct Place {
    /// The number up to which it is owed nothing more.
    pub last: u64,
    /// Whether what comes first may be from before that: it came anew, while something was on its way.
    pub is_fresh: bool,
    /// What a `gap` told, if one came since the last event: the oldest id that was still retained.
    pub gap: Option<Option<u64>>,
}

/// One topic.
pub struct Lane {
    pub topic: String,
    bodies: Mutex<VecDeque<Body>>,
    /// The number given last; they begin with 1.
    given: AtomicU64,
    /// The last number of the last body that was acknowledged.
    acknowledged: AtomicU64,
}

/// All lanes.
pub struct Ledger {
    lanes: Vec<Lane>,
    /// The largest id in an answer so far.
    newest_id: AtomicU64,
}

impl Ledger {
    /// Lanes of these topics.
    pub fn new(topics: Vec<String>) -> Self {
        Self { lanes: topics.into_iter().map(Lane::new).collect(), newest_id: AtomicU64::new(0) }
    }

    pub fn lane(&self, index: usize) -> &Lane {
        &self.lanes[index]
    }

    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// An id was answered, by the broker's own count.
    pub fn note_id(&self, id: u64) {
        self.newest_id.fetch_max(id, Ordering::SeqCst);
    }

    /// Ids go on from here, though they should not: so that this is told once.
    pub fn fall_back_to(&self, id: u64) {
        self.newest_id.store(id, Ordering::SeqCst);
    }

    pub fn newest_id(&self) -> u64 {
        self.newest_id.load(Ordering::SeqCst)
    }
}

impl Lane {
    fn new(topic: String) -> Self {
        Self { topic, bodies: Mutex::default(), given: AtomicU64::new(0), acknowledged: AtomicU64::new(0) }
    }

    /// A body of so many events goes out; the number of its first.
    pub fn begin(&self, count: u64) -> u64 {
        let mut bodies = self.bodies();
        let first = self.given.fetch_add(count, Ordering::SeqCst) + 1;
        bodies.push_back(Body { first, last: first + count - 1, fate: Fate::Sent });
        first
    }

    /// What became of the body with this first number.
    pub fn settle(&self, first: u64, fate: Fate) {
        let mut bodies = self.bodies();
        let at = bodies.partition_point(|body| body.first < first);
        let Some(body) = bodies.get_mut(at) else { return };
        body.fate = fate;
        if matches!(fate, Fate::Acknowledged(_)) {
            self.acknowledged.fetch_max(body.last, Ordering::SeqCst);
        }
    }

    /// The number given last.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    /// The last number that was acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// What all subscribers have behind them is forgotten.
    pub fn forget(&self) {
        let acknowledged = self.acknowledged();
        let mut bodies = self.bodies();
        // The last ones stay for who comes back with an old position.
        while bodies.len() > 4096 && bodies.front().is_some_and(|body| body.last < acknowledged) {
            bodies.pop_front();
        }
    }

    /// An event with this number and id comes to somebody at this place: the place after it, or what is wrong.
    pub fn judge(&self, place: Place, number: u64, id: Option<u64>) -> Result<Place, String> {
        let bodies = self.bodies();
        // After a gap comes all that is retained, what was seen before among it.
        let may_be_old = place.is_fresh || place.gap.is_some();
        if number <= place.last && !may_be_old {
            return Err(format!("{number} of {} came after {}", self.topic, place.last));
        }
        let at = bodies.partition_point(|body| body.last < number);
        let body = bodies.get(at).filter(|body| body.first <= number);
        if body.is_none() && bodies.front().is_none_or(|body| body.first < number) {
            return Err(format!("{number} of {} came, which was never sent", self.topic));
        }
        if let Some(Body { last, fate: Fate::Acknowledged(Some(known)), .. }) = body
            && *last == number
            && id.is_some_and(|id| id != *known)
        {
            return Err(format!("{number} of {} came as {id:?}, and was answered as {known}", self.topic));
        }
        if body.is_some_and(|body| body.fate == Fate::Refused) {
            return Err(format!("{number} of {} came, and was refused", self.topic));
        }
        if number <= place.last {
            return Ok(Place { last: number, is_fresh: false, gap: None });
        }
        // Those of one body come together, even before it is known to be accepted.
        let begun = body.map_or(number, |body| body.first).max(place.last + 1);
        if begun < number && place.gap.is_none() {
            return Err(format!("{begun} of {} was left out before {number}", self.topic));
        }
        let from = bodies.partition_point(|body| body.last <= place.last);
        let skipped = bodies.range(from.min(at)..at);
        let lost = skipped.filter(|body| is_owed(body, place.gap)).map(|body| (body.last, body.fate)).next();
        match lost {
            Some((lost, fate)) => {
                let gap = place.gap;
                Err(format!("{lost} of {} ({fate:?}) was left out before {number} ({id:?}); gap: {gap:?}", self.topic))
            }
            None => Ok(Place { last: number, is_fresh: false, gap: None }),
        }
    }

    fn bodies(&self) -> MutexGuard<'_, VecDeque<Body>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody who was told this must have seen the body.
fn is_owed(body: &Body, gap: Option<Option<u64>>) -> bool {
    match (body.fate, gap) {
        (Fate::Acknowledged(_), None) => true,
        (Fate::Acknowledged(Some(id)), Some(Some(oldest))) => id >= oldest,
        _ => false,
    }
}
