//! What the broker holds when it has come to rest: memory and descriptors, before a fault and after it. The first round of a
//! fault only warms up: what is reserved then for good, such as the slabs, is no leak. What grows with every round is; there are
//! two, or as many as `ESKER_FAULT_ROUNDS` says.

use std::time::{Duration, Instant};

use super::support::{Broker, PATIENCE};

/// It has come to rest when nothing has changed for so long.
const REST: Duration = Duration::from_millis(400);
/// Memory that comes and goes with a request or two.
const RIPPLE: usize = 64 << 10;
/// What an allocator may hold back of what was given to it, beside 2 %: more where events were large, or maps grew.
pub const SLACK: usize = 1 << 20;

/// What it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    pub memory: usize,
    pub descriptors: usize,
}

impl Holding {
    fn of(broker: &Broker) -> Self {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).expect("the broker runs").count();
        Self { memory: broker.private_bytes(), descriptors }
    }

    /// Once nothing changes any more, and only these clients are there.
    pub fn at_rest(broker: &Broker, clients: usize) -> Self {
        // One more is the one who asks.
        broker.wait_for("left alone", |stats| stats["clients"] == clients + 1);
        let begin = Instant::now();
        let (mut last, mut since) = (Self::of(broker), Instant::now());
        while since.elapsed() < REST && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            let now = Self::of(broker);
            if now.descriptors != last.descriptors || now.memory.abs_diff(last.memory) > RIPPLE {
                since = Instant::now();
                last = now;
            }
        }
        last
    }

    /// Demands that it is what it was before, but for so many more descriptors.
    pub fn assert_like(self, what: &str, before: Self, more: isize, slack: usize) {
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

/// Does a fault again and again, and demands that the broker each time holds what it held after the first. `clients` stay all
/// the time.
pub fn survives(what: &str, broker: &Broker, clients: usize, slack: usize, mut fault: impl FnMut()) {
    let mut round = || {
        fault();
        Holding::at_rest(broker, clients)
    };
    let before = round();
    for _ in 1..rounds() {
        round().assert_like(what, before, 0, slack);
    }
    broker.assert_well();
}

fn rounds() -> usize {
    std::env::var("ESKER_FAULT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}
