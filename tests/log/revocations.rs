//! Revocations of tokens, on a server and in memory.

use esker::internals::engine::log::{Connect as _, Hello, Log, LogError, Refusal, Revocations, Revoke, Revoked};
use esker::internals::engine::sim::SimLog;

use crate::conformance::AMPLE;
use crate::redis_server::RedisServer;
use crate::support::{connect, settings, try_connect};

const HELLO: Hello = Hello { broker: 1, session: 1 };
const MAX: usize = 4;

fn revoke<L: Revocations>(log: &mut L, texts: &[&str]) -> u64 {
    let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    log.revoke(&Revoke { hello: HELLO, texts: &texts, max: MAX }).unwrap()
}

/// Reads all parts after a time.
fn revoked<L: Revocations>(log: &mut L, after: u64) -> Vec<Revoked> {
    let mut all: Vec<Revoked> = Vec::new();
    loop {
        let part = log.revoked(all.last().map_or(after, |revoked| revoked.time)).unwrap();
        if part.is_empty() {
            return all;
        }
        all.extend(part);
    }
}

fn texts(revoked: &[Revoked]) -> Vec<&str> {
    revoked.iter().map(|revoked| &*revoked.text).collect()
}

fn revocations_are_read_in_order_by_all<L: Log + Revocations>(mut connect: impl FnMut() -> L) {
    let (mut log, mut other) = (connect(), connect());
    log.hello(HELLO).unwrap();
    assert!(revoked(&mut other, 0).is_empty());
    let time = log.pulse(HELLO).unwrap().time;
    let first = revoke(&mut log, &["sub:a", "jti:\u{e9}\n"]);
    assert!(first >= time);
    let second = revoke(&mut log, &["sub:a"]);
    assert!(second > first + 1);
    let all = revoked(&mut other, 0);
    assert_eq!(texts(&all), ["sub:a", "jti:\u{e9}\n", "sub:a"]);
    assert_eq!(all.iter().map(|revoked| revoked.time).collect::<Vec<_>>(), [first, first + 1, second]);
    assert_eq!(revoked(&mut other, first + 1), all[2..]);
    assert!(revoked(&mut other, second).is_empty());

    // One too many, and then as many as there may be.
    revoke(&mut log, &["sub:b", "sub:c"]);
    let all = revoked(&mut other, 0);
    assert_eq!(texts(&all), ["jti:\u{e9}\n", "sub:a", "sub:b", "sub:c"]);
    assert_eq!(all.iter().map(|revoked| revoked.removed_through).collect::<Vec<_>>(), [0, 0, first, first]);
    let newest = revoke(&mut log, &["1", "2", "3", "4"]);
    let last = all[3].time;
    assert!(revoked(&mut other, 0).iter().all(|revoked| revoked.removed_through == last && revoked.time >= newest));
    let fenced = Hello { session: 2, ..HELLO };
    other.hello(fenced).unwrap();
    let late = log.revoke(&Revoke { hello: HELLO, texts: &["sub:z".to_owned()], max: MAX });
    assert_eq!(late, Err(LogError::Fenced));
    assert_eq!(texts(&revoked(&mut other, 0)), ["1", "2", "3", "4"]);
}

#[test]
fn on_a_server() {
    let server = RedisServer::start(&[]);
    revocations_are_read_in_order_by_all(|| connect(settings(&server)));
}

#[test]
fn in_memory() {
    let log = SimLog::new(1, 1_800_000_000_000_000, AMPLE);
    revocations_are_read_in_order_by_all(|| log.connector(1).connect().unwrap());
}

/// Many are read in parts.
#[test]
fn many_revocations_are_read() {
    let server = RedisServer::start(&[]);
    let mut log = connect(settings(&server));
    log.hello(HELLO).unwrap();
    let names: Vec<_> = (0..2000).map(|number| format!("sub:user:{number}")).collect();
    for names in names.chunks(50) {
        log.revoke(&Revoke { hello: HELLO, texts: names, max: 65_536 }).unwrap();
    }
    assert_eq!(texts(&revoked(&mut log, 0)), names);
}

#[test]
fn what_another_program_has_put_there_is_noticed() {
    let server = RedisServer::start(&[]);
    let mut log = connect(settings(&server));
    server.command::<()>(&["XADD", "{esker}:1:rev", "5-0", "x", "y"]);
    server.command::<()>(&["XADD", "{esker}:1:rev", "6-0", "t", "sub:a", "c", "x"]);
    let unknown = |time| Revoked { time, text: "".into(), removed_through: 0 };
    assert_eq!(log.revoked(0).unwrap(), [unknown(5), unknown(6)]);
    server.command::<()>(&["XADD", "{esker}:1:rev", "7-1", "t", "sub:a", "c", "0"]);
    assert!(matches!(log.revoked(0), Err(LogError::Malformed(_))));
    server.command::<()>(&["SET", "{esker}:1:rev", "something"]);
    assert!(matches!(try_connect(settings(&server)), Err(LogError::Refused(Refusal::Setup, _))));
}
