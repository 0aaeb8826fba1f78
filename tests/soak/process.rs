//! A broker's process: how it is started, on the same port each time, and how it is ended. Independent of what is published.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::Failure;
use crate::tokens;

/// The time limit for a drain, which has 10 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// The interval between two failed starts.
const RETRY: Duration = Duration::from_millis(300);

/// How a broker is started.
pub struct Launch {
    pub program: String,
    /// A list of cores for `taskset -c`.
    pub cores: String,
    /// All options but the port.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(&'static str, OsString)>,
    /// The file that its log is appended to.
    pub log: PathBuf,
    /// The time limit for a start.
    pub patience: Duration,
}

/// A running broker.
pub struct Process {
    child: Child,
    address: SocketAddr,
}

impl Launch {
    /// Starts a broker on this port; 0 is any. Returns when it listens.
    pub fn spawn(&self, port: u16) -> Result<Process, Failure> {
        let mut command = Command::new("taskset");
        command
            .args(["-c", &self.cores, &self.program])
            .args(&self.arguments)
            .arg(format!("--port={port}"))
            .env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(tokens::SECRETS);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let mut file = File::options().create(true).append(true).open(&self.log)?;
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
        match address.recv_timeout(self.patience) {
            Ok(address) => Ok(Process { child, address }),
            Err(error) => {
                // It may have ended already.
                let _ = child.kill();
                child.wait()?;
                Err(format!("the broker does not start ({error}); see {}", self.log.display()).into())
            }
        }
    }

    /// Starts it as a supervisor would: repeatedly, because it does not start without what it needs.
    pub fn spawn_again(&self, port: u16) -> Result<Process, Failure> {
        let begin = Instant::now();
        loop {
            match self.spawn(port) {
                Ok(process) => return Ok(process),
                Err(failure) if begin.elapsed() > self.patience => return Err(failure),
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    }
}

impl Process {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
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

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
