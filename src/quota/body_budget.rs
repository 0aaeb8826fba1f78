//! The memory budget of request bodies, which many clients share and none can exhaust. Independent of sockets and HTTP.
//!
//! How much a client may hold depends on how much is free: **never more than what then remains free for the others**. (Switches
//! divide their packet buffers among ports the same way, by "dynamic thresholds".) One greedy client may hold up to half of the
//! budget, two a third each, and n of them one part of n + 1 each; the last part always remains free for the next client. A
//! fixed share would have to be chosen for the worst case: a small one would be too little for a proxy, whose address stands
//! for all clients behind it, and with a large one a few clients could use up the budget. There are two exceptions:
//!
//! - While the budget lasts, every client may hold as much as one body of the maximum size takes.
//! - The first few KiB of each body count against the total only, a part of which is reserved for them. So small requests are
//!   accepted even from a client whose share is used up: they may come from other people behind the same proxy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Client;
use super::usage::Usage;

/// The bytes of all request bodies together, unless `--max-body` requires more.
const TOTAL_BYTES: usize = 256 << 20;
/// The part of the total that only small bodies may use.
const RESERVED_BYTES: usize = 16 << 20;
/// A body up to this size is small, and so are the first bytes of any body.
const SMALL_BYTES: usize = 8 << 10;

/// Why memory can't be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// All clients together would hold too much.
    Total,
    /// This client would hold too much.
    Share,
}

/// The sizes that a budget consists of, in bytes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// The limit for all clients together.
    total: usize,
    /// The part of the total for small reservations.
    reserved: usize,
    /// A reservation up to this size is small.
    small: usize,
    /// The minimum share of a client, while the total lasts.
    min_share: usize,
}

/// The memory budget of request bodies. Clones share one budget.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sizes: Sizes,
    usage: Mutex<Usage>,
}

impl BodyBudget {
    /// Creates a budget for bodies of up to `max_body` bytes each.
    pub fn new(max_body: usize) -> Self {
        Self::with_sizes(Sizes {
            total: TOTAL_BYTES.max(max_body + RESERVED_BYTES),
            reserved: RESERVED_BYTES,
            small: SMALL_BYTES,
            min_share: max_body,
        })
    }

    fn with_sizes(sizes: Sizes) -> Self {
        Self(Arc::new(Shared { sizes, usage: Mutex::default() }))
    }

    /// Creates an empty reservation for a client.
    pub fn reservation(&self, client: Client) -> BodyReservation {
        BodyReservation { budget: self.clone(), client, bytes: 0 }
    }

    /// Returns how many bytes are reserved.
    pub fn bytes(&self) -> usize {
        self.usage().total()
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.0.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reserved memory, which is released on drop.
#[derive(Debug)]
pub struct BodyReservation {
    budget: BodyBudget,
    client: Client,
    bytes: usize,
}

impl BodyReservation {
    /// Reserves more bytes. Always succeeds if nothing is reserved yet, even if the bytes exceed the budget.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ReserveError> {
        let mut usage = self.budget.usage();
        if usage.total() > 0 {
            let sizes = &self.budget.0.sizes;
            sizes.check(&usage, self.client, bytes, self.bytes + bytes <= sizes.small)?;
        }
        usage.add(self.client, bytes);
        self.bytes += bytes;
        Ok(())
    }

    /// Changes the reservation to this many bytes.
    pub fn resize(&mut self, bytes: usize) -> Result<(), ReserveError> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.budget.usage().release(self.client, self.bytes - bytes);
                self.bytes = bytes;
                Ok(())
            }
        }
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.usage().release(self.client, self.bytes);
        }
    }
}

