//! Records move between directories and engines.

use std::fmt::Write as _;

use super::super::DURABLE;
use super::super::cluster::Node;
use super::super::redis_server::RedisServer;
use super::super::support::TempDir;
use super::{End, forget_brokers, key, lines, load, output_of, run, run_with};

/// Returns lines of records of all sorts, with ids of the past.
fn records(count: u64) -> String {
    let mut text = String::new();
    for number in 0..count {
        let name = match number % 7 {
            0 => "user".to_owned(),
            1 => "a b".to_owned(),
            2 => r#"q\"\\"#.to_owned(),
            3 => "é".repeat(1 + number as usize % 120),
            4 => "x".repeat(256),
            _ => format!("n{}", number % 401),
        };
        let data = match number % 6 {
            0 => "1e99".to_owned(),
            1 => r#"{"b":1,"a":[],"b":2}"#.to_owned(),
            2 => format!("\"{}\"", "y".repeat(number as usize % 5000)),
            3 => "\"\u{2028}é\\u0000\"".to_owned(),
            4 => "[".repeat(128) + &"]".repeat(128),
            _ => "null".to_owned(),
        };
        let id = 1_700_000_000_000_000 + number * 999;
        writeln!(text, "{{\"id\":\"{id}\",\"event\":\"{name}\",\"data\":{data}}}").expect("a string can be written");
    }
    text
}

#[test]
fn records_move_between_a_directory_and_an_engine_byte_for_byte() {
    let redis = RedisServer::start(&DURABLE);
    let dir = TempDir::new();
    let [one, other] = ["one", "other"].map(|name| dir.path.join(name).display().to_string());
    output_of(&["load", &one], &records(5000));
    let dump = output_of(&["dump", &one], "");
    assert_eq!(dump.lines().count(), 5000);
    load(&redis, &dump);
    assert_eq!(output_of(&["dump", &redis.url()], ""), dump);
    let checked = run(&["check", &redis.url()]);
    assert_eq!(
        (checked.code, checked.errors.contains("records: 5000, names: ")),
        (Some(0), true),
        "{}",
        checked.errors
    );
    assert!(checked.errors.ends_with("no problems found\n"), "{}", checked.errors);
    for name in ["user", "q\"\\", "nobody", "\u{1}"] {
        let named = |keeper: &str| output_of(&["dump", keeper, "--event", name], "");
        assert_eq!(named(&redis.url()), named(&one), "{name}");
    }
    output_of(&["load", &other], &output_of(&["dump", &redis.url()], ""));
    assert_eq!(output_of(&["dump", &other], ""), dump);
}

