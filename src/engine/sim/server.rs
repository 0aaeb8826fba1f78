//! What one server holds, and what each request does to it: the scripts of [`super::super::redis`], in Rust. Each request is
//! one step. Independent of connections and faults.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::log::{
    Append, Appended, Attach, Attached, Body, ERASED_AT_ONCE, Entry, Erase, Erased, From, Greeting, Hello, Insert,
    Inserted, LastBatch, LogError, Mark, PRUNED_BEYOND_THE_COUNT, PRUNED_OF_A_NAME, Peer, Pulse, RECORDS_COST,
    REMOVED_BYTES, Refusal, Repetition, Revoke, SWEPT_NAMES, SWEPT_VERSIONS, Swept,
};
use super::super::settings::Retention;
use super::super::{FORMAT, RECORDS_FORMAT, REMOVAL_FORMAT};
use super::inserts::{self, Keys};
use super::records::{self, Limits, Records};
use super::revocations::Revocations;
use crate::records::NewRecord;

/// The maximum number of entries that an append trims.
const MAX_TRIMMED: usize = 4;
/// How long a session is known, in microseconds.
const SESSION_MICROS: u64 = 600_000_000;
/// How much longer than events a publisher's id is known, in microseconds.
const OWN_ID_MARGIN_MICROS: u64 = 60_000_000;
/// How long a broker is known after it has told of itself, in microseconds.
const PEER_MICROS: u64 = 10_000_000;

/// The data on a server. A clone is what a replica has at that moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// Ascending by id.
    entries: VecDeque<Arc<Entry>>,
    /// `None`: the log does not exist.
    meta: Option<Meta>,
    /// By broker.
    sessions: BTreeMap<u64, Session>,
    /// By topic and publisher's id.
    own_ids: BTreeMap<Arc<str>, OwnIdOwner>,
    records: Records,
    keys: Keys,
    revocations: Revocations,
    /// By broker, with the time until which each is known.
    peers: BTreeMap<u64, (u64, Peer)>,
    /// The number of entries that were trimmed since it was taken.
    trimmed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    format: u32,
    last: u64,
    era: u64,
    /// The id of the newest entry that says that others are lost.
    lost: u64,
    bytes: u64,
    /// The id of the newest entry that says that the newest version of a name was erased.
    erased: u64,
}

impl Default for Meta {
    fn default() -> Self {
        Self { format: FORMAT, last: 0, era: 0, lost: 0, bytes: 0, erased: 0 }
    }
}

#[derive(Clone, Debug)]
struct Session {
    session: u64,
    last_batch: Option<(u64, LastBatch)>,
    expires: u64,
}

#[derive(Clone, Copy, Debug)]
struct OwnIdOwner {
    id: u64,
    expires: u64,
}

impl Data {
    /// See [`super::super::log::Log::hello`].
    pub fn hello(&mut self, now: u64, hello: Hello) -> Greeting {
        self.expire(now);
        let last_batch = self.sessions.remove(&hello.broker).and_then(|session| session.last_batch);
        let session = Session { session: hello.session, last_batch: last_batch.clone(), expires: now + SESSION_MICROS };
        self.sessions.insert(hello.broker, session);
        Greeting { pulse: self.pulse_at(now), last_batch }
    }

    /// See [`super::super::log::Log::pulse`].
    pub fn pulse(&mut self, now: u64, hello: Hello) -> Result<Pulse, LogError> {
        self.session(now, hello)?.expires = now + SESSION_MICROS;
        Ok(self.pulse_at(now))
    }

    /// See [`super::super::log::Log::register`].
    pub fn register(&mut self, now: u64, hello: Hello, subscribers: u64) -> Result<Vec<Peer>, LogError> {
        self.session(now, hello)?;
        let version = env!("CARGO_PKG_VERSION").into();
        let peer = Peer { broker: hello.broker, version, format: FORMAT, subscribers };
        self.peers.insert(hello.broker, (now + PEER_MICROS, peer));
        self.peers.retain(|_, (until, _)| *until > now);
        Ok(self.peers.values().map(|(_, peer)| peer.clone()).collect())
    }

