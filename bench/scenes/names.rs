//! Very many names with one small record each: how soon a broker serves, what a name takes in its memory, and how long publishes
//! wait while readers get the newest record of every name.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::{Setting, start};
use crate::load::{self, Histogram, Requesters, TIMEOUT};
use crate::procs;
use crate::servers::{Failure, Running, Scratch, esker};

/// The largest number of names, unless the command line asks for fewer.
const NAMES: usize = 1_000_000;
/// Readers that begin at once, for each measurement after the quiet one.
const READERS: [usize; 4] = [1, 4, 40, 1000];
/// Very many readers take minutes to get all records. Publishes are measured for no longer than this.
const LONGEST: Duration = Duration::from_secs(20);
/// Publishes per second, unless the command line asks for others.
const RATE: f64 = 500.0;
/// Keep-alive connections of the publishers.
const CONNECTIONS: usize = 16;
/// The data of each record. Nothing else in a stream has its first character.
const DATA: &str = r#"{"value":123}"#;
/// The bytes of a name.
const NAME_BYTES: usize = 10;
/// Allocators return memory after this time at the latest.
const SETTLING: Duration = Duration::from_secs(2);
/// The bytes that are read between two looks at the publishers.
const CHUNK: usize = 64 << 10;

/// The results of a round.
pub struct Names {
    /// Time from creating the process until it has answered `/healthz`, and then `/audit`.
    pub healthy: Duration,
    pub audited: Duration,
    /// The publishes without a reader, and with some.
    pub snapshots: Vec<Snapshot>,
}

/// What was measured while some readers got records.
pub struct Snapshot {
    pub readers: usize,
    pub records_per_second: f64,
    latency: Histogram,
    /// The private memory afterwards, beyond that of an empty broker, for each name, without the name and its data.
    pub bytes_each: f64,
    /// The milliseconds of a worker's longest loop iteration since the start.
    pub longest_iteration: f64,
}

impl Snapshot {
    /// Returns the milliseconds that this share of the publishes didn't exceed.
    pub fn millis(&self, share: f64) -> f64 {
        self.latency.quantile(share) as f64 / 1e6
    }
}

/// Returns the number of names.
pub fn count(setting: &Setting) -> usize {
    setting.records.min(NAMES)
}

/// Loads the records, starts a broker, and reads them.
pub fn measure(setting: &Setting) -> Result<Names, Failure> {
    let (scratch, names) = (Scratch::new()?, count(setting));
    let data = scratch.path().join("data");
    let members = |number: usize| format!(r#""event":"name{:06}","data":{DATA}"#, number * 7919 % names);
    start::load_lines(&data, names, members)?;
    let empty = esker::start_with(&[], &setting.server_cores)?;
    let base = settled_bytes(&empty, setting);
    drop(empty);
    let begin = Instant::now();
    let server = esker::start_on(&data, &[], &setting.server_cores)?;
    load::send_request(server.publish_at, "GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let healthy = begin.elapsed();
    load::send_request(server.publish_at, "GET /audit?event=name000000 HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let audited = begin.elapsed();
    let publish = server.dialect.publish;
    let request = |number: u64| publish(&format!("topic{:05}", number % 16), DATA);
    let mut requesters = Requesters::connect(&[server.publish_at], CONNECTIONS, request)?;
    requesters.run_at(RATE, setting.duration / 10, &mut Histogram::default())?;
    let mut snapshots = Vec::new();
    for readers in [0].into_iter().chain(READERS) {
        let mut latency = Histogram::default();
        let begin = Instant::now();
        let mut readers = Readers::open(server.subscribe_at, readers, names)?;
        let rate = setting.rate.unwrap_or(RATE);
        requesters.run_while(rate, &mut latency, || match readers.all.is_empty() {
            true => Ok(begin.elapsed() < setting.duration),
            false => Ok(readers.read_some()? && begin.elapsed() < LONGEST),
        })?;
        let records_per_second = readers.records(names) as f64 / begin.elapsed().as_secs_f64();
        let count = readers.all.len();
        drop(readers);
        let bytes = settled_bytes(&server, setting) - base;
        let bytes_each = bytes / names as f64 - (NAME_BYTES + DATA.len()) as f64;
        let longest_iteration = esker::stats(&server)?("worker_longest_iteration_seconds") * 1e3;
        snapshots.push(Snapshot { readers: count, records_per_second, latency, bytes_each, longest_iteration });
    }
    Ok(Names { healthy, audited, snapshots })
}

/// Returns a server's private memory once it has returned what it no longer uses.
fn settled_bytes(server: &Running, setting: &Setting) -> f64 {
    sleep(SETTLING.min(setting.duration));
    procs::private_bytes(server.root.id()) as f64
}

/// Readers of all records.
struct Readers {
    all: Vec<Reader>,
    /// The one that reads next.
    next: usize,
    chunk: Vec<u8>,
    last_read: Instant,
}

struct Reader {
    socket: TcpStream,
    /// The records that have not arrived.
    missing: usize,
}

impl Readers {
    /// Opens streams of all records, all at once.
    fn open(server: SocketAddr, count: usize, names: usize) -> Result<Self, Failure> {
        let request = "GET /events HTTP/1.1\r\nHost: bench\r\n\r\n";
        let open = |_| Ok(Reader { socket: load::open_stream(server, request)?, missing: names });
        let all = (0..count).map(open).collect::<Result<_, Failure>>()?;
        Ok(Self { all, next: 0, chunk: vec![0; CHUNK], last_read: Instant::now() })
    }

    /// Returns how many records have arrived.
    fn records(&self, names: usize) -> usize {
        self.all.iter().map(|reader| names - reader.missing).sum()
    }

    /// Reads once from the next stream. Returns whether a record is missing.
    fn read_some(&mut self) -> Result<bool, Failure> {
        let count = self.all.len();
        let Some(index) =
            (self.next..self.next + count).map(|index| index % count).find(|&index| self.all[index].missing > 0)
        else {
            return Ok(false);
        };
        self.next = index + 1;
        let reader = &mut self.all[index];
        match reader.socket.read(&mut self.chunk) {
            Ok(0) => return Err("a stream of records ended".into()),
            Ok(len) => {
                let records = self.chunk[..len].iter().filter(|&&byte| byte == b'{').count();
                reader.missing = reader.missing.checked_sub(records).ok_or("too many records arrived")?;
                self.last_read = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.last_read.elapsed() < TIMEOUT => {}
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }
}
