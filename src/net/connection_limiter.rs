//! Limits the connections of all workers together, and those of each address if that is configured. The acceptor acquires a
//! slot for each connection, and the worker that closes the connection releases it. The administration's connections have
//! slots of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::config::{MAX_ADMIN_CONNECTIONS, TrustedProxies};
use crate::net::listener::ListenerRole;
use crate::net::socket::Stream;
use crate::quota::Source;
use crate::util::shrink::Shrink;

/// Counts open connections against their limits.
pub struct ConnectionLimiter {
    max: usize,
    open: AtomicUsize,
    admin_open: AtomicUsize,
    /// Whether the acceptor waits for a release.
    is_paused: AtomicBool,
    /// Whether a client waits to be accepted, and an idle connection is to be closed for it.
    is_slot_wanted: AtomicBool,
    /// Whether all connections were accepted that ever will be, except the administration's.
    has_last: AtomicBool,
    per_address: Option<(usize, Mutex<Addresses>)>,
    /// The peers to which the limit per address does not apply: their connections are those of many clients.
    exempt: TrustedProxies,
}

/// The connections of each address. The source of each descriptor is kept, because a connection that was reset no longer has
/// a peer address. Bounded by the number of open connections.
#[derive(Default)]
struct Addresses {
    by_descriptor: HashMap<RawFd, Source>,
    counts: HashMap<Source, usize>,
}

impl ConnectionLimiter {
    /// Creates a limiter for `max` connections, and `max_per_address` of each address if that is limited.
    pub fn new(max: usize, max_per_address: Option<usize>) -> Self {
        Self {
            max,
            open: AtomicUsize::new(0),
            admin_open: AtomicUsize::new(0),
            is_paused: AtomicBool::new(false),
            is_slot_wanted: AtomicBool::new(false),
            has_last: AtomicBool::new(false),
            per_address: max_per_address.map(|max| (max, Mutex::default())),
            exempt: TrustedProxies::default(),
        }
    }

    /// Exempts these peers from the limit per address.
    #[must_use]
    pub fn exempting(self, exempt: TrustedProxies) -> Self {
        Self { exempt, ..self }
    }

    /// Returns whether another connection may be accepted. If not, pauses until the next release.
    pub fn has_slot(&self, role: ListenerRole) -> bool {
        let (open, max) = self.slots(role);
        if open.load(Ordering::SeqCst) < max {
            return true;
        }
        self.pause();
        // A slot may have been released between the check and the pause.
        open.load(Ordering::SeqCst) < max
    }

    fn slots(&self, role: ListenerRole) -> (&AtomicUsize, usize) {
        match role {
            ListenerRole::All | ListenerRole::Public => (&self.open, self.max),
            ListenerRole::Administration => (&self.admin_open, MAX_ADMIN_CONNECTIONS),
        }
    }

    /// Returns whether no connections are open, except the administration's.
    pub fn is_empty(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    /// Notes that the last connection was accepted and passed to its worker.
    pub fn note_last(&self) {
        self.has_last.store(true, Ordering::SeqCst);
    }

    /// Returns whether the last connection was accepted and passed to its worker.
    pub fn has_last(&self) -> bool {
        self.has_last.load(Ordering::SeqCst)
    }

    /// Pauses accepting until the next release.
    pub fn pause(&self) {
        self.is_paused.store(true, Ordering::SeqCst);
    }

    /// Returns whether accepting is paused.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::SeqCst)
    }

    /// Asks all workers to close one idle connection.
    pub fn request_slot(&self) {
        self.is_slot_wanted.store(true, Ordering::SeqCst);
    }

    /// Returns whether an idle connection is to be closed.
    pub fn is_slot_wanted(&self) -> bool {
        self.is_slot_wanted.load(Ordering::SeqCst)
    }

    /// Returns whether the caller is the one worker that is to close an idle connection.
    pub fn claim_request(&self) -> bool {
        self.is_slot_wanted.swap(false, Ordering::SeqCst)
    }

