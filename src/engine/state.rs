//! What is known of the engine: whether it can be reached, how far the tail is behind, and counters. Written by the appender and
//! the tail, read by everybody.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::{About, Mark, Peer, Pulse};
use super::marks::Marks;
use super::queue::Queue;
use super::status::{Health, Status};
use super::waiting::Waiting;
use crate::metrics::{Counter, Histogram};
use crate::util::outage::Outages;
use crate::util::units::seconds;

/// How long, in milliseconds, the tail may be behind what the log is known to have before it is said to stand still.
const STANDSTILL_MILLIS: u64 = 1_000;
/// How long, in milliseconds, a broker is unhealthy after the engine has refused an append.
const REFUSAL_MILLIS: u64 = 5_000;
/// How long it may be behind before the broker is unhealthy.
const UNHEALTHY_MILLIS: u64 = 3_000;

/// What one of the two connections is doing.
#[derive(Clone, Debug)]
enum Link {
    /// It has not been made yet.
    New,
    Up,
    Down(Arc<str>),
}

impl Link {
    fn is_up(&self) -> bool {
        matches!(self, Self::Up)
    }
}

/// Everything that changes together.
struct Links {
    appender: Link,
    tail: Link,
    unreadable: Option<Arc<str>>,
    is_caught_up: bool,
    has_revocations: bool,
    is_closed: bool,
    /// Why the engine refuses appends, though it can be reached, and when it last did.
    refusal: Option<(Arc<str>, u64)>,
    /// What this broker has appended and the tail has not yet found.
    appended: Marks,
    /// The newest id that this broker has appended.
    appended_through: u64,
    /// An id that the log has, and since when the broker has known of it without having applied it.
    ahead: Option<(u64, u64)>,
    /// When the tail's connection was made, in milliseconds.
    tail_since: u64,
    last: u64,
    era: u64,
    /// When appends were not proven to be durable: those of events, and those of records.
    unproven: [Outages; 2],
    about: Option<About>,
    /// When a connection was lost.
    outages: Outages,
    /// When the engine refused appends.
    refusals: Outages,
    /// When the engine refused records.
    record_refusals: Outages,
    record_bytes: u64,
    peers: Arc<[Peer]>,
}

/// Counters that the appender writes.
#[derive(Debug, Default)]
pub(super) struct AppenderCounters {
    pub events: Counter,
    pub records: Counter,
    pub append_time: Histogram,
    pub connects: Counter,
    pub fenced: Counter,
    pub unknown_kept: Counter,
    pub unknown_gone: Counter,
}

/// Counters that the tail writes.
#[derive(Debug, Default)]
pub(super) struct TailCounters {
    pub events: Counter,
    pub records: Counter,
    pub loaded: Counter,
    pub connects: Counter,
    pub losses: Counter,
    pub trimmed: Counter,
    /// How often all records were replaced.
    pub replacements: Counter,
    pub warm_up_millis: Counter,
}

/// Counters that the reader writes.
#[derive(Debug, Default)]
pub(super) struct ReaderCounters {
    pub pages: Counter,
    pub lookups: Counter,
}

/// What the threads of the engine share.
pub(super) struct Shared {
    links: Mutex<Links>,
    applied: AtomicU64,
    /// What is added to this broker's monotonic time to get the log's, in microseconds.
    offset: AtomicI64,
    /// The number of this broker's subscribers.
    subscribers: AtomicU64,
    pub appender: AppenderCounters,
    pub tail: TailCounters,
    pub reader: ReaderCounters,
}

impl Default for Shared {
    fn default() -> Self {
        let links = Links {
            appender: Link::New,
            tail: Link::New,
            unreadable: None,
            is_caught_up: false,
            has_revocations: false,
            is_closed: false,
            refusal: None,
            appended: Marks::default(),
            appended_through: 0,
            ahead: None,
            tail_since: 0,
            last: 0,
            era: 0,
            unproven: Default::default(),
            about: None,
            outages: Outages::default(),
            refusals: Outages::default(),
            record_refusals: Outages::default(),
            record_bytes: 0,
            peers: Arc::default(),
        };
        Self {
            links: Mutex::new(links),
            applied: AtomicU64::new(0),
            offset: AtomicI64::new(0),
            subscribers: AtomicU64::new(0),
            appender: AppenderCounters::default(),
            tail: TailCounters::default(),
            reader: ReaderCounters::default(),
        }
    }
}

