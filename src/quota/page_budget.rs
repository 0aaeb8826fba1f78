//! The memory budget of history pages (`/audit`) that are waiting, being read or being sent, and each client's share of it.
//! When memory gets scarce, pages get shorter; a page is refused only if not even a small one fits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Client;
use super::fair_share::fair_share;
use super::usage::Usage;

/// Every page starts with a reservation of this size, in bytes.
const SMALL_PAGE: usize = 64 << 10;
/// The limit for the first [`SMALL_PAGE`] bytes of all pages together: 1024 pages.
const SMALL_BYTES: usize = 64 << 20;
/// The limit for everything beyond the first [`SMALL_PAGE`] bytes of each page.
const LARGE_BYTES: usize = 192 << 20;
/// A page of several versions may take one part in this many of what its client may still reserve, so that many slow readers
/// of large pages leave memory for others at the same address.
const PAGE_PARTS: usize = 16;

/// The memory budget of all pages. Clones share one budget.
#[derive(Clone, Debug)]
pub struct PageBudget(Arc<Mutex<Pools>>);

/// One page's part of the budget, which is released on drop.
#[derive(Debug)]
pub struct PageReservation {
    budget: PageBudget,
    client: Client,
    small: usize,
    large: usize,
}

/// Whether a page must grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The page has no version yet and must have one.
    Required,
    /// The page could end here and leave the rest to the next page.
    Optional,
}

#[derive(Debug)]
struct Pools {
    small: Pool,
    large: Pool,
}

/// Bytes that clients share.
#[derive(Debug)]
struct Pool {
    limit: usize,
    usage: Usage,
}

impl Default for PageBudget {
    fn default() -> Self {
        Self::new(SMALL_BYTES, LARGE_BYTES)
    }
}

impl PageBudget {
    /// Creates a budget of `small` bytes for the first bytes of pages, and `large` bytes for the rest of them.
    pub fn new(small: usize, large: usize) -> Self {
        let pool = |limit| Pool { limit, usage: Usage::default() };
        Self(Arc::new(Mutex::new(Pools { small: pool(small), large: pool(large) })))
    }

    /// Reserves a small page. Returns `None` if the client has no share left.
    pub fn reserve(&self, client: Client) -> Option<PageReservation> {
        let mut pools = self.lock();
        if pools.small.available(client) < SMALL_PAGE {
            return None;
        }
        pools.small.usage.add(client, SMALL_PAGE);
        debug_assert!(pools.small.usage.total() <= pools.small.limit, "a share is never more than what is free");
        Some(PageReservation { budget: self.clone(), client, small: SMALL_PAGE, large: 0 })
    }

    /// Returns how many bytes are reserved.
    pub fn bytes(&self) -> usize {
        let pools = self.lock();
        pools.small.usage.total() + pools.large.usage.total()
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageReservation {
    /// Returns the size of the reservation in bytes.
    pub fn bytes(&self) -> usize {
        self.small + self.large
    }

    /// Grows the reservation to `bytes`, if it is smaller. Returns whether it now has that size or more.
    pub fn grow(&mut self, bytes: usize, growth: Growth) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes()).filter(|&more| more > 0) else { return true };
        let mut pools = self.budget.lock();
        let available = pools.large.available(self.client);
        let may_grow = match growth {
            // A version that is larger than any share can be read while no other large page is reserved.
            Growth::Required => more <= available || pools.large.usage.total() == 0,
            Growth::Optional => self.large + more <= (available + self.large) / PAGE_PARTS,
        };
        if may_grow {
            pools.large.usage.add(self.client, more);
            self.large += more;
        }
        may_grow
    }

    /// Shrinks the reservation to `bytes`, if it is larger.
    pub fn shrink(&mut self, bytes: usize) {
        let small = self.small.min(bytes);
        let large = self.large.min(bytes - small);
        let mut pools = self.budget.lock();
        pools.small.usage.release(self.client, self.small - small);
        pools.large.usage.release(self.client, self.large - large);
        (self.small, self.large) = (small, large);
    }
}

