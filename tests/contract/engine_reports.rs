//! What a broker says of its engine in `/stats`, `/metrics` and the log, with a real server.

use std::process::Command;

use serde_json::Value;

use super::redis_server::RedisServer;
use super::support::{Broker, TempDir, command};

const PASSWORD: &str = "s3cret-of-the-engine";

#[test]
fn stats_and_metrics_show_the_engine_and_never_its_password() {
    let redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always", "--requirepass", PASSWORD]);
    let address = format!("redis://{}", redis.address());
    let environment = [("ESKER_ENGINE", address.as_str()), ("ESKER_ENGINE_PASSWORD", PASSWORD), ("ESKER_LOG", "trace")];
    let broker = Broker::start_with(&[], &environment);
    broker.publish("topicone1", "data: 1\n\ndata: 2");
    let metrics = broker.metrics_once("applied", |metrics| metrics.value("esker_engine_events_followed_total") == 2.0);
    let stats = broker.stats();
    let engine = &stats["engine"];
    assert_eq!((engine["up"].as_bool(), engine["state"].as_str()), (Some(true), Some("ready")), "{engine}");
    assert_eq!(
        (engine["address"].as_str(), engine["ack"].as_str()),
        (Some(address.as_str()), Some("fsync")),
        "{engine}"
    );
    assert!(
        engine["server"].as_str().is_some_and(|server| server.contains("edis") || server.contains("alkey")),
        "{engine}"
    );
    assert_eq!((&engine["reason"], &engine["newest_id"]), (&Value::Null, &engine["applied_id"]), "{engine}");
    for (member, name) in [
        ("events_appended", "esker_engine_events_appended_total"),
        ("batches", "esker_engine_batches_total"),
        ("era", "esker_engine_era"),
        ("reconnects", "esker_engine_reconnects_total"),
        ("warm_up_seconds", "esker_engine_warm_up_seconds"),
    ] {
        assert_eq!(engine[member].as_f64(), Some(metrics.value(name)), "{member}");
    }
    assert_eq!((engine["events_appended"].as_u64(), engine["batches"].as_u64()), (Some(2), Some(1)));
    assert!(!stats.to_string().contains(PASSWORD) && !broker.get("/metrics").text().contains(PASSWORD));
    broker.signal("TERM");
    let (code, log) = broker.wait();
    assert!(code == Some(0) && !log.contains(PASSWORD), "{log}");
}

#[test]
fn without_an_engine_nothing_of_one_is_shown() {
    let broker = Broker::start(&[]);
    assert!(broker.stats().get("engine").is_none());
    assert!(!broker.get("/metrics").text().contains("esker_engine"));
}

/// Starts a broker, stops it, and returns its whole log.
fn log_of(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let dir = TempDir::new();
    let file = dir.path.join("log");
    let mut shell = Command::new("bash");
    shell.env_clear().env("PATH", "/usr/bin:/bin").envs(environment.iter().copied());
    shell.args(["-c", &format!("exec \"$0\" \"$@\" 2> >(tee {} >&2)", file.display())]);
    shell.arg(command(&[]).get_program());
    let broker = Broker::start_command(shell, arguments);
    broker.signal("TERM");
    let (code, _) = broker.wait();
    assert_eq!(code, Some(0));
    std::fs::read_to_string(file).expect("it was written")
}

#[test]
fn a_visible_password_causes_a_warning() {
    let redis = RedisServer::start(&["--requirepass", PASSWORD]);
    let url = format!("redis://:{PASSWORD}@{}", redis.address());
    let visible = log_of(&["--engine", &url], &[]);
    assert!(visible.contains("--engine contains a password"), "{visible}");
    assert!(visible.contains("records are refused, because the engine can't prove"), "{visible}");
    let hidden = log_of(&[], &[("ESKER_ENGINE", &url), ("ESKER_LOG", "trace")]);
    assert!(!hidden.contains("contains a password"), "{hidden}");
    assert!(!(visible + &hidden).contains(PASSWORD));
}

#[test]
fn an_outage_is_logged_with_its_reason_and_its_end() {
    let mut redis = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let broker = Broker::start_with(&["--engine", &redis.url()], &[]);
    redis.kill();
    let warning = broker.wait_for_log("publishes wait and are then refused, streams continue");
    assert!(warning.contains("WARN") && warning.contains("the engine"), "{warning}");
    broker.wait_for("lost", |stats| stats["engine"]["state"] == "lost" && stats["engine"]["reason"].is_string());
    redis.restart();
    let end = broker.wait_for_log("the engine is back after ");
    assert!(end.contains("INFO"), "{end}");
}
