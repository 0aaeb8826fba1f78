//! Tokens that are revoked before they expire: all that a `sub` had at a moment, or one by its `jti`. A table of hashes with a
//! bound: when it is full, the oldest entries are replaced by a time, and all tokens issued before it are refused.
//!
//! A revoked token is refused, and the streams that it has opened end, also one that is opened at the same moment:
//! [`Revocations::revoke`] changes the table, then its number, and then wakes the workers. A worker asks
//! [`Revocations::is_revoked`] as it registers a stream, and compares the number in each loop iteration, when no stream is
//! between the two. If the answer is no, the table changes later, and so does its number: the worker has not seen that number
//! yet, and when it does, it finds the stream among those registered.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard};

/// The maximum number of revocations in the table. Each takes about 100 bytes.
pub const MAX_REVOCATIONS: usize = 1 << 16;
/// The maximum length of a `sub` or a `jti` that can be revoked, in bytes.
pub const MAX_NAME: usize = 256;
/// A full table evicts one in so many entries at once, so that its time is raised, and a warning logged, that much less often.
const EVICTED_FRACTION: usize = 64;
/// Tokens issued in this second or later count as issued in it: half the bytes of a `u64` reach the year 2106.
const MAX_SECOND: u32 = u32::MAX - 2;

/// What is revoked.
///
/// ```
/// use esker::Revocation;
///
/// assert_eq!(Revocation::sub("user:42")?.name(), "user:42");
/// assert_eq!(Revocation::jti("").unwrap_err().to_string(), "it must have 1 to 256 bytes, but it has 0");
/// # Ok::<_, esker::RevocationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revocation {
    kind: Kind,
    name: Box<str>,
}

/// Which claim names what is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// `sub`: all its tokens up to now.
    Subject,
    /// `jti`: one token.
    Token,
}

/// Why a name can't be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationError {
    /// The length of the name in bytes.
    len: usize,
}

impl std::fmt::Display for RevocationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it must have 1 to {MAX_NAME} bytes, but it has {}", self.len)
    }
}

impl std::error::Error for RevocationError {}

impl Revocation {
    /// Revokes all tokens that have this `sub` and were issued (`iat`) up to now.
    ///
    /// # Errors
    ///
    /// Unless the name has 1 to 256 bytes.
    pub fn sub(name: impl Into<Box<str>>) -> Result<Self, RevocationError> {
        Self::new(Kind::Subject, name.into())
    }

    /// Revokes the token that has this `jti`.
    ///
    /// # Errors
    ///
    /// Unless the name has 1 to 256 bytes.
    pub fn jti(name: impl Into<Box<str>>) -> Result<Self, RevocationError> {
        Self::new(Kind::Token, name.into())
    }

    fn new(kind: Kind, name: Box<str>) -> Result<Self, RevocationError> {
        match name.len() {
            1..=MAX_NAME => Ok(Self { kind, name }),
            len => Err(RevocationError { len }),
        }
    }

    /// Returns the claim that names it.
    pub fn claim(&self) -> &'static str {
        match self.kind {
            Kind::Subject => "sub",
            Kind::Token => "jti",
        }
    }

    /// Returns the value of the claim.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text by which other brokers and later runs know it.
    pub(crate) fn to_text(&self) -> String {
        format!("{}:{}", self.claim(), self.name)
    }

    /// Reads the text of [`Revocation::to_text`].
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("sub", name) => Self::sub(name).ok(),
            ("jti", name) => Self::jti(name).ok(),
            _ => None,
        }
    }
}

