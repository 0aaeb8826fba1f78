//! Measures publishing one event to each of many topics with few subscribers, on in-memory sockets as small as a
//! descriptor: the time of the broker's own code per event, without the socket, and without parsing and encoding.
//!
//! - *publish*: the hub's part, from the encoded event to the worker's inbox, with a history that is full.
//! - *fan-out*: the worker's part, from its inbox to the sockets. Measured for a thousand events at a time.
//! - *contention*: 1, 2, 4 and 8 threads publish through one hub, each to its own topics: without subscribers, and with one for
//!   each topic, which another thread serves. How often threads wait for the hub's lock, and wake the one that serves.
//!
//! Run `cargo bench --bench topics`. Times are wall time: the best of many rounds and, in parentheses, the median. Compare the
//! best on a busy machine.

#[path = "../tests/budget/descriptor.rs"]
mod descriptor;
mod rounds;

use std::io::IoSlice;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use descriptor::{Socket, one_worker, one_worker_woken_by};
use esker::internals::hub::{Hub, Position, Refused, TopicName};
use esker::internals::sse::{Framing, UnsequencedFrame, frames_from_text};
use esker::internals::stream::{BUDGET_PER_ITERATION, Streams};
use rounds::{EVENT, best_and_median, floor};

/// Topics, subscribers of each topic that has any, and N: every Nth topic has subscribers.
const SHAPES: [(usize, usize, usize); 4] = [(1_000, 10, 1), (10_000, 1, 1), (100_000, 1, 100), (1, 1, 1)];
/// Events between two iterations of the worker.
const EVENTS: usize = 1_000;
/// The minimum number of events in a measurement.
const MEASURED: usize = 1_000_000;
/// Events that fill the history: as many for each topic as it retains, or as many as its bytes allow.
const WARMING: usize = 2_000_000;
const THREADS: [usize; 4] = [1, 2, 4, 8];
/// Topics of each thread.
const TOPICS: usize = 100;
/// Publishes of each thread.
const PUBLISHES: usize = 1_000_000;
/// How much faster than real time the threads' clock runs. More than one id is assigned per microsecond, and ids must not
/// run far ahead of the clock.
const HURRY: u64 = 8;
/// The time after which a thread tries again to publish, if the worker has too much to do.
const RETRY: Duration = Duration::from_micros(200);
/// The worker looks this often whether the threads have ended.
const LOOK: Duration = Duration::from_millis(1);

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
            subscribe(&all.hub, &mut all.streams, all.names[topic], subscribers);
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
            serve(&mut self.streams, self.millis, start);
        }
        let served = start.elapsed() - published;
        Round { publish: each(published, EVENTS), fan_out: each(served, EVENTS) }
    }
}

/// Opens this many streams of a topic.
fn subscribe(hub: &Hub, streams: &mut Streams<Socket>, topic: TopicName, subscribers: usize) {
    for _ in 0..subscribers {
        let joined = hub.join(0, &[topic], Position::Live).expect("there is room");
        let pending = streams.admit(joined, Framing::Chunked, None);
        streams.start(pending, Socket::new(), 0);
    }
}

/// Serves the streams as in one loop iteration.
fn serve(streams: &mut Streams<Socket>, millis: u32, start: Instant) {
    streams.serve(BUDGET_PER_ITERATION, millis, &|| start.elapsed().as_micros() as u64);
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

/// Measures the socket alone: nanoseconds per write of one event, of the best round and the median one.
fn socket_alone() -> (f64, f64) {
    const SOCKETS: usize = 10_000;
    let slices = [IoSlice::new(EVENT)];
    let mut round = floor(SOCKETS, &slices);
    best_and_median((0..100).map(|_| each(round(), SOCKETS)))
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

/// Measures threads that do nothing but publish, each to its own topics, which have this many subscribers each. This thread is
/// the worker.
fn contend(threads: usize, subscribers: usize) {
    let worker = thread::current();
    let (hub, mut streams) = one_worker_woken_by(Box::new(move || worker.unpark()));
    (0..threads * TOPICS).for_each(|number| subscribe(&hub, &mut streams, topic(number), subscribers));
    let start = Instant::now();
    thread::scope(|scope| {
        let (hub, streams) = (&hub, &mut streams);
        let publishers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || publish_all(hub, thread * TOPICS, start))).collect();
        while !publishers.iter().all(ScopedJoinHandle::is_finished) {
            streams.clear_wake();
            streams.take_inbox();
            serve(streams, start.elapsed().as_millis() as u32, start);
            if !streams.has_work() {
                thread::park_timeout(LOOK);
            }
        }
    });
    print_contention(&hub, threads, subscribers, start.elapsed());
}

/// Publishes one event after the other, to the topics from this one on.
fn publish_all(hub: &Hub, first: usize, start: Instant) {
    let names: Vec<_> = (first..first + TOPICS).map(topic).collect();
    let micros = || start.elapsed().as_micros() as u64 * HURRY + 1;
    for number in 0..PUBLISHES {
        let mut event = event();
        // The worker has too much to do, or this thread was interrupted and has an old time.
        while let Err(Refused::Backpressure(again)) = hub.publish(&names[number % TOPICS], event, micros(), None) {
            event = again;
            thread::sleep(RETRY);
        }
    }
}

fn print_contention(hub: &Hub, threads: usize, subscribers: usize, took: Duration) {
    let (waits, wakes, publishes) = (hub.lock_waits(), hub.wakes().sum::<u64>(), threads * PUBLISHES);
    let per_thousand = |count: u64| count as f64 * 1e3 / publishes as f64;
    println!(
        "{threads:7} {subscribers:11} {:12.0} {:20.2} {:8.2} {:15.2}",
        publishes as f64 / took.as_secs_f64(),
        per_thousand(waits.count),
        per_thousand(wakes),
        waits.time.as_secs_f64() * 1e2 / (took.as_secs_f64() * threads as f64),
    );
}

fn main() {
    // cargo passes this to every bench, but not when it runs one as a test (`cargo test --all-targets`).
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(" topics subscribers  publish, ns     fan-out, ns     both, ns: best (median)");
    SHAPES.iter().for_each(|&shape| measure(shape));
    println!("                               for 1 000 publishes:           % of the threads' time");
    println!("threads subscribers  publishes/s      waits for the lock  wakeups        waiting");
    [0, 1].iter().for_each(|&subscribers| THREADS.iter().for_each(|&threads| contend(threads, subscribers)));
}
