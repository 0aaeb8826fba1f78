//! Where the records are: the data directory, its files and their owner, its lock, and the free space on its disk; and the
//! file in it for the history of topics.
//! Independent of what the database contains.

pub(super) mod files;
pub(super) mod history_file;
pub(super) mod location;
pub(super) mod shortage;
pub(super) mod space;
