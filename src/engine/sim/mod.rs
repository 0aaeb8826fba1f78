//! The log in memory, with faults. Several brokers share it; one seed decides what happens. A read without entries returns at
//! once, because a simulation advances the time itself.
//!
//! ```text
//! mod         what a test controls: time, faults, failover
//! connection  what a broker uses: connections, each to one server
//! server      what a server holds, and what each request does to it
//! records     the records on a server
//! inserts     which requests to insert records are granted
//! ```
//! There is one primary at a time. A failover makes a new one from what a replica had; the old server may stay for those
//! that are connected to it.

mod connection;
mod faults;
mod inserts;
mod records;
mod revocations;
mod server;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use super::log::Entry;
use super::settings::Retention;
pub use connection::{SimConnect, SimConnection};
pub use faults::{Fault, Faults, Kind};
use server::Data;

use crate::records::Record;
use crate::records::retention::Retention as VersionRetention;

/// The number of earlier states that a failover can choose from.
const MAX_EARLIER: usize = 64;

/// The log. Clones share it.
#[derive(Clone)]
pub struct SimLog(Arc<Mutex<State>>);

/// What becomes of the old server after a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldServer {
    /// It is gone: its connections break.
    Gone,
    /// Its connections stay. It refuses to write.
    Demoted,
    /// Its connections stay. It does not know that it was replaced.
    Unaware,
}

/// A request that arrives later.
type Late = Box<dyn FnOnce(&mut State) + Send>;

struct State {
    rng: Rng,
    /// Microseconds since the Unix epoch.
    micros: u64,
    retention: Retention,
    /// The last one is the primary.
    servers: Vec<Server>,
    is_away: bool,
    is_out_of_memory: bool,
    faults: Faults,
    links: BTreeMap<u64, Link>,
    late: VecDeque<Late>,
    connections: u64,
    trimmed: usize,
    lost: Vec<Arc<Entry>>,
    written: Vec<Arc<Entry>>,
    unproven: Vec<Arc<Entry>>,
    /// The entries of records that were ever appended to any server, with these.
    inserted: Vec<(Arc<Entry>, Vec<Arc<Record>>)>,
}

struct Server {
    data: Data,
    /// States before the last changes, the newest last.
    earlier: VecDeque<Data>,
    role: Role,
    /// The newest id that it ever had.
    newest: u64,
    /// What its clock is ahead, in microseconds.
    ahead: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Also that of a server which does not know that it was replaced.
    Primary,
    Demoted,
    Gone,
}

/// What is between a broker's thread and the log.
#[derive(Default)]
struct Link {
    is_cut: bool,
    /// Connections with smaller numbers are broken.
    broken_before: u64,
    /// Connections with smaller numbers read nothing.
    still_before: u64,
    planned: VecDeque<(Kind, Fault)>,
}

impl SimLog {
    /// Creates a log that does not exist yet. `micros` is the time.
    pub fn new(seed: u64, micros: u64, retention: Retention) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: Rng::with_seed(seed),
            micros,
            retention,
            servers: vec![Server::new(Data::default(), 0)],
            is_away: false,
            is_out_of_memory: false,
            faults: Faults::default(),
            links: BTreeMap::new(),
            late: VecDeque::new(),
            connections: 0,
            trimmed: 0,
            lost: Vec::new(),
            written: Vec::new(),
            unproven: Vec::new(),
            inserted: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a way to connect. A broker's threads have a link each, so that each can be cut alone.
    pub fn connector(&self, link: u64) -> SimConnect {
        SimConnect::new(self.clone(), link)
    }

    /// Advances the time.
    pub fn advance(&self, micros: u64) {
        self.lock().micros += micros;
    }

    /// Sets the primary's clock ahead, or back.
    pub fn step_clock(&self, micros: i64) {
        self.lock().primary().ahead += micros;
    }

    /// Sets the format of the log, as the version of Esker that creates it and an operator do.
    pub fn set_format(&self, format: u32) {
        self.lock().primary().data.set_format(format);
    }

