//! Servers, users and keys that don't fit.

use std::io::{Read, Write};
use std::net::TcpListener;

use esker::internals::engine::FORMAT;
use esker::internals::engine::log::{
    Attach, Hello, Log, LogError, ReadRecords as _, Refusal, Revocations as _, Revoke,
};
use esker::internals::engine::redis::acl_rules;
use esker::internals::engine::settings::{EngineAddress, Tls};

use crate::conformance::{AMPLE, Broker};
use crate::records::{records, refusal};
use crate::redis_server::RedisServer;
use crate::support::{Vary as _, at, connect, free_port, local, settings, try_connect};

fn setup<T>(result: Result<T, LogError>) -> String {
    let (refusal, why) = refusal(result);
    assert_eq!(refusal, Refusal::Setup, "{why}");
    why
}

#[test]
fn a_wrong_password_is_named() {
    let server = RedisServer::start(&["--requirepass", "secret"]);
    assert!(try_connect(settings(&server).login(None, "secret")).is_ok());
    for (settings, words) in [
        (settings(&server), "it demands a password"),
        (settings(&server).login(None, "guess"), "the user or the password is wrong"),
        (settings(&server).login(Some("nobody"), "secret"), "the user or the password is wrong"),
    ] {
        let why = setup(try_connect(settings));
        assert!(why.contains(words) && !why.contains("guess") && !why.contains("secret"), "{why}");
    }
}

#[test]
fn a_password_that_nobody_asked_for_is_refused() {
    let server = RedisServer::start(&[]);
    let why = setup(try_connect(settings(&server).login(None, "guess")));
    assert!(why.contains("it does not accept this password") && !why.contains("guess"), "{why}");
}

/// Does everything that a broker does.
fn do_everything(settings: esker::internals::engine::EngineSettings) -> Result<(), LogError> {
    let small = esker::internals::engine::settings::Retention { bytes: 10, ..AMPLE };
    let mut log = try_connect(settings.retaining(small))?;
    log.attach(&Attach::default())?;
    let hello = Hello { broker: 1, session: 1 };
    log.hello(hello)?;
    let mut broker = Broker::resume(log, hello);
    for _ in 0..3 {
        broker.append(2, &[(0, "a"), (1, "b")])?;
        broker.append(1, &[])?;
    }
    broker.log.read(0)?;
    broker.log.pulse(hello)?;
    broker.log.register(hello, 0)?;
    for name in ["sub:a", "sub:b"] {
        broker.log.revoke(&Revoke { hello, texts: &[name.to_owned()], max: 1 })?;
    }
    assert_eq!(broker.log.revoked(0)?.len(), 1);
    if broker.log.about().is_some_and(|about| about.records_refused.is_none()) {
        broker.insert(&[("a", "1"), ("b", "2")])?;
    }
    let first = broker.log.pulse(hello)?.last;
    broker.log.records(first, first + 1)?;
    broker.log.has_record(first)?;
    broker.log.newest_records(0)?;
    broker.log.versions("a", 0, 10)?;
    let gone = esker::internals::engine::log::Mark { entry: u64::MAX >> 11, token: "gone".into() };
    broker.log.attach(&Attach { read: Some(gone), ..Attach::default() })?;
    Ok(())
}

/// Creates a user with these rules, on a server that knows no scripts yet.
fn set_user(server: &RedisServer, rules: &[&str]) {
    server.command::<()>(&["FLUSHALL"]);
    server.command::<()>(&["SCRIPT", "FLUSH"]);
    server.command::<()>(&[&["ACL", "SETUSER", "esker", "reset", "on", ">secret"], rules].concat());
}

