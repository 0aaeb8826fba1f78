//! The broker under test: started repeatedly on one port and one directory, and stopped in every way. Independent of what is
//! published.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::Failure;
use crate::shim::Shim;
use crate::tokens;
use crate::world::World;

/// The time limit for a start or a drain: a drain has 10 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// The store's mark is some seconds ahead of the ids, and no disk fault lasts longer than this.
const UNMARKED: Duration = Duration::from_secs(5);
/// The interval between two failed starts.
const RETRY: Duration = Duration::from_millis(300);
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

/// How the broker is started.
pub struct Launch {
    pub program: String,
    /// A list of cores for `taskset -c`.
    pub cores: String,
    /// The directory of its data.
    pub folder: PathBuf,
    /// The file that its log is appended to.
    pub log: PathBuf,
}

/// A running broker.
pub struct Server {
    child: Child,
    address: SocketAddr,
    launch: Launch,
}

impl Server {
    /// Starts a broker on a free port, with a new log.
    pub fn start(launch: Launch, shim: &Shim) -> Result<Self, Failure> {
        File::create(&launch.log)?;
        let (child, address) = launch.spawn(shim, 0)?;
        Ok(Self { child, address, launch })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with a signal, and starts it again on the same port and data.
    pub fn restart(&mut self, world: &World, signal: Signal) -> Result<(), Failure> {
        world.generation.fetch_add(1, SeqCst);
        self.end(signal)?;
        if signal == Signal::KILL && world.shim.was_disk_bad_within(UNMARKED) {
            // The mark that outlives a kill could not be written; only the clock, which may be set back, keeps ids ascending.
            world.ledger.fall_back_to(0);
        }
        self.child = self.start_again(world)?;
        world.pid.store(self.pid(), SeqCst);
        world.generation.fetch_add(1, SeqCst);
        world.counts.restarts.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Starts it as a supervisor would: repeatedly, because it does not start on a full or failing disk.
    fn start_again(&self, world: &World) -> Result<Child, Failure> {
        let begin = Instant::now();
        loop {
            match self.launch.spawn(&world.shim, self.address.port()) {
                Ok((child, _)) => return Ok(child),
                Err(failure) if begin.elapsed() > PATIENCE => return Err(failure),
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Limits its descriptors; `None` removes the limit.
    pub fn limit_descriptors(&self, limit: Option<u64>) -> Result<(), Failure> {
        let own = getrlimit(Resource::Nofile);
        let limit = Rlimit { current: limit.or(own.maximum), maximum: own.maximum };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit)?;
        Ok(())
    }

    /// Ends it with a signal. Unless killed, it must exit with code 0.
    pub fn end(&mut self, signal: Signal) -> Result<(), Failure> {
        self.signal(signal)?;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let is_well = signal == Signal::KILL || status.success();
                return if is_well { Ok(()) } else { Err(format!("the broker ended with {status}").into()) };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the broker does not end".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Locks the server, so that nothing else stops it.
pub fn lock_server(world: &World) -> MutexGuard<'_, Server> {
    world.server.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Launch {
    fn spawn(&self, shim: &Shim, port: u16) -> Result<(Child, SocketAddr), Failure> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.cores, &self.program]).args(OPTIONS).env_clear();
        command.arg("--data").arg(self.folder.join("data")).arg(format!("--port={port}"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(tokens::SECRETS);
        shim.preload_into(&mut command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let mut file = File::options().append(true).open(&self.log)?;
        let (sender, address) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let words = line.split_once("listens on http://").map(|(_, rest)| rest);
                let found = words.and_then(|rest| rest.split([' ', '/', ',']).next()?.parse::<SocketAddr>().ok());
                // The receiver is gone once the address is known.
                let _ = found.map(|address| sender.send(address));
                let _ = writeln!(file, "{line}");
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(address) => Ok((child, address)),
            Err(error) => {
                // It may have ended already.
                let _ = child.kill();
                child.wait()?;
                Err(format!("the broker does not start ({error}); see {}", self.log.display()).into())
            }
        }
    }
}
