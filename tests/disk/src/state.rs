//! The disk's state, and each call on it as SQLite's result codes have it: faults are drawn here, calls are counted, and power
//! is cut here. Refuses to know pointers, threads and who is alive.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::Arc;

use errno::{Errno, set_errno};
use libsqlite3_sys::{
    SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_DELETE_NOENT, SQLITE_IOERR_FSYNC, SQLITE_IOERR_READ,
    SQLITE_IOERR_SHMLOCK, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE,
    SQLITE_LOCK_NONE, SQLITE_OPEN_CREATE, SQLITE_OPEN_EXCLUSIVE,
};

use crate::chance::Chance;
use crate::faults::Faults;
use crate::file::File;
use crate::folder::{FileId, Folder};
use crate::locks::{FileLocks, HandleId, SlotLocks};
use crate::memory::Memory;
use crate::record::Record;

/// Linux's number for a broken disk.
const EIO: i32 = 5;

/// How everything ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Only what is on the disk is left.
    Power,
    /// The process is killed; the kernel goes on.
    Kill,
}

/// Everything that a disk is.
#[derive(Debug)]
pub(crate) struct State {
    pub faults: Faults,
    pub record: Record,
    /// What SQLite takes for now, in milliseconds since 1970.
    pub unix_millis: i64,
    /// Which life this is; what was opened in an earlier one is dead.
    pub life: u64,
    /// Draws what SQLite asks for.
    pub randomness: Chance,
    folder: Folder,
    locks: BTreeMap<FileId, FileLocks>,
    shared: BTreeMap<FileId, Shared>,
    handles: HandleId,
    /// After so many changes, the end.
    planned: Option<(u64, Crash)>,
    misfortune: Chance,
    wreckage: Chance,
}

/// A file's shared memory and who has which slots of it. It lives as long as somebody has it.
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
            record: Record::default(),
            unix_millis: 0,
            life: 0,
            randomness: Chance::new(seed, 1),
            folder: Folder::default(),
            locks: BTreeMap::new(),
            shared: BTreeMap::new(),
            handles: 0,
            planned: None,
            misfortune: Chance::new(seed, 2),
            wreckage: Chance::new(seed, 3),
        }
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The bytes of all files and their shared memory.
    pub fn used(&self) -> u64 {
        let memory: usize = self.shared.values().map(|shared| shared.memory.regions() * shared.region_bytes).sum();
        self.folder.used() + memory as u64
    }

    /// The bytes that there is room for. None: no bound.
    pub fn free_bytes(&self) -> Option<u64> {
        self.faults.capacity.map(|capacity| capacity.saturating_sub(self.used()))
    }

    /// The room, for counting with lengths.
    fn free_len(&self) -> usize {
        self.free_bytes().map_or(usize::MAX, |free| usize::try_from(free).unwrap_or(usize::MAX))
    }
}

// The end of a life.
impl State {
    /// The change after so many more is the last.
    pub fn plan(&mut self, changes: u64, crash: Crash) {
        self.planned = Some((changes, crash));
    }

    pub fn crash(&mut self, crash: Crash) {
        self.life += 1;
        self.planned = None;
        self.locks.clear();
        self.shared.clear();
        match crash {
            Crash::Kill => self.folder.abandon(),
            Crash::Power => self.folder.cut_power(self.faults.powersafe_overwrite, &mut self.wreckage),
        }
        self.record.crash(crash);
    }

    /// Kills the process, and puts these files in the place of all that are there.
    pub fn restore(&mut self, files: &[(String, Vec<u8>)]) {
        self.crash(Crash::Kill);
        self.folder.replace(files);
    }

    /// Whether the change that comes now is the last. Counts it.
    pub fn is_last_change(&mut self) -> Option<Crash> {
        let (changes, crash) = self.planned.as_mut()?;
        if *changes == 0 {
            return Some(*crash);
        }
        *changes -= 1;
        None
    }

    /// Whether what was interrupted was done nevertheless.
    pub fn comes_through(&mut self) -> bool {
        self.wreckage.hits(0.5)
    }
}

// Calls on names.
impl State {
    /// Opens a file, and makes it if it is missing and the flags say so; without a name, one that nobody else sees.
    pub fn open(&mut self, name: Option<&str>, flags: c_int) -> Result<(FileId, HandleId), c_int> {
        if self.misfortune.hits(self.faults.opens_fail) {
            return Err(SQLITE_CANTOPEN);
        }
        let file = match name {
            Some(name) => self.find_or_create(name, flags)?,
            None => self.folder.create_nameless(),
        };
        self.folder.hold(file);
        self.handles += 1;
        Ok((file, self.handles))
    }

    fn find_or_create(&mut self, name: &str, flags: c_int) -> Result<FileId, c_int> {
        match self.folder.find(name) {
            Some(_) if flags & SQLITE_OPEN_EXCLUSIVE != 0 => Err(SQLITE_CANTOPEN),
            Some(file) => Ok(file),
            None if flags & SQLITE_OPEN_CREATE != 0 => Ok(self.folder.create(name)),
            None => Err(SQLITE_CANTOPEN),
        }
    }

    /// Whether opening it would make it.
    pub fn would_create(&self, name: &str, flags: c_int) -> bool {
        flags & SQLITE_OPEN_CREATE != 0 && self.folder.find(name).is_none()
    }

