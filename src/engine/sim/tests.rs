mod records;

use std::time::Duration;

use super::super::blob::{Blob, Part};
use super::super::log::{
    Append, Appended, Attach, Attached, Body, Connect, Entry, From, Hello, LastBatch, Log, LogError, Mark, OwnId,
    RECORDS_COST, Refusal, Repetition,
};
use super::*;

const BEGIN: u64 = 1_770_000_000_000_000;
/// When the log is created.
const CREATED: u64 = BEGIN - 1;
const HELLO: Hello = Hello { broker: 1, session: 11 };
const OTHER: Hello = Hello { broker: 2, session: 21 };
const RETENTION: Retention =
    Retention { age: Duration::from_secs(600), bytes: 1 << 20, record_bytes: 1 << 20, versions: VersionRetention::ALL };

struct Bench {
    log: SimLog,
    batches: u64,
}

impl Bench {
    fn new() -> Self {
        Self::retaining(RETENTION)
    }

    /// With a log that exists.
    fn retaining(retention: Retention) -> Self {
        let bench = Self::without_log(retention);
        attach(&mut bench.connect(1), None, None, 0);
        bench.log.advance(1);
        bench
    }

    fn without_log(retention: Retention) -> Self {
        Self { log: SimLog::new(1, CREATED, retention), batches: 0 }
    }

    /// Returns the entries after the one that says that the log was created.
    fn entries(&self) -> Vec<Arc<Entry>> {
        self.log.entries().into_iter().filter(|entry| entry.id > CREATED).collect()
    }

    fn connect(&self, link: u64) -> SimConnection {
        self.log.connector(link).connect().unwrap()
    }

    /// Connects and begins a session.
    fn begin(&self, hello: Hello) -> SimConnection {
        let mut connection = self.connect(hello.broker);
        connection.hello(hello).unwrap();
        connection
    }

    fn append(&mut self, connection: &mut SimConnection, hello: Hello, own_ids: &[Option<&str>]) -> Sent {
        self.append_above(connection, hello, own_ids, 0)
    }

    fn append_above(
        &mut self,
        connection: &mut SimConnection,
        hello: Hello,
        own_ids: &[Option<&str>],
        floor: u64,
    ) -> Sent {
        self.batches += 1;
        let mut blob = Blob::default();
        let events = own_ids.iter().map(|own_id| (*own_id, &b"data: x\n"[..]));
        blob.push(Part::new("topicone1", events));
        let Blob { bytes, events, own_ids } = blob;
        let append = Append { hello, batch: self.batches, floor, events, blob: &bytes, own_ids: &own_ids };
        Sent { batch: self.batches, token: append.token().into(), result: connection.append(&append) }
    }
}

struct Sent {
    batch: u64,
    token: Box<str>,
    result: Result<Appended, LogError>,
}

impl Sent {
    fn first(&self) -> u64 {
        self.result.as_ref().unwrap().first
    }

    fn mark(&self) -> Option<Mark> {
        Some(Mark { entry: self.first(), token: self.token.clone() })
    }
}

fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.id).collect()
}

fn attach(connection: &mut SimConnection, read: Option<Mark>, appended: Option<Mark>, floor: u64) -> Attached {
    connection.attach(&Attach { read, appended, floor, ..Attach::default() }).unwrap()
}

#[test]
fn ids_are_the_servers_time_and_grow() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let first = bench.append(&mut connection, HELLO, &[None, None, None]);
    let second = bench.append(&mut connection, HELLO, &[None]);
    assert_eq!((first.first(), second.first()), (BEGIN, BEGIN + 3));
    bench.log.step_clock(-1_000_001);
    let third = bench.append_above(&mut connection, HELLO, &[None], BEGIN + 9);
    bench.log.advance(5_000_000);
    let fourth = bench.append(&mut connection, HELLO, &[None]);
    assert_eq!((third.first(), fourth.first()), (BEGIN + 10, BEGIN + 3_999_999));
    let read = connection.read(BEGIN).unwrap();
    assert_eq!(ids(&read), [second.first(), third.first(), fourth.first()]);
    assert_eq!((&read[0].token, bench.log.last()), (&second.token, fourth.first()));
}

