//! A disk that fails or takes its time under the store; tests/faults has the same under load.

use super::records::insert;
use super::support::{Disk, Trouble};

/// The record is on its way to a slow disk when the broker is told to end.
#[test]
fn what_is_being_stored_in_a_drain_is_stored_shown_and_answered() {
    let disk = Disk::new();
    let broker = disk.start(&[]);
    disk.begin(Trouble::Slow);
    let mut stream = broker.subscribe("/events", "");
    let mut connection = broker.connect();
    connection.send("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"event\":\"a\",\"data\":1}");
    broker.wait_for("inserting", |stats| stats["requests"].as_u64() > Some(2));
    broker.signal("TERM");
    let answer = connection.response();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(stream.event().id.as_deref(), answer.json()["id"].as_str());
    assert_eq!(stream.next(), None);
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn a_disk_that_hangs_keeps_no_broker_from_ending() {
    let disk = Disk::new();
    let broker = disk.start(&[]);
    let before = insert(&broker, "a", "1");
    disk.begin(Trouble::Hung);
    let mut connection = broker.connect();
    connection.send("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"event\":\"a\",\"data\":2}");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    disk.end(Trouble::Hung);
    let broker = disk.start(&[]);
    assert_eq!(broker.get("/audit/a").json()[format!("a_v_{before}")], 1);
    assert!(insert(&broker, "a", "3") > before);
}

#[test]
fn a_failed_fsync_stops_inserts_until_a_restart_and_nothing_is_lost() {
    stops_inserts_until_a_restart(Trouble::Failing);
}

#[test]
fn a_failed_write_stops_inserts_until_a_restart_and_nothing_is_lost() {
    stops_inserts_until_a_restart(Trouble::Refusing);
}

fn stops_inserts_until_a_restart(trouble: Trouble) {
    let disk = Disk::new();
    let broker = disk.start(&[]);
    let before = insert(&broker, "a", "1");
    let mut stream = broker.subscribe("/events", "");
    assert_eq!(stream.event().number(), before);
    disk.begin(trouble);
    let body = "{\"event\":\"a\",\"data\":2}";
    let refused = broker.post("/insert", "", body);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.field("Retry-After").is_some() && refused.text().contains("restart"), "{refused:?}");
    disk.end(trouble);
    // What the kernel holds of it is not known: the disk being well again is not enough.
    assert_eq!(broker.post("/insert", "", body).status, 503);
    assert_eq!((broker.get("/healthz").status, broker.get("/livez").text().as_str()), (503, "ok"));
    assert_eq!(broker.stats()["store"], "failed");
    let metrics = broker.metrics();
    assert_eq!(["ready", "failed"].map(|state| metrics.by("esker_store_state", "state", state)), [0.0, 1.0]);
    assert_eq!(metrics.by("esker_store_refusals_total", "reason", "failed"), 2.0);
    let commits = ["esker_store_commits_total", "esker_store_commit_seconds_count", "esker_store_records_total"];
    assert_eq!(commits.map(|name| metrics.of(name)), [1.0; 3], "the one that came to nothing is not counted");
    let published = broker.publish("topicone1", "data: topics go on");
    assert_eq!(broker.get("/audit/a").text(), format!("{{\"a_v_{before}\":1}}\n"));
    broker.signal("KILL");
    broker.wait();
    let broker = disk.start(&[]);
    let after = insert(&broker, "a", "3");
    let published: u64 = published["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert!(after > published, "{after} after {published}");
    let versions = broker.get("/audit/a").json();
    assert_eq!((&versions[format!("a_v_{before}")], &versions[format!("a_v_{after}")]), (&1.into(), &3.into()));
    broker.assert_well();
}