    /// See [`super::super::log::Log::append`].
    pub fn append(&mut self, now: u64, retention: &Retention, append: &Append<'_>) -> Result<Appended, LogError> {
        self.session(now, append.hello)?;
        if self.meta.is_none() {
            return Err(LogError::Refused(Refusal::NotWritable, "the log does not exist".into()));
        }
        let first = self.next_id(now, append.floor);
        let repetitions = self.judge_own_ids(now, retention, append, first);
        self.session(now, append.hello)?.expires = now + SESSION_MICROS;
        let appended = Appended { first, repetitions };
        if appended.repetitions.len() < append.events {
            let repetitions = appended.repetitions.iter().map(|repetition| repetition.index).collect();
            let body = Body::Events { count: append.events, blob: append.blob.to_vec(), repetitions };
            self.push(first, first + append.events as u64 - 1, &append.token(), body);
            self.session(now, append.hello)?.last_batch = Some((append.batch, LastBatch::Events(appended.clone())));
            self.trim(now, retention);
        }
        Ok(appended)
    }

    /// See [`super::super::log::Log::insert`].
    pub fn insert(&mut self, now: u64, retention: &Retention, insert: &Insert<'_>) -> Result<Inserted, LogError> {
        self.session(now, insert.hello)?;
        self.check_format(insert)?;
        let first = self.next_id(now, insert.floor).max(self.records.newest_id() + 1);
        let judged = inserts::judge(now, first, insert, &self.records, &self.keys);
        self.check_room(retention, &judged.granted)?;
        self.session(now, insert.hello)?.expires = now + SESSION_MICROS;
        let (count, outcomes) = (judged.granted.len(), judged.outcomes.clone());
        if count == 0 {
            return Ok(Inserted { outcomes, forgotten: 0 });
        }
        self.records.push(first, &judged.granted);
        self.prune(now, retention, &judged.granted);
        self.push(first, first + count as u64 - 1, &insert.token(), Body::Records(count));
        self.trim(now, retention);
        self.session(now, insert.hello)?.last_batch = Some((insert.batch, LastBatch::Inserts(outcomes.clone())));
        let forgotten = self.keys.remember(now, judged, insert.keys);
        Ok(Inserted { outcomes, forgotten })
    }

    /// Fails unless there is a log which may have records.
    fn check_format(&self, insert: &Insert<'_>) -> Result<(), LogError> {
        let refused = |refusal, why: &str| Err(LogError::Refused(refusal, why.into()));
        match self.meta {
            _ if insert.requests.is_empty() => refused(Refusal::Records, "there are none"),
            None => refused(Refusal::NotWritable, "the log does not exist"),
            Some(meta) if meta.format < RECORDS_FORMAT => refused(Refusal::Records, "the log's format is too old"),
            Some(_) => Ok(()),
        }
    }

    /// Fails if there is no room for these records.
    fn check_room(&self, retention: &Retention, granted: &[NewRecord]) -> Result<(), LogError> {
        if !granted.is_empty() && self.records.bytes() + records::cost(granted) > retention.record_bytes {
            return Err(LogError::Refused(Refusal::Records, "the records have reached their limit".into()));
        }
        Ok(())
    }

    /// Removes versions of the names that were inserted.
    fn prune(&mut self, now: u64, retention: &Retention, inserted: &[NewRecord]) {
        let Some(limits) = version_limits(now, retention).filter(|_| self.can_remove()) else { return };
        let mut left = inserted.len() + PRUNED_BEYOND_THE_COUNT;
        let mut bytes = 0;
        for record in inserted {
            let count = left.min(PRUNED_OF_A_NAME);
            let removed = self.records.prune(&record.name, Limits { count, ..limits });
            (left, bytes) = (left - removed.versions, bytes + removed.bytes);
            if bytes >= REMOVED_BYTES {
                break;
            }
        }
    }

    fn can_remove(&self) -> bool {
        self.meta.is_some_and(|meta| meta.format >= REMOVAL_FORMAT)
    }

