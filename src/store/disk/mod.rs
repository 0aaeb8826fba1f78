//! Where the records are: the data directory, its files and their owner, its lock, and the free space on its disk.
//! Independent of what the database contains.

pub(super) mod files;
pub(super) mod location;
pub(super) mod shortage;
pub(super) mod space;