/// Which of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Appender,
    Tail,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a connection was made. `millis` is this broker's time for timeouts, as in the other methods.
    pub fn link_up(&self, side: Side, millis: u64) {
        let mut links = self.lock();
        *links.side(side) = Link::Up;
        let is_up = links.appender.is_up() && links.tail.is_up();
        let outage = if is_up { links.outages.succeed(millis) } else { None };
        drop(links);
        if let Some(outage) = outage {
            log::info!("the engine is back after {}", seconds(outage));
        }
    }

    /// Notes that a connection is lost, or can't be made.
    pub fn link_down(&self, side: Side, why: &str, millis: u64) {
        let mut links = self.lock();
        *links.side(side) = Link::Down(why.into());
        let warning = links.outages.fail(why, millis);
        drop(links);
        if let Some(why) = warning {
            log::warn!("{why}; publishes wait and are then refused, streams continue");
        }
    }

    /// Notes that the tail has met an entry that it can't read, and stops there.
    pub fn unreadable(&self, why: &str) {
        let mut links = self.lock();
        if links.unreadable.is_none() {
            log::error!("{why}");
            links.unreadable = Some(why.into());
        }
    }

    /// Returns why publishes are refused, for the client.
    pub fn reason(&self) -> Arc<str> {
        match &self.lock().appender {
            Link::Down(_) => "the engine can't be reached now".into(),
            Link::New | Link::Up => "the engine is too slow".into(),
        }
    }

    /// Notes what the log has said of its time and its newest id. `elapsed` is this broker's monotonic time at that moment, in
    /// microseconds, and `millis` its time for timeouts.
    pub fn note_pulse(&self, pulse: Pulse, elapsed: u64, millis: u64) {
        self.offset.store(pulse.time.wrapping_sub(elapsed) as i64, Ordering::Relaxed);
        let mut links = self.lock();
        (links.era, links.record_bytes) = (pulse.era, pulse.record_bytes);
        drop(links);
        self.note_last(pulse.last, millis);
    }

    /// Notes an id that the log has.
    pub fn note_last(&self, last: u64, millis: u64) {
        let applied = self.applied();
        let mut links = self.lock();
        links.last = links.last.max(last);
        let is_passed = links.ahead.is_none_or(|(id, _)| id <= applied);
        if is_passed {
            links.ahead = (last > applied).then_some((last, millis));
        }
    }

    /// Returns this moment in the log's time. `elapsed` is this broker's monotonic time, which does not follow the system clock
    /// when somebody sets it.
    pub fn log_time(&self, elapsed: u64) -> u64 {
        elapsed.saturating_add_signed(self.offset.load(Ordering::Relaxed))
    }

    /// Notes that the tail has applied everything up to this id.
    pub fn advance(&self, id: u64) {
        self.applied.store(id, Ordering::Release);
    }

    /// Returns the id up to which the tail has applied everything.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Returns whether entries that the log has don't reach the tail over its present connection.
    pub fn stands_still(&self, millis: u64) -> bool {
        let links = self.lock();
        let connected = millis.saturating_sub(links.tail_since);
        links.behind(self.applied(), millis).min(connected) >= STANDSTILL_MILLIS
    }

    /// Notes that the tail reads over a new connection, and the newest id that the log has there. What it was known to have
    /// beyond that is lost.
    pub fn restart_behind(&self, last: u64, millis: u64) {
        let mut links = self.lock();
        links.tail_since = millis;
        links.ahead.take_if(|(id, _)| *id > last);
        links.last = links.last.min(last);
    }

    /// Notes that the engine has not proven an append: of records, or of events.
    pub fn unproven(&self, has_records: bool, why: &str, millis: u64) {
        let warning = self.lock().unproven[usize::from(has_records)].fail(why, millis);
        if let Some(why) = warning {
            let requests = if has_records { "inserts" } else { "publishes" };
            log::warn!(
                "{requests} get no acknowledgement, because the engine can't prove that they are durable: {why}"
            );
        }
    }

    /// Notes that the broker has caught up with the log.
    pub fn caught_up(&self, warm_up_millis: u64) {
        let mut links = self.lock();
        if !links.is_caught_up {
            links.is_caught_up = true;
            self.tail.warm_up_millis.set(warm_up_millis);
        }
    }

    /// Returns whether the broker has caught up with the log since its start.
    pub fn is_caught_up(&self) -> bool {
        self.lock().is_caught_up
    }

    /// Notes that the broker knows the revocations that there were at some moment since its start.
    pub fn note_revocations(&self) {
        self.lock().has_revocations = true;
    }

    /// Returns whether it does.
    pub fn knows_revocations(&self) -> bool {
        self.lock().has_revocations
    }

    /// Notes that the broker is shutting down.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Returns whether the broker is shutting down.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Notes an entry that this broker has appended in this session, and the id of its last event.
    pub fn note_appended(&self, session: u64, mark: Mark, last: u64, millis: u64) {
        let mut links = self.lock();
        links.appended.note(session, mark);
        links.appended_through = last;
        drop(links);
        self.note_last(last, millis);
    }

    /// Forgets the entries that this broker has appended before this id, because they may be lost.
    pub fn forget_appended(&self, before: u64) {
        self.lock().appended.forget_before(before);
    }

    /// Notes that the log has an entry that this broker has appended, and that everything up to the id `read` was read. Returns
    /// whether there is another one to look for.
    pub fn found_appended(&self, mark: &Mark, read: u64) -> bool {
        self.lock().appended.found(mark, read)
    }

    /// Returns the newest id that this broker knows. The next entry's ids are larger.
    pub fn floor(&self) -> u64 {
        self.lock().appended_through.max(self.applied())
    }

    /// Notes what a new connection knows of the server.
    pub fn note_about(&self, about: Option<About>) {
        if about.is_some() {
            self.lock().about = about;
        }
    }

    /// Notes that the engine refuses appends, and why.
    pub fn refuse(&self, why: &str, millis: u64) {
        let mut links = self.lock();
        links.refusal = Some((why.into(), millis));
        let warning = links.refusals.fail(why, millis);
        drop(links);
        if let Some(why) = warning {
            log::warn!("publishes are refused: {why}");
        }
    }

    /// Notes that the engine refuses records, though not events, and why.
    pub fn refuse_records(&self, why: &str, millis: u64) {
        let warning = self.lock().record_refusals.fail(why, millis);
        if let Some(why) = warning {
            log::warn!("inserts are refused: {why}");
        }
    }

    /// Notes what the other brokers have told of themselves, and this one.
    pub fn note_peers(&self, peers: Vec<Peer>) {
        self.lock().peers = peers.into();
    }

    /// Notes the number of this broker's subscribers.
    pub fn set_subscribers(&self, subscribers: u64) {
        self.subscribers.store(subscribers, Ordering::Relaxed);
    }

    /// Returns the number of this broker's subscribers, as it was about a second ago.
    pub fn subscribers(&self) -> u64 {
        self.subscribers.load(Ordering::Relaxed)
    }

    /// Notes that the engine accepts appends: of records, or of events.
    pub fn accept(&self, has_records: bool, millis: u64) {
        let mut links = self.lock();
        links.unproven[usize::from(has_records)].succeed(millis);
        if has_records && let Some(outage) = links.record_refusals.succeed(millis) {
            log::warn!("inserts are accepted again after {}", seconds(outage));
        }
        if links.refusal.take().is_none() {
            return;
        }
        let outage = links.refusals.succeed(millis);
        drop(links);
        if let Some(outage) = outage {
            log::warn!("publishes are accepted again after {}", seconds(outage));
        }
    }

    /// Returns an entry that this broker has appended and that the tail is to look for.
    pub fn appended(&self) -> Option<Mark> {
        self.lock().appended.first().cloned()
    }

    /// Returns the state and the counters.
    pub fn status(&self, queue: &Queue, waiting: &Waiting, millis: u64) -> Status {
        let applied = self.applied();
        let links = self.lock();
        let (appender, tail) = (&self.appender, &self.tail);
        Status {
            health: links.health(applied, millis),
            about: links.about.clone(),
            era: links.era,
            last: links.last.max(applied),
            applied,
            behind_millis: links.behind(applied, millis),
            queued: queue.len(),
            waiting: waiting.len(),
            events_appended: appender.events.get(),
            append_time: appender.append_time.get(),
            records_appended: appender.records.get(),
            events_followed: tail.events.get(),
            records_followed: tail.records.get(),
            records_loaded: tail.loaded.get(),
            record_bytes: links.record_bytes,
            peers: Arc::clone(&links.peers),
            reconnects: appender.connects.get().saturating_sub(1) + tail.connects.get().saturating_sub(1),
            fenced: appender.fenced.get(),
            losses: tail.losses.get(),
            trimmed: tail.trimmed.get(),
            unknown_kept: appender.unknown_kept.get(),
            unknown_gone: appender.unknown_gone.get(),
            warm_up_millis: tail.warm_up_millis.get(),
            pages: self.reader.pages.get(),
            lookups: self.reader.lookups.get(),
        }
    }
}

