//! A trace of what was done: counts, a digest of all calls and, on request, the calls themselves. Contents are left out, as
//! the salts in a WAL come from SQLite's own random number generator, which all connections of a process share.

use std::ffi::c_int;

use libsqlite3_sys::SQLITE_OK;

use crate::rng::mix;

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// A power cut: only what is on the disk is left.
    Power,
    /// The process is killed, and the kernel continues.
    Kill,
}

/// What a disk has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// All calls.
    pub calls: u64,
    /// Reads.
    pub reads: u64,
    /// Writes, including partial ones.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Calls of fsync that reported success, including false reports.
    pub syncs: u64,
    /// Calls that returned an error; a busy lock and a read beyond the end of a file don't count.
    pub failures: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Kills of the process.
    pub kills: u64,
    /// A digest of every call's name, file, offset, length and result. Equal for equal calls on equal seeds.
    pub digest: u64,
}

/// A call, for the trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub what: &'static str,
    pub name: &'a str,
    pub offset: u64,
    pub len: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub stats: Stats,
    pub lines: Option<Vec<String>>,
}

impl Trace {
    pub fn record(&mut self, call: Call<'_>, code: c_int) {
        let stats = &mut self.stats;
        stats.calls += 1;
        stats.reads += u64::from(call.what == "read");
        stats.writes += u64::from(call.what == "write");
        stats.syncs += u64::from(call.what == "sync" && code == SQLITE_OK);
        stats.failures += u64::from(is_failure(code));
        for word in [hash(call.what), hash(call.name), call.offset, call.len, u64::from(code.unsigned_abs())] {
            stats.digest = mix(stats.digest ^ word).wrapping_add(1);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {} {}+{} = {code}", call.what, call.name, call.offset, call.len));
        }
    }

    pub fn crash(&mut self, crash: Crash) {
        match crash {
            Crash::Power => self.stats.power_cuts += 1,
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
