//! What every implementation of the log does when records are erased or not retained.

use std::num::NonZeroU64;
use std::thread::sleep;
use std::time::{Duration, Instant};

use esker::internals::engine::log::{
    Attach, Body, Compacted, Entry, Erase, Erased, Log, LogError, ReadRecords, Refusal, RemoveRecords, Swept,
    record_cost,
};
use esker::internals::engine::redis::{ServerLog, tools};
use esker::internals::engine::settings::Retention;
use esker::internals::records::{NewRecord, Silent, VersionRetention};

use crate::conformance::{AMPLE, Broker, Connection};
use crate::records::{newest, records, refusal};
use crate::redis_server::RedisServer;
use crate::support::{Vary as _, connect, settings};

/// Defines a test for each check of removals. `$connect` is a closure that connects to a log which is empty at first.
#[macro_export]
macro_rules! removal_conformance {
    ($connect:expr) => {
        $crate::removal_conformance!(
            $connect;
            an_erased_name_is_gone_and_an_entry_says_so,
            older_versions_are_erased_silently,
            many_versions_are_erased_in_parts,
            versions_that_come_meanwhile_stay,
            what_is_not_there_is_erased_at_once,
            a_fenced_session_erases_nothing,
            an_erasure_exceeds_the_floor,
            an_erased_name_can_be_inserted_again,
            removed_records_are_not_taken_for_lost_ones,
            inserts_remove_surplus_versions,
            a_sweep_finds_nothing_that_inserts_have_left,
            removed_records_make_room,
        );
    };
    ($connect:expr; $($check:ident,)*) => {
        $(
            #[test]
            fn $check() {
                $crate::removals::$check(&mut $connect);
            }
        )*
    };
}

const fn keeping(versions: u64) -> Retention {
    Retention { versions: VersionRetention { versions: NonZeroU64::new(versions), age: None }, ..AMPLE }
}

/// Erases a part.
fn try_erase<L: Log + RemoveRecords>(
    broker: &mut Broker<L>,
    name: &str,
    before: Option<u64>,
) -> Result<Erased, LogError> {
    let (hello, floor) = (broker.hello, broker.floor);
    broker.log.erase(&Erase { hello, batch: 77, floor, name, before })
}

/// Erases all of it, and returns how many versions that were, and the last answer.
fn erase<L: Log + RemoveRecords>(broker: &mut Broker<L>, name: &str, before: Option<u64>) -> (u64, Erased) {
    let (mut before, mut versions) = (before, 0);
    loop {
        let erased = try_erase(broker, name, before).unwrap();
        versions += erased.versions;
        match erased.rest {
            Some(rest) => {
                assert!(erased.versions > 0 && erased.entry.is_none(), "{erased:?}");
                before = Some(rest);
            }
            None => return (versions, erased),
        }
    }
}

fn ids<L: Log + ReadRecords>(broker: &mut Broker<L>, name: &str) -> Vec<u64> {
    records(broker).iter().filter(|record| &*record.name == name).map(|record| record.id).collect()
}

fn erasures<L: Log>(broker: &mut Broker<L>) -> Vec<Entry> {
    broker.entries().into_iter().filter(|entry| matches!(entry.body, Body::Erased(_))).collect()
}

pub fn an_erased_name_is_gone_and_an_entry_says_so<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
    assert_eq!(broker.log.attach(&Attach::default()).unwrap().erased, 0);
    let (versions, erased) = erase(&mut broker, "a", None);
    let entry = erased.entry.unwrap();
    assert!(entry > first + 2 && erased.last == entry, "{erased:?}");
    assert_eq!((versions, broker.log.pulse(broker.hello).unwrap().last), (2, entry));
    assert_eq!((ids(&mut broker, "a"), ids(&mut broker, "b")), (vec![], vec![first + 1]));
    assert_eq!(newest(&mut broker).len(), 1);
    assert_eq!(broker.log.versions("a", 0, 10).unwrap(), []);
    assert!(!broker.log.has_record(first + 2).unwrap());
    let said = erasures(&mut broker);
    assert_eq!((said.len(), said[0].id, said[0].previous, &said[0].body), (1, entry, first, &Body::Erased(first + 2)));
    let attached = broker.log.attach(&Attach::default()).unwrap();
    assert_eq!((attached.erased, attached.pulse.last), (entry, entry));
    assert!(broker.append(1, &[]).unwrap().first > entry);
}

