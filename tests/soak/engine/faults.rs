//! Faults of brokers, of Redis, and of the links between them. Each is undone at its end.

use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Failure;
use crate::engine::cluster::Node;
use crate::engine::relay::Gate;
use crate::engine::world::World;

/// A broker or Redis that was killed is started again after this.
const DOWN: Range<u64> = 0..3000;
/// The shortest is too short for anybody to notice, the longest longer than any time limit of a command.
const STOPPED: Range<u64> = 100..8000;
/// Once in a while, longer than a broker tries to find out an outcome.
const LONG: Range<u64> = 33_000..36_000;
/// One of this many is a long one.
const LONG_EVERY: u32 = 12;

/// When the faults of a phase happen.
#[derive(Clone)]
pub struct Times {
    pub until: Instant,
    /// Between two faults of a kind, in milliseconds.
    pub between: Range<u64>,
}

impl Times {
    /// Waits for the next fault, at most until the end of the phase.
    fn wait(&self, world: &World, random: &mut fastrand::Rng) {
        let time = world.time(random, self.between.clone());
        std::thread::sleep(time.min(self.until.saturating_duration_since(Instant::now())));
    }

    fn are_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// Returns for how long Redis does not reply.
fn silence(world: &World, random: &mut fastrand::Rng) -> Duration {
    let is_long = random.u32(..LONG_EVERY) == 0;
    world.time(random, if is_long { LONG } else { STOPPED })
}

fn any<'w>(world: &'w World, random: &mut fastrand::Rng) -> &'w Node {
    &world.cluster.nodes[random.usize(..world.cluster.nodes.len())]
}

/// Kills brokers, and starts them again.
pub fn kill_brokers(world: &World, times: &Times, random: &mut fastrand::Rng) -> Result<(), Failure> {
    end_brokers(world, times, random, Signal::KILL)
}

/// Terminates brokers as a service manager does, and starts them again. They must exit with code 0 and in time.
pub fn restart_brokers(world: &World, times: &Times, random: &mut fastrand::Rng) -> Result<(), Failure> {
    end_brokers(world, times, random, Signal::TERM)
}

fn end_brokers(world: &World, times: &Times, random: &mut fastrand::Rng, signal: Signal) -> Result<(), Failure> {
    while !times.are_over() {
        times.wait(world, random);
        let (index, down) = (random.usize(..world.cluster.nodes.len()), world.time(random, DOWN));
        world.cluster.restart(index, signal, || std::thread::sleep(down))?;
    }
    Ok(())
}

/// Stops and continues brokers.
pub fn stop_brokers(world: &World, times: &Times, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while !times.are_over() {
        times.wait(world, random);
        let process = any(world, random).lock();
        process.signal(Signal::STOP)?;
        std::thread::sleep(world.time(random, STOPPED));
        process.signal(Signal::CONT)?;
    }
    Ok(())
}

/// Kills Redis, sometimes while it rewrites its file, and starts it again with what it has on its disk.
pub fn kill_redis(world: &World, times: &Times, random: &mut fastrand::Rng) {
    while !times.are_over() {
        times.wait(world, random);
        if random.bool() {
            // It may rewrite it already.
            let _ = world.cluster.lock_redis().try_command::<()>(&["BGREWRITEAOF"]);
            std::thread::sleep(Duration::from_millis(random.u64(..50)));
        }
        let down = world.time(random, DOWN);
        world.cluster.restart_redis(|| std::thread::sleep(down));
    }
}

/// Stops and continues Redis.
pub fn stop_redis(world: &World, times: &Times, random: &mut fastrand::Rng) {
    while !times.are_over() {
        times.wait(world, random);
        let redis = world.cluster.lock_redis();
        redis.pause();
        std::thread::sleep(silence(world, random));
        redis.resume();
    }
}

/// Cuts the connections of a broker to Redis, and refuses others for a while.
pub fn cut_links(world: &World, times: &Times, random: &mut fastrand::Rng) {
    disturb(world, times, random, |link, time| {
        link.cut();
        std::thread::sleep(time);
    });
}

/// Stalls a link: what was sent arrives later.
pub fn stall_links(world: &World, times: &Times, random: &mut fastrand::Rng) {
    disturb(world, times, random, |link, time| {
        link.set(Gate::Stalled);
        std::thread::sleep(time);
    });
}

/// Holds the replies of Redis back and then cuts the connections: what was appended has an unknown outcome.
pub fn lose_replies(world: &World, times: &Times, random: &mut fastrand::Rng) {
    disturb(world, times, random, |link, time| {
        link.set(Gate::RepliesStalled);
        // Well below the time limit of a command, half of the time.
        std::thread::sleep(time / 4);
        link.cut();
    });
}

/// Stalls the present connections only: what they hold arrives when the broker has others.
pub fn delay_requests(world: &World, times: &Times, random: &mut fastrand::Rng) {
    disturb(world, times, random, |link, time| {
        link.set_present(Gate::Stalled);
        std::thread::sleep(time);
    });
}

/// Slows a link down.
pub fn slow_links(world: &World, times: &Times, random: &mut fastrand::Rng) {
    disturb(world, times, random, |link, time| {
        link.set(Gate::Slow);
        std::thread::sleep(time);
    });
}

/// Does something to the link of one broker after the other, for a random time each, and opens it again.
fn disturb(
    world: &World,
    times: &Times,
    random: &mut fastrand::Rng,
    act: impl Fn(&crate::engine::relay::Relay, Duration),
) {
    while !times.are_over() {
        times.wait(world, random);
        let (node, time) = (any(world, random), world.time(random, STOPPED));
        act(&node.link, time);
        node.link.set(Gate::Open);
    }
}

/// Leaves Redis no memory for a while, repeatedly.
pub fn exhaust_memory(world: &World, times: &Times, random: &mut fastrand::Rng) -> Result<(), Failure> {
    while !times.are_over() {
        times.wait(world, random);
        // A Redis that was killed meanwhile has started without the limit.
        world.cluster.lock_redis().try_command::<()>(&["CONFIG", "SET", "maxmemory", "1mb"])?;
        std::thread::sleep(world.time(random, STOPPED));
        world.cluster.lock_redis().try_command::<()>(&["CONFIG", "SET", "maxmemory", "0"])?;
    }
    Ok(())
}
