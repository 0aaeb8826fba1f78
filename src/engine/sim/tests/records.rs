//! Records in the log.

use super::*;
use crate::engine::log::{Insert, KeyLimits, LastBatch, NAME_COST, Peer, ReadRecords, Version, cost_of, stored};
use crate::engine::{FORMAT, RECORDS_FORMAT};
use crate::records::insert::{IdempotencyKey, InsertOutcome, InsertRequest};
use crate::records::{NewRecord, Record};

impl Bench {
    fn insert(&mut self, connection: &mut SimConnection, hello: Hello, records: &[(&str, &str)]) -> Inserted {
        self.insert_above(connection, hello, records, 0)
    }

    fn insert_above(
        &mut self,
        connection: &mut SimConnection,
        hello: Hello,
        records: &[(&str, &str)],
        floor: u64,
    ) -> Inserted {
        self.batches += 1;
        let record = |(name, data): &(&str, &str)| NewRecord { name: (*name).into(), data: (*data).into() };
        let requests: Vec<_> = records.iter().map(|pair| record(pair).into()).collect();
        let insert = Insert { hello, batch: self.batches, floor, requests: &requests, keys: KeyLimits::default() };
        let result = connection.insert(&insert).map(|inserted| stored(&inserted.outcomes).unwrap().0);
        Inserted { batch: self.batches, token: insert.token(), result }
    }
}

struct Inserted {
    batch: u64,
    token: String,
    result: Result<u64, LogError>,
}

fn record(id: u64, name: &str, data: &str) -> Record {
    Record { id, name: name.into(), data: data.into() }
}

/// Returns what all pages have, each of which begins after the last id of the one before.
fn all_newest(connection: &mut SimConnection) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let page = connection.newest_records(all.last().map_or(0, |record| record.id)).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[test]
fn records_have_the_next_ids_and_are_read() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let event = bench.append(&mut connection, HELLO, &[None, None]);
    let inserted = bench.insert(&mut connection, HELLO, &[("a", "1"), ("b", "2"), ("a", "3")]);
    let first = inserted.result.unwrap();
    assert_eq!((event.first(), first), (BEGIN, BEGIN + 2));
    let entry = connection.read(BEGIN).unwrap().remove(0);
    let expected = Entry { id: first, previous: BEGIN, token: inserted.token.into(), body: Body::Records(3) };
    assert_eq!(entry, expected);
    let [one, two, three] = [record(first, "a", "1"), record(first + 1, "b", "2"), record(first + 2, "a", "3")];
    assert_eq!(connection.records(first, first + 2).unwrap(), [one, two.clone(), three.clone()]);
    assert_eq!(connection.records(first + 1, first + 1).unwrap(), std::slice::from_ref(&two));
    assert_eq!(connection.newest_records(0).unwrap(), [two, three.clone()]);
    assert_eq!(connection.newest_records(first + 1).unwrap(), [three]);
    assert_eq!([first + 2, first + 3, BEGIN].map(|id| connection.has_record(id).unwrap()), [true, false, false]);
    let version = |id, data: &str| Version { id, data: data.into() };
    assert_eq!(connection.versions("a", 0, 9).unwrap(), [version(first, "1"), version(first + 2, "3")]);
    assert_eq!(connection.versions("a", 0, 1).unwrap(), [version(first, "1")]);
    assert_eq!(connection.versions("a", first, 9).unwrap(), [version(first + 2, "3")]);
    assert_eq!(connection.versions("c", 0, 9).unwrap(), []);
    let next = bench.append(&mut connection, HELLO, &[None]);
    assert_eq!(next.first(), first + 3);
    let above = bench.insert_above(&mut connection, HELLO, &[("a", "4")], first + 9);
    assert_eq!((above.result, bench.log.records().len()), (Ok(first + 10), 4));
    assert_eq!(bench.log.inserted().iter().map(|(entry, _)| entry.id).collect::<Vec<_>>(), [first, first + 10]);
}

#[test]
fn a_session_inserts_until_another_begins_and_leaves_its_last_batch() {
    let mut bench = Bench::new();
    let mut old = bench.begin(HELLO);
    let inserted = bench.insert(&mut old, HELLO, &[("a", "1")]);
    let newer = Hello { session: 12, ..HELLO };
    let greeting = bench.connect(1).hello(newer).unwrap();
    let outcomes = vec![InsertOutcome::Stored(inserted.result.unwrap())];
    assert_eq!(greeting.last_batch, Some((inserted.batch, LastBatch::Inserts(outcomes))));
    assert_eq!(bench.insert(&mut old, HELLO, &[("a", "2")]).result, Err(LogError::Fenced));
    assert_eq!((bench.log.records().len(), bench.entries().len()), (1, 1));
}

