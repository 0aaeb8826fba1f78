//! Names and the files they are of: as programs see them, and as the disk has them. Refuses to know what is in the files.
//!
//! A name that was made or removed is on the disk once the folder is synced; after a loss of power each name is as it was
//! at some moment since, independently of the others. What has neither a name nor a handle is gone.

use std::collections::BTreeMap;

use crate::chance::Chance;
use crate::file::File;

pub(crate) type FileId = u64;

/// All files there are.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    files: BTreeMap<FileId, Entry>,
    names: BTreeMap<String, FileId>,
    durable: BTreeMap<String, FileId>,
    /// What each name stood for since the last sync, oldest first.
    unsynced: BTreeMap<String, Vec<Option<FileId>>>,
    newest: FileId,
}

#[derive(Debug, Default)]
struct Entry {
    file: File,
    handles: usize,
}

impl Folder {
    pub fn find(&self, name: &str) -> Option<FileId> {
        self.names.get(name).copied()
    }

    /// A new file under a name.
    pub fn create(&mut self, name: &str) -> FileId {
        let id = self.create_nameless();
        self.set(name, Some(id));
        id
    }

    /// A file that lives as long as its handles.
    pub fn create_nameless(&mut self) -> FileId {
        self.newest += 1;
        self.files.insert(self.newest, Entry::default());
        self.newest
    }

    /// False: there is no such name.
    pub fn remove(&mut self, name: &str) -> bool {
        let was_there = self.names.contains_key(name);
        if was_there {
            self.set(name, None);
            self.sweep();
        }
        was_there
    }

    fn set(&mut self, name: &str, file: Option<FileId>) {
        self.unsynced.entry(name.to_owned()).or_default().push(file);
        put(&mut self.names, name, file);
    }

    pub fn file(&self, id: FileId) -> Option<&File> {
        self.files.get(&id).map(|entry| &entry.file)
    }

    pub fn file_mut(&mut self, id: FileId) -> Option<&mut File> {
        self.files.get_mut(&id).map(|entry| &mut entry.file)
    }

    /// Somebody has it open.
    pub fn hold(&mut self, id: FileId) {
        self.files.entry(id).or_default().handles += 1;
    }

    /// Somebody has it no longer open.
    pub fn release(&mut self, id: FileId) {
        if let Some(entry) = self.files.get_mut(&id) {
            entry.handles = entry.handles.saturating_sub(1);
        }
        self.sweep();
    }

    /// The bytes of all that programs can reach.
    pub fn used(&self) -> u64 {
        let named = |id: &FileId| self.names.values().any(|named| named == id);
        let reached = self.files.iter().filter(|(id, entry)| entry.handles > 0 || named(id));
        reached.map(|(_, entry)| entry.file.len() as u64).sum()
    }

    /// All names and contents, as programs see them.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.names.iter().filter_map(|(name, id)| Some((name.as_str(), self.file(*id)?.content())))
    }

    /// These files and no others are on the disk.
    pub fn replace(&mut self, files: &[(String, Vec<u8>)]) {
        let names: Vec<_> = self.names.keys().cloned().collect();
        for name in names {
            self.remove(&name);
        }
        for (name, content) in files {
            let id = self.create(name);
            if let Some(file) = self.file_mut(id) {
                file.write(0, content);
                file.sync();
            }
        }
        self.sync();
    }

    /// The names are on the disk; not so the contents.
    pub fn sync(&mut self) {
        self.durable.clone_from(&self.names);
        self.unsynced.clear();
        self.sweep();
    }

    /// No program has anything open any more.
    pub fn abandon(&mut self) {
        self.files.values_mut().for_each(|entry| entry.handles = 0);
        self.sweep();
    }

    /// What is on the disk, and what of the rest got there by chance.
    pub fn cut_power(&mut self, is_overwrite_safe: bool, chance: &mut Chance) {
        for (name, steps) in std::mem::take(&mut self.unsynced) {
            let made = chance.below(steps.len() + 1);
            made.checked_sub(1).into_iter().for_each(|step| put(&mut self.durable, &name, steps[step]));
        }
        self.names.clone_from(&self.durable);
        self.abandon();
        self.files.values_mut().for_each(|entry| entry.file.cut_power(is_overwrite_safe, chance));
    }

    /// Does away with what nobody can reach, now or after a loss of power.
    fn sweep(&mut self) {
        let Self { files, names, durable, unsynced, .. } = self;
        let is_named = |id: &FileId| {
            let mut all = names.values().chain(durable.values()).chain(unsynced.values().flatten().flatten());
            all.any(|named| named == id)
        };
        files.retain(|id, entry| entry.handles > 0 || is_named(id));
    }
}

fn put(names: &mut BTreeMap<String, FileId>, name: &str, file: Option<FileId>) {
    match file {
        Some(file) => names.insert(name.to_owned(), file),
        None => names.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_not_synced_may_be_lost_and_one_that_was_is_not() {
        let survives = |synced: bool, seed: u64| {
            let mut folder = Folder::default();
            folder.create("a");
            if synced {
                folder.sync();
            }
            folder.cut_power(true, &mut Chance::new(seed, 0));
            folder.find("a").is_some()
        };
        assert!((0..100).all(|seed| survives(true, seed)));
        let kept = (0..100).filter(|seed| survives(false, *seed)).count();
        assert!((20..80).contains(&kept), "{kept}");
    }

    #[test]
    fn a_removal_that_was_not_synced_may_be_undone_with_the_content_as_it_was() {
        let mut returned = 0;
        for seed in 0..100 {
            let mut folder = Folder::default();
            let id = folder.create("a");
            folder.sync();
            let file = folder.file_mut(id).expect("it is there");
            file.write(0, b"content");
            file.sync();
            assert!(folder.remove("a") && !folder.remove("a"));
            assert_eq!(folder.used(), 0);
            folder.cut_power(true, &mut Chance::new(seed, 0));
            let contents: Vec<_> = folder.contents().collect();
            returned += contents.len();
            assert!(contents.is_empty() || contents == [("a", b"content".as_slice())]);
        }
        assert!((20..80).contains(&returned), "{returned}");
    }

    #[test]
    fn what_is_open_lives_without_a_name() {
        let mut folder = Folder::default();
        let id = folder.create("a");
        folder.hold(id);
        folder.remove("a");
        folder.sync();
        assert!(folder.file(id).is_some());
        folder.release(id);
        assert!(folder.file(id).is_none() && folder.files.is_empty());
    }
}
