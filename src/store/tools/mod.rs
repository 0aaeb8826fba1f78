//! Tools for a store that no broker has open: check, dump and load. A dump can also be made while a broker is running.

pub(super) mod check;
mod dump;
mod error;
mod load;

pub use check::check;
pub use dump::dump;
pub use load::load;