/// What a token can be revoked by: keyed hashes of its `sub` and `jti`, which are 0 if it has none, and when it was issued.
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

    /// Returns what a token with these claims can be revoked by.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sub(name: &str) -> Revocation {
        Revocation::sub(name).unwrap()
    }

    #[test]
    fn tokens_of_a_subject_are_refused_up_to_the_second_of_the_revocation() {
        let table = Revocations::default();
        let is_revoked = |subject, issued| table.is_revoked(table.identify(Some(subject), None, issued));
        assert!(!is_revoked("user:1", 0));
        table.revoke(&sub("user:1"), 100);
        assert!(is_revoked("user:1", 0) && is_revoked("user:1", 100) && !is_revoked("user:1", 101));
        assert!(!is_revoked("user:2", 0) && !is_revoked("User:1", 0));
        assert!(!table.is_revoked(table.identify(None, Some("user:1"), 0)), "it is not a jti");
        table.revoke(&sub("user:1"), 90);
        assert!(is_revoked("user:1", 100), "an earlier revocation takes nothing back");
        table.revoke(&sub("user:1"), 200);
        assert!(is_revoked("user:1", 200) && !is_revoked("user:1", 201) && table.len() == 1);
    }

    #[test]
    fn a_token_is_revoked_by_its_id_whenever_it_was_issued() {
        let table = Revocations::default();
        table.revoke(&Revocation::jti("t1").unwrap(), 100);
        for issued in [0, 100, 101, u64::MAX] {
            assert!(table.is_revoked(table.identify(Some("user:1"), Some("t1"), issued)), "{issued}");
            assert!(!table.is_revoked(table.identify(Some("t1"), Some("t2"), issued)), "{issued}");
        }
    }

    #[test]
    fn what_does_not_fit_raises_the_time_for_all() {
        let table = Revocations::with_max(2);
        ["a", "b", "c"].into_iter().zip(100..).for_each(|(name, second)| table.revoke(&sub(name), second));
        assert_eq!((table.len(), table.all_before()), (2, 101));
        let other = |issued| table.is_revoked(table.identify(Some("other"), None, issued));
        assert!(other(0) && other(100) && !other(101));
        assert!(table.is_revoked(table.identify(Some("a"), None, 100)));
        table.revoke(&sub("a"), 100);
        assert_eq!(table.len(), 2, "it is known by the time");
    }

    #[test]
    fn a_change_wakes_the_workers_and_a_repetition_does_not() {
        let (table, woken) = (Revocations::default(), std::sync::Arc::new(AtomicU64::new(0)));
        let counter = std::sync::Arc::clone(&woken);
        table.on_change(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        table.revoke(&sub("a"), 100);
        table.revoke(&sub("a"), 100);
        assert_eq!((woken.load(Ordering::Relaxed), table.number()), (1, 1));
        table.revoke_all(100);
        table.revoke_all(99);
        assert_eq!((woken.load(Ordering::Relaxed), table.number(), table.all_before()), (2, 2, 101));
    }

    #[test]
    fn a_revocation_is_read_as_it_was_written() {
        for text in ["sub:user:1", "jti:x", "sub:ä"] {
            assert_eq!(Revocation::from_text(text).unwrap().to_text(), text);
        }
        let long = format!("sub:{}", "x".repeat(MAX_NAME + 1));
        for text in ["", "sub", "sub:", "aud:x", long.as_str()] {
            assert_eq!(Revocation::from_text(text), None, "{text}");
        }
    }

    /// What a token has: its subject, its id, and when it was issued.
    type Token = (Option<u8>, Option<u8>, u64);

    #[derive(Clone, Debug)]
    enum Act {
        Subject(u8),
        Token(u8),
        Wait(u64),
        /// Tokens of which streams are open.
        Open(Token),
    }

    fn token() -> impl Strategy<Value = Token> {
        (prop::option::of(0..4_u8), prop::option::of(0..4_u8), 0..60_u64)
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..4_u8).prop_map(Act::Subject),
            (0..4_u8).prop_map(Act::Token),
            (0..3_u64).prop_map(Act::Wait),
            token().prop_map(Act::Open),
        ]
    }

    /// Whether a list of all revocations so far refuses a token. `is_full`: not by an id that was revoked before the token was
    /// issued, which a full table forgets.
    fn refuses(all: &[(Act, u64)], (subject, id, issued): Token, is_full: bool) -> bool {
        all.iter().any(|(act, second)| match act {
            Act::Subject(name) => subject == Some(*name) && issued <= *second,
            Act::Token(name) => id == Some(*name) && (issued <= *second || !is_full),
            Act::Wait(_) | Act::Open(_) => false,
        })
    }

    proptest! {
        /// Compares with a list that is never shortened. A table with room refuses the same tokens; a full one also those
        /// that were issued before its time. Whoever asks for changes now and then finds all streams whose tokens are refused.
        #[test]
        fn no_revoked_token_is_accepted(max in 1..9_usize, acts in prop::collection::vec((act(), any::<bool>()), 0..60)) {
            let table = Revocations::with_max(max);
            let identify = |(subject, id, issued): Token| {
                let name = |number: Option<u8>| number.map(|number| number.to_string());
                table.identify(name(subject).as_deref(), name(id).as_deref(), issued)
            };
            let (mut all, mut now, mut seen, mut open) = (Vec::new(), 10, 0, Vec::<Token>::new());
            for (act, looks) in acts {
                match &act {
                    Act::Subject(name) => table.revoke(&sub(&name.to_string()), now),
                    Act::Token(name) => table.revoke(&Revocation::jti(name.to_string()).unwrap(), now),
                    Act::Wait(seconds) => now += seconds,
                    Act::Open(token) => open.extend(Some(*token).filter(|token| !table.is_revoked(identify(*token)))),
                }
                all.push((act, now));
                prop_assert!(table.len() <= max);
                if looks {
                    let recent = table.since(seen);
                    seen = recent.number;
                    open.retain(|token| !recent.covers(identify(*token)));
                    prop_assert!(open.iter().all(|token| !table.is_revoked(identify(*token))));
                }
                for token in (0..4).flat_map(|name| [0, now - 1, now, now + 1].map(|issued| (Some(name), Some(3 - name), issued))) {
                    let found = table.is_revoked(identify(token));
                    prop_assert!(found || !refuses(&all, token, max < 8));
                    prop_assert!(!found || refuses(&all, token, false) || token.2 < table.all_before());
                    prop_assert!(max < 8 || table.all_before() == 0);
                }
            }
        }
    }
}
