//! The content of a file: as programs see it (the page cache), as the disk has it, and the unsynced writes between the two.
//!
//! A power cut leaves each sector in one of the states that it had since it was last synced, independently of all others.
//! Sectors are written atomically. Truncations are in the file system's journal, in order: a lost truncation also loses what
//! was written after it.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// The bytes that the disk writes atomically.
pub(crate) const SECTOR: usize = 512;
/// The number of a sector's unsynced states, of which a power cut keeps one. Older states are dropped.
const STATES: usize = 4;
/// The number of truncations that may be lost. Beyond that the kernel writes back the oldest by itself.
const EPOCHS: usize = 8;
/// One in this many sectors that a file grew by, but that were not written back, contains old data after a power cut.
const STALE_ONE_IN: usize = 4;
/// One in this many unsynced sectors contains garbage after a power cut, unless overwrites are power-safe.
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

/// The writes between two truncations.
#[derive(Debug, Default)]
struct Epoch {
    /// The length that the file was truncated to at the beginning.
    truncated_to: Option<usize>,
    /// The lengths that the file grew to, ascending.
    lengths: Vec<usize>,
    /// The states of each written sector, oldest first.
    sectors: BTreeMap<usize, Vec<Sector>>,
}

/// How much of the unsynced data survives.
#[derive(Clone, Copy, Debug)]
enum Survival {
    All,
    None,
    /// Each part with this probability, out of 256.
    Some(usize),
}

impl Survival {
    /// Draws the extremes often, as independent draws per sector hardly ever produce them.
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::All,
            1 => Self::None,
            _ => Self::Some(rng.below(256)),
        }
    }

    /// Draws how many of the steps survive.
    fn steps(self, of: usize, rng: &mut Rng) -> usize {
        match self {
            Self::All => of,
            Self::None => 0,
            Self::Some(rate) if of > 0 && rng.below(256) < rate => rng.below(of) + 1,
            Self::Some(_) => 0,
        }
    }
}

// What programs do.
impl File {
    pub fn len(&self) -> usize {
        self.cached.len()
    }

    pub fn content(&self) -> &[u8] {
        &self.cached
    }

    /// Returns the bytes that were read; the rest of the buffer is zeroed.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let available = self.cached.get(offset..).unwrap_or_default();
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
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
        self.unsynced.push(Epoch { truncated_to: Some(len), ..Epoch::default() });
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
    /// Returns the bytes that an fsync would write.
    pub fn unsynced_bytes(&self) -> usize {
        self.unsynced.iter().map(|epoch| epoch.sectors.len() * SECTOR).sum()
    }

    /// Makes everything durable, except what an earlier failure lost.
    pub fn sync(&mut self) {
        for epoch in self.unsynced.drain(..) {
            epoch.write_out(&mut self.durable, |states| states.last());
        }
    }

    /// Returns how often an fsync has failed.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Fails an fsync: some of the data is durable, and nothing remains to be written back.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        self.failures += 1;
        let survival = Survival::draw(rng);
        for epoch in self.unsynced.drain(..) {
            epoch.write_out(&mut self.durable, |states| states.last().filter(|_| survival.steps(1, rng) == 1));
        }
        if rng.chance(0.5) {
            self.cached.clone_from(&self.durable);
        }
    }

    /// Loses everything that is not durable, except a random part.
    pub fn cut_power(&mut self, is_overwrite_safe: bool, rng: &mut Rng) {
        let survival = Survival::draw(rng);
        // Writes before the first truncation don't depend on the journal.
        let certain = self.unsynced.iter().take_while(|epoch| epoch.truncated_to.is_none()).count();
        let last = certain + survival.steps(self.unsynced.len() - certain, rng);
        for epoch in self.unsynced.drain(..).take(last) {
            epoch.write_some(&mut self.durable, survival, is_overwrite_safe, rng);
        }
        self.cached.clone_from(&self.durable);
    }
}

