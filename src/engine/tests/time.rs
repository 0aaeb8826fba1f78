use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::clock::{Clock, ManualClock};
use crate::engine::Engine;
use crate::engine::log::Pulse;

const HOUR: u64 = 3_600_000_000;

#[test]
fn the_logs_time_does_not_follow_this_brokers_clock() {
    let manual = Arc::new(ManualClock::default());
    let clock = Clock::manual(Arc::clone(&manual));
    let engine = Engine::new(clock.clone());
    manual.advance(5_000_000);
    engine.shared.note_pulse(
        Pulse { time: 9 * HOUR, last: 0, ..Pulse::default() },
        clock.elapsed_micros(),
        clock.now().millis,
    );
    manual.advance(7);
    assert_eq!(engine.log_time(), 9 * HOUR + 7);
    manual.unix_micros.fetch_add(2 * HOUR, Ordering::Relaxed);
    assert_eq!(engine.log_time(), 9 * HOUR + 7, "somebody has set the clock forward");
}
