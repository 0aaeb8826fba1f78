//! Connections to the log, each to the server that was the primary when it was made.

use super::super::log::{
    Append, Appended, Attach, Attached, Connect, Entry, Erase, Erased, Greeting, Hello, Insert, Inserted, Log,
    LogError, Mark, OwnId, Peer, Pulse, ReadRecords, Refusal, RemoveRecords, Revocations, Revoke, Revoked, Swept,
    Version,
};
use super::super::settings::Retention;
use super::faults::{Fault, Kind};
use super::records::Records;
use super::server::Data;
use super::{Role, SimLog, State};
use crate::records::Record;

/// The maximum number of entries that a read returns.
const MAX_READ: usize = 64;
/// The maximum number of records that a read returns.
const MAX_RECORDS: usize = 16;
/// The maximum number of revocations that a read returns.
const MAX_REVOKED: usize = 16;

/// Connects to the log.
pub struct SimConnect {
    log: SimLog,
    link: u64,
}

/// A connection to the log.
pub struct SimConnection {
    log: SimLog,
    link: u64,
    number: u64,
    /// The index of the server.
    server: usize,
    attaches: u64,
}

impl SimConnect {
    pub(super) fn new(log: SimLog, link: u64) -> Self {
        Self { log, link }
    }
}

impl Connect for SimConnect {
    type Log = SimConnection;

    fn connect(&mut self) -> Result<SimConnection, LogError> {
        let mut state = self.log.lock();
        let refused = state.rng.u16(0..1000) < state.faults.unreachable;
        if state.is_away || refused || state.link(self.link).is_cut {
            return Err(LogError::Unreachable("simulated".into()));
        }
        state.link(self.link);
        let (number, server) = (state.connections, state.servers.len() - 1);
        state.connections += 1;
        Ok(SimConnection { log: self.log.clone(), link: self.link, number, server, attaches: 0 })
    }
}

impl SimConnection {
    /// Sends a request that changes something.
    fn write<T: 'static>(
        &self,
        kind: Kind,
        request: impl FnOnce(&mut Data, u64, &Retention) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let mut state = self.log.lock();
        let server = self.server;
        let send = move |state: &mut State| state.write(server, kind, request);
        match self.fault(&mut state, kind)? {
            None | Some(Fault::Short(_)) => send(&mut state),
            Some(Fault::Refused(refusal)) => Err(LogError::Refused(refusal, "simulated".into())),
            Some(Fault::Unproven) => {
                let before = state.written.len();
                send(&mut state)?;
                let new = state.written[before..].to_vec();
                state.unproven.extend(new);
                Err(LogError::Unproven("simulated".into()))
            }
            Some(Fault::LostRequest) => Err(self.break_off(&mut state)),
            Some(Fault::LostAnswer) => {
                let _ = send(&mut state);
                Err(self.break_off(&mut state))
            }
            Some(Fault::Late) => {
                state.late.push_back(Box::new(move |state| drop(send(state))));
                Err(self.break_off(&mut state))
            }
        }
    }

    /// Reads records, this many at most, unless the server can't write.
    fn read_records<T>(&self, read: impl FnOnce(&Records, usize) -> T) -> Result<T, LogError> {
        self.read_data(|data, limit| read(data.records(), limit))
    }

    fn read_data<T>(&self, read: impl FnOnce(&Data, usize) -> T) -> Result<T, LogError> {
        let mut state = self.log.lock();
        let limit = match self.fault(&mut state, Kind::Records)? {
            Some(Fault::LostRequest | Fault::LostAnswer | Fault::Late) => return Err(self.break_off(&mut state)),
            Some(Fault::Refused(refusal)) => return Err(LogError::Refused(refusal, "simulated".into())),
            Some(Fault::Short(limit)) => limit.max(1),
            Some(Fault::Unproven) | None => MAX_RECORDS,
        };
        let server = &state.servers[self.server];
        match server.role {
            Role::Demoted => Err(LogError::Refused(Refusal::NotWritable, "simulated".into())),
            Role::Gone | Role::Primary => Ok(read(&server.data, limit)),
        }
    }

    /// Returns what goes wrong with a request, or that the connection is broken.
    fn fault(&self, state: &mut State, kind: Kind) -> Result<Option<Fault>, LogError> {
        if state.is_away || state.servers[self.server].role == Role::Gone {
            return Err(self.break_off(state));
        }
        let link = state.link(self.link);
        if link.is_cut || self.number < link.broken_before {
            return Err(self.break_off(state));
        }
        let planned = link.planned.iter().position(|(planned, _)| *planned == kind);
        if let Some((_, fault)) = planned.and_then(|index| link.planned.remove(index)) {
            return Ok(Some(fault));
        }
        let faults = state.faults;
        Ok(faults.draw(kind, &mut state.rng))
    }

    fn break_off(&self, state: &mut State) -> LogError {
        let link = state.link(self.link);
        link.broken_before = link.broken_before.max(self.number + 1);
        LogError::Broken("simulated".into())
    }
}

impl Log for SimConnection {
    fn hello(&mut self, hello: Hello) -> Result<Greeting, LogError> {
        self.write(Kind::Hello, move |data, now, _| Ok(data.hello(now, hello)))
    }

