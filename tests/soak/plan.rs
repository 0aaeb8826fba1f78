//! The phases, what runs in each, and their order, which the seed decides.

use std::time::{Duration, Instant};

use crate::world::World;
use crate::{Failure, faults, misbehaving_clients, publishers, records};

/// The amount of each kind of load.
#[derive(Clone)]
pub struct Scale {
    pub followers: usize,
    pub slow_readers: usize,
    /// Lanes that must have no gap, and lanes that are flooded, of which the last is for large events.
    pub steady_lanes: usize,
    pub flood_lanes: usize,
    pub topics: usize,
    pub stalled: usize,
    pub slow_senders: usize,
    /// The length of a phase, and of a phase of the warm-up.
    pub phase: Duration,
    pub warm_up: Duration,
    /// The time limit for memory and descriptors to return to the baseline.
    pub settle: Duration,
    /// How far above the baseline they may be, in percent.
    pub percent: f64,
}

/// The load or fault in addition to the steady load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Kills,
    Drains,
    FailingDisk,
    Steady,
    Flood,
    Churn,
    Resets,
    Stalled,
    Slowloris,
    Topics,
    Records,
    SlowDisk,
    FullDisk,
    Pauses,
    Clock,
    Descriptors,
    Expiry,
    Everything,
}

use Phase::{
    Churn, Clock, Descriptors, Drains, Everything, Expiry, FailingDisk, Flood, FullDisk, Kills, Pauses, Records,
    Resets, SlowDisk, Slowloris, Stalled, Steady, Topics,
};

/// Everything at once, and each part. Those that restart the broker come first, so that the process after a warm-up in this
/// order has seen all the others.
pub const ALL: [Phase; 18] = [
    Everything,
    Kills,
    Drains,
    FailingDisk,
    Steady,
    Flood,
    Churn,
    Resets,
    Stalled,
    Slowloris,
    Topics,
    Records,
    SlowDisk,
    FullDisk,
    Pauses,
    Clock,
    Descriptors,
    Expiry,
];

/// Returns rounds of all phases, each in an order of its own.
pub fn rounds(count: usize, random: &mut fastrand::Rng) -> Vec<Phase> {
    let round = || {
        let mut phases = ALL;
        random.shuffle(&mut phases);
        phases
    };
    std::iter::repeat_with(round).take(count).flatten().collect()
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Kills => "kill -9",
            Drains => "drains",
            FailingDisk => "failing disk",
            Steady => "steady",
            Flood => "flood",
            Churn => "churn",
            Resets => "resets",
            Stalled => "stalled",
            Slowloris => "slowloris",
            Topics => "many topics",
            Records => "records",
            SlowDisk => "slow disk",
            FullDisk => "full disk",
            Pauses => "SIGSTOP",
            Clock => "clock steps",
            Descriptors => "no descriptors",
            Expiry => "expiring tokens",
            Everything => "everything",
        }
    }
}

/// Runs a phase until `until`. `role` gives it random numbers of its own.
pub fn play(world: &World, scale: &Scale, phase: Phase, role: &str, until: Instant) {
    let parts = match phase {
        Everything => &ALL[1..],
        _ => &[phase],
    };
    std::thread::scope(|scope| {
        for part in parts {
            let role = format!("{role}, {}", part.name());
            scope.spawn(move || {
                if let Err(failure) = play_part(world, scale, *part, &role, until) {
                    world.fail(format!("{}: {failure}", part.name()));
                }
            });
        }
    });
}

fn play_part(world: &World, scale: &Scale, part: Phase, role: &str, until: Instant) -> Result<(), Failure> {
    let mut random = world.random(role);
    match part {
        Kills => faults::kill(world, until, &mut random)?,
        Drains => faults::drain(world, until, &mut random)?,
        FailingDisk => faults::failing_disk(world, until, &mut random)?,
        SlowDisk => faults::slow_disk(world, until, &mut random)?,
        FullDisk => faults::full_disk(world, until, &mut random)?,
        Pauses => faults::pause(world, until, &mut random)?,
        Clock => faults::set_clock(world, until, &mut random)?,
        Descriptors => faults::exhaust_descriptors(world, until, &mut random)?,
        Churn => misbehaving_clients::churn(world, until, &mut random),
        Resets => misbehaving_clients::reset_many(world, until, &mut random),
        Stalled => {
            let lane = scale.steady_lanes + scale.flood_lanes - 1;
            misbehaving_clients::stall(world, until, &mut random, scale.stalled, lane);
        }
        Slowloris => misbehaving_clients::send_slowly(world, until, &mut random, scale.slow_senders),
        Topics => misbehaving_clients::sweep_topics(world, until, scale.topics),
        Expiry => misbehaving_clients::expire(world, until, &mut random),
        Flood => side_by_side(scale.flood_lanes - 1, |nth| {
            let mut random = world.random(&format!("{role} {nth}"));
            publishers::flood(world, scale.steady_lanes + nth, until, &mut random);
        }),
        Records => side_by_side(8, |nth| records::flood(world, nth, until)),
        Steady | Everything => std::thread::sleep(until.saturating_duration_since(Instant::now())),
    }
    Ok(())
}

fn side_by_side(count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for nth in 0..count {
            let work = &work;
            scope.spawn(move || work(nth));
        }
    });
}
