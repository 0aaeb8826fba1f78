//! What stops a broker from starting, and how it says so.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::redis_server::{RedisServer, free_port};
use super::support::{Broker, TempDir, command};
use super::{DURABLE, PATIENCE};

/// A password that must not be shown.
const PASSWORD: &str = "hunter2-is-secret";

/// Starts the binary, which must not listen.
struct Attempt {
    child: Child,
    _home: TempDir,
}

impl Attempt {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let home = TempDir::new();
        let mut command = command(environment);
        command.env_remove("ESKER_DATA").current_dir(&home.path).args(["--no-auth", "--port", "0"]).args(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self { child: child.expect("the binary starts"), _home: home }
    }

    /// Waits for its exit; returns its exit code, and all that it printed.
    fn finish(mut self) -> (Option<i32>, String) {
        let begin = Instant::now();
        while self.child.try_wait().expect("the child can be waited for").is_none() {
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it does not exit");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let output = self.child.wait_with_output().expect("its output can be read");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(!text.contains("listens on"), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
        (output.status.code(), text)
    }
}

/// Asserts that the broker does not start on this server, and that it names each of these.
fn assert_refused(redis: &RedisServer, environment: &[(&str, &str)], words: &[&str]) {
    let (code, text) = Attempt::start(&["--engine", &redis.url()], environment).finish();
    assert_eq!(code, Some(1), "{text}");
    let lower = text.to_lowercase();
    words.iter().for_each(|word| assert!(lower.contains(&word.to_lowercase()), "{word} is not in: {text}"));
}

#[test]
fn a_wrong_password_is_an_error() {
    let redis = RedisServer::start(&["--requirepass", PASSWORD]);
    assert_refused(&redis, &[], &["password", "ESKER_ENGINE_PASSWORD"]);
    assert_refused(&redis, &[("ESKER_ENGINE_PASSWORD", "wrong")], &["password"]);
}

#[test]
fn a_password_is_not_shown() {
    let redis = RedisServer::start(&["--requirepass", PASSWORD]);
    let start = |url: &str, environment: &[(&str, &str)]| {
        let home = TempDir::new();
        let mut command: Command = command(environment);
        command.env_remove("ESKER_DATA").current_dir(&home.path);
        let broker = Broker::start_command(command, &["--engine", url]);
        broker.publish("topicone11", "data: accepted");
        let stats = broker.get("/stats").text();
        assert!(!stats.contains(PASSWORD), "{stats}");
        broker.signal("TERM");
        let (code, log) = broker.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains(PASSWORD), "{log}");
    };
    start(&redis.url(), &[("ESKER_ENGINE_PASSWORD", PASSWORD)]);
    start(&format!("redis://:{PASSWORD}@{}", redis.address()), &[]);
}

/// The warning comes before the address at which the broker listens.
#[test]
fn a_password_on_the_command_line_is_warned_about() {
    let url = format!("redis://:{PASSWORD}@127.0.0.1:1");
    let attempt = Attempt::start(&["--engine", &url, "--bind", "192.0.2.1"], &[]);
    attempt_terminate(&attempt);
    let (_, text) = attempt.finish();
    assert!(text.contains("ESKER_ENGINE_PASSWORD"), "{text}");
}

#[test]
fn a_user_without_rights_is_an_error() {
    let redis = RedisServer::start(&DURABLE);
    redis.command::<()>(&["ACL", "SETUSER", "weak", "on", ">weak-password", "~*", "+ping", "+info"]);
    let url = format!("redis://weak@{}", redis.address());
    let environment = [("ESKER_ENGINE_PASSWORD", "weak-password")];
    let (code, text) = Attempt::start(&["--engine", &url], &environment).finish();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("lacks a right") && text.contains("NOPERM"), "{text}");
}

#[test]
fn a_server_that_evicts_is_an_error() {
    let redis = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    assert_refused(&redis, &[], &["allkeys-lru", "noeviction"]);
}

#[test]
fn a_cluster_is_an_error() {
    let redis = RedisServer::start(&["--cluster-enabled", "yes"]);
    assert_refused(&redis, &[], &["Cluster"]);
}

#[test]
fn a_key_of_another_type_is_an_error() {
    for key in ["{esker}:1:log", "{esker}:1:meta"] {
        let redis = RedisServer::start(&DURABLE);
        redis.command::<()>(&["SET", key, "something else"]);
        assert_refused(&redis, &[], &[key, "--engine-prefix"]);
    }
}

#[test]
fn two_prefixes_are_two_logs() {
    let redis = RedisServer::start(&DURABLE);
    let start = |prefix: &str| {
        let home = TempDir::new();
        let mut command = command(&[]);
        command.env_remove("ESKER_DATA").current_dir(&home.path);
        Broker::start_command(command, &["--engine", &redis.url(), "--engine-prefix", prefix])
    };
    let (one, two) = (start("{one}"), start("{two}"));
    one.publish("topicone11", "data: one");
    two.publish("topicone11", "data: two");
    for (broker, data) in [(&one, "one"), (&two, "two")] {
        let mut stream = broker.subscribe("/subscribe/topicone11", "Last-Event-ID: 0\r\n");
        assert_eq!(stream.event().data.as_deref(), Some(data));
    }
    let keys = redis.command::<Vec<String>>(&["KEYS", "*"]);
    assert!(keys.iter().all(|key| key.starts_with("{one}:1:") || key.starts_with("{two}:1:")), "{keys:?}");
}

/// Takes half a minute, in which others may run.
#[test]
fn a_server_that_is_not_there_ends_the_start() {
    let address = format!("127.0.0.1:{}", free_port(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let (code, text) = Attempt::start(&["--engine", &format!("redis://{address}")], &[]).finish();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&address) && text.contains("can't be reached"), "{text}");
}

#[test]
fn a_signal_ends_the_wait_for_the_server() {
    let address = format!("127.0.0.1:{}", free_port(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let attempt = Attempt::start(&["--engine", &format!("redis://{address}")], &[]);
    attempt_terminate(&attempt);
    let (code, text) = attempt.finish();
    assert_eq!(code, Some(0), "{text}");
}

/// A server that is still starting is waited for.
#[test]
fn a_server_that_comes_late_is_found() {
    let mut redis = RedisServer::start(&DURABLE);
    redis.kill();
    let url = redis.url();
    let broker = std::thread::spawn(move || Broker::start(&["--engine", &url]));
    std::thread::sleep(std::time::Duration::from_secs(1));
    redis.restart();
    let broker = broker.join().expect("the broker starts");
    broker.publish("topicone11", "data: accepted");
    broker.assert_healthy();
}

/// Sends SIGTERM when the process has begun to wait for the server.
fn attempt_terminate(attempt: &Attempt) {
    // It has no listener that would say so: it has done nothing but start.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let status = Command::new("kill").args(["-TERM", &attempt.child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}
