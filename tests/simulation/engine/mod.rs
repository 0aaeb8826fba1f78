//! Three appenders and tails on one simulated log, from one seed, with followers that only note what they are told: no hub, no
//! HTTP. Checks what `src/engine` promises.
//!
//! ```text
//! world      what can happen in a step
//! node       one broker's part of the engine
//! follower   notes what the tail hands over
//! oracle     what must be true of it
//! records    inserts and lookups, and what must be true of records
//! faults     what happens to the log and to connections
//! scripted   what seeds rarely meet
//! ```

mod faults;
pub(super) mod follower;
mod node;
pub(super) mod oracle;
pub(super) mod records;
mod scripted;
mod world;

use world::{Totals, World};

/// The number of seeds unless the environment says otherwise.
const SEEDS: u64 = 200;

#[test]
fn brokers_follow_one_log() {
    let seeds = super::seeds(SEEDS);
    let is_all = seeds.len() > 100;
    let sum = seeds.into_iter().map(run).fold(Totals::default(), Totals::plus);
    println!("{sum:?}");
    assert!(!is_all || sum.all().iter().all(|&count| count > 0), "the simulation tests too little: {sum:?}");
}

#[test]
fn a_seed_of_the_engine_replays_exactly() {
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

fn run(seed: u64) -> Totals {
    super::replayable(seed, || World::new(seed).run())
}
