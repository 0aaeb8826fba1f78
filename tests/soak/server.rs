//! The broker under soak: started on one port and one directory again and again, stopped in every way that there is. Knows nothing of
//! what is published.

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

/// How long a start or a drain may take: a drain has 10 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// The mark is some seconds ahead of the ids, and a bad disk is so for no longer than this.
const UNMARKED: Duration = Duration::from_secs(5);
/// Between two starts that fail.
const RETRY: Duration = Duration::from_millis(300);
/// Short, so that minutes show what takes hours otherwise.
const OPTIONS: &[&str] = &[
    "--threads=2",
    "--history=1000",
    "--history-age=8s",
    "--history-bytes=64M",
    "--heartbeat=2s",
    "--stall=5s",
    "--request-timeout=3s",
];

/// How it is started.
pub struct Launch {
    pub program: String,
    /// As `taskset -c` takes them.
    pub cores: String,
    /// Where its data is.
    pub folder: PathBuf,
    /// What its log is added to.
    pub log: PathBuf,
}

/// See the module's page.
pub struct Server {
    child: Child,
    address: SocketAddr,
    launch: Launch,
}

impl Server {
    /// Starts it on a free port, with a new log.
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

    /// Stops it in this way, and starts it again on the same port and data.
    pub fn restart(&mut self, world: &World, signal: Signal) -> Result<(), Failure> {
        world.generation.fetch_add(1, SeqCst);
        self.end(signal)?;
        if signal == Signal::KILL && world.shim.was_disk_bad_within(UNMARKED) {
            // The mark of ids that outlives a kill could not be written; only the clock, which may be set back, keeps them ascending.
            world.ledger.fall_back_to(0);
        }
        self.child = self.start_again(world)?;
        world.pid.store(self.pid(), SeqCst);
        world.generation.fetch_add(1, SeqCst);
        world.counts.restarts.fetch_add(1, SeqCst);
        Ok(())
    }

    /// As its supervisor would: on a disk that is full or fails it does not start.
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

    /// It may have so many descriptors; None: as many as ever.
    pub fn limit_descriptors(&self, limit: Option<u64>) -> Result<(), Failure> {
        let own = getrlimit(Resource::Nofile);
        let limit = Rlimit { current: limit.or(own.maximum), maximum: own.maximum };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit)?;
        Ok(())
    }

    /// Ends it; one that should end well must.
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
        // One that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one who holds it is the only one to stop it.
pub fn hold(world: &World) -> MutexGuard<'_, Server> {
    world.server.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Launch {
    fn spawn(&self, shim: &Shim, port: u16) -> Result<(Child, SocketAddr), Failure> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.cores, &self.program]).args(OPTIONS).env_clear();
        command.arg("--data").arg(self.folder.join("data")).arg(format!("--port={port}"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(tokens::SECRETS);
        shim.put_under(&mut command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let mut file = File::options().append(true).open(&self.log)?;
        let (told, address) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let words = line.split_once("listens on http://").map(|(_, rest)| rest);
                let found = words.and_then(|rest| rest.split([' ', '/', ',']).next()?.parse::<SocketAddr>().ok());
                // Nobody listens any more once the address is known; the file is for who looks into it later.
                let _ = found.map(|address| told.send(address));
                let _ = writeln!(file, "{line}");
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(address) => Ok((child, address)),
            Err(error) => {
                // One that has ended needs no kill.
                let _ = child.kill();
                child.wait()?;
                Err(format!("the broker does not start ({error}); see {}", self.log.display()).into())
            }
        }
    }
}
