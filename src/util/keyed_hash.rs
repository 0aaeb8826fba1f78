//! A 64-bit hash of bytes that is the same in every build, so that it can be stored: SipHash-2-4. The hash of
//! [`std::collections::HashMap`] may change with each version of the compiler, and can't be given a key.

#[expect(deprecated, reason = "deprecated in favor of a hash whose results may change")]
use std::hash::SipHasher;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Hashes with a key, so that nobody who doesn't know it can choose texts with equal hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyedHash {
    /// The key.
    pub key: [u64; 2],
}

impl Default for KeyedHash {
    /// Chooses a random key.
    fn default() -> Self {
        let random = RandomState::new();
        Self { key: [0_u8, 1].map(|half| random.hash_one(half)) }
    }
}

impl KeyedHash {
    /// Returns the hash of texts, one after the other.
    pub fn of_texts(&self, texts: &[&str]) -> u64 {
        // No text contains the separator.
        self.hash(texts.iter().flat_map(|text| [text.as_bytes(), &[0xFF]]))
    }

    /// Returns the hash of bytes.
    pub fn of_bytes(&self, bytes: &[u8]) -> u64 {
        self.hash([bytes].into_iter())
    }

    #[expect(deprecated, reason = "see the import")]
    fn hash<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> u64 {
        let mut hasher = SipHasher::new_with_keys(self.key[0], self.key[1]);
        parts.for_each(|part| hasher.write(part));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the reference implementation.
    #[test]
    fn is_siphash_2_4() {
        let hash = KeyedHash { key: [0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908] };
        let bytes: Vec<u8> = (0..15).collect();
        assert_eq!((hash.of_bytes(&[]), hash.of_bytes(&bytes)), (0x726F_DB47_DD0E_0E31, 0xA129_CA61_49BE_45E5));
    }

    #[test]
    fn texts_are_separate_and_keys_differ() {
        let hash = KeyedHash::default();
        assert_ne!(hash.of_texts(&["ab", "c"]), hash.of_texts(&["a", "bc"]));
        assert_eq!(hash.of_texts(&["ab", "c"]), hash.of_bytes(b"ab\xFFc\xFF"));
        assert_ne!(hash.key, KeyedHash::default().key);
    }
}