impl Sizes {
    /// Checks that a client may reserve this many more bytes.
    fn check(&self, usage: &Usage, client: Client, bytes: usize, is_small: bool) -> Result<(), ReserveError> {
        let limit = if is_small { self.total } else { self.total - self.reserved };
        let Some(free) = limit.checked_sub(usage.total() + bytes) else { return Err(ReserveError::Total) };
        let held = usage.held_by(client) + bytes;
        if is_small || held <= free.max(self.min_share) { Ok(()) } else { Err(ReserveError::Share) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::auth::Principal;

    const SIZES: Sizes = Sizes { total: 1100, reserved: 100, small: 5, min_share: 20 };

    fn client(number: u64) -> Client {
        Client::Principal(Principal::Subject(number))
    }

    /// Grows a reservation by ten bytes at a time until that fails.
    fn fill(budget: &BodyBudget, number: u64) -> (BodyReservation, ReserveError) {
        let mut reservation = budget.reservation(client(number));
        loop {
            if let Err(error) = reservation.grow(10) {
                return (reservation, error);
            }
        }
    }

    #[test]
    fn a_reservation_is_resized_in_place() {
        let budget = BodyBudget::with_sizes(SIZES);
        let mut one = budget.reservation(client(1));
        assert_eq!(one.resize(400), Ok(()));
        assert_eq!((one.resize(601), budget.bytes()), (Err(ReserveError::Share), 400));
        assert_eq!((one.resize(3), budget.bytes()), (Ok(()), 3));
        drop(one);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn greedy_clients_leave_memory_for_others() {
        let budget = BodyBudget::with_sizes(SIZES);
        let (one, error) = fill(&budget, 1);
        assert_eq!((one.bytes, error), (500, ReserveError::Share));
        let (two, error) = fill(&budget, 2);
        assert_eq!((two.bytes, error), (250, ReserveError::Share));
        assert_eq!(budget.reservation(client(1)).grow(10), Err(ReserveError::Share));
        assert_eq!(budget.reservation(client(3)).grow(100), Ok(()));
        drop((one, two));
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn a_small_body_is_accepted_when_its_clients_share_and_all_others_are_used_up() {
        let budget = BodyBudget::with_sizes(SIZES);
        let greedy: Vec<_> = (0..200).map(|number| fill(&budget, number)).collect();
        assert_eq!((budget.bytes(), greedy[199].1), (1000, ReserveError::Total));
        let mut small = budget.reservation(client(0));
        assert_eq!((small.grow(4), small.grow(1), small.grow(1)), (Ok(()), Ok(()), Err(ReserveError::Total)));
        let mut more: Vec<_> = (0..19).map(|_| budget.reservation(client(0))).collect();
        assert!(more.iter_mut().all(|small| small.grow(5).is_ok()));
        assert_eq!(budget.reservation(client(1)).grow(1), Err(ReserveError::Total), "all clients share one bound");
    }

    #[test]
    fn a_body_of_the_maximum_size_fits_despite_greedy_clients() {
        let budget = BodyBudget::with_sizes(SIZES);
        let _greedy: Vec<_> = (0..5).map(|number| fill(&budget, number)).collect();
        assert_eq!(budget.reservation(client(9)).grow(20), Ok(()));
        assert_eq!(budget.reservation(client(9)).grow(40), Err(ReserveError::Share));
        let alone = BodyBudget::with_sizes(SIZES);
        assert_eq!(alone.reservation(client(1)).grow(5000), Ok(()), "nothing else is reserved");
    }

    #[test]
    fn one_address_leaves_half_of_the_default_budget_to_others() {
        let budget = BodyBudget::new(1 << 20);
        let mut greedy = Vec::new();
        let error = loop {
            let mut body = budget.reservation(Client::Local);
            if let Err(error) = body.grow(1 << 20) {
                break error;
            }
            greedy.push(body);
        };
        assert_eq!((greedy.len(), error), (120, ReserveError::Share));
        let other = Client::from(Some(std::net::IpAddr::from([192, 0, 2, 1])));
        assert_eq!(budget.reservation(other).grow(1 << 20), Ok(()));
        let large = BodyBudget::new(1 << 30);
        let mut body = large.reservation(other);
        assert!((0..1 << 10).all(|_| body.grow(1 << 20).is_ok()), "one body of the maximum size fits");
    }

    proptest! {
        /// Compares with sums over all reservations.
        #[test]
        fn every_result_matches_the_documented_rule(
            acts in prop::collection::vec((0..4_u64, 0..6_usize, 0..300_usize), 0..100),
        ) {
            let budget = BodyBudget::with_sizes(SIZES);
            let mut live: BTreeMap<(u64, usize), BodyReservation> = BTreeMap::new();
            for (number, slot, bytes) in acts {
                if bytes < 60 {
                    live.remove(&(number, slot));
                    continue;
                }
                let bytes = bytes - 59;
                let total: usize = live.values().map(|one| one.bytes).sum();
                let own: usize = live.iter().filter(|(key, _)| key.0 == number).map(|(_, one)| one.bytes).sum();
                let one = live.entry((number, slot)).or_insert_with(|| budget.reservation(client(number)));
                let is_small = one.bytes + bytes <= SIZES.small;
                let limit = if is_small { SIZES.total } else { SIZES.total - SIZES.reserved };
                let expected = if total == 0 {
                    Ok(())
                } else if total + bytes > limit {
                    Err(ReserveError::Total)
                } else if is_small || own + bytes <= (limit - total - bytes).max(SIZES.min_share) {
                    Ok(())
                } else {
                    Err(ReserveError::Share)
                };
                prop_assert_eq!(one.grow(bytes), expected);
                prop_assert_eq!(budget.bytes(), total + if expected.is_ok() { bytes } else { 0 });
            }
        }
    }
}
