//! What the log says of outages: one line when one begins, with the reason, and one when it is over, with its duration. A
//! connection that flaps does not fill the log.

/// After a warning, no other follows for this long, in milliseconds.
const QUIET_MILLIS: u64 = 10_000;

/// The outages of one thing, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    now: Option<Outage>,
    quiet_until: u64,
    /// Outages since the last warning that were not reported.
    unreported: u64,
}

#[derive(Debug)]
struct Outage {
    since: u64,
    /// The reason that was reported last.
    reported: Option<String>,
}

impl Outages {
    /// Notes that an outage begins, or goes on for this reason. Returns the warning to log, if it is time for one.
    pub fn fail(&mut self, why: &str, now: u64) -> Option<String> {
        let outage = self.now.get_or_insert(Outage { since: now, reported: None });
        if outage.reported.as_deref() == Some(why) || now < self.quiet_until {
            return None;
        }
        self.quiet_until = now + QUIET_MILLIS;
        outage.reported = Some(why.to_owned());
        Some(match std::mem::take(&mut self.unreported) {
            0 => why.to_owned(),
            1 => format!("{why} (and once more since the last warning)"),
            count => format!("{why} (and {count} times more since the last warning)"),
        })
    }

    /// Notes that all is well. Returns the duration of the outage in milliseconds, if one was reported.
    pub fn succeed(&mut self, now: u64) -> Option<u64> {
        let outage = self.now.take()?;
        if outage.reported.is_none() {
            self.unreported += 1;
        }
        outage.reported.map(|_| now.saturating_sub(outage.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_once_and_its_end_with_the_duration() {
        let mut outages = Outages::default();
        assert_eq!(outages.succeed(0), None);
        assert_eq!(outages.fail("cut", 5).as_deref(), Some("cut"));
        assert!((6..60_000).step_by(100).all(|now| outages.fail("cut", now).is_none()));
        assert_eq!(outages.succeed(61_205), Some(61_200));
        assert_eq!(outages.succeed(61_206), None);
    }

    #[test]
    fn a_new_reason_is_reported_after_a_while() {
        let mut outages = Outages::default();
        assert_eq!(outages.fail("cut", 0).as_deref(), Some("cut"));
        assert_eq!(outages.fail("full", 9_999), None);
        assert_eq!(outages.fail("full", 10_000).as_deref(), Some("full"));
        assert_eq!(outages.succeed(12_000), Some(12_000));
    }

    #[test]
    fn outages_in_quick_succession_are_counted() {
        let mut outages = Outages::default();
        assert!(outages.fail("cut", 0).is_some());
        assert_eq!(outages.succeed(10), Some(10));
        for begin in [100, 200] {
            assert_eq!(outages.fail("cut", begin), None);
            assert_eq!(outages.succeed(begin + 10), None, "neither its begin nor its end");
        }
        let again = outages.fail("cut", 10_000);
        assert_eq!(again.as_deref(), Some("cut (and 2 times more since the last warning)"));
        assert_eq!(outages.fail("cut", 20_000), None);
        assert_eq!(outages.succeed(20_000), Some(10_000));
    }

    #[test]
    fn an_outage_that_begins_while_it_is_quiet_is_reported_later() {
        let mut outages = Outages::default();
        assert!(outages.fail("cut", 0).is_some() && outages.succeed(1).is_some());
        assert_eq!(outages.fail("cut", 2), None);
        assert_eq!(outages.fail("cut", 10_000).as_deref(), Some("cut"));
        assert_eq!(outages.succeed(10_002), Some(10_000));
    }
}