pub fn older_versions_are_erased_silently<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1"), ("a", "2"), ("ab", "3"), ("a", "4")]).unwrap();
    let (versions, erased) = erase(&mut broker, "a", Some(first + 3));
    assert_eq!((versions, erased.entry, erased.last), (2, None, first + 3));
    assert_eq!((ids(&mut broker, "a"), ids(&mut broker, "ab")), (vec![first + 3], vec![first + 2]));
    assert_eq!(newest(&mut broker).len(), 2);
    assert_eq!(erasures(&mut broker), []);
    let (versions, erased) = erase(&mut broker, "a", Some(first + 4));
    assert_eq!((versions, erased.entry.is_some()), (1, true), "the newest version is before that id, too");
    assert_eq!(newest(&mut broker).len(), 1);
}

pub fn many_versions_are_erased_in_parts<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let mut last = 0;
    for _ in 0..6 {
        last = broker.insert(&[("a", "1"); 100]).unwrap() + 99;
    }
    let other = broker.insert(&[("b", "2")]).unwrap();
    let part = try_erase(&mut broker, "a", None).unwrap();
    assert!((1..600).contains(&part.versions) && part.rest.is_some() && part.entry.is_none(), "{part:?}");
    assert_eq!(newest(&mut broker).len(), 2, "the newest version goes last");
    let (versions, erased) = erase(&mut broker, "a", part.rest);
    assert_eq!(part.versions + versions, 600);
    assert_eq!(erasures(&mut broker)[0].body, Body::Erased(last));
    assert!(erased.entry.is_some());
    assert_eq!(records(&mut broker).iter().map(|record| record.id).collect::<Vec<_>>(), [other]);
}

pub fn versions_that_come_meanwhile_stay<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    for _ in 0..4 {
        broker.insert(&[("a", "1"); 100]).unwrap();
    }
    let part = try_erase(&mut broker, "a", None).unwrap();
    let id = broker.insert(&[("a", "2")]).unwrap();
    let (_, erased) = erase(&mut broker, "a", part.rest);
    assert_eq!(erased.entry, None);
    assert_eq!((ids(&mut broker, "a"), newest(&mut broker).len()), (vec![id], 1));
}

pub fn what_is_not_there_is_erased_at_once<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1")]).unwrap();
    for (name, before) in [("b", None), ("b", Some(u64::MAX)), ("a", Some(0)), ("a", Some(first)), ("", None)] {
        let expected = Erased { versions: 0, rest: None, entry: None, last: first };
        assert_eq!(try_erase(&mut broker, name, before), Ok(expected), "{name:?}, {before:?}");
    }
    assert_eq!(ids(&mut broker, "a"), [first]);
    assert_eq!(erase(&mut broker, "a", Some(u64::MAX)).0, 1);
}

pub fn a_fenced_session_erases_nothing<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut old = Broker::new(connect(keeping(1)), 1);
    let first = old.insert(&[("a", "1")]).unwrap();
    let mut new = Broker::new(connect(keeping(1)), 1);
    new.hello.session = 7;
    new.log.hello(new.hello).unwrap();
    assert_eq!(try_erase(&mut old, "a", None), Err(LogError::Fenced));
    assert_eq!(old.log.sweep(old.hello), Err(LogError::Fenced));
    assert_eq!(ids(&mut new, "a"), [first]);
}

pub fn an_erasure_exceeds_the_floor<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1")]).unwrap();
    broker.floor = first + 1_000_000_000;
    assert_eq!(erase(&mut broker, "a", None).1.entry, Some(broker.floor + 1));
}

