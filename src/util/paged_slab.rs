//! Slabs as pages of one: values under small keys that are used again, lowest page first, and whose memory goes back page by page.
//! One vector would be copied in one turn when it doubles, and would stay as long as its longest-lived last entry.
//! Refuses to know what it holds.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::util::shrink::Shrink;

/// Entries in a page: few enough that those who stay seldom keep many others' memory, and so many that what is noted of
/// a page is nothing beside it.
const PAGE: usize = 64;

/// See the module's page.
#[derive(Debug)]
pub struct PagedSlab<T> {
    pages: Vec<Slab<T>>,
    /// The pages that have room.
    roomy: BTreeSet<usize>,
    len: usize,
}

impl<T> Default for PagedSlab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), roomy: BTreeSet::new(), len: 0 }
    }
}

impl<T> PagedSlab<T> {
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
            Some(&page) => page * PAGE + self.pages[page].vacant_key(),
            None => self.bound(),
        }
    }

    /// Keeps a value under [`PagedSlab::vacant_key`].
    pub fn insert(&mut self, value: T) -> usize {
        let key = self.vacant_key();
        let index = key / PAGE;
        if index == self.pages.len() {
            self.pages.push(Slab::new());
            self.roomy.insert(index);
        }
        let page = &mut self.pages[index];
        // A page is one allocation: a small one may be all there is.
        if page.capacity() == 0 {
            page.reserve_exact(PAGE);
        }
        page.insert(value);
        if page.len() == PAGE {
            self.roomy.remove(&index);
        }
        self.len += 1;
        key
    }

    /// Takes a value out, if there is one.
    pub fn try_remove(&mut self, key: usize) -> Option<T> {
        let index = key / PAGE;
        let page = self.pages.get_mut(index)?;
        let value = page.try_remove(key % PAGE)?;
        self.len -= 1;
        if page.len() == PAGE - 1 {
            self.roomy.insert(index);
        }
        // The first page stays: most brokers have few of anything, and those come and go.
        if page.is_empty() && index > 0 {
            *page = Slab::new();
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
        self.pages.get(key / PAGE)?.get(key % PAGE)
    }

    /// The value, if there is one.
    pub fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.pages.get_mut(key / PAGE)?.get_mut(key % PAGE)
    }

    /// Whether there is such a value.
    pub fn contains(&self, key: usize) -> bool {
        self.get(key).is_some()
    }

    /// All keys and values, by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let pages = self.pages.iter().enumerate();
        pages.flat_map(|(index, page)| page.iter().map(move |(at, value)| (index * PAGE + at, value)))
    }

    /// All values, by ascending key.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flat_map(|page| page.iter_mut().map(|(_, value)| value))
    }

    /// The last pages go when they are empty, and with them what is noted of them.
    fn pop_empty(&mut self) {
        while self.pages.len() > 1 && self.pages.last().is_some_and(Slab::is_empty) {
            self.pages.pop();
            self.roomy.remove(&self.pages.len());
        }
        self.pages.shrink_if_sparse();
    }
}

impl<T> Index<usize> for PagedSlab<T> {
    type Output = T;

    fn index(&self, key: usize) -> &T {
        match self.get(key) {
            Some(value) => value,
            None => panic!("nothing has the key {key}"),
        }
    }
}

impl<T> IndexMut<usize> for PagedSlab<T> {
    fn index_mut(&mut self, key: usize) -> &mut T {
        match self.get_mut(key) {
            Some(value) => value,
            None => panic!("nothing has the key {key}"),
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
        let mut pages = PagedSlab::default();
        let keys: Vec<_> = (0..100_000).map(|number| pages.insert(number)).collect();
        let last = keys.len() - 1;
        keys.iter().filter(|&&key| key != last).for_each(|&key| assert_eq!(pages.remove(key), key));
        let kept = || pages.pages.iter().filter(|page| page.capacity() > 0);
        assert_eq!((kept().count(), pages.len(), pages[last]), (2, 1, last));
        // Those who come are low, so that high pages empty in time.
        assert!(pages.insert(7) < PAGE);
        pages.remove(last);
        assert_eq!(pages.bound(), PAGE);
        assert!(pages.pages.capacity() < 16 && pages.roomy.len() == 1);
    }

    proptest! {
        /// Against a map.
        #[test]
        fn it_is_a_map_that_chooses_its_keys(acts in prop::collection::vec((any::<bool>(), 0..400_usize), 0..1500)) {
            let (mut pages, mut model) = (PagedSlab::default(), BTreeMap::new());
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
