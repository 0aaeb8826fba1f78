//! A Redis or Valkey server that a test starts, and stops by its pid. Other tests include this file by its path.
//!
//! It runs the program that `ESKER_TEST_REDIS` names, otherwise the `redis-server` in `PATH`.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part, and fails where it can't go on")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to start, to load its data or to catch up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where free ports are looked for: below the ports that the kernel gives to outgoing connections. Otherwise a client that
/// connects while the server is down could be connected to itself.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// How often another free port is tried: somebody else may have taken the one that was found.
const ATTEMPTS: u32 = 5;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A running server, or one that was killed and can be restarted. Its directory is removed at the end.
pub struct RedisServer {
    address: SocketAddr,
    directory: PathBuf,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    sentinel: Option<String>,
    child: Option<Child>,
    password: Option<String>,
}

impl RedisServer {
    /// Starts a server without persistence. Options are as on its command line: `&["--appendonly", "yes"]`.
    pub fn start(options: &[&str]) -> Self {
        Self::start_at(LOCALHOST, options, &[])
    }

    /// Starts a server like [`RedisServer::start`] at another address, and with environment variables.
    pub fn start_at(ip: IpAddr, options: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_with(ip, options, environment, None)
    }

    /// Starts a Sentinel that watches a server, with or without a password of its own. It fails over by itself.
    pub fn start_sentinel(name: &str, primary: &Self, password: Option<&str>) -> Self {
        let mut lines = format!(
            "sentinel monitor {name} 127.0.0.1 {} 1\nsentinel down-after-milliseconds {name} 500\n\
             sentinel failover-timeout {name} 5000\n",
            primary.port()
        );
        if let Some(password) = &primary.password {
            lines.push_str(&format!("sentinel auth-pass {name} {password}\n"));
        }
        let options = password.map_or_else(Vec::new, |password| vec!["--requirepass", password]);
        Self::start_with(LOCALHOST, &options, &[], Some(&lines))
    }

    fn start_with(ip: IpAddr, options: &[&str], environment: &[(&str, &str)], sentinel: Option<&str>) -> Self {
        let mut failure = String::new();
        for _ in 0..ATTEMPTS {
            let mut server = Self {
                address: SocketAddr::new(ip, free_port(ip)),
                directory: new_directory(),
                options: options.iter().map(|&option| option.to_owned()).collect(),
                environment: environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
                sentinel: sentinel.map(str::to_owned),
                child: None,
                password: value_of(options, "--requirepass"),
            };
            match server.launch() {
                Ok(()) => return server,
                Err(why) => failure = why,
            }
        }
        panic!("{failure}");
    }

    /// Starts it again after [`RedisServer::kill`], on the same port and with the same data.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the server still runs");
        self.launch().unwrap_or_else(|why| panic!("{why}"));
    }

    fn launch(&mut self) -> Result<(), String> {
        let program = program();
        let mut command = Command::new(&program);
        match &self.sentinel {
            None => command.args(["--save", "", "--appendonly", "no"]),
            Some(lines) => command.arg(self.sentinel_file(lines)).arg("--sentinel"),
        };
        command.args(["--port", &self.port().to_string(), "--bind", &self.address.ip().to_string()]);
        command.envs(self.environment.iter().cloned());
        command.args(["--dir", text(&self.directory), "--logfile", text(&self.log_file())]).args(&self.options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|why| {
            let name = program.display();
            format!("{name} can't be started: {why}; scripts/test installs it, or ESKER_TEST_REDIS names another")
        })?;
        self.child = Some(child);
        self.wait_until_ready()
    }

    fn sentinel_file(&self, lines: &str) -> PathBuf {
        let file = self.directory.join("sentinel.conf");
        std::fs::write(&file, lines).unwrap();
        file
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let exited = self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            if exited {
                return Err(format!("the server ended at its start: {}", self.log()));
            }
            if self.try_command::<String>(&["PING"]).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the server is not ready after {PATIENCE:?}: {}", self.log()))
    }

    /// Returns the port of the server.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its address as the option `--engine` takes it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Returns the directory with the server's data, its log and whatever the test puts there.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns what the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running server");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it with SIGSTOP until [`RedisServer::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`RedisServer::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running server");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Makes it a replica, and waits until it has the primary's data.
    pub fn replicate(&self, primary: &Self) {
        self.replicate_from(primary.address);
    }

    /// Makes it a replica of the server that is reached at this address, and waits until it has the data.
    pub fn replicate_from(&self, primary: SocketAddr) {
        self.command::<()>(&["REPLICAOF", &primary.ip().to_string(), &primary.port().to_string()]);
        self.wait_for("master_link_status:up");
    }

    /// Makes a replica a primary.
    pub fn promote(&self) {
        self.command::<()>(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Waits until INFO contains these words.
    pub fn wait_for(&self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.command::<String>(&["INFO"]).contains(words) {
            assert!(Instant::now() < end, "no {words} after {PATIENCE:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Changes an option of the running server.
    pub fn config_set(&self, option: &str, value: &str) {
        self.command::<()>(&["CONFIG", "SET", option, value]);
    }

    /// Returns whether the server is at least this version of Redis, or a Valkey that counts as one.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let info = self.command::<String>(&["INFO", "server"]);
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("a version");
        let mut numbers = version.split('.').map(|number| number.trim().parse::<u32>().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
    }

    /// Runs a command over a connection of its own.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap_or_else(|why| panic!("{words:?}: {why}"))
    }

    /// Like [`RedisServer::command`], but may fail.
    pub fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connect()?)
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let password = self.password.as_ref().map_or_else(String::new, |password| format!(":{password}@"));
        let client = Client::open(format!("redis://{password}{}", self.address))?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn program() -> PathBuf {
    std::env::var_os("ESKER_TEST_REDIS").map_or_else(|| "redis-server".into(), PathBuf::from)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn value_of(options: &[&str], name: &str) -> Option<String> {
    options.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].to_owned())
}

/// Returns a port that was free a moment ago.
pub fn free_port(ip: IpAddr) -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1000);
    ports.find(|port| TcpListener::bind((ip, *port)).is_ok()).expect("a port is free")
}

/// Creates a directory for one test, which removes it.
pub fn new_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("esker-redis-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
