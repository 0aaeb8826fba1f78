//! Starts the binary, and speaks HTTP and server-sent events to it with the simplest possible client, so that no client library
//! hides what the broker does. Every wait has a limit.

pub mod crowd;
mod disk;
pub mod front;
mod http;
mod metrics;
pub mod openssl;
mod pieces;
mod program;
mod proxy;
pub mod shim;
mod small_disk;
mod stream;
mod terminal;
pub mod tokens;
mod unread;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

pub use crowd::{Crowd, connect_small};
pub use disk::{DiskFault, FaultyDisk};
pub use http::{Connection, Response};
pub use metrics::Metrics;
pub use pieces::Pieces;
pub use program::{Program, TempDir};
pub use proxy::Proxy;
pub use small_disk::on_small_disk;
pub use stream::{EXPIRED, Event, REVOKED, Stream};
pub use terminal::run_on_terminal;
pub use unread::{UnreadLog, fill as fill_pipe};

/// A test fails if a response takes longer.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// A test fails if the broker takes longer to listen. It may first have to read what an engine has.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// A running broker; killed when dropped.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    /// All IP addresses in the order in which the log names them, the admin address last.
    pub addresses: Vec<SocketAddr>,
    log: Receiver<String>,
    /// The Authorization field for requests of `/stats`.
    pass: String,
}

