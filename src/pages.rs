//! A slab in pages: values under small keys that are used again, lowest page first, and whose memory goes back page by page.
//! One vector would be copied in one turn when it doubles, and would stay as long as its longest-lived last entry.
//! Refuses to know what it holds.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

/// Entries in a page: few enough that those who stay seldom keep many others' memory, and so many that what is noted of
/// a page is nothing beside it.
const PAGE: usize = 64;

/// See the module's page.
#[derive(Debug)]
pub struct Pages<T> {
    pages: Vec<Page<T>>,
    /// The pages that have room.
    roomy: BTreeSet<usize>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    entries: Vec<Entry<T>>,
    /// The entry to be used next; the one after the last if none is vacant.
    next: u32,
    len: u32,
}

#[derive(Debug)]
enum Entry<T> {
    /// Which one to use after it.
    Vacant(u32),
    Occupied(T),
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), roomy: BTreeSet::new(), len: 0 }
    }
}

impl<T> Pages<T> {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// No key is as large as this.
    pub fn bound(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// The key that the next value will have.
    pub fn vacant_key(&self) -> usize {
        match self.roomy.first() {
            Some(&page) => page * PAGE + self.pages[page].next as usize,
            None => self.bound(),
        }
    }

    /// Keeps a value under [`Pages::vacant_key`].
    pub fn insert(&mut self, value: T) -> usize {
        let key = self.vacant_key();
        let index = key / PAGE;
        if index == self.pages.len() {
            self.pages.push(Page::default());
            self.roomy.insert(index);
        }
        let page = &mut self.pages[index];
        page.insert(value);
        if page.len as usize == PAGE {
            self.roomy.remove(&index);
        }
        self.len += 1;
        key
    }

    /// Takes a value out, if there is one.
    pub fn try_remove(&mut self, key: usize) -> Option<T> {
        let index = key / PAGE;
        let page = self.pages.get_mut(index)?;
        let value = page.remove(key % PAGE)?;
        self.len -= 1;
        if page.len as usize == PAGE - 1 {
            self.roomy.insert(index);
        }
        // The first page stays: most brokers have few of anything, and those come and go.
        if page.len == 0 && index > 0 {
            *page = Page::default();
            self.pop_empty();
        }
        Some(value)
    }

    /// Takes out a value that is there.
    ///
    /// # Panics
    /// If it is not.
    pub fn remove(&mut self, key: usize) -> T {
        match self.try_remove(key) {
            Some(value) => value,
            None => panic!("nothing has the key {key}"),
        }
    }

    /// The value, if there is one.
    pub fn get(&self, key: usize) -> Option<&T> {
        self.pages.get(key / PAGE)?.entries.get(key % PAGE)?.value()
    }

    /// The value, if there is one.
    pub fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.pages.get_mut(key / PAGE)?.entries.get_mut(key % PAGE)?.value_mut()
    }

    /// Whether there is such a value.
    pub fn contains(&self, key: usize) -> bool {
        self.get(key).is_some()
    }

    /// All keys and values, by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.pages.iter().enumerate().flat_map(|(index, page)| {
            let entries = page.entries.iter().enumerate();
            entries.filter_map(move |(at, entry)| Some((index * PAGE + at, entry.value()?)))
        })
    }

    /// All values, by ascending key.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flat_map(|page| &mut page.entries).filter_map(Entry::value_mut)
    }

    /// The last pages go when they are empty, and with them what is noted of them.
    fn pop_empty(&mut self) {
        while self.pages.len() > 1 && self.pages.last().is_some_and(|page| page.len == 0) {
            self.pages.pop();
            self.roomy.remove(&self.pages.len());
        }
        if self.pages.len() < self.pages.capacity() / 4 {
            self.pages.shrink_to(self.pages.len() * 2);
        }
    }
}

impl<T> Index<usize> for Pages<T> {
    type Output = T;

    fn index(&self, key: usize) -> &T {
        match self.get(key) {
            Some(value) => value,
            None => panic!("nothing has the key {key}"),
        }
    }
}

impl<T> IndexMut<usize> for Pages<T> {
    fn index_mut(&mut self, key: usize) -> &mut T {
        match self.get_mut(key) {
            Some(value) => value,
            None => panic!("nothing has the key {key}"),
        }
    }
}

impl<T> Entry<T> {
    fn value(&self) -> Option<&T> {
        if let Self::Occupied(value) = self { Some(value) } else { None }
    }

    fn value_mut(&mut self) -> Option<&mut T> {
        if let Self::Occupied(value) = self { Some(value) } else { None }
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: 0, len: 0 }
    }
}

impl<T> Page<T> {
    fn insert(&mut self, value: T) {
        self.len += 1;
        match self.entries.get_mut(self.next as usize) {
            Some(entry) => {
                if let Entry::Vacant(next) = std::mem::replace(entry, Entry::Occupied(value)) {
                    self.next = next;
                }
            }
            None => {
                // A page is one allocation: a small one may be all there is.
                if self.entries.capacity() == 0 {
                    self.entries.reserve_exact(PAGE);
                }
                self.entries.push(Entry::Occupied(value));
                self.next += 1;
            }
        }
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let entry = self.entries.get_mut(at)?;
        match std::mem::replace(entry, Entry::Vacant(self.next)) {
            Entry::Occupied(value) => {
                self.next = at as u32;
                self.len -= 1;
                Some(value)
            }
            vacant @ Entry::Vacant(_) => {
                *entry = vacant;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_goes_back_whoever_stays_longest() {
        let mut pages = Pages::default();
        let keys: Vec<_> = (0..100_000).map(|number| pages.insert(number)).collect();
        let last = keys.len() - 1;
        keys.iter().filter(|&&key| key != last).for_each(|&key| assert_eq!(pages.remove(key), key));
        let kept = || pages.pages.iter().filter(|page| page.entries.capacity() > 0);
        assert_eq!((kept().count(), pages.len(), pages[last]), (2, 1, last));
        // Those who come are low, so that high pages empty in time.
        assert!(pages.insert(7) < PAGE);
        pages.remove(last);
        assert_eq!(pages.bound(), PAGE);
        assert!(pages.pages.capacity() < 16 && pages.roomy.len() == 1);
    }

    #[test]
    fn an_entry_costs_no_more_than_its_value() {
        assert_eq!(size_of::<Entry<(std::os::fd::OwnedFd, [u64; 2])>>(), 24);
    }

    proptest! {
        /// Against a map.
        #[test]
        fn it_is_a_map_that_chooses_its_keys(acts in prop::collection::vec((any::<bool>(), 0..400_usize), 0..1500)) {
            let (mut pages, mut model) = (Pages::default(), BTreeMap::new());
            for (number, (comes, key)) in acts.into_iter().enumerate() {
                if comes || number < 300 {
                    let vacant = pages.vacant_key();
                    prop_assert!(!pages.contains(vacant) && model.insert(vacant, number).is_none());
                    prop_assert_eq!(pages.insert(number), vacant);
                } else {
                    prop_assert_eq!(pages.try_remove(key), model.remove(&key));
                }
                if let Some(value) = pages.get_mut(key) {
                    *value += 1;
                    model.entry(key).and_modify(|value| *value += 1);
                }
            }
            prop_assert_eq!(pages.len(), model.len());
            prop_assert!(model.keys().all(|&key| key < pages.bound()));
            prop_assert_eq!(pages.iter().collect::<Vec<_>>(), model.iter().map(|(&key, value)| (key, value)).collect::<Vec<_>>());
        }
    }
}
