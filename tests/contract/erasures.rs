//! Erasures: what is erased is neither served nor in any file of the data directory, and everything else is.

use std::path::Path;

use serde_json::json;

use super::records::insert;
use super::storage::{data_path, start_broker, versions};
use super::support::tokens::{self, SECRETS, assert_denied, bearer, cookie};
use super::support::{Broker, Response, TempDir, run};

/// A text that occurs only in the data of records that are erased.
const SECRET: &str = "xyzzy-7291-secret";

fn delete(broker: &Broker, target: &str, fields: &str) -> Response {
    broker.request(format!("DELETE {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
}

/// Erases, requires status 200, and returns the number of versions.
fn erase(broker: &Broker, target: &str) -> u64 {
    let response = delete(broker, target, "");
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["erased"].as_u64().expect("a number")
}

/// Returns the names of the files in the data directory that contain a text.
fn files_with(dir: &TempDir, text: &str) -> Vec<String> {
    let files = std::fs::read_dir(dir.path.join("data")).expect("it is there").map(|file| file.expect("a file").path());
    let has_text = |path: &Path| {
        let bytes = std::fs::read(path).expect("it can be read");
        memchr::memmem::find(&bytes, text.as_bytes()).is_some()
    };
    files.filter(|path| has_text(path)).map(|path| path.display().to_string()).collect()
}

/// Inserts records of several names, small and large. Those of `user` have the secret.
fn insert_records(broker: &Broker, count: usize) -> Vec<u64> {
    let mut of_user = Vec::new();
    for number in 0..count {
        let filler = "x".repeat(if number % 10 == 3 { 9000 } else { number * 37 % 500 });
        insert(broker, &format!("other{}", number % 7), &format!("\"kept-{number}-{filler}\""));
        of_user.push(insert(broker, "user", &format!("\"{SECRET}-{number}-{filler}-{SECRET}\"")));
    }
    of_user
}

#[test]
fn an_erasure_removes_versions_and_their_text() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let ids = insert_records(&broker, 60);
    assert!(!files_with(&dir, SECRET).is_empty());
    let response = delete(&broker, &format!("/audit/user?before={}", ids[20]), "");
    assert_eq!((response.status, response.json()), (200, json!({"event": "user", "erased": 20})));
    assert_eq!(versions(&broker, "user").iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[20..]);
    assert!(
        files_with(&dir, &format!("{SECRET}-7-")).is_empty() && !files_with(&dir, &format!("{SECRET}-20-")).is_empty()
    );
    assert_eq!(erase(&broker, "/audit?event=user"), 40);
    assert_eq!(files_with(&dir, SECRET), [""; 0], "while the broker is running");
    assert_eq!(broker.get("/audit/user").text(), "{}\n");
    assert_eq!((erase(&broker, "/audit/user"), erase(&broker, "/audit/nobody")), (0, 0));
    broker.signal("KILL");
    broker.wait();
    assert_eq!(files_with(&dir, SECRET), [""; 0], "after a kill");
    let broker = start_broker(&dir);
    let new = insert(&broker, "user", "1");
    assert!(new > ids[59]);
    assert_eq!(versions(&broker, "user"), [(new, "1".to_owned())]);
    broker.signal("TERM");
    assert_eq!(broker.wait().0, Some(0));
    assert_eq!(files_with(&dir, SECRET), [""; 0], "after a stop");
    let (code, _, err) = run(&["check", &data_path(&dir)], &[]);
    assert!(code == Some(0) && err.contains("records: 61, names: 8,"), "{err}");
}

#[test]
fn streams_are_told_what_is_erased() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let first = insert(&broker, "user", "1");
    let other = insert(&broker, "other", "2");
    let newest = insert(&broker, "user", "3");
    let mut streams = ["/events", "/events?event=user"].map(|target| broker.subscribe(target, ""));
    assert_eq!((streams[0].data(2), streams[1].data(1)), (vec!["2".to_owned(), "3".to_owned()], vec!["3".to_owned()]));
    assert_eq!(erase(&broker, &format!("/audit/user?before={newest}")), 1, "which is told to nobody");
    assert_eq!(erase(&broker, "/audit/user"), 1);
    let erasures = streams.each_mut().map(|stream| stream.event());
    let id = erasures[0].number();
    assert!(id > newest);
    for erasure in &erasures {
        assert_eq!(erasure.text, format!("event: erased\ndata: {{\"event\":\"user\"}}\nid: {id}\n\n"));
    }
    let resume =
        |broker: &Broker, position: u64| broker.subscribe("/events", &format!("Last-Event-ID: {position}\r\n"));
    let check = |broker: &Broker, later: u64| {
        for position in [first, other, newest, id - 1] {
            let mut stream = resume(broker, position);
            assert_eq!(stream.event().name.as_deref(), Some("gap"), "{position}");
            assert_eq!(stream.data(2), ["2", "4"]);
        }
        assert_eq!(resume(broker, id).event().number(), later, "the erasure is a known position");
        assert_eq!(broker.subscribe("/events", "").data(2), ["2", "4"]);
    };
    let later = insert(&broker, "user", "4");
    check(&broker, later);
    assert_eq!(streams.each_mut().map(|stream| stream.event().number()), [later, later]);
    broker.signal("KILL");
    broker.wait();
    check(&start_broker(&dir), later);
}

