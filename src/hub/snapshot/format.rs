//! A snapshot as bytes. It names the high-water mark of ids in the database: every run of a broker raises that mark, so a
//! snapshot with another one is not from the last run.
//!
//! ```text
//! mark | ids | evicted ids | tombstones | topics | events, by ascending id
//! ```
//! Whatever the bytes are, reading neither panics nor allocates more than their number.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use super::Snapshot;
use super::blocks::{BlockReader, BlockWriter};
use crate::hub::TopicName;
use crate::hub::evicted::{EvictedIds, EvictedNumbers, GENERATION, WORDS};
use crate::hub::tombstones::{Evicted, Tombstones};
use crate::ids::{AssignedIds, RecentIds, Run};
use crate::sse::UnsequencedFrame;
use crate::util::keyed_hash::KeyedHash;

/// Why a snapshot can't be used.
#[derive(Debug)]
pub enum SnapshotError {
    /// The file can't be read.
    Io(io::Error),
    /// The file is not a snapshot.
    Foreign,
    /// It has a format that this version does not know.
    Version(u8),
    /// Its end is missing.
    Truncated,
    /// A checksum is wrong.
    Damaged,
    /// The checksums are right, but the content makes no sense.
    Malformed,
    /// The broker has run since: the mark in the snapshot, and the one in the database.
    Stale {
        /// The mark in the snapshot.
        snapshot: u64,
        /// The mark in the database.
        database: u64,
    },
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(error) }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it can't be read: {error}"),
            Self::Foreign => f.write_str("it was not written by Esker"),
            Self::Version(version) => write!(f, "it has format {version}, which this version does not know"),
            Self::Truncated => f.write_str("its end is missing"),
            Self::Damaged => f.write_str("it is damaged: a checksum is wrong"),
            Self::Malformed => f.write_str("it is damaged: its content is inconsistent"),
            Self::Stale { snapshot, database } => write!(
                f,
                "it is not from the last run of a broker with this data directory: it ends with id {snapshot}, and the database \
                 with {database}"
            ),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl Snapshot {
    /// Writes the snapshot, in blocks of up to 1 MiB. `mark` is the high-water mark in the database.
    pub fn write(&self, mark: u64, output: &mut dyn Write) -> io::Result<()> {
        if self.ids.newest() > mark {
            return Err(io::Error::other("the database does not cover its newest id"));
        }
        let mut out = BlockWriter::begin(output)?;
        out.number(mark)?;
        write_ids(&mut out, &self.ids)?;
        out.number(self.evicted_through)?;
        write_evicted_ids(&mut out, &self.evicted_ids)?;
        write_tombstones(&mut out, &self.tombstones)?;
        out.small(self.topics.len() as u64)?;
        for (name, evicted) in &self.topics {
            out.small(name.as_str().len() as u64)?;
            out.put(name.as_str().as_bytes())?;
            write_evicted(&mut out, evicted)?;
        }
        out.small(self.events.len() as u64)?;
        let mut before = 0;
        for (topic, frame) in &self.events {
            out.small(frame.id() - before)?;
            out.small(u64::from(*topic))?;
            let lines = frame.lines();
            out.small((lines.len() as u64) << 1 | u64::from(frame.publisher_id().is_some()))?;
            out.put(lines)?;
            before = frame.id();
        }
        out.finish()
    }

    /// Reads a snapshot of this many bytes. `mark` is the high-water mark in the database.
    pub fn read(input: &mut dyn Read, len: u64, mark: u64) -> Result<Self, SnapshotError> {
        let mut input = BlockReader::begin(input, len)?;
        let snapshot = input.number()?;
        if snapshot != mark {
            return Err(SnapshotError::Stale { snapshot, database: mark });
        }
        let mut snapshot = Self {
            ids: read_ids(&mut input)?,
            evicted_through: input.number()?,
            evicted_ids: read_evicted_ids(&mut input)?,
            tombstones: read_tombstones(&mut input)?,
            topics: Vec::new(),
            events: Vec::new(),
        };
        for _ in 0..input.small()? {
            snapshot.read_topic(&mut input)?;
        }
        let mut before = 0;
        for _ in 0..input.small()? {
            before = snapshot.read_event(&mut input, before)?;
        }
        input.finish()?;
        if snapshot.newest_mentioned() <= snapshot.ids.newest() && snapshot.ids.newest() <= mark {
            Ok(snapshot)
        } else {
            Err(SnapshotError::Malformed)
        }
    }

    /// Returns the newest id of an event, retained or evicted.
    fn newest_mentioned(&self) -> u64 {
        let topics = self.topics.iter().map(|(_, evicted)| evicted.through);
        let events = self.events.last().map(|(_, frame)| frame.id());
        topics.chain(events).fold(self.evicted_through.max(self.tombstones.newest()), u64::max)
    }

    fn read_topic(&mut self, input: &mut BlockReader<'_>) -> Result<(), SnapshotError> {
        let len = input.small()? as usize;
        let name = std::str::from_utf8(input.take(len)?).ok().and_then(|name| TopicName::parse(name).ok());
        self.topics.push((name.ok_or(SnapshotError::Malformed)?, read_evicted(input)?));
        Ok(())
    }

    /// Reads an event, and returns its id.
    fn read_event(&mut self, input: &mut BlockReader<'_>, before: u64) -> Result<u64, SnapshotError> {
        let id = input.small()?.checked_add(before).ok_or(SnapshotError::Malformed)?;
        let topic = u32::try_from(input.small()?).map_err(|_| SnapshotError::Malformed)?;
        let evicted = self.topics.get(topic as usize).map(|(_, evicted)| evicted);
        if id <= before || evicted.is_none_or(|evicted| id <= evicted.through) {
            return Err(SnapshotError::Malformed);
        }
        let len = input.small()?;
        let has_publisher_id = len & 1 == 1;
        let lines = input.take((len >> 1) as usize)?;
        let frame = UnsequencedFrame::restore(lines, has_publisher_id).map_err(|_| SnapshotError::Malformed)?;
        self.events.push((topic, frame.assign_id(id)));
        Ok(id)
    }
}

