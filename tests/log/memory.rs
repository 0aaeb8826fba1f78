//! Appends that fail leave nothing behind; what is old is removed.

use std::time::Duration;

use esker::internals::engine::FORMAT;
use esker::internals::engine::log::{Attach, Body, From, Log, LogError, Peer, ReadRecords as _, Refusal};
use esker::internals::engine::redis::ServerLog;
use esker::internals::engine::settings::Retention;

use crate::conformance::{AMPLE, Broker};
use crate::records::{newest, records};
use crate::redis_server::RedisServer;
use crate::support::{Vary as _, connect, settings};

/// Everything but the sessions, whose time to live an append renews.
fn content(server: &RedisServer) -> (usize, Vec<String>, Vec<String>) {
    let entries = server.command::<usize>(&["XLEN", "{esker}:1:log"]);
    let own_ids = server.command::<Vec<String>>(&["KEYS", "{esker}:1:o:*"]);
    (entries, own_ids, server.command(&["HGETALL", "{esker}:1:meta"]))
}

fn refusal<T>(result: &Result<T, LogError>) -> Option<Refusal> {
    match result {
        Err(LogError::Refused(refusal, _)) => Some(*refusal),
        _ => None,
    }
}

#[test]
fn without_memory_nothing_is_half_written() {
    let server = RedisServer::start(&["--maxmemory", "20mb"]);
    let blob = vec![b'x'; 100_000];
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let mut appended = 0;
    let refused = loop {
        let before = content(&server);
        let id = appended.to_string();
        match broker.append_blob(1, &[(0, &id)], &blob) {
            Ok(_) => appended += 1,
            Err(why) => {
                assert_eq!(content(&server), before, "nothing was written");
                break why;
            }
        }
    };
    assert!(matches!(&refused, LogError::Refused(Refusal::Memory, why) if why.contains("maxmemory")), "{refused:?}");
    assert!(appended > 50, "{appended} entries");
    // Whatever does not need memory works.
    broker.log.pulse(broker.hello).unwrap();
    broker.log.attach(&Attach::default()).unwrap();
    assert_eq!(broker.log.read(0).unwrap()[0].id, broker.entries()[0].id);

    // With less to retain, there is memory again.
    let mut other = Broker::new(connect(settings(&server).retaining(Retention { bytes: 1_000_000, ..AMPLE })), 2);
    assert_eq!(other.append_blob(1, &[(0, &appended.to_string())], &blob).unwrap().repetitions, []);
    assert!(server.command::<usize>(&["XLEN", "{esker}:1:log"]) < appended);
}

#[test]
fn a_foreign_key_undoes_the_append() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    server.command::<()>(&["RPUSH", "{esker}:1:o:topic:b", "x"]);
    let before = content(&server);
    assert_eq!(refusal(&broker.append(2, &[(0, "a"), (1, "b")])), Some(Refusal::Setup));
    assert_eq!(content(&server), before);
}

#[test]
fn a_foreign_entry_undoes_the_append() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    server.command::<()>(&["XADD", "{esker}:1:log", "9000000000000000-0", "b", ""]);
    let before = content(&server);
    assert_eq!(refusal(&broker.append(1, &[(0, "a")])), Some(Refusal::Setup));
    assert_eq!(content(&server), before);
    let last = broker.entries().pop().unwrap();
    assert!(last.id == 9_000_000_000_000_000 && matches!(last.body, Body::Unknown(_)), "no entry is skipped: {last:?}");
}

#[test]
fn a_clock_that_goes_back_does_not_take_ids_with_it() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let time = broker.log.pulse(broker.hello).unwrap().time;
    let last = time + 3_600_000_000;
    server.command::<()>(&["HSET", "{esker}:1:meta", "last", &last.to_string()]);
    assert_eq!(broker.append(2, &[]).unwrap().first, last + 1);
    assert_eq!(broker.append(1, &[]).unwrap().first, last + 3);
    assert!(broker.log.pulse(broker.hello).unwrap().time < last);
}

#[test]
fn ids_and_times_are_exact() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    // The year 2255, the last for which the numbers of a script are exact.
    broker.floor = (1 << 53) - 10;
    assert_eq!(broker.append(3, &[(2, "a")]).unwrap().first, (1 << 53) - 9);
    assert_eq!(broker.append(2, &[(1, "a")]).unwrap().repetitions[0].original, (1 << 53) - 7);
    assert_eq!(broker.events()[1].id, (1 << 53) - 6);
}

