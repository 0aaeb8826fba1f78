//! What to do with a store beside running it: check it, write it out, read it back.

mod check;
mod dump;
mod error;
mod load;

pub use check::{Report, check};
pub use dump::dump;
pub use error::{BadLine, ToolError};
pub use load::load;
