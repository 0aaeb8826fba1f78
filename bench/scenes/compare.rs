//! The broker and its rivals in one run: rounds of all of them in turn, so that a noisy machine is noisy for all.

use std::time::Duration;

use super::{Setting, fanout, idle, median, requests};
use crate::load::TooSlow;
use crate::procs;
use crate::servers::{self, Failure};

/// Whose saturation the latency is measured at half of, if it takes part.
const YARDSTICK: &str = "nchan";
/// Bursts under way when a server is to be saturated.
const SATURATING: u64 = 16;
/// The larger fan-out and the crowd of idle ones, in multiples of the smaller fan-out.
pub const LARGE: usize = 10;
pub const IDLE: usize = 8;
pub const CONNECTIONS: usize = 64;
const REST: Duration = Duration::from_secs(1);

/// What was found out about one server.
pub struct Row {
    pub name: String,
    pub version: String,
    /// Its processes.
    pub processes: Vec<String>,
    /// Microseconds of the server per delivery: the smaller fan-out, the larger one.
    pub micros_per_delivery: [f64; 2],
    /// Private bytes per idle subscriber; the floors have no such thing.
    pub bytes_idle: Option<f64>,
    /// Milliseconds from due to read, at half of the yardstick's saturation: median and 99th percentile.
    pub millis: [f64; 2],
    /// Microseconds of the server per publish that nobody listens to.
    pub micros_per_publish: f64,
}

/// All that was found out.
pub struct Comparison {
    pub rows: Vec<Row>,
    /// Whose saturation that is half of.
    pub yardstick: String,
    /// Events per second at which the latency was measured, to the smaller number of subscribers.
    pub rate: f64,
    pub setting: Setting,
}

/// Runs everything; tells on standard error how far it is.
pub fn run(setting: &Setting) -> Result<Comparison, Failure> {
    let yardstick = setting.servers.iter().find(|name| *name == YARDSTICK).or(setting.servers.last());
    let yardstick = yardstick.ok_or("there is no server to compare")?;
    let rate = saturate(yardstick, setting)? / 2.0;
    let calm = Setting { rate: Some(rate), ..setting.clone() };
    let crowd = Setting { subscribers: LARGE * setting.subscribers, ..setting.clone() };
    let resting = Setting { subscribers: IDLE * setting.subscribers, duration: REST, ..setting.clone() };
    let small = each(setting, "small fan-out", |name| Ok(fanout::round(name, setting)?.micros_each()))?;
    let large = each(setting, "large fan-out", |name| Ok(fanout::round(name, &crowd)?.micros_each()))?;
    let publish = each(setting, "publishes", |name| {
        let name = if name == "floor" { "echo" } else { name };
        Ok(requests::publish(name, setting, CONNECTIONS)?.micros_each())
    })?;
    let bytes = each(setting, "idle subscribers", |name| Ok(idle::round(name, &resting)?.bytes_each))?;
    let mut p50 = Vec::new();
    let p99 = each(setting, "latency", |name| {
        let round = match fanout::round(name, &calm) {
            // Whoever can't keep up has no latency.
            Err(failure) if failure.is::<TooSlow>() => return Ok(f64::INFINITY),
            round => round?,
        };
        p50.push((name.to_owned(), round.p50 as f64 / 1e6));
        Ok(if round.lost == 0 { round.p99 as f64 / 1e6 } else { f64::INFINITY })
    })?;
    let rows = setting.servers.iter().enumerate().map(|(index, name)| {
        let server = servers::start(name, &setting.server_cores)?;
        let p50 = median(p50.iter().filter(|(whose, _)| whose == name).map(|(_, millis)| *millis));
        Ok(Row {
            name: name.clone(),
            version: server.version.clone(),
            processes: procs::names(server.root.id()),
            micros_per_delivery: [small[index], large[index]],
            bytes_idle: (name != "floor").then_some(bytes[index]),
            millis: [p50, p99[index]],
            micros_per_publish: publish[index],
        })
    });
    let rows = rows.collect::<Result<_, Failure>>()?;
    Ok(Comparison { rows, yardstick: yardstick.clone(), rate, setting: setting.clone() })
}

/// Events per second that a server delivers to its subscribers when it always has some to go on with.
fn saturate(name: &str, setting: &Setting) -> Result<f64, Failure> {
    let full = Setting { window: SATURATING, ..setting.clone() };
    let rates = (0..setting.rounds).map(|_| Ok(fanout::round(name, &full)?.rate()));
    let rates: Vec<f64> = rates.collect::<Result<_, Failure>>()?;
    Ok(median(rates) / setting.subscribers as f64)
}

/// The median of each server's rounds.
fn each(
    setting: &Setting,
    what: &str,
    mut round: impl FnMut(&str) -> Result<f64, Failure>,
) -> Result<Vec<f64>, Failure> {
    let mut all = vec![Vec::new(); setting.servers.len()];
    for number in 1..=setting.rounds {
        for (index, name) in setting.servers.iter().enumerate() {
            let figure = round(name).map_err(|failure| format!("{name}, {what}: {failure}"))?;
            eprintln!("{what}, round {number}: {name} {figure:.3}");
            all[index].push(figure);
        }
    }
    Ok(all.into_iter().map(median).collect())
}
