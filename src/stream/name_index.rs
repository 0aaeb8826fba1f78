//! Which audiences hear a record: those of all names, and those of its own. With one subscriber per name a
//! record must not look at all the others. Refuses to know what an audience is.

use std::collections::HashMap;
use std::sync::Arc;

use crate::stream::group::GroupKey;
use crate::util::shrink::Shrink;

/// See the module's page.
#[derive(Debug, Default)]
pub struct NameIndex {
    of_all: Vec<GroupKey>,
    by_name: HashMap<Arc<str>, Vec<GroupKey>>,
}

impl NameIndex {
    /// An audience of these names; of all if there are none.
    pub fn add(&mut self, key: GroupKey, names: &[Arc<str>]) {
        if names.is_empty() {
            self.of_all.push(key);
        }
        for name in names {
            self.by_name.entry(Arc::clone(name)).or_default().push(key);
        }
    }

    /// An audience of these names has ended.
    pub fn remove(&mut self, key: GroupKey, names: &[Arc<str>]) {
        if names.is_empty() {
            self.of_all.retain(|&other| other != key);
        }
        for name in names {
            let Some(keys) = self.by_name.get_mut(name) else { continue };
            keys.retain(|&other| other != key);
            if keys.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    /// Those who hear a record of this name.
    pub fn of(&self, name: &str) -> impl Iterator<Item = GroupKey> {
        let by_name = self.by_name.get(name).map_or(&[][..], |keys| keys);
        self.of_all.iter().chain(by_name).copied()
    }
}

impl Shrink for NameIndex {
    fn shrink_if_sparse(&mut self) {
        self.of_all.shrink_if_sparse();
        self.by_name.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_all_names_and_of_its_own_hear_a_record() {
        let names = |names: &[&str]| names.iter().map(|&name| Arc::from(name)).collect::<Vec<_>>();
        let mut hearers = NameIndex::default();
        let audiences = [names(&[]), names(&["a"]), names(&["a", "b"]), names(&["c"])];
        (0..).zip(&audiences).for_each(|(key, names)| hearers.add(key, names));
        let of = |hearers: &NameIndex, name| hearers.of(name).collect::<Vec<_>>();
        assert_eq!((of(&hearers, "a"), of(&hearers, "b"), of(&hearers, "x")), (vec![0, 1, 2], vec![0, 2], vec![0]));
        hearers.remove(1, &audiences[1]);
        assert_eq!((of(&hearers, "a"), of(&hearers, "c")), (vec![0, 2], vec![0, 3]));
        (0..).zip(&audiences).for_each(|(key, names)| hearers.remove(key, names));
        assert!(hearers.of_all.is_empty() && hearers.by_name.is_empty());
    }
}
