//! The thread that reads histories, page by page, on a connection of its own, so that no writer waits for it nor it for one.
//! A page is one snapshot: what the index has, and behind that what only `records` has yet.
//! Refuses to know how a page is sent.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::{Connection, OptionalExtension as _, Params};

use super::error::StoreError;
use super::queue::Reply;
use super::schema::{self, INDEXED_THROUGH};
use super::state::{Mode, Shared};

/// At most so many wait for their pages.
const MAX_WAITING: usize = 1024;
/// A page is no longer than so many bytes, unless a single version is.
const MAX_PAGE_BYTES: usize = 8 << 20;

const INDEXED: &str = "
    SELECT records.id, records.data FROM versions CROSS JOIN records ON records.id = versions.id
    WHERE versions.name = ?1 AND versions.id > ?2 AND versions.id <= ?3 ORDER BY versions.id LIMIT ?4";
/// Without an index, so it is short: see `Tuning::unindexed`.
const BEHIND: &str = "SELECT id, data FROM records WHERE id > ?2 AND name = ?1 ORDER BY id LIMIT ?3";

/// Some versions of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// `{"name_v_id":data,…}`, oldest first.
    pub body: String,
    /// The last id in it, if more follow.
    pub next: Option<u64>,
}

enum Request {
    Read { name: Arc<str>, after: u64, limit: usize, reply: Reply<Page> },
    Close,
}

/// The end of those who ask.
pub(super) struct Auditor {
    requests: Sender<Request>,
    shared: Arc<Shared>,
}

/// The reader's end.
pub(super) struct Reader {
    connection: Connection,
    requests: Receiver<Request>,
    shared: Arc<Shared>,
}

/// Makes both ends.
pub(super) fn auditor(connection: Connection, shared: &Arc<Shared>) -> (Auditor, Reader) {
    let (sender, requests) = bounded(MAX_WAITING);
    let auditor = Auditor { requests: sender, shared: Arc::clone(shared) };
    (auditor, Reader { connection, requests, shared: Arc::clone(shared) })
}

impl Auditor {
    pub fn ask(&self, name: Arc<str>, after: u64, limit: usize, reply: Reply<Page>) {
        if self.shared.mode() == Mode::Closed {
            return reply.send(Err(StoreError::Closed));
        }
        let sent = self.requests.try_send(Request::Read { name, after, limit, reply });
        // After the end nobody takes it, and its reply says so.
        if let Err(TrySendError::Full(Request::Read { reply, .. })) = sent {
            reply.send(Err(StoreError::Busy));
        }
    }

    /// What waits by now is the last.
    pub fn close(&self) {
        let _ = self.requests.send(Request::Close);
    }
}

impl Reader {
    /// Until the store is closed.
    pub fn run(mut self) {
        while let Ok(request) = self.requests.recv()
            && self.answer(request).is_continue()
        {}
    }

    /// Answers one of those who wait, if somebody does.
    pub fn turn(&mut self) {
        if let Ok(request) = self.requests.try_recv() {
            let _ = self.answer(request);
        }
    }

    fn answer(&mut self, request: Request) -> ControlFlow<()> {
        let Request::Read { name, after, limit, reply } = request else { return ControlFlow::Break(()) };
        self.shared.counters.pages.fetch_add(1, Ordering::Relaxed);
        let page = read(&mut self.connection, &name, after, limit);
        reply.send(page.map_err(|error| {
            log::error!("the versions of a record can't be read: {error}");
            StoreError::Failed
        }));
        ControlFlow::Continue(())
    }
}

/// One page, out of one snapshot.
fn read(connection: &mut Connection, name: &str, after: u64, limit: usize) -> rusqlite::Result<Page> {
    let snapshot = connection.transaction()?;
    let mut sheet = Sheet::new(name, limit);
    let mut key = snapshot.prepare_cached("SELECT key FROM names WHERE name = ?1")?;
    let Some(key) = key.query_row([name], |row| row.get::<_, i64>(0)).optional()? else { return Ok(sheet.page()) };
    let (after, through) = (schema::to_sql(after), schema::meta(&snapshot, INDEXED_THROUGH)?);
    // One more than fits tells whether more follow.
    let rows = schema::to_sql(limit as u64).saturating_add(1);
    if sheet.fill(&snapshot, INDEXED, (key, after, through, rows))?.is_continue() {
        let rest = rows - schema::to_sql(sheet.entries as u64);
        let _ = sheet.fill(&snapshot, BEHIND, (key, after.max(through), rest))?;
    }
    Ok(sheet.page())
}

/// A page that is being written.
struct Sheet {
    body: String,
    /// What each key begins with, as JSON.
    prefix: String,
    entries: usize,
    limit: usize,
    last: u64,
    is_full: bool,
}

impl Sheet {
    fn new(name: &str, limit: usize) -> Self {
        let mut prefix = serde_json::Value::from(format!("{name}_v_")).to_string();
        prefix.pop();
        Self { body: String::from("{"), prefix, entries: 0, limit: limit.max(1), last: 0, is_full: false }
    }

    /// Writes rows of ids and data. Break: a row did not fit.
    fn fill(
        &mut self,
        connection: &Connection,
        sql: &str,
        parameters: impl Params,
    ) -> rusqlite::Result<ControlFlow<()>> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            let id = schema::from_sql(row.get(0)?);
            let data = row.get_ref(1)?.as_str()?;
            if !self.fits(data) {
                self.is_full = true;
                return Ok(ControlFlow::Break(()));
            }
            self.write(id, data);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn fits(&self, data: &str) -> bool {
        let bytes = self.body.len() + self.prefix.len() + data.len() + "18446744073709551615\":,}".len();
        self.entries == 0 || (self.entries < self.limit && bytes <= MAX_PAGE_BYTES)
    }

    fn write(&mut self, id: u64, data: &str) {
        if self.entries > 0 {
            self.body.push(',');
        }
        // Writing to a string can't fail.
        let _ = write!(self.body, "{}{id}\":{data}", self.prefix);
        self.entries += 1;
        self.last = id;
    }

    fn page(mut self) -> Page {
        self.body.push('}');
        Page { body: self.body, next: self.is_full.then_some(self.last) }
    }
}