#[test]
fn old_entries_and_ids_are_removed() {
    let server = RedisServer::start(&[]);
    let age = Duration::from_millis(50);
    let mut broker = Broker::new(connect(settings(&server).retaining(Retention { age, ..AMPLE })), 1);
    let old = broker.append(1, &[(0, "a")]).unwrap().first;
    let mark = broker.mark(old);
    loop {
        let newest = broker.append(1, &[]).unwrap().first;
        let entries = broker.events();
        assert_eq!(entries.last().unwrap().id, newest);
        // The entry after the old one is gone as well, so that a reader has missed something.
        if entries[0].previous > old {
            break;
        }
    }
    let attach = Attach { read: Some(mark), ..Attach::default() };
    assert!(matches!(broker.log.attach(&attach).unwrap().from, From::Oldest(id) if id > old));
    let meta = server.command::<Vec<String>>(&["HMGET", "{esker}:1:meta", "bytes", "layout"]);
    assert_eq!(meta, [(broker.events().len() * b"blob".len()).to_string(), FORMAT.to_string()]);
    let ttl = server.command::<u64>(&["PTTL", "{esker}:1:o:topic:a"]);
    assert!((1..=60_050).contains(&ttl), "{ttl} ms: it is known a minute longer than the event");
}

#[test]
fn a_session_expires() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let key = format!("{{esker}}:1:s:{:016x}", 1);
    let ttl = || server.command::<u64>(&["PTTL", &key]);
    assert!((1..=600_000).contains(&ttl()));
    let renewals: [fn(&mut Broker<ServerLog>); 2] = [
        |broker| drop(broker.append(1, &[]).unwrap()),
        |broker| assert!(broker.log.pulse(broker.hello).unwrap().last > 0),
    ];
    for renew in renewals {
        server.command::<()>(&["PEXPIRE", &key, "60000"]);
        renew(&mut broker);
        assert!(ttl() > 60_000);
    }
    server.command::<()>(&["DEL", &key]);
    assert_eq!(broker.append(1, &[]), Err(LogError::Fenced));
}

/// A server on whose disk records are.
fn durable(options: &[&str]) -> RedisServer {
    RedisServer::start(&[&["--appendonly", "yes", "--appendfsync", "always"], options].concat())
}

/// Everything that is known of records, and the log.
fn record_content(server: &RedisServer) -> (usize, usize, Vec<String>, Vec<String>, Vec<String>) {
    let all = |key: &str| server.command(&["ZRANGE", key, "0", "-1", "WITHSCORES"]);
    (
        server.command(&["XLEN", "{esker}:1:log"]),
        server.command(&["XLEN", "{esker}:1:rec"]),
        all("{esker}:1:idx"),
        all("{esker}:1:new"),
        server.command(&["HGETALL", "{esker}:1:meta"]),
    )
}

#[test]
fn without_memory_no_records_are_half_written() {
    let server = durable(&["--maxmemory", "20mb"]);
    let data = "x".repeat(100_000);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let mut inserted = 0;
    let refused = loop {
        let before = record_content(&server);
        match broker.insert(&[("a", "1"), (&inserted.to_string(), &data)]) {
            Ok(_) => inserted += 1,
            Err(why) => {
                assert_eq!(record_content(&server), before, "nothing was written");
                break why;
            }
        }
    };
    assert!(matches!(&refused, LogError::Refused(Refusal::Memory, why) if why.contains("maxmemory")), "{refused:?}");
    assert!(inserted > 50, "{inserted} batches");
    // Whatever does not need memory works, even without any.
    server.config_set("maxmemory", "1mb");
    assert_eq!(broker.log.register(broker.hello, 1).unwrap().len(), 1);
    assert_eq!(records(&mut broker).len(), inserted * 2);
    assert_eq!(newest(&mut broker).len(), inserted + 1);
    assert_eq!(broker.log.versions("a", 0, 10).unwrap().len(), 10);
    let id = newest(&mut broker)[0].id;
    assert!(broker.log.has_record(id).unwrap());
    server.config_set("maxmemory", "0");
    broker.insert(&[("a", "1")]).unwrap();
}

#[test]
fn records_that_fail_leave_nothing_behind() {
    let unknown: [&[&str]; 5] = [
        &["XADD", "{esker}:1:rec", "9000000000000000-0", "e", "a", "d", "1"],
        &["XADD", "{esker}:1:log", "9000000000000000-0", "b", ""],
        &["SET", "{esker}:1:rec", "something"],
        &["SET", "{esker}:1:idx", "something"],
        &["SET", "{esker}:1:new", "something"],
    ];
    for command in unknown {
        let server = durable(&[]);
        let mut broker = Broker::new(connect(settings(&server)), 1);
        server.command::<String>(command);
        let content = || ["log", "rec", "idx", "new", "meta"].map(|key| dump(&server, key));
        let before = content();
        assert_eq!(refusal(&broker.insert(&[("a", "1"), ("b", "2")])), Some(Refusal::Setup), "{command:?}");
        assert_eq!(content(), before, "{command:?}");
    }
}

