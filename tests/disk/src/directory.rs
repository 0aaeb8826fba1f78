//! The directory: names and their files, as programs see them and as the disk has them.
//!
//! A created or removed name is durable once the directory is synced. After a power cut each name is in one of the states
//! that it had since then, independently of the others. A file without a name and without a handle is deleted.

use std::collections::BTreeMap;

use crate::file::File;
use crate::rng::Rng;

pub(crate) type FileId = u64;

/// All files of a disk.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    files: BTreeMap<FileId, Entry>,
    names: BTreeMap<String, FileId>,
    durable: BTreeMap<String, FileId>,
    /// The files that each name has stood for since the last sync, oldest first.
    unsynced: BTreeMap<String, Vec<Option<FileId>>>,
    newest: FileId,
}

#[derive(Debug, Default)]
struct Entry {
    file: File,
    handles: usize,
}

impl Directory {
    pub fn find(&self, name: &str) -> Option<FileId> {
        self.names.get(name).copied()
    }

    /// Creates a file with a name.
    pub fn create(&mut self, name: &str) -> FileId {
        let id = self.create_temporary();
        self.set(name, Some(id));
        id
    }

    /// Creates a file without a name, which is deleted with its last handle.
    pub fn create_temporary(&mut self) -> FileId {
        self.newest += 1;
        self.files.insert(self.newest, Entry::default());
        self.newest
    }

    /// Removes a name. Returns false if it does not exist.
    pub fn remove(&mut self, name: &str) -> bool {
        let exists = self.names.contains_key(name);
        if exists {
            self.set(name, None);
            self.sweep();
        }
        exists
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

    /// Counts a handle.
    pub fn open(&mut self, id: FileId) {
        self.files.entry(id).or_default().handles += 1;
    }

    /// Releases a handle.
    pub fn close(&mut self, id: FileId) {
        if let Some(entry) = self.files.get_mut(&id) {
            entry.handles = entry.handles.saturating_sub(1);
        }
        self.sweep();
    }

    /// Returns the bytes of all files that programs can access.
    pub fn used(&self) -> u64 {
        let named = |id: &FileId| self.names.values().any(|named| named == id);
        let accessible = self.files.iter().filter(|(id, entry)| entry.handles > 0 || named(id));
        accessible.map(|(_, entry)| entry.file.len() as u64).sum()
    }

    /// Returns all names and contents, as programs see them.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.names.iter().filter_map(|(name, id)| Some((name.as_str(), self.file(*id)?.content())))
    }

    /// Replaces all files with these, which are durable.
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

    /// Makes the names durable, but not the contents.
    pub fn sync(&mut self) {
        self.durable.clone_from(&self.names);
        self.unsynced.clear();
        self.sweep();
    }

    /// Releases all handles.
    pub fn close_all(&mut self) {
        self.files.values_mut().for_each(|entry| entry.handles = 0);
        self.sweep();
    }

    /// Keeps what is durable, and a random part of the rest.
    pub fn cut_power(&mut self, is_overwrite_safe: bool, rng: &mut Rng) {
        for (name, steps) in std::mem::take(&mut self.unsynced) {
            let made = rng.below(steps.len() + 1);
            made.checked_sub(1).into_iter().for_each(|step| put(&mut self.durable, &name, steps[step]));
        }
        self.names.clone_from(&self.durable);
        self.close_all();
        self.files.values_mut().for_each(|entry| entry.file.cut_power(is_overwrite_safe, rng));
    }

    /// Deletes files that are unreachable, now and after a power cut.
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
    fn only_names_that_were_not_synced_may_be_lost() {
        let survives = |synced: bool, seed: u64| {
            let mut directory = Directory::default();
            directory.create("a");
            if synced {
                directory.sync();
            }
            directory.cut_power(true, &mut Rng::new(seed, 0));
            directory.find("a").is_some()
        };
        assert!((0..100).all(|seed| survives(true, seed)));
        let kept = (0..100).filter(|seed| survives(false, *seed)).count();
        assert!((20..80).contains(&kept), "{kept}");
    }

    #[test]
    fn an_unsynced_removal_may_be_undone() {
        let mut returned = 0;
        for seed in 0..100 {
            let mut directory = Directory::default();
            let id = directory.create("a");
            directory.sync();
            let file = directory.file_mut(id).expect("it exists");
            file.write(0, b"content");
            file.sync();
            assert!(directory.remove("a") && !directory.remove("a"));
            assert_eq!(directory.used(), 0);
            directory.cut_power(true, &mut Rng::new(seed, 0));
            let contents: Vec<_> = directory.contents().collect();
            returned += contents.len();
            assert!(contents.is_empty() || contents == [("a", b"content".as_slice())]);
        }
        assert!((20..80).contains(&returned), "{returned}");
    }

    #[test]
    fn an_open_file_exists_without_a_name() {
        let mut directory = Directory::default();
        let id = directory.create("a");
        directory.open(id);
        directory.remove("a");
        directory.sync();
        assert!(directory.file(id).is_some());
        directory.close(id);
        assert!(directory.file(id).is_none() && directory.files.is_empty());
    }
}
