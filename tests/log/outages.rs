//! Servers that stop, forget, fail over or are emptied.

use esker::internals::engine::log::{
    Attach, Body, From, Hello, LastBatch, Log, LogError, Mark, ReadRecords as _, Refusal,
};
use esker::internals::engine::redis::ServerLog;
use esker::internals::engine::settings::{EngineAddress, Tls};

use crate::conformance::{Broker, first_of};
use crate::records::{newest, records, refusal};
use crate::redis_server::RedisServer;
use crate::support::{Vary as _, at, connect, free_port, local, settings, try_connect};

fn loss(log: &mut ServerLog, read: Mark, floor: u64) -> u64 {
    match log.attach(&Attach { read: Some(read), appended: None, floor, applied: 0, format: None }).unwrap().from {
        From::Loss(id) => id,
        other => panic!("{other:?} instead of a loss"),
    }
}

#[test]
fn a_kill_loses_nothing_that_was_written_to_the_disk() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let appended = broker.append(2, &[(0, "a")]).unwrap();
    let mark = broker.mark(appended.first);
    server.kill();
    assert!(matches!(broker.append(1, &[]), Err(LogError::Broken(_))));
    assert!(matches!(try_connect(settings(&server)), Err(LogError::Unreachable(_))));

    server.restart();
    let mut log = connect(settings(&server));
    let attach =
        Attach { read: Some(mark.clone()), appended: Some(mark), floor: appended.first + 1, applied: 0, format: None };
    assert_eq!(log.attach(&attach).unwrap().from, From::Next);
    let hello = Hello { broker: 1, session: 2 };
    assert_eq!(log.hello(hello).unwrap().last_batch, Some((1, LastBatch::Events(appended.clone()))));
    let repeated = Broker::resume(log, hello).append(1, &[(0, "a")]).unwrap();
    assert_eq!(repeated.repetitions[0].original, appended.first);
}

#[test]
fn a_server_that_forgets_its_scripts_is_told_again() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let steps: [fn(&mut Broker<ServerLog>); 10] = [
        |broker| assert!(broker.append(1, &[]).is_ok()),
        |broker| assert!(broker.log.pulse(broker.hello).is_ok()),
        |broker| assert!(broker.log.attach(&Attach::default()).is_ok()),
        |broker| assert!(broker.log.hello(broker.hello).is_ok()),
        |broker| assert!(broker.log.register(broker.hello, 1).is_ok()),
        |broker| assert!(broker.insert(&[("a", "1")]).is_ok()),
        |broker| assert!(broker.log.newest_records(0).is_ok()),
        |broker| assert!(broker.log.records(0, u64::MAX).is_ok()),
        |broker| assert!(broker.log.versions("a", 0, 10).is_ok()),
        |broker| assert_eq!(broker.log.has_record(1), Ok(false)),
    ];
    for step in steps.iter().chain(&steps) {
        server.command::<()>(&["SCRIPT", "FLUSH"]);
        step(&mut broker);
    }
    assert_eq!((broker.events().len(), records(&mut broker).len()), (2, 2));
}

#[test]
fn a_kill_loses_no_acknowledged_records() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let mut first = 0;
    for number in 0..20 {
        first = broker.insert(&[("a", &number.to_string()), (&number.to_string(), "1")]).unwrap();
    }
    let (all, of_names) = (records(&mut broker), newest(&mut broker));
    let bytes = broker.log.pulse(broker.hello).unwrap().record_bytes;
    server.kill();
    assert!(matches!(broker.insert(&[("a", "1")]), Err(LogError::Broken(_))));
    server.restart();

    let mut log = connect(settings(&server));
    let hello = Hello { broker: 1, session: 2 };
    let greeting = log.hello(hello).unwrap();
    assert_eq!(greeting.pulse.record_bytes, bytes);
    assert_eq!(first_of(&greeting), first, "the one that was not sent is not there");
    assert_eq!(log.prove(), Ok(()));
    let mut next = Broker::resume(log, hello);
    assert_eq!((records(&mut next), newest(&mut next)), (all, of_names));
    assert!(next.insert(&[("a", "1")]).unwrap() > first + 1);
}

