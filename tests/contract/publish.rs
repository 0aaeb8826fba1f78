//! `POST /publish/{topic}`: which bodies are accepted or refused, and what subscribers receive.

use super::support::{Broker, Stream};

/// Publishes a body and returns what a new subscriber receives.
fn delivered(broker: &Broker, topic: &str, body: &str) -> Vec<String> {
    let mut stream = broker.subscribe(&format!("/subscribe/{topic}"), "");
    stream.opening();
    let response = broker.publish(topic, body);
    let count = response["events"].as_u64().expect("a number of events");
    (0..count).map(|_| stream.event().text).collect()
}

fn without_id(texts: Vec<String>) -> Vec<String> {
    let keep =
        |text: String| text.lines().filter(|line| !line.starts_with("id: 1")).map(|line| format!("{line}\n")).collect();
    texts.into_iter().map(keep).collect()
}

#[test]
fn curls_default_content_type_means_sse_text() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/greeting", "");
    stream.opening();
    let fields = "Content-Type: application/x-www-form-urlencoded\r\n";
    let response = broker.post("/publish/greeting", fields, "event: greeting\ndata: hello");
    let published = response.json();
    let event = stream.event();
    assert_eq!((event.name.as_deref(), event.data.as_deref()), (Some("greeting"), Some("hello")));
    assert_eq!(published["id"].as_str(), event.id.as_deref());
    assert_eq!((published["events"].as_u64(), published["subscribers"].as_u64()), (Some(1), Some(1)));
    assert_eq!(published.get("duplicate"), None);
}

#[test]
fn lines_are_parsed_by_the_standard_and_written_in_a_fixed_order() {
    let broker = Broker::start(&[]);
    let body = "\u{feff}id: own\r\ndata:a\rdata:  b\nfoo: bar\nevent: n\n: note\nretry: 7\nbare\n\n\n";
    let texts = delivered(&broker, "topicone1", body);
    assert_eq!(texts, ["foo: bar\n: note\nretry: 7\nbare\nevent: n\ndata: a\ndata:  b\nid: own\n\n"]);
    let texts = without_id(delivered(&broker, "topicone1", "data\n\ndata: 1\r\rdata: 2"));
    assert_eq!(texts, ["data: \n\n", "data: 1\n\n", "data: 2\n\n"]);
}

#[test]
fn json_and_text_bodies_are_the_data() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    broker.post("/publish/topicone1?event=user+saved&id=a%2Fb", json, "{\n  \"data: x\": 1\n}");
    let event = stream.event();
    assert_eq!(event.text, "event: user saved\ndata: {\ndata:   \"data: x\": 1\ndata: }\nid: a/b\n\n");
    for text in ["note: buy milk", "data: one line is not enough\nto be a field", ": x", ""] {
        broker.post("/publish/topicone1", "Content-Type: text/plain\r\n", text);
        assert_eq!(stream.event().data.as_deref(), Some(text));
    }
    for value in ["1e999", "\"\\ud800\"", "[01]", "{}x"] {
        let response = broker.post("/publish/topicone1", json, value);
        let is_json = !value.contains("01") && !value.contains('x');
        assert_eq!(response.status, if is_json { 200 } else { 400 }, "{value}");
        if is_json {
            assert_eq!(stream.event().data.as_deref(), Some(value));
        }
    }
}

#[test]
fn the_query_adds_missing_fields_to_a_single_event() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let publish = |query: &str, body: &str| broker.post(&format!("/publish/topicone1?{query}"), "", body);
    assert_eq!(publish("event=paid&id=a", ": note\ndata: 1").status, 200);
    assert_eq!(stream.event().text, ": note\nevent: paid\ndata: 1\nid: a\n\n");
    let again = publish("event=paid&id=a", ": note\ndata: 1").json();
    assert_eq!((again["events"].as_u64(), &again["duplicate"]), (Some(0), &true.into()), "a retry is safe");
    assert_eq!(publish("event=paid&id=b", "id: b\nevent: paid\ndata: 2").status, 200, "they agree");
    assert_eq!(publish("event=&id=", "event: own\ndata: 3\n\ndata: 4").status, 200, "empty parameters are ignored");
    assert_eq!(stream.data(3), ["2", "3", "4"]);
    for (query, body, part) in [
        ("event=x", "data: 1\n\ndata: 2", "the body has 2"),
        ("id=x", "data: 1\n\ndata: 2", "the body has 2"),
        ("event=x", "event: y\ndata: 1", "`event: …`"),
        ("id=x", "id: y\ndata: 1", "`id: …`"),
    ] {
        let response = publish(query, body);
        assert_eq!(response.status, 400, "{query} {body}");
        assert!(response.json()["detail"].as_str().is_some_and(|detail| detail.contains(part)), "{response:?}");
    }
    assert_eq!(broker.stats()["events_published"], 4);
}

