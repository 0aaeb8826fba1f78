//! The system clock is set forward and back, by hours and by years, while the broker runs and while it doesn't. The monotonic
//! clock is unaffected.

use std::time::Duration;

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::records::{Inserter, Stored};
use super::support::{Stream, tokens};
use super::test_clock::TestClock;

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

#[test]
fn events_and_records_keep_their_order_when_the_clock_is_set() {
    let _lock = lock_machine();
    let clock = TestClock::new();
    let data = clock.data();
    let arguments = ["--data", &data, "--heartbeat", "300ms", "--history-age", "1h"];
    let broker = clock.start(&arguments, &[]);
    let (fast, ledger, stored) = (FastSubscribers::start(&broker, 100), Ledger::new(), Stored::new());
    let oracle = Oracle::start(broker.address, "topicone1", &ledger, Pace::Eager);
    assert_survives("clock set", &broker, 100 + 1 + 1, SLACK, || {
        let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
        let mut inserter = Inserter::new(broker.address, "a", &stored);
        for offset in [0, 2 * HOUR, -2 * HOUR, 10 * YEAR, 0, -20 * YEAR, -200 * YEAR, HOUR, 0] {
            clock.set(offset);
            for _ in 0..10 {
                assert!(publisher.publish(&format!("{offset} {}", fastrand::u64(..))));
                assert!(inserter.insert());
            }
            let mut idle = broker.subscribe("/subscribe/topicidle1", "");
            idle.opening();
            assert_eq!(idle.chunk().as_deref(), Some(":\n"), "heartbeats continue");
            fast.await_more(20);
        }
    });
    let newest = *ledger.entries().accepted.iter().max().expect("some are accepted");
    stored.assert_all_stored(&broker);
    // The high-water mark of ids is written once a second.
    std::thread::sleep(Duration::from_secs(3));
    eprintln!("{}; each fast subscriber got {}; {} records", oracle.judge(), fast.finish(), stored.len());
    broker.signal("KILL");
    broker.wait();
    clock.set(-HOUR);
    let broker = clock.start(&arguments, &[]);
    stored.assert_all_stored(&broker);
    let mut publisher = Publisher::new(broker.address, "topicone1", &ledger);
    assert!(publisher.publish("after the restart"));
    let after = *ledger.entries().accepted.iter().max().expect("some are accepted");
    assert!(after > newest, "{after} after {newest}");
    assert!(Inserter::new(broker.address, "a", &stored).insert());
    stored.assert_all_stored(&broker);
}

/// Tokens expire by the system clock, whichever way it is set.
#[test]
fn tokens_expire_by_the_system_clock() {
    let _lock = lock_machine();
    let clock = TestClock::new();
    let broker = clock.start(&["--heartbeat", "1s"], &tokens::SECRETS);
    let subscribe = |expires: u64| -> Stream {
        let token = tokens::bearer(&tokens::subscriber_until("topicone1", expires));
        let mut stream = broker.subscribe("/subscribe/topicone1", &token);
        stream.opening();
        stream
    };
    let now = tokens::now();
    let (mut soon, mut late) = (subscribe(now + 3600), subscribe(now + 36_000));
    clock.set(-HOUR);
    assert_eq!(soon.chunk().as_deref(), Some(":\n"));
    clock.set(2 * HOUR);
    let end = std::iter::from_fn(|| soon.next()).last();
    assert_eq!(end.and_then(|event| event.name).as_deref(), Some("expired"));
    assert_eq!(late.chunk().as_deref(), Some(":\n"));
    clock.set(0);
    assert_eq!(late.chunk().as_deref(), Some(":\n"));
}