#[test]
fn a_primary_that_was_replaced_does_not_tell_its_records() {
    let old = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let new = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&old)), 1);
    let first = broker.insert(&[("a", "1")]).unwrap();
    old.replicate(&new);
    for refused in [
        broker.log.newest_records(0).map(drop),
        broker.log.records(first, first).map(drop),
        broker.log.has_record(first).map(drop),
        broker.log.versions("a", 0, 10).map(drop),
        broker.insert(&[("a", "2")]).map(drop),
        broker.log.register(broker.hello, 1).map(drop),
    ] {
        assert_eq!(refusal(refused).0, Refusal::NotWritable);
    }
}

#[test]
fn a_promoted_replica_has_records_or_lacks_them_as_a_whole() {
    let primary = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let replica = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&primary)), 1);
    broker.insert(&[("a", "1"), ("b", "2")]).unwrap();
    replica.replicate(&primary);
    let (all, of_names) = (records(&mut broker), newest(&mut broker));
    let bytes = broker.log.pulse(broker.hello).unwrap().record_bytes;
    replica.promote();
    let gone = broker.insert(&[("a", "3"), ("c", "4")]).unwrap();

    let mut other = Broker::new(connect(settings(&replica)), 2);
    assert_eq!((records(&mut other), newest(&mut other)), (all, of_names));
    assert_eq!(other.log.pulse(other.hello).unwrap().record_bytes, bytes);
    let told = loss(&mut other.log, broker.mark(gone), gone + 1);
    assert!(told > gone + 1);
    assert!(other.insert(&[("c", "5")]).unwrap() > told);
}

#[test]
fn records_outlive_the_log() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let time = broker.log.pulse(broker.hello).unwrap().time;
    broker.floor = time + 3_600_000_000;
    let first = broker.insert(&[("a", "1"), ("b", "2")]).unwrap();
    server.command::<()>(&["DEL", "{esker}:1:log", "{esker}:1:meta"]);
    let mut next = Broker::new(connect(settings(&server)), 2);
    assert!(next.append(1, &[]).unwrap().first > first + 1, "ids go on after the records");
    assert_eq!(records(&mut next).len(), 2);
    next.insert(&[("a", "3")]).unwrap();
    assert_eq!(newest(&mut next).iter().map(|record| &*record.data).collect::<Vec<_>>(), ["2", "3"]);
}

#[test]
fn a_suffix_that_a_restart_loses_is_told() {
    let mut server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let kept = broker.append(1, &[]).unwrap().first;
    let kept_mark = broker.mark(kept);
    server.command::<()>(&["SAVE"]);
    let gone = broker.append(1, &[]).unwrap().first;
    let gone_mark = broker.mark(gone);
    server.kill();
    server.restart();

    let mut log = connect(settings(&server));
    let attach = Attach { read: Some(kept_mark), appended: None, floor: kept, applied: 0, format: None };
    assert_eq!(log.attach(&attach).unwrap().from, From::Next, "who did not read it has lost nothing");
    let told = loss(&mut log, gone_mark.clone(), gone);
    assert!(told > gone);
    assert_eq!(loss(&mut connect(settings(&server)), gone_mark, gone), told);
    assert_eq!(first_of(&log.hello(Hello { broker: 1, session: 2 }).unwrap()), kept);
}

#[test]
fn a_suffix_that_a_promoted_replica_lacks_is_told() {
    let primary = RedisServer::start(&[]);
    let replica = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&primary)), 1);
    broker.append(1, &[]).unwrap();
    replica.replicate(&primary);
    replica.promote();
    let gone = broker.append(1, &[]).unwrap().first;
    let mut other = Broker::new(connect(settings(&replica)), 2);
    other.floor = gone;
    let newer = other.append(1, &[]).unwrap().first;
    let told = loss(&mut other.log, broker.mark(gone), gone);
    assert!(gone < newer && newer < told);
}

