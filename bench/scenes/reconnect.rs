//! Subscribers that all come back after a restart, each with its position. The broker stops, starts again, loads its
//! history and sends each subscriber what it has missed, while a publisher continues.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::Setting;
use crate::load::{self, Histogram, Load, Requesters, TIMEOUT};
use crate::procs::{self, Spent, Stopwatch};
use crate::servers::{self, Failure, Running, Scratch, esker};

/// Subscribers come back evenly spread over this time, or over the configured one if that is shorter.
const WITHIN: Duration = Duration::from_secs(1);
/// Enough history for all events of a round.
const HISTORY: [&str; 2] = ["--history", "100000"];
/// While the subscribers come back, one in this many publishes goes to them. The others go to a topic without subscribers,
/// because delivering them would cost more than what is measured.
const PER_DELIVERED: u64 = 25;
const TOPIC_OF_OTHERS: &str = "withoutsubscribers";
/// Publishes per second, unless the command line asks for others.
const RATE: f64 = 100.0;
/// Sockets handled at once, so that the next publish is sent and its response read on time.
const AT_ONCE: usize = 64;
/// Time in which an event that is sent twice would arrive.
const SETTLING: Duration = Duration::from_millis(100);

/// The results of a round.
pub struct Reconnect {
    /// Streams that began again.
    pub opened: u64,
    /// Time from the first connection until the last subscriber had all that was published.
    pub elapsed: Duration,
    pub spent: Spent,
    /// Time from connect(2) until the response began, and until the first event.
    pub opening: Histogram,
    pub first_event: Histogram,
    /// Time from when a publish was due until its response.
    pub publishing: Histogram,
    pub private_bytes: u64,
}

impl Reconnect {
    /// Returns the server's CPU time per stream, in microseconds.
    pub fn micros_each(&self) -> f64 {
        self.spent.micros_each(self.opened)
    }
}

/// Interrupts all subscribers of a new broker, restarts it at the same address, and lets them come back.
pub fn round(name: &str, setting: &Setting) -> Result<Reconnect, Failure> {
    if setting.burst < 2 {
        return Err("a burst of at least 2 events has a half to miss".into());
    }
    let (program, scratch) = (servers::build(name)?, Scratch::new()?);
    let data = scratch.path().join("data");
    let server = esker::start_build_on(program, &data, &HISTORY, &setting.server_cores)?;
    let port = server.subscribe_at.port().to_string();
    let requests = interrupt(&server, setting)?;
    drop(server);
    let options = [HISTORY, ["--port", &port]].concat();
    let server = esker::start_build_on(program, &data, &options, &setting.server_cores)?;
    come_back(&server, &requests, setting)
}

/// Returns the time over which the subscribers come back.
fn within(setting: &Setting) -> f64 {
    WITHIN.min(setting.duration).as_secs_f64()
}

/// Returns the number of events of each topic that its subscribers receive before they are interrupted.
fn received(setting: &Setting) -> u32 {
    setting.burst / 2
}

/// Publishes half of the events to subscribers, and the others when these have disconnected. Returns the request with which the
/// subscribers of each topic come back.
fn interrupt(server: &Running, setting: &Setting) -> Result<Vec<String>, Failure> {
    let mut load = Load::new(server, setting.topics(), setting.size)?;
    load.subscribe(setting.subscribers)?;
    let half = received(setting);
    let requests = (0..load.topics()).map(|topic| {
        let response = load.publish_and_wait(topic, half)?;
        Ok(esker::subscribe_after(&load::topic_name(topic), &id_in(&response)?))
    });
    let requests = requests.collect::<Result<_, Failure>>()?;
    let goal = setting.subscribers as u64 * u64::from(half);
    load.run_until("the events before the interruption", |load| load.counters.delivered >= goal)?;
    load.counters.check()?;
    load.disconnect();
    (0..load.topics()).try_for_each(|topic| load.publish_and_wait(topic, setting.burst - half).map(drop))?;
    Ok(requests)
}

/// Returns the id in a response to a publish: that of its last event.
fn id_in(response: &str) -> Result<String, Failure> {
    let id = response.split_once(r#"{"id":""#).and_then(|(_, rest)| rest.split_once('"'));
    Ok(id.ok_or_else(|| format!("no id in {response}"))?.0.to_owned())
}

/// Connects all subscribers again, and waits until each has everything that it has missed.
fn come_back(server: &Running, requests: &[String], setting: &Setting) -> Result<Reconnect, Failure> {
    let mut load = Load::new(server, setting.topics(), setting.size)?;
    load.handle_at_most(AT_ONCE);
    let next = NonZeroU32::MIN.saturating_add(received(setting));
    let missed = setting.burst - received(setting);
    let owed = Cell::new(setting.subscribers as u64 * u64::from(missed));
    let rate = setting.rate.unwrap_or(RATE);
    let request = publishes(setting, (rate * within(setting)) as u64, &owed);
    let mut publisher = Requesters::connect(&[server.publish_at], 1, request)?;
    let mut publishing = Histogram::default();
    let interval = within(setting) / setting.subscribers as f64;
    let (stopwatch, begin, mut elapsed) = (Stopwatch::start(server.root.id()), Instant::now(), Duration::ZERO);
    publisher.run_while(rate, &mut publishing, || {
        let returned = load.subscribers();
        if returned < setting.subscribers && elapsed.as_secs_f64() >= interval * returned as f64 {
            load.join(&requests[returned % requests.len()], next)?;
        }
        load.run(Duration::ZERO)?;
        elapsed = begin.elapsed();
        if elapsed > TIMEOUT {
            return Err(format!("waited {TIMEOUT:?} for what was missed; {}", load.counters).into());
        }
        Ok(arrived(&load) < owed.get())
    })?;
    let spent = stopwatch.spent();
    // The last publish may have been sent after that.
    load.run_until("the last events", |load| arrived(load) >= owed.get())?;
    load.run_for(SETTLING)?;
    load.counters.check()?;
    let gaps = esker::stats(server)?("resume_gaps");
    if load.counters.lost > 0 || load.counters.delivered != owed.get() || gaps > 0.0 {
        return Err(format!("unexpected: {}, {gaps} gaps", load.counters).into());
    }
    let load::Counters { opened, opening, first_event, .. } = load.counters;
    let private_bytes = procs::private_bytes(server.root.id());
    Ok(Reconnect { opened, elapsed, spent, opening, first_event, publishing, private_bytes })
}

/// Returns the number of events that have arrived or that never will.
fn arrived(load: &Load<'_>) -> u64 {
    load.counters.delivered + load.counters.lost
}

/// Returns the publisher's requests by their numbers. Of the first `returning`, some go to the subscribers, and add to the
/// deliveries that are owed.
fn publishes<'a>(setting: &'a Setting, returning: u64, owed: &'a Cell<u64>) -> impl FnMut(u64) -> String + use<'a> {
    let topics = setting.topics() as u64;
    let publish = esker::dialect().publish;
    move |number| {
        if number >= returning || !number.is_multiple_of(PER_DELIVERED) {
            return publish(TOPIC_OF_OTHERS, &load::data(0, setting.size));
        }
        let nth = number / PER_DELIVERED;
        let (topic, earlier) = (nth % topics, nth / topics);
        let subscribers = setting.subscribers as u64;
        owed.set(owed.get() + subscribers / topics + u64::from(topic < subscribers % topics));
        let sequence = 1 + setting.burst + earlier as u32;
        publish(&load::topic_name(topic as usize), &load::data(sequence, setting.size))
    }
}
