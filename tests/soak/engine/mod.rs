//! Three brokers on one real Redis: `scripts/soak --engine MINUTES`. `plan` has the phases, `director` runs one after the other,
//! `ledger`, `oracle` and `records` are the oracle.

mod audit;
mod cluster;
mod director;
mod faults;
mod follower;
mod ledger;
mod oracle;
mod plan;
mod publishers;
mod records;
#[path = "../../redis_server/mod.rs"]
mod redis_server;
mod relay;
mod sampler;
mod world;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::chart::{self, Picture};
use crate::summary::{self, Cell, Findings, Report};
use crate::{Failure, followers, longest_pause, probes, write_reports};
use cluster::Cluster;
use records::Records;
use rustix::process::Signal;
use sampler::Sample;
use world::World;

/// The time that a phase needs to recover, about.
const RECOVERY: Duration = Duration::from_secs(5);
/// The approximate length of a phase, with its recovery.
const PHASE: Duration = Duration::from_secs(40);

/// The options.
pub struct Settings {
    pub seed: u64,
    pub followers: usize,
    pub program: String,
    /// A list of cores for `taskset -c`.
    pub cores: String,
    /// The directory of the reports.
    pub results: PathBuf,
    pub rounds: usize,
    /// The length of a phase, and of its faults: 1 is the usual one.
    pub phase: Duration,
    pub fault_length: f64,
}

impl Settings {
    /// Divides the time among the phases: as many rounds as possible with phases of the usual length.
    pub fn divide(&mut self, minutes: f64) {
        let (phases, time) = (plan::ALL.len() as u32, Duration::from_secs_f64(minutes * 60.0));
        self.rounds = (time.as_secs() / (phases * PHASE).as_secs()).max(1) as usize;
        let each = time / (phases * self.rounds as u32);
        self.phase = each.saturating_sub(RECOVERY).max(Duration::from_secs(2));
    }
}

/// Runs the soak. Returns whether all checks passed.
pub fn soak(settings: &Settings) -> Result<bool, Failure> {
    fs::create_dir_all(&settings.results)?;
    let cluster = Cluster::start(&settings.program, &settings.cores, &settings.results)?;
    let records = records::are_kept(&cluster).then(Records::new);
    if records.is_none() {
        println!("These brokers keep no records: that part is left out.");
    }
    let world = World::new(settings.seed, cluster, records, settings.fault_length);
    let samples = Mutex::new(Vec::new());
    let (baseline, reports) = play(settings, &world, &samples);
    for node in &world.cluster.nodes {
        node.lock().end(Signal::TERM)?;
    }
    let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(settings, &world, (&baseline, &reports), &samples)?;
    Ok(world.failed() == 0)
}

fn play(settings: &Settings, world: &World, samples: &Mutex<Vec<Sample>>) -> (Vec<Cell>, Vec<Report>) {
    let (checks, asked) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(failure) = followers::follow(world, follower::crew(world, settings.followers), &asked) {
                world.fail(format!("the followers: {failure}"));
            }
        });
        (0..publishers::PUBLISHERS)
            .for_each(|index| drop(scope.spawn(move || publishers::publish_steadily(world, index))));
        if let Some(records) = &world.records {
            (0..records::WRITERS)
                .for_each(|writer| drop(scope.spawn(move || records::insert_steadily(world, records, writer))));
            scope.spawn(|| records::audit_steadily(world, records));
        }
        scope.spawn(|| probes::publish(world, world));
        scope.spawn(|| probes::listen(world, world));
        scope.spawn(|| sampler::run(world, samples));
        let phases = plan::rounds(settings.rounds, &mut world.random("plan"));
        let results = director::direct(world, &phases, settings.phase, &checks, |report| progress(world, report));
        world.is_over.store(true, SeqCst);
        results
    })
}

/// Prints a line after each phase.
fn progress(world: &World, report: &Report) {
    let counts: Vec<String> = report.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let verdict = if report.failed == 0 { "ok".to_owned() } else { format!("{} FAILED", report.failed) };
    println!("{:>6.1} s  {:<16} {verdict}: {}", world.began.elapsed().as_secs_f64(), report.name, counts.join(", "));
}

fn report(
    settings: &Settings,
    world: &World,
    (baseline, reports): (&[Cell], &[Report]),
    samples: &[Sample],
) -> Result<(), Failure> {
    let title = world.title("soak of three brokers");
    let picture = Picture { title: &title, panels: &sampler::PANELS, samples, warm: 0.0, reports };
    let words = summary::write(&Findings {
        title: &title,
        baseline,
        reports,
        longest_pause: longest_pause(samples),
        failures: &world.failures(),
        failed: world.failed(),
    })?;
    write_reports(&settings.results, "engine", [&chart::draw(&picture)?, &words, &sampler::table(samples)?])
}
