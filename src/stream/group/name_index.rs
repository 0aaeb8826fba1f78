//! Finds the groups that listen to records with a name: those that listen to all records, and those that listen to the
//! name. With one subscriber per name, a record must not look at all other groups.

use std::collections::HashMap;
use std::sync::Arc;

use crate::stream::keys::GroupKey;
use crate::util::shrink::Shrink;

/// Groups by the names of the records that they listen to.
#[derive(Debug, Default)]
pub struct NameIndex {
    any_name: Vec<GroupKey>,
    by_name: HashMap<Arc<str>, Vec<GroupKey>>,
}

impl NameIndex {
    /// Adds a group that listens to these names, or to all records if there are none.
    pub fn insert(&mut self, key: GroupKey, names: &[Arc<str>]) {
        if names.is_empty() {
            self.any_name.push(key);
        }
        for name in names {
            self.by_name.entry(Arc::clone(name)).or_default().push(key);
        }
    }

    /// Removes a group that was inserted with these names.
    pub fn remove(&mut self, key: GroupKey, names: &[Arc<str>]) {
        if names.is_empty() {
            self.any_name.retain(|&other| other != key);
        }
        for name in names {
            let Some(keys) = self.by_name.get_mut(name) else { continue };
            keys.retain(|&other| other != key);
            keys.shrink_if_sparse();
            if keys.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    /// Returns the groups that listen to a record with this name.
    pub fn groups(&self, name: &str) -> impl Iterator<Item = GroupKey> {
        let by_name = self.by_name.get(name).map_or(&[][..], |keys| keys);
        self.any_name.iter().chain(by_name).copied()
    }
}

impl Shrink for NameIndex {
    fn shrink_if_sparse(&mut self) {
        self.any_name.shrink_if_sparse();
        self.by_name.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_all_records_and_of_the_name_are_found() {
        let names = |names: &[&str]| names.iter().map(|&name| Arc::from(name)).collect::<Vec<_>>();
        let mut index = NameIndex::default();
        let sets = [names(&[]), names(&["a"]), names(&["a", "b"]), names(&["c"])];
        (0..).zip(&sets).for_each(|(key, names)| index.insert(key, names));
        let groups = |index: &NameIndex, name| index.groups(name).collect::<Vec<_>>();
        assert_eq!(
            (groups(&index, "a"), groups(&index, "b"), groups(&index, "x")),
            (vec![0, 1, 2], vec![0, 2], vec![0])
        );
        index.remove(1, &sets[1]);
        assert_eq!((groups(&index, "a"), groups(&index, "c")), (vec![0, 2], vec![0, 3]));
        (0..).zip(&sets).for_each(|(key, names)| index.remove(key, names));
        assert!(index.any_name.is_empty() && index.by_name.is_empty());
    }
}
