//! Faults on the real binary, one after the other: the machine runs out of something, the clock jumps, the disk or the line
//! fails, peers attack, come and go. After each: everything accepted was delivered or announced by `gap`, everything acknowledged
//! is stored, subscribers that read were all served meanwhile, and memory and descriptors are back where they were.
//! Needs root, for namespaces, and fails without. No time is asserted but with a lot of patience.

mod attacks;
mod baseline;
mod bodies;
mod cable;
mod churn;
mod clock;
mod descriptors;
mod disk;
mod fast;
mod flood;
mod honest;
mod loris;
mod memory;
mod net;
mod oracle;
mod pause;
mod publisher;
mod records;
#[allow(dead_code, unused_imports, reason = "the contract's tests use the rest of it")]
#[path = "../contract/support/mod.rs"]
mod support;
mod topics;

use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// Each of them wants the machine for itself.
fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
