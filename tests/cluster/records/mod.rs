//! Records in the engine: inserted at any broker, read and resumed at any other, while servers and brokers are killed.

mod conditions;
mod erasures;
mod judge;
mod readers;
mod writers;

use std::sync::Arc;

use super::balancer::{Balancer, Targets};
use super::cluster::{Cluster, Node};
use super::failover::Failover;
use super::redis_server::RedisServer;
use super::support::TempDir;
use super::{DURABLE, crowd_size, lock_machine, rounds, wait_until};
use judge::{assert_read, assert_stored};
use readers::Readers;
use writers::{Answer, Ledger, Writer, Writers};

const RECORD: &str = r#"{"event":"user","data":1}"#;

#[test]
fn every_broker_has_the_records_of_all() {
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 2);
    let [one, other] = [0, 1].map(|index| cluster.nodes[index].broker());
    let answer = one.post("/insert", "", r#"{"event":"user","data":{ "name": "Ada" }}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.json()["id"].as_str().expect("a record has an id").to_owned();
    let audited = |id: &str| format!("{{\"user_v_{id}\":{{\"name\":\"Ada\"}}}}\n");
    assert_eq!(one.get("/audit/user").text(), audited(&id), "the broker that was asked has it at once");
    let mut stream = other.subscribe("/events", "");
    let event = stream.event();
    assert_eq!((event.name.as_deref(), event.id.as_deref()), (Some("user"), Some(&*id)));
    assert_eq!(other.get("/audit/user").text(), audited(&id));
    // Records and events of topics have one order.
    let published = other.publish("topicone1", "data: 1");
    let next = one.post("/insert", "", RECORD).json()["id"].as_str().map(str::to_owned);
    let ids = [Some(id.as_str()), published["id"].as_str(), next.as_deref()];
    assert!(ids.is_sorted_by(|one, next| one.map(number) < next.map(number)), "{ids:?}");
    assert_eq!(stream.event().id, next);
    drop(stream);
    cluster.kill_all();
    cluster.restart_all();
    let mut stream = cluster.nodes[0].broker().subscribe("/events", "");
    assert_eq!(stream.event().id, next, "records stay");
    assert!(cluster.nodes.iter().all(Node::has_no_files), "nothing is written to the working directory");
}

fn number(text: &str) -> u64 {
    text.parse().expect("an id is a number")
}

#[test]
fn a_position_is_known_to_a_broker_that_is_behind() {
    let redis = RedisServer::start(&DURABLE);
    let links = Balancer::start(Targets::new(&[redis.address()]));
    let engine = format!("redis://{}", links.address);
    let cluster =
        Cluster::of(vec![Node::start(&["--engine", &redis.url()], &[]), Node::start(&["--engine", &engine], &[])]);
    let [near, far] = [0, 1].map(|index| cluster.nodes[index].broker());
    let ids: Vec<String> = ["a", "b", "c"]
        .map(|name| {
            let answer = near.post("/insert", "", format!("{{\"event\":\"{name}\",\"data\":1}}"));
            answer.json()["id"].as_str().expect("a record has an id").to_owned()
        })
        .into();
    let resume = |position: &str| {
        let mut stream = far.subscribe("/events", &format!("Last-Event-ID: {position}\r\n"));
        let opening = stream.opening();
        (stream, opening)
    };
    let (mut stream, _) = resume(&ids[0]);
    assert_eq!(stream.event().id.as_deref(), Some(&*ids[1]), "what follows the position, and no gap");
    // Cut off, it can't find out whether the position exists: the client is to come back.
    links.switch_to(&[]);
    wait_until("cut off", || far.get("/healthz").status == 503);
    let later = near.post("/insert", "", RECORD).json()["id"].as_str().expect("a record has an id").to_owned();
    let (mut stream, opening) = resume(&later);
    assert!(opening.contains("retry:"), "{opening}");
    assert_eq!(stream.next().map(|event| event.text), None, "no gap that might be false");
    links.switch_to(&[redis.address()]);
    wait_until("connected again", || far.get("/healthz").status == 200);
    let (mut stream, _) = resume(&later);
    let last = near.post("/insert", "", RECORD).json()["id"].as_str().expect("a record has an id").to_owned();
    assert_eq!(stream.event().id.as_deref(), Some(&*last));
    let (mut stream, _) = resume("12345");
    assert_eq!(stream.event().name.as_deref(), Some("gap"), "no record has this id");
}