    /// Sets which versions of records all brokers keep from now on, as if they had been restarted.
    pub fn keep_versions(&self, versions: VersionRetention) {
        self.lock().retention.versions = versions;
    }

    /// Sets how often faults happen.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Has the next request of this kind on a link meet a fault.
    pub fn plan(&self, link: u64, kind: Kind, fault: Fault) {
        self.lock().link(link).planned.push_back((kind, fault));
    }

    /// Cuts a link, so that its connections break, or repairs it.
    pub fn cut(&self, link: u64, is_cut: bool) {
        if is_cut {
            self.break_link(link);
        }
        self.lock().link(link).is_cut = is_cut;
    }

    /// Breaks the connections of a link.
    pub fn break_link(&self, link: u64) {
        let mut state = self.lock();
        state.link(link).broken_before = state.connections;
    }

    /// Has the present connections of a link read nothing any more, though nothing else is wrong with them.
    pub fn stand_still(&self, link: u64) {
        let mut state = self.lock();
        state.link(link).still_before = state.connections;
    }

    /// Makes the servers unreachable, so that all connections break, or reachable again.
    pub fn set_away(&self, is_away: bool) {
        let mut state = self.lock();
        state.is_away = is_away;
        if is_away {
            let connections = state.connections;
            state.links.values_mut().for_each(|link| link.broken_before = connections);
        }
    }

    /// Has the server refuse appends because it is out of memory.
    pub fn set_out_of_memory(&self, is_out_of_memory: bool) {
        self.lock().is_out_of_memory = is_out_of_memory;
    }

    /// Has the oldest request arrive whose sender has given up. Returns whether there was one.
    pub fn deliver_late(&self) -> bool {
        let mut state = self.lock();
        let late = state.late.pop_front();
        late.map(|late| late(&mut state)).is_some()
    }

    /// Promotes a replica that has everything.
    pub fn fail_over(&self, old: OldServer) {
        let mut state = self.lock();
        let data = state.primary().data.clone();
        state.promote(data, old);
    }

    /// Promotes a replica that lacks the newest entries and everything that was done with and after them.
    pub fn lose_suffix(&self, entries: usize, old: OldServer) {
        let mut state = self.lock();
        let primary = state.primary();
        let last = primary.data.entries().nth_back(entries).map_or(0, |entry| entry.id);
        let is_early = |data: &&Data| data.entries().next_back().map_or(0, |entry| entry.id) <= last;
        let earlier = primary.earlier.iter().rfind(is_early).or(primary.earlier.front());
        let data = earlier.filter(|_| entries > 0).unwrap_or(&primary.data).clone();
        state.promote(data, old);
    }

    /// Promotes a replica that lacks the last changes: greetings, appends and what attaching has written.
    pub fn lose_changes(&self, changes: usize, old: OldServer) {
        let mut state = self.lock();
        let primary = state.primary();
        let data = primary.earlier.iter().nth_back(changes.wrapping_sub(1)).unwrap_or(&primary.data).clone();
        state.promote(data, old);
    }

    /// Ends the servers that don't know that they were replaced.
    pub fn end_unaware_servers(&self) {
        let mut state = self.lock();
        let primary = state.servers.len() - 1;
        let unaware = state.servers[..primary].iter_mut().filter(|server| server.role == Role::Primary);
        unaware.for_each(|server| server.role = Role::Gone);
    }

    /// Removes everything, as FLUSHALL does. Connections stay.
    pub fn flush(&self) {
        let mut state = self.lock();
        let removed = std::mem::take(&mut state.primary().data);
        let lost: Vec<_> = removed.entries().filter(|entry| !contains(&state.lost, entry)).cloned().collect();
        state.lost.extend(lost);
    }

    /// Returns the entries that were lost or removed, and those that were appended to servers which had been replaced.
    pub fn lost(&self) -> Vec<Arc<Entry>> {
        self.lock().lost.clone()
    }

    /// Returns the entries that were appended without a proof that they are durable.
    pub fn unproven(&self) -> Vec<Arc<Entry>> {
        self.lock().unproven.clone()
    }

