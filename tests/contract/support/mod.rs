//! Starts the binary, and speaks HTTP and server-sent events to it in the plainest way there is, so
//! that what is tested is the broker and not a client's kindness. Every wait has a bound.

mod crowd;
mod http;
mod pieces;
mod program;
mod proxy;
mod stream;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

pub use crowd::{Crowd, connect_small};
pub use http::{Connection, Response};
pub use pieces::Pieces;
pub use program::{Folder, Program};
pub use proxy::Proxy;
pub use stream::{Event, Stream};

/// No answer takes longer, or the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker; killed when dropped.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    stderr: BufReader<ChildStderr>,
}

impl Broker {
    /// Starts the binary without authentication on a free port.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same with environment variables.
    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(command(environment), arguments)
    }

    /// The same by a command that becomes the binary.
    pub fn start_as(mut command: Command, arguments: &[&str]) -> Self {
        let mut child = command
            .args(["--no-auth", "--port", "0"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let address = listening_address(&mut stderr);
        Self { child, address, stderr }
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
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: esker\r\n\r\n"))
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
        let head = format!("POST {target} HTTP/1.1\r\nHost: esker\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.ask([head.as_bytes(), body].concat())
    }

    /// Opens a stream, and demands 200; `fields` are header fields such as `"Last-Event-ID: 5\r\n"`.
    pub fn subscribe(&self, target: &str, fields: &str) -> Stream {
        Stream::open(self.connect(), target, fields)
    }

    pub fn stats(&self) -> serde_json::Value {
        self.get("/stats").json()
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
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).expect("the log is UTF-8");
        (status.code(), log)
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

/// The binary, in an environment without options of the developer's own.
pub fn command(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker"));
    command.env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command
}

fn listening_address(stderr: &mut impl BufRead) -> SocketAddr {
    let mut line = String::new();
    while stderr.read_line(&mut line).expect("the log can be read") > 0 {
        if let Some(address) = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()) {
            return address.parse().expect("the log names an address");
        }
        line.clear();
    }
    panic!("the broker ended before it said where it listens");
}