#[test]
fn a_publishers_id_is_accepted_once_until_it_expires() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let first = bench.append(&mut connection, HELLO, &[Some("a"), Some("a"), None]);
    let repetition = |index, original| Repetition { index, original };
    assert_eq!(first.result.as_ref().unwrap().repetitions, [repetition(1, BEGIN)]);
    let again = bench.append(&mut connection, HELLO, &[Some("a")]);
    assert_eq!(again.result.unwrap().repetitions, [repetition(0, BEGIN)]);
    let Body::Events { repetitions, count, .. } = &bench.entries()[0].body else { panic!("events") };
    assert_eq!((bench.entries().len(), repetitions.as_slice(), *count), (1, &[1][..], 3));
    bench.log.advance(660_000_000);
    assert_eq!(bench.append(&mut connection, HELLO, &[]).result, Err(LogError::Fenced));
    connection.hello(HELLO).unwrap();
    let late = bench.append(&mut connection, HELLO, &[Some("a")]);
    assert_eq!((late.first(), late.result.unwrap().repetitions), (BEGIN + 660_000_000, Vec::new()));
}

#[test]
fn a_new_session_fences_the_one_before_and_learns_its_last_batch() {
    let mut bench = Bench::new();
    let mut old = bench.begin(HELLO);
    let mut other = bench.begin(OTHER);
    let sent = bench.append(&mut old, HELLO, &[None]);
    bench.append(&mut other, OTHER, &[None]).result.unwrap();
    let newer = Hello { session: 12, ..HELLO };
    let greeting = bench.connect(1).hello(newer).unwrap();
    assert_eq!(greeting.last_batch, Some((sent.batch, LastBatch::Events(sent.result.unwrap()))));
    assert_eq!(greeting.pulse.last, BEGIN + 1);
    assert_eq!(bench.append(&mut old, HELLO, &[None]).result, Err(LogError::Fenced));
    assert_eq!(old.pulse(HELLO), Err(LogError::Fenced));
    assert_eq!(bench.append(&mut other, OTHER, &[None]).first(), BEGIN + 2);
}

#[test]
fn late_bytes_of_an_old_session_do_nothing() {
    let mut bench = Bench::new();
    let mut old = bench.begin(HELLO);
    bench.log.plan(1, Kind::Append, Fault::Late);
    let late = bench.append(&mut old, HELLO, &[None]);
    assert!(matches!(late.result, Err(LogError::Broken(_))));
    assert_eq!(bench.connect(1).hello(Hello { session: 12, ..HELLO }).unwrap().last_batch, None);
    assert!(bench.log.deliver_late());
    assert_eq!((bench.entries().len(), bench.log.deliver_late()), (0, false));
}

#[test]
fn late_bytes_before_a_new_session_count_as_its_last_batch() {
    let mut bench = Bench::new();
    let mut old = bench.begin(HELLO);
    bench.log.plan(1, Kind::Append, Fault::Late);
    let late = bench.append(&mut old, HELLO, &[None]);
    bench.log.deliver_late();
    let greeting = bench.connect(1).hello(Hello { session: 12, ..HELLO }).unwrap();
    assert_eq!(greeting.last_batch.map(|(number, _)| number), Some(late.batch));
}

#[test]
fn old_and_surplus_entries_are_trimmed_but_never_the_last() {
    let blob = 30;
    let mut bench = Bench::retaining(Retention { age: Duration::from_secs(60), bytes: 3 * blob, ..RETENTION });
    let mut connection = bench.begin(HELLO);
    for _ in 0..9 {
        bench.append(&mut connection, HELLO, &[None]).result.unwrap();
    }
    let kept = bench.entries().len();
    assert!((3..5).contains(&kept), "{kept}");
    assert_eq!(bench.log.trimmed(), 10 - kept);
    bench.log.advance(61_000_000);
    bench.append(&mut connection, HELLO, &[None]).result.unwrap();
    assert_eq!(bench.entries().len(), 1);
    assert_eq!(bench.entries()[0].previous, BEGIN + 8);
}

#[test]
fn attaching_creates_the_log_once() {
    let bench = Bench::without_log(RETENTION);
    let (mut connection, mut other) = (bench.connect(1), bench.connect(2));
    assert_eq!(attach(&mut connection, None, None, 0).from, From::Next);
    assert_eq!(attach(&mut other, None, None, 0).from, From::Next);
    let entries = other.read(0).unwrap();
    assert_eq!((ids(&entries), &entries[0].body), (vec![CREATED], &Body::Marker));
}

#[test]
fn what_was_trimmed_before_it_was_read_is_told() {
    let mut bench = Bench::retaining(Retention { bytes: 30, ..RETENTION });
    let mut connection = bench.begin(HELLO);
    let first = bench.append(&mut connection, HELLO, &[None]);
    for _ in 0..3 {
        bench.append(&mut connection, HELLO, &[None]).result.unwrap();
    }
    assert_eq!(attach(&mut connection, first.mark(), None, 0).from, From::Oldest(BEGIN + 3));
    assert_eq!(attach(&mut connection, None, first.mark(), 0).from, From::Next);
}

