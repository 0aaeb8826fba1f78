//! Appends that fail leave nothing behind; what is old is removed.

use std::time::Duration;

use esker::internals::engine::log::{Attach, Body, From, Log, LogError, Refusal};
use esker::internals::engine::redis::ServerLog;
use esker::internals::engine::settings::Retention;

use crate::conformance::{AMPLE, Broker};
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
        if entries[0].id > old {
            break;
        }
    }
    let attach = Attach { read: Some(mark), ..Attach::default() };
    assert!(matches!(broker.log.attach(&attach).unwrap().from, From::Oldest(id) if id > old));
    let meta = server.command::<Vec<String>>(&["HMGET", "{esker}:1:meta", "bytes", "layout"]);
    assert_eq!(meta, [(broker.events().len() * b"blob".len()).to_string(), "2".to_owned()]);
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
