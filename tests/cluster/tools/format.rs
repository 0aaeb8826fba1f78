//! The state of an engine, and the format of its log.

use super::super::cluster::Node;
use super::super::redis_server::RedisServer;
use super::super::{DURABLE, wait_until};
use super::{End, forget_brokers, key, lines, load, output_of, run};

/// The number of a broker that a test pretends.
const OLD: &str = "00000000000000aa";

#[test]
fn the_state_names_server_log_records_and_brokers() {
    let redis = RedisServer::start(&DURABLE);
    let url = redis.url();
    let empty = output_of(&["engine", "status", &url], "");
    assert!(
        empty.contains("\nlog         none with this --engine-prefix") && empty.contains("brokers     0\n"),
        "{empty}"
    );
    load(&redis, &lines(30));
    let node = Node::start(&["--engine", &url], &[]);
    let _stream = node.broker().subscribe("/events", "");
    let json = || -> serde_json::Value {
        serde_json::from_str(&output_of(&["engine", "status", &url, "--json"], "")).expect("JSON")
    };
    wait_until("registered", || json()["brokers"][0]["subscribers"] == 1);
    let state = json();
    assert_eq!(state["server"]["address"], redis.address().to_string());
    assert_eq!((&state["server"]["role"], &state["server"]["ack"]), (&"primary".into(), &"fsync".into()));
    assert_eq!((&state["log"]["format"], &state["log"]["newest_format"]), (&3.into(), &3.into()));
    assert_eq!((&state["records"]["records"], &state["records"]["names"]), (&30.into(), &3.into()));
    assert_eq!((&state["records"]["refused"], &state["sessions"]), (&serde_json::Value::Null, &1.into()));
    assert_eq!(state["brokers"][0]["version"], env!("CARGO_PKG_VERSION"));
    let text = output_of(&["engine", "status", &url], "");
    let broker = state["brokers"][0]["id"].as_str().expect("a number");
    for part in ["server      ", ", primary\n", "can be stored", "records     30, names: 3", broker, "sessions    1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_state_says_why_records_are_refused() {
    let url_and_state = |redis: &RedisServer| output_of(&["engine", "status", &redis.url()], "");
    let redis = RedisServer::start(&DURABLE);
    load(&redis, &lines(3));
    redis.command::<()>(&["HSET", &key("meta"), "layout", "1", "format", "1"]);
    let text = url_and_state(&redis);
    assert!(text.contains("log         format 1;") && text.contains("can't be stored: the log has format 1"), "{text}");
    let replica = RedisServer::start(&DURABLE);
    replica.replicate(&redis);
    let text = url_and_state(&replica);
    assert!(text.contains(", replica\n") && text.contains("no broker can use it: "), "{text}");
    assert!(text.contains("records     3, names: 3"), "{text}");
    let text = url_and_state(&RedisServer::start(&[]));
    assert!(text.contains("publishes   reply") && text.contains("can't be stored: "), "{text}");
    assert!(text.contains("warning: the engine keeps no append-only file"), "{text}");
    redis.command::<()>(&["ACL", "SETUSER", "few", "on", ">pw", "~*", "+@all", "-scan"]);
    let few = format!("redis://few:pw@{}", redis.address());
    let End { code, output, errors } = run(&["engine", "status", &few]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(output.contains("sessions    unknown"), "{output}");
    assert!(errors.contains("the URL contains a password"), "{errors}");
}

#[test]
fn the_format_is_raised_when_no_broker_is_too_old() {
    let redis = RedisServer::start(&DURABLE);
    let url = redis.url();
    load(&redis, &lines(3));
    let raise = |options: &[&str]| run(&[&["engine", "raise", &url], options].concat());
    let lower = || redis.command::<()>(&["HSET", &key("meta"), "layout", "1", "format", "1"]);
    let format = || redis.command::<String>(&["HGET", &key("meta"), "layout"]);
    assert_eq!(raise(&[]).output, "the log's format is already 3\n");
    lower();
    let node = Node::start(&["--engine", &url], &[]);
    let answer = node.broker().post("/insert", "", r#"{"event":"user","data":1}"#);
    assert_eq!(answer.status, 503, "{answer:?}");
    wait_until("registered", || redis.command::<u32>(&["HLEN", &key("brokers")]) == 1);
    assert_eq!(raise(&[]).output, "raised the log's format from 1 to 3\n");
    let answer = node.broker().post("/insert", "", r#"{"event":"user","data":1}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(node);
    // A session of a broker that registers nowhere, as those of older versions.
    lower();
    forget_brokers(&redis);
    redis.command::<()>(&["FLUSHALL"]);
    load(&redis, &lines(3));
    lower();
    let session = key(&format!("s:{OLD}"));
    let renew = |millis: &str| {
        redis.command::<()>(&["HSET", &session, "s", "x"]);
        redis.command::<()>(&["PEXPIRE", &session, millis]);
    };
    renew("600000");
    let End { code, errors, .. } = raise(&[]);
    assert_eq!((code, format().as_str()), (Some(1), "1"));
    assert!(
        errors.contains(&format!("broker {OLD}: an old version of Esker")) && errors.contains("--force"),
        "{errors}"
    );
    let forced = raise(&["--force"]);
    assert_eq!((forced.code, format().as_str()), (Some(0), "3"), "{}", forced.errors);
    assert!(forced.output.contains("from 1 to 3; these brokers") && forced.output.contains(OLD), "{}", forced.output);
    lower();
    renew("580000");
    assert_eq!(raise(&[]).output, "raised the log's format from 1 to 3\n", "the broker has ended");
    lower();
    let now: (u64, u64) = redis.command(&["TIME"]);
    redis.command::<()>(&["HSET", &key("brokers"), OLD, &format!("{}000000 1 3 0.9.0", now.0)]);
    let End { code, errors, .. } = raise(&[]);
    assert_eq!((code, format().as_str()), (Some(1), "1"));
    assert!(errors.contains(&format!("broker {OLD}: Esker 0.9.0, reads up to format 1")), "{errors}");
}