#[test]
fn a_lost_suffix_is_told_once_by_the_first_broker_that_notices() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let kept = bench.append(&mut connection, HELLO, &[Some("a")]);
    let read = bench.append(&mut connection, HELLO, &[Some("b")]);
    let appended = bench.append(&mut connection, HELLO, &[None]);
    bench.log.lose_suffix(2, OldServer::Gone);
    assert_eq!(bench.log.lost().iter().map(|entry| entry.id).collect::<Vec<_>>(), [read.first(), appended.first()]);
    assert!(matches!(connection.read(CREATED), Err(LogError::Broken(_))));
    let mut connection = bench.connect(1);
    let [by_read, by_appended] =
        [(kept.mark(), None), (None, kept.mark())].map(|(read, appended)| attach(&mut connection, read, appended, 0));
    assert_eq!((by_read.from, by_read.pulse), (by_appended.from, by_appended.pulse));
    let told = attach(&mut connection, kept.mark(), appended.mark(), appended.first());
    let From::Loss(id) = told.from else { panic!("{told:?}") };
    assert_eq!((id, told.pulse.era, told.pulse.last), (appended.first() + 1, 1, id));
    assert_eq!(attach(&mut connection, read.mark(), None, 0).from, From::Loss(id));
    let entries = connection.read(kept.first()).unwrap();
    assert_eq!((ids(&entries), &entries[0].body), (vec![id], &Body::Lost));
    // The publisher's id of what was lost is lost with it, and the session's batch too.
    let greeting = connection.hello(Hello { session: 12, ..HELLO }).unwrap();
    assert_eq!(greeting.last_batch.map(|(number, _)| number), Some(kept.batch));
    let again = bench.append(&mut connection, Hello { session: 12, ..HELLO }, &[Some("a"), Some("b")]);
    assert_eq!(again.result.unwrap().repetitions, [Repetition { index: 0, original: kept.first() }]);
}

#[test]
fn another_entry_with_the_same_id_is_not_the_same() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let lost = bench.append(&mut connection, HELLO, &[None]);
    bench.log.lose_suffix(1, OldServer::Gone);
    let mut other = bench.begin(OTHER);
    assert_eq!(bench.append(&mut other, OTHER, &[None]).first(), lost.first());
    assert!(matches!(attach(&mut other, lost.mark(), None, 0).from, From::Loss(id) if id > lost.first()));
}

#[test]
fn an_entry_among_the_ids_of_one_that_was_read_is_another_one() {
    let mut bench = Bench::retaining(Retention { bytes: 300, ..RETENTION });
    let mut connection = bench.begin(HELLO);
    let read = bench.append(&mut connection, HELLO, &[None; 9]);
    bench.log.lose_suffix(1, OldServer::Gone);
    let mut other = bench.begin(OTHER);
    for _ in 0..18 {
        bench.append(&mut other, OTHER, &[None]).result.unwrap();
    }
    let attach = |applied| Attach { read: read.mark(), applied, ..Attach::default() };
    let oldest = bench.entries()[0].id;
    assert!(oldest > BEGIN + 1, "{oldest}");
    assert_eq!(other.attach(&attach(oldest - 1)).unwrap().from, From::Oldest(oldest));
    assert_eq!(other.attach(&attach(oldest)).unwrap().from, From::Loss(BEGIN + 18));
}

#[test]
fn a_log_without_anything_has_lost_what_a_broker_knows() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let sent = bench.append(&mut connection, HELLO, &[None]);
    bench.log.flush();
    assert_eq!(bench.log.lost().len(), 2);
    assert_eq!(bench.append(&mut connection, HELLO, &[None]).result, Err(LogError::Fenced));
    connection.hello(HELLO).unwrap();
    let refused = bench.append(&mut connection, HELLO, &[None]).result;
    assert!(matches!(refused, Err(LogError::Refused(Refusal::NotWritable, _))));
    assert_eq!(attach(&mut connection, sent.mark(), None, BEGIN + 7).from, From::Loss(BEGIN + 8));
}

