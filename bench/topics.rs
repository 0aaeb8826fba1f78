//! Measures publishing one event to each of many topics with few subscribers, on in-memory sockets as small as a
//! descriptor: the time of the broker's own code per event, without the socket, and without parsing and encoding.
//!
//! - *publish*: the hub's part, from the encoded event to the worker's inbox, with a history that is full.
//! - *fan-out*: the worker's part, from its inbox to the sockets. Measured for a thousand events at a time.
//! - *contention*: 1, 2, 4 and 8 threads publish through one hub, each to its own topics.
//!
//! Run `cargo bench --bench topics`. Times are wall time: the best of many rounds and, in parentheses, the median. Compare the
//! best on a busy machine.

#[path = "../tests/budget/descriptor.rs"]
mod descriptor;

use std::io::{IoSlice, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use descriptor::{Socket, one_worker};
use esker::internals::hub::{Hub, Position, Refused, TopicName};
use esker::internals::sse::{Framing, UnsequencedFrame, frames_from_text};
use esker::internals::stream::{BUDGET_PER_ITERATION, Streams};

/// Topics, subscribers of each topic that has any, and N: every Nth topic has subscribers.
const SHAPES: [(usize, usize, usize); 4] = [(1_000, 10, 1), (10_000, 1, 1), (100_000, 1, 100), (1, 1, 1)];
/// Events between two iterations of the worker.
const EVENTS: usize = 1_000;
/// The minimum number of events in a measurement.
const MEASURED: usize = 1_000_000;
/// Events that fill the history: as many for each topic as it retains, or as many as its bytes allow.
const WARMING: usize = 2_000_000;
const THREADS: [usize; 4] = [1, 2, 4, 8];
/// Publishes of each thread.
const PUBLISHES: usize = 1_000_000;
/// How much faster than real time the threads' clock runs. More than one id is assigned per microsecond, and ids must not
/// run far ahead of the clock.
const HURRY: u64 = 8;

/// A hub, a worker and the topics that events are published to, in turn.
struct Topics {
    hub: Arc<Hub>,
    streams: Streams<Socket>,
    names: Vec<TopicName>,
    /// The number of the next topic.
    next: usize,
    micros: u64,
    millis: u32,
}

/// The nanoseconds per event of one round.
#[derive(Clone, Copy)]
struct Round {
    publish: f64,
    fan_out: f64,
}

impl Topics {
    fn new((topics, subscribers, every): (usize, usize, usize)) -> Self {
        let (hub, streams) = one_worker();
        let names = (0..topics).map(topic).collect();
        let mut all = Self { hub, streams, names, next: 0, micros: 1, millis: 0 };
        for topic in (0..topics).step_by(every) {
            for _ in 0..subscribers {
                let joined = all.hub.join(0, &[all.names[topic]], Position::Live).expect("there is room");
                let pending = all.streams.admit(joined, Framing::Chunked, None);
                all.streams.start(pending, Socket::new(), 0);
            }
        }
        all
    }

    /// Publishes an event to each of the next topics, and serves them.
    fn round(&mut self) -> Round {
        self.millis += 1;
        let events: Vec<_> = (0..EVENTS).map(|_| event()).collect();
        let start = Instant::now();
        for event in events {
            self.micros += 1;
            self.hub.publish(&self.names[self.next], event, self.micros, Some(0)).expect("there is room");
            self.next = (self.next + 1) % self.names.len();
        }
        let published = start.elapsed();
        self.streams.take_inbox();
        while self.streams.has_work() {
            self.streams.serve(BUDGET_PER_ITERATION, self.millis, &|| start.elapsed().as_micros() as u64);
        }
        let served = start.elapsed() - published;
        Round { publish: each(published, EVENTS), fan_out: each(served, EVENTS) }
    }
}

fn topic(number: usize) -> TopicName {
    TopicName::parse(&format!("topic{number:06}")).expect("a topic")
}

fn event() -> Vec<UnsequencedFrame> {
    frames_from_text("data: hello, world\n\n").expect("an event")
}

fn each(took: Duration, count: usize) -> f64 {
    took.as_nanos() as f64 / count as f64
}

/// Returns the smallest figure and the median.
fn best_and_median(figures: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    (figures[0], figures[figures.len() / 2])
}

/// Measures the socket alone: nanoseconds per write of one event, of the best round and the median one.
fn socket_alone() -> (f64, f64) {
    let slices = [IoSlice::new(b"2a\r\ndata: hello, world\nid: 1763000000000000\n\n\r\n")];
    let mut sockets: Vec<_> = (0..10_000).map(|_| Socket::new()).collect();
    let rounds = (0..100).map(|_| {
        let start = Instant::now();
        sockets.iter_mut().for_each(|socket| assert!(socket.write_vectored(&slices).is_ok()));
        each(start.elapsed(), sockets.len())
    });
    best_and_median(rounds)
}

fn measure(shape: (usize, usize, usize)) {
    let (topics, subscribers, every) = shape;
    let mut all = Topics::new(shape);
    (0..WARMING / EVENTS).for_each(|_| {
        all.round();
    });
    let rounds: Vec<_> = (0..MEASURED.max(topics) / EVENTS).map(|_| all.round()).collect();
    let (socket, socket_median) = socket_alone();
    let without_socket = |(best, median): (f64, f64)| {
        let writes = subscribers as f64 / every as f64;
        (best - socket * writes, median - socket_median * writes)
    };
    let publish = best_and_median(rounds.iter().map(|round| round.publish));
    let fan_out = without_socket(best_and_median(rounds.iter().map(|round| round.fan_out)));
    let sum = without_socket(best_and_median(rounds.iter().map(|round| round.publish + round.fan_out)));
    print!("{topics:7} {:11}", topics.div_ceil(every) * subscribers);
    [publish, fan_out, sum].iter().for_each(|(best, median)| print!(" {best:8.0} ({median:4.0})"));
    println!();
}

/// Measures the publish rate of threads that do nothing else, to topics without subscribers.
fn contend(threads: usize) {
    let (hub, _streams) = one_worker();
    let start = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let hub = &hub;
            scope.spawn(move || {
                let names: Vec<_> = (0..100).map(|number| topic(thread * 100 + number)).collect();
                let micros = || start.elapsed().as_micros() as u64 * HURRY + 1;
                for number in 0..PUBLISHES {
                    let mut event = event();
                    // A thread that was interrupted has an old time.
                    while let Err(Refused::Backpressure(again)) =
                        hub.publish(&names[number % names.len()], event, micros(), None)
                    {
                        event = again;
                    }
                }
            });
        }
    });
    let took = start.elapsed();
    println!("{threads:7} {:12.0}", (threads * PUBLISHES) as f64 / took.as_secs_f64());
}

fn main() {
    // cargo passes this to every bench, but not when it runs one as a test (`cargo test --all-targets`).
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(" topics subscribers  publish, ns     fan-out, ns     both, ns: best (median)");
    SHAPES.iter().for_each(|&shape| measure(shape));
    println!("threads  publishes/s");
    THREADS.iter().for_each(|&threads| contend(threads));
}
