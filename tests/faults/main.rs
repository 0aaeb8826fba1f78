//! Faults on the real binary, one at a time: resources run out, the clock jumps, disk or network fail, peers attack, connect
//! and disconnect. After each, everything accepted has been delivered or reported by a `gap`, everything acknowledged is
//! stored, subscribers that read were served all the time, and memory and descriptors are back to normal. Needs root for
//! namespaces, and fails without. Time limits are generous.

mod attacks;
mod baseline;
mod bodies;
mod cable;
mod churn;
mod clock;
mod descriptors;
mod disk;
mod fast_subscribers;
mod flood;
mod honest_clients;
mod memory;
mod network;
mod oracle;
mod pause;
mod publisher;
mod records;
mod slow_clients;
#[allow(dead_code, unused_imports, reason = "the contract tests use the rest")]
#[path = "../contract/support/mod.rs"]
mod support;
mod test_clock;
mod topics;

use std::sync::{Mutex, MutexGuard, PoisonError};

static MACHINE: Mutex<()> = Mutex::new(());

/// Locks the machine for one test, because each needs it to itself.
fn lock_machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