#[test]
fn the_documented_acl_is_sufficient_and_minimal() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let has_waitaof = server.is_at_least(7, 2);
    if has_waitaof {
        server.config_set("appendfsync", "everysec");
    }
    let line = acl_rules("{esker}", has_waitaof);
    let rules = line.split(' ').collect::<Vec<_>>();
    let settings = || settings(&server).login(Some("esker"), "secret");
    set_user(&server, &rules);
    do_everything(settings()).unwrap();
    assert_eq!(server.command::<usize>(&["XLEN", "{esker}:1:rec"]), 2, "records were inserted as well");

    // What a broker can do without: it then knows less, or uses it with some settings only.
    let optional = ["+client|setname", "+config|get", "+select", "+wait"];
    for left_out in rules.iter().filter(|rule| rule.starts_with('+')) {
        let rules = rules.iter().filter(|rule| rule != &left_out).copied().collect::<Vec<_>>();
        set_user(&server, &rules);
        if optional.contains(left_out) {
            do_everything(settings()).unwrap_or_else(|why| panic!("without {left_out}: {why}"));
        } else {
            let why = setup(do_everything(settings()));
            assert!(why.contains("this user lacks a right"), "without {left_out}: {why}");
        }
    }
}

#[test]
fn other_keys_are_out_of_a_users_reach() {
    let server = RedisServer::start(&[]);
    let line = acl_rules("{other}", server.is_at_least(7, 2));
    set_user(&server, &line.split(' ').collect::<Vec<_>>());
    let why = setup(try_connect(settings(&server).login(Some("esker"), "secret")));
    assert!(why.contains("this user lacks a right"), "{why}");
}

#[test]
fn keys_that_hold_something_else_are_named() {
    for key in ["log", "meta", "rec", "idx", "new", "brokers"].map(|key| format!("{{esker}}:1:{key}")) {
        let server = RedisServer::start(&[]);
        server.command::<()>(&["SET", &key, "something"]);
        let why = setup(try_connect(settings(&server)));
        assert!(why.contains(&key) && why.contains("--engine-prefix"), "{why}");
    }
}

#[test]
fn a_newer_format_is_refused() {
    let server = RedisServer::start(&[]);
    let newer = FORMAT + 1;
    server.command::<()>(&["HSET", "{esker}:1:meta", "layout", &newer.to_string()]);
    let why = setup(try_connect(settings(&server)));
    assert!(why.contains(&format!("format {newer}")) && why.contains("upgrade"), "{why}");
}

/// The format of the log.
fn format(server: &RedisServer) -> String {
    server.command(&["HGET", "{esker}:1:meta", "layout"])
}

#[test]
fn a_log_without_records_refuses_them_until_its_format_is_raised() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    assert_eq!(format(&server), FORMAT.to_string(), "a new log has the newest");
    server.command::<()>(&["HSET", "{esker}:1:meta", "layout", "1", "format", "1"]);
    let before = broker.log.pulse(broker.hello).unwrap().last;
    let (kind, why) = refusal(broker.insert(&[("a", "1")]));
    assert_eq!(kind, Refusal::Records);
    assert!(why.contains("format 1") && why.contains("esker engine raise"), "{why}");
    assert_eq!((broker.log.pulse(broker.hello).unwrap().last, records(&mut broker).len()), (before, 0));
    broker.append(1, &[]).unwrap();
    server.command::<()>(&["HSET", "{esker}:1:meta", "layout", "2", "format", "2"]);
    broker.insert(&[("a", "1")]).unwrap();
}

#[test]
fn a_log_that_has_lost_entries_keeps_its_format() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    server.command::<()>(&["HSET", "{esker}:1:meta", "layout", "1", "format", "1"]);
    let gone = esker::internals::engine::log::Mark { entry: u64::MAX >> 11, token: "gone".into() };
    broker.log.attach(&Attach { read: Some(gone), ..Attach::default() }).unwrap();
    assert_eq!(format(&server), "1");
    server.command::<()>(&["DEL", "{esker}:1:log"]);
    broker.log.attach(&Attach::default()).unwrap();
    assert_eq!(format(&server), "1", "older brokers may still use it");
    server.command::<()>(&["FLUSHALL"]);
    let known = broker.log.attach(&Attach { format: Some(1), ..Attach::default() }).unwrap().format;
    assert_eq!((known, &*format(&server)), (1, "1"), "a broker knows which format it had");
    server.command::<()>(&["FLUSHALL"]);
    broker.log.attach(&Attach::default()).unwrap();
    assert_eq!(format(&server), FORMAT.to_string());
}

