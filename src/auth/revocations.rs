//! Tokens that are revoked before they expire: all that a `sub` had at a moment, or one by its `jti`. A table of hashes with a
//! bound: when it is full, the oldest entries are replaced by a time, and all tokens issued before it are refused.
//!
//! A revoked token is rejected, and its streams end, even one that is opened at the same moment. [`Revocations::revoke`] changes
//! the table, then increments its number, then wakes the workers. A worker checks [`Revocations::is_revoked`] when it registers
//! a stream, and compares the number in each loop iteration. If the check finds nothing, the change comes later, and so does the
//! new number: the worker then finds the stream among the registered ones.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};

use super::revocation::{Kind, Revocation};

/// The maximum number of revocations in the table. Each takes about 100 bytes.
pub const MAX_REVOCATIONS: usize = 1 << 16;
/// A full table evicts one in so many entries at once, so that its time is raised, and a warning logged, that much less often.
const EVICTED_FRACTION: usize = 64;
/// Tokens issued in this second or later count as issued in it: half the bytes of a `u64` reach the year 2106.
const MAX_SECOND: u32 = u32::MAX - 2;

/// Identifies a token for revocation: keyed hashes of its `sub` and `jti` (0 if absent), and when it was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The hash of its `sub`.
    pub subject: u64,
    /// The hash of its `jti`.
    pub id: u64,
    /// Its `iat`, in seconds since the Unix epoch; 0 if it has none. At most `u32::MAX - 2`.
    pub issued: u32,
}

/// What was revoked since a moment.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// The number of the newest change.
    pub number: u64,
    /// Tokens issued before this second are refused; 0 if that was known at the moment.
    before: u64,
    /// Hashes, ascending, and the second before which their tokens were issued.
    entries: Vec<(u64, u64)>,
}

impl Recent {
    /// Returns whether a token was revoked since the moment.
    pub fn covers(&self, token: TokenIdentity) -> bool {
        let before = |hash: u64| match self.entries.binary_search_by_key(&hash, |entry| entry.0) {
            Ok(index) => self.entries[index].1,
            Err(_) => 0,
        };
        let issued = u64::from(token.issued);
        issued < self.before || issued < before(token.subject) || issued < before(token.id)
    }
}

/// The table, which all workers share.
pub struct Revocations {
    hasher: RandomState,
    max: usize,
    table: RwLock<Table>,
    /// The number of the newest change, for those who need not look at the table if there is none.
    number: AtomicU64,
    count: AtomicU64,
    refused: AtomicU64,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Table {
    /// By hash.
    entries: HashMap<u64, Entry>,
    /// The hashes, by the number of the change that added them.
    order: BTreeMap<u64, u64>,
    /// Tokens issued before this second are refused.
    before: u64,
    /// The number of the change that raised it.
    raised: u64,
    /// The number of the newest change.
    newest: u64,
}

struct Entry {
    number: u64,
    /// When it was revoked.
    second: u64,
    /// Its tokens that were issued before this second are refused.
    before: u64,
}

impl Default for Revocations {
    fn default() -> Self {
        Self::with_max(MAX_REVOCATIONS)
    }
}

impl Revocations {
    /// Creates a table with this bound.
    fn with_max(max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            max,
            table: RwLock::default(),
            number: AtomicU64::new(0),
            count: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            wake: OnceLock::new(),
        }
    }

    /// Sets what wakes all workers, so that they end streams. Only the first call has an effect.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Returns the identity for revocation of a token with these claims.
    pub fn identify(&self, subject: Option<&str>, id: Option<&str>, issued: u64) -> TokenIdentity {
        let hash = |kind, name: Option<&str>| name.map_or(0, |name| self.hash(kind, name));
        let issued = u32::try_from(issued).unwrap_or(MAX_SECOND).min(MAX_SECOND);
        TokenIdentity { subject: hash(Kind::Subject, subject), id: hash(Kind::Token, id), issued }
    }