impl Broker {
    /// Starts the binary without authentication on a free port. It serves every origin and host unless the arguments or the
    /// environment list origins.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// Starts the binary like [`Broker::start`], with environment variables.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_command(command(environment), arguments)
    }

    /// Starts the binary like [`Broker::start`], by a command that executes it.
    pub fn start_command(command: Command, arguments: &[&str]) -> Self {
        let arguments = [&["--port", "0"], arguments].concat();
        Self::start_listening(command, &arguments)
    }

    /// Starts the binary like [`Broker::start_command`], but lets the arguments choose the address.
    pub fn start_listening(command: Command, arguments: &[&str]) -> Self {
        let lists_origins =
            arguments.contains(&"--origin") || command.get_envs().any(|(name, _)| name == "ESKER_ORIGIN");
        let origin: &[&str] = if lists_origins { &[] } else { &["--origin", "*"] };
        Self::spawn(command, &[&["--no-auth"], origin, arguments].concat())
    }

    /// Starts the binary without authentication and with the default origins: it serves only this machine.
    pub fn start_with_default_origins(arguments: &[&str]) -> Self {
        Self::spawn(command(&[]), &[&["--no-auth"], arguments].concat())
    }

    /// Starts the binary with tokens. The arguments or the environment contain the keys. Requests of `/stats` use a token
    /// signed with [`tokens::PUBLISHER`].
    pub fn start_with_tokens(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_command_with_tokens(command(environment), arguments)
    }

    /// Starts the binary with tokens, by a command that executes it.
    pub fn start_command_with_tokens(command: Command, arguments: &[&str]) -> Self {
        let mut broker = Self::spawn(command, &[&["--port", "0"], arguments].concat());
        broker.pass = tokens::bearer(&tokens::publisher("stats"));
        broker
    }

    /// Starts the binary with tokens and a log that is never read once the broker listens: the pipe is full.
    pub fn start_with_unread_log(arguments: &[&str], environment: &[(&str, &str)]) -> (Self, UnreadLog) {
        let mut command = command(environment);
        let (child, mut unread) = UnreadLog::spawn(command.envs(tokens::SECRETS).args(["--port", "0"]).args(arguments));
        let (sender, log) = unbounded();
        let listens = unread.find(|line| line.contains("listens on"));
        sender.send(listens.expect("it listens")).expect("the receiver is here");
        let mut broker = Self::await_address(child, log);
        broker.pass = tokens::bearer(&tokens::publisher("stats"));
        unread.fill();
        (broker, unread)
    }

    /// Starts the binary like [`Broker::start`], and appends its log until it listens to `log`.
    pub fn start_reading_log(arguments: &[&str], log: &mut String) -> Self {
        let mut command = command(&[]);
        let child = command.args(["--no-auth", "--port", "0"]).args(arguments).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the binary starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        while !log.contains("listens on") {
            assert!(stderr.read_line(log).expect("the log is UTF-8") > 0, "it has ended: {log}");
        }
        let (sender, first) = unbounded();
        log.lines().for_each(|line| sender.send(line.to_owned()).expect("the receiver is here"));
        Self::await_address(child, first)
    }

    fn spawn(mut command: Command, arguments: &[&str]) -> Self {
        let child = command.args(arguments).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the binary starts");
        let log = lines(child.stderr.take().expect("stderr is piped"));
        Self::await_address(child, log)
    }

    fn await_address(child: Child, log: Receiver<String>) -> Self {
        // Created before the first wait, so that a failure kills the child.
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut broker = Self { child, address: nowhere, addresses: Vec::new(), log, pass: String::new() };
        let line = broker.wait_for_log_within("listens on", START_TIMEOUT);
        // The first address, if any: the broker may listen only on Unix sockets.
        broker.addresses = addresses(&line);
        broker.address = broker.addresses.first().copied().unwrap_or(nowhere);
        broker
    }

    /// Waits for a line of the log that contains `part`, and returns it.
    pub fn wait_for_log(&self, part: &str) -> String {
        self.wait_for_log_within(part, TIMEOUT)
    }

    fn wait_for_log_within(&self, part: &str, timeout: Duration) -> String {
        let mut before = String::new();
        loop {
            match self.log.recv_timeout(timeout) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before += &line,
                Err(error) => panic!("the log never contains {part:?} ({error}), but:\n{before}"),
            }
        }
    }

    /// Returns what is logged from now on until the condition holds for it.
    pub fn log_until(&self, is_complete: impl Fn(&str) -> bool) -> String {
        let mut log = String::new();
        while !is_complete(&log) {
            match self.log.recv_timeout(TIMEOUT) {
                Ok(line) => log += &line,
                Err(error) => panic!("the log is incomplete ({error}):\n{log}"),
            }
        }
        log
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens a new connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Sends one request on a new connection, and returns the response.
    pub fn request(&self, request: impl AsRef<[u8]>) -> Response {
        let mut connection = self.connect();
        connection.send(request);
        connection.response()
    }

    pub fn get(&self, path: &str) -> Response {
        self.request(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Publishes SSE text, and requires status 200.
    pub fn publish(&self, topic: &str, body: &str) -> serde_json::Value {
        let response = self.post(&format!("/publish/{topic}"), "", body);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// Sends a POST request with header fields such as `"Content-Type: text/plain\r
    /// "`.
    pub fn post(&self, target: &str, fields: &str, body: impl AsRef<[u8]>) -> Response {
        let body = body.as_ref();
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.request([head.as_bytes(), body].concat())
    }

    /// Opens a stream, and requires status 200; `fields` are header fields such as `"Last-Event-ID: 5\r
    /// "`.
    pub fn subscribe(&self, target: &str, fields: &str) -> Stream {
        Stream::open(self.connect(), target, fields)
    }

    pub fn stats(&self) -> serde_json::Value {
        let Self { pass, .. } = self;
        self.request(format!("GET /stats HTTP/1.1\r\nHost: localhost\r\n{pass}\r\n")).json()
    }

    pub fn metrics(&self) -> Metrics {
        let Self { pass, .. } = self;
        let response = self.request(format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{pass}\r\n"));
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(&response.text())
    }

    /// Waits until the condition holds, and returns the metrics.
    pub fn metrics_once(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) -> Metrics {
        let begin = Instant::now();
        loop {
            let metrics = self.metrics();
            if is_so(&metrics) {
                return metrics;
            }
            assert!(begin.elapsed() < TIMEOUT, "never {what}: {metrics:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until `/stats` fulfills the condition.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        let begin = Instant::now();
        loop {
            let stats = self.stats();
            if is_so(&stats) {
                return;
            }
            assert!(begin.elapsed() < TIMEOUT, "never {what}: {stats}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asserts that the broker still serves requests. Called after every attack.
    pub fn assert_healthy(&self) {
        let response = self.get("/healthz");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }

    /// Waits for the process to exit; returns its exit code and the rest of its log.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            assert!(begin.elapsed() < TIMEOUT, "the broker does not stop");
            std::thread::sleep(Duration::from_millis(5));
        };
        (status.code(), self.log.iter().collect())
    }

    /// Limits the broker's descriptors, even if more are open already.
    pub fn limit_descriptors(&self, limit: u64) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        let limit = Rlimit { current: Some(limit), maximum: getrlimit(Resource::Nofile).maximum };
        prlimit(pid, Resource::Nofile, limit).expect("limits can be lowered");
    }

    /// Returns the CPU time used, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the kernel has stat");
        let (_, fields) = text.rsplit_once(')').expect("the name is in parentheses");
        // The fields utime and stime, proc(5).
        fields.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
    }

    /// Limits the size of files that the broker writes, in bytes.
    pub fn limit_file_size(&self, bytes: u64) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        prlimit(pid, Resource::Fsize, Rlimit { current: Some(bytes), maximum: None }).expect("limits can be lowered");
    }

    /// Returns the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the kernel has fd").count()
    }

    /// Returns the private memory in bytes. Private dirty pages would not do: those of a freshly built binary count as dirty
    /// until they are written to disk.
    pub fn private_bytes(&self) -> usize {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let text = std::fs::read_to_string(path).expect("the kernel has smaps_rollup");
        let kilobytes = text.lines().find_map(|line| line.strip_prefix("Anonymous:")?.strip_suffix("kB"));
        kilobytes.and_then(|number| number.trim().parse::<usize>().ok()).expect("smaps_rollup has a sum") * 1024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the IP addresses in a line of the log.
pub fn addresses(line: &str) -> Vec<SocketAddr> {
    let texts = line.split("http://").skip(1).filter_map(|rest| rest.split_whitespace().next());
    texts.map(|text| text.parse().expect("an address")).collect()
}

/// Returns the binary as a command, in an environment without the developer's own options.
pub fn command(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
    command.env_clear().env("ESKER_DATA", ":memory:").envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

/// Returns the exit code, standard output and standard error of a run that must exit by itself.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    finish(command(environment).args(arguments))
}

/// Runs any program that must exit by itself, like [`run`].
pub fn finish(command: &mut Command) -> (Option<i32>, String, String) {
    finish_within(command, TIMEOUT)
}

/// Runs any program that must exit by itself within this time.
pub fn finish_within(command: &mut Command, limit: Duration) -> (Option<i32>, String, String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    let begin = Instant::now();
    while child.try_wait().expect("the child can be waited for").is_none() {
        if begin.elapsed() > limit {
            let _ = child.kill();
            panic!("the program does not exit: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("its output can be read");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns the lines that a process prints. A thread reads them all the time, so that a full pipe doesn't block the process.
fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = unbounded();
    std::thread::spawn(move || {
        let mut stderr = BufReader::new(stderr);
        loop {
            let mut line = String::new();
            let count = stderr.read_line(&mut line).expect("the log is UTF-8");
            if count == 0 || sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
