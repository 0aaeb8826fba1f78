//! Logs when a limit is reached and when it no longer is: one warning each, however many requests are refused in between. A
//! limit that is reached again within ten seconds has been reached all the time, so that one that flaps does not fill the log.
//!
//! ```text
//! below ── first refusal: warning ──► reached ── ten seconds without a refusal: warning ──► below
//! ```
//! A refusal costs one or two atomic instructions. Nothing here depends on the number of clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::limit::{Description, Limit};
use crate::config::Settings;
use crate::util::units::seconds;

/// How long nothing is refused before a limit counts as no longer reached, in milliseconds.
const QUIET_MILLIS: u64 = 10_000;
/// The longest description of a request in a warning, in bytes. Clients choose their paths.
const MAX_REQUEST: usize = 300;

/// The limits of a broker, and which of them are reached.
pub struct LimitLog([Entry; Limit::ALL.len()]);

/// One limit.
struct Entry {
    description: Description,
    /// Refusals since the start.
    refusals: AtomicU64,
    /// When the limit was reached, in milliseconds of the clock plus 1; 0 while it is not.
    reached: AtomicU64,
    seen: Mutex<Seen>,
}

/// What [`LimitLog::check`] has seen.
#[derive(Debug, Default)]
struct Seen {
    refusals: u64,
    /// When it saw a refusal for the last time.
    at: u64,
    /// The refusals that have been reported.
    reported: u64,
}

/// How long a limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reached {
    refusals: u64,
    millis: u64,
}

impl LimitLog {
    /// Creates a log of the configured limits, none of which is reached.
    pub fn new(settings: &Settings) -> Self {
        Self(Limit::ALL.map(|limit| Entry::new(limit.describe(settings))))
    }

    /// Notes that something is refused because of a limit, and logs it if that is the first time. `request` describes what is
    /// refused, and by whom it was sent, if that is known; it must not contain a token or a payload.
    pub fn refuse(&self, limit: Limit, now_millis: u64, request: impl FnOnce() -> Option<String>) {
        let entry = &self.0[limit as usize];
        if entry.refuse(now_millis) {
            entry.log_reached(request().as_deref());
        }
    }

    /// Notes that this much has been refused since the start, as counted elsewhere.
    pub fn refuse_up_to(&self, limit: Limit, total: u64, now_millis: u64, request: impl FnOnce() -> Option<String>) {
        let entry = &self.0[limit as usize];
        if entry.refusals.load(Ordering::Relaxed) < total && entry.refuse_up_to(total, now_millis) {
            entry.log_reached(request().as_deref());
        }
    }

    /// Logs which limits are no longer reached. To be called about once a second.
    pub fn check(&self, now_millis: u64) {
        for entry in &self.0 {
            if let Some(reached) = entry.check(now_millis) {
                entry.log_over(reached);
            }
        }
    }
}

impl Entry {
    fn new(description: Description) -> Self {
        Self { description, refusals: AtomicU64::new(0), reached: AtomicU64::new(0), seen: Mutex::default() }
    }

    /// Counts a refusal. Returns whether the limit was not reached before.
    fn refuse(&self, now: u64) -> bool {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        self.reach(now)
    }

    /// Counts refusals. Returns whether there is a new one and the limit was not reached before.
    fn refuse_up_to(&self, total: u64, now: u64) -> bool {
        self.refusals.fetch_max(total, Ordering::Relaxed) < total && self.reach(now)
    }

