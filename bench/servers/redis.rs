//! The engine: a redis-server that syncs its append-only file before each response, as the broker demands by default. Without
//! rewrites of that file, because they would slow down some rounds and not others. `ESKER_TEST_REDIS` names another program,
//! such as a valkey-server.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs, io};

use redis::{Client, Connection, FromRedisValue, RedisResult};

use super::{Failure, Scratch, launch, pinned, stop};
use crate::procs::Stopwatch;

/// How long the server may take until it responds.
const TIMEOUT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);
const OPTIONS: [&str; 10] = [
    "--bind",
    "127.0.0.1",
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--auto-aof-rewrite-percentage",
    "0",
];
/// The log, as the broker stores it.
const LOG: &str = "{esker}:1:log";
/// Entries read from the log at once.
const PAGE: usize = 1000;

/// A running server; stopped when dropped.
pub struct Redis {
    root: Child,
    /// The directory of its data.
    pub scratch: Scratch,
    address: SocketAddr,
    cores: String,
}

/// An entry of the log.
#[derive(Clone, Copy)]
pub struct Entry {
    pub events: u64,
    /// The bytes of all its events.
    pub bytes: usize,
}

impl Drop for Redis {
    fn drop(&mut self) {
        stop(&mut self.root);
    }
}

impl Redis {
    /// Starts the server on these cores, with an empty log.
    pub fn start(cores: &str) -> Result<Self, Failure> {
        let scratch = Scratch::new()?;
        let [address] = launch::free_addresses()?;
        let root = spawn(cores, &scratch, address)?;
        let mut redis = Self { root, scratch, address, cores: cores.to_owned() };
        redis.wait()?;
        Ok(redis)
    }

    /// Kills the server.
    pub fn kill(&mut self) -> io::Result<()> {
        self.root.kill()?;
        self.root.wait()?;
        Ok(())
    }

    /// Starts the server again, with the same address and data.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.root = spawn(&self.cores, &self.scratch, self.address)?;
        self.wait()
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        while let Err(error) = self.query::<String>(&["PING"]) {
            if self.root.try_wait()?.is_some() || begin.elapsed() > TIMEOUT {
                let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
                return Err(format!("{} does not start ({error}): {log}", program()).into());
            }
            sleep(PAUSE);
        }
        Ok(())
    }

    /// Starts measuring it.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch::start(self.root.id())
    }

    /// Returns its address as the option `--engine` takes it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Opens a connection.
    pub fn connect(&self) -> RedisResult<Connection> {
        Client::open(self.url())?.get_connection()
    }

    /// Returns a number in the response to INFO.
    pub fn info(&self, name: &str) -> Result<f64, Failure> {
        let text: String = self.query(&["INFO", "everything"])?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.ok_or_else(|| format!("INFO has no {name}"))?.trim().parse()?)
    }

    /// Returns the id of the newest entry.
    pub fn newest(&self) -> Result<String, Failure> {
        let entries = self.entries_by_id("XREVRANGE", "+", "-", 1)?;
        Ok(entries.into_iter().next().ok_or("the log is empty")?.0)
    }

    /// Returns the entries after the one with this id.
    pub fn entries_after(&self, id: &str) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::new();
        let mut last = id.to_owned();
        loop {
            let page = self.entries_by_id("XRANGE", &format!("({last}"), "+", PAGE)?;
            let Some((newest, _)) = page.last() else { return Ok(entries) };
            last.clone_from(newest);
            for (_, fields) in page {
                let events = String::from_utf8(fields["n"].clone())?.parse()?;
                entries.push(Entry { events, bytes: fields["b"].len() });
            }
        }
    }

    fn entries_by_id(&self, command: &str, from: &str, to: &str, count: usize) -> RedisResult<Vec<Fields>> {
        self.query(&[command, LOG, from, to, "COUNT", &count.to_string()])
    }

    /// Sends a command on a connection of its own.
    fn query<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connect()?)
    }
}

fn program() -> String {
    env::var("ESKER_TEST_REDIS").unwrap_or_else(|_| "redis-server".to_owned())
}

fn spawn(cores: &str, scratch: &Scratch, address: SocketAddr) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(scratch.path().join("log"))?;
    let mut command = pinned(cores, program());
    command.args(["--port", &address.port().to_string()]).args(OPTIONS).arg("--dir").arg(scratch.path());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// The id of an entry, and its fields.
type Fields = (String, HashMap<String, Vec<u8>>);
