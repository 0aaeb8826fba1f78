//! What a file holds: as programs see it (the kernel's cache), as the disk has it, and what is between the two. Refuses to
//! know what it is called and who has it open.
//!
//! A loss of power leaves of each sector some state that it had since it was last on the disk, independently of all others.
//! Sectors are whole: the cache is written out by sectors, each as it is in that moment. Truncations are in the file system's
//! journal, in order: one that is lost takes along what was written after it.

use std::collections::BTreeMap;

use crate::chance::Chance;

/// What the disk writes at once.
pub(crate) const SECTOR: usize = 512;
/// Of so many states of a sector the disk may keep one; older ones than that are no longer at stake.
const STATES: usize = 4;
/// So many truncations may be lost; beyond that the kernel writes the oldest out by itself.
const EPOCHS: usize = 8;
/// Of so many sectors that a file was grown by and that were not written, one holds what was there before.
const STALE_ONE_IN: usize = 4;
/// Of so many sectors that are being written when power is lost, one is garbage, unless overwriting is safe.
const TORN_ONE_IN: usize = 16;

/// A sector's content.
type Sector = Box<[u8; SECTOR]>;

/// A file's content.
#[derive(Debug, Default)]
pub(crate) struct File {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Epoch>,
    /// How often an fsync has failed.
    failures: u64,
}

/// What was written between two truncations.
#[derive(Debug, Default)]
struct Epoch {
    /// What the file was cut to when this began.
    cut_to: Option<usize>,
    /// How long the file became, ascending.
    lengths: Vec<usize>,
    /// The states of each sector that was written, oldest first.
    sectors: BTreeMap<usize, Vec<Sector>>,
}

/// How much of what was not synced a loss of power leaves.
#[derive(Clone, Copy, Debug)]
enum Mercy {
    All,
    None,
    /// Of 256.
    Some(usize),
}

impl Mercy {
    /// The extremes are drawn often, for independent chances hardly ever make them.
    fn draw(chance: &mut Chance) -> Self {
        match chance.below(8) {
            0 => Self::All,
            1 => Self::None,
            _ => Self::Some(chance.below(256)),
        }
    }

    /// How many of so many steps are made.
    fn steps(self, of: usize, chance: &mut Chance) -> usize {
        match self {
            Self::All => of,
            Self::None => 0,
            Self::Some(rate) if of > 0 && chance.below(256) < rate => chance.below(of) + 1,
            Self::Some(_) => 0,
        }
    }
}

// What programs see.
impl File {
    pub fn len(&self) -> usize {
        self.cached.len()
    }

    pub fn content(&self) -> &[u8] {
        &self.cached
    }

    /// How much there was to read; the rest of the buffer is zeros.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let there = self.cached.get(offset..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        buffer[count..].fill(0);
        count
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        self.grow(end);
        self.cached[offset..end].copy_from_slice(bytes);
        for index in offset / SECTOR..end.div_ceil(SECTOR) {
            let state = sector(&self.cached, index);
            let states = self.epoch().sectors.entry(index).or_default();
            if states.len() == STATES {
                states.remove(0);
            }
            states.push(state);
        }
    }

    pub fn truncate(&mut self, len: usize) {
        if len >= self.cached.len() {
            return self.grow(len);
        }
        self.cached.truncate(len);
        if self.unsynced.len() == EPOCHS {
            let oldest = self.unsynced.remove(0);
            oldest.write_out(&mut self.durable, |states| states.last());
        }
        self.unsynced.push(Epoch { cut_to: Some(len), ..Epoch::default() });
    }

    fn grow(&mut self, len: usize) {
        if len > self.cached.len() {
            self.cached.resize(len, 0);
            self.epoch().lengths.push(len);
        }
    }

    fn epoch(&mut self) -> &mut Epoch {
        if self.unsynced.is_empty() {
            self.unsynced.push(Epoch::default());
        }
        let last = self.unsynced.len() - 1;
        &mut self.unsynced[last]
    }
}

// What the disk does.
impl File {
    /// The bytes that an fsync would write.
    pub fn unsynced_bytes(&self) -> usize {
        self.unsynced.iter().map(|epoch| epoch.sectors.len() * SECTOR).sum()
    }

    /// All is on the disk, but for what an earlier failure took.
    pub fn sync(&mut self) {
        for epoch in self.unsynced.drain(..) {
            epoch.write_out(&mut self.durable, |states| states.last());
        }
    }

    /// How often an fsync has failed.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// An fsync that fails: some of it is on the disk, and nothing is to be written any more.
    pub fn fail_sync(&mut self, chance: &mut Chance) {
        self.failures += 1;
        let mercy = Mercy::draw(chance);
        for epoch in self.unsynced.drain(..) {
            epoch.write_out(&mut self.durable, |states| states.last().filter(|_| mercy.steps(1, chance) == 1));
        }
        if chance.hits(0.5) {
            self.cached.clone_from(&self.durable);
        }
    }

    /// The end of everything that is not on the disk, but for what got there by chance.
    pub fn cut_power(&mut self, is_overwrite_safe: bool, chance: &mut Chance) {
        let mercy = Mercy::draw(chance);
        // What was written before the first truncation is no matter of the journal's.
        let certain = self.unsynced.iter().take_while(|epoch| epoch.cut_to.is_none()).count();
        let last = certain + mercy.steps(self.unsynced.len() - certain, chance);
        for epoch in self.unsynced.drain(..).take(last) {
            epoch.write_some(&mut self.durable, mercy, is_overwrite_safe, chance);
        }
        self.cached.clone_from(&self.durable);
    }
}

