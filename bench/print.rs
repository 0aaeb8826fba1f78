//! Prints the results of scenes as tables: each round, and the medians. Independent of how they are measured.

mod engine;
mod rivals;
mod workers;

use std::fmt::Write;

use crate::scenes::{Setting, arrivals, fanout, idle, median, names, pruning, reconnect, requests, restart, start};
use crate::servers::Failure;

pub use engine::print as engine;
pub use workers::print as workers;

/// Prints fan-out, with the ratio to the first server.
pub fn fanout(setting: &Setting) -> Result<(), Failure> {
    println!("server            deliveries/s  µs each (user)  p50 µs   p99 µs  p99.9 µs  lost  × first");
    compare(setting, |name| {
        let round = fanout::round(name, setting)?;
        let [p50, p99, p999] = [round.p50, round.p99, round.p999].map(|nanos| nanos as f64 / 1e3);
        let (rate, each, user) = (round.rate(), round.micros_each(), round.user_micros_each());
        let text = format!("{rate:13.0} {each:8.3} {user:6.3} {p50:8.0} {p99:8.0} {p999:9.0} {:5}", round.lost);
        Ok((text, each))
    })
}

/// Prints bursts of events, with the ratio to single events.
pub fn burst(setting: &Setting) -> Result<(), Failure> {
    println!("server           events  µs each  × one at a time");
    for name in &setting.servers {
        let mut ratios = Vec::new();
        for _ in 0..setting.rounds {
            let one = fanout::round(name, &Setting { burst: 1, ..setting.clone() })?.micros_each();
            let many = fanout::round(name, setting)?.micros_each();
            ratios.push(many / one);
            println!("{name:16} {:6} {one:8.3}\n{name:16} {:6} {many:8.3} {:16.4}", 1, setting.burst, many / one);
        }
        println!("{name:16} median ratio: {:.4}", median(ratios));
    }
    Ok(())
}

/// Prints start times with many records.
pub fn start(setting: &Setting) -> Result<(), Failure> {
    println!("{} records\nafter        s  private MB", setting.records);
    for (after, round) in start::measure(setting)? {
        println!("{after:7} {:6.3} {:11.1}", round.elapsed.as_secs_f64(), round.private_bytes as f64 / 1e6);
    }
    Ok(())
}

/// Prints clean restarts with a full history.
pub fn restart(setting: &Setting) -> Result<(), Failure> {
    println!("{} bytes of data per event\n events      MB  stop s  × write  start s  × read", setting.size);
    for round in restart::measure(setting)? {
        let [before, after] = round.events;
        if before != after || before == 0.0 {
            return Err(format!("{before} events were retained before the restart, {after} after it").into());
        }
        let (stop, start) = (round.stop.as_secs_f64(), round.start.as_secs_f64());
        println!(
            "{before:7} {:7.1} {stop:7.3} {:8.2} {start:8.3} {:7.2}",
            round.bytes as f64 / 1e6,
            stop / round.write.as_secs_f64(),
            start / round.read.as_secs_f64(),
        );
    }
    Ok(())
}

/// Prints what very many names cost: the start, memory, and the latency of publishes while readers get all records.
pub fn names(setting: &Setting) -> Result<(), Failure> {
    println!("{} names", names::count(setting));
    println!(
        "healthz s  audit s  readers  records/s  p50 ms  p99 ms  max ms  allowed  private bytes a name  \
         longest iteration since start, ms"
    );
    let mut excess = Vec::new();
    for _ in 0..setting.rounds {
        let names::Names { healthy, audited, snapshots } = names::measure(setting)?;
        let allowed = 2.0 * snapshots.first().map_or(f64::NAN, |quiet| quiet.millis(0.99)) + 5.0;
        print!("{:9.3} {:8.3}", healthy.as_secs_f64(), audited.as_secs_f64());
        for (index, snapshot) in snapshots.iter().enumerate() {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| snapshot.millis(share));
            println!(
                "{:>width$} {:10.0} {p50:7.2} {p99:7.2} {max:7.2} {allowed:8.2} {:21.1} {:34.2}",
                snapshot.readers,
                snapshot.records_per_second,
                snapshot.bytes_each,
                snapshot.longest_iteration,
                width = if index == 0 { 8 } else { 26 },
            );
            excess.push(max / allowed);
        }
    }
    println!("longest publish: {:.3} × allowed", excess.into_iter().fold(0.0, f64::max));
    Ok(())
}

/// Prints the latency of inserts while versions are removed, and before.
pub fn pruning(setting: &Setting) -> Result<(), Failure> {
    println!("removing  inserts/s  p50 ms   p99 ms  p99.9 ms  removed  removed/s  file MB  p99 × without");
    let mut ratios = Vec::new();
    for _ in 0..setting.rounds {
        let [without, with] = pruning::measure(setting)?;
        ratios.push(with.latency.quantile(0.99) as f64 / without.latency.quantile(0.99) as f64);
        for (removing, round) in [("no", &without), ("yes", &with)] {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| round.latency.quantile(share) as f64 / 1e6);
            let (rate, megabytes) = (round.removed / round.elapsed.as_secs_f64(), round.file_bytes as f64 / 1e6);
            let inserts = round.inserts / round.elapsed.as_secs_f64();
            println!(
                "{removing:8} {inserts:10.0} {p50:7.2} {p99:8.2} {p999:9.2} {:8.0} {rate:10.0} {megabytes:8.1}",
                round.removed
            );
        }
        println!("{:>74.3}", ratios.last().copied().unwrap_or(f64::NAN));
    }
    println!("median ratio: {:.3}", median(ratios));
    Ok(())
}

