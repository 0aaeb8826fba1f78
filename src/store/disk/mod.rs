//! Where the records are: the data directory, its files and their owner, its lock, and the free space on its disk; who else
//! holds the database; and the file in it for the history of topics.
//! Independent of what the database contains.

pub(super) mod files;
pub(super) mod history_file;
pub(super) mod holder;
pub(super) mod location;
mod lock_file;
pub(super) mod open_files;
pub(super) mod shortage;
pub(super) mod space;