pub fn an_erased_name_can_be_inserted_again<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    broker.insert(&[("a", "1"), ("a", "2")]).unwrap();
    let empty = broker.log.pulse(broker.hello).unwrap().record_bytes;
    let (_, erased) = erase(&mut broker, "a", None);
    assert_eq!(broker.log.pulse(broker.hello).unwrap().record_bytes, 0);
    let id = broker.insert(&[("a", "1"), ("a", "2")]).unwrap();
    assert!(Some(id) > erased.entry);
    assert_eq!(broker.log.pulse(broker.hello).unwrap().record_bytes, empty, "the name is new again");
    assert_eq!(ids(&mut broker, "a"), [id, id + 1]);
}

pub fn removed_records_are_not_taken_for_lost_ones<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
    let mark = broker.mark(first);
    erase(&mut broker, "a", Some(first + 1));
    let (found, has_entry) = broker.log.records_of(first, first + 2, &mark).unwrap();
    assert_eq!((found.len(), has_entry), (2, true));
    let forged = esker::internals::engine::log::Mark { token: "forged".into(), ..mark.clone() };
    assert!(!broker.log.records_of(first, first + 2, &forged).unwrap().1);
    erase(&mut broker, "a", None);
    erase(&mut broker, "b", None);
    let (found, has_entry) = broker.log.records_of(first, first + 2, &mark).unwrap();
    assert_eq!((found, has_entry), (vec![], true), "though there is no record at all");
    let attach = Attach { read: Some(mark.clone()), ..Attach::default() };
    assert!(broker.log.attach(&attach).unwrap().has_read);
    assert!(!broker.log.attach(&Attach { read: None, appended: Some(mark), ..attach }).unwrap().has_read);
}

pub fn inserts_remove_surplus_versions<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(keeping(3)), 1);
    let mut inserted = Vec::new();
    for _ in 0..5 {
        let first = broker.insert(&[("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
        inserted.extend([first, first + 2]);
    }
    assert_eq!(ids(&mut broker, "a"), inserted[7..]);
    assert_eq!(ids(&mut broker, "b").len(), 3);
    assert_eq!(broker.log.sweep(broker.hello), Ok(Swept { versions: 0, is_cut_short: false }));
    let first = broker.insert(&[("a", "1"); 200]).unwrap();
    assert_eq!(broker.log.versions("a", 0, 10).unwrap().last().map(|version| version.id), Some(first + 199));
}

pub fn a_sweep_finds_nothing_that_inserts_have_left<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(keeping(1)), 1);
    for number in 0..3 {
        let names: Vec<String> = (0..300).map(|name| format!("{name}")).collect();
        let pairs: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
        broker.insert(&pairs).unwrap();
        assert_eq!(records(&mut broker).len(), 300, "after {number}");
    }
    let nothing = Ok(Swept { versions: 0, is_cut_short: false });
    assert_eq!([(); 3].map(|()| broker.log.sweep(broker.hello)), [nothing.clone(), nothing.clone(), nothing]);
}

pub fn removed_records_make_room<L: Log + ReadRecords + RemoveRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { record_bytes: 5000, ..keeping(2) }), 1);
    let one = record_cost(&NewRecord { name: "a".into(), data: "12345678".into() });
    for _ in 0..100 {
        broker.insert(&[("a", "12345678")]).expect("the oldest version makes room");
    }
    let bytes = broker.log.pulse(broker.hello).unwrap().record_bytes;
    assert!(bytes <= 2 * one, "{bytes}");
    let full = loop {
        let name = format!("n{}", records(&mut broker).len());
        if let Err(full) = broker.insert(&[(&name, "1")]) {
            break full;
        }
    };
    assert_eq!(refusal::<()>(Err(full)).0, Refusal::Records);
    erase(&mut broker, "n2", None);
    broker.insert(&[("n2", "1")]).expect("there is room again");
}

fn server() -> RedisServer {
    RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"])
}

/// Sweeps until a round through all names has removed nothing. Returns how many versions were removed, and the parts.
fn sweep(broker: &mut Broker<ServerLog>) -> (u64, usize) {
    let (mut versions, mut parts, mut idle) = (0, 0, 0);
    while idle < 4 {
        let swept = broker.log.sweep(broker.hello).unwrap();
        (versions, parts) = (versions + swept.versions, parts + usize::from(swept.versions > 0));
        idle = if swept.versions > 0 { 0 } else { idle + 1 };
    }
    (versions, parts)
}