impl Epoch {
    /// Writes back the lengths, and of each sector the state that `choose` returns.
    fn write_out(self, durable: &mut Vec<u8>, mut choose: impl FnMut(&[Sector]) -> Option<&Sector>) {
        self.truncated_to.into_iter().for_each(|len| durable.resize(len, 0));
        if let Some(len) = self.lengths.last() {
            durable.resize(*len, 0);
        }
        for (index, states) in self.sectors {
            choose(&states).into_iter().for_each(|state| put(durable, index, state));
        }
    }

    /// Writes back a random part.
    fn write_some(self, durable: &mut Vec<u8>, survival: Survival, is_overwrite_safe: bool, rng: &mut Rng) {
        self.truncated_to.into_iter().for_each(|len| durable.resize(len, 0));
        let old = durable.len();
        let grown = survival.steps(self.lengths.len(), rng).checked_sub(1).map_or(old, |step| self.lengths[step]);
        durable.resize(grown, 0);
        for (index, states) in self.sectors {
            match survival.steps(states.len(), rng).checked_sub(1) {
                Some(step) => put(durable, index, &states[step]),
                None if index * SECTOR >= old && rng.below(STALE_ONE_IN) == 0 => {
                    put(durable, index, &garbage(rng));
                }
                None => (),
            }
            if !is_overwrite_safe && rng.below(TORN_ONE_IN) == 0 {
                put(durable, index, &garbage(rng));
            }
        }
    }
}

/// Returns a sector of a content, zeroed beyond its end.
fn sector(content: &[u8], index: usize) -> Sector {
    let mut sector = Box::new([0; SECTOR]);
    let rest = content.get(index * SECTOR..).unwrap_or_default();
    let count = rest.len().min(SECTOR);
    sector[..count].copy_from_slice(&rest[..count]);
    sector
}

/// Overwrites a sector, up to the end of the content.
fn put(content: &mut [u8], index: usize, sector: &[u8; SECTOR]) {
    let rest = content.get_mut(index * SECTOR..).unwrap_or_default();
    let count = rest.len().min(SECTOR);
    rest[..count].copy_from_slice(&sector[..count]);
}

fn garbage(rng: &mut Rng) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    rng.fill(&mut sector);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a file of durable sectors that are filled with ones.
    fn synced(sectors: usize) -> File {
        let mut file = File::default();
        file.write(0, &vec![1; sectors * SECTOR]);
        file.sync();
        file
    }

    /// Returns what power cuts leave, for many seeds.
    fn survivors(prepare: impl Fn(&mut File)) -> Vec<Vec<u8>> {
        let cut = |seed| {
            let mut file = synced(4);
            prepare(&mut file);
            file.cut_power(true, &mut Rng::new(seed, 0));
            file.content().to_owned()
        };
        (0..500).map(cut).collect()
    }

    #[test]
    fn synced_data_is_kept_and_unsynced_data_torn_by_sectors() {
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
    fn a_sector_is_in_one_of_its_former_states() {
        let found = survivors(|file| {
            file.write(0, &[2; 10]);
            file.write(10, &[3; 10]);
        });
        let starts: std::collections::BTreeSet<_> = found.iter().map(|page| (page[0], page[10])).collect();
        assert_eq!(Vec::from_iter(starts), [(1, 1), (2, 1), (2, 3)], "never the later one without the earlier");
    }

    #[test]
    fn a_lost_truncation_loses_later_writes() {
        let found = survivors(|file| {
            file.truncate(0);
            file.write(0, &[2; SECTOR]);
        });
        assert!(found.iter().any(|page| *page == [1; 4 * SECTOR]) && found.iter().any(|page| *page == [2; SECTOR]));
        assert!(found.iter().all(|page| page.len() <= SECTOR || *page == [1; 4 * SECTOR]));
    }

    #[test]
    fn an_fsync_after_a_failed_one_restores_nothing() {
        let mut lost = 0;
        for seed in 0..200 {
            let (mut file, mut rng) = (synced(1), Rng::new(seed, 0));
            file.write(0, &[2; SECTOR]);
            file.fail_sync(&mut rng);
            let was_seen = file.content()[0] == 2;
            file.sync();
            file.cut_power(true, &mut rng);
            lost += usize::from(was_seen && file.content()[0] == 1);
        }
        assert!(lost > 20, "{lost}");
    }

    #[test]
    fn unsynced_states_are_bounded() {
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
