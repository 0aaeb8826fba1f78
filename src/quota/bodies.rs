//! A bound on memory that many clients share, of which no client can take everything. Independent of sockets and HTTP.
//!
//! What one client may hold depends on how much is free: **never more than what then stays free for the others** (buffers
//! shared by switches' ports are divided the same way, by "dynamic thresholds"). One client alone gets up to half, two
//! greedy ones a third each, n of them an equal part of n + 1, and that part always stays free for the next. A fixed share
//! would have to be chosen for the worst day: a small one would be too little for a proxy, whose address stands for all
//! clients behind it, a large one would be used up by few. Two exceptions:
//!
//! - As long as there is room, every client may hold what one body of the largest size takes.
//! - The first few KiB of each body count against the whole bound alone, a part of which is kept for them. So ordinary
//!   small requests are taken even from a client whose share is used up: they may be those of other people behind the same
//!   proxy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Client;
use crate::util::shrink::Shrink;

/// Bytes of request bodies held at a time, all clients together, unless `--max-body` asks for more.
const BODIES_BYTES: usize = 256 << 20;
/// The part of them that only small bodies may use.
const RESERVED_BYTES: usize = 16 << 20;
/// What counts as small: this many bytes of each body.
const SMALL_BYTES: usize = 8 << 10;

/// Why memory can't be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// All clients together hold too much.
    Total,
    /// This client holds too much.
    Share,
}

/// The bounds.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// All clients together.
    total: usize,
    /// The part of it for small reservations.
    reserved: usize,
    /// A reservation up to this size is small.
    small: usize,
    /// A share is never smaller.
    least_share: usize,
}

/// Memory that clients share. Clones are handles on the same memory.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sizes: Sizes,
    held: Mutex<Held>,
}

/// What is held. There are as many clients as there are with a reservation, of which each connection has at most one.
#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_client: HashMap<Client, usize>,
}

impl BodyBudget {
    /// Creates the budget of request bodies, of which one may have `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        Self::of(Sizes {
            total: BODIES_BYTES.max(max_body + RESERVED_BYTES),
            reserved: RESERVED_BYTES,
            small: SMALL_BYTES,
            least_share: max_body,
        })
    }

    fn of(sizes: Sizes) -> Self {
        Self(Arc::new(Shared { sizes, held: Mutex::default() }))
    }

    /// Creates a reservation of no bytes.
    pub fn reservation(&self, client: Client) -> BodyReservation {
        BodyReservation { budget: self.clone(), client, bytes: 0 }
    }

    /// Returns how many bytes are reserved.
    pub fn bytes(&self) -> usize {
        self.held().total
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reserved memory, given back when it is dropped.
#[derive(Debug)]
pub struct BodyReservation {
    budget: BodyBudget,
    client: Client,
    bytes: usize,
}

impl BodyReservation {
    /// Reserves more bytes. What alone is more than the budget is taken if nothing else is held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Shortage> {
        let mut held = self.budget.held();
        if held.total > 0 {
            let sizes = &self.budget.0.sizes;
            held.check(sizes, self.client, bytes, self.bytes + bytes <= sizes.small)?;
        }
        held.total += bytes;
        *held.by_client.entry(self.client).or_default() += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Reserves this many bytes in all, which may be more or fewer than before.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Shortage> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.budget.held().shrink_if_sparse(self.client, self.bytes - bytes);
                self.bytes = bytes;
                Ok(())
            }
        }
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.held().shrink_if_sparse(self.client, self.bytes);
        }
    }
}

impl Held {
    fn check(&self, sizes: &Sizes, client: Client, bytes: usize, is_small: bool) -> Result<(), Shortage> {
        let room = if is_small { sizes.total } else { sizes.total - sizes.reserved };
        let Some(free) = room.checked_sub(self.total + bytes) else { return Err(Shortage::Total) };
        let own = self.by_client.get(&client).copied().unwrap_or(0) + bytes;
        if is_small || own <= free.max(sizes.least_share) { Ok(()) } else { Err(Shortage::Share) }
    }