#[test]
fn a_smaller_number_of_versions_is_reached_by_sweeps() {
    let server = server();
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let names: Vec<String> = (0..300).map(|name| format!("{name}")).collect();
    let pairs: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    broker.insert(&pairs).unwrap();
    broker.insert(&[("many", "1"); 700]).unwrap();
    broker.insert(&pairs).unwrap();
    broker.log = connect(settings(&server).retaining(keeping(1)));
    let (versions, parts) = sweep(&mut broker);
    assert_eq!((versions, parts >= 4), (999, true), "in {parts} parts");
    assert_eq!((records(&mut broker).len(), newest(&mut broker).len()), (301, 301));
    let report = tools::check(&settings(&server), &Silent).unwrap();
    assert!(report.is_good() && report.records == 301, "{report}");
}

/// More names get new versions between two sweeps than one of them looks at.
#[test]
fn a_name_is_swept_again_however_many_others_get_new_versions() {
    let server = server();
    let mut broker = Broker::new(connect(settings(&server)), 1);
    broker.insert(&[("idle", "1"), ("idle", "2")]).unwrap();
    let versions = VersionRetention { versions: None, age: Some(Duration::from_secs(1)) };
    broker.log = connect(settings(&server).retaining(Retention { versions, ..AMPLE }));
    let names: Vec<String> = (0..300).map(|name| format!("{name}")).collect();
    let pairs: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    let end = Instant::now() + Duration::from_secs(20);
    while ids(&mut broker, "idle").len() > 1 {
        assert!(Instant::now() < end, "a version is kept that has reached the age");
        broker.insert(&pairs).unwrap();
        broker.log.sweep(broker.hello).unwrap();
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn versions_beyond_the_age_are_swept() {
    let server = server();
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let first = broker.insert(&[("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")]).unwrap();
    let aged = |age| {
        let versions = VersionRetention { versions: None, age: Some(age) };
        connect(settings(&server).retaining(Retention { versions, ..AMPLE }))
    };
    broker.log = aged(Duration::from_secs(3600));
    assert_eq!(sweep(&mut broker).0, 0);
    broker.log = aged(Duration::ZERO);
    assert_eq!(sweep(&mut broker).0, 2);
    assert_eq!((ids(&mut broker, "a"), ids(&mut broker, "b")), (vec![first + 3], vec![first + 2]));
    broker.insert(&[("a", "5")]).unwrap();
    assert_eq!(ids(&mut broker, "a").len(), 1, "an insert removes them as well");
}

/// Brokers of an older version may use such a log, and would take a removed record for a lost one.
#[test]
fn a_log_of_an_older_format_keeps_all_records() {
    let server = server();
    let mut broker = Broker::new(connect(settings(&server).retaining(keeping(1))), 1);
    let _: i64 = server.command(&["HSET", "{esker}:1:meta", "layout", "2", "format", "2"]);
    let first = broker.insert(&[("a", "1"), ("a", "2")]).unwrap();
    for refused in [try_erase(&mut broker, "a", None).map(drop), broker.log.sweep(broker.hello).map(drop)] {
        let (kind, why) = refusal(refused);
        assert!(kind == Refusal::Records && why.contains("esker engine raise"), "{why}");
    }
    assert_eq!(ids(&mut broker, "a"), [first, first + 1]);
}

#[test]
fn the_command_erases_and_leaves_no_session() {
    let server = server();
    let mut broker = Broker::new(connect(settings(&server)), 1);
    for _ in 0..4 {
        broker.insert(&[("a", "1"); 200]).unwrap();
    }
    let first = broker.insert(&[("b", "1"), ("b", "2")]).unwrap();
    let keys = || server.command::<Vec<String>>(&["KEYS", "{esker}:1:s:*"]).len();
    let erase = |name, before| tools::erase(&settings(&server), name, before, &Silent).unwrap();
    assert_eq!((erase("b", Some(first + 1)), erase("a", None), erase("a", None), erase("", None)), (1, 800, 0, 0));
    let deadline = Instant::now() + Duration::from_secs(10);
    while keys() > 1 {
        assert!(Instant::now() < deadline, "the sessions of the command are there");
    }
    assert_eq!((ids(&mut broker, "b"), erasures(&mut broker).len()), (vec![first + 1], 1));
    let report = tools::check(&settings(&server), &Silent).unwrap();
    assert!(report.is_good() && report.records == 1 && report.names == 1, "{report}");
}

/// Returns whether the server's files have a text.
fn files_have(server: &RedisServer, text: &str) -> bool {
    let mut folders = vec![server.directory().to_path_buf()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let has = |path: &std::path::PathBuf| {
        // The server removes old ones by itself.
        let bytes = std::fs::read(path).unwrap_or_default();
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    };
    files.iter().any(has)
}

/// Has the server write its files anew, as the guide says.
fn rewrite(server: &RedisServer) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let info =
        |line: &str| server.command::<String>(&["INFO", "persistence"]).lines().any(|other| other.trim() == line);
    let wait_for = |line: &str| {
        while !info(line) {
            assert!(Instant::now() < deadline, "{line}");
            sleep(Duration::from_millis(5));
        }
    };
    let _: String = server.command(&["BGREWRITEAOF"]);
    wait_for("aof_rewrite_scheduled:0");
    wait_for("aof_rewrite_in_progress:0");
    let _: String = server.command(&["SAVE"]);
}

#[test]
fn erased_text_is_in_no_file_after_a_rewrite() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always", "--rdbcompression", "no"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    for number in 0..40 {
        broker.insert(&[("kept", "\"text that is kept\""), ("erased", "\"text to be erased\"")]).unwrap();
        if number == 20 {
            rewrite(&server);
        }
    }
    assert_eq!(tools::erase(&settings(&server), "erased", None, &Silent).unwrap(), 40);
    rewrite(&server);
    assert!(files_have(&server, "text that is kept") && !files_have(&server, "text to be erased"));
    assert_eq!(ids(&mut broker, "kept").len(), 40);
    broker.insert(&[("kept", "1"), ("erased", "2")]).unwrap();
    let report = tools::check(&settings(&server), &Silent).unwrap();
    assert!(report.is_good() && report.records == 42, "{report}");
}