    fn append(&mut self, append: &Append<'_>) -> Result<Appended, LogError> {
        let (blob, own_ids): (Vec<u8>, Vec<OwnId>) = (append.blob.to_vec(), append.own_ids.to_vec());
        let Append { hello, batch, floor, events, .. } = *append;
        self.write(Kind::Append, move |data, now, retention| {
            data.append(now, retention, &Append { hello, batch, floor, events, blob: &blob, own_ids: &own_ids })
        })
    }

    fn pulse(&mut self, hello: Hello) -> Result<Pulse, LogError> {
        self.write(Kind::Pulse, move |data, now, _| data.pulse(now, hello))
    }

    fn register(&mut self, hello: Hello, subscribers: u64) -> Result<Vec<Peer>, LogError> {
        self.write(Kind::Register, move |data, now, _| data.register(now, hello, subscribers))
    }

    fn insert(&mut self, insert: &Insert<'_>) -> Result<Inserted, LogError> {
        let requests = insert.requests.to_vec();
        let Insert { hello, batch, floor, keys, .. } = *insert;
        self.write(Kind::Insert, move |data, now, retention| {
            data.insert(now, retention, &Insert { hello, batch, floor, requests: &requests, keys })
        })
    }

    fn attach(&mut self, attach: &Attach) -> Result<Attached, LogError> {
        self.attaches += 1;
        let token = format!("{:016x}:{:016x}:{}", self.link, self.number, self.attaches);
        let attach = attach.clone();
        self.write(Kind::Attach, move |data, now, _| Ok(data.attach(now, &attach, &token)))
    }

    fn read(&mut self, after: u64) -> Result<Vec<Entry>, LogError> {
        let mut state = self.log.lock();
        let limit = match self.fault(&mut state, Kind::Read)? {
            Some(Fault::LostRequest | Fault::LostAnswer | Fault::Late) => return Err(self.break_off(&mut state)),
            Some(Fault::Short(limit)) => limit,
            _ => MAX_READ,
        };
        let is_still = self.number < state.link(self.link).still_before;
        if is_still {
            return Ok(Vec::new());
        }
        let data = &state.servers[self.server].data;
        if data.last() == 0 {
            return Err(LogError::Refused(Refusal::NotWritable, "the log does not exist".into()));
        }
        Ok(data.read(after, limit))
    }
}

impl ReadRecords for SimConnection {
    fn newest_records(&mut self, after: u64) -> Result<Vec<Record>, LogError> {
        self.read_records(|records, limit| records.newest(after, limit))
    }

    fn records(&mut self, first: u64, last: u64) -> Result<Vec<Record>, LogError> {
        self.read_records(|records, limit| records.range(first, last, limit))
    }

    fn records_of(&mut self, first: u64, last: u64, entry: &Mark) -> Result<(Vec<Record>, bool), LogError> {
        self.read_data(|data, limit| (data.records().range(first, last, limit), data.has(entry)))
    }

    fn has_record(&mut self, id: u64) -> Result<bool, LogError> {
        self.read_records(|records, _| records.has(id))
    }

    fn versions(&mut self, name: &str, after: u64, limit: usize) -> Result<Vec<Version>, LogError> {
        self.read_records(|records, most| records.versions(name, after, limit.min(most)))
    }
}

impl RemoveRecords for SimConnection {
    fn erase(&mut self, erase: &Erase<'_>) -> Result<Erased, LogError> {
        let Erase { hello, batch, floor, before, .. } = *erase;
        let name = erase.name.to_owned();
        self.write(Kind::Erase, move |data, now, _| {
            data.erase(now, &Erase { hello, batch, floor, name: &name, before })
        })
    }

    fn sweep(&mut self, hello: Hello) -> Result<Swept, LogError> {
        self.write(Kind::Sweep, move |data, now, retention| data.sweep(now, retention, hello))
    }
}

impl Revocations for SimConnection {
    fn revoke(&mut self, revoke: &Revoke<'_>) -> Result<u64, LogError> {
        let Revoke { hello, texts, max } = *revoke;
        let texts = texts.to_vec();
        self.write(Kind::Revocations, move |data, now, _| data.revoke(now, &Revoke { hello, texts: &texts, max }))
    }

    fn revoked(&mut self, after: u64) -> Result<Vec<Revoked>, LogError> {
        self.write(Kind::Revocations, move |data, _, _| Ok(data.revocations().after(after, MAX_REVOKED)))
    }
}

impl State {
    /// Carries out a request that changes something, unless the server refuses.
    fn write<T>(
        &mut self,
        server: usize,
        kind: Kind,
        request: impl FnOnce(&mut Data, u64, &Retention) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let refused = |refusal: Refusal| Err(LogError::Refused(refusal, "simulated".into()));
        match self.servers[server].role {
            Role::Gone => Err(LogError::Broken("simulated".into())),
            Role::Demoted => refused(Refusal::NotWritable),
            Role::Primary if self.is_out_of_memory && kind.is_append() => refused(Refusal::Memory),
            Role::Primary => self.apply(server, kind, request),
        }
    }
}
