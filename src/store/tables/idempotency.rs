//! Idempotency keys, by which a repetition of a request is recognized for 24 hours. The table is created with the first one: a
//! database without it, of an older version, is as good.
//!
//! A key is text of a client's, which may contain the name of a record that is erased later. So only a hash of it is stored, by
//! which it is recognized, and in `meta` the seed of the hash.

use std::collections::HashMap;

use rusqlite::{Connection, TransactionBehavior};

use super::schema::{self, KEY_SEED, from_sql, to_sql};
use crate::records::insert::IdempotencyKey;
use crate::util::keyed_hash::KeyedHash;
use crate::util::shrink::Shrink as _;

/// How long a key is remembered, in microseconds: 24 hours.
pub(in crate::store) const LIFETIME: u64 = 24 * 60 * 60 * 1_000_000;
/// The maximum number of keys, except for those of one transaction. Beyond it the oldest ones are forgotten early.
pub(in crate::store) const MAX_KEYS: usize = 1_000_000;
/// At most this many keys are forgotten in one transaction, unless there are too many.
const SLICE: usize = 256;
/// At most this many keys are forgotten in one transaction: as many as a transaction adds.
const MAX_SLICE: usize = 4096;

/// The length of a key's hash, in bytes.
const HASH_BYTES: usize = 16;

/// Hashes names. The hashes are stored, so this must never change.
const NAME_HASH: KeyedHash = KeyedHash { key: [0x4573_6B65_7220_6964, 0x656D_706F_7465_6E63] };

/// The hash is that of the key of the record with this `id`. `name` is a hash of the record's name, which may be erased before the key is
/// forgotten.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS idempotency (id INTEGER PRIMARY KEY, hash BLOB NOT NULL, name INTEGER NOT NULL) STRICT
";

/// A key's hash, of 128 bits. Two keys have the same one only by a chance that need not be considered.
type Hash = [u8; HASH_BYTES];
/// The id of a record, and the hash of its key.
type Row = (u64, Hash);

/// A key to be stored with its record.
#[derive(Debug)]
pub(in crate::store) struct NewKey {
    pub id: u64,
    pub key: IdempotencyKey,
    /// See [`name_hash`].
    pub name: u64,
}

/// The record that was stored with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct KnownKey {
    /// The record's id.
    pub id: u64,
    /// See [`name_hash`].
    pub name: u64,
}

/// Returns the hash by which a name is recognized.
pub(in crate::store) fn name_hash(name: &str) -> u64 {
    NAME_HASH.of_bytes(name.as_bytes())
}

/// The keys that are remembered, as in the table.
#[derive(Debug)]
pub(in crate::store) struct Keys {
    by_hash: HashMap<Hash, KnownKey>,
    /// What determines the hashes, as in `meta`.
    seed: i64,
    /// Each returns a half of a hash.
    halves: [KeyedHash; 2],
    /// The number of rows. A key that was used again after 24 hours may have an expired row as well.
    rows: usize,
    /// The id of the oldest row, if there is one.
    oldest: Option<u64>,
    max: usize,
    /// Whether it was logged that keys are forgotten early.
    has_warned: bool,
}

impl Keys {
    /// Returns no keys; at most this many will be remembered.
    pub fn new(max: usize) -> Self {
        Self::with_seed(max, KeyedHash::default().key[0].cast_signed())
    }

    fn with_seed(max: usize, seed: i64) -> Self {
        let from_seed = KeyedHash { key: [seed.cast_unsigned(), 0] };
        let halves = [[0, 1], [2, 3]].map(|half| KeyedHash { key: half.map(|number| from_seed.of_bytes(&[number])) });
        Self { by_hash: HashMap::new(), seed, halves, rows: 0, oldest: None, max, has_warned: false }
    }

