//! Records: every subscriber sees the newest record of each name, and every version is kept.

use serde_json::{Value, json};

use super::support::tokens::{self, SECRETS, assert_denied, bearer};
use super::support::{Broker, Response, Stream};

/// Inserts a record, requires status 200, and returns its id.
pub fn insert(broker: &Broker, name: &str, data: &str) -> u64 {
    let response = post(broker, &format!("{{\"event\":{},\"data\":{data}}}", Value::from(name)));
    assert_eq!(response.status, 200, "{response:?}");
    let response = response.json();
    let id = response["id"].as_str().expect("an id").to_owned();
    assert_eq!(response, json!({"event": name, "id": id, "key": format!("{name}_v_{id}")}));
    id.parse().expect("an id is a number")
}

fn post(broker: &Broker, body: &str) -> Response {
    broker.post("/insert", "Content-Type: application/json\r\n", body)
}

/// Returns the next records of a stream as name, id and data.
fn next_records(stream: &mut Stream, count: usize) -> Vec<(String, u64, String)> {
    let next = |_| {
        let event = stream.event();
        let id = event.number();
        (event.name.expect("a record has a name"), id, event.data.expect("a record has data"))
    };
    (0..count).map(next).collect()
}

fn record(name: &str, id: u64, data: &str) -> (String, u64, String) {
    (name.to_owned(), id, data.to_owned())
}

#[test]
fn subscribers_get_the_newest_of_each_name_and_then_new_records() {
    let broker = Broker::start(&[]);
    let mut early = broker.subscribe("/events", "");
    let first = insert(&broker, "user", "{\"n\":1}");
    let order = insert(&broker, "order", "[1,2]");
    let user = insert(&broker, "user", "{\"n\":2}");
    assert!(first < order && order < user);
    let all = [record("user", first, "{\"n\":1}"), record("order", order, "[1,2]"), record("user", user, "{\"n\":2}")];
    assert_eq!(next_records(&mut early, 3), all);
    let mut late = broker.subscribe("/events", "");
    assert_eq!(next_records(&mut late, 2), all[1..]);
    let other = insert(&broker, "ü/b c", "null");
    assert_eq!(next_records(&mut late, 1), [record("ü/b c", other, "null")]);
    assert_eq!(next_records(&mut early, 1), [record("ü/b c", other, "null")]);
}

/// However many versions of a name one commit contains.
#[test]
fn subscribers_that_keep_up_get_every_version() {
    const CLIENTS: usize = 16;
    let broker = Broker::start(&[]);
    let (mut all, mut one) = (broker.subscribe("/events", ""), broker.subscribe("/events?event=user&event=last", ""));
    let client = |_| (0..10).map(|_| insert(&broker, "user", "1")).collect::<Vec<_>>();
    let mut ids: Vec<u64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("it inserts")).collect()
    });
    ids.push(insert(&broker, "last", "1"));
    ids.sort_unstable();
    for stream in [&mut all, &mut one] {
        let mut received = vec![stream.event()];
        while received.last().is_some_and(|event| event.name.as_deref() != Some("last")) {
            received.push(stream.event());
        }
        assert_eq!(received.iter().map(|event| event.number()).collect::<Vec<_>>(), ids);
    }
}

#[test]
fn resuming_delivers_newer_records() {
    let broker = Broker::start(&[]);
    let ids: Vec<_> = ["a", "b", "a", "c"].iter().map(|name| insert(&broker, name, "1")).collect();
    let after = |position: &str| broker.subscribe("/events", &format!("Last-Event-ID: {position}\r\n"));
    assert_eq!(next_records(&mut after(&ids[1].to_string()), 2), [record("a", ids[2], "1"), record("c", ids[3], "1")]);
    assert_eq!(next_records(&mut after("0"), 3).len(), 3);
    let mut present = broker.subscribe(&format!("/events?last_event_id={}", ids[3]), "");
    let new = insert(&broker, "b", "2");
    assert_eq!(next_records(&mut present, 1), [record("b", new, "2")]);
    for nonsense in ["nonsense", "18446744073709551615", "-1"] {
        let mut stream = after(nonsense);
        let gap = stream.event();
        assert_eq!((gap.name.as_deref(), gap.id), (Some("gap"), None));
        let gap_data: Value = serde_json::from_str(&gap.data.expect("data")).expect("JSON");
        assert_eq!(gap_data, json!({"after": nonsense, "oldest": ids[2].to_string()}));
        assert_eq!(next_records(&mut stream, 3).last(), Some(&record("b", new, "2")));
    }
}