#[test]
fn a_body_has_at_most_ten_thousand_events() {
    let broker = Broker::start(&["--history", "20000"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let body: String = (0..10_000).map(|number| format!("data: {number}\n\n")).collect();
    for extra in ["data: one too many", "data\n\n".repeat(150_000).as_str()] {
        let refused = broker.post("/publish/topicone1", "", format!("{body}{extra}"));
        assert_eq!(refused.status, 413);
        assert!(refused.text().contains("more than 10000 events; send them"), "{refused:?}");
    }
    assert_eq!(broker.publish("topicone1", &body)["events"], 10_000);
    assert_eq!(stream.data(10_000), (0..10_000).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// The first publish is processed in many slices, and the next request on its connection waits for it.
#[test]
fn responses_keep_their_order_after_a_slow_body() {
    let broker = Broker::start(&["--threads", "1"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let slow = format!("{}data: slow", ": a comment\n".repeat(80_000));
    let mut connection = broker.connect();
    for body in [slow.as_str(), "data: next", "nonsense", "data: last"] {
        let length = body.len();
        connection
            .send(format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}"));
        connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let statuses: Vec<_> = (0..8).map(|_| connection.response().status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 400, 200, 200, 200]);
    assert_eq!(stream.data(3), ["slow", "next", "last"]);
}

/// The publishers disconnect while their bodies are being processed, with a FIN or with a reset.
#[test]
fn disconnecting_publishers_do_no_harm() {
    let broker = Broker::start(&["--threads", "1", "--history", "10"]);
    let body = "data: a small event among many\n\n".repeat(10_000);
    let request =
        format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for number in 0..20 {
        let mut connection = broker.connect();
        connection.send(&request);
        if number % 2 == 0 {
            let linger = Some(std::time::Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(&connection.socket, linger).expect("an option");
        }
    }
    broker.wait_for("free of publishers", |stats| stats["clients"] == 1);
    assert_eq!(broker.publish("topicone1", "data: x")["events"], 1);
}

#[test]
fn an_event_is_one_chunk_with_the_id_last() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let response = broker.publish("topicone1", "event: n\ndata: x\n\ndata: y");
    let first = stream.chunk().expect("a chunk");
    let second = stream.chunk().expect("a chunk");
    assert!(first.starts_with("event: n\ndata: x\nid: ") && first.ends_with("\n\n"), "{first:?}");
    assert_eq!(second, format!("data: y\nid: {}\n\n", response["id"].as_str().expect("an id")));
}

#[test]
fn invalid_bodies_are_refused_completely() {
    let broker = Broker::start(&[]);
    let data = "Content-Type: text/plain\r\n";
    for (target, fields, body, part) in [
        ("/publish/topicone1", "", "".as_bytes(), "the body is empty"),
        ("/publish/topicone1", "", b"\n\n", "the body is empty"),
        ("/publish/topicone1", "", b": only a comment", "no event"),
        ("/publish/topicone1", "", b"event: x\n\n", "`data`"),
        ("/publish/topicone1", "", b"data: 1\n\nid: 2\n\ndata: 3\n\n", "`data`"),
        ("/publish/topicone1", "", b"data: 1\n\nid: a\x01\ndata: 2", "event 2 of the body"),
        ("/publish/topicone1", "", b"data: \xff", "UTF-8"),
        ("/publish/topicone1", data, b"\xc3\x28", "UTF-8"),
        ("/publish/topicone1?event=a%0Ab", data, b"x", "CR, LF or NUL"),
        ("/publish/topicone1?event=a%00b", data, b"x", "CR, LF or NUL"),
        ("/publish/topicone1?id=a%0Db", data, b"x", "CR, LF, NUL"),
        ("/publish/topicone1?id=a%00b", "", b"data: x", "the query parameter id can't be used"),
        ("/publish/topicone1?event=a%FFb", "", b"data: x", "UTF-8"),
        ("/publish/short77", "", b"data: x", "8 to 64"),
        ("/publish/with-dash1", "", b"data: x", "8 to 64"),
        ("/publish/%2Fabcdefgh", "", b"data: x", "8 to 64"),
    ] {
        let response = broker.post(target, fields, body);
        assert_eq!(response.status, 400, "{target} {body:?}");
        assert_eq!(response.field("Content-Type"), Some("application/problem+json"));
        let detail = response.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains(part), "{target} {body:?}: {detail}");
    }
    assert_eq!(broker.stats()["events_published"], 0);
}

#[test]
fn topics_are_case_insensitive_and_may_be_percent_encoded() {
    let broker = Broker::start(&[]);
    let mut stream = broker.subscribe("/subscribe/TOPICone1", "");
    stream.opening();
    broker.publish("topicONE%31", "data: x");
    assert_eq!(stream.data(1), ["x"]);
}

#[test]
fn an_event_with_a_retained_id_is_not_delivered_again() {
    let broker = Broker::start(&["--history", "2"]);
    let mut stream = broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let first = broker.publish("topicone1", "id: a\ndata: 1");
    let again = broker.publish("topicone1", "id: a\ndata: 1");
    assert_eq!((&again["id"], again["events"].as_u64(), &again["duplicate"]), (&first["id"], Some(0), &true.into()));
    let mixed = broker.publish("topicone1", "id: a\ndata: 1\n\nid: b\ndata: 2\n\nid: b\ndata: 2");
    assert_eq!((mixed["events"].as_u64(), mixed.get("duplicate")), (Some(1), None));
    // Another topic's ids don't matter, and an id that has been evicted may be used again.
    assert_eq!(broker.publish("topictwo2", "id: a\ndata: 1")["events"], 1);
    broker.publish("topicone1", "id: c\ndata: 3");
    assert_eq!(broker.publish("topicone1", "id: a\ndata: 4")["events"], 1);
    assert_eq!(stream.data(4), ["1", "2", "3", "4"]);
}

#[test]
fn ids_increase_across_topics() {
    let broker = Broker::start(&["--threads", "3"]);
    let id = |topic: &str| broker.publish(topic, "data: x")["id"].as_str().and_then(|id| id.parse::<u64>().ok());
    let ids: Vec<_> = (0..30).map(|round| id(["topicone1", "topictwo2", "topicthree3"][round % 3])).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

/// The batch is longer than the history, but subscribers still get all of it.
#[test]
fn a_batch_longer_than_the_history_reaches_subscribers() {
    let broker = Broker::start(&["--history", "5"]);
    let mut streams: Vec<Stream> = (0..3).map(|_| broker.subscribe("/subscribe/topicone1", "")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.opening()));
    let expected: Vec<_> = (0..2000).map(|number| number.to_string()).collect();
    let body: String = expected.iter().map(|number| format!("data: {number}\n\n")).collect();
    assert_eq!(broker.publish("topicone1", &body)["events"], 2000);
    for stream in &mut streams {
        assert_eq!(stream.data(2000), expected);
    }
    assert_eq!(broker.stats()["history_events"], 5);
}

/// 8 publishers and 5 subscribers are spread over the workers, and all see one order.
#[test]
fn all_subscribers_see_one_order() {
    let broker = Broker::start(&["--threads", "4"]);
    let target = "/subscribe/topicone1,topictwo2";
    let mut streams: Vec<Stream> = (0..5).map(|_| broker.subscribe(target, "")).collect();
    streams.iter_mut().for_each(|stream| drop(stream.opening()));
    std::thread::scope(|scope| {
        for publisher in 0..8 {
            let broker = &broker;
            scope.spawn(move || {
                let mut connection = broker.connect();
                for number in 0..100 {
                    let (topic, body) = (["topicone1", "topictwo2"][number % 2], format!("data: {publisher} {number}"));
                    let head =
                        format!("POST /publish/{topic} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
                    connection.send(head + &body);
                    assert_eq!(connection.response().status, 200);
                }
            });
        }
    });
    let seen: Vec<Vec<_>> = streams.iter_mut().map(|stream| (0..800).map(|_| stream.event()).collect()).collect();
    assert!(seen.iter().all(|events| events == &seen[0]));
    assert!(seen[0].is_sorted_by(|one, next| one.number() < next.number()));
    for publisher in 0..8 {
        let own: Vec<_> =
            seen[0].iter().filter_map(|event| event.data.as_deref()?.strip_prefix(&format!("{publisher} "))).collect();
        assert_eq!(own, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}