    fn hash(&self, kind: Kind, name: &str) -> u64 {
        self.hasher.hash_one((kind, name)).max(1)
    }

    /// Revokes tokens issued in this second since the Unix epoch or before. Does nothing if that is known already.
    pub fn revoke(&self, revocation: &Revocation, second: u64) {
        let before = match revocation.kind {
            Kind::Subject => second.saturating_add(1),
            Kind::Token => u64::MAX,
        };
        let hash = self.hash(revocation.kind, &revocation.name);
        if self.change(|table, max| table.add(hash, second, before, max)) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Refuses all tokens issued in this second or before.
    pub fn revoke_all(&self, second: u64) {
        self.change(|table, _| table.raise(second.saturating_add(1)));
    }

    /// Changes the table. The number follows while the table is locked, so that it never falls. Returns whether there was a change.
    fn change(&self, change: impl FnOnce(&mut Table, usize) -> bool) -> bool {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let before = table.before;
        if !change(&mut table, self.max) {
            return false;
        }
        let is_raised = table.before > before;
        self.number.store(table.newest, Ordering::Release);
        let raised_to = table.before;
        drop(table);
        if is_raised {
            log::warn!(
                "there are more revocations than the broker keeps ({}), so all tokens issued (iat) before {raised_to} are \
                 refused; use tokens that expire sooner",
                self.max
            );
        }
        self.wake.get().into_iter().for_each(|wake| wake());
        true
    }

    /// Returns whether a token is revoked.
    pub fn is_revoked(&self, token: TokenIdentity) -> bool {
        if self.number() == 0 {
            return false;
        }
        let table = self.read();
        let before = |hash: u64| table.entries.get(&hash).map_or(0, |entry| entry.before);
        let issued = u64::from(token.issued);
        issued < table.before || issued < before(token.subject) || issued < before(token.id)
    }

    /// Counts a revoked token that was refused.
    pub fn count_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of the newest change.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Returns what was revoked since the change with this number.
    pub fn since(&self, number: u64) -> Recent {
        let table = self.read();
        let hashes = table.order.range(number + 1..).map(|(_, hash)| *hash);
        let mut entries: Vec<_> = hashes.filter_map(|hash| Some((hash, table.entries.get(&hash)?.before))).collect();
        entries.sort_unstable();
        let before = if table.raised > number { table.before } else { 0 };
        Recent { number: table.newest, before, entries }
    }

    /// Returns the number of revocations in the table.
    pub fn len(&self) -> usize {
        self.read().entries.len()
    }

    /// Returns the second since the Unix epoch before which all tokens are refused; 0 if there is none.
    pub fn all_before(&self) -> u64 {
        self.read().before
    }

    /// Returns how many revocations have changed the table.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the number of revoked tokens that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Adds an entry. Returns whether it says something new.
    fn add(&mut self, hash: u64, second: u64, before: u64, max: usize) -> bool {
        let known = self.entries.get(&hash);
        if second < self.before || known.is_some_and(|known| known.second >= second) {
            return false;
        }
        if let Some(known) = known {
            self.order.remove(&known.number);
        }
        self.newest += 1;
        self.entries.insert(hash, Entry { number: self.newest, second, before });
        self.order.insert(self.newest, hash);
        if self.entries.len() > max {
            self.evict(1 + max / EVICTED_FRACTION);
        }
        true
    }

    /// Replaces this many of the oldest entries by a time.
    fn evict(&mut self, count: usize) {
        let mut before = self.before;
        for _ in 0..count {
            let Some(entry) = self.order.pop_first().and_then(|(_, hash)| self.entries.remove(&hash)) else { break };
            before = before.max(entry.second.saturating_add(1));
        }
        self.raise(before);
    }

    /// Raises the time before which all tokens are refused. Returns whether it was lower.
    fn raise(&mut self, before: u64) -> bool {
        if before <= self.before {
            return false;
        }
        self.newest += 1;
        (self.before, self.raised) = (before, self.newest);
        true
    }
}

#[cfg(test)]
mod tests;
