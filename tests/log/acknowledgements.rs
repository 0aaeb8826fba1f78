//! What an acknowledgement proves.

use esker::internals::engine::log::{Connect, Hello, Log, LogError, Refusal};
use esker::internals::engine::redis::{Guarantee, Server, ServerLog, acl_rules};
use esker::internals::engine::settings::{AckMode, EngineSettings};

use crate::conformance::Broker;
use crate::records::{records, refusal};
use crate::redis_server::RedisServer;
use crate::support::{Vary as _, connect, settings, try_connect};

/// Connects, appends, and returns what the connection guarantees.
fn guarantee(settings: EngineSettings) -> Guarantee {
    let mut server = Server::new(settings);
    let handle = server.guarantee();
    assert_eq!(handle.get(), None);
    let mut broker = Broker::new(server.connect().unwrap(), 1);
    broker.append(1, &[]).unwrap();
    handle.get().unwrap()
}

#[test]
fn without_a_file_an_acknowledgement_is_the_answer() {
    let server = RedisServer::start(&[]);
    let Guarantee { ack, warning, server: name, .. } = guarantee(settings(&server));
    assert_eq!(ack, AckMode::Reply);
    assert!(warning.unwrap().contains("no append-only file"));
    assert!(name.contains(&format!("127.0.0.1:{}", server.port())), "{name}");
    assert_eq!(guarantee(settings(&server).ack(AckMode::Reply)).warning, None, "it is what was asked for");
    let refused = try_connect(settings(&server).ack(AckMode::Fsync)).map(drop);
    assert!(matches!(&refused, Err(LogError::Refused(Refusal::Setup, why)) if why.contains("appendfsync always")));
}

/// On Redis 7.0, nothing else can prove it.
#[test]
fn an_fsync_that_a_rewrite_pauses_proves_nothing() {
    let options = ["--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "yes"];
    let server = RedisServer::start(&options);
    let about = connect(settings(&server)).about().expect("a server is known");
    if server.is_at_least(7, 2) {
        assert_eq!((about.ack, about.records_refused), (AckMode::Fsync, None));
    } else {
        assert_eq!(about.ack, AckMode::Reply);
        assert!(about.records_refused.is_some_and(|why| why.contains("no-appendfsync-on-rewrite")));
    }
}

#[test]
fn appendfsync_always_proves_an_fsync() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    for settings in [settings(&server), settings(&server).ack(AckMode::Fsync)] {
        let Guarantee { ack, warning, .. } = guarantee(settings);
        assert_eq!((ack, warning), (AckMode::Fsync, None));
    }
}

#[test]
fn an_fsync_each_second_is_awaited_where_that_is_possible() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let found = guarantee(settings(&server));
    let warning = found.warning.unwrap();
    assert!(warning.contains("appendfsync always"), "{warning}");
    if server.is_at_least(7, 2) {
        assert_eq!(found.ack, AckMode::Fsync);
        assert!(warning.contains("waits"), "{warning}");
    } else {
        assert_eq!(found.ack, AckMode::Reply);
        assert!(warning.contains("Redis 7.2 or Valkey"), "{warning}");
    }
}

#[test]
fn a_server_without_fsyncs_proves_none() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "no"]);
    let found = guarantee(settings(&server));
    assert_eq!(found.ack, AckMode::Reply);
    assert!(found.warning.unwrap().contains("Set appendfsync always"));
    let refused = try_connect(settings(&server).ack(AckMode::Fsync)).map(drop);
    assert!(matches!(&refused, Err(LogError::Refused(Refusal::Setup, _))), "{refused:?}");
}

#[test]
fn a_user_that_may_not_read_the_configuration_is_told() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let has_waitaof = server.is_at_least(7, 2);
    let line = acl_rules("{esker}", has_waitaof).replace("+config|get ", "");
    server.command::<()>(
        &[&["ACL", "SETUSER", "esker", "on", ">secret"], &line.split(' ').collect::<Vec<_>>()[..]].concat(),
    );
    let found = guarantee(settings(&server).login(Some("esker"), "secret"));
    // Where the fsync can be awaited, nothing is lost.
    assert_eq!(found.ack, if has_waitaof { AckMode::Fsync } else { AckMode::Reply });
    let warning = found.warning.unwrap();
    assert!(has_waitaof || warning.contains("+config|get"), "{warning}");
}