    pub fn delete(&mut self, name: &str, is_synced: bool) -> Result<(), c_int> {
        if !self.folder.remove(name) {
            return Err(SQLITE_IOERR_DELETE_NOENT);
        }
        if is_synced && !self.misfortune.hits(self.faults.syncs_lie) {
            self.folder.sync();
        }
        Ok(())
    }

    /// How long the file of a name is.
    pub fn len_of(&self, name: &str) -> Option<usize> {
        self.folder.find(name).and_then(|file| self.folder.file(file)).map(File::len)
    }

    pub fn close(&mut self, file: FileId, handle: HandleId) {
        self.unlock(file, handle, SQLITE_LOCK_NONE);
        self.unmap(file, handle);
        self.folder.release(file);
    }
}

// Calls on contents.
impl State {
    fn file(&mut self, file: FileId, failure: c_int) -> Result<&mut File, c_int> {
        self.folder.file_mut(file).ok_or(failure)
    }

    pub fn len(&mut self, file: FileId) -> Result<usize, c_int> {
        self.file(file, SQLITE_IOERR_READ).map(|file| file.len())
    }

    pub fn read(&mut self, file: FileId, offset: usize, buffer: &mut [u8]) -> Result<(), c_int> {
        if self.misfortune.hits(self.faults.reads_fail) {
            return Err(SQLITE_IOERR_READ);
        }
        let count = self.file(file, SQLITE_IOERR_READ)?.read(offset, buffer);
        if count == buffer.len() { Ok(()) } else { Err(SQLITE_IOERR_SHORT_READ) }
    }

    /// What fits is written, even if not all does.
    pub fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> Result<(), c_int> {
        let len = self.len(file)?;
        let fits = len.saturating_add(self.free_len()).saturating_sub(offset);
        let fails = self.misfortune.hits(self.faults.writes_fail);
        let (count, result) = match fails {
            true => {
                set_errno(Errno(EIO));
                (self.misfortune.below(bytes.len() + 1).min(fits), Err(SQLITE_IOERR_WRITE))
            }
            false if fits < bytes.len() => {
                set_errno(Errno(self.faults.no_room.errno()));
                (fits, Err(self.faults.no_room.code()))
            }
            false => (bytes.len(), Ok(())),
        };
        self.file(file, SQLITE_IOERR_WRITE)?.write(offset, &bytes[..count]);
        self.record.stats.written_bytes += count as u64;
        result
    }

    pub fn truncate(&mut self, file: FileId, len: usize) -> Result<(), c_int> {
        if self.misfortune.hits(self.faults.truncates_fail) {
            return Err(SQLITE_IOERR_TRUNCATE);
        }
        if len.saturating_sub(self.len(file)?) > self.free_len() {
            return Err(SQLITE_FULL);
        }
        self.file(file, SQLITE_IOERR_TRUNCATE)?.truncate(len);
        Ok(())
    }

    /// The content is on the disk afterwards, and for a new log or journal its name, too. False: that is a lie. As with Linux each
    /// handle hears once of a failure, whoever's it was: `told` is how many it knows of.
    pub fn sync(&mut self, file: FileId, with_name: bool, told: &mut u64) -> Result<bool, c_int> {
        let failures = self.failures(file);
        if std::mem::replace(told, failures) != failures {
            return Err(SQLITE_IOERR_FSYNC);
        }
        if self.misfortune.hits(self.faults.syncs_fail) {
            let Self { folder, misfortune, .. } = self;
            folder.file_mut(file).into_iter().for_each(|file| file.fail_sync(misfortune));
            *told = self.failures(file);
            return Err(SQLITE_IOERR_FSYNC);
        }
        if self.misfortune.hits(self.faults.syncs_lie) {
            return Ok(false);
        }
        self.file(file, SQLITE_IOERR_FSYNC)?.sync();
        if with_name {
            self.folder.sync();
        }
        Ok(true)
    }

    pub fn failures(&self, file: FileId) -> u64 {
        self.folder.file(file).map_or(0, File::failures)
    }

    pub fn unsynced_bytes(&self, file: FileId) -> usize {
        self.folder.file(file).map_or(0, File::unsynced_bytes)
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

    /// The file's shared memory, with so many regions if it is to be extended.
    pub fn map(
        &mut self,
        file: FileId,
        handle: HandleId,
        regions: usize,
        bytes: usize,
        is_extended: bool,
    ) -> Result<Arc<Memory>, c_int> {
        let room = self.free_len();
        let shared = self.shared.entry(file).or_default();
        let missing = regions.saturating_sub(shared.memory.regions());
        if is_extended && missing * bytes > room {
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

    /// The memory goes with the last that has it: it says nothing that the log does not.
    pub fn unmap(&mut self, file: FileId, handle: HandleId) {
        let Some(shared) = self.shared.get_mut(&file) else { return };
        shared.slots.forget(handle);
        shared.handles.retain(|other| *other != handle);
        if shared.handles.is_empty() {
            self.shared.remove(&file);
        }
    }

    /// Does something with the slots of a file's shared memory.
    pub fn slots(&mut self, file: FileId, work: impl FnOnce(&mut SlotLocks) -> Result<(), c_int>) -> Result<(), c_int> {
        self.shared.get_mut(&file).map_or(Err(SQLITE_IOERR_SHMLOCK), |shared| work(&mut shared.slots))
    }
}
