//! What was done: counts, a digest of all calls, and the calls themselves if somebody wants them. Refuses to know what was
//! written: salts in logs come from SQLite's own generator, which all connections of a process share.

use std::ffi::c_int;

use libsqlite3_sys::SQLITE_OK;

use crate::chance::mix;
use crate::state::Crash;

/// What a disk has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls, whatever they were.
    pub calls: u64,
    /// Calls that read.
    pub reads: u64,
    /// Calls that write, whole or not.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Calls of fsync that said yes, lies among them.
    pub syncs: u64,
    /// Calls that were answered with an error; a lock that another holds and a read beyond the end are none.
    pub failures: u64,
    /// Losses of power.
    pub cuts: u64,
    /// Processes killed.
    pub kills: u64,
    /// Of every call its name, file, place, length and answer. The same for the same calls on the same seed.
    pub digest: u64,
}

/// A call, for the record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub what: &'static str,
    pub name: &'a str,
    pub place: u64,
    pub len: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    pub stats: Stats,
    pub lines: Option<Vec<String>>,
}

impl Record {
    pub fn note(&mut self, call: Call<'_>, code: c_int) {
        let stats = &mut self.stats;
        stats.calls += 1;
        stats.reads += u64::from(call.what == "read");
        stats.writes += u64::from(call.what == "write");
        stats.syncs += u64::from(call.what == "sync" && code == SQLITE_OK);
        stats.failures += u64::from(is_failure(code));
        for word in [hash(call.what), hash(call.name), call.place, call.len, u64::from(code.unsigned_abs())] {
            stats.digest = mix(stats.digest ^ word).wrapping_add(1);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {} {}+{} = {code}", call.what, call.name, call.place, call.len));
        }
    }

    pub fn crash(&mut self, crash: Crash) {
        match crash {
            Crash::Power => self.stats.cuts += 1,
            Crash::Kill => self.stats.kills += 1,
        }
        self.stats.digest = mix(self.stats.digest ^ hash("crash"));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("crash {crash:?}"));
        }
    }
}

fn is_failure(code: c_int) -> bool {
    use libsqlite3_sys::{SQLITE_BUSY, SQLITE_IOERR_SHORT_READ, SQLITE_NOTFOUND};
    !matches!(code, SQLITE_OK | SQLITE_BUSY | SQLITE_IOERR_SHORT_READ | SQLITE_NOTFOUND)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)).wrapping_add(1))
}
