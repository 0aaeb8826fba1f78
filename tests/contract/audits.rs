//! History pages requested by many clients at once: slow readers must not use up the memory, nor eager readers the time, of
//! others.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use super::records::insert;
use super::support::{Broker, Connection, connect_small};

/// More pages of 8 MiB than the memory reserved for pages holds.
const SLOW_READERS: usize = 60;

#[test]
fn slow_readers_of_large_pages_leave_memory_for_others() {
    let broker = Broker::start(&["--stall", "10m"]);
    for _ in 0..20 {
        insert(&broker, "large", &format!("\"{}\"", "x".repeat(700_000)));
    }
    let small = insert(&broker, "small", "1");
    let slow: Vec<_> = (0..SLOW_READERS)
        .map(|_| {
            let mut socket = connect_small(broker.address);
            socket.write_all(b"GET /audit/large HTTP/1.1\r\nHost: h\r\n\r\n").expect("it can be sent");
            // The page has been read from disk by then.
            let mut begin = [0; 12];
            socket.read_exact(&mut begin).expect("a response arrives");
            assert_eq!(&begin, b"HTTP/1.1 200");
            socket
        })
        .collect();
    let held = broker.metrics().value("esker_audit_page_bytes");
    assert!(held > f64::from(64 << 20) && held <= f64::from(256 << 20), "{held}");
    let page = broker.get("/audit/small");
    assert_eq!((page.status, page.text()), (200, format!("{{\"small_v_{small}\":1}}\n")), "a small page");
    // The page is shorter than it could be; what is left out follows on the next page.
    let page = broker.get("/audit/large");
    assert_eq!(page.status, 200, "{page:?}");
    let versions = page.json().as_object().expect("an object").len();
    assert!((1..11).contains(&versions) && page.field("Link").is_some(), "{versions}");
    drop(slow);
    broker.metrics_once("free of pages", |metrics| metrics.value("esker_audit_page_bytes") == 0.0);
    let page = broker.get("/audit/large");
    assert_eq!(page.json().as_object().expect("an object").len(), 11, "8 MiB again");
}

/// All clients share one address, and each requests its next page as soon as it has the last one.
#[test]
fn two_hundred_history_readers_are_all_served() {
    let broker = Broker::start(&[]);
    for _ in 0..100 {
        insert(&broker, "large", &format!("\"{}\"", "x".repeat(20_000)));
    }
    insert(&broker, "small", "1");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..200)
            .map(|_| {
                let mut connection = Connection::open(broker.address);
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut pages = 0;
                    while !is_over.load(SeqCst) || pages == 0 {
                        connection.send("GET /audit/large HTTP/1.1\r\nHost: h\r\n\r\n");
                        let page = connection.response();
                        assert_eq!(page.status, 200, "{}", page.text());
                        pages += 1;
                    }
                    pages
                })
            })
            .collect();
        let times = (0..20).map(|_| {
            let begin = Instant::now();
            assert_eq!(broker.get("/audit/small").status, 200);
            begin.elapsed()
        });
        eprintln!("the slowest small page took {:?}", times.max());
        is_over.store(true, SeqCst);
        assert!(readers.into_iter().all(|reader| reader.join().expect("the thread succeeds") > 0));
    });
}

#[test]
fn record_names_in_paths_are_decoded_once() {
    let broker = Broker::start(&[]);
    for name in ["a/b", "b", "a%2Fb", "a//b", "..", "a/../b", "ü /"] {
        insert(&broker, name, &format!("\"{name}\""));
    }
    let named = |target: &str| {
        let page = broker.get(target);
        assert_eq!(page.status, 200, "{target}: {page:?}");
        page.json().as_object().and_then(|versions| versions.values().next().cloned()).unwrap_or_default()
    };
    for (target, name) in [
        ("/audit/a%2Fb", "a/b"),
        ("/audit/a/b", "a/b"),
        ("/audit/b", "b"),
        ("/audit/a%252Fb", "a%2Fb"),
        ("/audit/a//b", "a//b"),
        ("/audit/%C3%BC%20/", "ü /"),
        ("/%61udit/b", "b"),
        ("/audit?event=a/b", "a/b"),
        ("/audit?event=a%2Fb", "a/b"),
        ("/audit?event=a%252Fb", "a%2Fb"),
        ("/audit?event=..", ".."),
        ("/audit?event=a/../b", "a/../b"),
        ("/audit?limit=1&event=%C3%BC+/", "ü /"),
    ] {
        assert_eq!(named(target), name, "{target}");
    }
    assert!(named("/audit/a%2Fb%2F").is_null() && named("/audit?event=nobody").is_null());
}

#[test]
fn dot_segments_in_paths_are_refused() {
    let broker = Broker::start(&[]);
    insert(&broker, "b", "1");
    for name in ["a%2F..%2Fb", "a/../b", ".", "..", "%2e%2E", "./b", "a/.", "a%2f%2e", "../audit/b"] {
        let refused = broker.get(&format!("/audit/{name}"));
        assert_eq!(refused.status, 400, "{name}: {refused:?}");
        assert!(refused.text().contains("use /audit?event=NAME"), "{refused:?}");
    }
    for (target, part) in [
        ("/audit", "or /audit?event=NAME"),
        ("/audit?limit=1", "or /audit?event=NAME"),
        ("/audit?event=", "the name is empty"),
        ("/audit/", "the name is empty"),
        ("/audit?event=a&event=b", "repeated"),
        ("/audit?event=a%0a", "control character"),
    ] {
        let refused = broker.get(target);
        assert!(refused.status == 400 && refused.text().contains(part), "{target}: {refused:?}");
    }
    for target in ["/audit/b", "/audit?event=b", "/audit/a/b"] {
        let refused = broker.post(target, "", "");
        assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, DELETE, OPTIONS")), "{target}");
    }
    assert!(broker.get("/nowhere").text().contains("/audit?event="));
}

#[test]
fn the_next_link_has_the_form_of_the_request() {
    let broker = Broker::start(&[]);
    let ids: Vec<_> = (0..3).map(|number| insert(&broker, "a/b&c", &number.to_string())).collect();
    for (target, next) in [
        ("/audit/a%2Fb%26c?limit=2", format!("</audit/a%2Fb%26c?after={}&limit=2>; rel=\"next\"", ids[1])),
        ("/audit?limit=2&event=a/b%26c", format!("</audit?event=a%2Fb%26c&after={}&limit=2>; rel=\"next\"", ids[1])),
    ] {
        let page = broker.get(target);
        assert_eq!(page.field("Link"), Some(&*next));
        let target = next.trim_start_matches('<').split('>').next().expect("a target");
        assert_eq!(broker.get(target).text(), format!("{{\"a/b&c_v_{}\":2}}\n", ids[2]));
    }
}