#[test]
fn readers_end_with_the_newest_version_of_each_name() {
    let _lock = lock_machine();
    let redis = RedisServer::start(&DURABLE);
    let cluster = Cluster::on(&redis.url(), 3);
    let ledger = Arc::default();
    let readers = Readers::start(50, cluster.targets());
    let writers = Writers::start(16, cluster.balancer.address, &ledger);
    ledger.await_stored(400);
    writers.stop();
    let audit = assert_stored(&cluster, &ledger);
    let notes = assert_read(readers, &audit);
    assert!(notes.iter().all(|notes| notes.gaps.is_empty() && notes.connections == 1));
}

#[test]
fn killed_servers_and_brokers_lose_no_record() {
    let _lock = lock_machine();
    let mut redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 3);
    let ledger: Arc<Ledger> = Arc::default();
    let readers = Readers::start(crowd_size(12, 40), cluster.targets());
    let writers = Writers::start(8, cluster.balancer.address, &ledger);
    for round in 0..rounds() {
        for (kills_server, kills_broker) in [(true, false), (false, true), (true, true)] {
            ledger.await_stored(30);
            let victim = fastrand::usize(..cluster.nodes.len());
            if kills_broker {
                cluster.nodes[victim].kill();
            }
            if kills_server {
                redis.kill();
                // Sometimes the server is back before anything is refused.
                if round % 2 == 0 {
                    ledger.await_refused(1);
                }
                redis.restart();
            }
            if kills_broker {
                cluster.nodes[victim].restart();
            }
        }
    }
    ledger.await_stored(30);
    writers.stop();
    let audit = assert_stored(&cluster, &ledger);
    let notes = assert_read(readers, &audit);
    let gaps: usize = notes.iter().map(|notes| notes.gaps.len()).sum();
    let count = |is_counted: fn(&Answer) -> bool| ledger.count(is_counted);
    eprintln!(
        "{} stored, {} refused, {} unknown; {} versions read over {} connections",
        count(|answer| matches!(answer, Answer::Stored(_))),
        count(|answer| matches!(answer, Answer::Refused(_))),
        count(|answer| matches!(answer, Answer::Unknown)),
        notes.iter().map(|notes| notes.seen.len()).sum::<usize>(),
        notes.iter().map(|notes| notes.connections).sum::<usize>(),
    );
    assert_eq!(gaps, 0, "nothing is lost");
}

#[test]
fn readers_start_anew_when_the_engine_has_lost_records() {
    let _lock = lock_machine();
    let mut servers = Failover::start();
    let cluster = Cluster::on(&servers.url(), 2);
    let (before, lost, after) = (Arc::default(), Arc::default(), Arc::<Ledger>::default());
    let readers = Readers::start(12, cluster.targets());
    insert_all(&cluster, &before);
    servers.stop_replication();
    insert_all(&cluster, &lost);
    readers.await_all("told of the records that get lost", |notes| notes.seen.len() >= 2 * writers::NAMES.len());
    servers.fail_over();
    readers.await_all("told that records are lost", |notes| !notes.gaps.is_empty());
    insert_all(&cluster, &after);
    for outcome in lost.outcomes().values() {
        let Answer::Stored(id) = outcome.answer else { panic!("{outcome:?}") };
        for node in &cluster.nodes {
            assert!(!node.broker().get("/audit?event=user").text().contains(&id.to_string()), "{id} is lost");
        }
    }
    let audits: Vec<_> = cluster.nodes.iter().map(judge::audit).collect();
    assert_eq!(audits[0], audits[1]);
    assert!(audits[0].values().all(|versions| versions.len() == 2), "one from before, one from after the loss");
    let notes = assert_read(readers, &audits[0]);
    assert!(notes.iter().all(|notes| notes.gaps.len() == 1), "each reader is told once");
}