impl Epoch {
    /// To the disk with it: its lengths, and of each sector the state that is chosen.
    fn write_out(self, durable: &mut Vec<u8>, mut choose: impl FnMut(&[Sector]) -> Option<&Sector>) {
        self.cut_to.into_iter().for_each(|len| durable.resize(len, 0));
        if let Some(len) = self.lengths.last() {
            durable.resize(*len, 0);
        }
        for (index, states) in self.sectors {
            choose(&states).into_iter().for_each(|state| put(durable, index, state));
        }
    }

    /// Some of it: chance decides.
    fn write_some(self, durable: &mut Vec<u8>, mercy: Mercy, is_overwrite_safe: bool, chance: &mut Chance) {
        self.cut_to.into_iter().for_each(|len| durable.resize(len, 0));
        let old = durable.len();
        let grown = mercy.steps(self.lengths.len(), chance).checked_sub(1).map_or(old, |step| self.lengths[step]);
        durable.resize(grown, 0);
        for (index, states) in self.sectors {
            match mercy.steps(states.len(), chance).checked_sub(1) {
                Some(step) => put(durable, index, &states[step]),
                None if index * SECTOR >= old && chance.below(STALE_ONE_IN) == 0 => {
                    put(durable, index, &garbage(chance));
                }
                None => (),
            }
            if !is_overwrite_safe && chance.below(TORN_ONE_IN) == 0 {
                put(durable, index, &garbage(chance));
            }
        }
    }
}

/// A sector of a content; what is beyond its end is zeros.
fn sector(content: &[u8], index: usize) -> Sector {
    let mut sector = Box::new([0; SECTOR]);
    let there = content.get(index * SECTOR..).unwrap_or_default();
    let count = there.len().min(SECTOR);
    sector[..count].copy_from_slice(&there[..count]);
    sector
}

/// Writes a sector, as far as the content goes.
fn put(content: &mut [u8], index: usize, sector: &[u8; SECTOR]) {
    let there = content.get_mut(index * SECTOR..).unwrap_or_default();
    let count = there.len().min(SECTOR);
    there[..count].copy_from_slice(&sector[..count]);
}

fn garbage(chance: &mut Chance) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    chance.fill(&mut sector);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of some sectors of ones that are on the disk.
    fn synced(sectors: usize) -> File {
        let mut file = File::default();
        file.write(0, &vec![1; sectors * SECTOR]);
        file.sync();
        file
    }

    /// What losses of power leave, over many seeds.
    fn survivors(prepare: impl Fn(&mut File)) -> Vec<Vec<u8>> {
        let cut = |seed| {
            let mut file = synced(4);
            prepare(&mut file);
            file.cut_power(true, &mut Chance::new(seed, 0));
            file.content().to_owned()
        };
        (0..500).map(cut).collect()
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_is_torn_by_sectors() {
        let pages = survivors(|file| file.write(0, &[2; 4 * SECTOR]));
        assert!(pages.iter().all(|page| page.len() == 4 * SECTOR));
        assert!(pages.iter().all(|page| {
            page.chunks(SECTOR).all(|sector| [[1; SECTOR], [2; SECTOR]].contains(&sector.try_into().unwrap()))
        }));
        let is_torn = |page: &&Vec<u8>| page.contains(&1) && page.contains(&2);
        assert!(pages.iter().filter(is_torn).count() > 100);
        assert!(pages.iter().any(|page| !page.contains(&1)) && pages.iter().any(|page| !page.contains(&2)));
        let all = survivors(|file| {
            file.write(0, &[2; 4 * SECTOR]);
            file.sync();
        });
        assert!(all.iter().all(|page| *page == [2; 4 * SECTOR]));
    }

    #[test]
    fn a_sector_is_as_it_was_at_some_moment() {
        let found = survivors(|file| {
            file.write(0, &[2; 10]);
            file.write(10, &[3; 10]);
        });
        let starts: std::collections::BTreeSet<_> = found.iter().map(|page| (page[0], page[10])).collect();
        assert_eq!(Vec::from_iter(starts), [(1, 1), (2, 1), (2, 3)], "never the later one without the earlier");
    }

    #[test]
    fn a_truncation_that_is_lost_takes_what_was_written_after_it() {
        let found = survivors(|file| {
            file.truncate(0);
            file.write(0, &[2; SECTOR]);
        });
        assert!(found.iter().any(|page| *page == [1; 4 * SECTOR]) && found.iter().any(|page| *page == [2; SECTOR]));
        assert!(found.iter().all(|page| page.len() <= SECTOR || *page == [1; 4 * SECTOR]));
    }

    #[test]
    fn after_a_failed_sync_the_next_brings_nothing_back() {
        let mut lost = 0;
        for seed in 0..200 {
            let (mut file, mut chance) = (synced(1), Chance::new(seed, 0));
            file.write(0, &[2; SECTOR]);
            file.fail_sync(&mut chance);
            let was_seen = file.content()[0] == 2;
            file.sync();
            file.cut_power(true, &mut chance);
            lost += usize::from(was_seen && file.content()[0] == 1);
        }
        assert!(lost > 20, "{lost}");
    }

    #[test]
    fn what_grows_without_end_is_written_out_and_not_remembered() {
        let mut file = File::default();
        for round in 0..1_000_usize {
            file.write(round % 10 * SECTOR, &[1; SECTOR]);
            if round % 100 == 0 {
                file.truncate(SECTOR);
            }
        }
        assert!(file.unsynced.len() <= EPOCHS);
        assert!(file.unsynced.iter().all(|epoch| epoch.sectors.values().all(|states| states.len() <= STATES)));
    }
}
