//! What every implementation of the log does with records, whether it is on a server or in memory.

use esker::internals::engine::FORMAT;
use esker::internals::engine::log::{
    Attach, Attached, Body, Entry, From, Hello, Log, LogError, ReadRecords, Refusal, Version,
};
use esker::internals::engine::settings::Retention;
use esker::internals::records::Record;

use crate::conformance::{AMPLE, Broker, Connection, first_of};

/// Defines a test for each check of records. `$connect` is a closure that connects to a log which is empty at first.
#[macro_export]
macro_rules! record_conformance {
    ($connect:expr) => {
        $crate::record_conformance!(
            $connect;
            ids_of_records_and_events_ascend,
            an_entry_refers_to_records,
            ids_of_records_exceed_the_floor,
            records_are_read_by_id,
            the_newest_record_of_each_name_is_read,
            the_newest_records_are_read_in_parts,
            versions_of_a_name_are_read,
            versions_are_read_in_parts,
            names_are_told_apart,
            large_records_are_read_in_parts,
            a_fenced_session_inserts_nothing,
            a_greeting_tells_the_last_batch_of_records,
            records_beyond_the_limit_are_refused,
            the_bytes_of_records_are_told,
            trimming_leaves_records,
            entries_of_records_are_trimmed,
            a_missing_entry_of_records_is_a_loss,
            brokers_know_each_other,
        );
    };
    ($connect:expr; $($check:ident,)*) => {
        $(
            #[test]
            fn $check() {
                $crate::records::$check(&mut $connect);
            }
        )*
    };
}