    /// Acquires a slot for a connection. Returns `None`, and closes the connection, if its address has too many; connections
    /// of Unix sockets have no address.
    pub fn acquire<S: Stream>(&self, socket: S, address: Option<IpAddr>, role: ListenerRole) -> Option<S> {
        if let (Some((max, addresses)), Some(address), ListenerRole::All | ListenerRole::Public) =
            (&self.per_address, address, role)
            && !self.exempt.contains(Some(address))
        {
            let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let source = Source::from(address);
            let count = addresses.counts.entry(source).or_insert(0);
            if *count >= *max {
                return None;
            }
            *count += 1;
            addresses.by_descriptor.insert(socket.descriptor(), source);
        }
        self.slots(role).0.fetch_add(1, Ordering::SeqCst);
        Some(socket)
    }

    /// Closes a connection and releases its slot. Returns whether the acceptor waits for that.
    pub fn release(&self, socket: impl Stream, role: ListenerRole) -> bool {
        if let Some((_, addresses)) = &self.per_address {
            let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.remove(socket.descriptor());
        }
        drop(socket);
        self.slots(role).0.fetch_sub(1, Ordering::SeqCst);
        self.is_slot_wanted.store(false, Ordering::SeqCst);
        self.is_paused.load(Ordering::SeqCst) && self.is_paused.swap(false, Ordering::SeqCst)
    }
}

impl Addresses {
    fn remove(&mut self, descriptor: RawFd) {
        let Some(address) = self.by_descriptor.remove(&descriptor) else { return };
        if let Some(count) = self.counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&address);
            }
        }
        self.by_descriptor.shrink_if_sparse();
        self.counts.shrink_if_sparse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::TestSocket;

    fn acquire(limiter: &ConnectionLimiter, descriptor: RawFd, address: &str) -> bool {
        let socket = TestSocket::with_descriptor(descriptor);
        limiter.acquire(socket, Some(address.parse().unwrap()), ListenerRole::All).is_some()
    }

    fn release(limiter: &ConnectionLimiter, descriptor: RawFd) -> bool {
        limiter.release(TestSocket::with_descriptor(descriptor), ListenerRole::All)
    }

    #[test]
    fn a_requested_slot_is_claimed_once_and_not_after_a_release() {
        let limiter = ConnectionLimiter::new(2, None);
        assert!(acquire(&limiter, 1, "10.0.0.1") && !limiter.claim_request());
        limiter.request_slot();
        limiter.request_slot();
        assert!(limiter.is_slot_wanted() && limiter.claim_request());
        assert!(!limiter.is_slot_wanted() && !limiter.claim_request());
        limiter.request_slot();
        release(&limiter, 1);
        assert!(!limiter.claim_request());
    }

    #[test]
    fn trusted_proxies_are_not_limited() {
        let proxies = TrustedProxies::parse(&["10.0.0.0/8".to_owned()]).unwrap();
        let limiter = ConnectionLimiter::new(100, Some(1)).exempting(proxies);
        assert!((0..5).all(|number| acquire(&limiter, number, "10.0.0.1")));
        assert!(acquire(&limiter, 5, "192.0.2.1") && !acquire(&limiter, 6, "192.0.2.1"));
        (0..6).for_each(|number| assert!(!release(&limiter, number)));
        assert!(limiter.is_empty() && acquire(&limiter, 7, "192.0.2.1"));
    }

    #[test]
    fn the_table_of_addresses_has_an_entry_per_open_connection() {
        let limiter = ConnectionLimiter::new(100_000, Some(2));
        let sizes = || {
            let addresses = limiter.per_address.as_ref().unwrap().1.lock().unwrap();
            (addresses.by_descriptor.len(), addresses.counts.len())
        };
        for number in 0..10_000 {
            let address = format!("10.0.{}.{}", number / 2 / 256, number / 2 % 256);
            assert!(acquire(&limiter, number, &address));
            assert!(number % 2 == 0 || !acquire(&limiter, 20_000, &address));
        }
        assert_eq!(sizes(), (10_000, 5_000));
        (0..10_000).for_each(|number| assert!(!release(&limiter, number)));
        assert_eq!(sizes(), (0, 0));
        assert!(limiter.is_empty());
    }
}
