//! Runs one phase after the other. After each it stops the load, and checks that the brokers recover, that everything
//! acknowledged has arrived, and that memory is bounded.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::{Client, Outcome, PATIENCE};
use crate::engine::cluster::BROKERS;
use crate::engine::plan::{self, Phase};
use crate::engine::sampler::{Usage, measure};
use crate::engine::world::World;
use crate::engine::{publishers, records};
use crate::followers::Check;
use crate::summary::{Cell, Report};

/// The interval between two looks at a broker.
const INTERVAL: Duration = Duration::from_millis(100);
/// Generous limits in bytes: a broker has a history of 64 MiB, and Redis has the log, the records and a copy while it rewrites
/// its file.
const BROKER_LIMIT: u64 = 400 << 20;
const REDIS_LIMIT: u64 = 1 << 30;
/// Descriptors of a broker: far more than there are clients.
const DESCRIPTOR_LIMIT: u64 = 500;

/// Runs all phases. Calls `progress` after each. The load is paused when it returns.
pub fn direct(
    world: &World,
    phases: &[Phase],
    length: Duration,
    followers: &Sender<Check>,
    mut progress: impl FnMut(&Report),
) -> (Vec<Cell>, Vec<Report>) {
    world.enter("start");
    quiesce(world, followers);
    let baseline = usage(world);
    let mut reports = Vec::new();
    for (nth, phase) in phases.iter().enumerate() {
        let report = run(world, *phase, nth, length, followers);
        progress(&report);
        reports.push(report);
    }
    world.enter("end");
    records::verify(world, true);
    (baseline, reports)
}

fn run(world: &World, phase: Phase, nth: usize, length: Duration, followers: &Sender<Check>) -> Report {
    let (before, failed, begin) = (world.counted(), world.failed(), world.began.elapsed().as_secs_f64());
    // Those of the idle time before don't count.
    let _ = world.take_latencies();
    world.enter(phase.name());
    world.is_idle.store(false, SeqCst);
    plan::play(world, phase, &format!("phase {nth}"), Instant::now() + length);
    let idle = world.began.elapsed().as_secs_f64();
    world.enter(&format!("{}, idle", phase.name()));
    let latency = world.take_latencies();
    quiesce(world, followers);
    let usage = usage(world);
    let mut counts = world.counted();
    counts.iter_mut().zip(before).for_each(|(after, before)| after.1 -= before.1);
    Report { name: phase.name(), begin, idle, usage, counts, latency, failed: world.failed() - failed }
}

/// Stops the load, and checks that everything acknowledged is where it belongs.
fn quiesce(world: &World, followers: &Sender<Check>) {
    world.cluster.heal();
    world.is_idle.store(true, SeqCst);
    let begin = Instant::now();
    while !world.all_paused() && begin.elapsed() < 3 * PATIENCE {
        sleep(INTERVAL / 10);
    }
    if !world.all_paused() {
        world.fail("a request has no response for minutes");
    }
    world.cluster.nodes.iter().enumerate().for_each(|(index, _)| await_health(world, index));
    publishers::publish_surely(world);
    records::insert_surely(world);
    ask(world, followers);
    records::verify(world, false);
    world.ledger.forget();
}

fn await_health(world: &World, index: usize) {
    let (begin, mut client) = (Instant::now(), world.reader(&world.cluster.nodes[index]));
    loop {
        match client.get("/healthz") {
            Outcome::Response(response) if response.status == 200 => return,
            outcome if begin.elapsed() > PATIENCE => {
                return world.fail(format!("broker {index} is not well again: {outcome:?}"));
            }
            _ => sleep(INTERVAL),
        }
        Client::close(&mut client);
    }
}

fn ask(world: &World, followers: &Sender<Check>) {
    let (reply, replies) = channel();
    // If the followers' thread has ended, it has reported why.
    let _ = followers.send(Check { until: Instant::now() + PATIENCE, reply });
    match replies.recv_timeout(2 * PATIENCE) {
        Ok(lacking) => lacking.iter().for_each(|words| world.fail(format!("never arrived: {words}"))),
        Err(error) => world.fail(format!("the followers do not reply: {error}")),
    }
}

/// Measures the idle processes, and checks the limits.
fn usage(world: &World) -> Vec<Cell> {
    let [brokers @ .., redis] = measure(world).map(Option::unwrap_or_default);
    for (index, Usage { private, descriptors }) in brokers.iter().enumerate() {
        if *private > BROKER_LIMIT || *descriptors > DESCRIPTOR_LIMIT {
            world.fail(format!("broker {index} has {private} bytes of memory and {descriptors} descriptors"));
        }
    }
    if redis.private > REDIS_LIMIT {
        world.fail(format!("Redis has {} bytes of memory", redis.private));
    }
    let names: [&str; BROKERS] = ["broker 0", "broker 1", "broker 2"];
    let memory = |usage: &Usage| format!("{:.1} MiB", usage.private as f64 / f64::from(1 << 20));
    names.into_iter().zip(brokers.iter().map(memory)).chain([("Redis", memory(&redis))]).collect()
}
