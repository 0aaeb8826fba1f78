//! Prints brokers on one engine, part by part.

use super::rivals;
use crate::scenes::engine::append::{self, Publishing};
use crate::scenes::engine::{PARTS, PER_ENTRY, RIVALS, SEVERAL, fanout, follow, latency, memory, start};
use crate::scenes::{Setting, median};
use crate::servers::Failure;

/// Prints these parts.
pub fn print(setting: &Setting) -> Result<(), Failure> {
    setting.parts.iter().try_for_each(|part| {
        println!("{part}:");
        match part.as_str() {
            "append" => append(setting),
            "latency" => latency(setting),
            "follow" => follow(setting),
            "start" => start(setting),
            "memory" => memory(setting),
            "fanout" => fanout(setting),
            RIVALS => rivals::print(setting),
            other => Err(format!("there is no part {other:?}; there are {}, {RIVALS}", PARTS.join(", ")).into()),
        }
    })
}

/// Prints appends by one broker, and by several: first those that happen to wait at the same time as one entry, then entries
/// of a fixed size.
fn append(setting: &Setting) -> Result<(), Failure> {
    println!("brokers  publishers  a request  events/s  per entry  floor/s  share  broker µs  engine µs");
    let single = |brokers, publishers| Publishing { brokers, publishers, per_request: 1 };
    let mut cases: Vec<_> = setting.connections.iter().map(|&publishers| single(1, publishers)).collect();
    cases.push(single(SEVERAL, SEVERAL * PER_ENTRY));
    // While one request of a broker is being appended, the next one arrives.
    let full = |brokers| Publishing { brokers, publishers: 2 * brokers, per_request: PER_ENTRY };
    cases.extend([full(1), full(SEVERAL)]);
    for publishing in cases {
        let mut shares = Vec::new();
        let Publishing { brokers, publishers, per_request } = publishing;
        let case = format!("{brokers:7} {publishers:11} {per_request:10}");
        for _ in 0..setting.rounds {
            let round = append::round(publishing, setting)?;
            let (rate, floor, [brokers, engine]) = (round.rate(), round.floor(), round.micros_each());
            let share = rate / floor;
            println!(
                "{case} {rate:9.0} {:10.1} {floor:8.0}  {share:.3} {brokers:10.2} {engine:10.2}",
                round.per_entry()
            );
            shares.push(share);
        }
        println!("{case} median share: {:.3}", median(shares));
    }
    Ok(())
}

/// Prints latency from publisher to subscriber.
fn latency(setting: &Setting) -> Result<(), Failure> {
    println!("published            p50 µs   p99 µs  p50 × local  p99 × local");
    let mut all: [Vec<latency::Latency>; 4] = Default::default();
    let names = ["without an engine", "at the same broker", "at another broker", "only to the disk"];
    for _ in 0..setting.rounds {
        all[0].push(latency::local(setting)?);
        all[1].push(latency::shared(setting, false)?);
        all[2].push(latency::shared(setting, true)?);
        all[3].push(latency::disk(setting)?);
    }
    let medians = all.map(|rounds| [0, 1].map(|nth| median(rounds.iter().map(|round| round[nth] as f64 / 1e3))));
    for (name, [p50, p99]) in names.iter().zip(medians) {
        let [local50, local99] = medians[0];
        println!("{name:18} {p50:8.0} {p99:8.0} {:12.2} {:12.2}", p50 / local50, p99 / local99);
    }
    Ok(())
}

/// Prints the CPU time of events that nobody subscribes to.
fn follow(setting: &Setting) -> Result<(), Failure> {
    println!("µs an event: without an engine  publishing  following  engine  following × without   events/s");
    let (mut all, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        let follow::Following { local, publishing, following, engine, rate } = follow::round(setting)?;
        println!("{local:30.3} {publishing:11.3} {following:10.3} {engine:7.3} {:20.3} {rate:10.0}", following / local);
        all.push(following);
        ratios.push(following / local);
    }
    println!("median: {:.3} µs, {:.3} × without an engine", median(all), median(ratios));
    Ok(())
}

/// Prints starts with a long log.
fn start(setting: &Setting) -> Result<(), Failure> {
    println!("{} events, {PER_ENTRY} in an entry\n     s  events/s  µs an event  private MB", setting.events);
    let mut rates = Vec::new();
    for round in start::measure(setting)? {
        let rate = setting.events as f64 / round.elapsed.as_secs_f64();
        let micros = round.cpu.as_secs_f64() * 1e6 / setting.events as f64;
        let megabytes = round.private_bytes as f64 / 1e6;
        println!("{:6.3} {rate:9.0} {micros:12.3} {megabytes:11.1}", round.elapsed.as_secs_f64());
        rates.push(rate);
    }
    println!("median: {:.0} events/s", median(rates));
    Ok(())
}

/// Prints what events cost the engine.
fn memory(setting: &Setting) -> Result<(), Failure> {
    println!("events  per entry  own ids  bytes each: encoded  memory    file  engine µs an entry  an event");
    for (per_entry, events) in [(1, setting.events.div_ceil(PER_ENTRY)), (PER_ENTRY, setting.events)] {
        for has_ids in [false, true] {
            let memory::Cost { encoded, memory, file, micros_per_entry } =
                memory::measure(setting, events, per_entry, has_ids)?;
            let ids = if has_ids { "yes" } else { "no" };
            println!(
                "{events:6} {per_entry:10} {ids:>8} {encoded:20.1} {memory:7.1} {file:7.1} {micros_per_entry:19.1} {:9.2}",
                micros_per_entry / per_entry as f64
            );
        }
    }
    Ok(())
}

/// Prints the delivery to the subscribers of several brokers.
fn fanout(setting: &Setting) -> Result<(), Failure> {
    println!("engine   brokers  subscribers each  deliveries   p50 ms   p99 ms");
    let mut ratios = Vec::new();
    for _ in 0..setting.rounds {
        let (local, shared) = (fanout::local(setting)?, fanout::shared(setting)?);
        let of_all = SEVERAL * setting.subscribers;
        for (name, subscribers, round) in [("without", of_all, &local), ("with", setting.subscribers, &shared)] {
            let [p50, p99] = [round.p50, round.p99].map(|nanos| nanos as f64 / 1e6);
            let brokers = of_all / subscribers;
            println!("{name:7} {brokers:8} {subscribers:17} {:11} {p50:8.2} {p99:8.2}", round.delivered);
        }
        ratios.push(shared.p99 as f64 / local.p99 as f64);
    }
    println!("median of p99 × one broker without an engine: {:.3}", median(ratios));
    Ok(())
}
