//! A worker's subscribers to the same set of feeds with the same framing. Those that are ready for
//! the next frame sit in seats; one that is stalled or has much to catch up with leaves its seat, so
//! that a fan-out never meets it. Knows no socket.

use std::sync::Arc;

use crate::hub::TopicId;
use crate::sse::Framing;
use crate::stream::replica::Source;
use crate::util::shrink::Shrink;

/// Index of an audience.
pub type GroupKey = u32;
/// Index of a subscriber.
pub type SubscriberKey = u32;

/// What makes two subscribers one audience.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupSet {
    /// What they listen to.
    pub interest: Interest,
    /// How their bytes are delimited.
    pub framing: Framing,
}

/// What an audience listens to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Topics, ascending.
    Topics(Arc<[TopicId]>),
    /// Records of these names, ascending; all if there are none.
    Records(Arc<[Arc<str>]>),
}

/// See the module's page.
#[derive(Debug)]
pub struct SubscriberGroup {
    /// Who belongs here.
    pub set: GroupSet,
    /// Where the replica has it.
    pub source: Source,
    /// All subscribers of the set, seated or not.
    pub members: u32,
    /// Whether it waits in the queue of audiences to be served.
    pub is_queued: bool,
    /// Those that are ready.
    pub seating: ReadySet,
}

impl SubscriberGroup {
    /// An audience of nobody.
    pub fn new(set: GroupSet, source: Source) -> Self {
        Self { set, source, members: 0, is_queued: false, seating: ReadySet::default() }
    }
}

/// The seats and the pass through them. It goes from the last seat to the first, so that a seat
/// given up in between is filled by a subscriber that has been served.
#[derive(Debug, Default)]
pub struct ReadySet {
    seats: Vec<SubscriberKey>,
    /// So many, the first ones, are still to be served in this pass.
    unserved: usize,
    /// Whether frames came after the pass began.
    again: bool,
}

impl ReadySet {
    /// There is something to serve.
    pub fn call(&mut self) {
        if self.unserved == 0 {
            self.unserved = self.seats.len();
        } else {
            self.again = true;
        }
    }

    /// The next subscriber to serve; none when the pass, and one more if it was called for meanwhile, is over.
    pub fn next(&mut self) -> Option<SubscriberKey> {
        if self.unserved == 0 && std::mem::take(&mut self.again) {
            self.unserved = self.seats.len();
        }
        self.unserved = self.unserved.checked_sub(1)?;
        self.seats.get(self.unserved).copied()
    }

    /// The next ones to serve in this pass, so many at most; the very next is the last.
    pub fn upcoming(&self, count: usize) -> &[SubscriberKey] {
        &self.seats[self.unserved.saturating_sub(count)..self.unserved]
    }

    /// Gives a subscriber that is caught up a seat.
    pub fn sit(&mut self, subscriber: SubscriberKey) -> u32 {
        self.seats.push(subscriber);
        self.seats.len() as u32 - 1
    }

    /// Takes a seat back. Answers the subscriber that moved into it from the last one.
    pub fn stand(&mut self, seat: u32) -> Option<SubscriberKey> {
        let seat = seat as usize;
        self.seats.swap_remove(seat);
        self.unserved = self.unserved.min(self.seats.len());
        self.seats.shrink_if_sparse();
        self.seats.get(seat).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_meets_every_seat_whoever_leaves_in_between() {
        for leaver in 0..5 {
            for after in 0..5 {
                let mut seating = ReadySet::default();
                let mut keys: Vec<SubscriberKey> = (10..15).collect();
                for &key in &keys {
                    seating.sit(key);
                }
                seating.call();
                let mut met = Vec::new();
                for _ in 0..after {
                    met.extend(seating.next());
                }
                let gone = keys.swap_remove(leaver);
                assert_eq!(seating.stand(leaver as u32), keys.get(leaver).copied());
                met.extend(std::iter::from_fn(|| seating.next()));
                assert!(keys.iter().all(|key| met.contains(key)), "{leaver} {after} {met:?}");
                assert!(met.iter().filter(|&&key| key == gone).count() <= 1);
            }
        }
    }

    #[test]
    fn a_call_during_a_pass_makes_another_pass() {
        let mut seating = ReadySet::default();
        seating.sit(1);
        seating.sit(2);
        seating.call();
        assert_eq!(seating.next(), Some(2));
        seating.call();
        assert_eq!([seating.next(), seating.next(), seating.next(), seating.next()], [Some(1), Some(2), Some(1), None]);
    }
}
