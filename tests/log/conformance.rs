//! What every implementation of the log does, whether it is on a server or in memory. Nothing here depends on the time.

use std::time::Duration;

use esker::internals::engine::log::{
    Append, Appended, Attach, Attached, Body, Entry, From, Greeting, Hello, Insert, Inserted, KeyLimits, LastBatch,
    Log, LogError, Mark, OwnId, Pulse, Repetition, stored,
};
use esker::internals::engine::settings::Retention;
use esker::internals::records::insert::InsertRequest;
use esker::internals::records::{NewRecord, VersionRetention};

/// Retains everything that a test appends.
pub const AMPLE: Retention = Retention {
    age: Duration::from_secs(3600),
    bytes: 1 << 30,
    record_bytes: 1 << 30,
    versions: VersionRetention::ALL,
};
const ID_SPACE: u64 = 1_000_000_000;

/// Defines a test for each check. `$connect` is a closure that connects to a log which is empty at first.
#[macro_export]
macro_rules! conformance {
    ($connect:expr) => {
        $crate::conformance!(
            $connect;
            ids_ascend_across_brokers,
            ids_exceed_the_floor,
            what_was_appended_is_read,
            a_new_session_fences_the_old_one,
            a_greeting_tells_the_last_batch,
            a_publishers_id_is_accepted_once,
            a_publishers_id_repeats_within_a_batch,
            repetitions_alone_write_nothing,
            the_log_is_created_once,
            known_entries_are_found,
            a_loss_is_told_once,
            an_own_entry_that_is_missing_is_a_loss,
            another_entry_with_the_same_id_is_a_loss,
            entries_beyond_the_bytes_are_trimmed,
            the_last_entry_is_never_trimmed,
            trimmed_entries_are_no_loss,
        );
    };
    ($connect:expr; $($check:ident,)*) => {
        $(
            #[test]
            fn $check() {
                $crate::conformance::$check(&mut $connect);
            }
        )*
    };
}

/// A broker with a connection.
pub struct Broker<L> {
    pub log: L,
    pub hello: Hello,
    pub floor: u64,
    batch: u64,
}

impl<L: Log> Broker<L> {
    /// Attaches and begins a session.
    pub fn new(mut log: L, broker: u64) -> Self {
        log.attach(&Attach::default()).unwrap();
        let hello = Hello { broker, session: broker + 1000 };
        log.hello(hello).unwrap();
        Self { log, hello, floor: 0, batch: 0 }
    }

    /// Goes on with a session that has begun, as another process would.
    pub fn resume(log: L, hello: Hello) -> Self {
        Self { log, hello, floor: 0, batch: 100 }
    }

    /// Appends an entry of this many events. Some have an id of the publisher.
    pub fn append(&mut self, events: usize, own_ids: &[(usize, &str)]) -> Result<Appended, LogError> {
        self.append_blob(events, own_ids, b"blob")
    }

    pub fn append_blob(&mut self, events: usize, own_ids: &[(usize, &str)], blob: &[u8]) -> Result<Appended, LogError> {
        self.batch += 1;
        let own_ids =
            own_ids.iter().map(|&(index, id)| OwnId { index, key: format!("topic:{id}") }).collect::<Vec<_>>();
        self.log.append(&self.request(events, &own_ids, blob))
    }

    /// Inserts records: a name and data each. Returns the first one's id.
    pub fn insert(&mut self, records: &[(&str, &str)]) -> Result<u64, LogError> {
        let records = records.iter().map(|&(name, data)| NewRecord { name: name.into(), data: data.into() });
        let inserted = self.judge(&records.map(InsertRequest::from).collect::<Vec<_>>(), KeyLimits::default())?;
        let (first, last) = stored(&inserted.outcomes).expect("all are granted");
        assert_eq!((last - first + 1, inserted.forgotten), (inserted.outcomes.len() as u64, 0));
        Ok(first)
    }

    /// Has requests to insert records judged.
    pub fn judge(&mut self, requests: &[InsertRequest], keys: KeyLimits) -> Result<Inserted, LogError> {
        self.batch += 1;
        self.log.insert(&Insert { hello: self.hello, batch: self.batch, floor: self.floor, requests, keys })
    }

    fn request<'a>(&self, events: usize, own_ids: &'a [OwnId], blob: &'a [u8]) -> Append<'a> {
        Append { hello: self.hello, batch: self.batch, floor: self.floor, events, blob, own_ids }
    }

