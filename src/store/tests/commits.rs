//! Inserts are stored, published and completed, in the same order.

use proptest::prelude::*;

use super::*;
use crate::records::MAX_NAME;

#[test]
fn records_are_published_in_order_before_inserts_are_completed() {
    let rig = Rig::new(&Location::Memory);
    let ids = Arc::clone(&rig.ids);
    let (sender, replies) = mpsc::channel();
    for number in 0..5000 {
        let (sender, ids) = (sender.clone(), Arc::clone(&ids));
        let name = format!("name{}", number % 7);
        rig.store.insert(plain(&name, number.to_string()), move |result| {
            let id = stored_id(result.unwrap());
            let published = ids.published.lock().unwrap();
            let at = published.binary_search_by_key(&id, |record| record.id).unwrap();
            assert_eq!(*published[at].data, *number.to_string());
            sender.send(number).unwrap();
        });
    }
    drop(sender);
    assert!(replies.iter().eq(0..5000));
    let published = rig.published();
    assert!(published.is_sorted_by(|one, next| one.id < next.id));
    assert!(published.iter().map(|record| record.data.parse::<u64>().unwrap()).eq(0..5000));
    let status = rig.store.status();
    assert_eq!((status.records, status.names, status.queued, status.queued_bytes), (5000, 7, 0, 0));
    assert!(status.commits < 5000, "inserts share commits");
}

#[test]
fn many_threads_insert_concurrently() {
    let scratch = Scratch::new();
    let rig = Rig::with(&scratch.location(), small_limits());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let rig = &rig;
            scope.spawn(move || {
                let mut last = 0;
                for number in 0..200 {
                    let id = rig.insert(&format!("name{}", number % 3), &format!("[{thread},{number}]")).unwrap();
                    assert!(id > last);
                    last = id;
                }
            });
        }
    });
    let published = rig.published();
    rig.store.close();
    assert_eq!(contents(&scratch.0), published);
    assert_eq!(published.len(), 1600);
}

#[test]
fn data_is_kept_byte_for_byte() {
    let scratch = Scratch::new();
    let deep = "[".repeat(128) + &"]".repeat(128);
    let data = [
        "1e400",
        "123456789012345678901234567890.10",
        r#"{"b":1,"a":2,"b":3}"#,
        r#""\u0000\ud800\/é\u00e9 ""#,
        "\"\u{2028}\u{10ffff}\u{feff}\"",
        "-0.0",
        "\"\"",
        &deep,
    ];
    let names = ["user", "a\"b\\c", "é/%2F", "_v_", &"x".repeat(MAX_NAME)];
    let rig = Rig::new(&scratch.location());
    let all: Vec<_> = names.iter().flat_map(|name| data.iter().map(move |data| (*name, (*data).to_owned()))).collect();
    let ids: Vec<_> = rig.insert_all(all.clone()).into_iter().map(Result::unwrap).collect();
    for name in names {
        let mine = ids.iter().zip(&all).filter(|(_, (other, _))| *other == name);
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
        let entries: Vec<_> = mine.map(|(id, (_, data))| format!("\"{escaped}_v_{id}\":{data}")).collect();
        assert_eq!(rig.read_history(name, 0, 1000).unwrap().body, format!("{{{}}}", entries.join(",")));
    }
    let published = rig.published();
    assert!(published.iter().map(|record| (&*record.name, record.data.to_string())).eq(all));
    rig.store.close();
    assert_eq!(contents(&scratch.0), published);
    assert_eq!(Rig::new(&scratch.location()).latest, latest_of(&published));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_text_is_kept(texts in prop::collection::vec((any::<String>(), any::<String>()), 1..20)) {
        let rig = Rig::new(&Location::Memory);
        for (name, text) in texts {
            let data = serde_json::Value::from(text).to_string();
            let Ok(()) = check_name(&name) else { continue };
            let id = rig.insert(&name, &data).unwrap();
            let key = serde_json::Value::from(format!("{name}_v_{id}"));
            prop_assert_eq!(rig.read_history(&name, id - 1, 1).unwrap().body, format!("{{{key}:{data}}}"));
        }
    }
}

#[test]
fn a_full_queue_refuses_inserts_immediately() {
    let rig = Rig::new(&Location::Memory);
    rig.ids.is_paused.store(true, Ordering::SeqCst);
    let (sender, replies) = mpsc::channel();
    let megabyte = format!("\"{}\"", "x".repeat(1 << 20));
    for _ in 0..100 {
        let sender = sender.clone();
        rig.store.insert(plain("big", megabyte.as_str()), move |result| sender.send(result).unwrap());
    }
    let refused = replies.try_iter().filter(|reply| *reply == Err(StoreError::Busy)).count();
    assert!((28..=46).contains(&refused), "{refused} of 100 MiB; the queue holds 64, and the writer a batch or two");
    rig.ids.is_paused.store(false, Ordering::SeqCst);
    drop(sender);
    assert_eq!(replies.iter().filter(Result::is_ok).count(), 100 - refused);
    assert_eq!((rig.store.status().queued, rig.store.status().queued_bytes), (0, 0));
    assert!(rig.insert("small", "1").is_ok());
}

#[test]
fn closing_stores_queued_inserts() {
    let scratch = Scratch::new();
    let rig = Rig::new(&scratch.location());
    let (sender, replies) = mpsc::channel();
    for number in 0..20_000 {
        let sender = sender.clone();
        rig.store.insert(plain("name", number.to_string()), move |result| sender.send(result).unwrap());
    }
    rig.store.close();
    drop(sender);
    assert_eq!(replies.iter().filter(Result::is_ok).count(), 20_000);
    assert_eq!(rig.insert("name", "1"), Err(StoreError::Closed));
    assert_eq!(rig.read_history("name", 0, 1), Err(StoreError::Closed));
    assert_eq!(rig.store.status().health, Health::Closed);
    assert_eq!(contents(&scratch.0).len(), 20_000);
    rig.store.close();
}

#[test]
fn closing_completes_concurrent_inserts() {
    for _ in 0..20 {
        let rig = Rig::new(&Location::Memory);
        let stored = std::thread::scope(|scope| {
            let inserter = scope.spawn(|| {
                let mut stored = 0;
                while rig.insert("name", "1").is_ok() {
                    stored += 1;
                }
                stored
            });
            std::thread::sleep(Duration::from_millis(2));
            rig.store.close();
            inserter.join().unwrap()
        });
        assert_eq!(rig.published().len(), stored);
    }
}
