//! Measures one worker's streams with 10 000, 100 000 and 1 000 000 subscribers on in-memory sockets as small as a
//! descriptor: memory per subscriber, and the time of the broker's own code per delivery, join, leave and check of the sweep.
//! Driven by the same calls as the simulation. Other benches measure the kernel's time and memory.
//!
//! Run `cargo bench --bench crowd`, or choose the counts: `cargo bench --bench crowd -- 5000`. Times are wall time on one
//! thread: the best of many rounds and, in parentheses, the median. Compare the best on a busy machine.

#[path = "../tests/budget/descriptor.rs"]
mod descriptor;
mod rounds;

use std::alloc::System;
use std::io::IoSlice;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use descriptor::{BYTES, Socket, one_worker};
use esker::internals::hub::{Hub, Position, TopicName};
use esker::internals::sse::{Framing, frames_from_text};
use esker::internals::stream::{BUDGET_PER_ITERATION, Close, Silence, Streams};
use fastrand::Rng;
use rounds::{EVENT, best_and_median, floor};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const COUNTS: [&str; 3] = ["10000", "100000", "1000000"];
/// The argument that makes this program measure a single count.
const ALONE: &str = "--alone";
const SPREAD: usize = 1000;
const BURST: usize = 64;
const JOINS_PER_ITERATION: usize = 128;
/// How often a random half of the subscribers leaves and is replaced.
const CHURNS: usize = 4;
/// The minimum number of deliveries in a measurement of time.
const DELIVERIES: usize = 10_000_000;
/// The minimum number of rounds in a measurement of time.
const ROUNDS: usize = 20;

/// One worker's subscribers, and the hub that they have joined.
struct Crowd {
    hub: Arc<Hub>,
    streams: Streams<Socket>,
    topics: Vec<TopicName>,
    keys: Vec<u32>,
    rng: Rng,
    micros: u64,
    millis: u32,
    /// Read as often as a broker reads its clock.
    clock: Instant,
}

impl Crowd {
    /// Creates a crowd without subscribers, but with room for the keys of `count`, so that the bench's own memory does not grow.
    fn new(topics: usize, count: usize) -> Self {
        let (hub, streams) = one_worker();
        let topic = |number| TopicName::parse(&format!("topic{number:05}")).expect("a topic");
        let mut keys = vec![1; count];
        keys.clear();
        Self {
            hub,
            streams,
            topics: (0..topics).map(topic).collect(),
            keys,
            rng: Rng::with_seed(1),
            micros: 1,
            millis: 0,
            clock: Instant::now(),
        }
    }

    /// Adds `count` live subscribers, some in each loop iteration. Returns how long that took.
    fn join(&mut self, count: usize) -> Duration {
        self.join_at(count, Position::Live)
    }

    /// Adds subscribers that begin at a position. Returns how long that took.
    fn join_at(&mut self, count: usize, position: Position<'_>) -> Duration {
        let start = Instant::now();
        for joined in 1..=count {
            let topic = self.topics[self.rng.usize(..self.topics.len())];
            let admitted = self.hub.join(0, &[topic], position).expect("there is room");
            let pending = self.streams.admit(admitted, Framing::Chunked, None);
            self.keys.push(self.streams.next_key());
            self.streams.start(pending, Socket::new(), self.millis);
            if joined % JOINS_PER_ITERATION == 0 || joined == count {
                self.serve();
            }
        }
        start.elapsed()
    }

    /// Removes `count` random subscribers. Returns how long that took.
    fn leave(&mut self, count: usize) -> Duration {
        self.rng.shuffle(&mut self.keys);
        let start = Instant::now();
        for _ in 0..count {
            self.streams.remove(self.keys.pop().expect("a subscriber"), Close::Peer);
            self.streams.take_closed().for_each(drop);
        }
        start.elapsed()
    }

    /// Serves everything that is due. Returns how long that took.
    fn serve(&mut self) -> Duration {
        let start = Instant::now();
        self.streams.take_inbox();
        while self.streams.has_work() {
            self.streams.serve(BUDGET_PER_ITERATION, self.millis, &|| self.clock.elapsed().as_micros() as u64);
        }
        start.elapsed()
    }

