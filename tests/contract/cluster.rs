//! `scripts/cluster`: three brokers behind a load balancer. An event published through the load balancer arrives, a stopped
//! broker's client resumes at another one, streams work while Redis hangs, and nothing is left behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::docs::free_port;
use super::support::{Connection, Response, Stream, TIMEOUT, TempDir, finish};

/// The script, running; stopped when dropped.
struct Cluster {
    child: Child,
    home: TempDir,
    balancer: SocketAddr,
}

/// A broker that the script has started.
struct Broker {
    pid: u32,
    address: SocketAddr,
}

/// Returns the script as a command that finds the binary of this test as if it had been built.
fn script(home: &TempDir, port: u16) -> Command {
    let release = home.path.join("target/release");
    fs::create_dir_all(&release).expect("a directory can be made");
    symlink(env!("CARGO_BIN_EXE_esker"), release.join("esker")).expect("a link can be made");
    // Programs in the background ignore SIGINT, and so do their children; a shell can't change that.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster"), &port.to_string()]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("CARGO_TARGET_DIR", home.path.join("target")).env("TMPDIR", &home.path).env("HOME", &home.path);
    command
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < 3 * TIMEOUT, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send_signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

fn is_running(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

/// Returns the children of a process: their ids and names.
fn children(parent: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").expect("the kernel has /proc").flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let child = |stat: String| {
        // proc(5): the id, the name in parentheses, the state, the parent.
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        (rest.split(' ').nth(1)? == parent.to_string()).then_some((pid.parse().ok()?, name.to_owned()))
    };
    stats.filter_map(child).collect()
}

fn get(address: SocketAddr, path: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    connection.response()
}

impl Cluster {
    fn start() -> Self {
        let home = TempDir::new();
        let port = free_port();
        let out = fs::File::create(home.path.join("log")).expect("a file can be made");
        let mut command = script(&home, port);
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("a file can be cloned")).stderr(out);
        let mut cluster = Self {
            child: command.spawn().expect("the script starts"),
            home,
            balancer: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        let begin = Instant::now();
        while !cluster.home.log().contains("Ctrl-C stops everything") {
            let ended = cluster.child.try_wait().expect("the child can be waited for");
            assert!(ended.is_none() && begin.elapsed() < 3 * TIMEOUT, "{}", cluster.home.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster
    }

    /// Returns the brokers that the script's text names: `  kill 17      # http://127.0.0.1:3001`.
    fn brokers(&self) -> Vec<Broker> {
        let log = self.home.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix("  kill ")?.split_once(" "));
        let parse = |(pid, rest): (&str, &str)| Broker {
            pid: pid.parse().expect("a number"),
            address: rest.trim_start_matches([' ', '#']).trim_start_matches("http://").parse().expect("an address"),
        };
        lines.map(parse).collect()
    }

    fn subscribe(&self, fields: &str) -> Stream {
        Stream::open(Connection::open(self.balancer), "/subscribe/greeting", fields)
    }

    /// Publishes through the load balancer, as the script suggests, and returns the id.
    fn publish(&self, data: &str) -> String {
        let mut connection = Connection::open(self.balancer);
        let body = format!("data: {data}");
        let length = body.len();
        connection.send(format!(
            "POST /publish/greeting HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let response = connection.response();
        assert_eq!(response.status, 200, "{response:?} {}", self.logs());
        response.json()["id"].as_str().expect("an id").to_owned()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.home.path).expect("the directory exists").flatten();
        let is_own = |path: &PathBuf| path.display().to_string().contains("esker-cluster.");
        entries.map(|entry| entry.path()).filter(is_own).collect()
    }

    /// Returns what the programs have printed.
    fn logs(&self) -> String {
        let files = self.folders().into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
    }

    fn stop(&mut self) -> Option<i32> {
        send_signal("INT", self.child.id());
        let begin = Instant::now();
        while begin.elapsed() < 2 * TIMEOUT {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the script does not stop: {}", self.home.log());
    }
}

impl Drop for Cluster {
    /// After a failed test: the script stops the programs that it has started.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let programs = children(self.child.id());
            for (pid, _) in &programs {
                let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).status();
            }
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
    }
}

#[test]
fn clients_of_a_stopped_broker_resume_at_another() {
    let mut cluster = Cluster::start();
    let brokers = cluster.brokers();
    assert_eq!(brokers.len(), 3, "{}", cluster.home.log());
    let mut stream = cluster.subscribe("");
    let first = cluster.publish("one");
    assert_eq!(stream.event().id.as_deref(), Some(first.as_str()));
    let serves_it = |broker: &&Broker| get(broker.address, "/stats").json()["subscribers"] == 1;
    let stopped = brokers.iter().find(serves_it).expect("one of them serves the stream");
    send_signal("TERM", stopped.pid);
    assert_eq!(stream.next(), None);
    let second = cluster.publish("two");
    let mut stream = cluster.subscribe(&format!("Last-Event-ID: {first}\r\n"));
    let event = stream.event();
    assert_eq!((event.id, event.data.as_deref()), (Some(second), Some("two")));
    wait_until("the script reports the broker", || cluster.home.log().contains("has stopped"));
    let programs = children(cluster.child.id());
    assert!(programs.iter().filter(|(_, name)| name == "esker").count() == 2 && programs.len() >= 4, "{programs:?}");
    assert_eq!(cluster.stop(), Some(0), "{}", cluster.home.log());
    let left: Vec<_> = programs.iter().filter(|(pid, _)| is_running(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(cluster.folders(), [] as [PathBuf; 0]);
}

/// Without its engine no broker is ready, but a status other than 200 would stop an EventSource for good.
#[test]
fn streams_are_served_while_redis_hangs() {
    let mut cluster = Cluster::start();
    let first = cluster.publish("one");
    let programs = children(cluster.child.id());
    let (redis, _) = programs.iter().find(|(_, name)| name.contains("-server")).expect("it is running");
    send_signal("STOP", *redis);
    wait_until("the load balancer finds no broker ready", || {
        cluster.logs().contains("'ready' has no server available")
    });
    let mut stream = cluster.subscribe("Last-Event-ID: 0\r\n");
    assert_eq!(stream.event().id.as_deref(), Some(first.as_str()));
    send_signal("CONT", *redis);
    wait_until("all brokers are ready", || {
        cluster.brokers().iter().all(|broker| get(broker.address, "/healthz").status == 200)
    });
    wait_until("the load balancer knows", || get(cluster.balancer, "/healthz").status == 200);
    let second = cluster.publish("two");
    assert_eq!(stream.event().id.as_deref(), Some(second.as_str()));
    assert_eq!(cluster.stop(), Some(0), "{}", cluster.home.log());
}

#[test]
fn a_port_in_use_is_reported() {
    let home = TempDir::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("a listener has an address").port();
    let (code, out, err) = finish(&mut script(&home, port));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&format!("port {port} is in use")) && err.contains("scripts/cluster 8080"), "{err}");
}