#[test]
fn the_name_itself_goes_with_its_last_version() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    for number in 0..40 {
        insert(&broker, &format!("name {number} of {SECRET}"), "1");
    }
    let first = insert(&broker, "a/b ü", "1");
    for number in 0..40 {
        assert_eq!(erase(&broker, &format!("/audit/name%20{number}%20of%20{SECRET}")), 1);
    }
    assert_eq!(files_with(&dir, SECRET), [""; 0]);
    let response = delete(&broker, &format!("/audit/a/b%20%C3%BC?before={}", first + 1), "");
    assert_eq!((response.status, response.json()), (200, json!({"event": "a/b ü", "erased": 1})));
    assert_eq!(broker.stats()["record_names"], 0);
}

#[test]
fn concurrent_erasures_and_inserts_lose_nothing_else() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3).map(|_| scope.spawn(|| insert_records(&broker, 60))).collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            erase(&broker, "/audit/user");
        }
    });
    erase(&broker, "/audit/user");
    assert_eq!(files_with(&dir, SECRET), [""; 0]);
    assert_eq!((0..7).map(|number| versions(&broker, &format!("other{number}")).len()).sum::<usize>(), 180);
}

#[test]
fn a_bad_request_erases_nothing() {
    let broker = Broker::start(&[]);
    insert(&broker, "user", "1");
    for (target, part) in [
        ("/audit/user?before=x", "before must be a whole number"),
        ("/audit", "the record's name is missing"),
        ("/audit/", "the name is empty"),
        ("/audit/a/../user", "a . or .. segment"),
        ("/audit?event=user&event=other", "repeated"),
        ("/audit/user?befor=17", "only the query parameters before, token"),
        ("/audit/user?before=0&before=17", "each of them once"),
        ("/audit/user?Before=0", "only the query parameters"),
        ("/audit/user?event=user", "if the name is not in the path"),
        ("/audit/user?17", "only the query parameters"),
    ] {
        let response = delete(&broker, target, "");
        assert_eq!(response.status, 400, "{target}: {response:?}");
        assert!(response.text().contains(part), "{target}: {response:?}");
    }
    for field in ["If-Match: \"17\"", "If-None-Match: *", "if-match: *"] {
        let response = delete(&broker, "/audit/user", &format!("{field}\r\n"));
        assert_eq!(response.status, 400, "{field}: {response:?}");
        assert!(response.text().contains("add ?before=<id>"), "{field}: {response:?}");
    }
    let response = broker.post("/audit/user", "", "");
    assert_eq!((response.status, response.field("Allow")), (405, Some("GET, HEAD, DELETE, OPTIONS")));
    assert!(response.text().contains("erase them with DELETE"), "{response:?}");
    let preflight = broker.request("OPTIONS /audit/user HTTP/1.1\r\nHost: h\r\nOrigin: http://a.example\r\n\r\n");
    assert_eq!((preflight.status, preflight.field("Allow")), (204, Some("GET, HEAD, DELETE, OPTIONS")));
    assert_eq!(erase(&broker, "/audit/user?before=0"), 0);
    assert_eq!(versions(&broker, "user").len(), 1);
}

#[test]
fn erasing_takes_the_token_for_inserting() {
    let broker = Broker::start_with_tokens(&["--origin", "https://listed.example"], &SECRETS);
    let events = tokens::publisher("events");
    for (fields, status) in [
        (String::new(), 401),
        (bearer(&tokens::subscriber("events")), 401),
        (bearer(&tokens::publisher("topicone1")), 403),
        (cookie(&events), 403),
        (cookie(&events) + "Origin: https://other.example\r\n", 403),
    ] {
        assert_denied(&delete(&broker, "/audit/user", &fields), status, "");
    }
    for fields in [bearer(&events), cookie(&events) + "Origin: https://listed.example\r\n"] {
        assert_eq!(delete(&broker, "/audit/user", &fields).status, 200, "{fields}");
    }
}

#[test]
fn a_stopped_broker_s_records_are_erased_by_the_command() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let ids = insert_records(&broker, 30);
    let erase = |arguments: &[&str]| run(&[&["erase", &data_path(&dir), "--event", "user"], arguments].concat(), &[]);
    let (code, _, err) = erase(&[]);
    assert!(code == Some(1) && err.contains("another"), "a broker runs on it: {err}");
    broker.signal("TERM");
    broker.wait();
    let (code, out, err) = erase(&["--before", &ids[10].to_string()]);
    assert_eq!((code, out.as_str(), err.trim_end()), (Some(0), "", "versions erased: 10"));
    assert!(files_with(&dir, &format!("{SECRET}-9-")).is_empty());
    let (code, _, err) = erase(&[]);
    assert_eq!((code, err.trim_end()), (Some(0), "versions erased: 20"));
    assert_eq!(files_with(&dir, SECRET), [""; 0]);
    assert_eq!(run(&["check", &data_path(&dir)], &[]).0, Some(0));
    let broker = start_broker(&dir);
    assert!(insert(&broker, "user", "1") > ids[29]);
    let mut resumed = broker.subscribe("/events", &format!("Last-Event-ID: {}\r\n", ids[29]));
    assert_eq!(resumed.event().name.as_deref(), Some("gap"));
}
