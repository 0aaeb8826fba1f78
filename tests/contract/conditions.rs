//! Conditional inserts and idempotency keys: one winner per version, and every key is stored once, also across kills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::storage::{start_broker, versions};
use super::support::{Broker, Connection, Response, TIMEOUT, TempDir};

/// The environment variable for the number of versions that clients race for.
const VERSIONS: &str = "ESKER_RACE_VERSIONS";

fn insert_request(name: &str, data: &str, fields: &str) -> String {
    let body = format!("{{\"event\":{},\"data\":{data}}}", Value::from(name));
    format!("POST /insert HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn insert(broker: &Broker, name: &str, data: &str, fields: &str) -> Response {
    broker.request(insert_request(name, data, fields))
}

fn id_of(response: &Response) -> u64 {
    response.json()["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id: {response:?}"))
}

/// Checks that a 200 is of a record that was stored now, and returns its id.
fn stored(response: &Response) -> u64 {
    assert_eq!((response.status, &response.json()["duplicate"]), (200, &Value::Null), "{response:?}");
    let id = id_of(response);
    assert_eq!(response.field("ETag"), Some(format!("\"{id}\"").as_str()), "{response:?}");
    id
}

/// Checks a 412, and returns the id of the newest version.
fn conflict(response: &Response, name: &str) -> Option<u64> {
    assert_eq!(response.status, 412, "{response:?}");
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"));
    let problem = response.json();
    assert_eq!((&problem["event"], &problem["title"]), (&name.into(), &"Precondition Failed".into()), "{problem}");
    let id = problem["id"].as_str().map(|id| id.parse::<u64>().expect("an id"));
    let key = id.map(|id| format!("{name}_v_{id}"));
    assert_eq!((&problem["key"], response.field("ETag")), (&json!(key), id.map(|id| format!("\"{id}\"")).as_deref()));
    id
}

#[test]
fn one_of_many_clients_wins_each_version() {
    const CLIENTS: usize = 32;
    let versions_won = std::env::var(VERSIONS).map_or(200, |text| text.parse().expect("a number"));
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let first = stored(&insert(&broker, "user", "0", "If-None-Match: *\r\n"));
    let won = AtomicUsize::new(0);
    let client = |number: usize| {
        let (mut connection, mut known, mut wins, mut seen) = (broker.connect(), first, Vec::new(), BTreeSet::new());
        while won.load(SeqCst) < versions_won {
            connection.send(insert_request("user", &number.to_string(), &format!("If-Match: \"{known}\"\r\n")));
            let response = connection.response();
            if response.status == 200 {
                won.fetch_add(1, SeqCst);
                let id = stored(&response);
                wins.push((known, id));
                known = id;
            } else {
                let newest = conflict(&response, "user").expect("there is a version");
                assert!(newest > known, "{newest} after {known}");
                seen.insert(newest);
                known = newest;
            }
        }
        (wins, seen)
    };
    let (mut wins, mut seen) = (Vec::new(), BTreeSet::new());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        for (won, conflicts) in clients.into_iter().map(|client| client.join().expect("it succeeds")) {
            wins.extend(won);
            seen.extend(conflicts);
        }
    });
    // Each version was won by one client, which knew the version before it.
    wins.sort_unstable();
    let ids: Vec<u64> = [first].into_iter().chain(wins.iter().map(|(_, id)| *id)).collect();
    assert!(ids.is_sorted_by(|one, next| one < next) && wins.iter().map(|(known, _)| known).eq(&ids[..wins.len()]));
    assert!(versions(&broker, "user").iter().map(|(id, _)| id).eq(&ids) && ids.len() > versions_won);
    assert!(seen.iter().all(|id| ids.binary_search(id).is_ok()), "a 412 names a version that exists");
    let metrics = broker.metrics();
    assert!(metrics.labeled("esker_store_refusals_total", "reason", "conflict") > 0.0, "{metrics:?}");
}

