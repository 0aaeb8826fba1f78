//! The identities of streams' tokens, so that the streams end when their tokens are revoked. Lists take 4 bytes per
//! subscriber, 8 more if tokens have a `sub`, and 8 more if they have a `jti`; nothing if no tokens are required. They are
//! scanned, in slices, when tokens are revoked.

use crate::auth::{Recent, Revocations, TokenIdentity};
use crate::stream::keys::SubscriberKey;
use crate::util::shrink::Shrink;

/// The stream has no token that can be revoked.
const ABSENT: u32 = u32::MAX;
/// The stream's token is revoked, and the stream is about to end.
const REVOKED: u32 = u32::MAX - 1;
/// Entries that one loop iteration looks at.
const CHECKS_PER_ITERATION: usize = 1 << 14;
/// Streams that one loop iteration marks.
const MARKS_PER_ITERATION: usize = 512;

/// The tokens of streams, by subscriber.
#[derive(Debug, Default)]
pub struct StreamTokens {
    /// When they were issued, [`ABSENT`] or [`REVOKED`].
    issued: Vec<u32>,
    /// The hashes of `sub`, 0 for none; as long as the last one that is not.
    subjects: Vec<u64>,
    /// The hashes of `jti`, likewise.
    ids: Vec<u64>,
    /// The number of the newest change that a scan has looked for.
    seen: u64,
    scan: Option<Scan>,
}

/// A scan that is unfinished.
#[derive(Debug)]
struct Scan {
    recent: Recent,
    /// Where it continues.
    position: usize,
}

impl StreamTokens {
    /// Sets the identity of the token of a subscriber's stream.
    pub fn set(&mut self, key: SubscriberKey, token: Option<TokenIdentity>) {
        let Some(TokenIdentity { subject, id, issued }) = token else { return };
        put(&mut self.issued, key, issued, ABSENT);
        put(&mut self.subjects, key, subject, 0);
        put(&mut self.ids, key, id, 0);
    }

    /// Marks the stream of a subscriber as one whose token is revoked.
    pub fn mark(&mut self, key: SubscriberKey) {
        self.remove(key);
        put(&mut self.issued, key, REVOKED, ABSENT);
    }

    /// Returns whether a subscriber's stream is marked.
    pub fn is_marked(&self, key: SubscriberKey) -> bool {
        self.issued.get(key as usize) == Some(&REVOKED)
    }

    /// Forgets a subscriber that has left or is closing.
    pub fn remove(&mut self, key: SubscriberKey) {
        clear(&mut self.issued, key, ABSENT);
        clear(&mut self.subjects, key, 0);
        clear(&mut self.ids, key, 0);
    }

    /// Returns whether a scan is unfinished.
    pub fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Continues a scan, or begins one if tokens were revoked since the last one began. Marks and returns some of the
    /// subscribers whose tokens are revoked. What is revoked during a scan is looked for in the next one.
    pub fn take_revoked(&mut self, revocations: &Revocations) -> Vec<SubscriberKey> {
        let mut revoked = Vec::new();
        let scan = match self.scan.take() {
            Some(scan) => scan,
            None if revocations.number() == self.seen => return revoked,
            None => {
                let recent = revocations.since(self.seen);
                self.seen = recent.number;
                Scan { recent, position: 0 }
            }
        };
        let Scan { recent, mut position } = scan;
        let end = self.issued.len().min(position + CHECKS_PER_ITERATION);
        while position < end && revoked.len() < MARKS_PER_ITERATION {
            let key = position as SubscriberKey;
            if self.get(position).is_some_and(|token| recent.covers(token)) {
                revoked.push(key);
            }
            position += 1;
        }
        revoked.iter().for_each(|&key| self.mark(key));
        // At its end, the list may have become shorter. More may have been revoked in the meantime.
        let has_more = position < self.issued.len();
        self.scan = has_more.then_some(Scan { recent, position });
        revoked
    }

    fn get(&self, index: usize) -> Option<TokenIdentity> {
        let issued = *self.issued.get(index)?;
        let hash = |list: &[u64]| list.get(index).copied().unwrap_or(0);
        (issued < REVOKED).then(|| TokenIdentity { subject: hash(&self.subjects), id: hash(&self.ids), issued })
    }
}

/// Sets the value of a key. A list need not be as long if it has no value there.
fn put<T: Copy + PartialEq>(list: &mut Vec<T>, key: SubscriberKey, value: T, none: T) {
    let index = key as usize;
    match list.get_mut(index) {
        Some(entry) => *entry = value,
        None if value == none => {}
        None => {
            list.resize(index, none);
            list.push(value);
        }
    }
}

