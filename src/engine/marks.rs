//! The entries that this broker has appended and that the tail has not yet found in the log.
//!
//! A log loses entries only from its end. So of each session, the newest entry is enough: if the log has it, it has those
//! before it. The newest of all sessions is not enough: a later session may append to a server which lacks what an earlier
//! one has appended to another.

use std::collections::VecDeque;

use super::log::Mark;

/// The maximum number of sessions of which entries are remembered. A new one begins with each connection, at most a few per
/// second; the tail finds the entries of one at least once per second.
const MAX_SESSIONS: usize = 64;

/// The newest entry of each session, the oldest session first.
#[derive(Debug, Default)]
pub(super) struct Marks {
    by_session: VecDeque<(u64, Mark)>,
}

impl Marks {
    /// Notes an entry that was appended.
    pub fn note(&mut self, session: u64, mark: Mark) {
        match self.by_session.back_mut() {
            Some((last, newest)) if *last == session => *newest = mark,
            _ => self.by_session.push_back((session, mark)),
        }
        if self.by_session.len() > MAX_SESSIONS {
            self.by_session.pop_front();
        }
    }

    /// Returns the entry to look for next.
    pub fn first(&self) -> Option<&Mark> {
        self.by_session.front().map(|(_, mark)| mark)
    }

    /// Notes that the log has an entry, and that everything up to the id `read` was read. What was read is looked for anyway,
    /// so the entry need not be. Returns whether there is another one to look for.
    pub fn found(&mut self, mark: &Mark, read: u64) -> bool {
        let is_read = self.first() == Some(mark) && mark.entry <= read;
        if is_read {
            self.by_session.pop_front();
        }
        is_read && !self.by_session.is_empty()
    }

    /// Forgets the entries before an id, because they may be lost.
    pub fn forget_before(&mut self, id: u64) {
        self.by_session.retain(|(_, mark)| mark.entry >= id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(entry: u64) -> Mark {
        Mark { entry, token: entry.to_string().into() }
    }

    fn marks(entries: &[(u64, u64)]) -> Marks {
        let mut marks = Marks::default();
        entries.iter().for_each(|&(session, entry)| marks.note(session, mark(entry)));
        marks
    }

    #[test]
    fn the_newest_entry_of_each_session_is_looked_for() {
        let mut marks = marks(&[(1, 10), (1, 11), (2, 12), (2, 13), (3, 14)]);
        assert_eq!(marks.first(), Some(&mark(11)));
        assert!(!marks.found(&mark(10), 20), "there is a newer one by now");
        assert!(!marks.found(&mark(11), 10), "it was not read yet");
        assert!(marks.found(&mark(11), 11));
        assert!(marks.found(&mark(13), 20) && !marks.found(&mark(14), 20));
        assert_eq!(marks.first(), None);
    }

    #[test]
    fn what_may_be_lost_is_forgotten() {
        let mut marks = marks(&[(1, 10), (2, 12), (3, 14)]);
        marks.forget_before(12);
        assert_eq!(marks.first(), Some(&mark(12)));
        marks.forget_before(15);
        assert_eq!(marks.first(), None);
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let entries: Vec<_> = (0..1000).map(|number| (number, number)).collect();
        assert_eq!(marks(&entries).by_session.len(), MAX_SESSIONS);
    }
}
