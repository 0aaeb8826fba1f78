//! The broker under test: started repeatedly on one port and one directory, and stopped in every way. Independent of what is
//! published.

use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::Failure;
use crate::process::{Launch, Process};
use crate::world::World;

/// The store's mark is some seconds ahead of the ids, and no disk fault lasts longer than this.
const UNMARKED: Duration = Duration::from_secs(5);
/// Short times, so that minutes show what would otherwise take hours.
const OPTIONS: &[&str] = &[
    "--threads=2",
    "--history=1000",
    "--history-age=8s",
    "--history-bytes=64M",
    "--heartbeat=2s",
    "--stall=5s",
    "--request-timeout=3s",
];

/// A running broker.
pub struct Server {
    process: Process,
    launch: Launch,
}

/// Returns the options of a broker with its data in this directory.
pub fn options(data: &Path) -> Vec<OsString> {
    let options = OPTIONS.iter().map(OsString::from);
    options.chain([OsString::from("--data"), data.as_os_str().to_owned()]).collect()
}

impl Server {
    /// Starts a broker on a free port, with a new log.
    pub fn start(launch: Launch) -> Result<Self, Failure> {
        File::create(&launch.log)?;
        let process = launch.spawn(0)?;
        Ok(Self { process, launch })
    }

    pub fn address(&self) -> SocketAddr {
        self.process.address()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Ends it with a signal, and starts it again on the same port and data.
    pub fn restart(&mut self, world: &World, signal: Signal) -> Result<(), Failure> {
        world.generation.fetch_add(1, SeqCst);
        self.end(signal)?;
        if signal == Signal::KILL && world.shim.was_disk_bad_within(UNMARKED) {
            // The mark that outlives a kill could not be written; only the clock, which may be set back, keeps ids ascending.
            world.ledger.fall_back_to(0);
        }
        // Not on a full or failing disk.
        self.process = self.launch.spawn_again(self.address().port())?;
        world.pid.store(self.pid(), SeqCst);
        world.generation.fetch_add(1, SeqCst);
        world.counts.restarts.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        self.process.signal(signal)
    }

    /// Limits its descriptors; `None` removes the limit.
    pub fn limit_descriptors(&self, limit: Option<u64>) -> Result<(), Failure> {
        self.process.limit_descriptors(limit)
    }

    /// Ends it with a signal. Unless killed, it must exit with code 0.
    pub fn end(&mut self, signal: Signal) -> Result<(), Failure> {
        self.process.end(signal)
    }
}

/// Locks the server, so that nothing else stops it.
pub fn lock_server(world: &World) -> MutexGuard<'_, Server> {
    world.server.lock().unwrap_or_else(PoisonError::into_inner)
}
