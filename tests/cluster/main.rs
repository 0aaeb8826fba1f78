//! Several brokers as real processes on a real redis-server, whose clients reconnect to any of them, while servers and brokers
//! are killed, stopped, cut off, replaced and restarted. After each fault, nothing acknowledged is lost and nothing refused
//! was delivered, every subscriber got each event once and in the one order, and gaps come only where events are gone. Needs
//! root for namespaces, and fails without. Time limits are generous.
//!
//! `ESKER_TEST_REDIS` names another server program, such as a valkey-server. `ESKER_CLUSTER_ROUNDS` is the number of kills of
//! each kind; with more than the default, the crowds are larger as well.

mod balancer;
mod cable;
mod clocks;
mod cluster;
mod crowd;
mod drain;
mod failover;
mod follower;
mod followers;
mod handover;
mod health;
mod join;
mod kills;
mod ledger;
mod load;
mod lost_suffix;
mod memory;
#[path = "../faults/network.rs"]
mod network;
mod oracle;
mod pause;
mod publishers;
mod rebalancing;
mod records;
#[path = "../redis_server/mod.rs"]
mod redis_server;
mod revocation;
mod rolling_restart;
mod sentinel;
mod start_errors;
#[allow(dead_code, unused_imports, reason = "the contract tests use the rest")]
#[path = "../contract/support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the tests of faults use the rest")]
#[path = "../faults/test_clock.rs"]
mod test_clock;
mod tools;
mod trim;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A test fails if what it waits for takes longer. Longer than any fault here lasts, and than a publish waits for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Options of a server that has each command on its disk before it answers.
const DURABLE: [&str; 8] =
    ["--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0", "--protected-mode", "no"];

static MACHINE: Mutex<()> = Mutex::new(());

/// Locks the machine for one test, because each puts load on it.
fn lock_machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how often each kind of fault happens.
fn rounds() -> usize {
    let text = std::env::var("ESKER_CLUSTER_ROUNDS");
    text.map_or(1, |text| text.parse().expect("ESKER_CLUSTER_ROUNDS is a number"))
}

/// Returns a number of subscribers: the smaller one by default.
fn crowd_size(by_default: usize, at_length: usize) -> usize {
    if rounds() > 1 { at_length } else { by_default }
}

/// Waits until the condition holds.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "never {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
