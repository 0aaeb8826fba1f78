//! Simulates the whole broker except the kernel, from one seed: hub, workers and store, over sockets that write short, stall,
//! break and half-close, with a clock that jumps, a disk that fails, lies and loses power, and restarts at any moment. After
//! every step a deliberately simple oracle checks the invariants. `scripts/sim N` runs N seeds, `scripts/sim --seed S` repeats
//! one. `tests/mutations` shows that the simulation notices defects.
//!
//! It does not cover two threads running at the same time (each loop iteration runs alone), what delivery allocates and costs
//! (see `tests/budget.rs`), or the kernel (see `tests/contract`).
//!
//! ```text
//! world          one seed: what can happen in a step, and what did
//! broker         starts the broker and runs its loop iterations
//! clients        clients connect, subscribe, resume and read
//! requester      a client that publishes, inserts, and reads audits
//! conditions     inserts with conditions and idempotency keys
//! erasures       versions that are erased
//! subscriber     a client with one stream
//! environment    the network, the clocks, and faults
//! restarts       settling, shutdown, kills, power loss
//! backup         backups are made and restored
//! crowd          more subscribers than one loop iteration may serve
//! oracle         what was sent, and what each stream must therefore have
//! bounds         limits that the broker must keep
//! log_check      no secrets in the log
//! net, storage   the simulated kernel and disk
//! parser, tokens a client's own HTTP, event streams and tokens
//! slow_clients   scripted: time limits, and memory that slow clients may hold
//! fairness       scripted: each connection's share of a loop iteration
//! streams        the hub and the workers' streams alone, against exact models
//! cluster        several whole brokers on one simulated log
//! engine         several brokers' appenders and tails alone, on one simulated log
//! ```

mod backup;
mod bounds;
mod broker;
mod clients;
mod cluster;
mod conditions;
mod crowd;
mod engine;
mod environment;
mod erasures;
mod fairness;
mod log_check;
mod net;
mod oracle;
mod parser;
mod requester;
mod restarts;
mod revocation;
mod script;
mod slow_clients;
mod storage;
mod streams;
mod subscriber;
mod tokens;
mod world;

use std::panic::UnwindSafe;
use std::sync::{Mutex, PoisonError};

use world::{Totals, World};

/// The number of seeds unless the environment says otherwise.
const SEEDS: u64 = 200;
/// The environment variable that selects a single seed.
const ONE_SEED: &str = "ESKER_SIM_SEED";

/// Held by the tests with simulated disks. Responses name the disk, so that a replay differs if another test has taken the name.
static DISKS: Mutex<()> = Mutex::new(());

#[test]
fn the_whole_broker_keeps_its_invariants() {
    let _disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    log_check::install();
    let seeds = seeds(SEEDS);
    let is_all = seeds.len() > 100;
    let sum = seeds.into_iter().map(run).fold(Totals::default(), Totals::plus);
    println!("{sum:?}");
    let Totals {
        events, gaps, records, erased, restarts, continued, power_cuts, restores, expiries, revocations, ..
    } = sum;
    let happened = [events, gaps, records, erased, restarts, continued, power_cuts, restores, expiries, revocations];
    assert!(!is_all || happened.iter().all(|&count| count > 0), "the simulation tests too little: {sum:?}");
}

#[test]
fn a_seed_replays_exactly() {
    let _disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    log_check::install();
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// Returns the one seed in `ESKER_SIM_SEED`, or `ESKER_SIM_SEEDS` seeds (default `count`) from `ESKER_SIM_FROM` (default 0) on.
fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a seed is a number"));
    if let Some(seed) = number(ONE_SEED) {
        return vec![seed];
    }
    let from = number("ESKER_SIM_FROM").unwrap_or(0);
    (from..from + number("ESKER_SIM_SEEDS").unwrap_or(count)).collect()
}

fn run(seed: u64) -> Totals {
    replayable(seed, || World::new(seed).run())
}

/// Runs one seed. If it panics, panics with the command that repeats it.
fn replayable<T>(seed: u64, run: impl FnOnce() -> T + UnwindSafe) -> T {
    std::panic::catch_unwind(run)
        .unwrap_or_else(|_| panic!("the simulation failed; scripts/sim --seed {seed} repeats it"))
}
