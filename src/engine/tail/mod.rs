//! Reads the log and hands its events to the hub, in order and each once. After an interruption it goes on where it was, or
//! finds out that the log no longer has what it has read.

mod events;
mod records;

use std::collections::VecDeque;

use super::backoff::Backoff;
use super::handle::Engine;
use super::log::{Attach, Body, Connect, Entry, From, Log, LogError, Mark, Pulse};
use super::state::Side;
use super::{Follow, LogEvent};
use crate::records::Record;
use events::events;
use records::{Fetched, Found, Load, Loaded, last_record};

/// How often the tail makes sure that the log still has what was read, in milliseconds. Without it, a connection to a server
/// that has become a replica would go on reading and not notice a loss.
const VERIFY_MILLIS: u64 = 1_000;
/// How soon to try again when a worker has no room, in milliseconds.
const ROOM_MILLIS: u64 = 1;

/// Follows the log.
pub struct Tail<C: Connect, F: Follow> {
    engine: Engine,
    connect: C,
    follow: F,
    log: Option<C::Log>,
    backoff: Backoff,
    /// The newest entry that was applied.
    read: Option<Mark>,
    /// Where to read on: after this id.
    after: u64,
    /// Whether entries before the next one are missing.
    has_gap: bool,
    /// Entries that were read and are not applied.
    entries: VecDeque<Entry>,
    /// The events of the entry that is being applied.
    events: VecDeque<LogEvent>,
    /// The records that are being applied: those of an entry, or newest ones.
    records: VecDeque<Record>,
    /// The entry that is being applied, and its last id.
    applying: Option<(Mark, u64)>,
    /// Records that entries refer to, and that were read in advance.
    fetched: Fetched,
    /// The records to be read before the log is read on.
    load: Option<Load>,
    /// The id up to which records are applied. Those that an older entry refers to are superseded, or were applied.
    records_through: u64,
    /// The newest record that was handed over. A log that has it has all that were.
    newest_record: Option<Record>,
    /// The log's newest id when the connection was last checked. Records up to it are loaded, later ones come with the log.
    newest: u64,
    /// The newest id when reading all records last began. They are without those that were lost before.
    loaded_at: u64,
    /// The newest erasure that the hub knows of. Those up to it are applied, or were when all records were read.
    erased: u64,
    /// The newest erasure of the log when the connection was last checked, and whether the log had the entry read last.
    found: Found,
    /// The format of the log, once it is known.
    format: Option<u32>,
    /// When to make sure that the log still has what was read; `None` before that has been done over this connection.
    verify_at: Option<u64>,
    started: u64,
    has_begun: bool,
    /// The id that is to be reached before the broker serves clients.
    goal: Option<u64>,
    is_stopped: bool,
}

impl<C: Connect, F: Follow> Tail<C, F> {
    /// Creates a tail that reads from the log's oldest entry on.
    pub fn new(engine: Engine, connect: C, follow: F) -> Self {
        let started = engine.clock.now().millis;
        Self {
            engine,
            connect,
            follow,
            log: None,
            backoff: Backoff::default(),
            read: None,
            after: 0,
            has_gap: false,
            entries: VecDeque::new(),
            events: VecDeque::new(),
            records: VecDeque::new(),
            applying: None,
            fetched: Fetched::default(),
            load: Some(Load::All(Loaded::default())),
            records_through: 0,
            newest_record: None,
            newest: 0,
            loaded_at: 0,
            erased: 0,
            found: Found::default(),
            format: None,
            verify_at: None,
            started,
            has_begun: false,
            goal: None,
            is_stopped: false,
        }
    }

    /// Applies what was read, or else reads on; connects first if necessary. Returns the milliseconds after which to call it
    /// again.
    pub fn step(&mut self) -> u64 {
        if self.is_stopped {
            return VERIFY_MILLIS;
        }
        if !self.apply() {
            return ROOM_MILLIS;
        }
        if let Some(entry) = self.next_entry() {
            self.begin_entry(entry);
            return 0;
        }
        let now = self.millis();
        if self.log.is_none() && !self.connect(now) {
            return self.backoff.left(now);
        }
        if self.verify_at.is_none_or(|time| time <= now) {
            self.attach();
        }
        // Records of entries that are trimmed before the next one is read must be among those that are loaded.
        let is_placed = !self.entries.is_empty() || (self.has_begun && !self.has_gap);
        match self.load.take_if(|_| is_placed) {
            Some(load) => self.load_records(load),
            None if self.entries.is_empty() => self.read_on(),
            None => {}
        }
        0
    }

