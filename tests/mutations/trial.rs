//! Runs a simulation that was built with a mutation. Independent of what the mutation changes.

use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::list::Suite;
use super::tree::Built;

/// The tests of one broker: one that runs all seeds.
const BROKER: &[&[&str]] = &[&["--exact", "the_whole_broker_keeps_its_invariants"]];
/// The tests of several brokers: some without seeds, and two that run all seeds.
const CLUSTER: &[&[&str]] = &[
    &["engine::scripted"],
    &["--exact", "engine::brokers_follow_one_log"],
    &["--exact", "cluster::three_brokers_are_one"],
];
/// Three times what all seeds take. A run that takes longer counts as endless.
const CPU_SECONDS: u64 = 90;
/// The number of the signal that ends a run after that time.
const SIGXCPU: i32 = 24;
/// The number of characters of a panic's message that are shown.
const MESSAGE_CHARS: usize = 110;

/// A run in progress.
pub struct Trial(JoinHandle<Verdict>);

/// The result of a run.
#[derive(Debug)]
pub enum Verdict {
    Noticed {
        seeds: u64,
        message: String,
        built: Duration,
        ran: Duration,
    },
    Unnoticed {
        seeds: u64,
    },
    Endless,
    DoesNotCompile(String),
    /// It failed, but not because of a seed.
    Unclear(String),
}

impl Trial {
    /// Starts a run of this many seeds, which ends when one fails.
    pub fn start(built: Built, suite: Suite, seeds: u64) -> Self {
        let tests = if suite == Suite::Broker { BROKER } else { CLUSTER };
        Self(thread::spawn(move || run(built, tests, seeds)))
    }

    pub fn wait(self) -> Verdict {
        self.0.join().expect("a trial does not panic")
    }
}

/// Runs the tests until one notices the defect.
fn run(built: Built, tests: &[&[&str]], seeds: u64) -> Verdict {
    let simulation = match built.simulation {
        Ok(simulation) => simulation,
        Err(errors) => return Verdict::DoesNotCompile(errors),
    };
    let verdicts = tests.iter().map(|test| run_test(&simulation, built.took, test, seeds));
    let verdict = verdicts.into_iter().find(|verdict| !matches!(verdict, Verdict::Unnoticed { .. }));
    let _ = fs::remove_file(&simulation);
    verdict.unwrap_or(Verdict::Unnoticed { seeds })
}

fn run_test(simulation: &Path, built: Duration, test: &[&str], seeds: u64) -> Verdict {
    let begin = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -t {CPU_SECONDS}; exec \"$0\" \"$@\" --nocapture")])
        .arg(simulation)
        .args(test)
        .env("ESKER_SIM_SEEDS", seeds.to_string())
        .env_remove("ESKER_SIM_FROM")
        .env_remove("ESKER_SIM_SEED")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .expect("a shell runs it");
    let said = String::from_utf8_lossy(&output.stderr);
    // Some tests have no seeds.
    let is_seedless = test.len() == 1 && said.contains(" panicked at ");
    match (output.status.success(), output.status.signal(), failing_seed(&said)) {
        (true, ..) => Verdict::Unnoticed { seeds },
        (_, Some(SIGXCPU), _) => Verdict::Endless,
        (_, _, None) if is_seedless => {
            Verdict::Noticed { seeds: 0, message: message(&said), built, ran: begin.elapsed() }
        }
        (_, _, Some(seed)) => {
            Verdict::Noticed { seeds: seed + 1, message: message(&said), built, ran: begin.elapsed() }
        }
        _ => Verdict::Unclear(format!("{}: {said}", output.status)),
    }
}

fn failing_seed(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once("scripts/sim --seed ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Returns the file of the first panic, and the first line of its message.
fn message(said: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.contains(" panicked at "));
    let place = lines.next().and_then(|line| line.rsplit('/').next()).unwrap_or_default();
    let place = place.split(':').next().unwrap_or_default();
    let words: String = lines.next().unwrap_or_default().chars().take(MESSAGE_CHARS).collect();
    format!("{place}: {words}")
}

impl Verdict {
    pub fn is_noticed(&self) -> bool {
        matches!(self, Self::Noticed { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noticed { seeds, message, built, ran } => {
                write!(f, "{seeds:3} seeds  {:3.0}+{:2.0} s  {message}", built.as_secs_f64(), ran.as_secs_f64())
            }
            Self::Unnoticed { seeds } => write!(f, "NOT NOTICED in {seeds} seeds"),
            Self::Endless => write!(f, "NOT NOTICED: it runs without end"),
            Self::DoesNotCompile(errors) => write!(f, "DOES NOT COMPILE\n{errors}"),
            Self::Unclear(said) => write!(f, "UNCLEAR: {said}"),
        }
    }
}
