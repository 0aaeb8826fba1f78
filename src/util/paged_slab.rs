//! A slab made of pages: values under small keys. Keys are reused, those of the first pages first, and memory is returned
//! page by page. A single vector would be copied all at once when it grows, and its last entry would keep the memory of all
//! others. Independent of what it holds.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::util::shrink::Shrink;

/// Entries per page. Few enough that a long-lived entry keeps little memory, and enough that the overhead of a page is
/// negligible.
const PAGE: usize = 64;

/// A slab whose memory is returned page by page.
#[derive(Debug)]
pub struct PagedSlab<T> {
    pages: Vec<Slab<T>>,
    /// The indexes of pages with vacant entries.
    pages_with_room: BTreeSet<usize>,
    len: usize,
}

impl<T> Default for PagedSlab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), pages_with_room: BTreeSet::new(), len: 0 }
    }
}

impl<T> PagedSlab<T> {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a number that is larger than every key.
    pub fn bound(&self) -> usize {
        self.pages.len() * PAGE
    }

    /// Returns the key that the next value will have.
    pub fn vacant_key(&self) -> usize {
        match self.pages_with_room.first() {
            Some(&page) => page * PAGE + self.pages[page].vacant_key(),
            None => self.bound(),
        }
    }

    /// Inserts a value and returns its key, which is [`PagedSlab::vacant_key`].
    pub fn insert(&mut self, value: T) -> usize {
        let key = self.vacant_key();
        let index = key / PAGE;
        if index == self.pages.len() {
            self.pages.push(Slab::new());
            self.pages_with_room.insert(index);
        }
        let page = &mut self.pages[index];
        // A page is allocated once, so it is never copied.
        if page.capacity() == 0 {
            page.reserve_exact(PAGE);
        }
        page.insert(value);
        if page.len() == PAGE {
            self.pages_with_room.remove(&index);
        }
        self.len += 1;
        key
    }

    /// Removes and returns a value, if there is one.
    pub fn try_remove(&mut self, key: usize) -> Option<T> {
        let index = key / PAGE;
        let page = self.pages.get_mut(index)?;
        let value = page.try_remove(key % PAGE)?;
        self.len -= 1;
        if page.len() == PAGE - 1 {
            self.pages_with_room.insert(index);
        }
        // The first page is kept, so that a slab with few entries does not allocate again and again.
        if page.is_empty() && index > 0 {
            *page = Slab::new();
            self.pop_empty();
        }
        Some(value)
    }

    /// Removes and returns a value.
    ///
    /// # Panics
    /// If there is no value with this key.
    pub fn remove(&mut self, key: usize) -> T {
        match self.try_remove(key) {
            Some(value) => value,
            None => panic!("nothing has the key {key}"),
        }
    }

    /// Returns a value, if there is one.
    pub fn get(&self, key: usize) -> Option<&T> {
        self.pages.get(key / PAGE)?.get(key % PAGE)
    }

    /// Returns a value for modification, if there is one.
    pub fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.pages.get_mut(key / PAGE)?.get_mut(key % PAGE)
    }

    /// Returns whether there is a value with this key.
    pub fn contains(&self, key: usize) -> bool {
        self.get(key).is_some()
    }

    /// Returns all keys and values, by ascending key.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.iter_from(0)
    }

    /// Returns the keys that are not smaller than `start`, and their values, by ascending key.
    pub fn iter_from(&self, start: usize) -> impl Iterator<Item = (usize, &T)> {
        let pages = self.pages.iter().enumerate().skip(start / PAGE);
        let entries = pages.flat_map(|(index, page)| page.iter().map(move |(at, value)| (index * PAGE + at, value)));
        entries.skip_while(move |(key, _)| *key < start)
    }

    /// Returns all values for modification, by ascending key.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flat_map(|page| page.iter_mut().map(|(_, value)| value))
    }

    /// Removes empty pages at the end.
    fn pop_empty(&mut self) {
        while self.pages.len() > 1 && self.pages.last().is_some_and(Slab::is_empty) {
            self.pages.pop();
            self.pages_with_room.remove(&self.pages.len());
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
    fn memory_is_returned_although_one_entry_stays() {
        let mut pages = PagedSlab::default();
        let keys: Vec<_> = (0..100_000).map(|number| pages.insert(number)).collect();
        let last = keys.len() - 1;
        keys.iter().filter(|&&key| key != last).for_each(|&key| assert_eq!(pages.remove(key), key));
        let kept = || pages.pages.iter().filter(|page| page.capacity() > 0);
        assert_eq!((kept().count(), pages.len(), pages[last]), (2, 1, last));
        // New entries get low keys, so that the last pages become empty over time.
        assert!(pages.insert(7) < PAGE);
        pages.remove(last);
        assert_eq!(pages.bound(), PAGE);
        assert!(pages.pages.capacity() < 16 && pages.pages_with_room.len() == 1);
    }

    proptest! {
        /// Compares with a map.
        #[test]
        fn a_slab_is_a_map_that_chooses_its_keys(acts in prop::collection::vec((any::<bool>(), 0..400_usize), 0..1500)) {
            let (mut pages, mut model) = (PagedSlab::default(), BTreeMap::new());
            for (number, (is_added, key)) in acts.into_iter().enumerate() {
                if is_added || number < 300 {
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
            for start in [0, 1, PAGE, 200, pages.bound()] {
                let expected: Vec<_> = model.range(start..).map(|(&key, value)| (key, value)).collect();
                prop_assert_eq!(pages.iter_from(start).collect::<Vec<_>>(), expected);
            }
        }
    }
}