    /// Returns the next entry, unless newest records are to be read before it.
    fn next_entry(&mut self) -> Option<Entry> {
        if self.load.is_none() { self.entries.pop_front() } else { None }
    }

    /// Applies the events or the records of the present entry. Returns whether all are applied.
    fn apply(&mut self) -> bool {
        if !self.records.is_empty() {
            let before = self.records.len();
            self.follow.apply_records(&mut self.records);
            self.engine.shared.tail.records.add((before - self.records.len()) as u64);
            if !self.records.is_empty() {
                return false;
            }
        }
        if !self.events.is_empty() {
            let before = self.events.len();
            let result = self.follow.apply(&mut self.events);
            self.engine.shared.tail.events.add((before - self.events.len()) as u64);
            if let Err(why) = result {
                let id = self.events.front().map_or(0, |event| event.id);
                self.stop(id, &why);
            }
            if !self.events.is_empty() {
                return false;
            }
        }
        if let Some((mark, last)) = self.applying.take() {
            self.pass(mark, last);
        }
        true
    }

    /// Notes that an entry is applied.
    fn pass(&mut self, mark: Mark, last: u64) {
        self.read = Some(mark);
        self.engine.shared.advance(last);
        self.engine.waiting.advance(last);
        self.check_goal();
    }

    fn check_goal(&mut self) {
        if self.goal.is_some_and(|goal| goal <= self.engine.shared.applied()) {
            self.goal = None;
            self.engine.shared.caught_up(self.millis().saturating_sub(self.started));
        }
    }

