//! Connections that break, an engine that is away, and answers that are refused or senseless.

use super::*;

#[test]
fn a_broken_connection_is_replaced_without_anybody_noticing() {
    let records = versions("name", 300);
    let mut rig = Rig::new(records.clone());
    for (number, error) in [broken(), refused(Refusal::NotWritable), broken()].into_iter().enumerate() {
        assert_eq!(rig.find_nothing(), Ok(false));
        assert_eq!(rig.log.lock().attempts, number + 1);
        rig.log.lock().errors.push_back(error);
        assert_eq!(rig.read("name", 0, 1000).unwrap(), naive(&records, "name", 0, 1000));
    }
}

#[test]
fn a_request_is_refused_if_the_new_connection_breaks_too() {
    let mut rig = Rig::new(Vec::new());
    assert_eq!(rig.find_nothing(), Ok(false));
    rig.log.lock().errors.extend([broken(), refused(Refusal::NotWritable)]);
    assert!(is_unavailable(&rig.find_nothing()));
    assert_eq!(rig.log.lock().attempts, 2);
}

#[test]
fn while_the_engine_is_away_requests_are_refused_at_once() {
    let mut rig = Rig::new(versions("name", 3));
    rig.log.lock().is_away = true;
    assert!(is_unavailable(&rig.find_nothing()));
    let (pages, lookups): (Vec<_>, Vec<_>) = (0..100).map(|_| (rig.request(1, "name", 0, 5), rig.look_up(1))).unzip();
    (0..200).for_each(|_| rig.step());
    assert!(pages.iter().all(|page| is_unavailable(&page.try_recv().unwrap())));
    assert!(lookups.iter().all(|found| is_unavailable(&found.try_recv().unwrap())));
    assert_eq!((rig.log.lock().attempts, rig.budget.bytes()), (1, 0), "no attempt during the back-off");
    rig.clock.advance(BACKOFF_MICROS);
    assert!(is_unavailable(&rig.read("name", 0, 5)));
    rig.log.lock().is_away = false;
    assert!(is_unavailable(&rig.read("name", 0, 5)), "the back-off is not over");
    rig.clock.advance(BACKOFF_MICROS);
    assert!(rig.read("name", 0, 5).is_ok());
    assert_eq!(rig.log.lock().attempts, 3);
}

#[test]
fn once_the_tail_has_connected_the_reader_does_not_wait() {
    let mut rig = Rig::new(versions("name", 3));
    rig.log.lock().is_away = true;
    assert!(is_unavailable(&rig.read("name", 0, 5)));
    rig.log.lock().is_away = false;
    assert!(is_unavailable(&rig.read("name", 0, 5)), "the back-off is not over");
    rig.engine.shared.tail.connects.add(1);
    assert!(rig.read("name", 0, 5).is_ok());
}

#[test]
fn an_outage_of_the_reader_leaves_the_broker_healthy() {
    let mut rig = Rig::new(Vec::new());
    rig.engine.note_ready();
    let health = rig.engine.status().health;
    rig.log.lock().is_away = true;
    assert!(is_unavailable(&rig.find_nothing()));
    assert_eq!(rig.engine.status().health, health);
}

#[test]
fn a_refusal_concerns_one_request() {
    let mut rig = Rig::new(versions("name", 3));
    assert_eq!(rig.find_nothing(), Ok(false));
    for refusal in [Refusal::Setup, Refusal::Memory] {
        rig.log.lock().errors.push_back(refused(refusal));
        assert!(is_unavailable(&rig.find_nothing()));
        assert_eq!((rig.find_nothing(), rig.log.lock().attempts), (Ok(false), 1), "{refusal:?}");
    }
    rig.log.lock().errors.push_back(LogError::Malformed("what?".into()));
    assert!(is_unavailable(&rig.read("name", 0, 5)));
    assert!(rig.read("name", 0, 5).is_ok());
    assert_eq!(rig.log.lock().attempts, 2, "after a malformed answer the connection is replaced");
}

#[test]
fn versions_that_do_not_ascend_end_a_page() {
    let mut rig = Rig::new([3, 2].map(|id| record(id, "name", "1")).into());
    assert!(is_unavailable(&rig.read("name", 0, 5)));
    rig.log.lock().records = [3, 3].map(|id| record(id, "name", "1")).into();
    assert!(is_unavailable(&rig.read("name", 0, 5)));
}