    /// See [`super::super::log::RemoveRecords::erase`].
    pub fn erase(&mut self, now: u64, erase: &Erase<'_>) -> Result<Erased, LogError> {
        self.session(now, erase.hello)?;
        if self.meta.is_none() {
            return Err(LogError::Refused(Refusal::NotWritable, "the log does not exist".into()));
        }
        if !self.can_remove() {
            return Err(LogError::Refused(Refusal::Records, "the log's format is too old".into()));
        }
        self.session(now, erase.hello)?.expires = now + SESSION_MICROS;
        let before = erase.before.or(self.records.ids(erase.name).last().map(|id| id + 1)).unwrap_or(0);
        let id = self.next_id(now, erase.floor).max(self.records.newest_id() + 1);
        let (versions, newest) = self.records.erase(erase.name, before, ERASED_AT_ONCE);
        if let Some(newest) = newest {
            self.push(id, id, &erase.token(), Body::Erased(newest));
            self.meta.get_or_insert_default().erased = id;
        }
        let rest = self.records.ids(erase.name).first().is_some_and(|id| *id < before).then_some(before);
        Ok(Erased { versions: versions as u64, rest, entry: newest.map(|_| id), last: self.last() })
    }

    /// See [`super::super::log::RemoveRecords::sweep`].
    pub fn sweep(&mut self, now: u64, retention: &Retention, hello: Hello) -> Result<Swept, LogError> {
        let Some(limits) = version_limits(now, retention) else {
            return Ok(Swept { versions: 0, is_cut_short: false });
        };
        self.session(now, hello)?;
        if !self.can_remove() {
            return Err(LogError::Refused(Refusal::Records, "the log's format is too old".into()));
        }
        let (removed, is_cut_short) = self.records.sweep(SWEPT_NAMES, Limits { count: SWEPT_VERSIONS, ..limits });
        Ok(Swept { versions: removed.versions as u64, is_cut_short })
    }

    /// See [`super::super::log::Revocations::revoke`].
    pub fn revoke(&mut self, now: u64, revoke: &Revoke<'_>) -> Result<u64, LogError> {
        self.session(now, revoke.hello)?;
        Ok(self.revocations.revoke(now, revoke))
    }

    /// Returns the revocations.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Sets the format of the log, if there is one.
    pub fn set_format(&mut self, format: u32) {
        if let Some(meta) = &mut self.meta {
            meta.format = format;
        }
    }

    /// Returns the records.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// See [`super::super::log::Log::attach`].
    pub fn attach(&mut self, now: u64, attach: &Attach, token: &str) -> Attached {
        let is_new = self.meta.is_none();
        let from = self.place(now, attach, token);
        if let (true, Some(format)) = (is_new, attach.format) {
            self.set_format(format);
        }
        let format = self.meta.map_or(FORMAT, |meta| meta.format);
        let erased = self.erased();
        let has_read = attach.read.as_ref().is_some_and(|mark| self.has(mark));
        Attached { pulse: self.pulse_at(now), from, format, erased, has_read }
    }

    fn place(&mut self, now: u64, attach: &Attach, token: &str) -> From {
        let marks = || attach.read.iter().chain(&attach.appended);
        let Some(((oldest, previous), meta)) =
            self.entries.front().map(|entry| (entry.id, entry.previous)).zip(self.meta)
        else {
            return match marks().next() {
                Some(_) => From::Loss(self.lose(now, attach.floor, token)),
                None => {
                    let id = self.next_id(now, attach.floor);
                    self.push(id, id, token, Body::Marker);
                    From::Next
                }
            };
        };
        // Of an entry with several ids, the log has another one among them.
        let is_replaced = attach.applied >= oldest;
        let overlapped = attach.read.iter().filter(|mark| mark.entry < oldest && is_replaced);
        let missing = marks().filter(|mark| mark.entry >= oldest && !self.has(mark)).chain(overlapped);
        match missing.map(|mark| mark.entry).max() {
            Some(missing) if missing.max(attach.applied) < meta.lost => From::Loss(meta.lost),
            Some(_) => From::Loss(self.lose(now, attach.floor, token)),
            None if attach.read.as_ref().is_some_and(|mark| mark.entry < oldest && mark.entry != previous) => {
                From::Oldest(oldest)
            }
            None => From::Next,
        }
    }

    /// Says that entries are lost. Returns the id of the entry that says so.
    fn lose(&mut self, now: u64, floor: u64, token: &str) -> u64 {
        let id = self.next_id(now, floor);
        self.push(id, id, token, Body::Lost);
        if let Some(meta) = &mut self.meta {
            (meta.era, meta.lost) = (meta.era + 1, id);
        }
        id
    }

