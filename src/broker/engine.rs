//! Starts the engine, and applies to the hub what the shared log says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::StartError;
use crate::auth::Revocations;
use crate::clock::Clock;
use crate::engine::log::{Connect, LogError, Refusal};
#[cfg(feature = "engine")]
use crate::engine::redis::{Guarantee, Server};
use crate::engine::{Engine, EngineSettings, Follow, Health, LogEvent, Threads};
use crate::hub::{Hub, LoggedFrame, TopicName};
use crate::ids::LOG_ID_BITS;
use crate::records::{Record, check_name};
use crate::sse::{Frame, UnsequencedFrame, record_frame};

/// How long a start waits for an engine that can't be reached, or for the log to go on, in milliseconds.
const START_MILLIS: u64 = 30_000;
/// The time between two looks at whether the start goes on.
const LOOK_TIME: Duration = Duration::from_millis(20);
/// After this time, in milliseconds, a start that still reads the log says so.
const ANNOUNCE_MILLIS: u64 = 1_000;
/// How long a start that has failed waits for the engine's threads.
const END_TIME: Duration = Duration::from_secs(1);
/// The time between two attempts to reach the engine, in milliseconds.
const RETRY_MILLIS: u64 = 500;

/// The maximum number of events that are turned into frames before they are applied.
const SLICE: usize = 256;

/// Applies the log to the hub.
pub(crate) struct HubFollow {
    hub: Arc<Hub>,
    /// The first events of the queue, as frames.
    frames: VecDeque<LoggedFrame>,
    /// The first records of the queue, as frames.
    record_frames: VecDeque<Arc<Frame>>,
}