#[test]
fn subscribers_can_choose_names() {
    let broker = Broker::start(&[]);
    insert(&broker, "a", "1");
    insert(&broker, "b c", "2");
    let mut stream = broker.subscribe("/events?event=b+c&event=d&event=d", "");
    assert_eq!(next_records(&mut stream, 1)[0].2, "2");
    insert(&broker, "a", "3");
    insert(&broker, "d", "4");
    insert(&broker, "b c", "5");
    let data: Vec<_> = next_records(&mut stream, 2).into_iter().map(|record| record.2).collect();
    assert_eq!(data, ["4", "5"]);
    for bad in ["/events?event=", "/events?event=a%0ab", &format!("/events?{}", "event=a&".repeat(65))] {
        assert_eq!(broker.get(bad).status, 400, "{bad:.30}");
    }
}

#[test]
fn data_is_stored_verbatim() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/events", "");
    let mut audit = Vec::new();
    for data in [
        "12345678901234567890123456789012345678901234567890.0001e-7",
        r#"{"z":1,"a":{"z":2,"z":3},"":null}"#,
        r#""\u0041\ud83e\udd80 \/ \"quoted\\\" ☂""#,
        "-0.0",
        "true",
    ] {
        let id = insert(&broker, "verbatim", data);
        assert_eq!(next_records(&mut stream, 1), [record("verbatim", id, data)]);
        audit.push(format!("\"verbatim_v_{id}\":{data}"));
    }
    assert_eq!(broker.get("/audit/verbatim").text(), format!("{{{}}}\n", audit.join(",")));
    insert(&broker, "spaced", " { \"a\" :\r\n\t[ 1 , \" \" ] } ");
    assert_eq!(next_records(&mut stream, 1)[0].2, r#"{"a":[1," "]}"#);
}

#[test]
fn every_version_is_kept_and_read_page_by_page() {
    let broker = Broker::start(&[]);
    let ids: Vec<_> = (0..25).map(|number| insert(&broker, "a/b ü", &number.to_string())).collect();
    insert(&broker, "other", "1");
    let (mut path, mut versions, mut pages) = ("/audit/a%2Fb%20%C3%BC?limit=10".to_owned(), Vec::new(), 0);
    loop {
        let page = broker.get(&path);
        assert_eq!((page.status, page.field("Content-Type")), (200, Some("application/json")));
        let text = page.text();
        let list = text.strip_prefix('{').and_then(|text| text.strip_suffix("}\n")).expect("an object on a line");
        versions.extend(list.split(',').map(str::to_owned));
        pages += 1;
        let Some(link) = page.field("Link") else { break };
        let (target, rest) = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a link");
        assert_eq!(rest, "; rel=\"next\"");
        path = target.to_owned();
    }
    let expected: Vec<_> = ids.iter().zip(0..).map(|(id, number)| format!("\"a/b ü_v_{id}\":{number}")).collect();
    assert_eq!((pages, versions), (3, expected));
    assert_eq!(broker.get("/audit/unknown").text(), "{}\n");
    let tail = broker.get(&format!("/audit/a%2Fb%20%C3%BC?after={}", ids[23]));
    assert_eq!((tail.text(), tail.field("Link")), (format!("{{\"a/b ü_v_{}\":24}}\n", ids[24]), None));
    for bad in ["?limit=0", "?limit=10001", "?limit=x", "?after=-1", "?after="] {
        assert_eq!(broker.get(&format!("/audit/a{bad}")).status, 400, "{bad}");
    }
    assert_eq!(broker.get("/audit/a%0a").status, 400);
}

