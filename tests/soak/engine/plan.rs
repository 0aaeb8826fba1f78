//! The phases, their order, which the seed decides, and how many there are.

use std::ops::Range;
use std::time::Instant;

use crate::Failure;
use crate::engine::faults::{self, Times};
use crate::engine::publishers;
use crate::engine::world::World;

/// The fault in addition to the steady load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Steady,
    KilledBrokers,
    StoppedBrokers,
    Restarts,
    KilledRedis,
    StoppedRedis,
    CutLinks,
    StalledLinks,
    LostReplies,
    LateRequests,
    SlowLinks,
    Flood,
    OutOfMemory,
    Everything,
}

use Phase::{
    CutLinks, Everything, Flood, KilledBrokers, KilledRedis, LateRequests, LostReplies, OutOfMemory, Restarts,
    SlowLinks, StalledLinks, Steady, StoppedBrokers, StoppedRedis,
};

/// Each part, and everything at once, which comes last in every round.
pub const ALL: [Phase; 14] = [
    Steady,
    KilledBrokers,
    StoppedBrokers,
    Restarts,
    KilledRedis,
    StoppedRedis,
    CutLinks,
    StalledLinks,
    LostReplies,
    LateRequests,
    SlowLinks,
    Flood,
    OutOfMemory,
    Everything,
];

/// Between two faults of a kind, in milliseconds: long enough to recover; and if there are others at the same time.
const OFTEN: Range<u64> = 1000..4000;
const RARELY: Range<u64> = 5000..25_000;

/// Returns rounds of all phases, each in an order of its own.
pub fn rounds(count: usize, random: &mut fastrand::Rng) -> Vec<Phase> {
    let round = || {
        let mut phases = ALL;
        random.shuffle(&mut phases[..ALL.len() - 1]);
        phases
    };
    std::iter::repeat_with(round).take(count).flatten().collect()
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Steady => "steady",
            KilledBrokers => "kill -9 brokers",
            StoppedBrokers => "stop brokers",
            Restarts => "restarts",
            KilledRedis => "kill -9 Redis",
            StoppedRedis => "stop Redis",
            CutLinks => "cut links",
            StalledLinks => "stalled links",
            LostReplies => "lost replies",
            LateRequests => "late requests",
            SlowLinks => "slow links",
            Flood => "slow readers",
            OutOfMemory => "out of memory",
            Everything => "everything",
        }
    }
}

/// Runs a phase until `until`. `role` gives it random numbers of its own.
pub fn play(world: &World, phase: Phase, role: &str, until: Instant) {
    let (parts, between) = match phase {
        Everything => (&ALL[..ALL.len() - 1], RARELY),
        _ => (&[phase][..], OFTEN),
    };
    let times = &Times { until, between };
    std::thread::scope(|scope| {
        for part in parts {
            let role = format!("{role}, {}", part.name());
            scope.spawn(move || {
                if let Err(failure) = play_part(world, *part, &role, times) {
                    world.fail(format!("{}: {failure}", part.name()));
                }
            });
        }
    });
}

fn play_part(world: &World, part: Phase, role: &str, times: &Times) -> Result<(), Failure> {
    let mut random = world.random(role);
    match part {
        KilledBrokers => faults::kill_brokers(world, times, &mut random)?,
        StoppedBrokers => faults::stop_brokers(world, times, &mut random)?,
        Restarts => faults::restart_brokers(world, times, &mut random)?,
        KilledRedis => faults::kill_redis(world, times, &mut random),
        StoppedRedis => faults::stop_redis(world, times, &mut random),
        CutLinks => faults::cut_links(world, times, &mut random),
        StalledLinks => faults::stall_links(world, times, &mut random),
        LostReplies => faults::lose_replies(world, times, &mut random),
        LateRequests => faults::delay_requests(world, times, &mut random),
        SlowLinks => faults::slow_links(world, times, &mut random),
        Flood => publishers::flood(world, times.until),
        OutOfMemory => faults::exhaust_memory(world, times, &mut random)?,
        Steady | Everything => std::thread::sleep(times.until.saturating_duration_since(Instant::now())),
    }
    Ok(())
}
