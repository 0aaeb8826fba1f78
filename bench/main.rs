//! The benchmarks: `scripts/bench SCENE [OPTIONS]`; bench/README.md describes each. This file parses the command line,
//! `scenes/` measures, and `print` and `report` present the results.

mod disk;
mod load;
mod print;
mod procs;
mod report;
mod scenes;
mod servers;

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use lexopt::prelude::*;
use scenes::idle::HEARTBEAT;
use scenes::{Setting, compare};
use servers::{Failure, Scratch};

const USAGE: &str =
    "usage: scripts/bench SCENE [OPTIONS], where SCENE is one of
    fanout|burst|idle|publish|insert|storm|churn|reconnect|stalled|start|restart|names|pruning|workers|engine|compare
    [--servers NAME,…]
    [--subscribers N] [--stalled N] [--topics N] [--size BYTES] [--burst EVENTS] [--window BURSTS] [--rate EVENTS/S]
    [--connections N,…] [--seconds S] [--records N] [--versions N] [--rounds N] [--server-cores LIST] [--client-cores LIST]
    engine: [--parts append,latency,follow,start,memory,fanout,rivals] [--events N] [--engine-cores LIST]";

/// Events in a burst, unless the command line asks for more.
const BURST: u32 = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    if let Some(words) = test_arguments() {
        return if selects_tests(&words) { Ok(()) } else { smoke() };
    }
    let (scene, setting) = arguments()?;
    match scene.as_str() {
        "floor" => return Ok(servers::floor::run()?),
        "echo" => return Ok(servers::echo::run()?),
        _ => pin_self(&setting.client_cores)?,
    }
    match scene.as_str() {
        "fanout" => print::fanout(&setting.with(&["floor", "esker"])),
        "burst" => print::burst(&Setting { burst: setting.burst.max(BURST), ..setting.with(&["esker"]) }),
        "start" => print::start(&setting),
        "restart" => print::restart(&setting),
        "names" => print::names(&setting),
        "pruning" => print::pruning(&setting),
        "idle" => print::idle(&Setting { duration: setting.duration.max(HEARTBEAT), ..setting.with(&["esker"]) }),
        "publish" => print::publish(&setting.with(&["echo", "esker"]).with_connections(&[1, 64])),
        "insert" => print::insert(&setting.with_connections(&[1, 64])),
        "storm" => print::storm(&setting.with(&["esker"])),
        "churn" => print::churn(&setting.with(&["esker"])),
        "reconnect" => print::reconnect(&setting.with(&["esker"])),
        "stalled" => print::stalled(&setting.with(&["esker"])),
        "workers" => print::workers(&setting.with(&["esker"]).with_connections(&[64])),
        "engine" => print::engine(&setting.with_connections(&[1, 16, 64, 256])),
        "compare" => compare_all(&setting.with(&["floor", "esker", "nchan", "axum", "durable", "pushpin"])),
        _ => Err(USAGE.into()),
    }
}

fn compare_all(setting: &Setting) -> Result<(), Failure> {
    let page = report::write(&compare::run(setting)?, Path::new("bench/results"))?;
    println!("{}", page.display());
    Ok(())
}

/// Returns the arguments if cargo runs this program as a test: only as a bench does it get the argument [`servers::IS_BENCH`].
fn test_arguments() -> Option<Vec<String>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let is_bench = words.iter().any(|word| word == servers::IS_BENCH);
    (!is_bench).then_some(words)
}

/// Returns whether some tests are selected by name, or only listed. A test name such as `publish` must not start a measurement.
fn selects_tests(words: &[String]) -> bool {
    words.iter().any(|word| !word.starts_with('-') || word == "--list")
}

/// Parses the scene and its settings.
fn arguments() -> Result<(String, Setting), Failure> {
    let mut parser = lexopt::Parser::from_env();
    let Some(Value(scene)) = parser.next()? else { return Err(USAGE.into()) };
    let scene = scene.string()?;
    let mut setting = Setting::of(&scene);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("servers") => setting.servers = parser.value()?.string()?.split(',').map(str::to_owned).collect(),
            Long("subscribers") => setting.subscribers = parser.value()?.parse()?,
            Long("topics") => setting.topics = Some(parser.value()?.parse()?),
            Long("size") => setting.size = parser.value()?.parse()?,
            Long("burst") => setting.burst = parser.value()?.parse()?,
            Long("window") => setting.window = parser.value()?.parse()?,
            Long("rate") => setting.rate = Some(parser.value()?.parse()?),
            Long("events") => setting.events = parser.value()?.parse()?,
            Long("parts") => setting.parts = parser.value()?.string()?.split(',').map(str::to_owned).collect(),
            Long("records") => setting.records = parser.value()?.parse()?,
            Long("versions") => setting.versions = Some(parser.value()?.parse()?),
            Long("stalled") => setting.stalled = parser.value()?.parse()?,
            Long("connections") => setting.connections = parser.value()?.parse_with(numbers)?,
            Long("seconds") => setting.duration = Duration::from_secs_f64(parser.value()?.parse()?),
            Long("rounds") => setting.rounds = parser.value()?.parse()?,
            Long("server-cores") => setting.server_cores = parser.value()?.string()?,
            Long("client-cores") => setting.client_cores = parser.value()?.string()?,
            Long("engine-cores") => setting.engine_cores = parser.value()?.string()?,
            Long("bench") => {}
            other => return Err(format!("{}\n{USAGE}", other.unexpected()).into()),
        }
    }
    if setting.topics == Some(0)
        || setting.connections.contains(&0)
        || setting.window == 0
        || setting.burst == 0
        || setting.rounds == 0
    {
        return Err("topics, connections, window, burst and rounds are at least 1".into());
    }
    Ok((scene, setting))
}

/// Runs every scene once with a small load, as a test of the load generator: every event must arrive once and in order.
fn smoke() -> Result<(), Failure> {
    let scratch = Scratch::new()?;
    let small = Setting {
        subscribers: 40,
        topics: None,
        connections: vec![2],
        stalled: 10,
        records: 1000,
        events: 300,
        duration: Duration::from_millis(50),
        rounds: 1,
        ..Setting::default()
    };
    let several = Setting { topics: Some(4), burst: 5, rate: Some(200.0), ..small.clone() }.with(&["esker"]);
    print::fanout(&small.with(&["floor", "esker"]))?;
    print::fanout(&several)?;
    print::burst(&small.with(&["esker"]))?;
    print::idle(&several)?;
    print::publish(&small.with(&["echo", "esker"]))?;
    print::publish(&Setting { topics: Some(3), ..small.with(&["esker"]) })?;
    print::insert(&small)?;
    print::storm(&several)?;
    print::churn(&several)?;
    print::reconnect(&several)?;
    print::start(&small)?;
    print::restart(&small)?;
    print::names(&small)?;
    print::pruning(&small)?;
    print::stalled(&small.with(&["esker"]))?;
    print::workers(&small.with(&["esker"]))?;
    print::engine(&Setting { rate: Some(200.0), ..small.clone() })?;
    report::write(&compare::run(&small.with(&["floor", "esker"]))?, scratch.path())?;
    Ok(())
}

fn numbers(list: &str) -> Result<Vec<usize>, std::num::ParseIntError> {
    list.split(',').map(str::parse).collect()
}

fn pin_self(cores: &str) -> Result<(), Failure> {
    let pid = std::process::id().to_string();
    let output = Command::new("taskset").args(["-cp", cores, &pid]).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}