#[test]
fn removed_records_give_their_memory_back_while_others_come_and_go() {
    let server = server();
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let names: Vec<String> = (0..500).map(|name| format!("{name}")).collect();
    let pairs: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    for _ in 0..6 {
        broker.insert(&pairs).unwrap();
    }
    broker.log = connect(settings(&server).retaining(keeping(1)));
    assert_eq!(sweep(&mut broker).0, 2500);
    let nodes = |server: &RedisServer| {
        let info: Vec<redis::Value> = server.command(&["XINFO", "STREAM", "{esker}:1:rec"]);
        let at = info.iter().position(|value| *value == redis::Value::BulkString(b"radix-tree-keys".to_vec())).unwrap();
        redis::from_redis_value::<u64>(info[at + 1].clone()).unwrap()
    };
    broker.insert(&[("new", "1")]).unwrap();
    let mut parts = 0;
    while broker.log.compact(broker.hello).unwrap() == Compacted::Partly {
        parts += 1;
        // Each erasure has the records copied again.
        if parts <= 4 {
            broker.insert(&[("new", "1"), (&names[parts], "2")]).unwrap();
            erase(&mut broker, &names[100 + parts], None);
        }
    }
    assert!((5..50).contains(&parts), "in {parts} parts");
    assert!(nodes(&server) < 20, "{} nodes", nodes(&server));
    let report = tools::check(&settings(&server), &Silent).unwrap();
    assert!(report.is_good() && report.records == 497, "{report}");
    let keys: Vec<String> = server.command(&["KEYS", "{esker}:1:copy"]);
    assert_eq!(keys, Vec::<String>::new());
}
