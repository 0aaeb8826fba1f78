//! Tools for a store that no broker has open: check, dump and load. A dump can also be made beside a running broker.

mod check;
mod dump;
mod error;
mod load;

pub use check::{Report, check};
pub use dump::dump;
pub use error::{BadLine, ToolError};
pub use load::load;