/// Inserts a record of each name.
fn insert_all(cluster: &Cluster, ledger: &Arc<Ledger>) {
    let mut writer = Writer::new(cluster.balancer.address, ledger);
    for name in writers::NAMES {
        wait_until("stored", || matches!(writer.insert(name), Answer::Stored(_)));
    }
}

#[test]
fn records_are_refused_if_nothing_proves_that_they_are_on_the_disk() {
    let redis = RedisServer::start(&["--appendonly", "no"]);
    let mut node = Node::start(&["--engine", &redis.url()], &[]);
    let broker = node.broker();
    let answer = broker.post("/insert", "", RECORD);
    assert_eq!(answer.status, 503);
    let detail = answer.json()["detail"].as_str().expect("an error has a detail").to_owned();
    assert!(detail.contains("appendonly yes") && detail.contains("nothing was stored"), "{detail}");
    assert!(answer.field("Retry-After").is_some());
    assert!(broker.stats()["engine"]["records_refused"].as_str().is_some_and(|why| why.contains("appendonly")));
    assert_eq!(broker.get("/audit/user").text(), "{}\n");
    assert_eq!(
        (broker.publish("topicone1", "data: 1")["events"].as_u64(), broker.get("/healthz").status),
        (Some(1), 200)
    );
    let log = node.terminate();
    assert!(log.contains("inserts are refused") && log.contains("appendonly"), "{log}");
}

#[test]
fn records_are_refused_beyond_their_limit() {
    let redis = RedisServer::start(&DURABLE);
    let node = Node::start(&["--engine", &redis.url(), "--engine-records", "64K"], &[]);
    let broker = node.broker();
    let body = format!("{{\"event\":\"user\",\"data\":\"{}\"}}", "x".repeat(10_000));
    let answers: Vec<_> = (0..10).map(|_| broker.post("/insert", "", &body)).collect();
    let stored = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((4..=6).contains(&stored), "{stored} of 10 KB fit into 64 KiB");
    let detail = answers[9].json()["detail"].as_str().expect("an error has a detail").to_owned();
    assert!(answers[9].status == 503 && detail.contains("--engine-records"), "{detail}");
    assert_eq!(broker.get("/audit/user").json().as_object().map(serde_json::Map::len), Some(stored));
    broker.metrics_once("the limit is shown", |metrics| {
        let bytes = metrics.value("esker_engine_records_bytes");
        metrics.value("esker_engine_records_bytes_max") == 65_536.0 && (40_000.0..=65_536.0).contains(&bytes)
    });
    assert_eq!(broker.get("/healthz").status, 200, "events are accepted");
}

#[test]
fn a_data_directory_with_records_is_named_when_it_is_not_used() {
    let redis = RedisServer::start(&DURABLE);
    let data = TempDir::new();
    let path = data.path.display().to_string();
    let mut alone = Node::start(&["--data", &path], &[]);
    assert_eq!(alone.broker().post("/insert", "", RECORD).status, 200);
    alone.terminate();
    let node = Node::start(&["--engine", &redis.url(), "--data", &path], &[]);
    let warning = node.broker().wait_for_log("are not used");
    assert!(warning.contains(&path) && warning.contains("esker load"), "{warning}");
    assert_eq!(node.broker().get("/audit/user").text(), "{}\n");
}

#[test]
fn brokers_know_of_each_other() {
    let redis = RedisServer::start(&DURABLE);
    let mut cluster = Cluster::on(&redis.url(), 3);
    let _stream = cluster.nodes[1].broker().subscribe("/events", "");
    let brokers = |node: &Node| node.broker().stats()["engine"]["brokers"].as_array().cloned().unwrap_or_default();
    for node in &cluster.nodes {
        wait_until("known to all", || {
            let brokers = brokers(node);
            let subscribers: u64 = brokers.iter().filter_map(|broker| broker["subscribers"].as_u64()).sum();
            brokers.len() == 3 && subscribers == 1 && brokers.iter().all(|broker| broker["version"].is_string())
        });
    }
    cluster.nodes[2].kill();
    wait_until("forgotten", || brokers(&cluster.nodes[0]).len() == 2);
}
