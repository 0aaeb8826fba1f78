//! Lets the phases follow one another: plays each, then makes everybody rest, asks whether everything that was acknowledged has come, and
//! compares memory and descriptors with what they were before.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::client::{Outcome, PATIENCE};
use crate::fleet::Question;
use crate::plan::{self, Phase, Scale};
use crate::sampler::{self, Memory};
use crate::server::hold;
use crate::world::World;
use crate::{Failure, publishers, records};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// What a page here or there is no leak.
const GRAIN: u64 = 64 << 10;

/// What a phase was like.
pub struct Report {
    pub name: &'static str,
    /// Since the soak began, in seconds: its begin, and that of the quiet time after it.
    pub begin: f64,
    pub quiet: f64,
    /// In the quiet time, once it was what it had been, or in the end.
    pub rest: Rest,
    pub counts: [(&'static str, u64); 9],
    /// The probes' p50, p99 and maximum in milliseconds.
    pub latency: [f64; 3],
    /// What went wrong.
    pub failed: u64,
}

/// What the broker takes when nothing happens.
#[derive(Clone, Copy, Default, Debug)]
pub struct Rest {
    pub memory: Memory,
    pub descriptors: u64,
    pub threads: u64,
}

/// All phases, and what the broker took before them, once warm.
pub struct Story {
    pub baseline: Rest,
    pub reports: Vec<Report>,
    /// When the warm-up was over, in seconds.
    pub warm: f64,
}

/// Plays a warm-up and all phases.
pub fn direct(world: &World, scale: &Scale, phases: &[Phase], fleet: &Sender<Question>) -> Result<Story, Failure> {
    records::insert_all(world);
    for phase in plan::ALL {
        world.enter(&format!("warm-up, {}", phase.name()));
        plan::play(world, scale, phase, "warm-up", Instant::now() + scale.warm_up);
    }
    world.enter("warm-up's end");
    rest(world, fleet);
    // Long enough for the history of the warm-up to be let go.
    sleep(scale.settle);
    let baseline = take(world);
    let warm = world.began.elapsed().as_secs_f64();
    world.is_quiet.store(false, SeqCst);
    let mut reports = Vec::new();
    for (nth, phase) in phases.iter().enumerate() {
        reports.push(run(world, scale, *phase, nth, &baseline, fleet));
    }
    Ok(Story { baseline, reports, warm })
}

fn run(world: &World, scale: &Scale, phase: Phase, nth: usize, baseline: &Rest, fleet: &Sender<Question>) -> Report {
    let (before, failed, begin) = (counts(world), world.failed(), world.began.elapsed().as_secs_f64());
    let _ = latencies(world);
    world.enter(phase.name());
    plan::play(world, scale, phase, &format!("phase {nth}"), Instant::now() + scale.phase);
    let quiet = world.began.elapsed().as_secs_f64();
    world.enter(&format!("{}, quiet", phase.name()));
    let latency = latencies(world);
    rest(world, fleet);
    let rest = settle(world, scale, baseline);
    world.is_quiet.store(false, SeqCst);
    let mut counted = counts(world);
    counted.iter_mut().zip(before).for_each(|(after, before)| after.1 -= before.1);
    Report { name: phase.name(), begin, quiet, rest, counts: counted, latency, failed: world.failed() - failed }
}

/// Everybody rests; then everything that was acknowledged must be where it belongs.
fn rest(world: &World, fleet: &Sender<Question>) {
    if let Err(error) = world.shim.heal() {
        world.fail(format!("the shim can't be told: {error}"));
    }
    if let Err(error) = hold(world).limit_descriptors(None) {
        world.fail(format!("descriptors can't be given back: {error}"));
    }
    world.is_quiet.store(true, SeqCst);
    let begin = Instant::now();
    while !world.all_rest() && begin.elapsed() < 2 * PATIENCE {
        sleep(LOOK / 10);
    }
    publishers::publish_surely(world);
    records::insert_surely(world);
    ask(world, fleet);
    records::verify(world);
    world.ledger.lanes().iter().for_each(crate::ledger::Lane::forget);
    match world.reader().get("/healthz") {
        Outcome::Answer(answer) if answer.status == 200 => {}
        outcome => world.fail(format!("the broker is not well: {outcome:?}")),
    }
}

fn ask(world: &World, fleet: &Sender<Question>) {
    let (answer, answers) = channel();
    // A fleet that has ended has said why.
    let _ = fleet.send(Question { until: Instant::now() + PATIENCE, answer });
    match answers.recv_timeout(2 * PATIENCE) {
        Ok(lacking) => lacking.iter().for_each(|words| world.fail(format!("never came: {words}"))),
        Err(error) => world.fail(format!("the fleet does not answer: {error}")),
    }
}

/// Waits until memory and descriptors are what they were, if they ever are.
fn settle(world: &World, scale: &Scale, baseline: &Rest) -> Rest {
    let begin = Instant::now();
    loop {
        let now = take(world);
        let above = |now: u64, before: u64| now > before + (before as f64 * scale.percent / 100.0) as u64;
        let memory = above(now.memory.private.saturating_sub(GRAIN), baseline.memory.private);
        let descriptors = above(now.descriptors, baseline.descriptors);
        if !memory && !descriptors && begin.elapsed() >= scale.settle / 4 {
            return now;
        }
        if begin.elapsed() >= scale.settle {
            if memory {
                let [now, before] = [now, *baseline].map(|rest| rest.memory.private >> 10);
                world.fail(format!("private memory is {now} KiB, and was {before}"));
            }
            if descriptors {
                world
                    .fail(format!("{} descriptors are open, and there were {}", now.descriptors, baseline.descriptors));
            }
            return now;
        }
        sleep(LOOK);
    }
}

fn take(world: &World) -> Rest {
    let pid = world.pid.load(SeqCst);
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count() as u64);
    Rest { memory: sampler::memory(pid), descriptors: sampler::descriptors(pid), threads }
}

fn counts(world: &World) -> [(&'static str, u64); 9] {
    let counts = &world.counts;
    [
        ("accepted", &counts.accepted),
        ("refused", &counts.refused),
        ("unknown", &counts.unknown),
        ("delivered", &counts.delivered),
        ("gaps", &counts.gaps),
        ("streams", &counts.opened),
        ("records", &counts.stored),
        ("guests", &counts.guests),
        ("restarts", &counts.restarts),
    ]
    .map(|(name, count)| (name, count.load(Relaxed)))
}

/// Of this phase; the next one begins with none.
fn latencies(world: &World) -> [f64; 3] {
    let latencies = std::mem::take(&mut *world.latencies.lock().unwrap_or_else(PoisonError::into_inner));
    [0.5, 0.99, 1.0].map(|share| latencies.quantile(share) as f64 / 1e6)
}
