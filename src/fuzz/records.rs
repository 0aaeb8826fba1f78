//! Fuzzes the files of the store: lines that are loaded, and damaged databases. A dump must have the lines that were loaded, a
//! database without problems must open and have the right content, and no damage may cause a panic.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, mpsc};

use rusqlite::Connection;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::input::Input;
use crate::ids::Order;
use crate::quota::{Client, PageBudget};
use crate::records::NewRecord;
use crate::records::progress::Silent;
use crate::records::transfer::ToolError;
use crate::store::{Location, PageQuery, Record, Store, StoreError, check, dump, load};

/// The records of an undamaged store.
const LINES: &str = "\
    {\"id\":\"5\",\"event\":\"user\",\"data\":{\"n\":1}}\n\
    {\"id\":\"6\",\"event\":\"order\",\"data\":[1,2]}\n\
    {\"id\":\"9\",\"event\":\"user\",\"data\":\"two\"}\n";

/// The database of this store.
static TEMPLATE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = Directory::new();
    load(&directory.0, &mut LINES.as_bytes(), &Silent).expect("good lines can be loaded");
    fs::read(directory.database()).expect("it is there")
});

/// Runs one input: a byte that chooses what to do, and lines to load or the damage to a database.
pub fn records(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.choice() & 3 {
        0 => round_trip(&load_lines(input.0)),
        1 => drop(load_lines(input.0)),
        2 => damage_rows(input),
        _ => damage_file(input),
    }
}

/// A temporary directory, which is removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("esker-records-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    /// Creates a directory with this database.
    fn with(database: &[u8]) -> Self {
        let directory = Self::new();
        fs::create_dir(&directory.0).expect("a directory can be made");
        let mut file = fs::File::create(directory.database()).expect("a file can be made");
        file.write_all(database).expect("it can be written");
        directory
    }

    fn database(&self) -> PathBuf {
        self.0.join("records.db")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The members of a line.
#[derive(Deserialize)]
struct Line {
    id: String,
    event: String,
    data: Box<RawValue>,
}

/// Loads lines, and returns their dump.
fn load_lines(bytes: &[u8]) -> String {
    let directory = Directory::new();
    let loaded = load(&directory.0, &mut &*bytes, &Silent);
    let all: Vec<_> = bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).collect();
    let good = match &loaded {
        Ok(_) => all.len(),
        // The lines before an invalid one are loaded.
        Err(ToolError::Line(number, _)) => *number as usize - 1,
        Err(error) => panic!("{error}"),
    };
    let expected: Vec<_> = all[..good].iter().filter(|line| !line.is_empty()).collect();
    assert!(loaded.is_err() || loaded.is_ok_and(|count| count == expected.len() as u64));
    let out = dump_text(&directory.0, None).expect("loaded records can be dumped");
    assert_eq!(out.lines().count(), expected.len());
    for (line, written) in expected.into_iter().zip(out.lines()) {
        compare(line, written);
    }
    check_directory(&directory.0);
    out
}

/// Loads a dump, and compares its dump.
fn round_trip(out: &str) {
    let again = Directory::new();
    load(&again.0, &mut out.as_bytes(), &Silent).expect("a dump can be loaded");
    assert_eq!(dump_text(&again.0, None).as_deref().ok(), Some(out));
}

fn compare(line: &[u8], written: &str) {
    let line: Line = serde_json::from_slice(line).expect("a loaded line is JSON");
    let written: Line = serde_json::from_str(written).expect("a dumped line is JSON");
    assert_eq!((&line.id, &line.event), (&written.id, &written.event));
    let words = |data: &RawValue| data.get().split_ascii_whitespace().collect::<String>();
    assert_eq!(words(&line.data), words(&written.data));
}

fn dump_text(directory: &Path, name: Option<&str>) -> Result<String, ToolError> {
    let mut out = Vec::new();
    dump(directory, name, &mut out, &Silent)?;
    Ok(String::from_utf8(out).expect("a dump is text"))
}

/// Opens a store that may be damaged, and uses it. If the check finds no problems, the store must have the right content.
fn check_directory(directory: &Path) {
    let report = check(directory, &Silent);
    let is_good = report.is_ok_and(|report| report.is_good());
    let out = dump_text(directory, None);
    assert!(!is_good || out.is_ok());
    let opened = Store::open(&Location::Directory(directory.to_owned()));
    let opening = match opened {
        Err(error) => return assert!(!is_good, "{error}"),
        Ok(opening) => opening,
    };
    let latest: Vec<_> = opening.latest.iter().map(|record| (record.id, record.name.to_string())).collect();
    let through = opening.ids_through;
    let Ok(store) = opening.start(Box::new(After(through.into()))) else { return };
    if let (true, Ok(out)) = (is_good, out) {
        check_content(&store, &out, &latest);
    }
    for (_, name) in &latest {
        let _ = read_page(&store, name);
    }
    // The hub assigns no ids that the tables can't hold.
    if through < i64::MAX as u64 - 2 {
        for name in ["user", "a new one"] {
            let record = NewRecord { name: Arc::from(name), data: "7".into() };
            let stored = wait_for(|reply| store.insert(record.into(), send(reply)));
            assert_ne!(stored, Err(StoreError::Closed), "the writer is still running");
        }
    }
    store.close();
}