impl Links {
    fn side(&mut self, side: Side) -> &mut Link {
        match side {
            Side::Appender => &mut self.appender,
            Side::Tail => &mut self.tail,
        }
    }

    fn behind(&self, applied: u64, millis: u64) -> u64 {
        match self.ahead {
            Some((id, since)) if id > applied => millis.saturating_sub(since),
            _ => 0,
        }
    }

    fn health(&self, applied: u64, millis: u64) -> Health {
        if self.is_closed {
            return Health::Closed;
        }
        if let Some(why) = &self.unreadable {
            return Health::Unreadable(Arc::clone(why));
        }
        match (&self.appender, &self.tail) {
            (Link::Down(why), _) | (_, Link::Down(why)) => Health::Lost(Arc::clone(why)),
            _ if !self.is_caught_up => Health::Starting,
            _ if self.behind(applied, millis) >= UNHEALTHY_MILLIS => Health::StandsStill,
            _ => self.refusal(millis).map_or(Health::Ready, Health::Lost),
        }
    }

    /// Returns why the engine has refused an append lately. Only another publish shows whether it still does, and a load
    /// balancer sends none to an unhealthy broker.
    fn refusal(&self, millis: u64) -> Option<Arc<str>> {
        let (why, since) = self.refusal.as_ref()?;
        (millis < since + REFUSAL_MILLIS).then(|| Arc::clone(why))
    }
}
