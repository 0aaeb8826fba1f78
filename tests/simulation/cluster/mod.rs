//! Three whole brokers on one simulated log, from one seed. Publishers and subscribers come to any broker, as through a load
//! balancer; subscribers resume at another one. Brokers are killed, drained and started; connections to the log break; servers
//! lose what they have. Everything is checked from the outside.
//!
//! ```text
//! world        what can happen in a step
//! site         where a broker runs: its network, its clock, its loop iterations
//! publisher    messages, and the requests that publish them
//! subscriber   a client with a stream, which it resumes at any broker
//! oracle       what publishers and subscribers must have been told
//! records      inserts, audits and streams of records, and what must be true of them
//! listener     a client with a stream of records, which it resumes at any broker
//! faults       what happens to the log, to connections and to brokers
//! settle       removes all faults and runs until everything is at rest
//! ```

mod faults;
mod listener;
mod oracle;
mod publisher;
mod records;
mod settle;
mod site;
mod subscriber;
mod world;

use world::{Totals, World};

/// The number of seeds unless the environment says otherwise.
const SEEDS: u64 = 200;

#[test]
fn three_brokers_are_one() {
    super::log_check::install();
    let seeds = super::seeds(SEEDS);
    let is_all = seeds.len() > 100;
    let sum = seeds.into_iter().map(run).fold(Totals::default(), Totals::plus);
    println!("{sum:?}");
    assert!(!is_all || sum.counts().iter().all(|&count| count > 0), "the simulation tests too little: {sum:?}");
}

#[test]
fn a_seed_of_three_brokers_replays_exactly() {
    super::log_check::install();
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

fn run(seed: u64) -> Totals {
    super::replayable(seed, || World::new(seed).run())
}
