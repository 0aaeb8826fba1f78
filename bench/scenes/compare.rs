//! The broker and its rivals in one run, in alternating rounds, so that noise on the machine affects all.

use std::time::Duration;

use super::{Setting, fanout, idle, median, requests};
use crate::load::TooSlow;
use crate::procs;
use crate::servers::{self, Failure};

/// Latency is measured at half of this server's saturation, if it takes part.
const YARDSTICK: &str = "nchan";
/// Bursts in flight when saturating a server.
const SATURATING: u64 = 16;
/// Multiples of the smaller fan-out's subscribers: for the larger fan-out, and for idle subscribers.
pub const LARGE: usize = 10;
pub const IDLE: usize = 8;
pub const CONNECTIONS: usize = 64;
/// Servers that must not fail.
const OWN: [&str; 2] = ["floor", "esker"];
const PAUSE: Duration = Duration::from_secs(1);

/// The results for one server.
pub struct Row {
    pub name: String,
    pub version: String,
    /// The names of its processes.
    pub processes: Vec<String>,
    /// The server's CPU time per delivery in microseconds, for the smaller and the larger fan-out.
    pub micros_per_delivery: [f64; 2],
    /// Private bytes per idle subscriber; `None` for the floors.
    pub bytes_idle: Option<f64>,
    /// Latency in milliseconds at half of the yardstick's saturation: median and 99th percentile.
    pub millis: [f64; 2],
    /// The server's CPU time per publish without subscribers, in microseconds.
    pub micros_per_publish: f64,
}

/// All results.
pub struct Comparison {
    pub rows: Vec<Row>,
    /// The server whose saturation sets the rate.
    pub yardstick: String,
    /// Events per second at which latency was measured, with the smaller number of subscribers.
    pub rate: f64,
    pub setting: Setting,
    /// Rounds in which rivals failed.
    pub failures: Vec<String>,
}

/// Runs everything, and reports progress on standard error.
pub fn run(setting: &Setting) -> Result<Comparison, Failure> {
    let yardstick = setting.servers.iter().find(|name| *name == YARDSTICK).or(setting.servers.last());
    let yardstick = yardstick.ok_or("there is no server to compare")?;
    let rate = saturate(yardstick, setting)? / 2.0;
    let calm = Setting { rate: Some(rate), ..setting.clone() };
    let crowd = Setting { subscribers: LARGE * setting.subscribers, ..setting.clone() };
    let resting = Setting { subscribers: IDLE * setting.subscribers, duration: PAUSE, ..setting.clone() };
    let mut rounds = Rounds { setting, failures: Vec::new() };
    let small = rounds.each("small fan-out", |name| Ok([fanout::round(name, setting)?.micros_each()]))?;
    let large = rounds.each("large fan-out", |name| Ok([fanout::round(name, &crowd)?.micros_each()]))?;
    let publish = rounds.each("publishes", |name| {
        let name = if name == "floor" { "echo" } else { name };
        Ok([requests::publish(name, setting, CONNECTIONS, CONNECTIONS)?.micros_each()])
    })?;
    let bytes = rounds.each("idle subscribers", |name| Ok([idle::round(name, &resting)?.bytes_each]))?;
    let latency = rounds.each("latency", |name| match fanout::round(name, &calm) {
        // A server that can't keep up, or loses events, has no latency.
        Err(failure) if failure.is::<TooSlow>() => Ok([f64::INFINITY; 2]),
        Ok(round) if round.lost > 0 => Ok([f64::INFINITY; 2]),
        round => round.map(|round| [round.p50, round.p99].map(|nanos| nanos as f64 / 1e6)),
    })?;
    let rows = setting.servers.iter().enumerate().map(|(index, name)| {
        let server = servers::start(name, &setting.server_cores)?;
        Ok(Row {
            name: name.clone(),
            version: server.version.clone(),
            processes: procs::names(server.root.id()),
            micros_per_delivery: [small[index][0], large[index][0]],
            bytes_idle: (name != "floor").then_some(bytes[index][0]),
            millis: latency[index],
            micros_per_publish: publish[index][0],
        })
    });
    let rows = rows.collect::<Result<_, Failure>>()?;
    Ok(Comparison { rows, yardstick: yardstick.clone(), rate, setting: setting.clone(), failures: rounds.failures })
}

/// Returns the events per second that a server delivers when it is always busy.
fn saturate(name: &str, setting: &Setting) -> Result<f64, Failure> {
    let full = Setting { window: SATURATING, ..setting.clone() };
    let rates = (0..setting.rounds).map(|_| Ok(fanout::round(name, &full)?.rate()));
    let rates: Vec<f64> = rates.collect::<Result<_, Failure>>()?;
    Ok(median(rates) / setting.subscribers as f64)
}

/// Alternating rounds of all servers, and failures.
struct Rounds<'a> {
    setting: &'a Setting,
    failures: Vec<String>,
}

impl Rounds<'_> {
    /// Returns the medians of each server's rounds, for each figure. A round that a rival fails is reported and left out.
    fn each<const N: usize>(
        &mut self,
        what: &str,
        mut round: impl FnMut(&str) -> Result<[f64; N], Failure>,
    ) -> Result<Vec<[f64; N]>, Failure> {
        let mut all = vec![Vec::new(); self.setting.servers.len()];
        for number in 1..=self.setting.rounds {
            for (index, name) in self.setting.servers.iter().enumerate() {
                match round(name) {
                    Ok(figures) => {
                        eprintln!("{what}, round {number}: {name} {figures:.3?}");
                        all[index].push(figures);
                    }
                    Err(failure) if OWN.contains(&name.as_str()) => {
                        return Err(format!("{name}, {what}: {failure}").into());
                    }
                    Err(failure) => {
                        eprintln!("{what}, round {number}: {name} failed: {failure}");
                        self.failures.push(format!("{name}, {what}, round {number}: {failure}"));
                    }
                }
            }
        }
        let medians =
            |rounds: Vec<[f64; N]>| std::array::from_fn(|nth| median(rounds.iter().map(|figures| figures[nth])));
        Ok(all.into_iter().map(medians).collect())
    }
}
