//! What was published, and with what outcome: the first half of the oracle. A lane is a topic with one publisher, which
//! numbers the events and sends a body only when it knows the outcome of the previous one. Independent of sockets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The outcome of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// It has no response yet.
    Sent,
    /// The response was 200. Has the id of its last event, if the broker assigned it.
    Acknowledged(Option<u64>),
    /// The response had another status: its events must never be seen.
    Refused,
    /// The connection broke before the response: its events may be seen, or not.
    Unknown,
}

/// Events that were published together: all of them are accepted, or none.
#[derive(Clone, Copy)]
struct Body {
    first: u64,
    last: u64,
    state: BodyState,
}

/// What a subscriber has received of a lane.
#[derive(Clone, Copy, Default, Debug)]
pub struct Progress {
    /// It has everything up to this number that it must have.
    pub last: u64,
    /// The first event may be older than that, because the subscription began while a body was in flight.
    pub is_fresh: bool,
    /// The `oldest` of a gap since the last event, if there was one.
    pub gap: Option<Option<u64>>,
}

/// One topic.
pub struct Lane {
    pub topic: String,
    bodies: Mutex<VecDeque<Body>>,
    /// The last number used. Numbers begin with 1.
    given: AtomicU64,
    /// The last number of the last body that was acknowledged.
    acknowledged: AtomicU64,
}

/// All lanes.
pub struct Ledger {
    lanes: Vec<Lane>,
    /// The largest id in a response so far.
    newest_id: AtomicU64,
}

impl Ledger {
    /// Creates a lane for each topic.
    pub fn new(topics: Vec<String>) -> Self {
        Self { lanes: topics.into_iter().map(Lane::new).collect(), newest_id: AtomicU64::new(0) }
    }

    pub fn lane(&self, index: usize) -> &Lane {
        &self.lanes[index]
    }

    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// Notes an id that the broker assigned.
    pub fn note_id(&self, id: u64) {
        self.newest_id.fetch_max(id, Ordering::SeqCst);
    }

    /// Lets ids continue from here, so that a violation is reported once.
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

    /// Notes that a body of `count` events is sent. Returns the number of the first.
    pub fn begin(&self, count: u64) -> u64 {
        let mut bodies = self.bodies();
        let first = self.given.fetch_add(count, Ordering::SeqCst) + 1;
        bodies.push_back(Body { first, last: first + count - 1, state: BodyState::Sent });
        first
    }

    /// Notes the outcome of the body that begins with this number.
    pub fn settle(&self, first: u64, state: BodyState) {
        let mut bodies = self.bodies();
        let at = bodies.partition_point(|body| body.first < first);
        let Some(body) = bodies.get_mut(at) else { return };
        body.state = state;
        if matches!(state, BodyState::Acknowledged(_)) {
            self.acknowledged.fetch_max(body.last, Ordering::SeqCst);
        }
    }

    /// Returns the last number used.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    /// Returns the last number that was acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Forgets bodies that all subscribers have passed.
    pub fn forget(&self) {
        let acknowledged = self.acknowledged();
        let mut bodies = self.bodies();
        // Some remain for followers that resume from an old position.
        while bodies.len() > 4096 && bodies.front().is_some_and(|body| body.last < acknowledged) {
            bodies.pop_front();
        }
    }

    /// Checks an event with this number and id against a subscriber's progress. Returns the progress after it, or what is
    /// wrong.
    pub fn judge(&self, place: Progress, number: u64, id: Option<u64>) -> Result<Progress, String> {
        let bodies = self.bodies();
        // A gap is followed by everything retained, which may have been seen before.
        let may_be_old = place.is_fresh || place.gap.is_some();
        if number <= place.last && !may_be_old {
            return Err(format!("{number} of {} came after {}", self.topic, place.last));
        }
        let at = bodies.partition_point(|body| body.last < number);
        let body = bodies.get(at).filter(|body| body.first <= number);
        if body.is_none() && bodies.front().is_none_or(|body| body.first < number) {
            return Err(format!("{number} of {} came, which was never sent", self.topic));
        }
        if let Some(Body { last, state: BodyState::Acknowledged(Some(known)), .. }) = body
            && *last == number
            && id.is_some_and(|id| id != *known)
        {
            return Err(format!("{number} of {} came with the id {id:?}, and the response had {known}", self.topic));
        }
        if body.is_some_and(|body| body.state == BodyState::Refused) {
            return Err(format!("{number} of {} came, and was refused", self.topic));
        }
        if number <= place.last {
            return Ok(Progress { last: number, is_fresh: false, gap: None });
        }
        // The events of one body arrive together, even before its response.
        let begun = body.map_or(number, |body| body.first).max(place.last + 1);
        if begun < number && place.gap.is_none() {
            return Err(format!("{begun} of {} was left out before {number}", self.topic));
        }
        let from = bodies.partition_point(|body| body.last <= place.last);
        let skipped = bodies.range(from.min(at)..at);
        let lost = skipped.filter(|body| must_be_seen(body, place.gap)).map(|body| (body.last, body.state)).next();
        match lost {
            Some((lost, state)) => {
                let gap = place.gap;
                Err(format!("{lost} of {} ({state:?}) was left out before {number} ({id:?}); gap: {gap:?}", self.topic))
            }
            None => Ok(Progress { last: number, is_fresh: false, gap: None }),
        }
    }

    fn bodies(&self) -> MutexGuard<'_, VecDeque<Body>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a subscriber with this gap must have seen the body.
fn must_be_seen(body: &Body, gap: Option<Option<u64>>) -> bool {
    match (body.state, gap) {
        (BodyState::Acknowledged(_), None) => true,
        (BodyState::Acknowledged(Some(id)), Some(Some(oldest))) => id >= oldest,
        _ => false,
    }
}
