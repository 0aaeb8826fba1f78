//! The disk's state and each call on it, with SQLite's result codes. Faults are drawn here, and crashes happen here.
//! Independent of pointers, threads and sessions.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::Arc;

use errno::{Errno, set_errno};
use libsqlite3_sys::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_DELETE_NOENT, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ,
    SQLITE_IOERR_SHMLOCK, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE,
    SQLITE_LOCK_NONE, SQLITE_OPEN_CREATE, SQLITE_OPEN_EXCLUSIVE,
};

use crate::directory::{Directory, FileId};
use crate::faults::Faults;
use crate::file::File;
use crate::locks::{FileLocks, HandleId, SlotLocks};
use crate::memory::Memory;
use crate::rng::Rng;
use crate::trace::{Crash, Trace};

/// Linux's errno of a broken disk.
const EIO: i32 = 5;

/// The state of a disk.
#[derive(Debug)]
pub(crate) struct State {
    pub faults: Faults,
    pub trace: Trace,
    /// The time that SQLite reads, in milliseconds since 1970.
    pub unix_millis: i64,
    /// The number of crashes, which is the number of the current session.
    pub session: u64,
    /// Random bytes for SQLite.
    pub sqlite_rng: Rng,
    directory: Directory,
    locks: BTreeMap<FileId, FileLocks>,
    shared: BTreeMap<FileId, Shared>,
    handles: HandleId,
    /// A crash that happens after this many changes.
    planned: Option<(u64, Crash)>,
    /// Decides which calls fail.
    fault_rng: Rng,
    /// Decides what a crash leaves.
    crash_rng: Rng,
}

/// A file's shared memory with the locks on its slots. It exists as long as a handle has mapped it.
#[derive(Debug, Default)]
struct Shared {
    memory: Arc<Memory>,
    slots: SlotLocks,
    handles: Vec<HandleId>,
    region_bytes: usize,
}

impl State {
    pub fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            trace: Trace::default(),
            unix_millis: 0,
            session: 0,
            sqlite_rng: Rng::new(seed, 1),
            directory: Directory::default(),
            locks: BTreeMap::new(),
            shared: BTreeMap::new(),
            handles: 0,
            planned: None,
            fault_rng: Rng::new(seed, 2),
            crash_rng: Rng::new(seed, 3),
        }
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns the bytes of all files and their shared memory.
    pub fn used(&self) -> u64 {
        let memory: usize = self.shared.values().map(|shared| shared.memory.regions() * shared.region_bytes).sum();
        self.directory.used() + memory as u64
    }

    /// Returns the free bytes; `None` if they are unlimited.
    pub fn free_bytes(&self) -> Option<u64> {
        self.faults.capacity.map(|capacity| capacity.saturating_sub(self.used()))
    }

    /// Returns the free bytes as a length.
    fn free_len(&self) -> usize {
        self.free_bytes().map_or(usize::MAX, |free| usize::try_from(free).unwrap_or(usize::MAX))
    }
}

// Crashes.
impl State {
    /// Plans a crash in the change after this many more.
    pub fn plan_crash(&mut self, changes: u64, crash: Crash) {
        self.planned = Some((changes, crash));
    }

    pub fn crash(&mut self, crash: Crash) {
        self.session += 1;
        self.planned = None;
        self.locks.clear();
        self.shared.clear();
        match crash {
            Crash::Kill => self.directory.close_all(),
            Crash::Power => self.directory.cut_power(self.faults.powersafe_overwrite, &mut self.crash_rng),
        }
        self.trace.crash(crash);
    }

    /// Kills the process and replaces all files with these.
    pub fn restore(&mut self, files: &[(String, Vec<u8>)]) {
        self.crash(Crash::Kill);
        self.directory.replace(files);
    }

    /// Returns the crash that is planned for this change. Otherwise counts the change.
    pub fn planned_crash(&mut self) -> Option<Crash> {
        let (changes, crash) = self.planned.as_mut()?;
        if *changes == 0 {
            return Some(*crash);
        }
        *changes -= 1;
        None
    }

