//! The subscribers of a group that are ready for its next frame, and the pass through them that serves each. A pass goes
//! from the last index to the first, because a removal moves the last subscriber, which has been served, to the freed index.

use crate::stream::keys::SubscriberKey;
use crate::util::shrink::Shrink;

/// Ready subscribers, each with an index, and the position of the pass through them.
#[derive(Debug, Default)]
pub struct ReadySet {
    keys: Vec<SubscriberKey>,
    /// The subscribers below this index are not yet served in this pass.
    unserved: usize,
    /// Whether more frames arrived after the pass began.
    needs_another_pass: bool,
}

impl ReadySet {
    /// Returns the number of ready subscribers.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Notes that there are new frames: begins a pass, or demands another one after the current pass.
    pub fn notify(&mut self) {
        if self.unserved == 0 {
            self.unserved = self.keys.len();
        } else {
            self.needs_another_pass = true;
        }
    }

    /// Returns the next subscriber to serve, or `None` when the pass, and another one if it was demanded, is over.
    pub fn next(&mut self) -> Option<SubscriberKey> {
        if self.unserved == 0 && std::mem::take(&mut self.needs_another_pass) {
            self.unserved = self.keys.len();
        }
        self.unserved = self.unserved.checked_sub(1)?;
        self.keys.get(self.unserved).copied()
    }

    /// Returns at most `count` of the subscribers to serve next in this pass; the very next one is the last.
    pub fn upcoming(&self, count: usize) -> &[SubscriberKey] {
        &self.keys[self.unserved.saturating_sub(count)..self.unserved]
    }

    /// Adds a subscriber that is caught up. Returns its index.
    pub fn insert(&mut self, subscriber: SubscriberKey) -> u32 {
        self.keys.push(subscriber);
        self.keys.len() as u32 - 1
    }

    /// Removes the subscriber with this index. Returns the one that now has the index, if it was not the last.
    pub fn remove(&mut self, index: u32) -> Option<SubscriberKey> {
        let index = index as usize;
        self.keys.swap_remove(index);
        self.unserved = self.unserved.min(self.keys.len());
        self.keys.shrink_if_sparse();
        self.keys.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_serves_every_subscriber_when_one_is_removed_during_it() {
        for removed in 0..5 {
            for served_before in 0..5 {
                let mut ready = ReadySet::default();
                let mut keys: Vec<SubscriberKey> = (10..15).collect();
                for &key in &keys {
                    ready.insert(key);
                }
                ready.notify();
                let mut served = Vec::new();
                for _ in 0..served_before {
                    served.extend(ready.next());
                }
                let gone = keys.swap_remove(removed);
                assert_eq!(ready.remove(removed as u32), keys.get(removed).copied());
                served.extend(std::iter::from_fn(|| ready.next()));
                assert!(keys.iter().all(|key| served.contains(key)), "{removed} {served_before} {served:?}");
                assert!(served.iter().filter(|&&key| key == gone).count() <= 1);
            }
        }
    }

    #[test]
    fn notify_during_a_pass_causes_another_pass() {
        let mut ready = ReadySet::default();
        ready.insert(1);
        ready.insert(2);
        ready.notify();
        assert_eq!(ready.next(), Some(2));
        ready.notify();
        assert_eq!([ready.next(), ready.next(), ready.next(), ready.next()], [Some(1), Some(2), Some(1), None]);
    }
}
