//! Counts the connections of all workers, and those of each address if that is limited. The
//! acceptor asks for a place before it takes a connection in; whoever closes one gives it back. The
//! administration's have places of their own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::api::ListenerRole;
use crate::config::MAX_ADMIN_CONNECTIONS;
use crate::net::reactor::Stream;
use crate::quota::Source;
use crate::util::shrink::Shrink;

/// See the module's page.
pub struct ConnectionLimiter {
    max: usize,
    open: AtomicUsize,
    admin_open: AtomicUsize,
    is_shut: AtomicBool,
    /// Somebody waits outside, and an idle connection is to be closed for it.
    is_wanted: AtomicBool,
    per_address: Option<(usize, Mutex<Addresses>)>,
}

/// The source of each descriptor, for a connection that was reset can't be asked any more. As large as there are connections
/// open, of which there is a bound.
#[derive(Default)]
struct Addresses {
    by_descriptor: HashMap<RawFd, Source>,
    counts: HashMap<Source, usize>,
}

impl ConnectionLimiter {
    /// A gate for so many connections, and so many of each address if that is limited.
    pub fn new(max: usize, max_per_address: Option<usize>) -> Self {
        let per_address = max_per_address.map(|max| (max, Mutex::default()));
        let (open, admin_open) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (is_shut, is_wanted) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { max, open, admin_open, is_shut, is_wanted, per_address }
    }

    /// Whether another connection may be taken in. If not, the next one to leave says so.
    pub fn has_place(&self, role: ListenerRole) -> bool {
        let (open, max) = self.places(role);
        if open.load(Ordering::SeqCst) < max {
            return true;
        }
        self.is_shut.store(true, Ordering::SeqCst);
        // Somebody may have left between the two looks.
        open.load(Ordering::SeqCst) < max
    }

    fn places(&self, role: ListenerRole) -> (&AtomicUsize, usize) {
        match role {
            ListenerRole::All | ListenerRole::Public => (&self.open, self.max),
            ListenerRole::Administration => (&self.admin_open, MAX_ADMIN_CONNECTIONS),
        }
    }

    /// Whether all have left but the administration.
    pub fn is_empty(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    /// Nothing can be taken in now for want of descriptors; the next one to leave says so.
    pub fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }

    /// Whether somebody has left since the gate was shut.
    pub fn is_open(&self) -> bool {
        !self.is_shut.load(Ordering::SeqCst)
    }

    /// Asks all workers to close one idle connection.
    pub fn want_place(&self) {
        self.is_wanted.store(true, Ordering::SeqCst);
    }

    /// Returns whether an idle connection is to be closed.
    pub fn wants_place(&self) -> bool {
        self.is_wanted.load(Ordering::SeqCst)
    }

    /// Returns whether the caller is the one that is to close an idle connection.
    pub fn claim_place(&self) -> bool {
        self.is_wanted.swap(false, Ordering::SeqCst)
    }

    /// Takes a connection in; gives `None` if its address has too many. What comes through a Unix socket has none.
    pub fn enter<S: Stream>(&self, socket: S, address: Option<IpAddr>, role: ListenerRole) -> Option<S> {
        if let (Some((max, addresses)), Some(address), ListenerRole::All | ListenerRole::Public) =
            (&self.per_address, address, role)
        {
            let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let source = Source::from(address);
            let count = addresses.counts.entry(source).or_insert(0);
            if *count >= *max {
                return None;
            }
            *count += 1;
            addresses.by_descriptor.insert(socket.number(), source);
        }
        self.places(role).0.fetch_add(1, Ordering::SeqCst);
        Some(socket)
    }

    /// Closes a connection. Answers whether the acceptor waits for that.
    pub fn leave(&self, socket: impl Stream, role: ListenerRole) -> bool {
        if let Some((_, addresses)) = &self.per_address {
            let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.forget(socket.number());
        }
        drop(socket);
        self.places(role).0.fetch_sub(1, Ordering::SeqCst);
        self.is_wanted.store(false, Ordering::SeqCst);
        self.is_shut.load(Ordering::SeqCst) && self.is_shut.swap(false, Ordering::SeqCst)
    }
}

impl Addresses {
    fn forget(&mut self, descriptor: RawFd) {
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
    use std::io::{self, Read, Write};

    use super::*;
    use crate::stream::subscriber::Socket;

    #[derive(Debug)]
    struct Nobody(RawFd);

    impl Read for Nobody {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }

    impl Write for Nobody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Socket for Nobody {
        fn set_patient(&self, _: bool) {}
    }

    impl Stream for Nobody {
        fn shut(&self) -> io::Result<()> {
            Ok(())
        }

        fn number(&self) -> RawFd {
            self.0
        }
    }

    fn enters(gate: &ConnectionLimiter, number: RawFd, address: &str) -> bool {
        gate.enter(Nobody(number), Some(address.parse().unwrap()), ListenerRole::All).is_some()
    }

    #[test]
    fn a_place_that_is_wanted_is_made_once_and_not_when_somebody_leaves() {
        let gate = ConnectionLimiter::new(2, None);
        assert!(enters(&gate, 1, "10.0.0.1") && !gate.claim_place());
        gate.want_place();
        gate.want_place();
        assert!(gate.wants_place() && gate.claim_place());
        assert!(!gate.wants_place() && !gate.claim_place());
        gate.want_place();
        gate.leave(Nobody(1), ListenerRole::All);
        assert!(!gate.claim_place());
    }

    #[test]
    fn the_table_is_as_large_as_there_are_connections() {
        let gate = ConnectionLimiter::new(100_000, Some(2));
        let sizes = || {
            let addresses = gate.per_address.as_ref().unwrap().1.lock().unwrap();
            (addresses.by_descriptor.len(), addresses.counts.len())
        };
        for number in 0..10_000 {
            assert!(enters(&gate, number, &format!("10.0.{}.{}", number / 2 / 256, number / 2 % 256)));
            assert!(number % 2 == 0 || !enters(&gate, 20_000, &format!("10.0.{}.{}", number / 512, number / 2 % 256)));
        }
        assert_eq!(sizes(), (10_000, 5_000));
        (0..10_000).for_each(|number| assert!(!gate.leave(Nobody(number), ListenerRole::All)));
        assert_eq!(sizes(), (0, 0));
        assert!(gate.is_empty());
    }
}