    /// Returns the mark of the entry that was appended last.
    pub fn mark(&self, entry: u64) -> Mark {
        Mark { entry, token: self.request(1, &[], b"").token().into() }
    }

    /// Reads all entries.
    pub fn entries(&mut self) -> Vec<Entry> {
        let newest = self.log.pulse(self.hello).unwrap().last;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |entry| entry.id);
            let more = self.log.read(after).unwrap();
            let read_all = more.is_empty() || more.last().is_some_and(|entry| entry.id >= newest);
            entries.extend(more);
            if read_all || entries.last().is_some_and(|entry| last_id(entry) >= newest) {
                return entries;
            }
        }
    }

    /// Reads all entries with events.
    pub fn events(&mut self) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| matches!(entry.body, Body::Events { .. })).collect()
    }
}

fn last_id(entry: &Entry) -> u64 {
    match entry.body {
        Body::Events { count, .. } | Body::Records(count) => entry.id + count as u64 - 1,
        _ => entry.id,
    }
}

/// Returns the id of the first new event or record of a session's last batch.
pub fn first_of(greeting: &Greeting) -> u64 {
    match &greeting.last_batch.as_ref().unwrap().1 {
        LastBatch::Events(appended) => appended.first,
        LastBatch::Inserts(outcomes) => stored(outcomes).unwrap().0,
    }
}

fn repetition(index: usize, original: u64) -> Repetition {
    Repetition { index, original }
}

fn count(entries: &[Entry], body: &Body) -> usize {
    entries.iter().filter(|entry| entry.body == *body).count()
}

pub type Connection<'a, L> = &'a mut dyn FnMut(Retention) -> L;

pub fn ids_ascend_across_brokers<L: Log>(connect: Connection<'_, L>) {
    let mut brokers = [Broker::new(connect(AMPLE), 1), Broker::new(connect(AMPLE), 2)];
    let mut newest = 0;
    for turn in 0..10 {
        let broker = &mut brokers[turn % 2];
        let first = broker.append(3, &[]).unwrap().first;
        assert!(first > newest, "{first} after {newest}");
        newest = first + 2;
        assert_eq!(broker.log.pulse(broker.hello).unwrap().last, newest);
    }
}

pub fn ids_exceed_the_floor<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = broker.append(1, &[]).unwrap().first;
    broker.floor = first + ID_SPACE;
    assert_eq!(broker.append(2, &[]).unwrap().first, first + ID_SPACE + 1);
    broker.floor = 0;
    assert_eq!(broker.append(1, &[]).unwrap().first, first + ID_SPACE + 3, "ids don't fall back to the clock");
}

pub fn what_was_appended_is_read<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let created = broker.log.pulse(broker.hello).unwrap().last;
    let first = broker.append_blob(1, &[(0, "a")], b"\x00\xFFfirst\r\n").unwrap();
    let first_mark = broker.mark(first.first);
    let second = broker.append_blob(3, &[(1, "a")], b"").unwrap();
    let second_mark = broker.mark(second.first);
    let body = |count, blob: &[u8], repetitions| Body::Events { count, blob: blob.to_vec(), repetitions };
    let expected = [
        Entry {
            id: first.first,
            previous: created,
            token: first_mark.token,
            body: body(1, b"\x00\xFFfirst\r\n", vec![]),
        },
        Entry { id: second.first, previous: first.first, token: second_mark.token, body: body(3, b"", vec![1]) },
    ];
    assert_eq!(broker.events(), expected);
    assert_eq!(broker.log.read(first.first).unwrap(), expected[1..]);
    assert_eq!(broker.log.read(second.first).unwrap(), []);
}

pub fn a_new_session_fences_the_old_one<L: Log>(connect: Connection<'_, L>) {
    let mut old = Broker::new(connect(AMPLE), 1);
    old.append(1, &[]).unwrap();
    let mut other = Broker::new(connect(AMPLE), 2);
    let mut new = Broker::new(connect(AMPLE), 1);
    new.hello.session = 7;
    let Greeting { pulse, .. } = new.log.hello(new.hello).unwrap();
    assert_eq!(old.append(1, &[(0, "a")]), Err(LogError::Fenced));
    assert_eq!(old.log.pulse(old.hello), Err(LogError::Fenced));
    let after: Pulse = new.log.pulse(new.hello).unwrap();
    assert_eq!(after.last, pulse.last, "nothing was appended");
    assert_eq!(new.append(1, &[(0, "a")]).unwrap().repetitions, [], "the fenced append left nothing behind");
    assert!(other.append(1, &[]).is_ok(), "other brokers go on");
}