#[test]
fn loaded_records_are_shown_by_brokers_and_positions_pass_them() {
    let redis = RedisServer::start(&DURABLE);
    let mut node = Node::start(&["--engine", &redis.url()], &[]);
    let before = node.broker().publish("topicone1", "data: 1")["id"].as_str().map(str::to_owned);
    let insert = |node: &Node| {
        let answer = node.broker().post("/insert", "", r#"{"event":"own","data":1}"#);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let End { code, errors, .. } = run_with(&["load", &redis.url()], &lines(3));
    assert_eq!(code, Some(1));
    assert!(errors.contains("1 broker uses this log; stop every broker first"), "{errors}");
    node.kill();
    forget_brokers(&redis);
    load(&redis, &lines(30));
    node.restart();
    let broker = node.broker();
    let mut stream = broker.subscribe("/events", "");
    let ids: Vec<u64> = (0..3).map(|_| stream.event().number()).collect();
    assert_eq!(ids, [28, 29, 30], "the newest of each name");
    let audited = broker.get("/audit/n1").text();
    assert!(audited.starts_with("{\"n1_v_1\":1,\"n1_v_4\":4,") && audited.ends_with("\"n1_v_28\":28}\n"), "{audited}");
    let mut stream = broker.subscribe("/events", "Last-Event-ID: 29\r\n");
    assert_eq!(stream.event().number(), 30, "a position is that of a loaded record");
    let id = insert(&node);
    assert_eq!(stream.event().id.as_deref(), Some(&*id));
    let mut topic = node.broker().subscribe("/subscribe/topicone1", "Last-Event-ID: 0\r\n");
    assert_eq!(topic.event().id, before, "topics keep their events");
    assert!(
        output_of(&["dump", &redis.url()], "")
            .ends_with(&format!("{{\"id\":\"{id}\",\"event\":\"own\",\"data\":1}}\n"))
    );
    let checked = run(&["check", &redis.url()]);
    assert_eq!(checked.code, Some(0), "while a broker is running: {}", checked.errors);
}

#[test]
fn a_load_is_refused_as_by_a_directory_and_for_the_engines_reasons() {
    let redis = RedisServer::start(&DURABLE);
    let refused = |arguments: &[&str], lines: &str, part: &str| {
        let url = redis.url();
        let End { code, errors, .. } = run_with(&[&["load", &url], arguments].concat(), lines);
        assert_eq!(code, Some(1), "{part}");
        assert!(errors.contains(part), "{part}: {errors}");
    };
    let bad = lines(2) + "{\"id\":\"3\",\"event\":\"\",\"data\":1}\n";
    refused(&[], &bad, "line 3: the name is empty");
    assert_eq!(output_of(&["dump", &redis.url()], ""), lines(2), "records before a bad line are stored");
    refused(&[], &lines(3), "line 1: id 1 is not larger than the newest id, 2");
    let later = "{\"id\":\"9000000000000000\",\"event\":\"a\",\"data\":1}\n";
    refused(&[], later, "is more than a minute ahead of the engine's clock");
    let next = "{\"id\":\"3\",\"event\":\"a\",\"data\":1}\n";
    refused(&["--engine-records", "700"], next, "records have reached --engine-records");
    redis.command::<()>(&["HSET", &key("meta"), "layout", "1", "format", "1"]);
    refused(&[], next, "run esker engine raise");
    redis.command::<()>(&["HSET", &key("meta"), "layout", "2", "format", "2"]);
    redis.config_set("appendfsync", "no");
    refused(&[], next, "can't prove that records are on its disk");
    redis.config_set("appendfsync", "always");
    load(&redis, next);
    let plain = RedisServer::start(&[]);
    let End { code, errors, .. } = run_with(&["load", &plain.url()], next);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("append-only file"), "{errors}");
}

#[test]
fn an_engine_without_a_log_has_no_records() {
    let redis = RedisServer::start(&DURABLE);
    for arguments in [&["dump"][..], &["check"], &["engine", "raise"]] {
        let url = redis.url();
        let End { code, errors, .. } = run(&[arguments, &[&url, "--engine-prefix", "other"]].concat());
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("no log at {other}:1:log"), "{errors}");
    }
    assert_eq!(redis.command::<Vec<String>>(&["KEYS", "*"]), [""; 0], "they create nothing");
    let url = "redis://127.0.0.1:1";
    for arguments in [&["dump", url][..], &["load", url], &["check", url], &["engine", "status", url]] {
        let End { code, errors, .. } = run(arguments);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("the engine can't be reached: 127.0.0.1:1"), "{errors}");
    }
}

#[test]
fn the_rights_of_a_broker_suffice_and_those_that_the_help_names() {
    let redis = RedisServer::start(&DURABLE);
    let rights = esker::internals::engine::redis::acl_rules("{esker}", redis.is_at_least(7, 2));
    let set_user = |more: &str| {
        let words = ["ACL", "SETUSER", "few", "on", ">pw"].into_iter().chain(rights.split(' '));
        redis.command::<()>(&words.chain(more.split_whitespace()).collect::<Vec<_>>());
    };
    let url = format!("redis://few@{}", redis.address());
    let run_as = |arguments: &[&str], lines: &str| {
        let environment = [("ESKER_ENGINE_PASSWORD", "pw")];
        super::run_in(&[arguments, &[&url]].concat(), &environment, lines)
    };
    set_user("");
    for (arguments, input) in [(&["load"][..], lines(30)), (&["dump"], String::new()), (&["check"], String::new())] {
        let End { code, errors, .. } = run_as(arguments, &input);
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
    }
    let help = output_of(&["engine", "--help"], "");
    assert!(help.contains("+scan +pttl +zcard"), "{help}");
    for arguments in [&["engine", "status"][..], &["engine", "raise"]] {
        set_user("");
        let End { code, errors, .. } = run_as(arguments, "");
        assert_eq!(code, Some(1));
        assert!(errors.contains("lacks a right"), "{errors}");
        set_user("+scan +pttl +zcard");
        let End { code, errors, .. } = run_as(arguments, "");
        assert_eq!(code, Some(0), "{arguments:?}: {errors}");
    }
}
