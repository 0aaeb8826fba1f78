//! Runs the appender, the tail, the reader and the watch, each in a thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::log::Connect;
use super::{Appender, Engine, Follow, READ_WAIT, Reader, Tail};

/// The time between two looks of the watch.
const WATCH_TIME: Duration = Duration::from_millis(50);
/// The time between two looks at whether the threads have ended.
const JOIN_TIME: Duration = Duration::from_millis(5);
/// The longest time that a thread sleeps, so that it notices the end of the broker.
const MAX_SLEEP: Duration = Duration::from_millis(250);

/// The running threads.
#[derive(Debug)]
pub struct Threads {
    appender: JoinHandle<()>,
    reader: JoinHandle<()>,
    /// The tail and the watch.
    others: Vec<JoinHandle<()>>,
    is_ending: Arc<AtomicBool>,
}

impl Threads {
    /// Starts the threads. `broker` is a random number that identifies this process.
    pub fn start<C, F>(engine: &Engine, connect: impl Fn() -> C, follow: F, broker: u64) -> io::Result<Self>
    where
        C: Connect + 'static,
        F: Follow + 'static,
    {
        let is_ending = Arc::new(AtomicBool::new(false));
        let mut appender = Appender::new(engine.clone(), connect(), broker);
        let appender = Builder::new().name("esker-append".into()).spawn(move || {
            while !appender.is_over() {
                sleep(appender.step(READ_WAIT));
            }
        })?;
        let mut tail = Tail::new(engine.clone(), connect(), follow);
        let tail = spawn("esker-tail", &is_ending, move || sleep(tail.step()))?;
        let mut reader = Reader::new(engine.clone(), connect());
        let is_dropped = Arc::clone(&is_ending);
        let reader = Builder::new().name("esker-read".into()).spawn(move || {
            while !reader.is_over() && !is_dropped.load(Ordering::Acquire) {
                reader.step(READ_WAIT);
            }
        })?;
        let engine = engine.clone();
        let watch = spawn("esker-watch", &is_ending, move || {
            engine.expire();
            std::thread::sleep(WATCH_TIME);
        })?;
        Ok(Self { appender, reader, others: vec![tail, watch], is_ending })
    }

    /// Waits until everything that is queued is done, and ends the threads. To be called after [`Engine::close`]. Returns whether
    /// they have ended within `limit`; an engine that hangs can hold them up.
    pub fn join(&self, engine: &Engine, limit: Duration) -> bool {
        let begun = Instant::now();
        let wait_until = |is_done: &dyn Fn() -> bool| {
            while !is_done() && begun.elapsed() < limit {
                std::thread::sleep(JOIN_TIME);
            }
            is_done()
        };
        let have_ended = || self.appender.is_finished() && self.reader.is_finished();
        let is_done = wait_until(&|| have_ended() && !engine.is_waiting());
        self.is_ending.store(true, Ordering::Release);
        is_done && wait_until(&|| self.others.iter().all(JoinHandle::is_finished))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
    }
}

/// Starts a thread that repeats a step until the broker ends.
fn spawn(
    name: &str,
    is_ending: &Arc<AtomicBool>,
    mut step: impl FnMut() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let is_ending = Arc::clone(is_ending);
    Builder::new().name(name.into()).spawn(move || {
        while !is_ending.load(Ordering::Acquire) {
            step();
        }
    })
}

fn sleep(millis: u64) {
    if millis > 0 {
        std::thread::sleep(Duration::from_millis(millis).min(MAX_SLEEP));
    }
}