fn write_ids(out: &mut BlockWriter<'_>, ids: &AssignedIds) -> io::Result<()> {
    out.small(ids.runs().len() as u64)?;
    for &Run(start, newest) in ids.runs() {
        out.number(start)?;
        out.number(newest)?;
    }
    out.number(ids.recent().forgotten_through())?;
    out.small(ids.recent().ids().len() as u64)?;
    ids.recent().ids().try_for_each(|id| out.number(id))
}

fn read_ids(input: &mut BlockReader<'_>) -> Result<AssignedIds, SnapshotError> {
    let mut runs = Vec::new();
    for _ in 0..input.small()? {
        runs.push(Run(input.number()?, input.number()?));
    }
    let forgotten_through = input.number()?;
    let recent = RecentIds::from_parts(read_numbers(input)?, forgotten_through);
    recent.and_then(|recent| AssignedIds::from_parts(runs, recent)).ok_or(SnapshotError::Malformed)
}

fn write_numbers(out: &mut BlockWriter<'_>, numbers: &[u64]) -> io::Result<()> {
    out.small(numbers.len() as u64)?;
    numbers.iter().try_for_each(|&number| out.number(number))
}

fn read_numbers(input: &mut BlockReader<'_>) -> Result<Vec<u64>, SnapshotError> {
    let count = input.small()?;
    (0..count).map(|_| input.number()).collect()
}

fn write_evicted_ids(out: &mut BlockWriter<'_>, ids: &EvictedIds) -> io::Result<()> {
    write_key(out, ids.hasher)?;
    out.small(ids.count as u64)?;
    write_numbers(out, &ids.newer)?;
    write_numbers(out, &ids.older)
}

fn read_evicted_ids(input: &mut BlockReader<'_>) -> Result<EvictedIds, SnapshotError> {
    let (hasher, count) = (read_key(input)?, input.small()? as usize);
    let ids = EvictedIds { hasher, count, newer: read_numbers(input)?, older: read_numbers(input)? };
    let is_filter = |filter: &Vec<u64>| filter.is_empty() || filter.len() == WORDS;
    let is_valid = count <= GENERATION && is_filter(&ids.newer) && is_filter(&ids.older);
    if is_valid { Ok(ids) } else { Err(SnapshotError::Malformed) }
}

fn write_tombstones(out: &mut BlockWriter<'_>, tombstones: &Tombstones) -> io::Result<()> {
    let (hasher, forgotten, by_hash) = tombstones.parts();
    write_key(out, hasher)?;
    write_evicted(out, &forgotten)?;
    out.small(by_hash.len() as u64)?;
    for (&hash, evicted) in by_hash {
        out.number(hash)?;
        write_evicted(out, evicted)?;
    }
    Ok(())
}

fn read_tombstones(input: &mut BlockReader<'_>) -> Result<Tombstones, SnapshotError> {
    let (hasher, forgotten) = (read_key(input)?, read_evicted(input)?);
    let (count, mut by_hash) = (input.small()?, HashMap::new());
    for _ in 0..count {
        by_hash.insert(input.number()?, read_evicted(input)?);
    }
    Tombstones::from_parts(hasher, forgotten, by_hash).ok_or(SnapshotError::Malformed)
}

fn write_key(out: &mut BlockWriter<'_>, hasher: KeyedHash) -> io::Result<()> {
    hasher.key.iter().try_for_each(|&half| out.number(half))
}

fn read_key(input: &mut BlockReader<'_>) -> Result<KeyedHash, SnapshotError> {
    Ok(KeyedHash { key: [input.number()?, input.number()?] })
}

fn write_evicted(out: &mut BlockWriter<'_>, evicted: &Evicted) -> io::Result<()> {
    let Evicted { through, numbers: EvictedNumbers { low, high, any } } = *evicted;
    [through, low, high].into_iter().try_for_each(|number| out.number(number))?;
    out.put(&[u8::from(any)])
}

fn read_evicted(input: &mut BlockReader<'_>) -> Result<Evicted, SnapshotError> {
    let (through, low, high) = (input.number()?, input.number()?, input.number()?);
    let any = match input.byte()? {
        0 => false,
        1 => true,
        _ => return Err(SnapshotError::Malformed),
    };
    Ok(Evicted { through, numbers: EvictedNumbers { low, high, any } })
}
