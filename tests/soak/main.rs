//! The broker under everything at once, for as long as one likes: `scripts/soak MINUTES [OPTIONS]`; tests/soak/README.md describes it. This file
//! knows the command line, starts everybody and writes down what was seen. `plan` has the phases, `director` lets them follow one another,
//! `ledger` and `follower` are the oracle.

mod client;
mod director;
mod faults;
mod fleet;
mod follower;
mod guests;
#[path = "../../bench/load/histogram.rs"]
mod histogram;
mod ledger;
mod parser;
mod picture;
mod plan;
mod probes;
mod publishers;
mod records;
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

use plan::Scale;
use sampler::Sample;
use scratch::Scratch;
use world::World;

/// Words for whoever runs the soak.
type Failure = Box<dyn std::error::Error>;

const USAGE: &str = "usage: scripts/soak MINUTES [--seed N] [--followers N] [--percent P] [--program ESKER]
    [--server-cores LIST] [--client-cores LIST]";
/// The broker of this tree.
const PROGRAM: &str = env!("CARGO_BIN_EXE_esker");
/// The flag that `scripts/soak` passes, and `cargo test` does not.
const SOAK: &str = "--soak";
/// A phase is about so long, and the quiet time after it.
const PHASE: Duration = Duration::from_secs(35);
const SETTLE: Duration = Duration::from_secs(14);

/// What was asked for.
struct Setting {
    minutes: f64,
    seed: u64,
    scale: Scale,
    rounds: usize,
    /// The broker of this tree, or another build.
    program: String,
    server_cores: String,
    client_cores: Option<String>,
    /// Where picture, words and samples go.
    results: PathBuf,
}

fn main() -> ExitCode {
    let outcome = setting().and_then(|setting| setting.map_or(Ok(true), |setting| soak(&setting)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("soak: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// None: cargo runs tests, and not this one.
fn setting() -> Result<Option<Setting>, Failure> {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| word == SOAK) {
        return arguments().map(Some);
    }
    let picks_others = words.iter().any(|word| !word.starts_with('-') || word == "--list");
    Ok((!picks_others).then(small))
}

/// Everything once, small and short: whether the soak itself works.
fn small() -> Setting {
    let scale = Scale {
        followers: 60,
        sluggish: 5,
        steady_lanes: 4,
        flood_lanes: 3,
        topics: 2000,
        stalled: 30,
        dribblers: 20,
        phase: Duration::from_millis(300),
        warm_up: Duration::from_millis(50),
        settle: Duration::from_millis(400),
        // Seconds after the start of a build that is not optimized nothing is warm yet.
        percent: 1000.0,
    };
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    Setting {
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

fn all_cores() -> String {
    format!("0-{}", thread::available_parallelism().map_or(0, |count| count.get() - 1))
}

fn arguments() -> Result<Setting, Failure> {
    let mut setting = Setting {
        minutes: 0.0,
        seed: fastrand::u64(..1_000_000),
        scale: Scale {
            followers: 200,
            sluggish: 20,
            steady_lanes: 8,
            flood_lanes: 5,
            topics: 100_000,
            stalled: 300,
            dribblers: 300,
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
            Value(value) if setting.minutes == 0.0 => setting.minutes = value.parse()?,
            Long("seed") => setting.seed = parser.value()?.parse()?,
            Long("followers") => setting.scale.followers = parser.value()?.parse()?,
            Long("percent") => setting.scale.percent = parser.value()?.parse()?,
            Long("program") => setting.program = parser.value()?.string()?,
            Long("server-cores") => setting.server_cores = parser.value()?.string()?,
            Long("client-cores") => setting.client_cores = Some(parser.value()?.string()?),
            Long("soak") => {}
            other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
        }
    }
    if setting.minutes <= 0.0 {
        return Err(USAGE.into());
    }
    setting.divide();
    Ok(setting)
}

impl Setting {
    /// Divides the time among the phases: as many rounds as there can be with phases of some length.
    fn divide(&mut self) {
        let (phases, scale) = (plan::ALL.len() as u32, &mut self.scale);
        let warm_up = scale.warm_up * phases + 2 * scale.settle;
        let time = Duration::from_secs_f64(self.minutes * 60.0).saturating_sub(warm_up);
        // Most phases need but half of the time to settle.
        let settle = scale.settle / 2;
        self.rounds = (time.as_secs() / (phases * (PHASE + settle)).as_secs()).max(1) as usize;
        let each = time / (phases * self.rounds as u32);
        scale.phase = each.saturating_sub(settle).max(Duration::from_secs(2));
    }
}

/// Whether everything was as it must be.
fn soak(setting: &Setting) -> Result<bool, Failure> {
    if let Some(cores) = &setting.client_cores {
        pin_self(cores)?;
    }
    let (scratch, scale) = (Scratch::new()?, &setting.scale);
    fs::create_dir_all(&setting.results)?;
    let shim = shim::Shim::build(scratch.path())?;
    let launch = server::Launch {
        program: setting.program.clone(),
        cores: setting.server_cores.clone(),
        folder: scratch.path().to_owned(),
        log: setting.results.join("broker.log"),
    };
    let server = server::Server::start(launch, &shim)?;
    let topics = (0..scale.steady_lanes + scale.flood_lanes).map(|lane| format!("soaklane{lane:02}")).collect();
    let world = World::new(setting.seed, server, shim, ledger::Ledger::new(topics), records::Records::new());
    let samples = Mutex::new(Vec::new());
    let story = play(setting, &world, &samples)?;
    server::hold(&world).end(rustix::process::Signal::TERM)?;
    let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(setting, &world, &story, &samples)?;
    Ok(world.failed() == 0)
}

fn play(setting: &Setting, world: &World, samples: &Mutex<Vec<Sample>>) -> Result<director::Story, Failure> {
    let (questions, asked) = mpsc::channel();
    let scale = &setting.scale;
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(failure) = fleet::follow(world, scale, &asked) {
                world.fail(format!("the fleet: {failure}"));
            }
        });
        (0..scale.steady_lanes).for_each(|lane| drop(scope.spawn(move || publishers::publish_steadily(world, lane))));
        (0..records::STEADY).for_each(|writer| drop(scope.spawn(move || records::insert_steadily(world, writer))));
        scope.spawn(|| records::audit_steadily(world));
        scope.spawn(|| probes::publish(world));
        scope.spawn(|| probes::listen(world));
        scope.spawn(|| sampler::run(world, samples));
        let phases = plan::rounds(setting.rounds, &mut world.random("plan"));
        let story = director::direct(world, scale, &phases, &questions);
        world.is_over.store(true, SeqCst);
        story
    })
}

fn report(setting: &Setting, world: &World, story: &director::Story, samples: &[Sample]) -> Result<(), Failure> {
    let (seed, seconds) = (setting.seed, world.began.elapsed().as_secs());
    let title = format!("soak of {} min {:02} s, seed {seed}", seconds / 60, seconds % 60);
    let words = summary::write(&title, story, samples, &world.failures(), world.failed())?;
    fs::write(setting.results.join("soak.svg"), picture::draw(&title, samples, story)?)?;
    fs::write(setting.results.join("soak.txt"), &words)?;
    fs::write(setting.results.join("soak.csv"), summary::table(samples)?)?;
    print!("{words}");
    println!("{}", setting.results.join("soak.svg").display());
    Ok(())
}

fn pin_self(cores: &str) -> Result<(), Failure> {
    let pid = std::process::id().to_string();
    let output = Command::new("taskset").args(["-cp", cores, &pid]).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}
