//! Pages of histories, against filtering a list.

use proptest::prelude::*;

use super::*;

#[test]
fn an_unknown_name_has_no_versions() {
    let rig = Rig::new(&Place::Memory);
    assert_eq!(rig.audit("nobody", 0, 1000).unwrap(), Page { body: "{}".into(), next: None });
    let id = rig.insert("somebody", "true").unwrap();
    assert_eq!(rig.audit("somebody", id, 1000).unwrap(), Page { body: "{}".into(), next: None });
    assert_eq!(rig.audit("somebody", u64::MAX, 1000).unwrap(), Page { body: "{}".into(), next: None });
    assert_eq!(rig.audit("somebody", 0, 0).unwrap().body, format!("{{\"somebody_v_{id}\":true}}"));
    assert_eq!(rig.audit("somebody", 0, usize::MAX).unwrap().next, None);
}

#[test]
fn a_page_is_bounded_by_bytes() {
    let rig = Rig::new(&Place::Memory);
    let data = format!("\"{}\"", "x".repeat(3 << 20));
    let ids: Vec<_> = (0..3).map(|_| rig.insert("big", &data).unwrap()).collect();
    let huge = rig.insert("big", &format!("\"{}\"", "y".repeat(9 << 20))).unwrap();
    let page = rig.audit("big", 0, 1000).unwrap();
    assert_eq!((page.next, page.body.len() / data.len()), (Some(ids[1]), 2));
    assert_eq!(rig.audit("big", ids[1], 1000).unwrap().next, Some(ids[2]));
    let page = rig.audit("big", ids[2], 1000).unwrap();
    assert_eq!(
        (page.next, page.body.len() > 9 << 20),
        (None, true),
        "one that is larger than a page has one of its own"
    );
    assert!(huge > ids[2]);
}

/// What the pages should say.
fn naive(records: &[Record], name: &str, after: u64, limit: usize) -> Page {
    let mut mine = records.iter().filter(|record| &*record.name == name && record.id > after);
    let page: Vec<_> = mine.by_ref().take(limit).collect();
    let entries: Vec<_> = page.iter().map(|record| format!("\"{name}_v_{}\":{}", record.id, record.data)).collect();
    let next = mine.next().and(page.last()).map(|record| record.id);
    Page { body: format!("{{{}}}", entries.join(",")), next }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// While some of it is indexed, and some is not, and with other ids in between.
    #[test]
    fn pages_are_as_if_there_were_no_index(
        batches in prop::collection::vec((prop::collection::vec(0..4_u32, 1..60), 0..3_u64), 1..12),
        questions in prop::collection::vec((0..5_u32, 0..600_u64, 1..40_usize), 10),
    ) {
        let tuning = Tuning { unindexed: 50, slice: 3, ..Tuning::default() };
        let rig = Rig::with(&Place::Memory, tuning);
        let mut last = 0;
        for (batch, skipped) in batches {
            rig.ids.newest.fetch_add(skipped, Ordering::SeqCst);
            let names: Vec<_> = batch.iter().map(|name| format!("name{name}")).collect();
            rig.insert_all(names.iter().map(|name| (name.as_str(), name.len().to_string())));
            let records = rig.published();
            for (name, after, limit) in &questions {
                let name = format!("name{name}");
                prop_assert_eq!(rig.audit(&name, *after, *limit).unwrap(), naive(&records, &name, *after, *limit));
            }
            last = records.len();
        }
        // From page to page to the end.
        let records = rig.published();
        let (mut after, mut seen) = (0, 0);
        loop {
            let page = rig.audit("name1", after, 7).unwrap();
            seen += page.body.matches("_v_").count();
            let Some(next) = page.next else { break };
            prop_assert!(next > after);
            after = next;
        }
        prop_assert_eq!(seen, records.iter().filter(|record| &*record.name == "name1").count());
        prop_assert!(last == records.len());
    }
}

#[test]
fn readers_see_each_history_grow_while_it_is_written() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.place(), hasty());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..60 {
                rig.insert_all((0..40).map(|number| ("name", (round * 40 + number).to_string())));
            }
        });
        while !writer.is_finished() {
            let before = rig.published();
            let page = rig.audit("name", 0, 10_000).unwrap();
            let seen: Vec<u64> =
                page.body.split(&[',', '}']).filter_map(|entry| entry.split(':').nth(1)?.parse().ok()).collect();
            assert!(seen.len() >= before.len() && seen.iter().copied().eq(0..seen.len() as u64));
        }
    });
    assert_eq!(rig.audit("name", 0, 10_000).unwrap(), naive(&rig.published(), "name", 0, 10_000));
}
