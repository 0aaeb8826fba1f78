//! Whose turn it is, and what a page contains.

use super::*;

#[test]
fn a_page_has_the_versions_after_an_id_up_to_a_limit() {
    let records = versions("name", 1000);
    let mut rig = Rig::new(records.clone());
    for (after, limit) in [(0, 1), (0, 127), (0, 128), (0, 129), (500, 400), (0, 999), (0, 1000), (0, 1001), (999, 10)]
    {
        assert_eq!(rig.read("name", after, limit).unwrap(), naive(&records, "name", after, limit), "{after} {limit}");
    }
    assert_eq!(rig.read("name", 1000, 10).unwrap(), Page { body: "{}".into(), next: None });
    assert_eq!(rig.read("nobody", 0, 10).unwrap(), Page { body: "{}".into(), next: None });
    assert_eq!((rig.engine.status().pages, rig.budget.bytes()), (11, 0));
}

#[test]
fn lookups_come_before_pages_and_between_their_slices() {
    let mut rig = Rig::new(versions("name", 400));
    let page = rig.request(1, "name", 0, 1000);
    let first = rig.look_up(1000);
    rig.step();
    assert_eq!((first.try_recv(), page.try_recv().is_err()), (Ok(Ok(false)), true));
    rig.step();
    let second = rig.look_up(1001);
    rig.step();
    assert_eq!((second.try_recv(), page.try_recv().is_err()), (Ok(Ok(false)), true));
    (0..3).for_each(|_| rig.step());
    assert!(page.try_recv().unwrap().is_ok());
    let slice = || Answered::Versions("name".into(), 128);
    let begun = [Answered::Lookup(1000), slice(), Answered::Lookup(1001), slice()];
    assert_eq!(rig.log.lock().answered[..4], begun);
}

#[test]
fn a_small_page_waits_for_one_slice_of_each_other_client() {
    let records = versions("name", 1000);
    let mut rig = Rig::new(records.clone());
    let large: Vec<_> = (0..20).map(|number| rig.request(number % 2, "name", 0, 1000)).collect();
    (0..7).for_each(|_| rig.step());
    let small = rig.request(2, "name", 0, 5);
    (0..3).for_each(|_| rig.step());
    assert_eq!(small.try_recv().unwrap().unwrap(), naive(&records, "name", 0, 5));
    (0..200).for_each(|_| rig.step());
    assert!(large.iter().all(|page| page.try_recv().unwrap().unwrap() == naive(&records, "name", 0, 1000)));
}

#[test]
fn a_small_page_takes_one_turn_even_if_it_comes_in_parts() {
    let mut rig = Rig::new(versions("name", 50));
    rig.log.lock().part = 1;
    for limit in [20, 1000] {
        let page = rig.request(1, "name", 0, limit);
        rig.step();
        assert!(page.try_recv().unwrap().is_ok());
    }
}

#[test]
fn a_slice_is_limited_in_bytes() {
    let data = format!("\"{}\"", "x".repeat(100_000));
    let records: Vec<_> = (1..=30).map(|id| record(id, "name", &data)).collect();
    let mut rig = Rig::new(records.clone());
    rig.log.lock().part = 2;
    let page = rig.request(1, "name", 0, 1000);
    rig.step();
    assert_eq!(rig.log.lock().answered.len(), 2, "four versions are more than enough");
    (0..20).for_each(|_| rig.step());
    assert_eq!(page.try_recv().unwrap().unwrap(), naive(&records, "name", 0, 1000));
}
