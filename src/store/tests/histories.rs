//! Pages of histories, compared with filtering a list.

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::quota::Growth;

#[test]
fn an_unknown_name_has_an_empty_page() {
    let rig = Rig::new(&Location::Memory);
    assert_eq!(rig.read_history("nobody", 0, 1000).unwrap(), Page { body: "{}".into(), next: None });
    let id = rig.insert("somebody", "true").unwrap();
    assert_eq!(rig.read_history("somebody", id, 1000).unwrap(), Page { body: "{}".into(), next: None });
    assert_eq!(rig.read_history("somebody", u64::MAX, 1000).unwrap(), Page { body: "{}".into(), next: None });
    assert_eq!(rig.read_history("somebody", 0, 0).unwrap().body, format!("{{\"somebody_v_{id}\":true}}"));
    assert_eq!(rig.read_history("somebody", 0, usize::MAX).unwrap().next, None);
}

#[test]
fn a_page_is_limited_in_bytes() {
    let rig = Rig::new(&Location::Memory);
    let data = format!("\"{}\"", "x".repeat(3 << 20));
    let ids: Vec<_> = (0..3).map(|_| rig.insert("big", &data).unwrap()).collect();
    let huge = rig.insert("big", &format!("\"{}\"", "y".repeat(9 << 20))).unwrap();
    let page = rig.read_history("big", 0, 1000).unwrap();
    assert_eq!((page.next, page.body.len() / data.len()), (Some(ids[1]), 2));
    assert_eq!(rig.read_history("big", ids[1], 1000).unwrap().next, Some(ids[2]));
    let page = rig.read_history("big", ids[2], 1000).unwrap();
    assert_eq!(
        (page.next, page.body.len() > 9 << 20),
        (None, true),
        "a version larger than a page gets a page of its own"
    );
    assert!(huge > ids[2]);
}

/// Returns the expected page.
fn naive(records: &[Record], name: &str, after: u64, limit: usize) -> Page {
    let mut mine = records.iter().filter(|record| &*record.name == name && record.id > after);
    let page: Vec<_> = mine.by_ref().take(limit).collect();
    let entries: Vec<_> = page.iter().map(|record| format!("\"{name}_v_{}\":{}", record.id, record.data)).collect();
    let next = mine.next().and(page.last()).map(|record| record.id);
    Page { body: format!("{{{}}}", entries.join(",")), next }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Some records are indexed and some are not, and other ids lie in between.
    #[test]
    fn pages_do_not_depend_on_the_index(
        batches in prop::collection::vec((prop::collection::vec(0..4_u32, 1..60), 0..3_u64), 1..12),
        queries in prop::collection::vec((0..5_u32, 0..600_u64, 1..40_usize), 10),
    ) {
        let tuning = Tuning { max_unindexed: 50, index_slice: 3, page_rows: 3, ..Tuning::default() };
        let rig = Rig::with(&Location::Memory, tuning);
        let mut last = 0;
        for (batch, skipped) in batches {
            rig.ids.newest.fetch_add(skipped, Ordering::SeqCst);
            let names: Vec<_> = batch.iter().map(|name| format!("name{name}")).collect();
            rig.insert_all(names.iter().map(|name| (name.as_str(), name.len().to_string())));
            let records = rig.published();
            for (name, after, limit) in &queries {
                let name = format!("name{name}");
                prop_assert_eq!(rig.read_history(&name, *after, *limit).unwrap(), naive(&records, &name, *after, *limit));
            }
            last = records.len();
        }
        // Follows `next` from page to page to the end.
        let records = rig.published();
        let (mut after, mut seen) = (0, 0);
        loop {
            let page = rig.read_history("name1", after, 7).unwrap();
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
fn readers_see_a_history_grow_while_it_is_written() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), small_limits());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..60 {
                rig.insert_all((0..40).map(|number| ("name", (round * 40 + number).to_string())));
            }
        });
        while !writer.is_finished() {
            let before = rig.published();
            let page = rig.read_history("name", 0, 10_000).unwrap();
            let seen: Vec<u64> =
                page.body.split(&[',', '}']).filter_map(|entry| entry.split(':').nth(1)?.parse().ok()).collect();
            assert!(seen.len() >= before.len() && seen.iter().copied().eq(0..seen.len() as u64));
        }
    });
    assert_eq!(rig.read_history("name", 0, 10_000).unwrap(), naive(&rig.published(), "name", 0, 10_000));
}

