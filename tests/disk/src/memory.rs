//! The shared memory of a file: zeroed regions that stay at their address until the last handle releases them.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::device::lock;

/// Every handle that may still access the memory holds an `Arc` of it, even after a crash.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Vec<Region>>);

/// Atomics, because several connections write through pointers at the same time. SQLite's locks coordinate them.
type Region = Box<[AtomicU64]>;

impl Memory {
    /// Returns the address of a region, or `None` if it does not exist.
    pub fn region(&self, index: usize) -> Option<*mut c_void> {
        let regions = lock(&self.0);
        regions.get(index).map(|region| region.as_ptr().cast_mut().cast())
    }

    /// Adds regions of this size until there are `count`.
    pub fn extend(&self, count: usize, bytes: usize) {
        let mut regions = lock(&self.0);
        while regions.len() < count {
            regions.push((0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect());
        }
    }

    /// Returns the number of regions.
    pub fn regions(&self) -> usize {
        lock(&self.0).len()
    }
}