    fn reach(&self, now: u64) -> bool {
        self.reached.load(Ordering::Relaxed) == 0
            && self.reached.compare_exchange(0, now + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Returns for how long the limit was reached, if it no longer is.
    fn check(&self, now: u64) -> Option<Reached> {
        let since = self.reached.load(Ordering::Relaxed).checked_sub(1)?;
        let refusals = self.refusals.load(Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.refusals != refusals {
            (seen.refusals, seen.at) = (refusals, now);
        }
        if now < seen.at + QUIET_MILLIS {
            return None;
        }
        let new = refusals - std::mem::replace(&mut seen.reported, refusals);
        self.reached.store(0, Ordering::Relaxed);
        Some(Reached { refusals: new, millis: seen.at.saturating_sub(since) })
    }

    fn log_reached(&self, request: Option<&str>) {
        let Description { name, reached, advice, .. } = &self.description;
        match request {
            Some(request) => log::warn!("{name} {reached} (first: {}); {advice}", truncate(request)),
            None => log::warn!("{name} {reached}; {advice}"),
        }
    }

    fn log_over(&self, reached: Reached) {
        let Description { name, over, .. } = &self.description;
        let (count, time, quiet) = (reached.refusals, seconds(reached.millis), QUIET_MILLIS / 1000);
        log::warn!("{name} {over} ({count} times in {time}, none in the last {quiet} s)");
    }
}

fn truncate(request: &str) -> &str {
    request
        .char_indices()
        .find(|(at, letter)| at + letter.len_utf8() > MAX_REQUEST)
        .map_or(request, |(at, _)| &request[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn entry() -> Entry {
        let settings = Config::new().no_auth(true).max_topics(7).settle(1 << 20).unwrap();
        Entry::new(Limit::Topics.describe(&settings))
    }

    #[test]
    fn a_limit_is_reached_once_until_nothing_was_refused_for_ten_seconds() {
        let entry = entry();
        assert_eq!((entry.check(0), entry.refuse(5)), (None, true));
        for now in 6..1_005 {
            assert!(!entry.refuse(now));
        }
        for now in (1_005..11_005).step_by(1_000) {
            assert_eq!(entry.check(now), None);
        }
        assert_eq!(entry.check(11_005), Some(Reached { refusals: 1_000, millis: 1_000 }));
        assert_eq!(entry.check(11_006), None);
        assert!(entry.refuse(11_007), "it is reached again");
        assert_eq!(entry.check(11_008), None);
        assert_eq!(entry.check(21_008), Some(Reached { refusals: 1, millis: 1 }));
    }

    #[test]
    fn a_limit_that_flaps_is_reached_all_the_time() {
        let entry = entry();
        let reached =
            (0..100_u64).filter(|second| entry.check(second * 1_000).is_none() && entry.refuse(second * 1_000));
        assert_eq!(reached.count(), 1);
        assert_eq!(entry.check(109_000), None, "the last refusal was seen only now");
        assert_eq!(entry.check(119_000), Some(Reached { refusals: 100, millis: 109_000 }));
    }

    #[test]
    fn refusals_that_are_counted_elsewhere_are_noted_once() {
        let entry = entry();
        assert!(entry.refuse_up_to(3, 0) && !entry.refuse_up_to(3, 1) && !entry.refuse_up_to(5, 2));
        assert_eq!((entry.check(3), entry.check(10_003)), (None, Some(Reached { refusals: 5, millis: 3 })));
        assert!(!entry.refuse_up_to(5, 10_004) && entry.refuse_up_to(6, 10_005));
    }

    #[test]
    fn of_many_threads_one_reaches_the_limit() {
        let entry = entry();
        let first = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| entry.refuse(1)).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!((first, entry.refusals.load(Ordering::Relaxed)), (1, 4_000));
    }

    #[test]
    fn limits_are_named_as_options() {
        let settings = Config::new().no_auth(true).max_topics(7).history_bytes(64 << 20).settle(1 << 20).unwrap();
        let names = Limit::ALL.map(|limit| limit.describe(&settings).name);
        assert!(names.contains(&"--max-topics 7".into()) && names.contains(&"--history-bytes 64M".into()));
        assert!(Limit::ALL.iter().enumerate().all(|(index, limit)| *limit as usize == index));
    }

    #[test]
    fn long_requests_are_truncated_between_characters() {
        assert_eq!(truncate("GET /subscribe/x"), "GET /subscribe/x");
        let long = "é".repeat(MAX_REQUEST);
        assert_eq!(truncate(&long).len(), MAX_REQUEST);
        assert_eq!(truncate(&format!("x{long}")).len(), MAX_REQUEST - 1);
    }
}