#[test]
fn a_log_of_an_older_format_refuses_records_alone() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    bench.log.set_format(RECORDS_FORMAT - 1);
    let refused = bench.insert(&mut connection, HELLO, &[("a", "1")]).result;
    assert!(matches!(refused, Err(LogError::Refused(Refusal::Records, _))), "{refused:?}");
    bench.append(&mut connection, HELLO, &[None]).result.unwrap();
    assert_eq!((bench.log.records().len(), bench.entries().len()), (0, 1));
    bench.log.set_format(FORMAT);
    bench.insert(&mut connection, HELLO, &[("a", "1")]).result.unwrap();
}

#[test]
fn records_beyond_the_limit_are_refused_alone() {
    let (one, name) = (cost_of("a", "12"), NAME_COST + 1);
    let mut bench = Bench::retaining(Retention { record_bytes: 2 * one, ..RETENTION });
    let mut connection = bench.begin(HELLO);
    bench.insert(&mut connection, HELLO, &[("a", "12")]).result.unwrap();
    assert_eq!(connection.pulse(HELLO).unwrap().record_bytes, one);
    let refused = bench.insert(&mut connection, HELLO, &[("a", "123")]).result;
    assert!(matches!(refused, Err(LogError::Refused(Refusal::Records, _))), "{refused:?}");
    bench.append(&mut connection, HELLO, &[None]).result.unwrap();
    bench.insert(&mut connection, HELLO, &[("a", "34")]).result.unwrap();
    assert_eq!((bench.log.records().len(), connection.pulse(HELLO).unwrap().record_bytes), (2, 2 * one - name));
}

#[test]
fn a_log_that_does_not_exist_refuses_records() {
    let mut bench = Bench::without_log(RETENTION);
    let mut connection = bench.begin(HELLO);
    let refused = bench.insert(&mut connection, HELLO, &[("a", "1")]).result;
    assert!(matches!(refused, Err(LogError::Refused(Refusal::NotWritable, _))), "{refused:?}");
    assert_eq!(connection.newest_records(0).unwrap(), []);
}

#[test]
fn records_stay_when_their_entries_are_trimmed() {
    let mut bench = Bench::retaining(Retention { bytes: 2 * RECORDS_COST, ..RETENTION });
    let mut connection = bench.begin(HELLO);
    for _ in 0..9 {
        bench.insert(&mut connection, HELLO, &[("a", "1")]).result.unwrap();
    }
    assert_eq!((bench.entries().len(), bench.log.records().len()), (2, 9));
    assert_eq!(all_newest(&mut connection), [record(BEGIN + 8, "a", "1")]);
}

#[test]
fn a_promoted_replica_lacks_the_records_of_lost_entries() {
    for (old, is_stale) in [(OldServer::Gone, None), (OldServer::Demoted, None), (OldServer::Unaware, Some(true))] {
        let mut bench = Bench::new();
        let mut connection = bench.begin(HELLO);
        let kept = bench.insert(&mut connection, HELLO, &[("a", "1")]).result.unwrap();
        let lost = bench.insert(&mut connection, HELLO, &[("a", "2")]).result.unwrap();
        bench.log.lose_suffix(1, old);
        assert_eq!(connection.has_record(lost).ok(), is_stale, "{old:?}");
        let mut other = bench.connect(2);
        assert_eq!(other.newest_records(0).unwrap(), [record(kept, "a", "1")]);
        assert_eq!((other.has_record(lost), bench.log.lost()[0].id), (Ok(false), lost));
    }
}

#[test]
fn records_are_removed_with_everything_else() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    bench.insert(&mut connection, HELLO, &[("a", "1")]).result.unwrap();
    bench.log.flush();
    assert_eq!((connection.newest_records(0).unwrap(), bench.log.records().len()), (Vec::new(), 0));
}