/// Checks the newest record and all versions of each name.
fn check_content(store: &Store, out: &str, latest: &[(u64, String)]) {
    let mut versions: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for line in out.lines() {
        let line: Line = serde_json::from_str(line).expect("a dumped line is JSON");
        let id = line.id.parse().expect("an id is a number");
        versions.entry(line.event).or_default().push((id, line.data.get().to_owned()));
    }
    let mut newest: Vec<_> = versions.iter().map(|(name, all)| (all[all.len() - 1].0, name.clone())).collect();
    newest.sort_unstable();
    assert_eq!(latest, newest);
    for (name, all) in versions.iter().filter(|(_, all)| all.len() < 1000) {
        let member =
            |(id, data): &(u64, String)| format!("{}:{data}", serde_json::Value::from(format!("{name}_v_{id}")));
        let members: Vec<_> = all.iter().map(member).collect();
        assert_eq!(read_page(store, name), Some(format!("{{{}}}", members.join(","))));
    }
}

fn read_page(store: &Store, name: &str) -> Option<String> {
    let query = PageQuery { name: Arc::from(name), after: 0, limit: 1000 };
    let reservation = PageBudget::default().reserve(Client::Local)?;
    wait_for(|reply| store.read_history(query, Client::Local, reservation, send(reply))).ok().map(|(page, _)| page.body)
}

fn send<T>(reply: mpsc::Sender<T>) -> impl FnOnce(T) {
    move |message| reply.send(message).expect("the receiver waits")
}

/// Waits for the store's reply.
fn wait_for<T>(ask: impl FnOnce(mpsc::Sender<T>)) -> T {
    let (reply, replied) = mpsc::channel();
    ask(reply);
    replied.recv().expect("the store replies")
}

/// Assigns the ids that follow this one.
struct After(AtomicU64);

impl Order<Record> for After {
    fn reserve(&self, count: usize) -> Option<u64> {
        Some(self.0.fetch_add(count as u64, Ordering::Relaxed) + 1)
    }

    fn newest(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn publish(&self, _: Vec<Record>) {}

    fn publish_erasure(&self, _: &str, _: u64) {}

    fn newest_version(&self, _: &str) -> Option<u64> {
        None
    }
}

/// Overwrites bytes of the database file, or truncates it.
fn damage_file(mut input: Input<'_>) {
    let mut database = TEMPLATE.clone();
    if input.choice() & 7 == 0 {
        database.truncate(input.number());
    }
    while input.0.len() >= 3 {
        let (at, byte) = (input.number(), input.choice());
        if let Some(old) = database.get_mut(at) {
            *old = byte;
        }
    }
    check_directory(&Directory::with(&database).0);
}

/// Writes rows that the tables can hold but the store would never write.
fn damage_rows(mut input: Input<'_>) {
    let directory = Directory::with(&TEMPLATE);
    let connection = Connection::open(directory.database()).expect("it can be opened");
    connection.pragma_update(None, "synchronous", "OFF").expect("the setting is supported");
    while !input.0.is_empty() {
        // SQLite refuses rows that the tables can't hold.
        let _ = damage_row(&connection, &mut input);
    }
    drop(connection);
    check_directory(&directory.0);
}

fn damage_row(connection: &Connection, input: &mut Input<'_>) -> rusqlite::Result<usize> {
    let (kind, one, other) = (input.choice(), number(input), number(input));
    let len = usize::from(input.choice() & 31).min(input.0.len());
    let (text, rest) = input.0.split_at(len);
    input.0 = rest;
    let text = String::from_utf8_lossy(text);
    match kind % 9 {
        0 => connection.execute("INSERT INTO records VALUES (?1, ?2, ?3)", (one, other, text)),
        1 => connection.execute("INSERT INTO names VALUES (?1, ?3, ?2)", (one, other, text)),
        2 => connection.execute("INSERT INTO names VALUES (?1, ?2, NULL)", (one, text)),
        3 => connection.execute("INSERT INTO versions VALUES (?1, ?2)", (one, other)),
        4 => connection.execute("UPDATE meta SET value = ?1 WHERE key = 'ceiling'", [one]),
        5 => connection.execute("UPDATE meta SET value = ?1 WHERE key = 'indexed_through'", [one]),
        6 => connection.execute("DELETE FROM records WHERE id = ?1", [one]),
        7 => connection.execute("UPDATE names SET latest = ?2 WHERE key = ?1", (one, other)),
        _ => connection.execute("DELETE FROM meta WHERE value = ?1", [one]),
    }
}

/// Takes a small number, or one near either end of the range.
fn number(input: &mut Input<'_>) -> i64 {
    let small = i64::from(input.choice());
    match small {
        0..200 => small - 2,
        200..228 => i64::MAX - (small - 200),
        _ => i64::MIN + (small - 228),
    }
}
