//! What every implementation of the log does with conditions and idempotency keys, whether it is on a server or in memory.

use std::time::Duration;

use esker::internals::engine::log::{Body, Inserted, KeyLimits, LastBatch, Log, LogError, ReadRecords, Refusal};
use esker::internals::engine::settings::Retention;
use esker::internals::records::NewRecord;
use esker::internals::records::insert::InsertOutcome::{self, Conflict, KeyReused, Repeated, Stored};
use esker::internals::records::insert::{Condition, IdempotencyKey, InsertRequest};

use crate::conformance::{AMPLE, Broker, Connection};
use crate::records::{records, refusal};
use crate::redis_server::RedisServer;
use crate::support::{connect, settings, try_connect};

/// Defines a test for each check. `$connect` is a closure that connects to a log which is empty at first.
#[macro_export]
macro_rules! insert_conformance {
    ($connect:expr) => {
        $crate::insert_conformance!(
            $connect;
            conditions_are_judged_against_the_newest_version,
            requests_of_a_batch_are_judged_in_order,
            a_name_that_begins_like_another_is_not_it,
            a_batch_of_which_nothing_is_granted_writes_nothing,
            a_key_is_used_once,
            a_key_is_judged_before_the_condition,
            only_a_stored_record_has_its_key_remembered,
            the_oldest_keys_are_forgotten_first,
            a_greeting_tells_the_outcomes_of_the_last_batch,
            outcomes_without_a_record_need_no_room,
        );
    };
    ($connect:expr; $($check:ident,)*) => {
        $(
            #[test]
            fn $check() {
                $crate::inserts::$check(&mut $connect);
            }
        )*
    };
}

fn request(name: &str, condition: Condition) -> InsertRequest {
    InsertRequest { record: NewRecord { name: name.into(), data: "1".into() }, condition, key: None }
}

fn always(name: &str) -> InsertRequest {
    request(name, Condition::Always)
}

fn newest_is(name: &str, ids: &[u64]) -> InsertRequest {
    request(name, Condition::NewestIs(ids.into()))
}

fn with_key(key: &str, request: InsertRequest) -> InsertRequest {
    InsertRequest { key: IdempotencyKey::new(key), ..request }
}

fn judge<L: Log>(broker: &mut Broker<L>, requests: &[InsertRequest]) -> Vec<InsertOutcome> {
    let Inserted { outcomes, forgotten } = broker.judge(requests, KeyLimits::default()).unwrap();
    assert_eq!(forgotten, 0);
    outcomes
}

/// Stores a record, and returns its id.
fn store<L: Log>(broker: &mut Broker<L>, request: InsertRequest) -> u64 {
    match judge(broker, &[request])[..] {
        [Stored(id)] => id,
        ref other => panic!("{other:?}"),
    }
}

pub fn conditions_are_judged_against_the_newest_version<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let (mut one, mut other) = (Broker::new(connect(AMPLE), 1), Broker::new(connect(AMPLE), 2));
    for refused in [request("a", Condition::Exists), newest_is("a", &[7]), newest_is("a", &[])] {
        assert_eq!(judge(&mut one, &[refused]), [Conflict(None)]);
    }
    let first = store(&mut one, request("a", Condition::Absent));
    let second = store(&mut other, newest_is("a", &[first]));
    assert!(second > first);
    for refused in [
        request("a", Condition::Absent),
        newest_is("a", &[first]),
        newest_is("a", &[]),
        newest_is("a", &[first, second + 1, second * 10, second / 10]),
    ] {
        assert_eq!(judge(&mut one, &[refused]), [Conflict(Some(second))]);
    }
    let third = store(&mut one, newest_is("a", &[first, second, 7]));
    let fourth = store(&mut other, request("a", Condition::Exists));
    let ids = records(&mut one).iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids, [first, second, third, fourth]);
}

pub fn requests_of_a_batch_are_judged_in_order<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let before = store(&mut broker, always("b"));
    let requests = [
        request("a", Condition::Exists),
        request("a", Condition::Absent),
        request("a", Condition::Absent),
        newest_is("b", &[before]),
        newest_is("b", &[before]),
        request("a", Condition::Exists),
        always("a"),
    ];
    let outcomes = judge(&mut broker, &requests);
    let Stored(first) = outcomes[1] else { panic!("{outcomes:?}") };
    let expected = [
        Conflict(None),
        Stored(first),
        Conflict(Some(first)),
        Stored(first + 1),
        Conflict(Some(first + 1)),
        Stored(first + 2),
        Stored(first + 3),
    ];
    assert_eq!(outcomes, expected);
    let names = records(&mut broker).iter().map(|record| (record.id, record.name.to_string())).collect::<Vec<_>>();
    let name = |id, name: &str| (id, name.to_owned());
    assert_eq!(
        names,
        [name(before, "b"), name(first, "a"), name(first + 1, "b"), name(first + 2, "a"), name(first + 3, "a")]
    );
    let entry = broker.entries().pop().unwrap();
    assert_eq!((entry.id, entry.body), (first, Body::Records(4)), "the entry has what was stored");
    assert!(store(&mut broker, newest_is("a", &[first + 3])) > first + 3);
}