#[test]
fn invalid_records_are_refused_completely() {
    let broker = Broker::start(&["--max-body", "1K"]);
    let deep = format!("{{\"event\":\"a\",\"data\":{}{}}}", "[".repeat(129), "]".repeat(129));
    for bad in
        ["", "{}", "x", "{\"event\":\"a\"}", "{\"event\":\"\",\"data\":1}", "{\"event\":\"a\\n\",\"data\":1}", &deep]
    {
        assert_eq!(post(&broker, bad).status, 400, "{bad:.40}");
    }
    let body = "{\"event\":\"a\",\"data\":1}";
    for (content_type, status) in [("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("", 415)] {
        let response = broker.post("/insert", &format!("Content-Type: {content_type}\r\n"), body);
        assert_eq!(response.status, status, "{content_type}");
    }
    let large = format!("{{\"event\":\"a\",\"data\":\"{}\"}}", "x".repeat(2000));
    assert_eq!(post(&broker, &large).status, 413);
    assert_eq!(broker.request("POST /insert HTTP/1.1\r\nHost: h\r\n\r\n").status, 411);
    let wrong = broker.get("/insert");
    assert_eq!((wrong.status, wrong.field("Allow")), (405, Some("POST, OPTIONS")));
    assert_eq!(broker.get("/audit/a").text(), "{}\n");
    // Valid bodies: without a type, with a charset, and in chunks.
    assert_eq!(broker.post("/insert", "", body).status, 200);
    assert_eq!(broker.post("/insert", "Content-Type: Application/JSON; charset=utf-8\r\n", body).status, 200);
    broker.assert_healthy();
}

#[test]
fn the_newest_records_are_bounded() {
    let broker = Broker::start(&["--latest-bytes", "2K"]);
    let statuses: Vec<_> =
        (0..20).map(|name| post(&broker, &format!("{{\"event\":\"n{name}\",\"data\":1}}")).status).collect();
    let accepted = statuses.iter().take_while(|status| **status == 200).count();
    assert!((5..20).contains(&accepted) && statuses[accepted..].iter().all(|status| *status == 503), "{statuses:?}");
    broker.assert_healthy();
}

#[test]
fn inserts_are_answered_in_order_on_one_connection() {
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    let request = |number: usize| {
        let body = format!("{{\"event\":\"a\",\"data\":{number}}}");
        format!("POST /insert HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let pipeline: String = (0..50).map(|number| request(number) + "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").collect();
    connection.send(pipeline);
    let mut newest = 0;
    for _ in 0..50 {
        let id: u64 = connection.response().json()["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        assert!(id > newest);
        newest = id;
        assert_eq!(connection.response().text(), "ok");
    }
    assert_eq!(broker.get("/audit/a").json().as_object().map(serde_json::Map::len), Some(50));
}

#[test]
fn records_and_topics_share_one_order_of_ids() {
    let broker = Broker::start(&[]);
    let mut newest = 0;
    for number in 0..20 {
        let published =
            broker.publish("topicone1", "data: x")["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let inserted = insert(&broker, "a", &number.to_string());
        assert!(newest < published && published < inserted, "{newest} {published} {inserted}");
        newest = inserted;
    }
}

#[test]
fn head_responses_of_record_routes_have_no_body() {
    let broker = Broker::start(&[]);
    insert(&broker, "a", "1");
    let mut connection = broker.connect();
    for request in ["HEAD /audit/a", "HEAD /events", "GET /healthz"] {
        connection.send(format!("{request} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    assert!(connection.head().contains("Content-Type: application/json"));
    assert!(connection.head().contains("Content-Type: text/event-stream"));
    assert_eq!(connection.response().text(), "ok");
}

#[test]
fn records_require_tokens_for_events() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let send_request = |method: &str, target: &str, token: &str| {
        let body = "{\"event\":\"a\",\"data\":1}";
        let fields = if token.is_empty() { String::new() } else { bearer(token) };
        broker.request(format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let (publisher, subscriber) = (tokens::publisher("events"), tokens::subscriber("events"));
    assert_eq!(send_request("POST", "/insert", &publisher).status, 200);
    assert_eq!(send_request("GET", "/audit/a", &subscriber).status, 200);
    broker.subscribe("/events", &bearer(&subscriber));
    broker.subscribe("/events", &bearer(&tokens::subscriber("*")));
    for (method, target) in [("POST", "/insert"), ("GET", "/audit/a"), ("GET", "/events")] {
        assert_denied(&send_request(method, target, ""), 401, "a token is required");
        let (own, other) = if method == "POST" { (&publisher, &subscriber) } else { (&subscriber, &publisher) };
        assert_denied(&send_request(method, target, other), 401, "signature");
        let other_token = if own == &publisher { tokens::publisher("topicone1") } else { tokens::subscriber("ev*") };
        assert_denied(&send_request(method, target, &other_token), 403, "events");
    }
}