    fn begin_entry(&mut self, entry: Entry) {
        if entry.id <= self.engine.shared.applied() {
            return self.stop(entry.id, "its id is not larger than the one before it");
        }
        if let Some(last) = last_record(&entry)
            && last > self.records_through.max(self.fetched.through)
        {
            return self.fetch(entry);
        }
        if self.lacks_records(&entry) {
            self.entries.push_front(entry);
            return self.fail(&LogError::Broken("it does not have all records that its log refers to".into()));
        }
        let has_gap = std::mem::take(&mut self.has_gap);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.follow.begin(entry.id);
        } else if has_gap {
            // An entry of a loss reports it itself, and once.
            if !matches!(entry.body, Body::Lost) {
                self.lose_through(entry.id - 1);
            }
        } else if !self.follows(&entry) {
            return self.find_missing(entry.id);
        }
        self.begin_body(Mark { entry: entry.id, token: entry.token }, entry.body);
    }

    /// Applies what an entry contains, or puts it where [`Tail::apply`] finds it.
    fn begin_body(&mut self, mark: Mark, body: Body) {
        let id = mark.entry;
        match body {
            Body::Unknown(why) => self.stop(id, &why),
            Body::Marker => {
                self.follow.pass(id);
                self.pass(mark, id);
                // It may say that records were loaded, which no entry refers to.
                self.load.get_or_insert(Load::Newer);
            }
            Body::Records(count) => self.begin_records(mark, count),
            Body::Erased(record) => {
                self.follow.pass(id);
                self.erase(record, id);
                self.pass(mark, id);
            }
            Body::Lost => self.begin_loss(mark),
            Body::Events { count, blob, repetitions } => match events(id, count, &blob, &repetitions) {
                Ok((events, last)) => {
                    self.events = events;
                    self.applying = Some((mark, last));
                }
                Err(why) => self.stop(id, &why),
            },
        }
    }

    /// Returns whether nothing is missing between what was read and an entry. One that can't be understood does not say.
    fn follows(&self, entry: &Entry) -> bool {
        let is_unknown = matches!(entry.body, Body::Unknown(_));
        is_unknown || self.read.as_ref().is_none_or(|read| read.entry == entry.previous)
    }

    /// Tells all streams that events up to this id may be missing.
    fn lose_through(&mut self, id: u64) {
        self.follow.lose_through(id);
        self.engine.shared.advance(id);
        self.engine.waiting.advance(id);
    }

    /// Finds out why the entry that was read is not the next one after those before it: they were trimmed, or lost.
    fn find_missing(&mut self, id: u64) {
        self.skip_to(id);
        self.attach();
    }

    /// Stops for good at an entry that can't be read: skipping it would lose events silently.
    fn stop(&mut self, id: u64, why: &str) {
        self.is_stopped = true;
        self.engine.shared.unreadable(&format!("the log's entry {id} can't be read: {why}"));
    }

    fn connect(&mut self, now: u64) -> bool {
        if self.backoff.left(now) > 0 {
            return false;
        }
        match self.connect.connect() {
            Ok(log) => {
                self.log = Some(log);
                self.verify_at = None;
                true
            }
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// Finds out whether the log has what was read, and where to go on if not.
    fn attach(&mut self) {
        let Some(log) = &mut self.log else { return };
        let shared = &self.engine.shared;
        let request = Attach {
            read: self.read.clone(),
            appended: shared.appended(),
            floor: shared.floor(),
            applied: shared.applied(),
            format: self.format,
        };
        match log.attach(&request) {
            Ok(attached) => {
                shared.set_subscribers(self.follow.subscribers());
                self.newest = attached.pulse.last;
                self.format = Some(attached.format);
                self.found = Found { erased: attached.erased, has_read: attached.has_read };
                self.note_attached(attached.pulse);
                self.go_on(attached.from, request.appended.as_ref());
            }
            Err(error) => self.fail(&error),
        }
    }

    fn note_attached(&mut self, pulse: Pulse) {
        let (now, shared) = (self.engine.clock.now(), &self.engine.shared);
        if self.verify_at.replace(now.millis + VERIFY_MILLIS).is_none() {
            shared.tail.connects.add(1);
            shared.link_up(Side::Tail, now.millis);
            shared.restart_behind(pulse.last, now.millis);
        }
        shared.note_pulse(pulse, self.engine.clock.elapsed_micros(), now.millis);
        if self.goal.is_none() && !shared.is_caught_up() {
            self.goal = Some(pulse.last);
            self.check_goal();
        }
    }

    fn go_on(&mut self, from: From, appended: Option<&Mark>) {
        match from {
            From::Next => self.note_found(appended),
            From::Oldest(oldest) => {
                self.engine.shared.tail.trimmed.add(1);
                log::warn!("the engine has trimmed events that this broker has not read; all streams get a gap event");
                self.skip_to(oldest);
            }
            // All streams know of the loss. What was appended before it is lost, too.
            From::Loss(loss) if loss <= self.engine.shared.applied() => self.engine.shared.forget_appended(loss),
            From::Loss(loss) => self.skip_to(loss),
        }
    }

    /// Notes that the log has an entry that this broker has appended. If there is another one to look for, does so next.
    fn note_found(&mut self, appended: Option<&Mark>) {
        let read = self.read.as_ref().map_or(0, |read| read.entry);
        if appended.is_some_and(|mark| self.engine.shared.found_appended(mark, read)) {
            self.verify_at = Some(0);
        }
    }

    /// Continues with the entry that has this id. The position stays what it was until then, so that another loss in the
    /// meantime is noticed. Records that the entries before it refer to may be new, or lost.
    fn skip_to(&mut self, id: u64) {
        self.discard();
        self.check_records();
        self.after = id.saturating_sub(1);
        self.has_gap = true;
    }

    /// Discards what was read but is not being applied.
    fn discard(&mut self) {
        if let Some(entry) = self.entries.front() {
            self.after = entry.id.saturating_sub(1);
        }
        self.entries.clear();
        self.fetched = Fetched::default();
    }

    fn read_on(&mut self) {
        let Some(log) = &mut self.log else { return };
        match log.read(self.after) {
            Ok(entries) => {
                self.backoff.succeed();
                if let Some(newest) = entries.last() {
                    self.after = newest.id;
                } else {
                    self.check_progress();
                }
                self.entries = entries.into();
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Drops a connection over which nothing comes, although the log has more.
    fn check_progress(&mut self) {
        if self.engine.shared.stands_still(self.millis()) {
            self.fail(&LogError::Broken("the log has entries that do not arrive".into()));
        }
    }

    /// Drops the connection.
    fn fail(&mut self, error: &LogError) {
        self.log = None;
        self.discard();
        self.check_records();
        self.backoff.fail(self.millis());
        self.engine.shared.link_down(Side::Tail, &error.to_string(), self.millis());
    }

    fn millis(&self) -> u64 {
        self.engine.clock.now().millis
    }
}
