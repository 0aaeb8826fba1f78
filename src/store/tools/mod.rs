//! Tools for a store that no broker has open: check, dump, erase and load. A dump can also be made while a broker is running.

pub(super) mod check;
mod dump;
mod erase;
mod error;
mod load;

pub use check::check;
pub use dump::dump;
pub use erase::erase;
pub use load::load;