impl HubFollow {
    /// Creates what applies the log to this hub.
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, frames: VecDeque::new(), record_frames: VecDeque::new() }
    }

    /// Turns the first events of the queue into frames. Fails only if the first one can't be.
    fn fill(&mut self, events: &VecDeque<LogEvent>) -> Result<(), String> {
        for event in events.iter().take(SLICE) {
            match frame_of(event) {
                Ok(frame) => self.frames.push_back(frame),
                Err(why) if self.frames.is_empty() => return Err(why),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Turns the first records of the queue into frames. Keeps those of the last call, unless the queue has changed. Removes
    /// records that no broker has written from the front of the queue.
    fn fill_records(&mut self, records: &mut VecDeque<Record>) {
        let is_kept = self.record_frames.len() <= records.len()
            && self.record_frames.iter().zip(records.iter()).all(|(frame, record)| frame.id() == record.id);
        if self.record_frames.is_empty() || !is_kept {
            while let Some(unsound) = records.front().filter(|record| !is_sound(record)) {
                warn_of_unsound(unsound);
                records.pop_front();
            }
            let sound = records.iter().take(SLICE).take_while(|record| is_sound(record));
            self.record_frames = sound.map(frame_of_record).collect();
        }
    }
}

impl Follow for HubFollow {
    fn apply(&mut self, events: &mut VecDeque<LogEvent>) -> Result<(), String> {
        while !events.is_empty() {
            if self.frames.is_empty() {
                self.fill(events)?;
            }
            let before = self.frames.len();
            self.hub.apply(&mut self.frames).map_err(|error| error.to_string())?;
            events.drain(..before - self.frames.len());
            if !self.frames.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn lose_through(&mut self, id: u64) {
        self.hub.lose_through(id);
    }

    fn begin(&mut self, oldest: u64) {
        self.hub.begin(oldest);
    }

    fn pass(&mut self, id: u64) {
        self.hub.pass(id);
    }

    fn apply_records(&mut self, records: &mut VecDeque<Record>) {
        while !records.is_empty() {
            self.fill_records(records);
            let before = self.record_frames.len();
            self.hub.apply_records(&mut self.record_frames);
            records.drain(..before - self.record_frames.len());
            if !self.record_frames.is_empty() {
                break;
            }
        }
    }

    fn reset_records(&mut self, mut newest: Vec<Record>) {
        self.record_frames.clear();
        newest.iter().filter(|record| !is_sound(record)).for_each(warn_of_unsound);
        newest.retain(is_sound);
        newest.sort_unstable_by_key(|record| record.id);
        newest.dedup_by_key(|record| record.id);
        self.hub.reset_records(newest.into_iter().map(Arc::new).collect());
    }

    fn erase(&mut self, record: u64, id: u64) -> bool {
        self.hub.erase_record(record, id)
    }

    fn doubt_before(&mut self, id: u64) {
        self.hub.set_erased_through(id);
    }

    fn subscribers(&self) -> u64 {
        self.hub.counts().subscribers as u64
    }
}

/// Returns whether a broker may have written a record: whether it would not break the framing of a stream.
fn is_sound(record: &Record) -> bool {
    let is_one_line = memchr::memchr2(b'\n', b'\r', record.data.as_bytes()).is_none();
    is_one_line && check_name(&record.name).is_ok() && record.id >> LOG_ID_BITS == 0
}

fn frame_of_record(record: &Record) -> Arc<Frame> {
    record_frame(&Arc::new(record.clone()))
}

fn warn_of_unsound(record: &Record) {
    log::warn!("the engine's record {} is not one that a broker writes; it is skipped", record.id);
}

fn frame_of(event: &LogEvent) -> Result<LoggedFrame, String> {
    let topic = TopicName::parse(&event.topic).map_err(|error| error.to_string())?;
    let frame =
        UnsequencedFrame::from_lines(&event.lines, event.own_id.as_deref()).map_err(|error| error.to_string())?;
    Ok((topic, frame.assign_id(event.id)))
}

/// The engine of a running broker.
#[derive(Debug)]
pub(super) struct Running {
    /// What workers use.
    pub engine: Engine,
    threads: Threads,
}

impl Running {
    /// Starts the engine's threads and waits until the hub has caught up with the log. `is_stopped` says whether to give up.
    #[cfg(feature = "engine")]
    pub fn start(
        settings: &EngineSettings,
        hub: &Arc<Hub>,
        revocations: Option<&Arc<Revocations>>,
        clock: &Clock,
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Result<Self, StartError> {
        let server = Server::new(settings.clone());
        let guarantee = server.guarantee();
        let running = Self::start_on(move || server.clone(), hub, revocations, clock, is_stopped)?;
        if let Some(Guarantee { server, ack, warning, records_refused }) = guarantee.get() {
            log::info!("the engine is {server}; publishes are acknowledged by {ack}");
            warning.iter().for_each(|warning| log::warn!("{warning}"));
            records_refused.iter().for_each(|why| log::warn!("records are refused, because {why}"));
        }
        Ok(running)
    }

    /// Refuses to start: this build can't reach an engine.
    #[cfg(not(feature = "engine"))]
    pub fn start(
        _: &EngineSettings,
        _: &Arc<Hub>,
        _: Option<&Arc<Revocations>>,
        _: &Clock,
        _: &mut dyn FnMut() -> bool,
    ) -> Result<Self, StartError> {
        Err(crate::config::ConfigError::NoFeature("engine").into())
    }

    #[cfg_attr(not(feature = "engine"), allow(dead_code, reason = "there is nothing to start on"))]
    fn start_on<C: Connect + 'static>(
        connect: impl Fn() -> C,
        hub: &Arc<Hub>,
        revocations: Option<&Arc<Revocations>>,
        clock: &Clock,
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Result<Self, StartError> {
        reach(&mut connect(), clock, is_stopped)?;
        let engine = Engine::new(clock.clone()).with_revocations(revocations.cloned());
        let threads = Threads::start(&engine, connect, HubFollow::new(Arc::clone(hub)), fastrand::u64(..))?;
        let running = Self { engine, threads };
        match catch_up(&running.engine, clock, is_stopped) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.stop(END_TIME);
                Err(error)
            }
        }
    }

    /// Ends the threads, once everything that is queued is done.
    pub fn stop(self, limit: Duration) {
        self.engine.close();
        if !self.threads.join(&self.engine, limit) {
            log::warn!("the engine did not respond in time; events without an acknowledgement may be published");
        }
    }
}

/// Ends the threads of a broker that has not started.
impl Drop for Running {
    fn drop(&mut self) {
        self.engine.close();
    }
}

/// Waits until the engine can be reached. Fails at once for a reason that only an operator can remove.
fn reach<C: Connect>(connect: &mut C, clock: &Clock, is_stopped: &mut dyn FnMut() -> bool) -> Result<(), StartError> {
    let deadline = clock.now().millis + START_MILLIS;
    let mut is_first = true;
    loop {
        let error = match connect.connect() {
            Ok(_) => return Ok(()),
            Err(error @ LogError::Refused(Refusal::Setup, _)) => return Err(StartError::Engine(error.to_string())),
            Err(error) => error,
        };
        if clock.now().millis >= deadline {
            return Err(StartError::Engine(error.to_string()));
        }
        if std::mem::take(&mut is_first) {
            log::warn!("{error}; trying again for up to {} s", START_MILLIS / 1000);
        }
        wait(RETRY_MILLIS, is_stopped)?;
    }
}

/// Waits until the hub has applied what the log had when the tail first attached to it, and the broker knows which tokens are
/// revoked.
fn catch_up(engine: &Engine, clock: &Clock, is_stopped: &mut dyn FnMut() -> bool) -> Result<(), StartError> {
    let (mut progress, mut deadline) = ((0, 0), clock.now().millis + START_MILLIS);
    let mut announce_at = Some(clock.now().millis + ANNOUNCE_MILLIS);
    while !engine.is_caught_up() || !engine.knows_revocations() {
        let status = engine.status();
        if let Health::Unreadable(why) = status.health {
            return Err(StartError::Engine(why.to_string()));
        }
        let now = clock.now().millis;
        if announce_at.take_if(|time| *time <= now).is_some() {
            log::info!("reading the engine's log; the broker listens when it has caught up");
        }
        if (status.applied, status.records_loaded) != progress {
            (progress, deadline) = ((status.applied, status.records_loaded), now + START_MILLIS);
        }
        if now >= deadline {
            return Err(StartError::Engine(match status.health {
                Health::Lost(why) => why.to_string(),
                _ => "no data from the engine's log for 30 s; check the network and the load of the engine".into(),
            }));
        }
        wait(1, is_stopped)?;
    }
    Ok(())
}

fn wait(millis: u64, is_stopped: &mut dyn FnMut() -> bool) -> Result<(), StartError> {
    let looks = millis.div_ceil(LOOK_TIME.as_millis() as u64);
    for _ in 0..looks {
        if is_stopped() {
            return Err(StartError::Stopped);
        }
        thread::sleep(LOOK_TIME);
    }
    Ok(())
}