    /// Draws whether the change that a crash interrupts is made nevertheless.
    pub fn survives_crash(&mut self) -> bool {
        self.crash_rng.chance(0.5)
    }
}

// Calls on names.
impl State {
    /// Opens a file, and creates it if it is missing and the flags say so. Without a name it is a temporary file.
    pub fn open(&mut self, name: Option<&str>, flags: c_int) -> Result<(FileId, HandleId), c_int> {
        if self.fault_rng.chance(self.faults.opens_fail) {
            return Err(SQLITE_CANTOPEN);
        }
        let file = match name {
            Some(name) => self.find_or_create(name, flags)?,
            None => self.directory.create_temporary(),
        };
        self.directory.open(file);
        self.handles += 1;
        Ok((file, self.handles))
    }

    fn find_or_create(&mut self, name: &str, flags: c_int) -> Result<FileId, c_int> {
        match self.directory.find(name) {
            Some(_) if flags & SQLITE_OPEN_EXCLUSIVE != 0 => Err(SQLITE_CANTOPEN),
            Some(file) => Ok(file),
            None if flags & SQLITE_OPEN_CREATE != 0 => Ok(self.directory.create(name)),
            None => Err(SQLITE_CANTOPEN),
        }
    }

    /// Returns whether opening the file would create it.
    pub fn would_create(&self, name: &str, flags: c_int) -> bool {
        flags & SQLITE_OPEN_CREATE != 0 && self.directory.find(name).is_none()
    }

    pub fn delete(&mut self, name: &str, is_synced: bool) -> Result<(), c_int> {
        if !self.directory.remove(name) {
            return Err(SQLITE_IOERR_DELETE_NOENT);
        }
        if is_synced && !self.fault_rng.chance(self.faults.syncs_lie) {
            self.directory.sync();
        }
        Ok(())
    }

    /// Returns the length of a file, by name.
    pub fn len_of(&self, name: &str) -> Option<usize> {
        self.directory.find(name).and_then(|file| self.directory.file(file)).map(File::len)
    }

    pub fn close(&mut self, file: FileId, handle: HandleId) {
        self.unlock(file, handle, SQLITE_LOCK_NONE);
        self.unmap(file, handle);
        self.directory.close(file);
    }
}

// Calls on contents.
impl State {
    fn file(&mut self, file: FileId, failure: c_int) -> Result<&mut File, c_int> {
        self.directory.file_mut(file).ok_or(failure)
    }

    pub fn len(&mut self, file: FileId) -> Result<usize, c_int> {
        self.file(file, SQLITE_IOERR_READ).map(|file| file.len())
    }

    pub fn read(&mut self, file: FileId, offset: usize, buffer: &mut [u8]) -> Result<(), c_int> {
        if self.fault_rng.chance(self.faults.reads_fail) {
            return Err(SQLITE_IOERR_READ);
        }
        let count = self.file(file, SQLITE_IOERR_READ)?.read(offset, buffer);
        if count == buffer.len() { Ok(()) } else { Err(SQLITE_IOERR_SHORT_READ) }
    }

    /// Writes as many bytes as fit, and fails if not all do.
    pub fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> Result<(), c_int> {
        let len = self.len(file)?;
        let fits = len.saturating_add(self.free_len()).saturating_sub(offset);
        let fails = self.fault_rng.chance(self.faults.writes_fail);
        let (count, result) = match fails {
            true => {
                set_errno(Errno(EIO));
                (self.fault_rng.below(bytes.len() + 1).min(fits), Err(SQLITE_IOERR_WRITE))
            }
            false if fits < bytes.len() => {
                set_errno(Errno(self.faults.space_error.errno()));
                (fits, Err(self.faults.space_error.code()))
            }
            false => (bytes.len(), Ok(())),
        };
        self.file(file, SQLITE_IOERR_WRITE)?.write(offset, &bytes[..count]);
        self.trace.stats.written_bytes += count as u64;
        result
    }