/// Returns a store without threads that reads histories in slices of `rows` rows, with one name and its versions.
fn manual_store(rows: usize, name: &str, versions: usize) -> (Store, ManualStore) {
    let tuning = Tuning { page_rows: rows, ..Tuning::default() };
    let opening = Store::open_tuned(&Location::Memory, tuning).unwrap();
    let clock = Clock::manual(Arc::new(ManualClock::default()));
    let (store, mut manual) = opening.start_manual(Box::new(Arc::new(Ids::default())), clock).unwrap();
    for _ in 0..versions {
        store.insert(plain(name, "1"), |stored| assert!(stored.is_ok()));
    }
    manual.step();
    (store, manual)
}

fn client(number: u8) -> Client {
    Client::from(Some(std::net::IpAddr::from([10, 0, 0, number])))
}

/// Requests a page, and sends its limit and its number of versions once it is read.
fn request(store: &Store, budget: &PageBudget, client: Client, limit: usize, done: &mpsc::Sender<(usize, usize)>) {
    let (done, query) = (done.clone(), PageQuery { name: "name".into(), after: 0, limit });
    store.read_history(query, client, budget.reserve(client).unwrap(), move |read| {
        done.send((limit, read.unwrap().0.body.matches("_v_").count())).unwrap();
    });
}

#[test]
fn a_small_page_waits_for_one_slice_of_each_other_client() {
    let (store, mut manual) = manual_store(10, "name", 1000);
    let (budget, (sender, done)) = (PageBudget::default(), mpsc::channel());
    for number in 0..200 {
        request(&store, &budget, client(number % 2), 1000, &sender);
    }
    (0..50).for_each(|_| manual.step());
    request(&store, &budget, client(2), 5, &sender);
    (0..3).for_each(|_| manual.step());
    assert_eq!(done.try_recv(), Ok((5, 5)), "the page of another client");
    request(&store, &budget, client(0), 5, &sender);
    // Each of the client's new requests before it takes a turn, alternating with one that was begun; the other client takes as
    // many turns.
    (0..4 * 100).for_each(|_| manual.step());
    assert_eq!(done.try_recv(), Ok((5, 5)), "a page of the same client");
    (0..200 * 101).for_each(|_| manual.step());
    assert!(done.try_iter().eq(std::iter::repeat_n((1000, 1000), 200)), "all pages are complete");
}

#[test]
fn pages_get_shorter_when_memory_is_short() {
    let rig = Rig::new(&Location::Memory);
    let data = format!("\"{}\"", "x".repeat(100_000));
    rig.insert_all((0..30).map(|_| ("name", data.clone())));
    let records = rig.published();
    let budget = PageBudget::new(1 << 20, 4 << 20);
    let (mut after, mut seen, mut pages) = (0, Vec::new(), 0);
    loop {
        let (sender, reply) = mpsc::channel();
        let query = PageQuery { name: "name".into(), after, limit: 1000 };
        rig.store.read_history(query, Client::Local, budget.reserve(Client::Local).unwrap(), move |read| {
            sender.send(read).unwrap();
        });
        let (page, reservation) = reply.recv().unwrap().unwrap();
        assert_eq!(reservation.bytes(), page.body.len());
        let entries: BTreeMap<String, String> = serde_json::from_str(&page.body).unwrap();
        seen.extend(entries.into_keys());
        pages += 1;
        let Some(next) = page.next else { break };
        after = next;
    }
    let expected: Vec<_> = records.iter().map(|record| format!("name_v_{}", record.id)).collect();
    assert_eq!(seen.len(), expected.len());
    assert!(pages > 5 && expected.iter().all(|key| seen.contains(key)), "{pages} pages");
}

#[test]
fn a_page_without_memory_for_one_version_is_refused_as_busy() {
    let rig = Rig::new(&Location::Memory);
    rig.insert("name", &format!("\"{}\"", "x".repeat(200_000))).unwrap();
    let budget = PageBudget::new(1 << 20, 200_000);
    let mut other = budget.reserve(Client::Local).unwrap();
    assert!(other.grow(210_000, Growth::Required));
    let (sender, reply) = mpsc::channel();
    let query = PageQuery { name: "name".into(), after: 0, limit: 1 };
    let Some(reservation) = budget.reserve(client(1)) else { panic!("there is memory for a small page") };
    rig.store.read_history(query, client(1), reservation, move |read| sender.send(read.map(drop)).unwrap());
    assert_eq!(reply.recv().unwrap(), Err(StoreError::Busy));
    drop(other);
    assert_eq!(budget.bytes(), 0);
}