#[test]
fn one_of_many_clients_creates_each_name() {
    const CLIENTS: usize = 16;
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let names: Vec<String> = (0..40).map(|number| format!("name{number}")).collect();
    let client = || {
        let mut connection = broker.connect();
        let mut create = |name: &String| {
            connection.send(insert_request(name, "1", "If-None-Match: *\r\n"));
            connection.response()
        };
        names
            .iter()
            .map(|name| (name, create(name)))
            .map(|(name, response)| match response.status {
                200 => (true, stored(&response)),
                _ => (false, conflict(&response, name).expect("there is a version")),
            })
            .collect::<Vec<_>>()
    };
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("it succeeds")).collect()
    });
    for (index, name) in names.iter().enumerate() {
        let of_name = || outcomes.iter().map(|outcomes| outcomes[index]);
        assert_eq!(of_name().filter(|(has_won, _)| *has_won).count(), 1, "{name}");
        let ids: BTreeSet<_> = of_name().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), 1, "the losers of {name} are told about the winner's");
    }
}

#[test]
fn conditions_are_judged_against_the_newest_version() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/events", "");
    let insert = |fields: &str| insert(&broker, "a/b \"ü\"", "1", fields);
    let name = "a/b \"ü\"";
    for fields in ["If-Match: *\r\n", "If-Match: \"1\"\r\n"] {
        let response = insert(fields);
        assert_eq!(conflict(&response, name), None);
        assert!(response.json()["detail"].as_str().expect("a detail").contains("If-None-Match: *"), "{response:?}");
    }
    let first = stored(&insert("if-none-match:*\r\n"));
    let response = insert("If-None-Match: *\r\n");
    assert_eq!(conflict(&response, name), Some(first));
    let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains(&format!("If-Match: \"{first}\"")) && detail.contains("GET /audit"), "{detail}");
    let second = stored(&insert(&format!("If-Match: \"x\" , \"{first}\",\r\n")));
    for stale in [format!("\"{first}\""), format!("W/\"{second}\""), format!("\"0{second}\""), "\"\"".to_owned()] {
        assert_eq!(conflict(&insert(&format!("If-Match: {stale}\r\n")), name), Some(second), "{stale}");
    }
    let third = stored(&insert("IF-MATCH: *\r\n"));
    assert_eq!([stream.event(), stream.event(), stream.event()].map(|event| event.number()), [first, second, third]);
    assert_eq!(broker.get("/audit?event=a/b+%22%C3%BC%22").json().as_object().map(serde_json::Map::len), Some(3));
}

#[test]
fn malformed_conditions_and_keys_are_explained() {
    let broker = Broker::start(&[]);
    let id = stored(&insert(&broker, "a", "1", ""));
    let long = format!("Idempotency-Key: {}\r\n", "k".repeat(129));
    for (fields, words) in [
        (&*format!("If-Match: {id}\r\n"), "in quotation marks"),
        ("If-Match:\r\n", "in quotation marks"),
        ("If-Match: \"1\" \"2\"\r\n", "separated by commas"),
        ("If-Match: \"1\", *\r\n", "or *"),
        (&format!("If-None-Match: \"{id}\"\r\n"), "the only supported If-None-Match is *"),
        ("If-Match: *\r\nIf-None-Match: *\r\n", "both If-Match and If-None-Match"),
        ("If-Match: \"1\"\r\nIf-Match: \"2\"\r\n", "more than one If-Match"),
        ("Idempotency-Key: a\r\nidempotency-key: b\r\n", "more than one Idempotency-Key"),
        ("Idempotency-Key:\r\n", "1 to 128 bytes"),
        ("Idempotency-Key: ü\r\n", "1 to 128 bytes"),
        (&long, "1 to 128 bytes"),
    ] {
        let response = insert(&broker, "a", "2", fields);
        let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(response.status == 400 && detail.contains(words), "{fields}: {response:?}");
    }
    assert_eq!(versions(&broker, "a").len(), 1);
    // Other routes take no notice: browsers send If-None-Match with requests for pages.
    let response = broker.request("GET /audit/a HTTP/1.1\r\nHost: h\r\nIf-None-Match: x\r\nIf-Match: y\r\n\r\n");
    assert_eq!(response.status, 200);
}

