//! When a request gets its result, and which.

use super::*;
use crate::quota::Growth;

#[test]
fn a_found_record_is_reported_once_the_tail_has_passed_it() {
    let mut rig = Rig::new(versions("name", 9));
    let (passed, late, unknown) = (rig.look_up(5), rig.look_up(6), rig.look_up(10));
    (0..3).for_each(|_| rig.step());
    assert_eq!((passed.try_recv().is_err(), unknown.try_recv()), (true, Ok(Ok(false))));
    rig.engine.waiting.advance(5);
    assert_eq!((passed.try_recv(), late.try_recv().is_err()), (Ok(Ok(true)), true));
    rig.clock.advance(MAX_WAIT_MILLIS * 1000);
    rig.engine.expire();
    assert!(is_unavailable(&late.try_recv().unwrap()));
    assert_eq!(rig.engine.status().lookups, 3);
}

#[test]
fn too_many_requests_are_refused() {
    let rig = Rig::new(Vec::new());
    let lookups: Vec<_> = (0..16_386).map(|_| rig.look_up(1)).collect();
    let refused = |found: &Receiver<_>| found.try_recv() == Ok(Err(EngineError::Busy));
    assert!(lookups[..16_384].iter().all(|found| found.try_recv().is_err()) && lookups[16_384..].iter().all(refused));
    let budget = PageBudget::new(1 << 30, 1 << 30);
    let rig = Rig { budget, ..rig };
    let pages: Vec<_> = (0..900).map(|_| rig.request(1, "name", 0, 1)).collect();
    let refused = pages.iter().filter(|page| page.try_recv() == Ok(Err(EngineError::Busy))).count();
    assert!((1..200).contains(&refused), "a client gets a fair share, so {refused} of 900 are refused");
    assert!(rig.request(2, "name", 0, 1).try_recv().is_err(), "there is room for another client");
}

#[test]
fn a_page_without_memory_is_refused_as_busy() {
    let mut rig = Rig::new(vec![record(1, "name", &format!("\"{}\"", "x".repeat(200_000)))]);
    rig.budget = PageBudget::new(1 << 20, 200_000);
    let mut other = rig.budget.reserve(Client::Local).unwrap();
    assert!(other.grow(210_000, Growth::Required));
    assert_eq!(rig.read("name", 0, 1), Err(EngineError::Busy));
    drop(other);
    assert_eq!(rig.budget.bytes(), 0);
}

#[test]
fn a_closed_engine_refuses_what_waits_and_what_comes() {
    let mut rig = Rig::new(versions("name", 1000));
    let (begun, waiting) = (rig.request(1, "name", 0, 1000), rig.request(1, "name", 0, 1000));
    rig.step();
    let lookup = rig.look_up(1);
    rig.engine.close();
    for page in [begun, waiting, rig.request(2, "name", 0, 1)] {
        assert_eq!(page.try_recv(), Ok(Err(EngineError::Closed)));
    }
    for found in [lookup, rig.look_up(1)] {
        assert_eq!(found.try_recv(), Ok(Err(EngineError::Closed)));
    }
    assert!(!rig.reader.is_over());
    rig.step();
    assert!(rig.reader.is_over() && rig.budget.bytes() == 0);
}

#[test]
fn a_thread_that_waits_is_woken_by_requests_and_by_the_end() {
    let Rig { engine, mut reader, log, clock, budget } = Rig::new(versions("name", 3));
    let thread = std::thread::spawn(move || {
        while !reader.is_over() {
            reader.step(Duration::from_secs(600));
        }
        reader
    });
    let (sender, found) = channel();
    engine.find_record(7, move |result| sender.send(result).unwrap());
    assert_eq!(found.recv(), Ok(Ok(false)));
    let (sender, page) = channel();
    let query = PageQuery { name: "name".into(), after: 0, limit: 2 };
    let reservation = budget.reserve(Client::Local).unwrap();
    engine
        .read_history(query, Client::Local, reservation, move |read| sender.send(read.map(|(page, _)| page)).unwrap());
    assert_eq!(page.recv().unwrap().unwrap().next, Some(2));
    engine.close();
    let reader = thread.join().unwrap();
    assert!(Rig { engine, reader, log, clock, budget }.look_up(1).try_recv().unwrap().is_err());
}