    /// Publishes `events` events to each topic at once and serves them. Returns how long serving took.
    fn deliver(&mut self, events: usize) -> Duration {
        self.millis += 1;
        let body = "data: hello, world\n\n".repeat(events);
        for topic in &self.topics {
            let frames = frames_from_text(&body).expect("a good body");
            self.hub.publish(topic, frames, self.micros + 1, None).expect("there is room");
            // The last event's id: ids too far ahead of the clock would be refused.
            self.micros += events as u64;
        }
        let before = BYTES.load(Ordering::Relaxed);
        let took = self.serve();
        let expected = self.keys.len() * events * "data: hello, world\n\n".len();
        assert!(BYTES.load(Ordering::Relaxed) - before >= expected, "every subscriber gets every event");
        took
    }

    /// Sweeps all subscribers, which have been silent for `silent` milliseconds; a heartbeat is sent after 1000. Returns how
    /// long that took.
    fn sweep(&mut self, silent: u32) -> Duration {
        self.millis += silent;
        let silence = Silence { heartbeat: 1000, stall: 2000 };
        let start = Instant::now();
        self.streams.begin_sweep();
        while self.streams.continue_sweep(silence, self.millis) {}
        start.elapsed()
    }

    /// Drains all streams. Returns how long that took.
    fn drain(&mut self) -> Duration {
        let start = Instant::now();
        while self.streams.drain(usize::MAX, BUDGET_PER_ITERATION, self.millis) {
            self.streams.take_closed().for_each(drop);
        }
        start.elapsed()
    }
}

/// The results for one number of subscribers: rows of a name and figures.
struct Column {
    count: usize,
    rows: Vec<(&'static str, String)>,
}

impl Column {
    fn put(&mut self, name: &'static str, figure: String) {
        self.rows.push((name, figure));
    }

    /// Adds a row: bytes per subscriber.
    fn bytes(&mut self, name: &'static str, bytes: isize) {
        self.put(name, format!("{:.1}", bytes as f64 / self.count as f64));
    }

    /// Adds a row: nanoseconds per subscriber, measured in one round.
    fn once(&mut self, name: &'static str, took: Duration, subscribers: usize) {
        self.put(name, format!("{:.0}", took.as_nanos() as f64 / subscribers as f64));
    }

