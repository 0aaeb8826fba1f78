//! Memory and descriptors of an idle broker, compared before and after a fault. The first round of a fault warms up: memory
//! that stays allocated from then on, such as slabs, is not a leak, but memory that grows with every round is. There are two
//! rounds, or as many as `ESKER_FAULT_ROUNDS` says.

use std::time::{Duration, Instant};

use super::support::{Broker, TIMEOUT};

/// The broker is idle when nothing has changed for this long.
const IDLE_TIME: Duration = Duration::from_millis(400);
/// Bytes that vary with a request or two.
const TOLERANCE: usize = 64 << 10;
/// Bytes that an allocator may keep in addition to 2 %; larger where events are large or maps grow.
pub const SLACK: usize = 1 << 20;

/// The broker's memory and descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub memory: usize,
    pub descriptors: usize,
}

impl Usage {
    fn measure(broker: &Broker) -> Self {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).expect("the broker runs").count();
        Self { memory: broker.private_bytes(), descriptors }
    }

    /// Waits until nothing changes and only these clients are connected, then measures.
    pub fn when_idle(broker: &Broker, clients: usize) -> Self {
        // The connection that requests `/stats` counts as well.
        broker.wait_for("idle", |stats| stats["clients"] == clients + 1);
        let begin = Instant::now();
        let (mut last, mut since) = (Self::measure(broker), Instant::now());
        while since.elapsed() < IDLE_TIME && begin.elapsed() < TIMEOUT {
            std::thread::sleep(Duration::from_millis(50));
            let now = Self::measure(broker);
            if now.descriptors != last.descriptors || now.memory.abs_diff(last.memory) > TOLERANCE {
                since = Instant::now();
                last = now;
            }
        }
        last
    }

    /// Asserts that the broker holds what it held before, except for this many more descriptors.
    pub fn assert_unchanged(self, what: &str, before: Self, more: isize, slack: usize) {
        let percent = self.memory as f64 * 100.0 / before.memory as f64 - 100.0;
        let (was, is) = (before.memory >> 10, self.memory >> 10);
        eprintln!(
            "{what}: memory {was} KiB, then {is} KiB ({percent:+.1} %), descriptors {}, then {}",
            before.descriptors, self.descriptors
        );
        assert_eq!(Some(self.descriptors), before.descriptors.checked_add_signed(more), "{what}: descriptors");
        let bound = before.memory + before.memory / 50 + slack;
        assert!(self.memory <= bound, "{what}: {} bytes, then {}", before.memory, self.memory);
    }
}

/// Repeats a fault, and asserts that the broker holds the same after each round as after the first. `clients` stay connected
/// all the time.
pub fn assert_survives(what: &str, broker: &Broker, clients: usize, slack: usize, mut fault: impl FnMut()) {
    let mut round = || {
        fault();
        Usage::when_idle(broker, clients)
    };
    let before = round();
    for _ in 1..rounds() {
        round().assert_unchanged(what, before, 0, slack);
    }
    broker.assert_healthy();
}

fn rounds() -> usize {
    std::env::var("ESKER_FAULT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}
