//! Runs every kind of load and fault against one broker, for as long as you like: `scripts/soak MINUTES [OPTIONS]`, or with
//! `--engine` against three brokers on one Redis. tests/soak/README.md describes it. This file parses the command line, starts
//! all roles and writes the reports. `plan` has the phases, `director` runs one after the other, `ledger` and `follower` are the
//! oracle. `engine` has those of several brokers.

mod chart;
mod client;
mod director;
mod engine;
mod faults;
mod follower;
mod followers;
#[path = "../../bench/load/histogram.rs"]
mod histogram;
mod ledger;
mod misbehaving_clients;
mod parser;
mod picture;
mod plan;
mod probes;
mod process;
mod publishers;
mod records;
mod run;
mod sampler;
#[path = "../../bench/servers/scratch.rs"]
mod scratch;
mod server;
mod shim;
#[path = "../../bench/load/socket.rs"]
mod socket;
mod summary;
mod tokens;
mod world;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;

use chart::{Picture, Sampled};
use plan::Scale;
use sampler::Sample;
use scratch::Scratch;
use summary::Findings;
use world::World;

/// A message for the user.
type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: scripts/soak MINUTES [--seed N] [--followers N] [--percent P] [--program ESKER]
    [--server-cores LIST] [--client-cores LIST]
       scripts/soak --engine MINUTES [--seed N] [--followers N] [--program ESKER] [--server-cores LIST]";
/// The broker of this tree.
const PROGRAM: &str = env!("CARGO_BIN_EXE_esker");
/// The flag that `scripts/soak` passes, and `cargo test` does not.
const SOAK: &str = "--soak";
/// The flag for several brokers.
const ENGINE: &str = "--engine";
/// The approximate length of a phase, and of the idle time after it.
const PHASE: Duration = Duration::from_secs(35);
const SETTLE: Duration = Duration::from_secs(14);

/// The options.
struct Settings {
    minutes: f64,
    seed: u64,
    scale: Scale,
    rounds: usize,
    /// The broker of this tree, or another build.
    program: String,
    server_cores: String,
    client_cores: Option<String>,
    /// The directory of the reports.
    results: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the command line selects. `cargo test` runs both soaks, small and short, unless it selects other tests.
fn run() -> Result<bool, Failure> {
    let words: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    if has(SOAK) {
        return if has(ENGINE) { engine::soak(&engine_arguments()?) } else { soak(&arguments()?) };
    }
    if words.iter().any(|word| !word.starts_with('-') || word == "--list") {
        return Ok(true);
    }
    Ok(soak(&small())? && engine::soak(&small_engine())?)
}

/// Returns the options of a test of the soak itself: every phase once, small and short.
fn small() -> Settings {
    let scale = Scale {
        followers: 60,
        slow_readers: 5,
        steady_lanes: 4,
        flood_lanes: 3,
        topics: 2000,
        stalled: 30,
        slow_senders: 20,
        phase: Duration::from_millis(300),
        warm_up: Duration::from_millis(50),
        settle: Duration::from_millis(400),
        // A debug build is not warm seconds after its start.
        percent: 1000.0,
    };
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    Settings {
        minutes: 0.0,
        seed: 1,
        scale,
        rounds: 1,
        program: PROGRAM.to_owned(),
        server_cores: all_cores(),
        client_cores: None,
        results,
    }
}

fn small_engine() -> engine::Settings {
    engine::Settings {
        seed: 1,
        followers: 36,
        program: PROGRAM.to_owned(),
        cores: all_cores(),
        results: Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak"),
        rounds: 1,
        phase: Duration::from_millis(500),
        fault_length: 0.1,
    }
}

fn engine_arguments() -> Result<engine::Settings, Failure> {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak");
    let seed = fastrand::u64(..1_000_000);
    let mut settings = engine::Settings { seed, followers: 96, results, fault_length: 1.0, ..small_engine() };
    let (mut parser, mut minutes) = (lexopt::Parser::from_env(), 0.0);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) if minutes == 0.0 => minutes = value.parse()?,
            Long("seed") => settings.seed = parser.value()?.parse()?,
            Long("followers") => settings.followers = parser.value()?.parse()?,
            Long("program") => settings.program = parser.value()?.string()?,
            Long("server-cores") => settings.cores = parser.value()?.string()?,
            Long("soak" | "engine") => {}
            other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
        }
    }
    if minutes <= 0.0 {
        return Err(USAGE.into());
    }
    settings.divide(minutes);
    Ok(settings)
}

fn all_cores() -> String {
    format!("0-{}", thread::available_parallelism().map_or(0, |count| count.get() - 1))
}

