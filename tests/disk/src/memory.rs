//! The shared memory of a file: regions of zeros that stay where they are until the last that has them lets go. Refuses to
//! know what is in them.

use std::ffi::c_void;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// Who may still look into it holds an `Arc` of it, dead or alive.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Vec<Region>>);

/// Atomics, because several write at once through pointers: SQLite sees to who may.
type Region = Box<[AtomicU64]>;

impl Memory {
    /// Where a region is. None: there is none yet.
    pub fn region(&self, index: usize) -> Option<*mut c_void> {
        let regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        regions.get(index).map(|region| region.as_ptr().cast_mut().cast())
    }

    /// Makes regions of so many bytes until there are so many.
    pub fn extend(&self, count: usize, bytes: usize) {
        let mut regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while regions.len() < count {
            regions.push((0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect());
        }
    }

    pub fn regions(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
