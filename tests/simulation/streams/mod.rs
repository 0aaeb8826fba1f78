//! Simulates the hub and the workers' streams alone, without connections and HTTP, against exact models. This reaches what the
//! simulation of the whole broker does not: budgets of a few subscribers per loop iteration, streams without chunks, a
//! millisecond clock that wraps around, and counts that are exact after every step.

mod client;
mod history;
mod log;
mod records;
mod socket;
mod topics;

use std::panic::RefUnwindSafe;
use std::sync::Arc;

use esker::internals::hub::{Hub, HubLimits, inbox};
use esker::internals::sse::Framing;
use esker::internals::stream::Streams;

use self::socket::Socket;
use super::parser::Stream;
use super::{replayable, seeds};

/// The number of seeds unless the environment says otherwise.
const SEEDS: u64 = 300;

/// Runs a simulation over all seeds and adds up its two counts, neither of which may be 0: that would test nothing.
fn over_seeds(run: impl Fn(u64) -> (usize, usize) + RefUnwindSafe) {
    let seeds = seeds(SEEDS);
    let is_all = seeds.len() > 100;
    let add = |sums: (usize, usize), counts: (usize, usize)| (sums.0 + counts.0, sums.1 + counts.1);
    let sums = seeds.into_iter().map(|seed| replayable(seed, || run(seed))).fold((0, 0), add);
    assert!(!is_all || (sums.0 > 0 && sums.1 > 0), "the simulation tests nothing: {sums:?}");
}

/// A hub, and the streams of its workers.
fn hub_and_workers(limits: HubLimits, workers: usize, now: u64) -> (Arc<Hub>, Vec<Streams<Socket>>) {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| inbox(Box::new(|| {}))).unzip();
    let hub = Arc::new(Hub::new(limits, outboxes, now));
    let streams =
        inboxes.into_iter().enumerate().map(|(id, inbox)| Streams::new(Arc::clone(&hub), id, inbox)).collect();
    (hub, streams)
}

/// A client's parser for a stream of this framing.
fn stream(framing: Framing) -> Stream {
    match framing {
        Framing::Chunked => Stream::default(),
        Framing::Plain => Stream::plain(),
    }
}
