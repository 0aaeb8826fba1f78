//! A set of workers that needs no allocation for up to 64 of them.

/// The index of a worker.
pub type WorkerId = usize;

/// A set of workers.
#[derive(Default)]
pub(super) struct WorkerSet {
    /// One bit for each of the first 64 workers.
    bits: u64,
    rest: Vec<WorkerId>,
}

impl WorkerSet {
    /// Adds a worker that is not in the set.
    pub fn insert(&mut self, worker: WorkerId) {
        match worker {
            0..64 => self.bits |= 1 << worker,
            _ => self.rest.push(worker),
        }
    }

    /// Adds a worker that may be in the set.
    pub fn add(&mut self, worker: WorkerId) {
        if worker < 64 || !self.rest.contains(&worker) {
            self.insert(worker);
        }
    }

    /// Returns the workers in ascending order, if they were added in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = WorkerId> {
        let mut left = self.bits;
        let first = std::iter::from_fn(move || {
            let lowest = left.trailing_zeros();
            // Clears the lowest bit; ends when none is left.
            left &= left.checked_sub(1)?;
            Some(lowest as WorkerId)
        });
        first.chain(self.rest.iter().copied())
    }
}

impl FromIterator<WorkerId> for WorkerSet {
    fn from_iter<I: IntoIterator<Item = WorkerId>>(workers: I) -> Self {
        let mut set = Self::default();
        workers.into_iter().for_each(|worker| set.insert(worker));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_what_was_inserted_in_order() {
        for workers in [vec![], vec![0], vec![63, 64], vec![0, 1, 5, 62, 63, 64, 65, 200]] {
            let set: WorkerSet = workers.iter().copied().collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), workers);
        }
    }
}
