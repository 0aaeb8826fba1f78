//! Finds the program that holds a lock on the database, so that a person knows which one to stop. This is only ever a hint: the
//! kernel's list may change while it is read, and does not show the processes of other containers.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::location::{DATABASE, WAL_INDEX};
use crate::store::report::{LockHolder, NAME_BYTES};

/// The maximum length of the kernel's list that is read, in bytes. A line has about 60.
const MAX_LIST_BYTES: u64 = 1 << 20;
/// The maximum number of processes, and of descriptors of each, that are examined for the database.
const MAX_ENTRIES: usize = 4096;
/// The bytes of the WAL index that SQLite locks for writing, checkpoints, recovery and reading.
const INDEX_LOCKS: std::ops::Range<u64> = 120..128;

/// Returns the program that holds a lock on the database in a directory, or at least has it open.
pub(in crate::store) fn find(directory: &Path) -> Option<LockHolder> {
    let identity = |name: &str| std::fs::metadata(directory.join(name)).ok().map(|file| identity(&file));
    let (database, index) = (identity(DATABASE), identity(WAL_INDEX));
    let locked = read_limited(Path::new("/proc/locks"), MAX_LIST_BYTES)
        .and_then(|list| find_in(&String::from_utf8_lossy(&list), database?, index, std::process::id()));
    let pid = locked.or_else(|| find_opener(database?))?;
    let name = read_limited(&Path::new("/proc").join(pid.to_string()).join("comm"), 64).unwrap_or_default();
    Some(named(pid, &name))
}

/// A file's device and inode.
type Identity = (u64, u64);

pub(super) fn identity(file: &Metadata) -> Identity {
    (file.dev(), file.ino())
}

fn read_limited(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns the holder with this process id and name, which may be any bytes.
fn named(pid: u32, name: &[u8]) -> LockHolder {
    let mut printable = [0; NAME_BYTES];
    for (to, from) in printable.iter_mut().zip(name.trim_ascii_end()) {
        *to = if from.is_ascii_graphic() || *from == b' ' { *from } else { b'?' };
    }
    LockHolder { pid, name: printable }
}

/// A line of `/proc/locks`, proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Lock {
    is_exclusive: bool,
    pid: u32,
    file: Identity,
    /// The locked bytes; the last one may be the largest number.
    first: u64,
    last: u64,
}

/// Returns the process in the kernel's list, other than `own`, whose lock on one of the files is most likely to be in the way.
fn find_in(list: &str, database: Identity, index: Option<Identity>, own: u32) -> Option<u32> {
    let locks = list.lines().filter_map(parse).filter(|lock| lock.pid != own);
    let ranked = locks.filter_map(|lock| Some((rank(&lock, database, index)?, lock.pid)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, pid)| pid)
}

/// Parses a line such as `1: POSIX  ADVISORY  WRITE 1234 08:01:5678 120 120`. `None` for another kind of lock, a process that only
/// waits for a lock, and a lock that belongs to no process.
fn parse(line: &str) -> Option<Lock> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if !matches!(words.next()?, "POSIX" | "OFDLCK") {
        return None;
    }
    let is_exclusive = words.nth(1)? == "WRITE";
    let pid = words.next()?.parse().ok().filter(|pid| *pid > 0)?;
    let mut numbers = words.next()?.split(':');
    let mut hex = || u32::from_str_radix(numbers.next()?, 16).ok();
    let device = rustix::fs::makedev(hex()?, hex()?);
    let file = (device, numbers.next()?.parse().ok()?);
    let first = words.next()?.parse().ok()?;
    let last = match words.next()? {
        "EOF" => u64::MAX,
        number => number.parse().ok()?,
    };
    Some(Lock { is_exclusive, pid, file, first, last })
}

/// Returns how likely a lock is to be in the way, the likeliest first; `None` if it is not. Every connection to a database in WAL
/// mode holds a shared lock on its file.
fn rank(lock: &Lock, database: Identity, index: Option<Identity>) -> Option<u8> {
    let is_of_index = Some(lock.file) == index && lock.first < INDEX_LOCKS.end && lock.last >= INDEX_LOCKS.start;
    match (is_of_index, lock.file == database, lock.is_exclusive) {
        (true, _, true) => Some(0),
        (_, true, true) => Some(1),
        (true, _, false) => Some(2),
        (_, true, false) => Some(3),
        (false, false, _) => None,
    }
}

/// Returns another process that has the file open. Only those of the same user are visible, unless this one is root's. Needed for
/// locks that belong to an open file instead of a process, and for file systems whose device the kernel's list does not show.
fn find_opener(file: Identity) -> Option<u32> {
    let entries = |path: &Path| Some(std::fs::read_dir(path).ok()?.take(MAX_ENTRIES).flatten());
    let processes = entries(Path::new("/proc"))?.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_open = |pid: &u32| {
        let descriptors = entries(&Path::new("/proc").join(pid.to_string()).join("fd"));
        descriptors.is_some_and(|mut open| {
            open.any(|descriptor| std::fs::metadata(descriptor.path()).is_ok_and(|open| identity(&open) == file))
        })
    };
    processes.filter(|pid| *pid != std::process::id()).find(has_open)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the holder for a database with inode 77 and an index with inode 78; the process itself is number 5.
    fn holder(list: &str) -> Option<u32> {
        let device = rustix::fs::makedev(0xfe, 1);
        find_in(list, (device, 77), Some((device, 78)), 5)
    }

    #[test]
    fn the_lock_that_is_most_likely_in_the_way_is_found() {
        let reader = "3: POSIX  ADVISORY  READ 11 fe:01:77 1073741826 1073742335\n";
        let reading = "4: POSIX  ADVISORY  READ 12 fe:01:78 124 124\n";
        let database = "5: OFDLCK ADVISORY  WRITE 13 fe:01:77 0 EOF\n";
        let writer = "6: POSIX  ADVISORY  WRITE 14 fe:01:78 120 120\n";
        let mut list = String::new();
        for (line, pid) in [(reader, 11), (reading, 12), (database, 13), (writer, 14)] {
            list += line;
            assert_eq!(holder(&list), Some(pid), "{list}");
        }
    }

    #[test]
    fn other_locks_and_malformed_lines_are_passed_over() {
        for line in [
            "1: POSIX  ADVISORY  WRITE 5 fe:01:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 6 fe:02:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 6 fe:01:79 0 EOF",
            "1: POSIX  ADVISORY  READ 6 fe:01:78 128 128",
            "1: FLOCK  ADVISORY  WRITE 6 fe:01:77 0 EOF",
            "1: -> POSIX  ADVISORY  WRITE 6 fe:01:77 0 EOF",
            "1: OFDLCK ADVISORY  WRITE -1 fe:01:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 0 fe:01:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 99999999999 fe:01:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 6 fe:77 0 EOF",
            "1: POSIX  ADVISORY  WRITE 6 fe:01:77",
            "1: POSIX  ADVISORY  WRITE 6 fe:01:77 0 -4",
            "1: POSIX",
            "",
            "\0\u{fffd}: : :::",
        ] {
            assert_eq!(holder(line), None, "{line}");
        }
    }

    #[test]
    fn the_name_of_a_process_is_made_printable() {
        for (name, shown) in [
            (&b"sqlite3\n"[..], "process 7 (sqlite3)"),
            (b"a b\x1b[31m\xff\xc3\n", "process 7 (a b?[31m??)"),
            (b"0123456789abcdefgh", "process 7 (0123456789abcde)"),
            (b"", "process 7"),
        ] {
            assert_eq!(named(7, name).to_string(), shown);
        }
    }
}