    /// See [`super::super::log::Log::read`]. Returns `limit` entries at most.
    pub fn read(&self, after: u64, limit: usize) -> Vec<Entry> {
        let begin = self.entries.partition_point(|entry| entry.id <= after);
        self.entries.range(begin..).take(limit).map(|entry| Entry::clone(entry)).collect()
    }

    /// Returns all entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> + ExactSizeIterator {
        self.entries.iter()
    }

    /// Returns the number of entries that were trimmed since the last call.
    pub fn take_trimmed(&mut self) -> usize {
        std::mem::take(&mut self.trimmed)
    }

    /// Returns the id of the newest erasure of a newest record; 0 if there was none.
    pub fn erased(&self) -> u64 {
        self.meta.map_or(0, |meta| meta.erased)
    }

    /// Returns the newest id.
    pub fn last(&self) -> u64 {
        self.meta.map_or(0, |meta| meta.last)
    }

    fn session(&mut self, now: u64, hello: Hello) -> Result<&mut Session, LogError> {
        self.expire(now);
        let newest = self.sessions.get_mut(&hello.broker).filter(|newest| newest.session == hello.session);
        newest.ok_or(LogError::Fenced)
    }

    fn pulse_at(&self, now: u64) -> Pulse {
        let meta = self.meta.unwrap_or_default();
        Pulse { time: now, last: meta.last, era: meta.era, record_bytes: self.records.bytes() }
    }

    fn next_id(&self, now: u64, floor: u64) -> u64 {
        now.max(self.last() + 1).max(floor + 1)
    }

    /// Returns whether there is an entry.
    pub fn has(&self, mark: &Mark) -> bool {
        let found = self.entries.binary_search_by_key(&mark.entry, |entry| entry.id);
        found.is_ok_and(|index| self.entries[index].token == mark.token)
    }

    fn push(&mut self, id: u64, last: u64, token: &str, body: Body) {
        let meta = self.meta.get_or_insert_default();
        meta.last = last;
        meta.bytes += bytes(&body);
        let previous = self.entries.back().map_or(0, |entry| entry.id);
        self.entries.push_back(Arc::new(Entry { id, previous, token: token.into(), body }));
    }

    /// Finds the events that repeat others, and notes the ids of the rest.
    fn judge_own_ids(&mut self, now: u64, retention: &Retention, append: &Append<'_>, first: u64) -> Vec<Repetition> {
        let expires = now + retention.age.as_micros() as u64 + OWN_ID_MARGIN_MICROS;
        let mut repetitions = Vec::new();
        for own_id in append.own_ids {
            if let Some(owner) = self.own_ids.get(own_id.key.as_str()) {
                repetitions.push(Repetition { index: own_id.index, original: owner.id });
                continue;
            }
            let owner = OwnIdOwner { id: first + own_id.index as u64, expires };
            self.own_ids.insert(own_id.key.as_str().into(), owner);
        }
        repetitions
    }

    /// Removes entries that are too old or too many. The newest entry stays.
    fn trim(&mut self, now: u64, retention: &Retention) {
        let begin = now.saturating_sub(retention.age.as_micros() as u64);
        for _ in 0..MAX_TRIMMED {
            let (Some(oldest), Some(meta)) = (self.entries.front(), &mut self.meta) else { return };
            if self.entries.len() == 1 || (oldest.id >= begin && meta.bytes <= retention.bytes) {
                return;
            }
            meta.bytes -= bytes(&oldest.body);
            self.entries.pop_front();
            self.trimmed += 1;
        }
    }

    fn expire(&mut self, now: u64) {
        self.sessions.retain(|_, session| session.expires > now);
        self.own_ids.retain(|_, owner| owner.expires > now);
    }
}

/// Returns which versions the retention does not keep; `None` if it keeps all.
fn version_limits(now: u64, retention: &Retention) -> Option<Limits> {
    let versions = retention.versions;
    let most = versions.versions.map_or(usize::MAX, |most| most.get() as usize);
    let before = versions.age.map_or(0, |age| now.saturating_sub(age.as_micros() as u64));
    versions.is_limited().then_some(Limits { most, before, count: usize::MAX })
}

fn bytes(body: &Body) -> u64 {
    match body {
        Body::Events { blob, .. } => blob.len() as u64,
        Body::Records(_) => RECORDS_COST,
        Body::Marker | Body::Lost | Body::Erased(_) | Body::Unknown(_) => 0,
    }
}