    pub fn truncate(&mut self, file: FileId, len: usize) -> Result<(), c_int> {
        if self.fault_rng.chance(self.faults.truncates_fail) {
            return Err(SQLITE_IOERR_TRUNCATE);
        }
        if len.saturating_sub(self.len(file)?) > self.free_len() {
            return Err(SQLITE_FULL);
        }
        self.file(file, SQLITE_IOERR_TRUNCATE)?.truncate(len);
        Ok(())
    }

    /// Makes the content durable, and the name as well if it may be new. Returns false if it only claims so. As on Linux, a
    /// failure is reported once to each handle of the file, whichever called fsync: `reported` is how many the handle knows.
    pub fn sync(&mut self, file: FileId, with_name: bool, reported: &mut u64) -> Result<bool, c_int> {
        let failures = self.failures(file);
        if std::mem::replace(reported, failures) != failures {
            return Err(SQLITE_IOERR_FSYNC);
        }
        if self.fault_rng.chance(self.faults.syncs_fail) {
            let Self { directory, fault_rng, .. } = self;
            directory.file_mut(file).into_iter().for_each(|file| file.fail_sync(fault_rng));
            *reported = self.failures(file);
            return Err(SQLITE_IOERR_FSYNC);
        }
        if self.fault_rng.chance(self.faults.syncs_lie) {
            return Ok(false);
        }
        self.file(file, SQLITE_IOERR_FSYNC)?.sync();
        if with_name {
            self.directory.sync();
        }
        Ok(true)
    }

    pub fn failures(&self, file: FileId) -> u64 {
        self.directory.file(file).map_or(0, File::failures)
    }

    pub fn unsynced_bytes(&self, file: FileId) -> usize {
        self.directory.file(file).map_or(0, File::unsynced_bytes)
    }
}

// Locks and shared memory.
impl State {
    pub fn lock(&mut self, file: FileId, handle: HandleId, level: c_int) -> Result<(), c_int> {
        self.locks.entry(file).or_default().lock(handle, level)
    }

    pub fn unlock(&mut self, file: FileId, handle: HandleId, level: c_int) {
        let Some(locks) = self.locks.get_mut(&file) else { return };
        locks.unlock(handle, level);
        if locks.is_empty() {
            self.locks.remove(&file);
        }
    }

    pub fn is_reserved(&self, file: FileId) -> bool {
        self.locks.get(&file).is_some_and(FileLocks::is_reserved)
    }

    /// Returns the file's shared memory, extended to this many regions if `is_extended`.
    pub fn map(
        &mut self,
        file: FileId,
        handle: HandleId,
        regions: usize,
        bytes: usize,
        is_extended: bool,
    ) -> Result<Arc<Memory>, c_int> {
        let free = self.free_len();
        let shared = self.shared.entry(file).or_default();
        let missing = regions.saturating_sub(shared.memory.regions());
        if is_extended && missing * bytes > free {
            return Err(SQLITE_IOERR_SHMSIZE);
        }
        if is_extended {
            shared.memory.extend(regions, bytes);
            shared.region_bytes = bytes;
        }
        if !shared.handles.contains(&handle) {
            shared.handles.push(handle);
        }
        Ok(Arc::clone(&shared.memory))
    }

    /// Unmaps the memory. The last handle to do so deletes it, as SQLite can rebuild it from the WAL.
    pub fn unmap(&mut self, file: FileId, handle: HandleId) {
        let Some(shared) = self.shared.get_mut(&file) else { return };
        shared.slots.release_all(handle);
        shared.handles.retain(|other| *other != handle);
        if shared.handles.is_empty() {
            self.shared.remove(&file);
        }
    }

    /// Works with the slots of a file's shared memory.
    pub fn slots(&mut self, file: FileId, work: impl FnOnce(&mut SlotLocks) -> Result<(), c_int>) -> Result<(), c_int> {
        self.shared.get_mut(&file).map_or(Err(SQLITE_IOERR_SHMLOCK), |shared| work(&mut shared.slots))
    }
}
