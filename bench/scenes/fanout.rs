//! Fan-out: events to many subscribers, at a fixed rate, or as fast as a window of events in flight allows.

use std::slice;
use std::time::{Duration, Instant};

use super::Setting;
use crate::load::{Load, TIMEOUT};
use crate::procs::{Spent, Stopwatch};
use crate::servers::{self, Failure, Running};

/// Time after the last stream began. Some servers send the head before they subscribe.
const SETTLING: Duration = Duration::from_millis(300);
/// Shorter waits than this spin, because a poll can't wait for less than a millisecond.
const SPIN: Duration = Duration::from_millis(1);
const WARMING: Duration = Duration::from_millis(300);

/// The results of one round.
pub struct Fanout {
    pub delivered: u64,
    pub lost: u64,
    pub spent: Spent,
    /// Nanoseconds from due to read.
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
}

impl Fanout {
    /// Returns deliveries per second.
    pub fn rate(&self) -> f64 {
        self.spent.rate(self.delivered)
    }

    /// Returns the server's CPU time per delivery, in microseconds.
    pub fn micros_each(&self) -> f64 {
        self.spent.micros_each(self.delivered)
    }

    /// Returns the user part of [`Fanout::micros_each`].
    pub fn user_micros_each(&self) -> f64 {
        let cpu = &self.spent.cpu;
        let share = cpu.user.as_secs_f64() / (cpu.user + cpu.system).as_secs_f64();
        self.micros_each() * share
    }
}

/// Runs one round with a new server.
pub fn round(name: &str, setting: &Setting) -> Result<Fanout, Failure> {
    let server = servers::start(name, &setting.server_cores)?;
    // Other servers may promise less, but the broker must deliver what it accepts.
    if name == "esker" { measure_lossless(&server, setting) } else { measure(&server, setting) }
}

/// Runs one round with a server that has no subscribers yet, and fails if it loses an event.
pub fn measure_lossless(server: &Running, setting: &Setting) -> Result<Fanout, Failure> {
    let round = measure(server, setting)?;
    if round.lost > 0 {
        return Err(format!("{} of {} events were lost", round.lost, round.lost + round.delivered).into());
    }
    Ok(round)
}

/// Runs one round with a server that has no subscribers yet.
pub fn measure(server: &Running, setting: &Setting) -> Result<Fanout, Failure> {
    let servers = slice::from_ref(server);
    measure_warm(&mut warm(servers, setting)?, servers, setting)
}

/// Subscribes at servers that have no subscribers yet and share their topics, and publishes for a moment.
pub fn warm<'a>(servers: &'a [Running], setting: &Setting) -> Result<Load<'a>, Failure> {
    let mut load = Load::across(servers, setting.topics(), setting.size)?;
    load.subscribe(setting.subscribers)?;
    load.run_for(SETTLING)?;
    drive(&mut load, &Setting { duration: WARMING, ..setting.clone() })?;
    load.counters = Default::default();
    Ok(load)
}

/// Measures servers with a load that [`warm`] returned.
pub fn measure_warm(load: &mut Load<'_>, servers: &[Running], setting: &Setting) -> Result<Fanout, Failure> {
    let stopwatch = Stopwatch::start_all(servers.iter().map(|server| server.root.id()));
    drive(load, setting)?;
    let spent = stopwatch.spent();
    let counters = &load.counters;
    counters.check()?;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| counters.latency.quantile(share));
    Ok(Fanout { delivered: counters.delivered, lost: counters.lost, spent, p50, p99, p999 })
}

/// Publishes for the configured time, and waits for the last event.
fn drive(load: &mut Load<'_>, setting: &Setting) -> Result<(), Failure> {
    let goal = match setting.rate {
        Some(rate) => by_clock(load, setting, rate)?,
        None => by_window(load, setting)?,
    };
    load.run_until("the last events", |load| load.counters.delivered + load.counters.lost >= goal)
}

fn by_window(load: &mut Load<'_>, setting: &Setting) -> Result<u64, Failure> {
    let mut goal = load.counters.delivered;
    let begin = Instant::now();
    for topic in (0..load.topics()).cycle() {
        if begin.elapsed() >= setting.duration {
            break;
        }
        let under_way = load.publish(topic, setting.burst, Instant::now())?;
        goal += under_way;
        let slack = under_way * (setting.window - 1);
        load.run_until("an event to reach everybody", |load| {
            load.counters.delivered + load.counters.lost + slack >= goal && (load.outstanding() as u64) < setting.window
        })?;
    }
    Ok(goal)
}

/// A late event is not skipped, and its latency counts from when it was due.
fn by_clock(load: &mut Load<'_>, setting: &Setting, rate: f64) -> Result<u64, Failure> {
    let mut goal = load.counters.delivered;
    let begin = Instant::now();
    let bursts = (setting.duration.as_secs_f64() * rate / f64::from(setting.burst)) as u32;
    for index in 0..bursts {
        let due = begin + Duration::from_secs_f64(f64::from(index) * f64::from(setting.burst) / rate);
        while let Some(rest) = due.checked_duration_since(Instant::now()) {
            load.run(if rest > SPIN { rest - SPIN } else { Duration::ZERO })?;
        }
        load.run(Duration::ZERO)?;
        goal += load.publish(index as usize % load.topics(), setting.burst, due)?;
        // A server that never catches up fails the wait for the last events.
        if begin.elapsed() > setting.duration + TIMEOUT {
            break;
        }
    }
    Ok(goal)
}