#[test]
fn inserts_meet_the_faults_of_appends() {
    let mut bench = Bench::new();
    for (fault, records) in
        [(Fault::LostRequest, 0), (Fault::Refused(Refusal::Memory), 0), (Fault::LostAnswer, 1), (Fault::Unproven, 2)]
    {
        let mut connection = bench.begin(HELLO);
        bench.log.plan(1, Kind::Insert, fault);
        assert!(bench.insert(&mut connection, HELLO, &[("a", "1")]).result.is_err());
        assert_eq!((bench.entries().len(), bench.log.records().len()), (records, records), "{fault:?}");
    }
    assert_eq!(bench.log.unproven().len(), 1);
    bench.log.set_out_of_memory(true);
    let result = bench.insert(&mut bench.begin(HELLO), HELLO, &[("a", "1")]).result;
    assert!(matches!(result, Err(LogError::Refused(Refusal::Memory, _))));
    bench.log.set_out_of_memory(false);
    let mut connection = bench.begin(HELLO);
    bench.log.plan(1, Kind::Insert, Fault::Late);
    assert!(bench.insert(&mut connection, HELLO, &[("a", "1")]).result.is_err());
    let mut newer = bench.begin(Hello { session: 12, ..HELLO });
    assert!(bench.log.deliver_late());
    assert_eq!(all_newest(&mut newer).len(), 1);
    assert_eq!(bench.log.records().len(), 2);
}

#[test]
fn reads_of_records_return_a_part_or_fail() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    bench.insert(&mut connection, HELLO, &records).result.unwrap();
    assert_eq!((connection.newest_records(0).unwrap().len(), all_newest(&mut connection).len()), (16, 40));
    for (limit, count) in [(0, 1), (1, 1), (2, 2)] {
        bench.log.plan(1, Kind::Records, Fault::Short(limit));
        assert_eq!(connection.records(0, u64::MAX).unwrap().len(), count);
    }
    bench.log.plan(1, Kind::Records, Fault::Refused(Refusal::NotWritable));
    assert!(matches!(connection.has_record(1), Err(LogError::Refused(Refusal::NotWritable, _))));
    bench.log.plan(1, Kind::Records, Fault::LostAnswer);
    assert!(matches!(connection.versions("1", 0, 1), Err(LogError::Broken(_))));
    assert!(matches!(connection.newest_records(0), Err(LogError::Broken(_))));
}

#[test]
fn brokers_are_known_for_a_while() {
    let bench = Bench::new();
    let (mut one, mut two) = (bench.begin(HELLO), bench.begin(OTHER));
    let peer =
        |broker, subscribers| Peer { broker, version: env!("CARGO_PKG_VERSION").into(), format: FORMAT, subscribers };
    assert_eq!(two.register(OTHER, 5).unwrap(), [peer(2, 5)]);
    assert_eq!(one.register(HELLO, 3).unwrap(), [peer(1, 3), peer(2, 5)]);
    bench.log.advance(4_000_000);
    assert_eq!(two.register(OTHER, 6).unwrap(), [peer(1, 3), peer(2, 6)]);
    bench.log.advance(7_000_000);
    assert_eq!(two.register(OTHER, 6).unwrap(), [peer(2, 6)]);
}

#[test]
fn idempotency_keys_are_forgotten_after_a_day() {
    const DAY: u64 = 24 * 3600 * 1_000_000;
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let mut insert = |bench: &mut Bench| {
        bench.batches += 1;
        let record = NewRecord { name: "a".into(), data: "1".into() };
        let requests = [InsertRequest { key: IdempotencyKey::new("k"), ..record.into() }];
        let (batch, keys) = (bench.batches, KeyLimits::default());
        let inserted = connection.insert(&Insert { hello: HELLO, batch, floor: 0, requests: &requests, keys }).unwrap();
        assert_eq!(inserted.forgotten, 0, "none is forgotten early");
        inserted.outcomes[0]
    };
    assert_eq!(insert(&mut bench), InsertOutcome::Stored(BEGIN));
    // A session does not last that long without a pulse.
    let pass = |bench: &mut Bench, micros| {
        bench.log.advance(micros);
        bench.begin(HELLO);
    };
    pass(&mut bench, DAY - 1);
    assert_eq!(insert(&mut bench), InsertOutcome::Repeated(BEGIN));
    pass(&mut bench, 1);
    assert_eq!(insert(&mut bench), InsertOutcome::Stored(BEGIN + DAY));
    pass(&mut bench, DAY - 1);
    assert_eq!(insert(&mut bench), InsertOutcome::Repeated(BEGIN + DAY));
}
