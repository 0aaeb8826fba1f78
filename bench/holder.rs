//! Holds idle subscribers, as many as the descriptor limit lets one process have, and checks that each of them gets each
//! event exactly once. Does what it is told on standard input, a word a line, and tells it on standard output, a line
//! of `key=value` each; `bench/million` runs one or many of these. Starts no broker.
//!
//! ```text
//! event     publish one event, check that everybody gets it, tell the milliseconds
//! await     the same for an event that somebody else publishes
//! status    tell how many there are
//! farewell  wait until all streams have ended
//! ```
//! At the end of standard input it ends.

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

use shard::{Got, Shard};

const USAGE: &str =
    "usage: holder ADDRESS:PORT COUNT [--topic NAME] [--source IP] [--in-flight N] [--patience SECONDS]";

/// How long is waited for an event that comes twice.
const SETTLE: Duration = Duration::from_millis(500);

/// What it was started with.
struct Plan {
    broker: SocketAddrV4,
    count: usize,
    topic: String,
    source: Ipv4Addr,
    in_flight: usize,
    patience: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let plan = Plan::parse(std::env::args_os().skip(1))?;
    raise_descriptor_limit()?;
    let mut shard = Shard::new(plan.broker, &plan.topic, plan.source)?;
    let begin = Instant::now();
    shard.connect(plan.count, plan.in_flight)?;
    println!("held {} seconds={:.3}", counts(&shard), begin.elapsed().as_secs_f64());
    let commands = commands(&shard)?;
    loop {
        match commands.try_recv() {
            Ok(command) => obey(&command, &mut shard, plan.patience)?,
            Err(TryRecvError::Empty) => shard.turn(Duration::from_secs(3600))?,
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

impl Plan {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, lexopt::Error> {
        let mut plan = Self {
            broker: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            count: 0,
            topic: "million1".into(),
            source: Ipv4Addr::new(127, 16, 0, 1),
            in_flight: 256,
            patience: Duration::from_secs(120),
        };
        let mut places = 0;
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Value(value) if places == 0 => plan.broker = value.parse()?,
                Arg::Value(value) if places == 1 => plan.count = value.parse()?,
                Arg::Long("topic") => plan.topic = parser.value()?.string()?,
                Arg::Long("source") => plan.source = parser.value()?.parse()?,
                Arg::Long("in-flight") => plan.in_flight = parser.value()?.parse()?,
                Arg::Long("patience") => plan.patience = Duration::from_secs(parser.value()?.parse()?),
                // Cargo says so to every bench.
                Arg::Long("bench") => continue,
                _ => return Err(USAGE.into()),
            }
            places += 1;
        }
        if plan.count == 0 { Err(USAGE.into()) } else { Ok(plan) }
    }
}

/// Raises the soft limit to the hard one.
fn raise_descriptor_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// The lines of standard input, each of which ends the shard's waiting; and so does their end.
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
        // If that fails, nobody is left who waits.
        let _ = waker.wake();
    });
    Ok(receiver)
}

fn obey(command: &str, shard: &mut Shard, patience: Duration) -> Result<(), Box<dyn Error>> {
    match command {
        "event" => {
            shard.publish()?;
            check(shard, patience)
        }
        "await" => {
            shard.listen();
            check(shard, patience)
        }
        "status" => {
            println!("status {}", counts(shard));
            Ok(())
        }
        "farewell" => farewell(shard, patience),
        other => Err(format!("unknown command: {other}").into()),
    }
}

/// Waits until everybody has the event, and for a while after that, and tells what everybody got and when.
fn check(shard: &mut Shard, patience: Duration) -> Result<(), Box<dyn Error>> {
    let (begin, sent_at) = (Instant::now(), unix_micros());
    while shard.counts().reached < shard.counts().held && begin.elapsed() < patience {
        shard.turn(Duration::from_millis(50))?;
    }
    let end = Instant::now() + SETTLE;
    while Instant::now() < end {
        shard.turn(Duration::from_millis(50))?;
    }
    let expected = shard.published().map(|event| reader::hash(event.as_bytes()));
    // Without an event of its own, all must have got what the first one got.
    let expected = expected.or_else(|| shard.got().next().map(|got| got.hash));
    let is_exact = |got: &Got| got.events == 1 && Some(got.hash) == expected;
    let mut delays: Vec<_> = shard.got().filter(is_exact).map(|got| got.at).collect();
    let missing = shard.got().filter(|got| got.events == 0).count();
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

/// Waits until all streams are over, and tells how.
fn farewell(shard: &mut Shard, patience: Duration) -> Result<(), Box<dyn Error>> {
    let (begin, held, mut first) = (Instant::now(), shard.counts().held, None);
    while shard.counts().held > 0 && begin.elapsed() < patience {
        shard.turn(Duration::from_millis(50))?;
        if shard.counts().held < held {
            first.get_or_insert_with(Instant::now);
        }
    }
    println!("farewell {} seconds={:.3}", counts(shard), first.unwrap_or(begin).elapsed().as_secs_f64());
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
