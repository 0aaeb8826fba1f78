//! Failing and slow disks under the store. `tests/faults` tests the same under load.

use super::records::insert;
use super::support::{DiskFault, FaultyDisk};

/// A record is being written to a slow disk when the broker receives the signal to stop.
#[test]
fn inserts_in_progress_are_completed_during_a_drain() {
    let disk = FaultyDisk::new();
    let broker = disk.start(&[]);
    disk.inject(DiskFault::Slow);
    let mut stream = broker.subscribe("/events", "");
    let mut connection = broker.connect();
    connection.send("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"event\":\"a\",\"data\":1}");
    broker.wait_for("inserting", |stats| stats["requests"].as_u64() > Some(2));
    broker.signal("TERM");
    let response = connection.response();
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(stream.event().id.as_deref(), response.json()["id"].as_str());
    assert_eq!(stream.next(), None);
    assert_eq!(broker.wait().0, Some(0));
}

#[test]
fn a_hanging_disk_does_not_prevent_stopping() {
    let disk = FaultyDisk::new();
    let broker = disk.start(&[]);
    let before = insert(&broker, "a", "1");
    disk.inject(DiskFault::Hung);
    let mut connection = broker.connect();
    connection.send("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"event\":\"a\",\"data\":2}");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    disk.remove(DiskFault::Hung);
    let broker = disk.start(&[]);
    assert_eq!(broker.get("/audit/a").json()[format!("a_v_{before}")], 1);
    assert!(insert(&broker, "a", "3") > before);
}

#[test]
fn a_failed_fsync_stops_inserts_until_a_restart() {
    stops_inserts_until_a_restart(DiskFault::Failing);
}

#[test]
fn a_failed_write_stops_inserts_until_a_restart() {
    stops_inserts_until_a_restart(DiskFault::Refusing);
}

fn stops_inserts_until_a_restart(fault: DiskFault) {
    let disk = FaultyDisk::new();
    let broker = disk.start(&[]);
    let before = insert(&broker, "a", "1");
    let mut stream = broker.subscribe("/events", "");
    assert_eq!(stream.event().number(), before);
    disk.inject(fault);
    let body = "{\"event\":\"a\",\"data\":2}";
    let refused = broker.post("/insert", "", body);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.field("Retry-After").is_some() && refused.text().contains("restart"), "{refused:?}");
    disk.remove(fault);
    // What the kernel kept of the failed write is unknown, so a working disk is not enough.
    assert_eq!(broker.post("/insert", "", body).status, 503);
    assert_eq!((broker.get("/healthz").status, broker.get("/livez").text().as_str()), (503, "ok"));
    assert_eq!(broker.stats()["store"], "failed");
    let metrics = broker.metrics();
    assert_eq!(["ready", "failed"].map(|state| metrics.labeled("esker_store_state", "state", state)), [0.0, 1.0]);
    assert_eq!(metrics.labeled("esker_store_refusals_total", "reason", "failed"), 2.0);
    let commits = ["esker_store_commits_total", "esker_store_commit_seconds_count", "esker_store_records_total"];
    assert_eq!(commits.map(|name| metrics.value(name)), [1.0; 3], "the failed commit is not counted");
    let published = broker.publish("topicone1", "data: topics still work");
    assert_eq!(broker.get("/audit/a").text(), format!("{{\"a_v_{before}\":1}}\n"));
    broker.signal("KILL");
    broker.wait();
    let broker = disk.start(&[]);
    let after = insert(&broker, "a", "3");
    let published: u64 = published["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert!(after > published, "{after} after {published}");
    let versions = broker.get("/audit/a").json();
    assert_eq!((&versions[format!("a_v_{before}")], &versions[format!("a_v_{after}")]), (&1.into(), &3.into()));
    broker.assert_healthy();
}
