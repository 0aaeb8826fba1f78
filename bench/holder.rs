//! Holds idle subscribers, as many as one process's descriptor limit allows, and checks that each of them gets each event
//! exactly once. Reads commands from standard input, one word per line, and writes results to standard output as lines of
//! `key=value`. `bench/million` runs one or more of these. Starts no broker.
//!
//! ```text
//! event     publish an event, check that every subscriber gets it, print the milliseconds
//! await     wait for an event from another publisher, and check it like `event`
//! status    print the counts
//! drained   wait until all streams have ended
//! ```
//! Exits at the end of standard input.

#[path = "holder/reader.rs"]
mod reader;
#[path = "holder/shard.rs"]
mod shard;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lexopt::{Arg, ValueExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use shard::{Received, Shard};

const USAGE: &str =
    "usage: holder ADDRESS:PORT COUNT [--topic NAME] [--source IP] [--in-flight N] [--patience SECONDS]";

/// How long to wait for duplicates of an event.
const SETTLE: Duration = Duration::from_millis(500);

/// The command line.
struct Options {
    broker: SocketAddrV4,
    count: usize,
    topic: String,
    source: Ipv4Addr,
    in_flight: usize,
    patience: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args_os().skip(1))?;
    raise_descriptor_limit()?;
    let mut shard = Shard::new(options.broker, &options.topic, options.source)?;
    let begin = Instant::now();
    shard.connect(options.count, options.in_flight)?;
    println!("held {} seconds={:.3}", counts(&shard), begin.elapsed().as_secs_f64());
    let commands = commands(&shard)?;
    loop {
        match commands.try_recv() {
            Ok(command) => run_command(&command, &mut shard, options.patience)?,
            Err(TryRecvError::Empty) => shard.run(Duration::from_secs(3600))?,
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

impl Options {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut options = Self {
            broker: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            count: 0,
            topic: "million1".into(),
            source: Ipv4Addr::new(127, 16, 0, 1),
            in_flight: 256,
            patience: Duration::from_secs(120),
        };
        let mut positional = 0;
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Value(value) if positional == 0 => options.broker = value.parse()?,
                Arg::Value(value) if positional == 1 => options.count = value.parse()?,
                Arg::Long("topic") => options.topic = parser.value()?.string()?,
                Arg::Long("source") => options.source = parser.value()?.parse()?,
                Arg::Long("in-flight") => options.in_flight = parser.value()?.parse()?,
                Arg::Long("patience") => options.patience = Duration::from_secs(parser.value()?.parse()?),
                // Cargo passes this to every bench.
                Arg::Long("bench") => continue,
                _ => return Err(USAGE.into()),
            }
            positional += 1;
        }
        if options.count == 0 { Err(USAGE.into()) } else { Ok(options) }
    }
}

/// Raises the soft limit to the hard limit.
fn raise_descriptor_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Reads the lines of standard input. Each line, and the end of input, wakes the shard.
fn commands(shard: &Shard) -> io::Result<Receiver<String>> {
    let (sender, receiver) = mpsc::channel();
    let waker = shard.waker()?;
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let is_heard = sender.send(line).is_ok() && waker.wake().is_ok();
            if !is_heard {
                return;
            }
        }
        drop(sender);
        // If this fails, no thread is waiting any more.
        let _ = waker.wake();
    });
    Ok(receiver)
}

fn run_command(command: &str, shard: &mut Shard, patience: Duration) -> Result<(), Box<dyn Error>> {
    match command {
        "event" => {
            shard.publish()?;
            check(shard, patience)
        }
        "await" => {
            shard.start_counting();
            check(shard, patience)
        }
        "status" => {
            println!("status {}", counts(shard));
            Ok(())
        }
        "drained" => wait_for_end(shard, patience),
        other => Err(format!("unknown command: {other}").into()),
    }
}

/// Waits until all subscribers have the event, then for duplicates, and prints what they received and when.
fn check(shard: &mut Shard, patience: Duration) -> Result<(), Box<dyn Error>> {
    let (begin, sent_at) = (Instant::now(), unix_micros());
    while shard.counts().reached < shard.counts().held && begin.elapsed() < patience {
        shard.run(Duration::from_millis(50))?;
    }
    let end = Instant::now() + SETTLE;
    while Instant::now() < end {
        shard.run(Duration::from_millis(50))?;
    }
    let expected = shard.published().map(|event| reader::hash(event.as_bytes()));
    // If this process published no event, all subscribers must have received the same as the first.
    let expected = expected.or_else(|| shard.received().next().map(|received| received.hash));
    let is_exact = |received: &Received| received.events == 1 && Some(received.hash) == expected;
    let mut delays: Vec<_> = shard.received().filter(is_exact).map(|received| received.at).collect();
    let missing = shard.received().filter(|received| received.events == 0).count();
    let (exact, held) = (delays.len(), shard.counts().held);
    delays.sort_unstable();
    let delay = |part: f64| {
        let index = ((exact as f64 * part).ceil() as usize).max(1) - 1;
        delays.get(index).map_or(f64::NAN, |&micros| f64::from(micros) / 1000.0)
    };
    println!(
        "event exact={exact} missing={missing} wrong={} first_ms={:.2} median_ms={:.2} p99_ms={:.2} last_ms={:.2} \
         sent_at={sent_at} {}",
        held - exact - missing,
        delay(0.0),
        delay(0.5),
        delay(0.99),
        delay(1.0),
        counts(shard),
    );
    Ok(())
}

/// Waits until all streams have ended, and prints the counts.
fn wait_for_end(shard: &mut Shard, patience: Duration) -> Result<(), Box<dyn Error>> {
    let (begin, held, mut first) = (Instant::now(), shard.counts().held, None);
    while shard.counts().held > 0 && begin.elapsed() < patience {
        shard.run(Duration::from_millis(50))?;
        if shard.counts().held < held {
            first.get_or_insert_with(Instant::now);
        }
    }
    println!("drained {} seconds={:.3}", counts(shard), first.unwrap_or(begin).elapsed().as_secs_f64());
    Ok(())
}

fn counts(shard: &Shard) -> String {
    let counts = shard.counts();
    format!(
        "held={} ended={} lost={} bad={} heartbeats={}",
        counts.held, counts.ended, counts.lost, counts.bad, counts.heartbeats
    )
}

fn unix_micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros())
}