/// Returns a refusal and why, or fails.
pub fn refusal<T>(result: Result<T, LogError>) -> (Refusal, String) {
    match result {
        Err(LogError::Refused(refusal, why)) => (refusal, why),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

/// Reads all parts. `next` returns the part after an id.
fn all<T>(mut next: impl FnMut(u64) -> Vec<T>, id: impl Fn(&T) -> u64) -> Vec<T> {
    let mut read: Vec<T> = Vec::new();
    loop {
        let more = next(read.last().map_or(0, &id));
        if more.is_empty() {
            assert!(read.is_sorted_by(|one, next| id(one) < id(next)), "ids ascend");
            return read;
        }
        read.extend(more);
    }
}

pub fn newest<L: Log + ReadRecords>(broker: &mut Broker<L>) -> Vec<Record> {
    all(|after| broker.log.newest_records(after).unwrap(), |record| record.id)
}

pub fn records<L: Log + ReadRecords>(broker: &mut Broker<L>) -> Vec<Record> {
    all(|after| broker.log.records(after + 1, u64::MAX).unwrap(), |record| record.id)
}

fn versions<L: Log + ReadRecords>(broker: &mut Broker<L>, name: &str, limit: usize) -> Vec<Version> {
    let page = |after| {
        let page = broker.log.versions(name, after, limit).unwrap();
        assert!(page.len() <= limit);
        page
    };
    all(page, |version| version.id)
}

fn record(id: u64, name: &str, data: &str) -> Record {
    Record { id, name: name.into(), data: data.into() }
}

fn version(id: u64, data: &str) -> Version {
    Version { id, data: data.into() }
}

/// Reads all entries with records.
fn references<L: Log>(broker: &mut Broker<L>) -> Vec<Entry> {
    broker.entries().into_iter().filter(|entry| matches!(entry.body, Body::Records(_))).collect()
}

pub fn ids_of_records_and_events_ascend<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut brokers = [Broker::new(connect(AMPLE), 1), Broker::new(connect(AMPLE), 2)];
    let mut newest = 0;
    for turn in 0..12 {
        let broker = &mut brokers[turn % 2];
        let first = match turn % 3 {
            0 => broker.append(2, &[]).unwrap().first,
            _ => broker.insert(&[("a", "1"), ("b", "2")]).unwrap(),
        };
        assert!(first > newest, "{first} after {newest}");
        newest = first + 1;
        assert_eq!(broker.log.pulse(broker.hello).unwrap().last, newest);
    }
}

pub fn an_entry_refers_to_records<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let before = broker.append(1, &[]).unwrap().first;
    let first = broker.insert(&[("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
    let token = broker.mark(first).token;
    let after = broker.append(1, &[]).unwrap().first;
    assert!(after > first + 2);
    let expected = Entry { id: first, previous: before, token, body: Body::Records(3) };
    assert_eq!(references(&mut broker), [expected]);
    assert_eq!(broker.events()[1].previous, first);
    assert_eq!(
        broker.log.records(first, first + 2).unwrap(),
        [record(first, "a", "1"), record(first + 1, "b", "2"), record(first + 2, "a", "3")]
    );
}

pub fn ids_of_records_exceed_the_floor<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1")]).unwrap();
    broker.floor = first + 1_000_000_000;
    assert_eq!(broker.insert(&[("a", "2"), ("a", "3")]).unwrap(), broker.floor + 1);
    let last = broker.floor + 2;
    broker.floor = 0;
    assert_eq!(broker.insert(&[("a", "4")]).unwrap(), last + 1, "ids don't fall back to the clock");
}

pub fn records_are_read_by_id<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    assert_eq!(broker.log.records(0, u64::MAX).unwrap(), []);
    assert!(!broker.log.has_record(1).unwrap());
    let first = broker.insert(&[("a", "1"), ("b", "2")]).unwrap();
    let event = broker.append(1, &[]).unwrap().first;
    let second = broker.insert(&[("c", "3")]).unwrap();
    let all = [record(first, "a", "1"), record(first + 1, "b", "2"), record(second, "c", "3")];
    assert_eq!(records(&mut broker), all);
    assert_eq!(broker.log.records(first + 1, second - 1).unwrap(), all[1..2]);
    assert_eq!(broker.log.records(first + 2, second - 1).unwrap(), []);
    assert_eq!(broker.log.records(second, first).unwrap(), []);
    for (id, exists) in
        [(first - 1, false), (first, true), (first + 1, true), (event, false), (second, true), (u64::MAX, false)]
    {
        assert_eq!(broker.log.has_record(id).unwrap(), exists, "{id}");
    }
}

pub fn the_newest_record_of_each_name_is_read<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    assert_eq!(broker.log.newest_records(0).unwrap(), []);
    let first = broker.insert(&[("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
    assert_eq!(newest(&mut broker), [record(first + 1, "b", "2"), record(first + 2, "a", "3")]);
    let second = broker.insert(&[("b", "4"), ("c", "5")]).unwrap();
    let expected = [record(first + 2, "a", "3"), record(second, "b", "4"), record(second + 1, "c", "5")];
    assert_eq!(newest(&mut broker), expected);
    assert_eq!(broker.log.newest_records(first + 2).unwrap()[0], expected[1]);
    assert_eq!(broker.log.newest_records(second).unwrap(), expected[2..]);
    for after in [second + 1, u64::MAX] {
        assert_eq!(broker.log.newest_records(after).unwrap(), []);
    }
}

/// More records than a part has, in either order of names.
const MANY: usize = 600;

fn insert_many<L: Log>(broker: &mut Broker<L>, name: impl Fn(usize) -> String) -> Vec<Record> {
    let mut inserted = Vec::new();
    for batch in 0..MANY / 100 {
        let of = (0..100).map(|index| batch * 100 + index).map(|index| (name(index), index.to_string()));
        let of = of.collect::<Vec<_>>();
        let pairs = of.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect::<Vec<_>>();
        let first = broker.insert(&pairs).unwrap();
        inserted.extend((first..).zip(&of).map(|(id, (name, data))| record(id, name, data)));
    }
    inserted
}

pub fn the_newest_records_are_read_in_parts<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let inserted = insert_many(&mut broker, |index| format!("{}", MANY - index));
    assert_eq!(newest(&mut broker), inserted);
    assert_eq!(records(&mut broker), inserted);
    let moved = broker.insert(&[(&inserted[0].name, "\"moved\"")]).unwrap();
    let read = newest(&mut broker);
    assert_eq!(read[..MANY - 1], inserted[1..]);
    assert_eq!((read.len(), read[MANY - 1].id), (MANY, moved));
}

pub fn versions_of_a_name_are_read<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
    let second = broker.insert(&[("a", "4")]).unwrap();
    let expected = [version(first, "1"), version(first + 2, "3"), version(second, "4")];
    assert_eq!(versions(&mut broker, "a", 10), expected);
    assert_eq!(broker.log.versions("a", first - 1, 10).unwrap()[0], expected[0]);
    assert_eq!(broker.log.versions("a", first, 1).unwrap(), expected[1..2]);
    assert_eq!(broker.log.versions("a", first + 2, 10).unwrap(), expected[2..]);
    for after in [second, u64::MAX] {
        assert_eq!(broker.log.versions("a", after, 10).unwrap(), []);
    }
    assert_eq!(broker.log.versions("a", 0, 0).unwrap(), []);
    assert_eq!(broker.log.versions("absent", 0, 10).unwrap(), []);
    assert_eq!(versions(&mut broker, "b", 10), [version(first + 1, "2")]);
}

pub fn versions_are_read_in_parts<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    broker.insert(&[("a0", "0"), ("a-", "0")]).unwrap();
    let inserted = insert_many(&mut broker, |_| "a".to_owned());
    let expected = inserted.into_iter().map(|record| version(record.id, &record.data)).collect::<Vec<_>>();
    for limit in [1, 7, MANY, usize::MAX] {
        assert_eq!(versions(&mut broker, "a", limit), expected, "in parts of {limit}");
    }
}