fn dump(server: &RedisServer, key: &str) -> Option<Vec<u8>> {
    server.command(&["DUMP", &format!("{{esker}}:1:{key}")])
}

#[test]
fn records_without_data_are_passed_over() {
    let server = durable(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let names = (0..600).map(|number| format!("{number}")).collect::<Vec<_>>();
    let all = names.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>();
    let first = broker.insert(&all).unwrap();
    let kept = broker.insert(&[("a", "1"), ("a", "2"), ("a", "3")]).unwrap();
    // More than a part of them.
    for id in (first..first + 600).chain([kept, kept + 1]) {
        server.command::<usize>(&["XDEL", "{esker}:1:rec", &format!("{id}-0")]);
    }
    assert_eq!(records(&mut broker).len(), 1);
    assert_eq!(newest(&mut broker), records(&mut broker));
    assert_eq!(broker.log.versions("a", 0, 1).unwrap()[0].id, kept + 2);
    assert_eq!(broker.log.versions("5", 0, 1).unwrap(), []);
    assert!(!broker.log.has_record(first).unwrap());
    assert!(broker.insert(&[("5", "2")]).unwrap() > kept);
}

#[test]
fn ids_of_records_are_exact() {
    let server = durable(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    // The first has many zeros at its end, which a server might shorten. The others are the last that are exact.
    for first in [2_000_000_000_000_000, (1 << 53) - 8] {
        broker.floor = first - 1;
        assert_eq!(broker.insert(&[("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")]).unwrap(), first);
        let ids = newest(&mut broker).into_iter().map(|record| record.id).collect::<Vec<_>>();
        assert_eq!(ids, [first + 1, first + 2, first + 3]);
        assert_eq!(broker.log.newest_records(first + 1).unwrap()[0].id, first + 2);
        assert_eq!(broker.log.versions("a", first, 1).unwrap()[0].id, first + 3);
        assert_eq!(broker.log.records(first, first).unwrap()[0].id, first);
    }
}

#[test]
fn ids_of_records_exceed_those_of_all_records() {
    let server = durable(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let time = broker.log.pulse(broker.hello).unwrap().time;
    broker.floor = time + 3_600_000_000;
    let first = broker.insert(&[("a", "1"), ("b", "2")]).unwrap();
    broker.floor = 0;
    server.command::<()>(&["HSET", "{esker}:1:meta", "last", &time.to_string()]);
    assert_eq!(broker.insert(&[("a", "3")]).unwrap(), first + 2);
}

#[test]
fn brokers_that_are_gone_are_forgotten() {
    let server = RedisServer::start(&[]);
    let key = "{esker}:1:brokers";
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let time = broker.log.pulse(broker.hello).unwrap().time;
    let words = |time: u64, rest: &str| format!("{time} {rest}");
    let told = [
        ("0000000000000002", words(time - 9_000_000, "1 7 0.1.0")),
        ("0000000000000003", words(time - 11_000_000, "2 7 0.2.0")),
        ("0000000000000004", words(time + 3_600_000_000, "2 7 0.2.0")),
        // Of a newer version.
        ("0000000000000005", words(time, &format!("{} 9 0.3.0 and more", FORMAT + 1))),
        // Malformed.
        ("0000000000000006", words(time, "x 9 0.3.0")),
        ("0000000000000007", words(time, "2 9")),
        ("other", words(time, "2 9 0.2.0")),
        ("0000000000000008", "nothing".to_owned()),
    ];
    for (field, words) in &told {
        server.command::<()>(&["HSET", key, field, words]);
    }
    let peer =
        |broker, version: &str, format, subscribers| Peer { broker, version: version.into(), format, subscribers };
    let expected =
        [peer(1, env!("CARGO_PKG_VERSION"), FORMAT, 3), peer(2, "0.1.0", 1, 7), peer(5, "0.3.0", FORMAT + 1, 9)];
    assert_eq!(broker.log.register(broker.hello, 3).unwrap(), expected);
    for (field, _) in &told {
        let is_kept = !["3", "4", "8"].contains(&field.trim_start_matches('0'));
        assert_eq!(server.command::<bool>(&["HEXISTS", key, field]), is_kept, "{field}");
    }
    let ttl = server.command::<u64>(&["PTTL", key]);
    assert!((50_000..=60_000).contains(&ttl), "{ttl} ms");
}