#[test]
fn a_repeated_request_gets_the_first_answer() {
    let dir = TempDir::new();
    let broker = start_broker(&dir);
    let longest = format!("Idempotency-Key: {}\r\n", "~".repeat(128));
    for fields in ["Idempotency-Key: \"8e03978e, 40d5\"\r\n", &longest] {
        let first = insert(&broker, "user", "1", fields);
        let id = stored(&first);
        let mut expected = first.json();
        expected["duplicate"] = true.into();
        // Whatever has happened since, and though the condition does not hold.
        stored(&insert(&broker, "user", "2", ""));
        for (data, fields) in [("1", fields), ("3", fields), ("1", &format!("{fields}If-None-Match: *\r\n"))] {
            let again = insert(&broker, "user", data, fields);
            assert_eq!((again.status, again.json()), (200, expected.clone()), "{again:?}");
            assert_eq!(again.field("ETag"), Some(format!("\"{id}\"").as_str()));
        }
        let reused = insert(&broker, "other", "1", fields);
        let detail = reused.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(reused.status == 422 && detail.contains("use a new key"), "{reused:?}");
        assert_eq!(broker.get("/audit/other").text(), "{}\n");
    }
    assert_eq!(versions(&broker, "user").len(), 4);
    // What was not stored is not remembered.
    let fields = "Idempotency-Key: later\r\n";
    conflict(&insert(&broker, "user", "5", &format!("{fields}If-None-Match: *\r\n")), "user");
    let fifth = stored(&insert(&broker, "user", "5", fields));
    let mut broker = broker;
    for signal in ["KILL", "TERM"] {
        broker.signal(signal);
        broker.wait();
        broker = start_broker(&dir);
        let again = insert(&broker, "user", "5", fields);
        assert_eq!((again.status, id_of(&again), &again.json()["duplicate"]), (200, fifth, &json!(true)), "{again:?}");
        assert_eq!(insert(&broker, "other", "5", fields).status, 422);
    }
    assert_eq!(versions(&broker, "user").len(), 5);
}

/// Clients repeat each request until it is answered, and sometimes once more.
#[test]
fn each_key_is_stored_once_across_kills() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 6;
    let (dir, done) = (TempDir::new(), AtomicUsize::new(0));
    let acknowledged: Vec<Mutex<Vec<u64>>> = (0..CLIENTS).map(|_| Mutex::default()).collect();
    let client = |number: usize, mut connection: Connection| {
        let mut answered = acknowledged[number].lock().expect("no thread panicked");
        loop {
            let next = answered.len();
            let fields = format!("Idempotency-Key: {number}/{next}\r\n");
            let request = insert_request(&format!("name{number}"), &next.to_string(), &fields);
            for time in 0..if next.is_multiple_of(5) { 2 } else { 1 } {
                connection.send(&request);
                let Some(response) = connection.response_or_end() else { return };
                assert_eq!(response.status, 200, "{response:?}");
                match time {
                    0 => answered.push(id_of(&response)),
                    _ => assert_eq!((id_of(&response), &response.json()["duplicate"]), (answered[next], &json!(true))),
                }
                done.fetch_add(1, SeqCst);
            }
        }
    };
    for round in 1..=ROUNDS {
        let broker = start_broker(&dir);
        std::thread::scope(|scope| {
            let client = &client;
            for number in 0..CLIENTS {
                let connection = broker.connect();
                scope.spawn(move || client(number, connection));
            }
            let begin = Instant::now();
            while done.load(SeqCst) < 400 * round {
                assert!(begin.elapsed() < TIMEOUT, "inserts don't resume");
                std::thread::sleep(Duration::from_millis(1));
            }
            broker.signal("KILL");
        });
        assert_eq!(broker.wait().0, None);
    }
    let broker = start_broker(&dir);
    for (number, answered) in acknowledged.iter().enumerate() {
        let answered = answered.lock().expect("no thread panicked");
        let stored: BTreeMap<u64, String> = versions(&broker, &format!("name{number}")).into_iter().collect();
        assert!(stored.values().map(|data| data.parse::<usize>().expect("a number")).eq(0..stored.len()), "{stored:?}");
        assert!(stored.len() - answered.len() <= 1, "at most the last one is stored without an answer");
        assert!(stored.keys().zip(answered.iter()).all(|(id, answered)| id == answered), "the ids are those answered");
    }
}