    /// Adds a row: nanoseconds per subscriber, of the best round and the median one.
    fn rounds(&mut self, name: &'static str, mut round: impl FnMut() -> Duration) {
        let rounds = ROUNDS.max(DELIVERIES / self.count);
        let (best, median) = best_and_median((0..rounds).map(|_| round().as_nanos() as f64 / self.count as f64));
        self.put(name, format!("{best:.1} ({median:.1})"));
    }
}

fn heap() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Returns the sum of these lines of a file in /proc/self, whose values are in kB, in bytes; 0 if there is no such file.
fn proc(file: &str, lines: &[&str]) -> isize {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let numbers = text.lines().filter(|line| lines.iter().any(|name| line.starts_with(name)));
    numbers.filter_map(|line| line.split_whitespace().nth(1)?.parse::<isize>().ok()).sum::<isize>() << 10
}

fn private() -> isize {
    proc("smaps_rollup", &["Private_"])
}

/// Measures the memory that adding subscribers takes, during and after it.
fn grow(column: &mut Column) -> Crowd {
    let mut crowd = Crowd::new(1, column.count);
    crowd.join(1);
    let _ = std::fs::write("/proc/self/clear_refs", "5"); // Resets the peak.
    let (heap_before, private_before, resident_before) = (heap(), private(), proc("status", &["VmRSS"]));
    let took = crowd.join(column.count - 1);
    column.bytes("heap bytes", heap() - heap_before);
    column.bytes("private bytes", private() - private_before);
    column.bytes("peak resident bytes while growing", proc("status", &["VmHWM"]) - resident_before);
    column.once("join, ns", took, column.count);
    crowd
}

/// Measures memory right after the vectors doubled, when they are largest in relation to their content.
fn grow_beyond(column: &mut Column) {
    let count = column.count.next_power_of_two() + 1;
    let mut crowd = Crowd::new(1, count);
    let before = heap();
    crowd.join(count);
    column.put("heap bytes right after doubling", format!("{:.1}", (heap() - before) as f64 / count as f64));
}

fn churn(crowd: &mut Crowd, column: &mut Column) {
    let half = column.count / 2;
    let (mut left, mut joined) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..CHURNS {
        left += crowd.leave(half);
        joined += crowd.join(half);
    }
    column.once("leave, ns", left, CHURNS * half);
    column.once("join in place of one who left, ns", joined, CHURNS * half);
}

/// Reconnects half of the subscribers from a position before the last events.
fn reconnect(crowd: &mut Crowd, column: &mut Column) {
    let position = crowd.micros.to_string();
    crowd.deliver(BURST);
    crowd.leave(column.count / 2);
    crowd.streams.take_counters();
    let took = crowd.join_at(column.count / 2, Position::After(&position));
    let (events, gaps) = (column.count / 2 * BURST, 0);
    let counters = crowd.streams.take_counters();
    assert_eq!((counters.delivered as usize, counters.gaps), (events, gaps), "each gets exactly what it missed");
    column.once("join and catch up with 64 events, ns", took, column.count / 2);
}

fn measure(count: usize) -> Column {
    let mut column = Column { count, rows: Vec::new() };
    let mut crowd = grow(&mut column);
    column.rounds("the socket alone, 1 slice, ns", floor(count, &[IoSlice::new(EVENT)]));
    column.rounds("the socket alone, 64 slices, ns", floor(count, &[IoSlice::new(EVENT); BURST]));
    column.rounds("delivery of 1 event, ns", || crowd.deliver(1));
    column.rounds("delivery of 64 events at once, ns", || crowd.deliver(BURST));
    column.rounds("sweep, nobody silent, ns", || crowd.sweep(0));
    column.rounds("sweep, everybody silent, ns", || crowd.sweep(1000));
    churn(&mut crowd, &mut column);
    column.rounds("delivery of 1 event after churn, ns", || crowd.deliver(1));
    column.rounds("delivery of 64 at once after churn, ns", || crowd.deliver(BURST));
    column.rounds("sweep, everybody silent, after churn, ns", || crowd.sweep(1000));
    reconnect(&mut crowd, &mut column);
    column.once("drain, ns", crowd.drain(), count);
    drop(crowd);
    let mut spread = Crowd::new(SPREAD, count);
    spread.join(count);
    column.rounds("delivery of 1 event to each of 1000 topics, ns", || spread.deliver(1));
    spread.leave(count / 2);
    spread.join(count / 2);
    column.rounds("the same after churn, ns", || spread.deliver(1));
    grow_beyond(&mut column);
    column
}

/// Measures a count in a process of its own: otherwise memory that one measurement returned would be used by the next.
fn measure_apart(count: &str) -> Vec<(String, String)> {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program).args([ALONE, count]).stderr(Stdio::inherit()).output().expect("it runs again");
    assert!(output.status.success(), "measuring {count} failed");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().filter_map(|line| line.split_once('\t')).map(|(name, figure)| (name.into(), figure.into())).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [alone, count] = &arguments[..]
        && alone == ALONE
    {
        let rows = measure(count.parse().expect("a number")).rows;
        return rows.iter().for_each(|(name, figure)| println!("{name}\t{figure}"));
    }
    // cargo passes this to every bench, but not when it runs one as a test (`cargo test --all-targets`).
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let own = arguments.into_iter().filter(|argument| argument.parse::<usize>().is_ok());
    let counts = Some(own.collect::<Vec<_>>()).filter(|own| !own.is_empty());
    let counts = counts.unwrap_or_else(|| COUNTS.map(str::to_owned).to_vec());
    let columns: Vec<_> = counts.iter().map(|count| measure_apart(count)).collect();
    let line = |name: &str, figures: Vec<&String>| {
        println!("{name:<48}{}", figures.iter().map(|figure| format!("{figure:>18}")).collect::<String>());
    };
    line("per subscriber; times: best (median)", counts.iter().collect());
    for (index, (name, _)) in columns[0].iter().enumerate() {
        line(name, columns.iter().map(|column| &column[index].1).collect());
    }
}