/// The first version writes its layout whenever it reports a loss.
#[test]
fn an_older_broker_does_not_lower_the_format() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    server.command::<()>(&["HSET", "{esker}:1:meta", "layout", "1"]);
    broker.insert(&[("a", "1")]).unwrap();
    assert_eq!(broker.log.attach(&Attach::default()).unwrap().format, FORMAT);
    assert_eq!(format(&server), FORMAT.to_string(), "so that an older broker is refused");
}

#[test]
fn an_eviction_policy_is_refused() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", policy]);
        let why = setup(try_connect(settings(&server)));
        assert!(why.contains(policy) && why.contains("maxmemory-policy noeviction"), "{why}");
    }
}

#[test]
fn a_cluster_is_refused() {
    let server = RedisServer::start(&["--cluster-enabled", "yes"]);
    let why = setup(try_connect(settings(&server)));
    assert!(why.contains("Redis Cluster"), "{why}");
}

#[test]
fn a_database_that_does_not_exist_is_refused() {
    let server = RedisServer::start(&[]);
    let mut settings = settings(&server);
    settings.database = 3;
    do_everything(settings.clone()).unwrap();
    settings.database = 100;
    let why = setup(try_connect(settings));
    assert!(why.contains("does not have this database"), "{why}");
}

#[test]
fn a_replica_is_refused_for_now() {
    let primary = RedisServer::start(&[]);
    let replica = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&replica)), 1);
    replica.replicate(&primary);
    let (kind, why) = refusal(broker.append(1, &[]));
    assert_eq!(kind, Refusal::NotWritable, "{why}");
    let (kind, why) = refusal(try_connect(settings(&replica)));
    assert_eq!(kind, Refusal::NotWritable, "{why}");
    replica.promote();
    Broker::new(connect(settings(&replica)), 1).append(1, &[]).unwrap();
}

#[test]
fn too_few_replicas_refuse_for_now() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    server.config_set("min-replicas-to-write", "1");
    let (kind, why) = refusal(broker.append(1, &[(0, "a")]));
    assert_eq!(kind, Refusal::NotWritable, "{why}");
    server.config_set("min-replicas-to-write", "0");
    assert_eq!(broker.append(1, &[(0, "a")]).unwrap().repetitions, []);
}

#[test]
fn nobody_at_the_port_is_unreachable() {
    let nobody = at(EngineAddress::Server(local(free_port()), Tls::Off));
    assert!(matches!(try_connect(nobody), Err(LogError::Unreachable(_))));
    let mut nowhere = local(1);
    nowhere.host = "host.invalid".to_owned();
    assert!(matches!(try_connect(at(EngineAddress::Server(nowhere, Tls::Off))), Err(LogError::Unreachable(_))));
}

/// Serves one connection and answers whatever comes with these bytes, or not at all.
fn answer(bytes: &'static [u8]) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        while socket.read(&mut request).is_ok_and(|read| read > 0) {
            if !bytes.is_empty() && socket.write_all(bytes).is_err() {
                return;
            }
        }
    });
    (port, server)
}

#[test]
fn whatever_answers_no_broker_panics() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b"*-1\r\n",
        b"$5\r\nhello\r\n",
        b"*1\r\n:1\r\n",
        b"$-7\r\n",
        b":99999999999999999999\r\n",
        b"-\r\n",
        b"-ERR \xFF\r\n",
        b"$19\r\nredis_version:7.0.0\r\n",
    ] {
        let (port, server) = answer(bytes);
        let error = try_connect(at(EngineAddress::Server(local(port), Tls::Off))).map(drop).unwrap_err();
        assert!(!matches!(error, LogError::Broken(_)), "{bytes:?}: {error:?}: nothing was asked for");
        server.join().unwrap();
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_so() {
    let server = RedisServer::start(&[]);
    let why = setup(try_connect(at(EngineAddress::Server(local(server.port()), Tls::On))));
    assert!(why.contains("no TLS"), "{why}");
}