/// Prints memory and CPU time of idle subscribers.
pub fn idle(setting: &Setting) -> Result<(), Failure> {
    println!("from {} to {} subscribers", idle::first(setting), setting.subscribers);
    println!("server           private bytes each  % of a core  × first");
    compare(setting, |name| {
        let round = idle::round(name, setting)?;
        Ok((format!("{:18.1} {:12.2}", round.bytes_each, round.percent), round.bytes_each))
    })
}

/// Prints publishes without subscribers, to one topic per connection or to a given number of topics.
pub fn publish(setting: &Setting) -> Result<(), Failure> {
    for &connections in &setting.connections {
        let topics = setting.topics.map_or(String::new(), |topics| format!(", {topics} topics"));
        println!("{connections} connections{topics}\nserver            requests/s  µs each  × first");
        compare(setting, |name| {
            let round = requests::publish(name, setting, connections, setting.topics.unwrap_or(connections))?;
            Ok((format!("{:11.0} {:8.3}", round.rate(), round.micros_each()), round.micros_each()))
        })?;
    }
    Ok(())
}

/// Prints durable inserts.
pub fn insert(setting: &Setting) -> Result<(), Failure> {
    println!("connections  inserts/s  per commit  floor/s  share");
    for &connections in &setting.connections {
        let mut shares = Vec::new();
        for _ in 0..setting.rounds {
            let round = requests::insert(setting, connections)?;
            let requests::Inserts { rate, per_commit, floor } = round;
            shares.push(rate / floor);
            println!("{connections:11} {rate:10.0} {per_commit:11.1} {floor:8.0}  {:.3}", rate / floor);
        }
        println!("{connections:11} median share: {:.3}", median(shares));
    }
    Ok(())
}

/// Prints subscribers that all reconnect at once.
pub fn storm(setting: &Setting) -> Result<(), Failure> {
    arrivals(setting, arrivals::storm)
}

/// Prints subscribers that connect and disconnect.
pub fn churn(setting: &Setting) -> Result<(), Failure> {
    arrivals(setting, arrivals::churn)
}

fn arrivals(
    setting: &Setting,
    scene: fn(&str, &Setting) -> Result<arrivals::Arrivals, Failure>,
) -> Result<(), Failure> {
    println!("server            streams  deliveries       s   µs a stream  private MB  × first");
    compare(setting, |name| {
        let round = scene(name, setting)?;
        let (seconds, each) = (round.spent.elapsed.as_secs_f64(), round.micros_each());
        let megabytes = round.private_bytes as f64 / 1e6;
        Ok((format!("{:8} {:11} {seconds:7.3} {each:13.2} {megabytes:11.1}", round.opened, round.delivered), each))
    })
}

/// Prints subscribers that come back with their positions after a restart.
pub fn reconnect(setting: &Setting) -> Result<(), Failure> {
    let Setting { subscribers, burst, .. } = setting;
    println!("{subscribers} subscribers, {} topics with {burst} events", setting.topics());
    println!("                                                head ms       event ms        publish ms");
    println!(
        "server           streams       s  µs a stream    p50    p99    p50    p99    p50    p99    max  private MB  × first"
    );
    compare(setting, |name| {
        let round = reconnect::round(name, setting)?;
        let mut text = format!("{:7} {:7.3} {:12.2}", round.opened, round.elapsed.as_secs_f64(), round.micros_each());
        let (opening, event, publishing) = (&round.opening, &round.first_event, &round.publishing);
        let columns = [(opening, 0.5), (opening, 0.99), (event, 0.5), (event, 0.99)];
        for (histogram, share) in columns.into_iter().chain([0.5, 0.99, 1.0].map(|share| (publishing, share))) {
            write!(text, " {:6.1}", histogram.quantile(share) as f64 / 1e6)?;
        }
        Ok((format!("{text} {:11.1}", round.private_bytes as f64 / 1e6), round.micros_each()))
    })
}

/// Prints the latency of subscribers that read, with and without others that don't.
pub fn stalled(setting: &Setting) -> Result<(), Failure> {
    println!("server           stalled  p50 µs   p99 µs  p99.9 µs  p99 × without");
    for name in &setting.servers {
        let mut ratios = Vec::new();
        for _ in 0..setting.rounds {
            let without = arrivals::beside_stalled(name, setting, 0)?;
            let with = arrivals::beside_stalled(name, setting, setting.stalled)?;
            ratios.push(with.p99 as f64 / without.p99 as f64);
            for (stalled, round) in [(0, without), (setting.stalled, with)] {
                let [p50, p99, p999] = [round.p50, round.p99, round.p999].map(|nanos| nanos as f64 / 1e3);
                println!("{name:16} {stalled:7} {p50:7.0} {p99:8.0} {p999:9.0}");
            }
        }
        println!("{name:16} median ratio: {:.3}", median(ratios));
    }
    Ok(())
}

/// Prints alternating rounds of all servers, so that noise on the machine affects all, then the medians.
fn compare(setting: &Setting, mut round: impl FnMut(&str) -> Result<(String, f64), Failure>) -> Result<(), Failure> {
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); setting.servers.len()];
    for _ in 0..setting.rounds {
        for (index, name) in setting.servers.iter().enumerate() {
            let (text, figure) = round(name)?;
            all[index].push(figure);
            println!("{name:16} {text} {:8.3}", figure / all[0].last().copied().unwrap_or(f64::NAN));
        }
    }
    for (name, figures) in setting.servers.iter().zip(&all) {
        let ratios = figures.iter().zip(&all[0]).map(|(this, first)| this / first);
        println!("{name:16} median {:.3}, {:.3} × {}", median(figures.clone()), median(ratios), setting.servers[0]);
    }
    Ok(())
}
