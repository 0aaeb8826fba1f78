//! Revocations of tokens, which a restart must not undo. The table is created with the first one: a database without it, of an
//! older version, is as good.

use rusqlite::{Connection, TransactionBehavior};

use super::schema::{from_sql, has_table, to_sql};

/// The text of the row that stands for revocations that were removed.
pub(in crate::store) const REMOVED: &str = "*";

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS revocations (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, second INTEGER NOT NULL)
    STRICT
";
/// A repetition gets a new number, and keeps the later second.
const ADD: &str = "
    INSERT OR REPLACE INTO revocations (text, second)
    VALUES (?1, max(?2, coalesce((SELECT second FROM revocations WHERE text = ?1), 0)))
";
/// The latest second of the oldest ones, and of those that were removed before.
const SECOND_OF_OLDEST: &str = "
    SELECT max(second) FROM (
        SELECT second FROM (SELECT second FROM revocations WHERE text <> '*' ORDER BY number LIMIT ?1)
        UNION ALL SELECT second FROM revocations WHERE text = '*'
    )
";
const REMOVE_OLDEST: &str = "
    DELETE FROM revocations
    WHERE number IN (SELECT number FROM revocations WHERE text <> '*' ORDER BY number LIMIT ?1)
";

/// Stores revocations and their seconds in a durable transaction. Beyond `max`, one row replaces the oldest.
pub(in crate::store) fn add(connection: &mut Connection, new: &[(String, u64)], max: usize) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLE)?;
    for (text, second) in new {
        transaction.prepare_cached(ADD)?.execute((text, to_sql(*second)))?;
    }
    let count: i64 = transaction
        .prepare_cached("SELECT count(*) FROM revocations WHERE text <> '*'")?
        .query_row([], |row| row.get(0))?;
    let surplus = count - i64::try_from(max).unwrap_or(i64::MAX);
    if surplus > 0 {
        let second: i64 = transaction.query_row(SECOND_OF_OLDEST, [surplus], |row| row.get(0))?;
        transaction.execute(REMOVE_OLDEST, [surplus])?;
        transaction.execute(ADD, (REMOVED, second))?;
    }
    transaction.commit()
}

/// Returns all revocations and their seconds, oldest first.
pub(in crate::store) fn all(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    if !has_table(connection, "revocations")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT text, second FROM revocations ORDER BY number")?;
    statement.query_map([], |row| Ok((row.get(0)?, from_sql(row.get(1)?))))?.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares with a list.
        #[test]
        fn the_newest_are_kept_and_the_second_of_the_others(
            batches in prop::collection::vec(prop::collection::vec((0..6_u8, 1..90_u64), 1..4), 0..20),
        ) {
            const MAX: usize = 4;
            let mut connection = Connection::open_in_memory().unwrap();
            prop_assert_eq!(all(&connection).unwrap(), []);
            let (mut model, mut removed) = (Vec::<(String, u64)>::new(), 0);
            for batch in batches {
                let batch: Vec<_> = batch.into_iter().map(|(name, second)| (format!("sub:{name}"), second)).collect();
                add(&mut connection, &batch, MAX).unwrap();
                for (text, second) in batch {
                    let known = model.iter().position(|(known, _)| *known == text).map_or(0, |at| model.remove(at).1);
                    model.push((text, second.max(known)));
                }
                let surplus = model.len().saturating_sub(MAX);
                removed = model.drain(..surplus).map(|(_, second)| second).max().unwrap_or(0).max(removed);
                let mut stored = all(&connection).unwrap();
                let at = stored.iter().position(|(text, _)| text == REMOVED);
                prop_assert_eq!(at.map_or(0, |at| stored.remove(at).1), removed);
                prop_assert_eq!(&stored, &model);
            }
        }
    }
}
