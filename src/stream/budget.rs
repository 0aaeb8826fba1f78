//! What one loop iteration may spend on streams, so that accepts, requests and other topics are served as well.

/// The cost of all writes in one iteration. A write costs 1, and 1 more for every 16 KiB.
pub const BUDGET_PER_ITERATION: usize = 512;
/// The cost of writes to one group before the next group is served.
pub const BUDGET_PER_SLICE: usize = 128;
/// How many subscribers one iteration of a sweep or a drain looks at.
pub const CHECKS_PER_ITERATION: usize = 8192;

/// The bytes after which a write costs 1 more.
const BYTES_PER_UNIT: usize = 16 << 10;

/// Returns the cost of a write of `bytes` bytes.
pub fn cost(bytes: usize) -> usize {
    1 + bytes / BYTES_PER_UNIT
}
