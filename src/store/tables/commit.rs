//! Stores a batch of records in one transaction. It appends to `records` and adds new names; nothing else is touched, so a
//! commit writes few pages.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use super::idempotency::{Keys, NewKey};
use super::schema::{self, CEILING};
use crate::records::Record;

/// A name's key in the tables.
pub(in crate::store) type NameKey = i64;
/// A record's entry in the index: the key of its name, and its id.
pub(in crate::store) type Version = (NameKey, i64);

/// The key of every name, as in the table `names`.
#[derive(Debug, Default)]
pub(in crate::store) struct Names {
    keys: HashMap<Arc<str>, NameKey>,
    last: NameKey,
}

impl Names {
    /// Adds a name with its key.
    pub fn put(&mut self, name: Arc<str>, key: NameKey) {
        self.last = self.last.max(key);
        self.keys.insert(name, key);
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the key of a name that exists.
    pub fn key(&self, name: &str) -> Option<NameKey> {
        self.keys.get(name).copied()
    }

    /// Returns the largest key that was ever assigned.
    pub fn last(&self) -> NameKey {
        self.last
    }

    /// Makes all keys that are assigned from now on larger.
    pub fn skip_through(&mut self, key: NameKey) {
        self.last = self.last.max(key);
    }

    /// Removes a name whose versions are erased. Its key is never assigned again, because rows with it may remain.
    pub fn remove(&mut self, name: &str) {
        self.keys.remove(name);
    }

    /// Returns the key of a name, the copy of the name that all its records share, and whether the name is new.
    fn intern(&mut self, name: &Arc<str>) -> (NameKey, Arc<str>, bool) {
        if let Some((known, key)) = self.keys.get_key_value(name) {
            return (*key, Arc::clone(known), false);
        }
        self.put(Arc::clone(name), self.last + 1);
        (self.last, Arc::clone(name), true)
    }

    /// Removes the newest names, whose transaction failed.
    fn forget(&mut self, names: &[Arc<str>]) {
        self.last -= names.len() as NameKey;
        for name in names {
            let key = self.keys.remove(name);
            debug_assert!(key.is_some_and(|key| key > self.last), "only the newest names are removed");
        }
    }
}

/// Stores the records, their new idempotency keys, and the ceiling if there is one, in a transaction that ends with an fsync.
/// Returns what must be added to the index. After an error nothing is stored, or the outcome is unknown, and `names` is as before.
pub(in crate::store) fn commit(
    connection: &mut Connection,
    names: &mut Names,
    records: &mut [Record],
    keys: (&Keys, &[NewKey]),
    ceiling: Option<u64>,
) -> rusqlite::Result<Vec<Version>> {
    let mut added = Vec::new();
    let written = write(connection, names, &mut added, records, keys, ceiling);
    if written.is_err() {
        names.forget(&added);
    }
    written
}

fn write(
    connection: &mut Connection,
    names: &mut Names,
    added: &mut Vec<Arc<str>>,
    records: &mut [Record],
    keys: (&Keys, &[NewKey]),
    ceiling: Option<u64>,
) -> rusqlite::Result<Vec<Version>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut versions = Vec::with_capacity(records.len());
    {
        let mut add = transaction.prepare_cached("INSERT INTO names (key, name) VALUES (?1, ?2)")?;
        let mut append = transaction.prepare_cached("INSERT INTO records (id, name, data) VALUES (?1, ?2, ?3)")?;
        for record in records {
            let (key, name, is_new) = names.intern(&record.name);
            if is_new {
                added.push(Arc::clone(&name));
                add.execute((key, &*name))?;
            }
            record.name = name;
            let id = schema::to_sql(record.id);
            append.execute((id, key, &*record.data))?;
            versions.push((key, id));
        }
    }
    keys.0.insert(&transaction, keys.1)?;
    if let Some(ceiling) = ceiling {
        schema::set_meta(&transaction, CEILING, schema::to_sql(ceiling))?;
    }
    transaction.commit()?;
    Ok(versions)
}