pub fn names_are_told_apart<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let long = "x".repeat(256);
    let mut longer_but_one = long.clone();
    longer_but_one.truncate(255);
    let names = [
        "a",
        "a\u{1F600}",
        "ab",
        "a b",
        " a",
        "a ",
        "\"a\"",
        "'a'",
        "\\",
        "%00",
        "a0",
        "a!",
        "0",
        "-",
        "+",
        "(",
        "[",
        "é",
        "e\u{301}",
        &long,
        &longer_but_one,
    ];
    let mut broker = Broker::new(connect(AMPLE), 1);
    let mut inserted = Vec::new();
    for data in ["{\"n\": 1}", "\"\\u0000 \u{1F600}\""] {
        let pairs = names.map(|name| (name, data));
        let first = broker.insert(&pairs).unwrap();
        inserted.extend((first..).zip(names).map(|(id, name)| record(id, name, data)));
    }
    assert_eq!(records(&mut broker), inserted);
    assert_eq!(newest(&mut broker), inserted[names.len()..]);
    for name in names {
        let of_name = inserted.iter().filter(|record| *record.name == *name);
        let of_name = of_name.map(|record| version(record.id, &record.data)).collect::<Vec<_>>();
        assert_eq!(versions(&mut broker, name, 100), of_name, "{name:?}");
    }
}

pub fn large_records_are_read_in_parts<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let data = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    let mut broker = Broker::new(connect(AMPLE), 1);
    let mut inserted = Vec::new();
    for name in ["a", "b", "c"] {
        let first = broker.insert(&[("a", "1"), (name, &data), ("b", &data)]).unwrap();
        inserted.extend([record(first, "a", "1"), record(first + 1, name, &data), record(first + 2, "b", &data)]);
    }
    assert!(records(&mut broker) == inserted);
    let of_a = inserted.iter().filter(|record| *record.name == *"a");
    let of_a = of_a.map(|record| version(record.id, &record.data)).collect::<Vec<_>>();
    assert!(versions(&mut broker, "a", 100) == of_a);
    let ids = newest(&mut broker).iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids, [6, 7, 8].map(|index| inserted[index].id));
}

pub fn a_fenced_session_inserts_nothing<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut old = Broker::new(connect(AMPLE), 1);
    let first = old.insert(&[("a", "1")]).unwrap();
    let mut new = Broker::new(connect(AMPLE), 1);
    new.hello.session = 7;
    let before = new.log.hello(new.hello).unwrap().pulse;
    assert_eq!(old.insert(&[("a", "2")]), Err(LogError::Fenced));
    let after = new.log.pulse(new.hello).unwrap();
    assert_eq!((after.last, after.record_bytes), (before.last, before.record_bytes));
    assert_eq!(records(&mut new), [record(first, "a", "1")]);
    assert!(new.insert(&[("a", "3")]).unwrap() > first);
}

pub fn a_greeting_tells_the_last_batch_of_records<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let mut told = |broker: &mut Broker<L>| {
        broker.hello.session += 1;
        let mut next = connect(AMPLE);
        let greeting = next.hello(broker.hello).unwrap();
        assert_eq!(next.prove(), Ok(()));
        broker.log = next;
        (greeting.last_batch.as_ref().unwrap().0, first_of(&greeting))
    };
    broker.append(1, &[(0, "id")]).unwrap();
    broker.append(1, &[(0, "id")]).unwrap();
    let first = broker.insert(&[("a", "1"), ("b", "2")]).unwrap();
    assert_eq!(told(&mut broker), (3, first));
    assert_eq!(told(&mut broker), (3, first), "a session without an append changes nothing");
    let event = broker.append(1, &[]).unwrap().first;
    assert_eq!(told(&mut broker), (4, event));
}

pub fn records_beyond_the_limit_are_refused<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { record_bytes: 5000, ..AMPLE }), 1);
    let mut inserted = 0;
    let why = loop {
        let before = (broker.log.pulse(broker.hello).unwrap(), broker.entries(), records(&mut broker));
        match broker.insert(&[("a", "1"), ("b", "2")]) {
            Ok(_) => inserted += 2,
            refused => {
                let after = broker.log.pulse(broker.hello).unwrap();
                assert_eq!((after.last, after.record_bytes), (before.0.last, before.0.record_bytes));
                assert_eq!((broker.entries(), records(&mut broker)), (before.1, before.2), "nothing was written");
                break refusal(refused);
            }
        }
    };
    assert_eq!(why.0, Refusal::Records, "{}", why.1);
    assert!((6..30).contains(&inserted), "{inserted} records");
    broker.append(1, &[]).expect("events have nothing to do with it");
    let greeting = broker.log.hello(broker.hello).unwrap();
    assert!(first_of(&greeting) > records(&mut broker).last().unwrap().id);
}

