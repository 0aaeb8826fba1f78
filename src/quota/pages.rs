//! The memory of audit pages that wait, are read or are being sent, and each client's share of it. When memory gets scarce pages
//! get shorter; they are refused only when not even a small one fits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Client;
use super::share::share;

/// Every page has room for so many bytes from the beginning.
pub const SMALL_PAGE: usize = 64 << 10;
/// At most so many bytes are taken by the first [`SMALL_PAGE`] of all pages: 1024 pages.
const SMALL_BYTES: usize = 64 << 20;
/// At most so many bytes are taken by what pages have beyond that.
const LARGE_BYTES: usize = 192 << 20;
/// A page of several versions may have this part of what its client may still take, so that many slow readers of large pages
/// leave room for others of the same address.
const PAGE_PART: usize = 16;

/// The memory of all pages, over all workers.
#[derive(Clone, Debug)]
pub struct PageBudget(Arc<Mutex<Pools>>);

/// One page's part of the budget, released when it is dropped.
#[derive(Debug)]
pub struct PageReservation {
    budget: PageBudget,
    client: Client,
    small: usize,
    large: usize,
}

/// How much a page needs to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It has no version yet, and can't end without.
    Required,
    /// It can end here as well; the rest is for the next page.
    Optional,
}

#[derive(Debug)]
struct Pools {
    small: Pool,
    large: Pool,
}

/// Bytes, and who has how many. As many clients as have some, which the bytes bound.
#[derive(Debug)]
struct Pool {
    limit: usize,
    held: usize,
    by_client: HashMap<Client, usize>,
}

impl Default for PageBudget {
    fn default() -> Self {
        Self::new(SMALL_BYTES, LARGE_BYTES)
    }
}

impl PageBudget {
    /// A budget of so many bytes for the beginnings of pages, and so many for the rest of them.
    pub fn new(small: usize, large: usize) -> Self {
        let pool = |limit| Pool { limit, held: 0, by_client: HashMap::new() };
        Self(Arc::new(Mutex::new(Pools { small: pool(small), large: pool(large) })))
    }

    /// Reserves a small page; `None` if too many pages wait or are sent, most of them this client's.
    pub fn reserve(&self, client: Client) -> Option<PageReservation> {
        let mut pools = self.lock();
        if pools.small.left(client) < SMALL_PAGE {
            return None;
        }
        pools.small.add(client, SMALL_PAGE);
        Some(PageReservation { budget: self.clone(), client, small: SMALL_PAGE, large: 0 })
    }

    /// Returns the bytes that are reserved.
    pub fn held(&self) -> usize {
        let pools = self.lock();
        pools.small.held + pools.large.held
    }

    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageReservation {
    /// Returns how many bytes the page may have.
    pub fn bytes(&self) -> usize {
        self.small + self.large
    }

    /// Reserves more, so that the page may have so many bytes. Returns whether it may.
    pub fn grow(&mut self, bytes: usize, growth: Growth) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes()).filter(|&more| more > 0) else { return true };
        let mut pools = self.budget.lock();
        let left = pools.large.left(self.client);
        let may_grow = match growth {
            // A version that is larger than anybody's share can be read when nobody else reads a large one.
            Growth::Required => more <= left || pools.large.held == 0,
            Growth::Optional => self.large + more <= (left + self.large) / PAGE_PART,
        };
        if may_grow {
            pools.large.add(self.client, more);
            self.large += more;
        }
        may_grow
    }

    /// Releases all but so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let small = self.small.min(bytes);
        let large = self.large.min(bytes - small);
        let mut pools = self.budget.lock();
        pools.small.release(self.client, self.small - small);
        pools.large.release(self.client, self.large - large);
        (self.small, self.large) = (small, large);
    }
}

impl Drop for PageReservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

impl Pool {
    /// Returns how many bytes more a client may take.
    fn left(&self, client: Client) -> usize {
        share(self.limit.saturating_sub(self.held), self.by_client.get(&client).copied().unwrap_or(0))
    }

    fn add(&mut self, client: Client, bytes: usize) {
        self.held += bytes;
        *self.by_client.entry(client).or_insert(0) += bytes;
    }

    fn release(&mut self, client: Client, bytes: usize) {
        self.held -= bytes;
        let Some(held) = self.by_client.get_mut(&client) else { return };
        *held -= bytes;
        if *held == 0 {
            self.by_client.remove(&client);
        }
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

    /// Fills a page with versions of so many bytes, until it has 8 MiB or may not grow.
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
    fn one_reader_gets_the_longest_page() {
        assert_eq!(fill(&PageBudget::default(), client(1), 1 << 20).unwrap().bytes(), 8 << 20);
        assert_eq!(fill(&PageBudget::default(), client(1), 1 << 10).unwrap().bytes(), 8 << 20);
    }

    #[test]
    fn slow_readers_of_one_address_get_shorter_and_shorter_pages() {
        for (version, readers) in [(1 << 10, 600), (100 << 10, 100), (1 << 20, 40)] {
            let budget = PageBudget::default();
            let pages: Vec<_> = (0..readers).map_while(|_| fill(&budget, client(1), version)).collect();
            assert_eq!(pages.len(), readers, "versions of {version} bytes");
            assert!(pages.windows(2).all(|pages| pages[0].bytes() >= pages[1].bytes()));
            assert!(fill(&budget, client(2), 1 << 20).is_some_and(|page| page.bytes() >= 1 << 20), "others have room");
            assert!(budget.held() <= SMALL_BYTES + LARGE_BYTES);
        }
    }

    #[test]
    fn greedy_addresses_leave_a_share_to_the_next() {
        let budget = PageBudget::default();
        let mut pages = Vec::new();
        for number in 0..4 {
            pages.extend(std::iter::from_fn(|| fill(&budget, client(number), 100 << 10)));
            pages.extend(std::iter::from_fn(|| fill(&budget, client(number), 1 << 10)));
        }
        assert!(fill(&budget, client(9), 60 << 10).is_some());
        drop(pages);
        assert_eq!(budget.held(), 0);
        assert!(budget.lock().small.by_client.is_empty() && budget.lock().large.by_client.is_empty());
    }

    #[test]
    fn a_version_larger_than_any_share_is_read_alone() {
        let budget = PageBudget::default();
        let huge = fill(&budget, client(1), 2 * LARGE_BYTES).unwrap();
        assert!(fill(&budget, client(2), 1 << 20).is_none() && fill(&budget, client(2), 60 << 10).is_some());
        drop(huge);
        let other = fill(&budget, client(2), 1 << 20).unwrap();
        assert!(fill(&budget, client(1), 2 * LARGE_BYTES).is_none());
        drop(other);
        assert_eq!(budget.held(), 0);
    }

    proptest! {
        /// Against adding up what every page has.
        #[test]
        fn the_sum_of_all_pages_is_what_is_held(
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
                        let (before, growth) = (pages[page].bytes(), if number > 1 { Growth::Required } else { Growth::Optional });
                        let has_grown = pages[page].grow(bytes, growth);
                        prop_assert_eq!(pages[page].bytes(), if has_grown { before.max(bytes) } else { before });
                    }
                    _ => {}
                }
                prop_assert_eq!(budget.held(), pages.iter().map(PageReservation::bytes).sum::<usize>());
                let pools = budget.lock();
                prop_assert!(pools.small.held <= pools.small.limit && pools.large.held <= pools.large.limit);
            }
        }
    }
}