/// Removes the value of a key, and the end of a list that has no values.
fn clear<T: Copy + PartialEq>(list: &mut Vec<T>, key: SubscriberKey, none: T) {
    if let Some(entry) = list.get_mut(key as usize) {
        *entry = none;
    }
    while list.last() == Some(&none) {
        list.pop();
    }
    list.shrink_if_sparse();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::Revocation;

    fn all_revoked(tokens: &mut StreamTokens, revocations: &Revocations) -> Vec<SubscriberKey> {
        let mut all = Vec::new();
        loop {
            all.extend(tokens.take_revoked(revocations));
            if !tokens.is_scanning() {
                return all;
            }
        }
    }

    #[test]
    fn streams_without_tokens_take_no_memory_and_claims_only_if_they_are_there() {
        let (mut tokens, revocations) = (StreamTokens::default(), Revocations::default());
        tokens.set(1_000_000, None);
        tokens.remove(7);
        assert_eq!((tokens.issued.capacity(), tokens.subjects.capacity(), tokens.ids.capacity()), (0, 0, 0));
        tokens.set(9, Some(revocations.identify(Some("a"), None, 5)));
        assert_eq!((tokens.issued.len(), tokens.subjects.len(), tokens.ids.capacity()), (10, 10, 0));
        tokens.remove(9);
        assert!(tokens.issued.is_empty() && tokens.subjects.is_empty());
    }

    #[test]
    fn many_are_marked_in_slices_each_once() {
        let (mut tokens, revocations) = (StreamTokens::default(), Revocations::default());
        let count = 3 * CHECKS_PER_ITERATION as u32;
        for key in 0..count {
            let subject = if key % 10 == 0 { "a" } else { "b" };
            tokens.set(key, Some(revocations.identify(Some(subject), None, 5)));
        }
        revocations.revoke(&Revocation::sub("a").unwrap(), 9);
        assert!(tokens.take_revoked(&revocations).len() <= MARKS_PER_ITERATION && tokens.is_scanning());
        revocations.revoke(&Revocation::sub("a").unwrap(), 10);
        let rest = all_revoked(&mut tokens, &revocations).len() + MARKS_PER_ITERATION;
        assert_eq!(rest, count.div_ceil(10) as usize);
        assert!(all_revoked(&mut tokens, &revocations).is_empty(), "the second revocation finds no others");
        assert!(tokens.is_marked(10) && !tokens.is_marked(11));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Set(SubscriberKey, Option<u8>, Option<u8>, u64),
        Remove(SubscriberKey),
        Revoke(bool, u8, u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let name = || prop::option::of(0..3_u8);
        prop_oneof![
            (0..20_u32, name(), name(), 0..20_u64).prop_map(|(key, sub, id, at)| Act::Set(key, sub, id, at)),
            (0..20_u32).prop_map(Act::Remove),
            (any::<bool>(), 0..3_u8, 0..20_u64).prop_map(|(is_sub, name, at)| Act::Revoke(is_sub, name, at)),
        ]
    }

    proptest! {
        /// Compares with a map that is searched completely after each step.
        #[test]
        fn each_stream_is_found_when_its_token_is_revoked(acts in prop::collection::vec(act(), 0..100)) {
            let (mut tokens, revocations) = (StreamTokens::default(), Revocations::default());
            let mut model = std::collections::BTreeMap::new();
            for act in acts {
                match act {
                    Act::Set(key, subject, id, issued) => {
                        let name = |number: Option<u8>| number.map(|number| number.to_string());
                        let token = revocations.identify(name(subject).as_deref(), name(id).as_deref(), issued);
                        tokens.remove(key);
                        model.remove(&key);
                        if !revocations.is_revoked(token) {
                            tokens.set(key, Some(token));
                            model.insert(key, token);
                        }
                    }
                    Act::Remove(key) => {
                        tokens.remove(key);
                        model.remove(&key);
                    }
                    Act::Revoke(is_sub, name, second) => {
                        let name = name.to_string();
                        let revocation = if is_sub { Revocation::sub(name) } else { Revocation::jti(name) };
                        revocations.revoke(&revocation.unwrap(), second);
                    }
                }
                let found = all_revoked(&mut tokens, &revocations);
                let expected: Vec<_> =
                    model.iter().filter(|(_, token)| revocations.is_revoked(**token)).map(|(key, _)| *key).collect();
                expected.iter().for_each(|key| {
                    model.remove(key);
                });
                prop_assert_eq!(&found, &expected);
                prop_assert!(found.iter().all(|key| tokens.is_marked(*key)));
                found.iter().for_each(|key| tokens.remove(*key));
            }
        }
    }
}
