//! Runs one phase after the other. After each it stops the load, checks that everything acknowledged has arrived, and compares
//! memory and descriptors with the baseline.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::{Outcome, PATIENCE};
use crate::followers::Check;
use crate::plan::{self, Phase, Scale};
use crate::sampler::{self, Memory};
use crate::server::lock_server;
use crate::summary::{Cell, Report};
use crate::world::World;
use crate::{Failure, publishers, records};

/// The interval between two measurements.
const INTERVAL: Duration = Duration::from_millis(250);
/// Growth that may be single pages rather than a leak, in bytes.
const PAGE_NOISE: u64 = 64 << 10;

/// The resources that the idle broker uses.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    pub memory: Memory,
    pub descriptors: u64,
    pub threads: u64,
}

impl Usage {
    /// Returns columns of the summary.
    pub fn cells(&self) -> Vec<Cell> {
        let memory = |bytes: u64| format!("{} KiB", bytes >> 10);
        let Memory { private, resident } = self.memory;
        vec![("private", memory(private)), ("resident", memory(resident)), ("fds", self.descriptors.to_string())]
    }
}

/// The results of all phases, and the usage before them, after the warm-up.
pub struct Results {
    pub baseline: Usage,
    pub reports: Vec<Report>,
    /// The end of the warm-up, in seconds.
    pub warm: f64,
}

/// Runs a warm-up and all phases.
pub fn direct(world: &World, scale: &Scale, phases: &[Phase], followers: &Sender<Check>) -> Result<Results, Failure> {
    records::insert_all(world);
    for phase in plan::ALL {
        world.enter(&format!("warm-up, {}", phase.name()));
        plan::play(world, scale, phase, "warm-up", Instant::now() + scale.warm_up);
    }
    world.enter("warm-up's end");
    quiesce(world, followers);
    // Long enough for the warm-up's history to expire.
    sleep(scale.settle);
    let baseline = measure(world);
    let warm = world.began.elapsed().as_secs_f64();
    world.is_idle.store(false, SeqCst);
    let mut reports = Vec::new();
    for (nth, phase) in phases.iter().enumerate() {
        reports.push(run(world, scale, *phase, nth, &baseline, followers));
    }
    Ok(Results { baseline, reports, warm })
}

fn run(world: &World, scale: &Scale, phase: Phase, nth: usize, baseline: &Usage, followers: &Sender<Check>) -> Report {
    let (before, failed, begin) = (counts(world), world.failed(), world.began.elapsed().as_secs_f64());
    let _ = world.take_latencies();
    world.enter(phase.name());
    plan::play(world, scale, phase, &format!("phase {nth}"), Instant::now() + scale.phase);
    let idle = world.began.elapsed().as_secs_f64();
    world.enter(&format!("{}, idle", phase.name()));
    let latency = world.take_latencies();
    quiesce(world, followers);
    let usage = wait_for_baseline(world, scale, baseline).cells();
    world.is_idle.store(false, SeqCst);
    let mut counted = counts(world);
    counted.iter_mut().zip(before).for_each(|(after, before)| after.1 -= before.1);
    Report { name: phase.name(), begin, idle, usage, counts: counted, latency, failed: world.failed() - failed }
}

/// Stops the load, and checks that everything acknowledged is where it belongs.
fn quiesce(world: &World, followers: &Sender<Check>) {
    if let Err(error) = world.shim.heal() {
        world.fail(format!("the shim can't be controlled: {error}"));
    }
    if let Err(error) = lock_server(world).limit_descriptors(None) {
        world.fail(format!("the descriptor limit can't be raised: {error}"));
    }
    world.is_idle.store(true, SeqCst);
    let begin = Instant::now();
    while !world.all_paused() && begin.elapsed() < 2 * PATIENCE {
        sleep(INTERVAL / 10);
    }
    publishers::publish_surely(world);
    records::insert_surely(world);
    ask(world, followers);
    records::verify(world);
    world.ledger.lanes().iter().for_each(crate::ledger::Lane::forget);
    match world.reader().get("/healthz") {
        Outcome::Response(response) if response.status == 200 => {}
        outcome => world.fail(format!("the broker is not well: {outcome:?}")),
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

/// Waits until memory and descriptors are back at the baseline, with a time limit.
fn wait_for_baseline(world: &World, scale: &Scale, baseline: &Usage) -> Usage {
    let begin = Instant::now();
    loop {
        let now = measure(world);
        let above = |now: u64, before: u64| now > before + (before as f64 * scale.percent / 100.0) as u64;
        let memory = above(now.memory.private.saturating_sub(PAGE_NOISE), baseline.memory.private);
        let descriptors = above(now.descriptors, baseline.descriptors);
        if !memory && !descriptors && begin.elapsed() >= scale.settle / 4 {
            return now;
        }
        if begin.elapsed() >= scale.settle {
            if memory {
                let [now, before] = [now, *baseline].map(|usage| usage.memory.private >> 10);
                world.fail(format!("private memory is {now} KiB, and the baseline {before}"));
            }
            if descriptors {
                world.fail(format!(
                    "{} descriptors are open, and the baseline is {}",
                    now.descriptors, baseline.descriptors
                ));
            }
            return now;
        }
        sleep(INTERVAL);
    }
}

fn measure(world: &World) -> Usage {
    let pid = world.pid.load(SeqCst);
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count() as u64);
    Usage { memory: sampler::memory(pid), descriptors: sampler::descriptors(pid), threads }
}

fn counts(world: &World) -> Vec<(&'static str, u64)> {
    let counts = &world.counts;
    [
        ("accepted", &counts.accepted),
        ("refused", &counts.refused),
        ("unknown", &counts.unknown),
        ("delivered", &counts.delivered),
        ("gaps", &counts.gaps),
        ("streams", &counts.opened),
        ("records", &counts.stored),
        ("others", &counts.others),
        ("restarts", &counts.restarts),
    ]
    .map(|(name, count)| (name, count.load(Relaxed)))
    .to_vec()
}
