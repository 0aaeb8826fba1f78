//! All groups of a worker: by key, by what they listen to, and the queue of those to serve.

use std::collections::{HashMap, VecDeque};
use std::ops::{Index, IndexMut};

use super::name_index::NameIndex;
use super::{GroupSet, Interest, SubscriberGroup};
use crate::stream::keys::GroupKey;
use crate::stream::replica::Source;
use crate::util::paged_slab::PagedSlab;
use crate::util::shrink::Shrink;

/// The groups of one worker. A group exists as long as it has members.
#[derive(Debug, Default)]
pub struct Groups {
    slab: PagedSlab<SubscriberGroup>,
    by_set: HashMap<GroupSet, GroupKey>,
    /// The groups that listen to records.
    by_name: NameIndex,
    /// Groups with frames to write, in the order in which they are served.
    ready_groups: VecDeque<GroupKey>,
}

impl Groups {
    /// Returns the group of these subscribers, if there is one.
    pub fn find(&self, set: &GroupSet) -> Option<GroupKey> {
        self.by_set.get(set).copied()
    }

    /// Adds a group without members.
    pub fn insert(&mut self, set: GroupSet, source: Source) -> GroupKey {
        let key = self.slab.vacant_key() as GroupKey;
        if let Interest::Records(names) = &set.interest {
            self.by_name.insert(key, names);
        }
        self.by_set.insert(set.clone(), key);
        self.slab.insert(SubscriberGroup::new(set, source));
        key
    }

    /// Adds a member.
    pub fn add_member(&mut self, key: GroupKey) {
        self[key].members += 1;
    }

    /// Removes a member that is not in the ready set. Returns the group if that was the last one: it is removed.
    pub fn remove_member(&mut self, key: GroupKey) -> Option<SubscriberGroup> {
        let group = &mut self[key];
        debug_assert!(group.ready.len() < group.members as usize, "the member is not in the ready set");
        group.members -= 1;
        (group.members == 0).then(|| self.remove(key))
    }

    fn remove(&mut self, key: GroupKey) -> SubscriberGroup {
        let group = self.slab.remove(key as usize);
        self.by_set.remove(&group.set);
        if let Interest::Records(names) = &group.set.interest {
            self.by_name.remove(key, names);
        }
        if group.is_queued {
            self.ready_groups.retain(|&queued| queued != key);
        }
        group
    }

    /// Notes that there are new frames for a group.
    pub fn notify(&mut self, key: GroupKey) {
        notify(&mut self.slab[key as usize], key, &mut self.ready_groups);
    }

    /// Notes that there is something new for all groups that listen to topics.
    pub fn notify_topics(&mut self) {
        self.notify_all(|interest| matches!(interest, Interest::Topics(_)));
    }

    /// Notes that there is something new for all groups that listen to records.
    pub fn notify_records(&mut self) {
        self.notify_all(|interest| matches!(interest, Interest::Records(_)));
    }

    fn notify_all(&mut self, is_meant: impl Fn(&Interest) -> bool) {
        for key in 0..self.slab.bound() {
            if let Some(group) = self.slab.get_mut(key)
                && is_meant(&group.set.interest)
            {
                notify(group, key as GroupKey, &mut self.ready_groups);
            }
        }
    }

    /// Notes that there is a new record with this name. Returns whether a group listens to it.
    pub fn notify_name(&mut self, name: &str) -> bool {
        let mut is_heard = false;
        for key in self.by_name.groups(name) {
            notify(&mut self.slab[key as usize], key, &mut self.ready_groups);
            is_heard = true;
        }
        is_heard
    }

    /// Returns whether a group has frames to write.
    pub fn has_ready(&self) -> bool {
        !self.ready_groups.is_empty()
    }

    /// Takes the group to serve next; [`Groups::requeue`] or [`Groups::finish`] follows.
    pub fn pop_ready(&mut self) -> Option<GroupKey> {
        let key = self.ready_groups.pop_front()?;
        debug_assert!(self[key].is_queued, "group {key} is in the queue once");
        Some(key)
    }

    /// Puts a group whose pass is not over at the end of the queue.
    pub fn requeue(&mut self, key: GroupKey) {
        debug_assert!(self[key].is_queued, "group {key} was taken from the queue");
        self.ready_groups.push_back(key);
    }

    /// Ends the pass of a group: all of its ready subscribers are served.
    pub fn finish(&mut self, key: GroupKey) {
        self[key].is_queued = false;
    }
}

/// Queues a group unless it is in the queue.
fn notify(group: &mut SubscriberGroup, key: GroupKey, ready_groups: &mut VecDeque<GroupKey>) {
    group.ready.notify();
    if !std::mem::replace(&mut group.is_queued, true) {
        ready_groups.push_back(key);
    }
}

impl Index<GroupKey> for Groups {
    type Output = SubscriberGroup;

    fn index(&self, key: GroupKey) -> &SubscriberGroup {
        &self.slab[key as usize]
    }
}

impl IndexMut<GroupKey> for Groups {
    fn index_mut(&mut self, key: GroupKey) -> &mut SubscriberGroup {
        &mut self.slab[key as usize]
    }
}

impl Shrink for Groups {
    fn shrink_if_sparse(&mut self) {
        self.by_set.shrink_if_sparse();
        self.by_name.shrink_if_sparse();
        self.ready_groups.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sse::Framing;

    /// Groups that listen to records: one of all records, and one of the name `a`.
    fn two_groups() -> (Groups, [GroupKey; 2]) {
        let mut groups = Groups::default();
        let keys = [Arc::from([]), Arc::from([Arc::from("a")])].map(|names: Arc<[Arc<str>]>| {
            let set =
                GroupSet { interest: Interest::Records(Arc::clone(&names)), framing: Framing::Chunked, poll: None };
            let key = groups.insert(set.clone(), Source::Records(names));
            assert_eq!(groups.find(&set), Some(key));
            groups.add_member(key);
            key
        });
        (groups, keys)
    }

    #[test]
    fn a_group_is_queued_once_until_it_is_finished() {
        let (mut groups, [all, named]) = two_groups();
        groups.notify_name("a");
        groups.notify_name("b");
        assert_eq!([groups.pop_ready(), groups.pop_ready(), groups.pop_ready()], [Some(all), Some(named), None]);
        groups.requeue(all);
        groups.notify(all);
        groups.finish(named);
        groups.notify(named);
        assert_eq!([groups.pop_ready(), groups.pop_ready(), groups.pop_ready()], [Some(all), Some(named), None]);
    }

    #[test]
    fn a_group_ends_with_its_last_member() {
        let (mut groups, [all, named]) = two_groups();
        groups.add_member(named);
        groups.notify_name("a");
        assert!(groups.remove_member(named).is_none(), "another member is left");
        let ended = groups.remove_member(named).unwrap();
        assert_eq!(groups.find(&ended.set), None);
        assert_eq!([groups.pop_ready(), groups.pop_ready()], [Some(all), None]);
        groups.finish(all);
        groups.notify_name("a");
        assert_eq!([groups.pop_ready(), groups.pop_ready()], [Some(all), None]);
    }
}