#[test]
fn an_fsync_that_ends_being_possible_is_unproven() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    if !server.is_at_least(7, 2) {
        let refused = try_connect(settings(&server).ack(AckMode::Fsync)).map(drop);
        assert!(matches!(&refused, Err(LogError::Refused(Refusal::Setup, why)) if why.contains("Redis 7.2 or Valkey")));
        return;
    }
    let mut broker = Broker::new(connect(settings(&server).ack(AckMode::Fsync)), 1);
    broker.append(1, &[]).unwrap();
    server.config_set("appendonly", "no");
    assert!(matches!(broker.append(1, &[]), Err(LogError::Unproven(_))));
    assert_eq!(broker.events().len(), 2, "it was appended nevertheless");
}

#[test]
fn replicas_are_awaited() {
    let primary = RedisServer::start(&[]);
    let mut broker = Broker::new(connect(settings(&primary).ack(AckMode::Replicas(1))), 1);
    let Err(LogError::Unproven(why)) = broker.append(1, &[(0, "a")]) else { panic!("proven without a replica") };
    assert!(why.contains("0 of 1 replicas"), "{why}");
    let next = Hello { session: 2, ..broker.hello };
    assert!(broker.log.hello(next).unwrap().last_batch.is_some(), "a session begins nevertheless");
    assert!(matches!(broker.log.prove(), Err(LogError::Unproven(_))), "the last batch is still unproven");

    let replica = RedisServer::start(&[]);
    replica.replicate(&primary);
    let greeting = broker.log.hello(next).unwrap();
    assert!(greeting.last_batch.is_some());
    assert_eq!(broker.log.prove(), Ok(()));
    broker.hello = next;
    assert_eq!(broker.append(1, &[(0, "a")]).unwrap().repetitions.len(), 1);
    let first = broker.append(1, &[]).unwrap().first;
    replica.promote();
    let entries = Broker::new(connect(settings(&replica)), 2).events();
    assert_eq!(entries.last().unwrap().id, first);
}

#[test]
fn a_repetition_is_as_durable_as_its_original() {
    let primary = RedisServer::start(&[]);
    let mut first = Broker::new(connect(settings(&primary)), 1);
    first.append(1, &[(0, "a")]).unwrap();
    let mut second = Broker::new(connect(settings(&primary).ack(AckMode::Replicas(1))), 2);
    assert!(matches!(second.append(1, &[(0, "a")]), Err(LogError::Unproven(_))), "no replica has the original");
}

/// The requests that the server was sent as scripts.
fn scripts(server: &RedisServer) -> String {
    let stats = server.command::<String>(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
    line.split(',').next().unwrap().to_owned()
}

/// Records are refused, and the server does not even get them.
fn assert_refused(server: &RedisServer, settings: EngineSettings, words: &str) {
    let mut broker = Broker::new(connect(settings), 1);
    let told = broker.log.about().unwrap().records_refused.unwrap();
    assert!(told.contains(words), "{told}");
    let before = scripts(server);
    assert_eq!(refusal(broker.insert(&[("a", "1")])), (Refusal::Records, told));
    assert_eq!(scripts(server), before);
    broker.append(1, &[]).unwrap();
}

#[test]
fn records_that_may_not_reach_the_disk_are_refused() {
    let server = RedisServer::start(&[]);
    for settings in
        [settings(&server), settings(&server).ack(AckMode::Reply), settings(&server).ack(AckMode::Replicas(1))]
    {
        if settings.ack != Some(AckMode::Replicas(1)) {
            assert_refused(&server, settings.clone(), "no append-only file");
        }
        let mut server = Server::new(settings);
        let handle = server.guarantee();
        server.connect().unwrap();
        assert!(handle.get().unwrap().records_refused.unwrap().contains("Set appendonly yes"));
    }
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "no"]);
    assert_refused(&server, settings(&server), "Set appendfsync always");
}

