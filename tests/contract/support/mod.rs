//! Starts the binary, and speaks HTTP and server-sent events to it in the plainest way there is, so
//! that what is tested is the broker and not a client's kindness. Every wait has a bound.

pub mod crowd;
mod disk;
mod http;
mod metrics;
pub mod openssl;
mod pieces;
mod program;
mod proxy;
pub mod shim;
mod small_disk;
mod stream;
pub mod tokens;
mod unread;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

pub use crowd::{Crowd, connect_small};
pub use disk::{Disk, Trouble};
pub use http::{Connection, Response};
pub use metrics::Metrics;
pub use pieces::Pieces;
pub use program::{Folder, Program};
pub use proxy::Proxy;
pub use small_disk::on_small_disk;
pub use stream::{EXPIRED, Event, Stream};
pub use unread::Unread;

/// No answer takes longer, or the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker; killed when dropped.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    /// All IP addresses in the order of its log, that of the administration last.
    pub addresses: Vec<SocketAddr>,
    log: Receiver<String>,
    /// The field with which `/stats` is asked for.
    pass: String,
}

impl Broker {
    /// Starts the binary without authentication on a free port. It serves every origin and host unless the arguments or the
    /// environment list origins.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same with environment variables.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(command(environment), arguments)
    }

    /// The same by a command that becomes the binary.
    pub fn start_as(command: Command, arguments: &[&str]) -> Self {
        let arguments = [&["--port", "0"], arguments].concat();
        Self::start_listening(command, &arguments)
    }

    /// The same, but where it listens is for the arguments to say.
    pub fn start_listening(command: Command, arguments: &[&str]) -> Self {
        let lists_origins =
            arguments.contains(&"--origin") || command.get_envs().any(|(name, _)| name == "ESKER_ORIGIN");
        let origin: &[&str] = if lists_origins { &[] } else { &["--origin", "*"] };
        Self::spawn(command, &[&["--no-auth"], origin, arguments].concat())
    }

    /// Starts the binary without authentication and with the default for origins: it serves this machine.
    pub fn start_guarded(arguments: &[&str]) -> Self {
        Self::spawn(command(&[]), &[&["--no-auth"], arguments].concat())
    }

    /// Starts the binary with tokens, whose keys are among the arguments or in the environment. `/stats` is asked for
    /// with a token of [`tokens::PUBLISHER`].
    pub fn start_secured(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_secured_as(command(environment), arguments)
    }

    /// The same by a command that becomes the binary.
    pub fn start_secured_as(command: Command, arguments: &[&str]) -> Self {
        let mut broker = Self::spawn(command, &[&["--port", "0"], arguments].concat());
        broker.pass = tokens::bearer(&tokens::publisher("stats"));
        broker
    }

    /// The same with a log that nobody reads after its first line: the pipe is full.
    pub fn start_unread(arguments: &[&str], environment: &[(&str, &str)]) -> (Self, Unread) {
        let mut command = command(environment);
        let (child, mut unread) = Unread::spawn(command.envs(tokens::SECRETS).args(["--port", "0"]).args(arguments));
        let (sender, log) = unbounded();
        sender.send(unread.next().expect("a first line")).expect("the receiver is here");
        let mut broker = Self::await_address(child, log);
        broker.pass = tokens::bearer(&tokens::publisher("stats"));
        unread.fill();
        (broker, unread)
    }

    fn spawn(mut command: Command, arguments: &[&str]) -> Self {
        let child = command.args(arguments).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the binary starts");
        let log = lines(child.stderr.take().expect("stderr is piped"));
        Self::await_address(child, log)
    }

    fn await_address(child: Child, log: Receiver<String>) -> Self {
        // Made before anything is waited for, so that a failure kills the child.
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut broker = Self { child, address: nowhere, addresses: Vec::new(), log, pass: String::new() };
        let line = broker.logged("listens on");
        // The first, if there is one: it may listen on Unix sockets only.
        broker.addresses = addresses(&line);
        broker.address = broker.addresses.first().copied().unwrap_or(nowhere);
        broker
    }

    /// The next line of the log with this part; it must come.
    pub fn logged(&self, part: &str) -> String {
        let mut before = String::new();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before += &line,
                Err(error) => panic!("the log never says {part:?} ({error}), but:\n{before}"),
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        let mut connection = self.connect();
        connection.send(request);
        connection.response()
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Posts SSE text, and demands 200.
    pub fn publish(&self, topic: &str, body: &str) -> serde_json::Value {
        let response = self.post(&format!("/publish/{topic}"), "", body);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// Posts with header fields such as `"Content-Type: text/plain\r\n"`.
    pub fn post(&self, target: &str, fields: &str, body: impl AsRef<[u8]>) -> Response {
        let body = body.as_ref();
        let head =
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.ask([head.as_bytes(), body].concat())
    }

    /// Opens a stream, and demands 200; `fields` are header fields such as `"Last-Event-ID: 5\r\n"`.
    pub fn subscribe(&self, target: &str, fields: &str) -> Stream {
        Stream::open(self.connect(), target, fields)
    }

    pub fn stats(&self) -> serde_json::Value {
        let Self { pass, .. } = self;
        self.ask(format!("GET /stats HTTP/1.1\r\nHost: localhost\r\n{pass}\r\n")).json()
    }

    pub fn metrics(&self) -> Metrics {
        let Self { pass, .. } = self;
        let response = self.ask(format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{pass}\r\n"));
        assert_eq!(response.status, 200, "{response:?}");
        Metrics::parse(&response.text())
    }

    /// The same once they say so.
    pub fn metrics_once(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) -> Metrics {
        let begin = Instant::now();
        loop {
            let metrics = self.metrics();
            if is_so(&metrics) {
                return metrics;
            }
            assert!(begin.elapsed() < PATIENCE, "never {what}: {metrics:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until `/stats` says so.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        let begin = Instant::now();
        loop {
            let stats = self.stats();
            if is_so(&stats) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "never {what}: {stats}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Still serves: asked after every attack.
    pub fn assert_well(&self) {
        let response = self.get("/healthz");
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }

    /// Sends a signal such as `TERM`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }

    /// Waits for the process to end by itself; its exit code and what it still logged.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "the broker does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        (status.code(), self.log.iter().collect())
    }

    /// From now on it may have so many descriptors, though more may be open already.
    pub fn limit_descriptors(&self, limit: u64) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        let limit = Rlimit { current: Some(limit), maximum: getrlimit(Resource::Nofile).maximum };
        prlimit(pid, Resource::Nofile, limit).expect("limits can be lowered");
    }

    /// Processor time it has taken, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the kernel has stat");
        let (_, fields) = text.rsplit_once(')').expect("the name is in parentheses");
        // The fields utime and stime, proc(5).
        fields.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
    }

    /// From now on no file may grow beyond this many bytes.
    pub fn limit_file_size(&self, bytes: u64) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        prlimit(pid, Resource::Fsize, Rlimit { current: Some(bytes), maximum: None }).expect("limits can be lowered");
    }

    /// How many descriptors it has.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the kernel has fd").count()
    }

    /// Memory of its own in bytes, from the kernel's sums. Not the private dirty pages: those of a
    /// binary that has just been built count as dirty until they are on the disk.
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

/// The IP addresses in a line of the log.
pub fn addresses(line: &str) -> Vec<SocketAddr> {
    let texts = line.split("http://").skip(1).filter_map(|rest| rest.split_whitespace().next());
    texts.map(|text| text.parse().expect("an address")).collect()
}

/// The binary, in an environment without options of the developer's own.
pub fn command(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
    command.env_clear().env("ESKER_DATA", ":memory:").envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error of a run that must end by itself.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    finish(command(environment).args(arguments))
}

/// The same of any program.
pub fn finish(command: &mut Command) -> (Option<i32>, String, String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs it"));
    let begin = Instant::now();
    while child.try_wait().expect("the child can be waited for").is_none() {
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it does not end: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("its output can be read");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a process says, line by line until it ends; read all the time, so that a full pipe stops nobody.
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
