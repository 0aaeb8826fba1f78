//! What is noted of subscribers without a seat, and what that costs: how many are blocked, and which
//! half written frames are kept for them alone because the history has let them go.
//!
//! A frame half written must be ended, whatever became of the history. A subscriber within a frame
//! that is retained costs nothing, one within a lost frame keeps it in memory, and a thousand within
//! different ones would grow memory beyond the history's bounds. Hence [`MAX_LOST_BYTES`].

use std::collections::{BTreeMap, HashMap};

use crate::sse::Frame;
use crate::stream::group::SubscriberKey;
use crate::stream::subscriber::{Backlog, Closing, PartialWrite};
use crate::util::shrink::Shrink;

/// At most so many bytes of frames that are no longer retained are kept for those who stall within
/// them; those within the oldest are closed, and go on from their position when they come back.
pub const MAX_LOST_BYTES: usize = 32 << 20;

/// A frame that somebody stalls within.
#[derive(Debug)]
struct Pin {
    holders: usize,
    cost: usize,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Backlogs {
    by_key: HashMap<SubscriberKey, Backlog>,
    blocked: usize,
    /// Frames half written that are retained, by id.
    held: HashMap<u64, Pin>,
    /// Frames half written that are not.
    lost: BTreeMap<u64, Pin>,
    lost_bytes: usize,
}

impl Backlogs {
    /// Notes an absence; `is_retained` tells whether a frame is still in its feed.
    pub fn put(&mut self, key: SubscriberKey, absence: Backlog, is_retained: impl FnOnce(&Frame) -> bool) {
        self.blocked += usize::from(absence.is_blocked);
        if let PartialWrite::Frame(frame, _) = &absence.rest {
            self.hold(frame, is_retained(frame));
        }
        self.by_key.insert(key, absence);
    }

    /// Takes a note back; what is not put again is no longer kept.
    pub fn take(&mut self, key: SubscriberKey) -> Option<Backlog> {
        let absence = self.by_key.remove(&key)?;
        self.blocked -= usize::from(absence.is_blocked);
        if let PartialWrite::Frame(frame, _) = &absence.rest {
            self.release(frame.id());
        }
        Some(absence)
    }

    /// Takes the note of one that is leaving back.
    pub fn take_leaving(&mut self, key: SubscriberKey) -> Option<Backlog> {
        let is_leaving = self.by_key.get(&key).is_some_and(|absence| absence.farewell != Closing::None);
        if is_leaving { self.take(key) } else { None }
    }

    /// A socket has room. Answers whether its subscriber waited for that.
    pub fn rouse(&mut self, key: SubscriberKey) -> bool {
        let was_blocked = self.by_key.get_mut(&key).is_some_and(|absence| std::mem::take(&mut absence.is_blocked));
        self.blocked -= usize::from(was_blocked);
        was_blocked
    }

    /// Subscribers that wait for room in their sockets.
    pub fn blocked(&self) -> usize {
        self.blocked
    }

    /// A frame has left the history.
    pub fn lose(&mut self, id: u64) {
        if let Some(pin) = self.held.remove(&id) {
            self.lost_bytes += pin.cost;
            self.lost.insert(id, pin);
        }
    }

    /// Whom to close for the bound's sake: those within the oldest lost frame.
    pub fn to_shed(&self) -> Option<Vec<SubscriberKey>> {
        let (&oldest, _) = self.lost.first_key_value().filter(|_| self.lost_bytes > MAX_LOST_BYTES)?;
        let is_within =
            |absence: &Backlog| matches!(&absence.rest, PartialWrite::Frame(frame, _) if frame.id() == oldest);
        Some(self.by_key.iter().filter(|(_, absence)| is_within(absence)).map(|(&key, _)| key).collect())
    }

    fn hold(&mut self, frame: &Frame, is_retained: bool) {
        let new = || Pin { holders: 0, cost: frame.cost() };
        let pin = match is_retained {
            true => self.held.entry(frame.id()).or_insert_with(new),
            false => self.lost.entry(frame.id()).or_insert_with(new),
        };
        pin.holders += 1;
        if pin.holders == 1 && !is_retained {
            self.lost_bytes += pin.cost;
        }
    }

    fn release(&mut self, id: u64) {
        let Some(pin) = self.held.get_mut(&id).or_else(|| self.lost.get_mut(&id)) else { return };
        pin.holders -= 1;
        if pin.holders == 0 && self.held.remove(&id).is_none() {
            self.lost_bytes -= self.lost.remove(&id).map_or(0, |pin| pin.cost);
        }
    }
}

impl Shrink for Backlogs {
    fn shrink_if_sparse(&mut self) {
        self.by_key.shrink_if_sparse();
        self.held.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sse::UnsequencedFrame;

    fn frame(id: u64, len: usize) -> Arc<Frame> {
        let mut writer = UnsequencedFrame::writer(len);
        writer.field("data", &"x".repeat(len));
        writer.finish(None).assign_id(id)
    }

    fn within(frame: &Arc<Frame>) -> Backlog {
        Backlog { rest: PartialWrite::Frame(Arc::clone(frame), 1), is_blocked: true, ..Backlog::default() }
    }

    #[test]
    fn blocked_ones_are_counted() {
        let mut absences = Backlogs::default();
        absences.put(1, within(&frame(1, 10)), |_| true);
        absences.put(2, Backlog::default(), |_| true);
        assert_eq!(absences.blocked(), 1);
        assert!(absences.rouse(1) && !absences.rouse(1) && !absences.rouse(2));
        assert_eq!(absences.blocked(), 0);
        assert!(absences.take(1).is_some() && absences.take(1).is_none());
    }

    #[test]
    fn only_the_oldest_lost_frames_are_too_many() {
        let mut absences = Backlogs::default();
        let frames: Vec<_> = (0..40).map(|id| frame(id, 1 << 20)).collect();
        for (key, frame) in frames.iter().enumerate() {
            absences.put(key as SubscriberKey, within(frame), |_| true);
            absences.put(key as SubscriberKey + 100, within(frame), |_| true);
        }
        assert_eq!(absences.to_shed(), None, "what is retained costs nothing");
        (0..31).for_each(|id| absences.lose(id));
        assert_eq!(absences.to_shed(), None);
        absences.lose(31);
        let mut to_shed = absences.to_shed().unwrap();
        to_shed.sort_unstable();
        assert_eq!(to_shed, [0, 100]);
        // One that took some bytes still is within a lost frame.
        let absence = absences.take(0).unwrap();
        absences.put(0, absence, |_| false);
        assert!(absences.to_shed().is_some());
        to_shed.iter().for_each(|&key| assert!(absences.take(key).is_some()));
        assert_eq!(absences.to_shed(), None);
        for key in (1..40).chain(101..140) {
            absences.take(key);
        }
        assert_eq!((absences.lost_bytes, absences.held.len(), absences.lost.len()), (0, 0, 0));
    }
}
