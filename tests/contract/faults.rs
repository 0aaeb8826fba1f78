//! A disk that fails or takes its time under the store: a library put before the system's makes every fsync fail while a
//! file is there, or wait.

use std::path::PathBuf;
use std::process::Command;

use super::records::insert;
use super::support::{Broker, Folder, command};

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) {
    const char *file = getenv("FAIL_WHILE"), *slow = getenv("SLOW_MICROS");
    const char *hang = getenv("HANG_WHILE");
    if (slow) usleep(atoi(slow));
    while (hang && access(hang, F_OK) == 0) usleep(10000);
    return file && access(file, F_OK) == 0;
}

int fsync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    if (fails()) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

/// A broker on a disk that fails as long as the trigger is there.
struct Faulty {
    folder: Folder,
    shim: PathBuf,
    trigger: PathBuf,
}

impl Faulty {
    fn new() -> Self {
        let folder = Folder::new();
        let (source, shim) = (folder.path.join("shim.c"), folder.path.join("shim.so"));
        std::fs::write(&source, SHIM).expect("it can be written");
        let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl").status();
        assert!(built.expect("scripts/test installs a compiler").success());
        let trigger = folder.path.join("trigger");
        Self { folder, shim, trigger }
    }

    fn start(&self) -> Broker {
        self.start_with(&[])
    }

    fn start_with(&self, environment: &[(&str, &str)]) -> Broker {
        let mut command = command(environment);
        command.env("LD_PRELOAD", &self.shim).env("FAIL_WHILE", &self.trigger);
        Broker::start_as(command, &["--data", &self.folder.path.join("data").display().to_string()])
    }
}

/// The record is on its way to a slow disk when the broker is told to end.
#[test]
fn what_is_being_stored_in_a_drain_is_stored_shown_and_answered() {
    let faulty = Faulty::new();
    let broker = faulty.start_with(&[("SLOW_MICROS", "300000")]);
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
    let faulty = Faulty::new();
    let hang = faulty.folder.path.join("hang").display().to_string();
    let broker = faulty.start_with(&[("HANG_WHILE", &hang)]);
    let before = insert(&broker, "a", "1");
    std::fs::write(&hang, "").expect("it can be written");
    let mut connection = broker.connect();
    connection.send("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: 22\r\n\r\n{\"event\":\"a\",\"data\":2}");
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    std::fs::remove_file(&hang).expect("it is there");
    let broker = faulty.start();
    assert_eq!(broker.get("/audit/a").json()[format!("a_v_{before}")], 1);
    assert!(insert(&broker, "a", "3") > before);
}

#[test]
fn a_failed_fsync_stops_inserts_until_a_restart_and_nothing_is_lost() {
    let faulty = Faulty::new();
    let broker = faulty.start();
    let before = insert(&broker, "a", "1");
    let mut stream = broker.subscribe("/events", "");
    assert_eq!(stream.event().number(), before);
    std::fs::write(&faulty.trigger, "").expect("it can be written");
    let body = "{\"event\":\"a\",\"data\":2}";
    let refused = broker.post("/insert", "", body);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.field("Retry-After").is_some() && refused.text().contains("restart"), "{refused:?}");
    std::fs::remove_file(&faulty.trigger).expect("it is there");
    // What the kernel holds of it is not known: the disk being well again is not enough.
    assert_eq!(broker.post("/insert", "", body).status, 503);
    assert_eq!(broker.get("/healthz").status, 503);
    assert_eq!(broker.stats()["store"], "failed");
    let metrics = broker.metrics();
    assert_eq!(["ready", "failed"].map(|state| metrics.by("esker_store_state", "state", state)), [0.0, 1.0]);
    assert_eq!(metrics.by("esker_store_refusals_total", "reason", "failed"), 2.0);
    let commits = ["esker_store_commits_total", "esker_store_commit_seconds_count", "esker_store_records_total"];
    assert_eq!(commits.map(|name| metrics.of(name)), [1.0; 3], "the one that came to nothing is not counted");
    let published = broker.publish("topicone1", "data: topics go on");
    assert_eq!(broker.get("/audit/a").text(), format!("{{\"a_v_{before}\":1}}"));
    broker.signal("KILL");
    broker.wait();
    let broker = faulty.start();
    let after = insert(&broker, "a", "3");
    let published: u64 = published["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert!(after > published, "{after} after {published}");
    let versions = broker.get("/audit/a").json();
    assert_eq!((&versions[format!("a_v_{before}")], &versions[format!("a_v_{after}")]), (&1.into(), &3.into()));
    broker.assert_well();
}
