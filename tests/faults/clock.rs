//! The system clock is set forward and back, by hours and by years, while the broker runs and while it doesn't. The monotonic
//! clock is unaffected.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::baseline::{SLACK, assert_survives};
use super::fast_subscribers::FastSubscribers;
use super::lock_machine;
use super::oracle::{Oracle, Pace};
use super::publisher::{Ledger, Publisher};
use super::records::{Inserter, Stored};
use super::support::{Broker, Stream, TempDir, command, shim, tokens};

/// Adds the number of seconds in the first eight bytes of a file to the system clock.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static int64_t seconds(void) {
    static volatile int64_t *offset;
    if (!offset) {
        int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
        offset = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    }
    return *offset;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    if (clock == CLOCK_REALTIME) time->tv_sec += seconds();
    return result;
}
"#;

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// A clock that the test can set.
struct TestClock {
    dir: TempDir,
    shim: PathBuf,
    offset: File,
}

impl TestClock {
    fn new() -> Self {
        let dir = TempDir::new();
        let shim = shim::build(&dir.path, SHIM);
        let offset = File::create(dir.path.join("offset")).expect("it can be written");
        let clock = Self { dir, shim, offset };
        clock.set(0);
        clock
    }

    /// Sets the clock to this many seconds from the real time.
    fn set(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("it can be written");
    }

    fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Broker {
        let mut command = command(environment);
        command.env("LD_PRELOAD", &self.shim).env("CLOCK_OFFSET", self.dir.path.join("offset"));
        match environment {
            [] => Broker::start_command(command, arguments),
            _ => Broker::start_command_with_tokens(command, arguments),
        }
    }

    fn data(&self) -> String {
        self.dir.path.join("data").display().to_string()
    }
}

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
