//! Prints the same loads on a broker with one worker and with two.

use crate::scenes::workers::{self, Part, Round};
use crate::scenes::{Setting, median};
use crate::servers::Failure;

/// Prints all parts, each in alternating rounds with one worker and with two.
pub fn print(setting: &Setting) -> Result<(), Failure> {
    println!("CPU time of the broker and of the load, which is one thread, is in seconds per second");
    println!("                                                                            for 1 000 requests:");
    println!("server           part          workers       ops/s  broker CPU  µs each  load CPU  lock waits  wakeups");
    Part::all(setting)
        .into_iter()
        .try_for_each(|part| setting.servers.iter().try_for_each(|name| compare(part, name, setting)))
}

fn compare(part: Part, name: &str, setting: &Setting) -> Result<(), Failure> {
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        let one = measure(part, name, 1, setting)?;
        let two = measure(part, name, 2, setting)?;
        rates.push(two.rate() / one.rate());
        costs.push(two.micros_each() / one.micros_each());
    }
    let (rate, cost) = (median(rates), median(costs));
    println!("{name:16} {:12} median ratios, 2 workers to 1: {rate:.3} ops/s, {cost:.3} µs each", part.name());
    Ok(())
}

/// Measures one round, and prints it.
fn measure(part: Part, name: &str, workers: usize, setting: &Setting) -> Result<Round, Failure> {
    let round = workers::round(part, name, workers, setting)?;
    let [broker, load] =
        [round.spent.cpu.total, round.spent.load].map(|time| time.as_secs_f64() / round.spent.elapsed.as_secs_f64());
    println!(
        "{name:16} {:12} {workers:8} {:11.0} {broker:11.2} {:8.3} {load:9.2} {:11.2} {:8.1}",
        part.name(),
        round.rate(),
        round.micros_each(),
        round.lock_waits,
        round.wakeups
    );
    Ok(round)
}
