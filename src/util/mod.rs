//! Small building blocks, independent of the broker.

pub(crate) mod file;
pub(crate) mod json;
pub(crate) mod keyed_hash;
pub(crate) mod min_tree;
pub(crate) mod outage;
pub(crate) mod paged_slab;
pub(crate) mod shrink;
pub(crate) mod units;
