//! Counts how many bytes each client holds, and all clients together.

use std::collections::HashMap;

use super::Client;
use crate::util::shrink::Shrink;

/// The bytes held by each client. Only clients that hold something have an entry.
#[derive(Debug, Default)]
pub(super) struct Usage {
    total: usize,
    by_client: HashMap<Client, usize>,
}

impl Usage {
    /// Returns how many bytes all clients hold.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Returns how many bytes a client holds.
    pub(super) fn held_by(&self, client: Client) -> usize {
        self.by_client.get(&client).copied().unwrap_or(0)
    }

    /// Counts more bytes for a client.
    pub(super) fn add(&mut self, client: Client, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.total += bytes;
        *self.by_client.entry(client).or_insert(0) += bytes;
    }

    /// Counts fewer bytes for a client, which must hold them.
    pub(super) fn release(&mut self, client: Client, bytes: usize) {
        debug_assert!(bytes <= self.held_by(client), "released {bytes} of {} bytes", self.held_by(client));
        let Some(held) = self.by_client.get_mut(&client) else { return };
        self.total -= bytes;
        *held -= bytes;
        if *held == 0 {
            self.by_client.remove(&client);
            self.by_client.shrink_if_sparse();
        }
        debug_assert_eq!(self.by_client.is_empty(), self.total == 0, "the total is the sum of all clients' bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Principal;

    #[test]
    fn only_clients_that_hold_something_take_memory() {
        let (mut usage, client) = (Usage::default(), |number| Client::Principal(Principal::Subject(number)));
        (0..10_000).for_each(|number| usage.add(client(number), 0));
        assert_eq!(usage.by_client.capacity(), 0);
        (0..10_000).for_each(|number| usage.add(client(number), 1));
        assert_eq!((usage.by_client.len(), usage.total(), usage.held_by(client(7))), (10_000, 10_000, 1));
        (0..10_000).for_each(|number| usage.release(client(number), 1));
        assert!(usage.by_client.is_empty() && usage.total() == 0);
        assert!(usage.by_client.capacity() <= 128, "room for {}", usage.by_client.capacity());
    }
}
