//! The table of revoked tokens, compared with a list.

use proptest::prelude::*;

use super::*;

fn sub(name: &str) -> Revocation {
    Revocation::sub(name).unwrap()
}

#[test]
fn tokens_of_a_subject_are_refused_up_to_the_second_of_the_revocation() {
    let table = Revocations::default();
    let is_revoked = |subject, issued| table.is_revoked(table.identify(Some(subject), None, issued));
    assert!(!is_revoked("user:1", 0));
    table.revoke(&sub("user:1"), 100);
    assert!(is_revoked("user:1", 0) && is_revoked("user:1", 100) && !is_revoked("user:1", 101));
    assert!(!is_revoked("user:2", 0) && !is_revoked("User:1", 0));
    assert!(!table.is_revoked(table.identify(None, Some("user:1"), 0)), "it is not a jti");
    table.revoke(&sub("user:1"), 90);
    assert!(is_revoked("user:1", 100), "an earlier revocation takes nothing back");
    table.revoke(&sub("user:1"), 200);
    assert!(is_revoked("user:1", 200) && !is_revoked("user:1", 201) && table.len() == 1);
}

#[test]
fn a_token_is_revoked_by_its_id_whenever_it_was_issued() {
    let table = Revocations::default();
    table.revoke(&Revocation::jti("t1").unwrap(), 100);
    for issued in [0, 100, 101, u64::MAX] {
        assert!(table.is_revoked(table.identify(Some("user:1"), Some("t1"), issued)), "{issued}");
        assert!(!table.is_revoked(table.identify(Some("t1"), Some("t2"), issued)), "{issued}");
    }
}

#[test]
fn what_does_not_fit_raises_the_time_for_all() {
    let table = Revocations::with_max(2);
    ["a", "b", "c"].into_iter().zip(100..).for_each(|(name, second)| table.revoke(&sub(name), second));
    assert_eq!((table.len(), table.all_before()), (2, 101));
    let other = |issued| table.is_revoked(table.identify(Some("other"), None, issued));
    assert!(other(0) && other(100) && !other(101));
    assert!(table.is_revoked(table.identify(Some("a"), None, 100)));
    table.revoke(&sub("a"), 100);
    assert_eq!(table.len(), 2, "it is known by the time");
}

#[test]
fn a_change_wakes_the_workers_and_a_repetition_does_not() {
    let (table, woken) = (Revocations::default(), std::sync::Arc::new(AtomicU64::new(0)));
    let counter = std::sync::Arc::clone(&woken);
    table.on_change(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    table.revoke(&sub("a"), 100);
    table.revoke(&sub("a"), 100);
    assert_eq!((woken.load(Ordering::Relaxed), table.number()), (1, 1));
    table.revoke_all(100);
    table.revoke_all(99);
    assert_eq!((woken.load(Ordering::Relaxed), table.number(), table.all_before()), (2, 2, 101));
}

/// What a token has: its subject, its id, and when it was issued.
type Token = (Option<u8>, Option<u8>, u64);

#[derive(Clone, Debug)]
enum Act {
    Subject(u8),
    Token(u8),
    Wait(u64),
    /// Tokens of which streams are open.
    Open(Token),
}

fn token() -> impl Strategy<Value = Token> {
    (prop::option::of(0..4_u8), prop::option::of(0..4_u8), 0..60_u64)
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..4_u8).prop_map(Act::Subject),
        (0..4_u8).prop_map(Act::Token),
        (0..3_u64).prop_map(Act::Wait),
        token().prop_map(Act::Open),
    ]
}

/// Whether a list of all revocations so far refuses a token. `is_full`: not by an id that was revoked before the token was
/// issued, which a full table forgets.
fn refuses(all: &[(Act, u64)], (subject, id, issued): Token, is_full: bool) -> bool {
    all.iter().any(|(act, second)| match act {
        Act::Subject(name) => subject == Some(*name) && issued <= *second,
        Act::Token(name) => id == Some(*name) && (issued <= *second || !is_full),
        Act::Wait(_) | Act::Open(_) => false,
    })
}

proptest! {
    /// Compares with a list that is never shortened. A table with room refuses the same tokens; a full one also those
    /// that were issued before its time. A reader that asks for changes now and then finds all streams whose tokens are refused.
    #[test]
    fn no_revoked_token_is_accepted(max in 1..9_usize, acts in prop::collection::vec((act(), any::<bool>()), 0..60)) {
        let table = Revocations::with_max(max);
        let identify = |(subject, id, issued): Token| {
            let name = |number: Option<u8>| number.map(|number| number.to_string());
            table.identify(name(subject).as_deref(), name(id).as_deref(), issued)
        };
        let (mut all, mut now, mut seen, mut open) = (Vec::new(), 10, 0, Vec::<Token>::new());
        for (act, looks) in acts {
            match &act {
                Act::Subject(name) => table.revoke(&sub(&name.to_string()), now),
                Act::Token(name) => table.revoke(&Revocation::jti(name.to_string()).unwrap(), now),
                Act::Wait(seconds) => now += seconds,
                Act::Open(token) => open.extend(Some(*token).filter(|token| !table.is_revoked(identify(*token)))),
            }
            all.push((act, now));
            prop_assert!(table.len() <= max);
            if looks {
                let recent = table.since(seen);
                seen = recent.number;
                open.retain(|token| !recent.covers(identify(*token)));
                prop_assert!(open.iter().all(|token| !table.is_revoked(identify(*token))));
            }
            for token in (0..4).flat_map(|name| [0, now - 1, now, now + 1].map(|issued| (Some(name), Some(3 - name), issued))) {
                let found = table.is_revoked(identify(token));
                prop_assert!(found || !refuses(&all, token, max < 8));
                prop_assert!(!found || refuses(&all, token, false) || token.2 < table.all_before());
                prop_assert!(max < 8 || table.all_before() == 0);
            }
        }
    }
}