pub fn a_greeting_tells_the_last_batch<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let hello = Hello { broker: 1, session: 5 };
    assert_eq!(broker.log.hello(hello).unwrap().last_batch, None);
    broker.hello = hello;
    let original = broker.append(1, &[(0, "a")]).unwrap();
    assert_eq!(
        broker.log.hello(Hello { session: 6, ..hello }).unwrap().last_batch,
        Some((1, LastBatch::Events(original)))
    );
    broker.hello.session = 6;
    let mixed = broker.append(3, &[(0, "b"), (2, "a")]).unwrap();
    assert_eq!(mixed.repetitions.len(), 1);
    let greeting = broker.log.hello(Hello { session: 7, ..hello }).unwrap();
    assert_eq!(greeting.last_batch, Some((2, LastBatch::Events(mixed))));
    let again = broker.log.hello(Hello { session: 8, ..hello }).unwrap();
    assert_eq!(again.last_batch, greeting.last_batch, "a session without an append changes nothing");
    assert_eq!(broker.log.hello(Hello { broker: 2, session: 5 }).unwrap().last_batch, None);
}

pub fn a_publishers_id_is_accepted_once<L: Log>(connect: Connection<'_, L>) {
    let mut brokers = [Broker::new(connect(AMPLE), 1), Broker::new(connect(AMPLE), 2)];
    let first = brokers[0].append(2, &[(1, "a")]).unwrap();
    assert_eq!(first.repetitions, []);
    let second = brokers[1].append(3, &[(0, "b"), (2, "a")]).unwrap();
    assert_eq!(second.repetitions, [repetition(2, first.first + 1)]);
    let third = brokers[0].append(2, &[(0, "b")]).unwrap();
    assert_eq!(third.repetitions, [repetition(0, second.first)]);
}

pub fn a_publishers_id_repeats_within_a_batch<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let appended = broker.append(3, &[(0, "a"), (1, "b"), (2, "a")]).unwrap();
    assert_eq!(appended.repetitions, [repetition(2, appended.first)]);
    let Body::Events { repetitions, .. } = &broker.events()[0].body else { panic!("no events") };
    assert_eq!(*repetitions, [2]);
}

pub fn repetitions_alone_write_nothing<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let original = broker.append(2, &[(0, "a"), (1, "b")]).unwrap().first;
    let before = broker.log.pulse(broker.hello).unwrap().last;
    let again = broker.append(2, &[(0, "b"), (1, "a")]).unwrap();
    assert_eq!(again.repetitions, [repetition(0, original + 1), repetition(1, original)]);
    assert_eq!(broker.log.pulse(broker.hello).unwrap().last, before);
    assert_eq!(broker.events().len(), 1);
}

pub fn the_log_is_created_once<L: Log>(connect: Connection<'_, L>) {
    let mut log = connect(AMPLE);
    let Attached { pulse, from, .. } = log.attach(&Attach { floor: 5, ..Attach::default() }).unwrap();
    assert_eq!(from, From::Next);
    assert!(pulse.last > 5);
    let entries = log.read(0).unwrap();
    assert_eq!((entries.len(), &entries[0].body, entries[0].id), (1, &Body::Marker, pulse.last));
    let again = connect(AMPLE).attach(&Attach::default()).unwrap();
    assert_eq!((again.from, again.pulse.last), (From::Next, pulse.last));
}

pub fn known_entries_are_found<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let read = broker.append(1, &[]).unwrap().first;
    let read = broker.mark(read);
    let appended = broker.append(1, &[]).unwrap().first;
    let appended = broker.mark(appended);
    let before = broker.log.pulse(broker.hello).unwrap();
    let attach = Attach { floor: appended.entry, read: Some(read), appended: Some(appended), applied: 0, format: None };
    let Attached { from, pulse, .. } = broker.log.attach(&attach).unwrap();
    assert_eq!((from, pulse.last, pulse.era), (From::Next, before.last, before.era));
}

fn lost<L: Log>(log: &mut L, attach: &Attach) -> u64 {
    match log.attach(attach).unwrap().from {
        From::Loss(id) => id,
        other => panic!("{other:?} instead of a loss"),
    }
}

