//! One transaction of records, and the keys of names. Appends to `records` and adds new names; nothing else is touched, so that
//! a commit writes few pages. Refuses to know where ids come from and who is told.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use super::Record;
use super::schema::{self, CEILING};

/// A name's key in the tables.
pub(super) type NameKey = i64;
/// A record, as the index has it.
pub(super) type Version = (NameKey, i64);

/// Every name's key: bounded by the names there are.
#[derive(Debug, Default)]
pub(super) struct Names {
    keys: HashMap<Arc<str>, NameKey>,
    last: NameKey,
}

impl Names {
    /// As it was found.
    pub fn put(&mut self, name: Arc<str>, key: NameKey) {
        self.last = self.last.max(key);
        self.keys.insert(name, key);
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key, and the one copy of the name that all its records share. True: it is new.
    fn intern(&mut self, name: &Arc<str>) -> (NameKey, Arc<str>, bool) {
        if let Some((known, key)) = self.keys.get_key_value(name) {
            return (*key, Arc::clone(known), false);
        }
        self.put(Arc::clone(name), self.last + 1);
        (self.last, Arc::clone(name), true)
    }

    /// The newest names were not stored after all.
    fn forget(&mut self, names: &[Arc<str>]) {
        for name in names {
            self.keys.remove(name);
        }
        self.last -= names.len() as NameKey;
    }
}

/// Stores the records, and the ceiling, if it is due. The fsync is in the end of it. Tells what the index must learn; after an
/// error nothing is stored, or it is unknown, and the names are as before.
pub(super) fn commit(
    connection: &mut Connection,
    names: &mut Names,
    records: &mut [Record],
    ceiling: Option<u64>,
) -> rusqlite::Result<Vec<Version>> {
    let mut added = Vec::new();
    let written = write(connection, names, &mut added, records, ceiling);
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
    if let Some(ceiling) = ceiling {
        schema::set_meta(&transaction, CEILING, schema::to_sql(ceiling))?;
    }
    transaction.commit()?;
    Ok(versions)
}