pub fn a_name_that_begins_like_another_is_not_it<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    store(&mut broker, always("ab"));
    store(&mut broker, always("a "));
    assert_eq!(judge(&mut broker, &[request("a", Condition::Exists)]), [Conflict(None)]);
    let own = store(&mut broker, request("a", Condition::Absent));
    store(&mut broker, always("a!"));
    store(&mut broker, newest_is("a", &[own]));
}

pub fn a_batch_of_which_nothing_is_granted_writes_nothing<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = store(&mut broker, with_key("k", always("a")));
    let before = (broker.entries(), broker.log.pulse(broker.hello).unwrap());
    let requests = [request("a", Condition::Absent), with_key("k", always("a")), with_key("k", always("b"))];
    assert_eq!(judge(&mut broker, &requests), [Conflict(Some(first)), Repeated(first), KeyReused]);
    let after = (broker.entries(), broker.log.pulse(broker.hello).unwrap());
    assert_eq!((&before.0, before.1.last, before.1.record_bytes), (&after.0, after.1.last, after.1.record_bytes));
    assert_eq!(records(&mut broker).len(), 1);
    let greeting = broker.log.hello(broker.hello).unwrap();
    let (number, last_batch) = greeting.last_batch.unwrap();
    assert_eq!((number, last_batch), (1, LastBatch::Inserts(vec![Stored(first)])), "only the first has written");
}

pub fn a_key_is_used_once<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let (mut one, mut other) = (Broker::new(connect(AMPLE), 1), Broker::new(connect(AMPLE), 2));
    let keys = ["k", "K", "k ", " k", "8e03978e-40d5-43e8-bc93-6894a57f9324", "\"'\\%", &"k".repeat(128)];
    let ids = keys.map(|key| store(&mut one, with_key(key, always("a"))));
    store(&mut one, always("a"));
    for (key, id) in keys.into_iter().zip(ids) {
        assert_eq!(
            judge(&mut other, &[with_key(key, always("a")), with_key(key, always("b"))]),
            [Repeated(id), KeyReused]
        );
    }
    let requests = ["new", "newer", "new", "newer"].map(|key| with_key(key, always("c")));
    let outcomes = judge(&mut other, &[&requests[..], &[with_key("new", always("d"))]].concat());
    let Stored(first) = outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes, [Stored(first), Stored(first + 1), Repeated(first), Repeated(first + 1), KeyReused]);
    assert_eq!(records(&mut one).len(), keys.len() + 3);
}

pub fn a_key_is_judged_before_the_condition<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let retried = with_key("k", request("a", Condition::Absent));
    let first = store(&mut broker, retried.clone());
    store(&mut broker, always("a"));
    let reused = with_key("k", request("b", Condition::Exists));
    assert_eq!(judge(&mut broker, &[retried, reused]), [Repeated(first), KeyReused]);
}

pub fn only_a_stored_record_has_its_key_remembered<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { record_bytes: 1000, ..AMPLE }), 1);
    let refused = with_key("k", request("a", Condition::Exists));
    assert_eq!(judge(&mut broker, &[refused.clone(), refused]), [Conflict(None), Conflict(None)]);
    let large = InsertRequest { record: NewRecord { name: "a".into(), data: "7".repeat(900).into() }, ..always("a") };
    refusal(broker.judge(&[with_key("k", large)], KeyLimits::default()));
    let first = store(&mut broker, with_key("k", always("b")));
    assert_eq!(judge(&mut broker, &[with_key("k", always("b"))]), [Repeated(first)]);
}

pub fn the_oldest_keys_are_forgotten_first<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let limits = KeyLimits { count: 3, ..KeyLimits::default() };
    let mut judge = |keys: &[&str]| {
        let requests = keys.iter().map(|key| with_key(key, always("a"))).collect::<Vec<_>>();
        let Inserted { outcomes, forgotten } = broker.judge(&requests, limits).unwrap();
        (outcomes.iter().filter(|outcome| matches!(outcome, Stored(_))).count(), forgotten)
    };
    assert_eq!(judge(&["1", "2", "3"]), (3, 0));
    assert_eq!(judge(&["1", "2", "3"]), (0, 0));
    assert_eq!(judge(&["4", "5"]), (2, 2), "1 and 2 are forgotten");
    assert_eq!(judge(&["3", "4", "5"]), (0, 0));
    assert_eq!(judge(&["1"]), (1, 1), "3 is forgotten");
    assert_eq!(judge(&["1", "4", "5"]), (0, 0));
    assert_eq!(judge(&["6", "7", "8", "9", "6"]), (4, 4), "more than are remembered");
    assert_eq!(judge(&["7", "8", "9"]), (0, 0));
    assert_eq!(judge(&["6"]), (1, 1));
}