    /// Reads all keys.
    pub fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let Some(seed) = schema::optional_meta(connection, KEY_SEED)? else { return Ok(Self::new(MAX_KEYS)) };
        let mut keys = Self::with_seed(MAX_KEYS, seed);
        let mut statement = connection.prepare("SELECT id, name, hash FROM idempotency ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let known = KnownKey { id: from_sql(row.get(0)?), name: row.get::<_, i64>(1)?.cast_unsigned() };
            keys.remember(row.get(2)?, known);
        }
        Ok(keys)
    }

    /// Returns the record that was stored with a key, if it is remembered at this time of ids.
    pub fn get(&self, key: &IdempotencyKey, now: u64) -> Option<KnownKey> {
        // Most stores have no keys, and most inserts none either.
        let known = if self.by_hash.is_empty() { None } else { self.by_hash.get(&self.hash(key.as_str())) };
        known.copied().filter(|known| !is_expired(known.id, now))
    }

    /// Adds keys that are stored. Their ids ascend.
    pub fn add(&mut self, new: &[NewKey]) {
        for NewKey { id, key, name } in new {
            self.remember(self.hash(key.as_str()), KnownKey { id: *id, name: *name });
        }
    }

    fn remember(&mut self, hash: Hash, known: KnownKey) {
        self.by_hash.insert(hash, known);
        self.rows += 1;
        self.oldest.get_or_insert(known.id);
    }

    /// Stores keys in the transaction that stores their records.
    pub(super) fn insert(&self, transaction: &Connection, new: &[NewKey]) -> rusqlite::Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        transaction.execute_batch(TABLE)?;
        schema::add_meta(transaction, KEY_SEED, self.seed)?;
        let mut insert = transaction.prepare_cached("INSERT INTO idempotency (id, hash, name) VALUES (?1, ?2, ?3)")?;
        for NewKey { id, key, name } in new {
            insert.execute((to_sql(*id), self.hash(key.as_str()), name.cast_signed()))?;
        }
        Ok(())
    }

    fn hash(&self, key: &str) -> Hash {
        let [first, second] = self.halves.map(|half| u128::from(half.of_bytes(key.as_bytes())));
        (first << 64 | second).to_be_bytes()
    }

    fn surplus(&self) -> usize {
        self.rows.saturating_sub(self.max)
    }

    /// Returns whether there are no keys, not even expired ones.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns whether there are keys to be forgotten at this time of ids.
    pub fn must_forget(&self, now: u64) -> bool {
        self.surplus() > 0 || self.oldest.is_some_and(|oldest| is_expired(oldest, now))
    }

    /// Forgets the oldest keys: some that have expired, and all beyond the maximum. The transaction does not wait for an fsync:
    /// a loss of power only brings back keys that expire again.
    pub fn forget_slice(&mut self, connection: &mut Connection, now: u64) -> rusqlite::Result<()> {
        if self.surplus() > 0 && !std::mem::replace(&mut self.has_warned, true) {
            log::warn!(
                "more than {} records were inserted with an Idempotency-Key within 24 hours: the oldest keys are forgotten \
                 early, and a retry with one of them stores its record again",
                self.max
            );
        }
        let (removed, oldest) = schema::without_fsync(connection, |connection| self.remove_rows(connection, now))?;
        self.rows = self.rows.saturating_sub(removed.len());
        self.oldest = oldest;
        for (id, hash) in removed {
            // It may have been used again since it expired.
            if self.by_hash.get(&hash).is_some_and(|known| known.id == id) {
                self.by_hash.remove(&hash);
            }
        }
        self.by_hash.shrink_if_sparse();
        Ok(())
    }

    /// Removes the oldest rows. Returns their ids and hashes, and the id of the oldest row that is left.
    fn remove_rows(&self, connection: &mut Connection, now: u64) -> rusqlite::Result<(Vec<Row>, Option<u64>)> {
        let (surplus, max) = (self.surplus(), self.surplus().clamp(SLICE, MAX_SLICE));
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut rows = {
            let mut oldest = transaction.prepare_cached("SELECT id, hash FROM idempotency ORDER BY id LIMIT ?1")?;
            let rows = oldest.query_map([to_sql(max as u64 + 1)], |row| Ok((from_sql(row.get(0)?), row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<Row>>>()?
        };
        let is_over = |(index, (id, _)): &(usize, &Row)| *index < surplus || is_expired(*id, now);
        let count = rows.iter().enumerate().take(max).take_while(is_over).count();
        let oldest = rows.get(count).map(|row| row.0);
        rows.truncate(count);
        if let Some((last, _)) = rows.last() {
            transaction.prepare_cached("DELETE FROM idempotency WHERE id <= ?1")?.execute([to_sql(*last)])?;
        }
        transaction.commit()?;
        Ok((rows, oldest))
    }
}

/// Returns whether the key of the record with this id is no longer remembered at this time of ids.
fn is_expired(id: u64, now: u64) -> bool {
    id.saturating_add(LIFETIME) <= now
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 8;
    const META: &str = "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)";

    fn key(number: u8) -> IdempotencyKey {
        IdempotencyKey::new(&format!("key {number}")).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Compares with a list of the newest keys. Before some of the steps all keys are read anew.
        #[test]
        fn the_newest_are_remembered_until_they_expire(
            steps in prop::collection::vec((1..LIFETIME / 4, prop::option::of(0..12_u8), any::<bool>()), 0..40),
        ) {
            let mut connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(META).unwrap();
            let (mut keys, mut model, mut now) = (Keys::new(MAX), Vec::<(u64, u8)>::new(), 1 << 50);
            for (time, number, is_reopened) in steps {
                now += time;
                model.retain(|(id, _)| id + LIFETIME > now);
                if let Some(number) = number.filter(|number| keys.get(&key(*number), now).is_none()) {
                    let new = [NewKey { id: now, key: key(number), name: number.into() }];
                    keys.insert(&connection, &new).unwrap();
                    keys.add(&new);
                    model.push((now, number));
                }
                if is_reopened {
                    keys = Keys { max: MAX, ..Keys::load(&connection).unwrap() };
                }
                while keys.must_forget(now) {
                    keys.forget_slice(&mut connection, now).unwrap();
                }
                model.drain(..model.len().saturating_sub(MAX));
                for number in 0..12 {
                    let expected = model.iter().find(|(_, other)| *other == number);
                    let expected = expected.map(|(id, _)| KnownKey { id: *id, name: number.into() });
                    prop_assert_eq!(keys.get(&key(number), now), expected);
                }
                prop_assert_eq!((keys.rows, keys.by_hash.len()), (model.len(), model.len()));
                prop_assert_eq!(keys.oldest, model.first().map(|(id, _)| *id));
            }
        }
    }
}
