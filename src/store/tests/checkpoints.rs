//! Checkpoints of the WAL.

use std::sync::Arc;

use rusqlite::Connection;

use super::*;
use crate::clock::Clock;
use crate::store::checkpointer::Checkpointer;
use crate::store::state::Shared;

#[test]
fn each_transaction_that_is_large_enough_is_checkpointed() {
    let scratch = Scratch::new();
    let open = || Connection::open(scratch.database()).unwrap();
    let writer = open();
    writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE large (data)").unwrap();
    let shared = Arc::new(Shared::new(&scratch.0, Clock::new()));
    let mut checkpointer = Checkpointer::inline(open(), &shared);
    for number in 0..5 {
        // From the third on, each restarts the WAL and makes it exactly as large as it was.
        let before = checkpointer.status().bytes;
        writer.execute_batch("REPLACE INTO large (rowid, data) VALUES (1, zeroblob(1 << 20))").unwrap();
        checkpointer.maintain(&writer, &small_limits()).unwrap();
        assert!(checkpointer.is_running(), "transaction {number}: {:?}", checkpointer.status());
        assert!(number < 2 || checkpointer.status().bytes == before, "the WAL is as large as before");
        checkpointer.maintain(&writer, &small_limits()).unwrap();
        assert_eq!(checkpointer.status().remaining(), 0);
    }
}