    fn shrink_if_sparse(&mut self, client: Client, bytes: usize) {
        self.total -= bytes;
        if let Some(own) = self.by_client.get_mut(&client) {
            *own -= bytes;
            if *own == 0 {
                self.by_client.remove(&client);
                self.by_client.shrink_if_sparse();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::auth::Principal;

    const SIZES: Sizes = Sizes { total: 1100, reserved: 100, small: 5, least_share: 20 };

    fn client(number: u64) -> Client {
        Client::Principal(Principal::Subject(number))
    }

    /// Grows a reservation by ten bytes at a time as long as it may.
    fn fill(budget: &BodyBudget, number: u64) -> (BodyReservation, Shortage) {
        let mut reservation = budget.reservation(client(number));
        loop {
            if let Err(shortage) = reservation.grow(10) {
                return (reservation, shortage);
            }
        }
    }

    #[test]
    fn a_reservation_is_resized_in_place() {
        let budget = BodyBudget::of(SIZES);
        let mut one = budget.reservation(client(1));
        assert_eq!(one.resize(400), Ok(()));
        assert_eq!((one.resize(601), budget.bytes()), (Err(Shortage::Share), 400));
        assert_eq!((one.resize(3), budget.bytes()), (Ok(()), 3));
        drop(one);
        assert!(budget.bytes() == 0 && budget.held().by_client.is_empty());
    }

    #[test]
    fn greedy_clients_leave_room_for_others() {
        let budget = BodyBudget::of(SIZES);
        let (one, shortage) = fill(&budget, 1);
        assert_eq!((one.bytes, shortage), (500, Shortage::Share));
        let (two, shortage) = fill(&budget, 2);
        assert_eq!((two.bytes, shortage), (250, Shortage::Share));
        assert_eq!(budget.reservation(client(1)).grow(10), Err(Shortage::Share));
        assert_eq!(budget.reservation(client(3)).grow(100), Ok(()));
        drop((one, two));
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn a_small_body_gets_in_when_its_clients_share_and_all_others_are_used_up() {
        let budget = BodyBudget::of(SIZES);
        let greedy: Vec<_> = (0..200).map(|number| fill(&budget, number)).collect();
        assert_eq!((budget.bytes(), greedy[199].1), (1000, Shortage::Total));
        let mut small = budget.reservation(client(0));
        assert_eq!((small.grow(4), small.grow(1), small.grow(1)), (Ok(()), Ok(()), Err(Shortage::Total)));
        let mut more: Vec<_> = (0..19).map(|_| budget.reservation(client(0))).collect();
        assert!(more.iter_mut().all(|small| small.grow(5).is_ok()));
        assert_eq!(budget.reservation(client(1)).grow(1), Err(Shortage::Total), "the bound is one for all");
    }

    #[test]
    fn a_body_of_the_largest_size_fits_whoever_else_has_been_there() {
        let budget = BodyBudget::of(SIZES);
        let _greedy: Vec<_> = (0..5).map(|number| fill(&budget, number)).collect();
        assert_eq!(budget.reservation(client(9)).grow(20), Ok(()));
        assert_eq!(budget.reservation(client(9)).grow(40), Err(Shortage::Share));
        let alone = BodyBudget::of(SIZES);
        assert_eq!(alone.reservation(client(1)).grow(5000), Ok(()), "nothing else is held");
    }

    #[test]
    fn the_default_leaves_half_of_it_to_other_addresses() {
        let budget = BodyBudget::new(1 << 20);
        let mut greedy = Vec::new();
        let shortage = loop {
            let mut body = budget.reservation(Client::Local);
            if let Err(shortage) = body.grow(1 << 20) {
                break shortage;
            }
            greedy.push(body);
        };
        assert_eq!((greedy.len(), shortage), (120, Shortage::Share));
        let other = Client::from(Some(std::net::IpAddr::from([192, 0, 2, 1])));
        assert_eq!(budget.reservation(other).grow(1 << 20), Ok(()));
        let large = BodyBudget::new(1 << 30);
        let mut body = large.reservation(other);
        assert!((0..1 << 10).all(|_| body.grow(1 << 20).is_ok()), "one body of the largest size fits");
    }

    #[test]
    fn the_table_has_those_who_hold_something() {
        let budget = BodyBudget::new(1 << 20);
        let all: Vec<_> = (0..10_000).map(|number| budget.reservation(client(number))).collect();
        assert_eq!(budget.held().by_client.len(), 0);
        let all: Vec<_> = all.into_iter().map(|mut body| (body.grow(1), body).1).collect();
        assert_eq!(budget.held().by_client.len(), 10_000);
        drop(all);
        let table = &budget.held().by_client;
        assert!(table.is_empty() && table.capacity() <= 128, "{}", table.capacity());
    }

    proptest! {
        /// Against sums over all reservations.
        #[test]
        fn it_is_what_one_would_reckon(acts in prop::collection::vec((0..4_u64, 0..6_usize, 0..300_usize), 0..100)) {
            let budget = BodyBudget::of(SIZES);
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
                    Err(Shortage::Total)
                } else if is_small || own + bytes <= (limit - total - bytes).max(SIZES.least_share) {
                    Ok(())
                } else {
                    Err(Shortage::Share)
                };
                prop_assert_eq!(one.grow(bytes), expected);
                prop_assert_eq!(budget.bytes(), total + if expected.is_ok() { bytes } else { 0 });
            }
        }
    }
}
