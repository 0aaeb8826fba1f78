//! Error details: each says what is wrong with this very request and how to correct it.

use super::support::{Broker, Response};

fn detail(response: &Response) -> String {
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"), "{response:?}");
    response.json()["detail"].as_str().expect("a detail").to_owned()
}

#[track_caller]
fn assert_detail(response: &Response, status: u16, parts: &[&str]) {
    assert_eq!(response.status, status, "{response:?}");
    let detail = detail(response);
    assert!(parts.iter().all(|part| detail.contains(part)), "{parts:?} are not all in: {detail}");
}

/// Bodies as sent by `curl -d`, `curl -F` and a page's `fetch`.
#[test]
fn common_mistakes_of_publishers_are_explained() {
    let broker = Broker::start(&[]);
    let curl = "Content-Type: application/x-www-form-urlencoded\r\n";
    let form = "Content-Type: multipart/form-data; boundary=------------------------d74496d66958873e\r\n";
    let parts = "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nhello\r\n\
                 --------------------------d74496d66958873e--\r\n";
    let fetch = "Content-Type: text/plain;charset=UTF-8\r\n";
    let json = "Content-Type: application/json\r\n";
    let ways = ["`data: ", "text/plain", "application/json"];
    for (fields, body, part) in [
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
        let response = broker.post("/publish/topicone1", fields, body);
        assert_detail(&response, 400, &[part]);
        assert_detail(&response, 400, &ways[..if fields == json { 2 } else { 3 }]);
    }
    assert_eq!(broker.stats()["events_published"], 0);
    let without = broker.request("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_detail(&without, 411, &["no body", "`data: hello`"]);
}

#[test]
fn a_compressed_body_is_not_published() {
    let broker = Broker::start(&[]);
    for (target, body) in [("/publish/topicone1", "data: x"), ("/insert", r#"{"event":"a","data":1}"#)] {
        for coding in ["gzip", "br", "identity, gzip"] {
            let response = broker.post(target, &format!("Content-Encoding: {coding}\r\n"), body);
            assert_detail(&response, 415, &["Content-Encoding", coding.trim_start_matches("identity, ")]);
            assert_eq!(response.field("Accept-Encoding"), Some("identity"));
        }
        assert_eq!(broker.post(target, "Content-Encoding: identity\r\n", body).status, 200);
    }
    assert_eq!(broker.stats()["events_published"], 1);
}

#[test]
fn an_invalid_topic_is_quoted_with_the_reason() {
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
        assert_detail(&broker.post(&format!("/publish/{topic}"), "", "data: x"), 400, &[part, "8 to 64"]);
        assert_detail(&broker.get(&format!("/subscribe/{topic}")), 400, &[part, "8 to 64"]);
    }
    assert_detail(&broker.post("/publish/topicone1,topictwo2", "", "data: x"), 400, &["','", "one topic"]);
    assert_detail(&broker.get("/subscribe/topicone1,"), 400, &["missing"]);
}

#[test]
fn a_wrong_method_names_the_right_route() {
    let broker = Broker::start(&[]);
    let send_request = |method: &str, target: &str| {
        broker.request(format!("{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"))
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
        let response = send_request(method, target);
        assert_detail(&response, 405, &[right]);
        assert_eq!(response.field("Allow"), Some(allow), "{method} {target}");
    }
}

#[test]
fn a_trailing_slash_and_a_missing_topic_are_explained() {
    let broker = Broker::start(&[]);
    assert_detail(&broker.post("/publish/topicone1/", "", "data: x"), 404, &["slash", "request /publish/topicone1"]);
    assert_detail(&broker.get("/events/?event=a"), 404, &["slash", "request /events"]);
    assert_detail(&broker.post("/publish", "", "data: x"), 404, &["topic is missing", "POST /publish/{topic}"]);
    assert_detail(&broker.get("/subscribe"), 404, &["topic is missing", "GET /subscribe/{topic}"]);
    assert_detail(&broker.get("/nowhere"), 404, &["no such route", "POST /publish/{topic}"]);
}

#[test]
fn json_responses_end_with_a_newline() {
    let broker = Broker::start(&[]);
    let record = r#"{"event":"user","data":{"n":1}}"#;
    for response in [
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
        broker.request("GET / HTTP/1.1\r\n\r\n"),
    ] {
        // The body was read according to its Content-Length.
        let text = response.text();
        assert!(text.ends_with("}\n") && !text.ends_with("\n\n"), "{response:?}");
        response.json();
    }
    assert_eq!(broker.get("/healthz").text(), "ok");
}