    /// Returns everything that was ever appended to any server, in the order in which it was.
    pub fn written(&self) -> Vec<Arc<Entry>> {
        self.lock().written.clone()
    }

    /// Returns the entries, oldest first.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.lock().primary().data.entries().cloned().collect()
    }

    /// Returns all records, ascending by id.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.lock().primary().data.records().after(0).to_vec()
    }

    /// Returns the entries of records that were ever appended to any server, with these, in the order in which they were.
    pub fn inserted(&self) -> Vec<(Arc<Entry>, Vec<Arc<Record>>)> {
        self.lock().inserted.clone()
    }

    /// Returns the records that were removed, not lost.
    pub fn removed(&self) -> Vec<Arc<Record>> {
        self.lock().primary().data.records().removed().to_vec()
    }

    /// Returns the id of the newest erasure of a newest record; 0 if there was none.
    pub fn erased(&self) -> u64 {
        self.lock().primary().data.erased()
    }

    /// Returns the newest id.
    pub fn last(&self) -> u64 {
        self.lock().primary().data.last()
    }

    /// Returns the newest id that any server has ever had.
    pub fn newest(&self) -> u64 {
        self.lock().servers.iter().map(|server| server.newest).max().unwrap_or(0)
    }

    /// Returns how many entries were trimmed.
    pub fn trimmed(&self) -> usize {
        self.lock().trimmed
    }
}

impl State {
    fn primary(&mut self) -> &mut Server {
        let primary = self.servers.len() - 1;
        &mut self.servers[primary]
    }

    fn link(&mut self, link: u64) -> &mut Link {
        self.links.entry(link).or_default()
    }

    fn promote(&mut self, data: Data, old: OldServer) {
        let is_lost = |entry: &&Arc<Entry>| entry.id > data.last() && !contains(&self.lost, entry);
        let lost: Vec<_> = self.written.iter().filter(is_lost).cloned().collect();
        let primary = self.primary();
        primary.role = match old {
            OldServer::Gone => Role::Gone,
            OldServer::Demoted => Role::Demoted,
            OldServer::Unaware => Role::Primary,
        };
        let ahead = primary.ahead;
        self.lost.extend(lost);
        // The replica may not have heard of a removal.
        self.lost.retain(|entry| !data.entries().any(|other| Arc::ptr_eq(entry, other)));
        self.servers.push(Server::new(data, ahead));
    }

    /// Applies a request that changes something to a server.
    fn apply<T>(&mut self, server: usize, kind: Kind, request: impl FnOnce(&mut Data, u64, &Retention) -> T) -> T {
        let (retention, primary) = (self.retention, self.servers.len() - 1);
        let is_replaced = server < primary;
        let server = &mut self.servers[server];
        let now = self.micros.saturating_add_signed(server.ahead);
        if !matches!(kind, Kind::Pulse | Kind::Register | Kind::Sweep) {
            server.earlier.push_back(server.data.clone());
            let surplus = server.earlier.len().saturating_sub(MAX_EARLIER);
            server.earlier.drain(..surplus);
        }
        let last = server.data.last();
        let result = request(&mut server.data, now, &retention);
        server.newest = server.newest.max(server.data.last());
        self.trimmed += server.data.take_trimmed();
        let new: Vec<_> = server.data.entries().filter(|entry| entry.id > last).cloned().collect();
        if is_replaced {
            self.lost.extend(new.iter().cloned());
        }
        let records = server.data.records().inserted_after(last);
        if let Some(entry) = new.first().filter(|_| !records.is_empty()) {
            self.inserted.push((Arc::clone(entry), records));
        }
        self.written.extend(new);
        result
    }
}

impl Server {
    fn new(data: Data, ahead: i64) -> Self {
        Self { newest: data.last(), data, earlier: VecDeque::new(), role: Role::Primary, ahead }
    }
}

fn contains(entries: &[Arc<Entry>], entry: &Arc<Entry>) -> bool {
    entries.iter().any(|other| Arc::ptr_eq(entry, other))
}
