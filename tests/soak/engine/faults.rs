//! Faults of brokers, of Redis, and of the links between them. Each is undone at its end.

use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::engine::cluster::Node;
use crate::engine::relay::Gate;
use crate::engine::world::World;

/// Between two faults of a phase, in milliseconds: long enough to recover.
const BETWEEN: Range<u64> = 1000..4000;
/// A broker or Redis that was killed is started again after this.
const DOWN: Range<u64> = 0..3000;
/// The shortest is too short for anybody to notice, the longest longer than any time limit of a command.
const STOPPED: Range<u64> = 100..8000;

/// Sleeps for a random time, at most until the end of the phase.
fn wait(world: &World, random: &mut fastrand::Rng, millis: Range<u64>, until: Instant) {
    let time = world.time(random, millis);
    std::thread::sleep(time.min(until.saturating_duration_since(Instant::now())));
}

fn any<'w>(world: &'w World, random: &mut fastrand::Rng) -> &'w Node {
    &world.cluster.nodes[random.usize(..world.cluster.nodes.len())]
}

/// Kills brokers, and starts them again.
pub fn kill_brokers(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    end_brokers(world, until, random, Signal::KILL)
}

/// Terminates brokers as a service manager does, and starts them again. They must exit with code 0 and in time.
pub fn restart_brokers(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    end_brokers(world, until, random, Signal::TERM)
}

fn end_brokers(world: &World, until: Instant, random: &mut fastrand::Rng, signal: Signal) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(world, random, BETWEEN, until);
        let (index, down) = (random.usize(..world.cluster.nodes.len()), world.time(random, DOWN));
        world.cluster.restart(index, signal, || std::thread::sleep(down))?;
    }
    Ok(())
}

/// Stops and continues brokers.
pub fn stop_brokers(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(world, random, BETWEEN, until);
        let process = any(world, random).lock();
        process.signal(Signal::STOP)?;
        std::thread::sleep(world.time(random, STOPPED));
        process.signal(Signal::CONT)?;
    }
    Ok(())
}

/// Kills Redis, and starts it again with what it has on its disk.
pub fn kill_redis(world: &World, until: Instant, random: &mut fastrand::Rng) {
    while Instant::now() < until {
        wait(world, random, BETWEEN, until);
        let down = world.time(random, DOWN);
        world.cluster.restart_redis(|| std::thread::sleep(down));
    }
}

/// Stops and continues Redis.
pub fn stop_redis(world: &World, until: Instant, random: &mut fastrand::Rng) {
    while Instant::now() < until {
        wait(world, random, BETWEEN, until);
        let redis = world.cluster.lock_redis();
        redis.pause();
        std::thread::sleep(world.time(random, STOPPED));
        redis.resume();
    }
}

/// Cuts the connections of a broker to Redis, and refuses others for a while.
pub fn cut_links(world: &World, until: Instant, random: &mut fastrand::Rng) {
    disturb(world, until, random, |link, time| {
        link.cut();
        std::thread::sleep(time);
    });
}

/// Stalls a link: what was sent arrives later.
pub fn stall_links(world: &World, until: Instant, random: &mut fastrand::Rng) {
    disturb(world, until, random, |link, time| {
        link.set(Gate::Stalled);
        std::thread::sleep(time);
    });
}

/// Holds the replies of Redis back and then cuts the connections: what was appended has an unknown outcome.
pub fn lose_replies(world: &World, until: Instant, random: &mut fastrand::Rng) {
    disturb(world, until, random, |link, time| {
        link.set(Gate::RepliesStalled);
        // Well below the time limit of a command, half of the time.
        std::thread::sleep(time / 4);
        link.cut();
    });
}

/// Stalls the present connections only: what they hold arrives when the broker has others.
pub fn delay_requests(world: &World, until: Instant, random: &mut fastrand::Rng) {
    disturb(world, until, random, |link, time| {
        link.set_present(Gate::Stalled);
        std::thread::sleep(time);
    });
}

/// Slows a link down.
pub fn slow_links(world: &World, until: Instant, random: &mut fastrand::Rng) {
    disturb(world, until, random, |link, time| {
        link.set(Gate::Slow);
        std::thread::sleep(time);
    });
}

/// Does something to the link of one broker after the other, for a random time each, and opens it again.
fn disturb(
    world: &World,
    until: Instant,
    random: &mut fastrand::Rng,
    act: impl Fn(&crate::engine::relay::Relay, Duration),
) {
    while Instant::now() < until {
        wait(world, random, BETWEEN, until);
        let (node, time) = (any(world, random), world.time(random, STOPPED));
        act(&node.link, time);
        node.link.set(Gate::Open);
    }
}

/// Leaves Redis no memory for a while, repeatedly.
pub fn exhaust_memory(world: &World, until: Instant, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while Instant::now() < until {
        wait(world, random, BETWEEN, until);
        // A Redis that was killed meanwhile has started without the limit.
        world.cluster.lock_redis().try_command::<()>(&["CONFIG", "SET", "maxmemory", "1mb"])?;
        std::thread::sleep(world.time(random, STOPPED));
        world.cluster.lock_redis().try_command::<()>(&["CONFIG", "SET", "maxmemory", "0"])?;
    }
    Ok(())
}