#[test]
fn an_emptied_server_is_noticed() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let mut tail = connect(settings(&server));
    let gone = broker.append(1, &[]).unwrap().first;
    let mark = broker.mark(gone);
    server.command::<()>(&["FLUSHALL"]);
    assert_eq!(broker.append(1, &[]), Err(LogError::Fenced));
    broker.log.hello(broker.hello).unwrap();
    for refused in [broker.append(1, &[(0, "a")]).map(drop), tail.read(gone).map(drop)] {
        assert!(
            matches!(&refused, Err(LogError::Refused(Refusal::NotWritable, why)) if why.contains("deleted")),
            "{refused:?}"
        );
    }
    let told = loss(&mut tail, mark, gone);
    assert!(told > gone);
    let next = broker.append(1, &[(0, "a")]).unwrap();
    assert!(next.first > told && next.repetitions.is_empty());
    let bodies = broker.entries().into_iter().map(|entry| entry.body).collect::<Vec<_>>();
    assert!(matches!(&bodies[..], [Body::Lost, Body::Events { .. }]), "{bodies:?}");
}

#[test]
fn a_lost_meta_key_is_repaired() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let newest = broker.append(1, &[]).unwrap().first;
    server.command::<()>(&["DEL", "{esker}:1:meta"]);
    assert!(matches!(broker.append(1, &[]), Err(LogError::Refused(Refusal::NotWritable, _))));
    assert_eq!(broker.log.attach(&Attach::default()).unwrap().from, From::Next);
    assert!(broker.append(1, &[]).unwrap().first > newest);
    assert_eq!(broker.entries().iter().filter(|entry| entry.body == Body::Lost).count(), 1);
}

#[test]
fn a_late_append_is_fenced() {
    let server = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    server.pause();
    assert!(matches!(broker.append(1, &[(0, "a")]), Err(LogError::Broken(_))));
    assert!(matches!(try_connect(settings(&server)), Err(LogError::Unreachable(_))));
    server.resume();

    // The append may arrive before or after the greeting, but either way the greeting knows what becomes of it.
    let mut log = connect(settings(&server));
    let hello = Hello { broker: 1, session: 2 };
    let was_appended = log.hello(hello).unwrap().last_batch.is_some();
    let mut next = Broker::resume(log, hello);
    let repeated = next.append(2, &[(0, "a")]).unwrap();
    assert_eq!(repeated.repetitions.len(), usize::from(was_appended));
    assert_eq!(next.events().len(), 1 + usize::from(was_appended));
}

#[test]
fn sentinels_are_asked_for_the_primary() {
    let mut primary = RedisServer::start(&[]);
    let replica = RedisServer::start(&[]);
    replica.replicate(&primary);
    let sentinel = RedisServer::start_sentinel("main", &primary, None);
    let settings = |name: &str| {
        let sentinels = vec![local(free_port()), local(sentinel.port())];
        at(EngineAddress::Sentinels(sentinels, name.to_owned(), Tls::Off))
    };
    let mut broker = Broker::new(connect(settings("main")), 1);
    broker.append(1, &[]).unwrap();
    assert_eq!(primary.command::<usize>(&["XLEN", "{esker}:1:log"]), 2);
    let unknown = try_connect(settings("other")).map(drop);
    assert!(
        matches!(&unknown, Err(LogError::Refused(Refusal::Setup, why)) if why.contains("named other")),
        "{unknown:?}"
    );

    sentinel.wait_for("slaves=1");
    primary.kill();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let log = loop {
        match try_connect(settings("main")) {
            Ok(log) => break log,
            Err(LogError::Unreachable(_) | LogError::Refused(Refusal::NotWritable, _)) => {}
            Err(other) => panic!("{other:?}"),
        }
        assert!(std::time::Instant::now() < end, "no failover: {}", sentinel.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    Broker::new(log, 2).append(1, &[]).unwrap();
    assert!(replica.command::<usize>(&["XLEN", "{esker}:1:log"]) >= 2);
}

#[test]
fn sentinels_may_have_the_servers_password_or_none() {
    let primary = RedisServer::start(&["--requirepass", "secret"]);
    for password in [None, Some("secret")] {
        let sentinel = RedisServer::start_sentinel("main", &primary, password);
        let address = EngineAddress::Sentinels(vec![local(sentinel.port())], "main".to_owned(), Tls::Off);
        connect(at(address.clone()).login(None, "secret"));
        let wrong = try_connect(at(address).login(None, "guess")).map(drop);
        assert!(matches!(wrong, Err(LogError::Refused(Refusal::Setup, _))), "{wrong:?}");
    }
}
