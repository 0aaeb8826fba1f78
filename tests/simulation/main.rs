//! The whole broker but the kernel, out of one seed: hub, workers and store over sockets that write short, stall, break and
//! half-close, a clock that jumps, and a disk that fails, lies and loses power, with restarts in the middle. An oracle as naive
//! as can be holds every step against the invariants. `scripts/sim N` runs N seeds, `scripts/sim --seed S` one again.
//! That it would notice if something broke is shown by `tests/mutations`.
//!
//! What it does not see: two threads at the same moment (each turn is a whole), what delivery allocates and costs (see
//! `tests/budget.rs`), and the kernel itself (see `tests/contract`).

mod asker;
mod backup;
mod bounds;
mod broker;
mod crowd;
mod ends;
mod journal;
mod listener;
mod net;
mod shares;
mod slow;
mod storage;
mod streams;
mod talk;
mod throng;
mod tokens;
mod truth;
mod weather;
mod world;

use std::panic::UnwindSafe;

use world::{Tally, World};

/// The number of seeds unless the environment says otherwise.
const SEEDS: u64 = 200;
/// The environment's name for the one seed to run.
const ONE_SEED: &str = "ESKER_SIM_SEED";

#[test]
fn nothing_is_lost_doubled_or_disordered_whatever_happens() {
    journal::open();
    let seeds = seeds(SEEDS);
    let is_all = seeds.len() > 100;
    let sum = seeds.into_iter().map(run).fold(Tally::default(), Tally::plus);
    println!("{sum:?}");
    let Tally { events, gaps, records, restarts, power_cuts, restores, expiries, .. } = sum;
    let happened = [events, gaps, records, restarts, power_cuts, restores, expiries];
    assert!(!is_all || happened.iter().all(|&count| count > 0), "a simulation of nothing shows nothing: {sum:?}");
}

#[test]
fn a_seed_replays_exactly() {
    journal::open();
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// `ESKER_SIM_SEED`: that one; `ESKER_SIM_SEEDS`: so many, from `ESKER_SIM_FROM` on.
fn seeds(count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a seed is a number"));
    if let Some(seed) = number(ONE_SEED) {
        return vec![seed];
    }
    let from = number("ESKER_SIM_FROM").unwrap_or(0);
    (from..from + number("ESKER_SIM_SEEDS").unwrap_or(count)).collect()
}

fn run(seed: u64) -> Tally {
    replayable(seed, || World::new(seed).run())
}

/// Runs one seed. Panics with the command that runs it again if that panics.
fn replayable<T>(seed: u64, run: impl FnOnce() -> T + UnwindSafe) -> T {
    std::panic::catch_unwind(run)
        .unwrap_or_else(|_| panic!("the simulation failed; scripts/sim --seed {seed} runs it again"))
}