pub fn a_greeting_tells_the_outcomes_of_the_last_batch<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(AMPLE), 1);
    let first = store(&mut broker, with_key("k", always("a")));
    let requests = [
        with_key("k", always("a")),
        request("a", Condition::Absent),
        request("b", Condition::Exists),
        always("b"),
        with_key("k", always("b")),
        always("a"),
    ];
    let outcomes = judge(&mut broker, &requests);
    let Stored(second) = outcomes[3] else { panic!("{outcomes:?}") };
    let expected =
        [Repeated(first), Conflict(Some(first)), Conflict(None), Stored(second), KeyReused, Stored(second + 1)];
    assert_eq!(outcomes, expected);
    for session in 7..9 {
        let mut next = connect(AMPLE);
        broker.hello.session = session;
        let greeting = next.hello(broker.hello).unwrap();
        assert_eq!(greeting.last_batch, Some((2, LastBatch::Inserts(expected.to_vec()))));
        assert_eq!(next.prove(), Ok(()));
        broker.log = next;
    }
}

pub fn outcomes_without_a_record_need_no_room<L: Log + ReadRecords>(connect: Connection<'_, L>) {
    let mut broker = Broker::new(connect(Retention { record_bytes: 300, ..AMPLE }), 1);
    let first = store(&mut broker, with_key("k", always("a")));
    let full = broker.judge(&[always("a")], KeyLimits::default());
    assert!(matches!(full, Err(LogError::Refused(..))), "{full:?}");
    let requests = [with_key("k", always("a")), request("a", Condition::Absent)];
    assert_eq!(judge(&mut broker, &requests), [Repeated(first), Conflict(Some(first))]);
}

#[test]
fn keys_are_forgotten_at_their_age() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    let retried = [with_key("k", always("a"))];
    let first = store(&mut broker, retried[0].clone());
    assert_eq!(judge(&mut broker, &retried), [Repeated(first)]);
    for key in ["{esker}:1:keys", "{esker}:1:keyorder"] {
        let left = server.command::<i64>(&["PTTL", key]);
        assert!((86_000_000..=86_400_000).contains(&left), "{key}: {left} ms");
    }
    // The clock has passed the id by then.
    let none = KeyLimits { age: Duration::ZERO, ..KeyLimits::default() };
    let Inserted { outcomes, forgotten } = broker.judge(&retried, none).unwrap();
    assert!(matches!(outcomes[..], [Stored(id)] if id > first), "{outcomes:?}");
    assert_eq!(forgotten, 0, "it is not forgotten early");
}

#[test]
fn a_key_that_is_used_again_is_not_forgotten_with_its_first_use() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut broker = Broker::new(connect(settings(&server)), 1);
    store(&mut broker, with_key("k", always("a")));
    // Only the order knows that it was used before.
    server.command::<i64>(&["HDEL", "{esker}:1:keys", "k"]);
    let again = store(&mut broker, with_key("k", always("a")));
    let limits = KeyLimits { count: 2, ..KeyLimits::default() };
    let other = broker.judge(&[with_key("other", always("a"))], limits).unwrap();
    assert_eq!((other.outcomes.len(), other.forgotten), (1, 1));
    assert_eq!(judge(&mut broker, &[with_key("k", always("a"))]), [Repeated(again)]);
}

#[test]
fn keys_that_hold_something_else_have_nothing_written() {
    let server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    for key in ["{esker}:1:keys", "{esker}:1:keyorder"] {
        let mut broker = Broker::new(connect(settings(&server)), 1);
        server.command::<String>(&["SET", key, "foreign"]);
        let before = (broker.entries(), records(&mut broker));
        let refused = broker.judge(&[with_key("k", always("a"))], KeyLimits::default());
        assert_eq!(refusal(refused).0, Refusal::Setup, "{key}");
        assert_eq!((broker.entries(), records(&mut broker)), before);
        let why = refusal(try_connect(settings(&server))).1;
        assert!(why.contains(key), "{why}");
        server.command::<i64>(&["DEL", key]);
        store(&mut broker, with_key(key, always("a")));
    }
}