pub fn the_bytes_of_records_are_told<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let mut bytes = |broker: &mut Broker<L>| {
        let pulse = broker.log.pulse(broker.hello).unwrap();
        assert_eq!(broker.log.hello(broker.hello).unwrap().pulse.record_bytes, pulse.record_bytes);
        let Attached { pulse: attached, .. } = connect(AMPLE).attach(&Attach::default()).unwrap();
        assert_eq!(attached.record_bytes, pulse.record_bytes);
        pulse.record_bytes
    };
    assert_eq!(bytes(&mut broker), 0);
    broker.append(3, &[]).unwrap();
    assert_eq!(bytes(&mut broker), 0);
    broker.insert(&[("a", "1")]).unwrap();
    let small = bytes(&mut broker);
    assert!((100..1000).contains(&small), "{small}");
    broker.insert(&[("b", &"x".repeat(10_000))]).unwrap();
    let large = bytes(&mut broker) - small;
    assert!((10_000..12_000).contains(&large), "{large}");
}

pub fn trimming_leaves_records<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { bytes: 300, ..AMPLE }), 1);
    let first = broker.insert(&[("a", "1"), ("b", "2")]).unwrap();
    for _ in 0..10 {
        broker.append_blob(1, &[], &[b'x'; 90]).unwrap();
    }
    assert_eq!(references(&mut broker), []);
    assert_eq!(records(&mut broker), [record(first, "a", "1"), record(first + 1, "b", "2")]);
    assert_eq!(newest(&mut broker).len(), 2);
    assert_eq!(versions(&mut broker, "a", 10), [version(first, "1")]);
    assert!(broker.log.has_record(first).unwrap());
    assert_eq!(broker.events().len(), 3, "an entry of records does not count any more once it is trimmed");
}

pub fn entries_of_records_are_trimmed<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    // Each counts 128 bytes, whatever its records are.
    let mut broker = Broker::new(connect(Retention { bytes: 128 * 5 + 90, ..AMPLE }), 1);
    broker.append_blob(1, &[], &[b'x'; 90]).unwrap();
    let large = "x".repeat(1000);
    for count in [1, 2, 3, 4, 5] {
        broker.insert(&vec![("a", large.as_str()); count]).unwrap();
    }
    assert_eq!((broker.events().len(), references(&mut broker).len()), (1, 5));
    broker.insert(&[("b", "1")]).unwrap();
    assert_eq!((broker.events().len(), references(&mut broker).len()), (0, 5));
    assert_eq!(records(&mut broker).len(), 16);
}

pub fn a_missing_entry_of_records_is_a_loss<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.insert(&[("a", "1"), ("a", "2")]).unwrap();
    let kept = broker.mark(first);
    let attach = Attach { read: Some(kept.clone()), appended: Some(kept.clone()), floor: 0, applied: 0, format: None };
    assert_eq!(broker.log.attach(&attach).unwrap().from, From::Next);
    let gone = esker::internals::engine::log::Mark { token: "gone".into(), ..kept };
    let attach = Attach { read: Some(gone), ..Attach::default() };
    let Attached { from: From::Loss(told), .. } = broker.log.attach(&attach).unwrap() else { panic!("no loss") };
    assert!(told > first + 1, "its id is larger than those of the records");
    assert!(broker.insert(&[("a", "3")]).unwrap() > told, "records go on");
    assert_eq!(versions(&mut broker, "a", 10).len(), 3);
}

pub fn brokers_know_each_other<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut first = Broker::new(connect(AMPLE), 0xFEDC_BA98_7654_3210);
    let mut second = Broker::new(connect(AMPLE), 7);
    let told = |broker: &mut Broker<L>, subscribers| {
        let peers = broker.log.register(broker.hello, subscribers).unwrap();
        for peer in &peers {
            assert_eq!((&*peer.version, peer.format), (env!("CARGO_PKG_VERSION"), FORMAT));
        }
        peers.iter().map(|peer| (peer.broker, peer.subscribers)).collect::<Vec<_>>()
    };
    let (one, other) = (first.hello.broker, second.hello.broker);
    assert_eq!(told(&mut first, 3), [(one, 3)]);
    assert_eq!(told(&mut second, 0), [(other, 0), (one, 3)]);
    assert_eq!(told(&mut first, 1 << 40), [(other, 0), (one, 1 << 40)]);
    let newer = Hello { session: 99, ..second.hello };
    second.log.hello(newer).unwrap();
    assert_eq!(second.log.register(second.hello, 5), Err(LogError::Fenced));
    assert_eq!(told(&mut first, 1), [(other, 0), (one, 1)]);
}