#[test]
fn an_old_server_goes_on_or_refuses() {
    for (old, refuses) in [(OldServer::Demoted, true), (OldServer::Unaware, false)] {
        let mut bench = Bench::new();
        let (mut connection, mut other) = (bench.begin(HELLO), bench.begin(OTHER));
        bench.append(&mut connection, HELLO, &[None]).result.unwrap();
        bench.log.lose_suffix(1, old);
        let result = bench.append(&mut connection, HELLO, &[None]).result;
        assert_eq!(matches!(result, Err(LogError::Refused(Refusal::NotWritable, _))), refuses, "{result:?}");
        assert_eq!(other.read(CREATED).unwrap().len(), if refuses { 1 } else { 2 });
        assert_eq!(bench.connect(2).read(CREATED).unwrap(), []);
        assert_eq!(bench.log.lost().len(), if refuses { 1 } else { 2 });
        bench.log.end_unaware_servers();
        assert_eq!(matches!(other.read(CREATED), Err(LogError::Broken(_))), !refuses);
    }
}

#[test]
fn changes_without_entries_can_be_lost() {
    let bench = Bench::new();
    drop(bench.begin(HELLO));
    bench.log.lose_changes(1, OldServer::Gone);
    assert!(bench.log.lost().is_empty());
    assert_eq!(bench.connect(1).pulse(HELLO), Err(LogError::Fenced));
}

#[test]
fn answers_are_lost_and_refusals_change_nothing() {
    let mut bench = Bench::new();
    for (fault, entries) in
        [(Fault::LostRequest, 0), (Fault::Refused(Refusal::Memory), 0), (Fault::LostAnswer, 1), (Fault::Unproven, 2)]
    {
        let mut connection = bench.begin(HELLO);
        bench.log.plan(1, Kind::Append, fault);
        assert!(bench.append(&mut connection, HELLO, &[None]).result.is_err());
        assert_eq!(bench.entries().len(), entries, "{fault:?}");
        let is_broken = matches!(connection.read(CREATED), Err(LogError::Broken(_)));
        assert_eq!(is_broken, matches!(fault, Fault::LostRequest | Fault::LostAnswer), "{fault:?}");
    }
    bench.log.set_out_of_memory(true);
    let result = bench.append(&mut bench.begin(HELLO), HELLO, &[None]).result;
    assert!(matches!(result, Err(LogError::Refused(Refusal::Memory, _))));
}

#[test]
fn links_are_cut_and_stand_still_alone() {
    let mut bench = Bench::new();
    let (mut one, mut two) = (bench.begin(HELLO), bench.begin(OTHER));
    bench.append(&mut one, HELLO, &[None]).result.unwrap();
    bench.log.stand_still(1);
    assert_eq!((one.read(CREATED).unwrap().len(), two.read(CREATED).unwrap().len()), (0, 1));
    assert_eq!(bench.connect(1).read(CREATED).unwrap().len(), 1);
    bench.log.cut(1, true);
    assert!(matches!(one.read(CREATED), Err(LogError::Broken(_))));
    assert!(matches!(bench.log.connector(1).connect(), Err(LogError::Unreachable(_))));
    bench.log.cut(1, false);
    assert_eq!((bench.connect(1).read(CREATED).unwrap().len(), two.read(CREATED).unwrap().len()), (1, 1));
    bench.log.set_away(true);
    assert!(matches!(two.read(CREATED), Err(LogError::Broken(_))));
    assert!(matches!(bench.log.connector(2).connect(), Err(LogError::Unreachable(_))));
}

#[test]
fn one_seed_draws_the_same_faults() {
    let run = || {
        let mut bench = Bench::new();
        let all = Faults {
            unreachable: 100,
            lost_request: 100,
            lost_answer: 100,
            late: 100,
            not_writable: 100,
            out_of_memory: 100,
            unproven: 100,
            short: 500,
        };
        bench.log.set_faults(all);
        let result = |bench: &mut Bench| -> Result<(Appended, usize), LogError> {
            let mut connection = bench.log.connector(1).connect()?;
            connection.hello(HELLO)?;
            let appended = bench.append(&mut connection, HELLO, &[None]).result?;
            Ok((appended, connection.read(CREATED)?.len()))
        };
        (0..100).map(|_| result(&mut bench)).collect::<Vec<_>>()
    };
    let results = run();
    assert!(results.iter().any(Result::is_ok) && results.iter().any(Result::is_err));
    assert_eq!(results, run());
}

#[test]
fn own_ids_are_judged_by_topic() {
    let mut bench = Bench::new();
    let mut connection = bench.begin(HELLO);
    let key = |index, key: &str| OwnId { index, key: key.into() };
    let own_ids = [key(0, "one:a"), key(1, "two:a")];
    let append = Append { hello: HELLO, batch: 7, floor: 0, events: 2, blob: b"x", own_ids: &own_ids };
    assert_eq!(connection.append(&append).unwrap().repetitions, []);
    bench.batches = 7;
    assert!(bench.append(&mut connection, HELLO, &[Some("a")]).result.unwrap().repetitions.is_empty());
}