impl Drop for PageReservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Pool {
    /// Returns how many more bytes a client may reserve.
    fn available(&self, client: Client) -> usize {
        fair_share(self.limit.saturating_sub(self.usage.total()), self.usage.held_by(client))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> Client {
        Client::from(Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))))
    }

    /// Fills a page with versions of this size, until it has 8 MiB or can't grow.
    fn fill(budget: &PageBudget, client: Client, version: usize) -> Option<PageReservation> {
        let mut page = budget.reserve(client)?;
        if !page.grow(version, Growth::Required) {
            return None;
        }
        let mut bytes = version;
        while bytes + version <= 8 << 20 && page.grow(bytes + version, Growth::Optional) {
            bytes += version;
        }
        page.shrink(bytes);
        Some(page)
    }

    #[test]
    fn a_single_reader_gets_a_page_of_maximum_length() {
        assert_eq!(fill(&PageBudget::default(), client(1), 1 << 20).unwrap().bytes(), 8 << 20);
        assert_eq!(fill(&PageBudget::default(), client(1), 1 << 10).unwrap().bytes(), 8 << 20);
    }

    #[test]
    fn slow_readers_at_one_address_get_shorter_and_shorter_pages() {
        for (version, readers) in [(1 << 10, 600), (100 << 10, 100), (1 << 20, 40)] {
            let budget = PageBudget::default();
            let pages: Vec<_> = (0..readers).map_while(|_| fill(&budget, client(1), version)).collect();
            assert_eq!(pages.len(), readers, "versions of {version} bytes");
            assert!(pages.windows(2).all(|pages| pages[0].bytes() >= pages[1].bytes()));
            assert!(
                fill(&budget, client(2), 1 << 20).is_some_and(|page| page.bytes() >= 1 << 20),
                "others have memory"
            );
            assert!(budget.bytes() <= SMALL_BYTES + LARGE_BYTES);
        }
    }

    #[test]
    fn greedy_addresses_leave_a_share_for_the_next_address() {
        let budget = PageBudget::default();
        let mut pages = Vec::new();
        for number in 0..4 {
            pages.extend(std::iter::from_fn(|| fill(&budget, client(number), 100 << 10)));
            pages.extend(std::iter::from_fn(|| fill(&budget, client(number), 1 << 10)));
        }
        assert!(fill(&budget, client(9), 60 << 10).is_some());
        drop(pages);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn a_version_larger_than_any_share_is_read_while_no_other_large_page_is_reserved() {
        let budget = PageBudget::default();
        let huge = fill(&budget, client(1), 2 * LARGE_BYTES).unwrap();
        assert!(fill(&budget, client(2), 1 << 20).is_none() && fill(&budget, client(2), 60 << 10).is_some());
        drop(huge);
        let other = fill(&budget, client(2), 1 << 20).unwrap();
        assert!(fill(&budget, client(1), 2 * LARGE_BYTES).is_none());
        drop(other);
        assert_eq!(budget.bytes(), 0);
    }

    proptest! {
        #[test]
        fn the_budgets_bytes_are_the_sum_of_all_reservations(
            acts in prop::collection::vec((0..4_u8, 0..5_u8, 0..3_000_000_usize), 0..200),
        ) {
            let budget = PageBudget::new(10 * SMALL_PAGE, 4 << 20);
            let mut pages: Vec<PageReservation> = Vec::new();
            for (act, number, bytes) in acts {
                let page = bytes % pages.len().max(1);
                match act {
                    0 => pages.extend(budget.reserve(client(number))),
                    1 if !pages.is_empty() => drop(pages.swap_remove(page)),
                    2 if !pages.is_empty() => pages[page].shrink(bytes),
                    _ if !pages.is_empty() => {
                        let before = pages[page].bytes();
                        let growth = if number > 1 { Growth::Required } else { Growth::Optional };
                        let has_grown = pages[page].grow(bytes, growth);
                        prop_assert_eq!(pages[page].bytes(), if has_grown { before.max(bytes) } else { before });
                    }
                    _ => {}
                }
                prop_assert_eq!(budget.bytes(), pages.iter().map(PageReservation::bytes).sum::<usize>());
                let pools = budget.lock();
                prop_assert!(pools.small.usage.total() <= pools.small.limit && pools.large.usage.total() <= pools.large.limit);
            }
        }
    }
}
