//! What is said to those who ask wrongly: what is wrong with this very request, and what to do instead.

use super::support::{Broker, Response};

fn detail(response: &Response) -> String {
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"), "{response:?}");
    response.json()["detail"].as_str().expect("a detail").to_owned()
}

#[track_caller]
fn assert_said(response: &Response, status: u16, parts: &[&str]) {
    assert_eq!(response.status, status, "{response:?}");
    let detail = detail(response);
    assert!(parts.iter().all(|part| detail.contains(part)), "{parts:?} are not all in: {detail}");
}

/// Bodies as `curl -d`, `curl -F` and a page's `fetch` send them.
#[test]
fn the_commonest_mistakes_of_publishers_are_named() {
    let broker = Broker::start(&[]);
    let curl = "Content-Type: application/x-www-form-urlencoded\r\n";
    let form = "Content-Type: multipart/form-data; boundary=------------------------d74496d66958873e\r\n";
    let parts = "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nhello\r\n\
                 --------------------------d74496d66958873e--\r\n";
    let fetch = "Content-Type: text/plain;charset=UTF-8\r\n";
    let json = "Content-Type: application/json\r\n";
    let ways = ["`data: ", "text/plain", "application/json"];
    for (fields, body, said) in [
        (curl, "hello", "\"hello\""),
        (curl, r#"{"temperature": 21.5}"#, "looks like JSON"),
        (curl, "data=hello", "`data=`"),
        (curl, r"event: greeting\ndata: hello", "$'event: greeting"),
        (curl, "Data: hello", "lower case"),
        (curl, "event: greeting", "no `data`"),
        (curl, "", "empty"),
        (form, parts, "form"),
        (fetch, "event: paid\ndata: 1", "text/event-stream"),
        (json, "hello", "line 1 column 1"),
        (json, "{\n  'a': 1\n}", "line 2 column 3"),
    ] {
        let answer = broker.post("/publish/topicone1", fields, body);
        assert_said(&answer, 400, &[said]);
        assert_said(&answer, 400, &ways[..if fields == json { 2 } else { 3 }]);
    }
    assert_eq!(broker.stats()["events_published"], 0);
    let without = broker.ask("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_said(&without, 411, &["no body", "`data: hello`"]);
}

#[test]
fn an_encoded_body_is_not_published_as_it_is() {
    let broker = Broker::start(&[]);
    for (target, body) in [("/publish/topicone1", "data: x"), ("/insert", r#"{"event":"a","data":1}"#)] {
        for coding in ["gzip", "br", "identity, gzip"] {
            let answer = broker.post(target, &format!("Content-Encoding: {coding}\r\n"), body);
            assert_said(&answer, 415, &["Content-Encoding", coding.trim_start_matches("identity, ")]);
            assert_eq!(answer.field("Accept-Encoding"), Some("identity"));
        }
        assert_eq!(broker.post(target, "Content-Encoding: identity\r\n", body).status, 200);
    }
    assert_eq!(broker.stats()["events_published"], 1);
}

#[test]
fn a_bad_topic_is_named_with_what_is_wrong_with_it() {
    let broker = Broker::start(&[]);
    let long = "a".repeat(65);
    for (topic, part) in [
        ("chat", "it has 4 characters"),
        ("", "missing"),
        (&*long, "it has 65 characters"),
        ("with-dash1", "contains '-'"),
        ("%C3%BCber1234", "contains 'ü'"),
        ("with%20space", "contains ' '"),
        ("%2Fabcdefgh", "contains '/'"),
        ("topicone%2531", "contains '%'"),
        ("%00abcdefgh", "contains '\\0'"),
    ] {
        assert_said(&broker.post(&format!("/publish/{topic}"), "", "data: x"), 400, &[part, "8 to 64"]);
        assert_said(&broker.get(&format!("/subscribe/{topic}")), 400, &[part, "8 to 64"]);
    }
    assert_said(&broker.post("/publish/topicone1,topictwo2", "", "data: x"), 400, &["','", "one topic"]);
    assert_said(&broker.get("/subscribe/topicone1,"), 400, &["missing"]);
}

#[test]
fn a_wrong_method_names_the_right_route() {
    let broker = Broker::start(&[]);
    let ask = |method: &str, target: &str| {
        broker.ask(format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"))
    };
    for (method, target, allow, right) in [
        ("GET", "/publish/topicone1", "POST, OPTIONS", "POST /publish/topicone1"),
        ("PUT", "/publish/bad", "POST, OPTIONS", "POST /publish/{topic}"),
        ("POST", "/subscribe/TOPICone1", "GET, HEAD, OPTIONS", "POST /publish/topicone1"),
        ("POST", "/subscribe/topicone1,topictwo2", "GET, HEAD, OPTIONS", "POST /publish/{topic}"),
        ("GET", "/insert", "POST, OPTIONS", "POST /insert"),
        ("POST", "/events", "GET, HEAD, OPTIONS", "POST /insert"),
        ("POST", "/", "GET, HEAD, OPTIONS", "POST /publish/{topic}"),
        ("POST", "/stats", "GET, HEAD, OPTIONS", "/stats accepts only GET"),
    ] {
        let answer = ask(method, target);
        assert_said(&answer, 405, &[right]);
        assert_eq!(answer.field("Allow"), Some(allow), "{method} {target}");
    }
}

#[test]
fn a_trailing_slash_and_a_missing_topic_are_called_that() {
    let broker = Broker::start(&[]);
    assert_said(&broker.post("/publish/topicone1/", "", "data: x"), 404, &["slash", "request /publish/topicone1"]);
    assert_said(&broker.get("/events/?event=a"), 404, &["slash", "request /events"]);
    assert_said(&broker.post("/publish", "", "data: x"), 404, &["topic is missing", "POST /publish/{topic}"]);
    assert_said(&broker.get("/subscribe"), 404, &["topic is missing", "GET /subscribe/{topic}"]);
    assert_said(&broker.get("/nowhere"), 404, &["no such route", "POST /publish/{topic}"]);
}

#[test]
fn json_answers_end_with_a_line_end() {
    let broker = Broker::start(&[]);
    let record = r#"{"event":"user","data":{"n":1}}"#;
    for answer in [
        broker.post("/publish/topicone1", "", "data: x"),
        broker.post("/insert", "", record),
        broker.post("/insert", "", record),
        broker.get("/audit/user"),
        broker.get("/audit/user?limit=1"),
        broker.get("/audit/nobody"),
        broker.get("/stats"),
        broker.get("/nowhere"),
        broker.get("/publish/topicone1"),
        broker.post("/publish/topicone1", "", "nonsense"),
        broker.ask("GET / HTTP/1.1\r\n\r\n"),
    ] {
        // The body was read by its length.
        let text = answer.text();
        assert!(text.ends_with("}\n") && !text.ends_with("\n\n"), "{answer:?}");
        answer.json();
    }
    assert_eq!(broker.get("/healthz").text(), "ok");
}