#[test]
fn records_are_on_the_disk_whatever_publishes_wait_for() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    for ack in [None, Some(AckMode::Reply), Some(AckMode::Fsync)] {
        let mut broker = Broker::new(connect(EngineSettings { ack, ..settings(&server) }), 1);
        assert_eq!(broker.log.about().unwrap().records_refused, None);
        broker.insert(&[("a", "1")]).unwrap();
    }
    server.config_set("appendfsync", "everysec");
    let reply = settings(&server).ack(AckMode::Reply);
    if !server.is_at_least(7, 2) {
        assert_refused(&server, reply, "Redis 7.2 or Valkey");
        return;
    }
    let mut broker = Broker::new(connect(reply), 1);
    broker.insert(&[("a", "1")]).unwrap();
    assert!(server.command::<String>(&["INFO", "commandstats"]).contains("cmdstat_waitaof"));
}

#[test]
fn records_are_refused_if_the_user_may_not_ask_for_the_proof() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let has_waitaof = server.is_at_least(7, 2);
    let line = acl_rules("{esker}", has_waitaof).replace(" +waitaof", "");
    server.command::<()>(
        &[&["ACL", "SETUSER", "esker", "on", ">secret"], &line.split(' ').collect::<Vec<_>>()[..]].concat(),
    );
    let settings = settings(&server).login(Some("esker"), "secret").ack(AckMode::Reply);
    assert_refused(&server, settings, if has_waitaof { "lacks a right" } else { "Redis 7.2 or Valkey" });
}

#[test]
fn records_wait_for_the_replicas_that_publishes_wait_for() {
    let primary = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&primary).ack(AckMode::Replicas(1))), 1);
    assert!(matches!(broker.insert(&[("a", "1")]), Err(LogError::Unproven(why)) if why.contains("0 of 1 replicas")));
    let next = Hello { session: 2, ..broker.hello };
    assert!(broker.log.hello(next).unwrap().last_batch.is_some());
    assert!(matches!(broker.log.prove(), Err(LogError::Unproven(_))));

    let replica = RedisServer::start(&[]);
    replica.replicate(&primary);
    broker.log.hello(next).unwrap();
    assert_eq!(broker.log.prove(), Ok(()));
    broker.hello = next;
    broker.insert(&[("b", "2")]).unwrap();
    replica.promote();
    let records = records(&mut Broker::new(connect(settings(&replica)), 2));
    assert_eq!(records.iter().map(|record| &*record.name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_last_batch_of_records_is_proven_like_records() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let settings = || settings(&server).ack(AckMode::Reply);
    let mut broker = Broker::new(connect(settings()), 1);
    let prove = |broker: &Broker<ServerLog>| {
        let mut log = connect(settings());
        assert!(log.hello(Hello { session: fastrand::u64(..), ..broker.hello }).unwrap().last_batch.is_some());
        log.prove()
    };
    broker.insert(&[("a", "1")]).unwrap();
    server.config_set("appendonly", "no");
    assert!(matches!(prove(&broker), Err(LogError::Unproven(why)) if why.contains("append-only file")));
    let mut broker = Broker::new(connect(settings()), 1);
    broker.append(1, &[]).unwrap();
    assert_eq!(prove(&broker), Ok(()), "events need no fsync");
}

#[test]
fn records_whose_fsync_ends_being_possible_are_unproven() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    if !server.is_at_least(7, 2) {
        return assert_refused(&server, settings(&server), "Redis 7.2 or Valkey");
    }
    let mut broker = Broker::new(connect(settings(&server).ack(AckMode::Reply)), 1);
    broker.insert(&[("a", "1")]).unwrap();
    server.config_set("appendonly", "no");
    assert!(matches!(broker.insert(&[("b", "2")]), Err(LogError::Unproven(_))));
    assert_eq!(records(&mut broker).len(), 2, "they were inserted nevertheless");
    assert!(matches!(broker.insert(&[("c", "3")]), Err(LogError::Unreachable(_))), "another connection knows better");
}
