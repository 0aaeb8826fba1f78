//! Prints brokers next to the nodes of another server, each on a redis-server.

use crate::scenes::engine::rivals::{self, KINDS, Kind};
use crate::scenes::engine::{SEVERAL, kill};
use crate::scenes::{Setting, median};
use crate::servers::Failure;

/// Prints all comparisons.
pub fn print(setting: &Setting) -> Result<(), Failure> {
    delivery(setting)?;
    latency(setting)?;
    kill(setting)
}

/// Prints alternating rounds of events that reach the subscribers of all nodes.
fn delivery(setting: &Setting) -> Result<(), Failure> {
    println!("delivery to {} subscribers at each of {SEVERAL} nodes", setting.subscribers);
    println!("server  deliveries/s  µs each  engine µs an event  p50 µs   p99 µs  lost  × nchan");
    let (mut all, mut versions) = ([const { Vec::new() }; KINDS.len()], Vec::new());
    for _ in 0..setting.rounds {
        for (index, kind) in KINDS.into_iter().enumerate() {
            let rivals::Delivery { version, fanout, engine_micros } = rivals::delivery(kind, setting)?;
            let [p50, p99] = [fanout.p50, fanout.p99].map(|nanos| nanos as f64 / 1e3);
            let (rate, each) = (fanout.rate(), fanout.micros_each());
            println!(
                "{:6} {rate:13.0} {each:8.3} {engine_micros:19.1} {p50:7.0} {p99:8.0} {:5}",
                kind.name(),
                fanout.lost
            );
            all[index].push(each);
            versions.push(version);
        }
        println!("{:>74.3}", last(&all[0]) / last(&all[1]));
    }
    for (version, each) in versions.iter().zip(&all) {
        println!("{version}: median {:.3} µs", median(each.clone()));
    }
    println!("median ratio: {:.3}", median(all[0].iter().zip(&all[1]).map(|(esker, nchan)| esker / nchan)));
    Ok(())
}

/// Prints latency from a publisher at one node to a subscriber at another one, next to that of the engine alone.
fn latency(setting: &Setting) -> Result<(), Failure> {
    println!("latency to a subscriber at another node\n                    p50 µs   p99 µs");
    let mut all: [Vec<_>; KINDS.len() + 2] = Default::default();
    for _ in 0..setting.rounds {
        for (index, kind) in KINDS.into_iter().enumerate() {
            all[index].push(rivals::latency(kind, setting)?);
        }
        for (rounds, latency) in all[KINDS.len()..].iter_mut().zip(rivals::engine_alone(setting)?) {
            rounds.push(latency);
        }
    }
    let names = KINDS.into_iter().map(Kind::name).chain(["engine, PING", "engine, XADD"]);
    for (name, rounds) in names.zip(&all) {
        for [p50, p99] in rounds {
            println!("{name:17} {:8.0} {:8.0}", *p50 as f64 / 1e3, *p99 as f64 / 1e3);
        }
        let [p50, p99] = [0, 1].map(|nth| median(rounds.iter().map(|round| round[nth] as f64 / 1e3)));
        println!("{name}: median {p50:.0} and {p99:.0} µs");
    }
    Ok(())
}

/// Prints what becomes of events if the engine is killed and started again.
fn kill(setting: &Setting) -> Result<(), Failure> {
    println!(
        "{} events per second to {} subscribers at each of {SEVERAL} nodes; the engine is killed and started again",
        kill::RATE,
        kill::SUBSCRIBERS
    );
    println!("server  acknowledged  lost  duplicates  refused  delivered anyway   gaps  reconnects  longest silence s");
    for _ in 0..setting.rounds {
        for kind in KINDS {
            let toll = kill::round(kind, setting)?;
            let kill::Toll { acknowledged, lost, duplicated, refused, delivered_anyway, gaps, reopened, silence } =
                toll;
            println!(
                "{:6} {acknowledged:13} {lost:5} {duplicated:11} {refused:8} {delivered_anyway:17} {gaps:6} {reopened:11} {:18.2}",
                kind.name(),
                silence.as_secs_f64()
            );
        }
    }
    Ok(())
}

fn last(figures: &[f64]) -> f64 {
    figures.last().copied().unwrap_or(f64::NAN)
}