pub fn a_loss_is_told_once<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let newest = broker.append(1, &[]).unwrap().first;
    let before = broker.log.pulse(broker.hello).unwrap();
    let beyond = |id: u64| Mark { entry: newest + id, token: "gone".into() };
    let attach = Attach { read: Some(beyond(7)), appended: None, floor: newest + 9, applied: 0, format: None };
    let told = lost(&mut broker.log, &attach);
    assert!(told > newest + 9, "{told} is above the floor");
    let after = broker.log.pulse(broker.hello).unwrap();
    assert_eq!((after.last, after.era), (told, before.era + 1));
    let other = Attach { read: Some(beyond(5)), appended: Some(beyond(6)), floor: 0, applied: 0, format: None };
    assert_eq!(lost(&mut connect(AMPLE), &other), told, "another broker adds nothing");
    assert_eq!(count(&broker.entries(), &Body::Lost), 1);
    let again = Attach { read: Some(Mark { entry: told + 3, token: "gone".into() }), ..Attach::default() };
    assert!(lost(&mut broker.log, &again) > told, "what came after the first loss can be lost as well");
    assert_eq!(count(&broker.entries(), &Body::Lost), 2);
}

pub fn an_own_entry_that_is_missing_is_a_loss<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let read = broker.append(1, &[]).unwrap().first;
    let read = broker.mark(read);
    let appended = Mark { entry: read.entry + 1, token: "gone".into() };
    let told = lost(
        &mut broker.log,
        &Attach { read: Some(read), appended: Some(appended), floor: 0, applied: 0, format: None },
    );
    let entries = broker.entries();
    assert_eq!(entries.last().map(|entry| (entry.id, &entry.body)), Some((told, &Body::Lost)));
}

pub fn another_entry_with_the_same_id_is_a_loss<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let entry = broker.append(1, &[]).unwrap().first;
    let read = Mark { entry, token: "another".into() };
    assert!(lost(&mut broker.log, &Attach { read: Some(read), ..Attach::default() }) > entry);
}

fn bytes(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| if let Body::Events { blob, .. } = &entry.body { blob.len() } else { 0 }).sum()
}

pub fn entries_beyond_the_bytes_are_trimmed<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { bytes: 1000, ..AMPLE }), 1);
    for _ in 0..30 {
        broker.append_blob(1, &[], &[b'x'; 90]).unwrap();
        assert!(bytes(&broker.events()) <= 1000);
    }
    assert_eq!(bytes(&broker.events()), 990, "not more than necessary is trimmed");
    // Entries of another size.
    for _ in 0..30 {
        broker.append_blob(1, &[], &[b'x'; 7]).unwrap();
    }
    let left = bytes(&broker.events());
    assert!((911..=1000).contains(&left), "{left} bytes");
}

pub fn the_last_entry_is_never_trimmed<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { bytes: 10, ..AMPLE }), 1);
    for _ in 0..3 {
        let first = broker.append_blob(1, &[], &[b'x'; 90]).unwrap().first;
        assert_eq!(broker.entries().iter().map(|entry| entry.id).collect::<Vec<_>>(), [first]);
    }
}

pub fn trimmed_entries_are_no_loss<L: Log>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { bytes: 100, ..AMPLE }), 1);
    let mut append = || {
        let first = broker.append_blob(1, &[], &[b'x'; 90]).unwrap().first;
        broker.mark(first)
    };
    let [trimmed, followed, last] = [append(), append(), append()];
    let before = broker.log.pulse(broker.hello).unwrap();
    let attach =
        Attach { read: Some(trimmed.clone()), appended: Some(trimmed.clone()), floor: 0, applied: 0, format: None };
    assert_eq!(broker.log.attach(&attach).unwrap().from, From::Oldest(last.entry));
    let attach = Attach { read: Some(followed), ..attach };
    assert_eq!(
        broker.log.attach(&attach).unwrap().from,
        From::Next,
        "nothing is missing between it and the oldest entry"
    );
    let attach = Attach { read: Some(last), appended: Some(trimmed), floor: 0, applied: 0, format: None };
    assert_eq!(broker.log.attach(&attach).unwrap().from, From::Next);
    assert_eq!(broker.log.pulse(broker.hello).unwrap().last, before.last);
}