fn arguments() -> Result<Settings, Failure> {
    let mut settings = Settings {
        minutes: 0.0,
        seed: fastrand::u64(..1_000_000),
        scale: Scale {
            followers: 200,
            slow_readers: 20,
            steady_lanes: 8,
            flood_lanes: 5,
            topics: 100_000,
            stalled: 300,
            slow_senders: 300,
            phase: PHASE,
            warm_up: Duration::from_secs(4),
            settle: SETTLE,
            percent: 2.0,
        },
        rounds: 1,
        program: PROGRAM.to_owned(),
        server_cores: "0".to_owned(),
        client_cores: Some("1".to_owned()),
        results: Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak"),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) if settings.minutes == 0.0 => settings.minutes = value.parse()?,
            Long("seed") => settings.seed = parser.value()?.parse()?,
            Long("followers") => settings.scale.followers = parser.value()?.parse()?,
            Long("percent") => settings.scale.percent = parser.value()?.parse()?,
            Long("program") => settings.program = parser.value()?.string()?,
            Long("server-cores") => settings.server_cores = parser.value()?.string()?,
            Long("client-cores") => settings.client_cores = Some(parser.value()?.string()?),
            Long("soak") => {}
            other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
        }
    }
    if settings.minutes <= 0.0 {
        return Err(USAGE.into());
    }
    settings.divide();
    Ok(settings)
}

impl Settings {
    /// Divides the time among the phases: as many rounds as possible with phases of the usual length.
    fn divide(&mut self) {
        let (phases, scale) = (plan::ALL.len() as u32, &mut self.scale);
        let warm_up = scale.warm_up * phases + 2 * scale.settle;
        let time = Duration::from_secs_f64(self.minutes * 60.0).saturating_sub(warm_up);
        // Most phases need half of the time to settle.
        let settle = scale.settle / 2;
        self.rounds = (time.as_secs() / (phases * (PHASE + settle)).as_secs()).max(1) as usize;
        let each = time / (phases * self.rounds as u32);
        scale.phase = each.saturating_sub(settle).max(Duration::from_secs(2));
    }
}

/// Runs the soak. Returns whether all checks passed.
fn soak(settings: &Settings) -> Result<bool, Failure> {
    if let Some(cores) = &settings.client_cores {
        pin_self(cores)?;
    }
    let (scratch, scale) = (Scratch::new()?, &settings.scale);
    fs::create_dir_all(&settings.results)?;
    let shim = shim::Shim::build(scratch.path())?;
    let launch = process::Launch {
        program: settings.program.clone(),
        cores: settings.server_cores.clone(),
        arguments: server::options(&scratch.path().join("data")),
        environment: shim.environment(),
        log: settings.results.join("broker.log"),
        patience: Duration::from_secs(20),
    };
    let server = server::Server::start(launch)?;
    let topics = (0..scale.steady_lanes + scale.flood_lanes).map(|lane| format!("soaklane{lane:02}")).collect();
    let world = World::new(settings.seed, server, shim, ledger::Ledger::new(topics), records::Records::new());
    let samples = Mutex::new(Vec::new());
    let results = play(settings, &world, &samples)?;
    server::lock_server(&world).end(rustix::process::Signal::TERM)?;
    let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(settings, &world, &results, &samples)?;
    Ok(world.failed() == 0)
}

fn play(settings: &Settings, world: &World, samples: &Mutex<Vec<Sample>>) -> Result<director::Results, Failure> {
    let (checks, asked) = mpsc::channel();
    let scale = &settings.scale;
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(failure) = followers::follow(world, follower::crew(world, scale), &asked) {
                world.fail(format!("the followers: {failure}"));
            }
        });
        (0..scale.steady_lanes).for_each(|lane| drop(scope.spawn(move || publishers::publish_steadily(world, lane))));
        (0..records::STEADY).for_each(|writer| drop(scope.spawn(move || records::insert_steadily(world, writer))));
        scope.spawn(|| records::audit_steadily(world));
        scope.spawn(|| probes::publish(world, world));
        scope.spawn(|| probes::listen(world, world));
        scope.spawn(|| sampler::run(world, samples));
        let phases = plan::rounds(settings.rounds, &mut world.random("plan"));
        let results = director::direct(world, scale, &phases, &checks);
        world.is_over.store(true, SeqCst);
        results
    })
}

fn report(settings: &Settings, world: &World, results: &director::Results, samples: &[Sample]) -> Result<(), Failure> {
    let title = world.title("soak");
    let (baseline, reports) = (&results.baseline, &results.reports);
    let picture = Picture { title: &title, panels: &picture::panels(baseline), samples, warm: results.warm, reports };
    let words = summary::write(&Findings {
        title: &title,
        baseline: &baseline.cells(),
        reports,
        longest_pause: longest_pause(samples),
        failures: &world.failures(),
        failed: world.failed(),
    })?;
    write_reports(&settings.results, "soak", [&chart::draw(&picture)?, &words, &summary::table(samples)?])
}

/// Returns the longest time between two samples.
fn longest_pause<S: Sampled>(samples: &[S]) -> f64 {
    samples.windows(2).map(|pair| pair[1].seconds() - pair[0].seconds()).fold(0.0, f64::max)
}

/// Writes the chart, the summary and the table as files with this name, and prints the summary.
fn write_reports(results: &Path, name: &str, [svg, words, table]: [&str; 3]) -> Result<(), Failure> {
    for (suffix, text) in [("svg", svg), ("txt", words), ("csv", table)] {
        fs::write(results.join(format!("{name}.{suffix}")), text)?;
    }
    print!("{words}");
    println!("{}", results.join(format!("{name}.svg")).display());
    Ok(())
}

fn pin_self(cores: &str) -> Result<(), Failure> {
    let pid = std::process::id().to_string();
    let output = Command::new("taskset").args(["-cp", cores, &pid]).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}
