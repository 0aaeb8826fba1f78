//! HTTP semantics: persistence, pipelining, versions, targets, expectations and bodies.

use std::time::{Duration, SystemTime};

use super::support::tokens::{self, SECRETS, bearer};
use super::support::{Broker, Connection, Pieces, Response};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

/// Returns a publish request with a chunked body.
fn chunked(fields: &str, body: &str) -> String {
    format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{body}")
}

/// Returns a publish request with Content-Length.
fn with_length(fields: &str, body: &str) -> String {
    format!("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn assert_problem(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.field("Content-Type"), Some("application/problem+json"));
    let problem = response.json();
    assert_eq!(problem["status"], status);
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
}

/// Returns whether the next request on this connection gets a response.
fn is_kept_alive(connection: &mut Connection) -> bool {
    connection.send(HEALTH);
    !connection.is_closed() && connection.response().text() == "ok"
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let broker = Broker::start(&[]);
    let requests = [
        (HEALTH.to_owned(), 200),
        ("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 404),
        (with_length("", "data: 1"), 200),
        (chunked("", "7\r\ndata: 2\r\n0\r\n\r\n"), 200),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 204),
        ("GET /publish/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
        ("POST /publish/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 411),
        (with_length("", "no data"), 400),
        ("GET /stats HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_owned(), 200),
        (HEALTH.to_owned(), 0),
    ];
    let mut connection = broker.connect();
    connection.send(requests.iter().map(|(text, _)| text.as_str()).collect::<String>());
    for (text, status) in requests.iter().take(9) {
        assert_eq!(connection.response().status, *status, "{text}");
    }
    assert!(connection.is_closed(), "no response after Connection: close");
}

/// More requests than the broker handles in one loop iteration, from a client that has shut down its sending side.
#[test]
fn a_long_pipeline_is_answered_after_a_half_close() {
    const REQUESTS: usize = 20_000;
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    let mut sender = Connection::from_socket(connection.socket.try_clone().expect("sockets can be cloned"));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send("GET /stats HTTP/1.1\r\nHost: h\r\n\r\n".repeat(REQUESTS));
            sender.shutdown_write();
        });
        for number in 0..REQUESTS {
            assert_eq!(connection.response().status, 200, "{number}");
        }
        assert!(connection.is_closed());
    });
}

#[test]
fn requests_may_be_split_at_every_byte() {
    let mut pieces = Pieces::start();
    let mut stream = pieces.broker.subscribe("/subscribe/topicone1", "");
    stream.opening();
    let first = "\r\nPOST http://h:80/publish/topicONE%31?x=%20 HTTP/1.1\r\nHost: [::1]:80\r\nX-Empty:\r\n\
                 Transfer-Encoding:\t Chunked \r\n\r\n6;a=\"b c\" ; d\r\ndata: \r\n0001\r\nx\r\n0;e\r\nA: b\r\nC:\r\n\r\n";
    let text = [first, &with_length("Expect: \t100-continue\r\n", "data: y"), HEALTH].concat();
    for cut in 1..text.len() {
        let mut connection = pieces.broker.connect();
        pieces.send(&mut connection, &[&text[..cut], &text[cut..]]);
        assert_eq!([(); 3].map(|()| connection.final_response().status), [200; 3], "cut at {cut}");
        assert_eq!(stream.data(2), ["x", "y"], "cut at {cut}");
    }
    let mut connection = pieces.broker.connect();
    let bytes: Vec<_> = (0..text.len()).map(|at| &text[at..=at]).collect();
    pieces.send(&mut connection, &bytes);
    assert_eq!([(); 3].map(|()| connection.final_response().status), [200; 3]);
    assert_eq!(stream.data(2), ["x", "y"]);
}

#[test]
fn http_1_0_closes_unless_keep_alive_is_requested() {
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    connection.send("GET /healthz HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    let response = connection.response();
    assert_eq!((response.text().as_str(), response.field("Connection")), ("ok", Some("keep-alive")));
    // An HTTP/1.0 client's expectation is ignored: it would not understand the interim response.
    connection.send("POST /publish/topicone1 HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n");
    assert!(connection.is_silent(Duration::from_millis(50)));
    connection.send("data: x");
    let response = connection.response();
    assert_eq!((response.status, response.field("Connection")), (200, Some("close")));
    assert!(response.head.starts_with("HTTP/1.1 "), "the server's own version: {}", response.head);
    assert!(connection.is_closed());
}

#[test]
fn the_connection_closes_on_request_and_says_so() {
    let broker = Broker::start(&[]);
    for fields in ["Connection: close\r\n", "Connection: x, CLOSE\r\n", "Connection: x\r\nconnection:close\r\n"] {
        let mut connection = broker.connect();
        connection.send(format!("GET /healthz HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        assert_eq!(connection.response().field("Connection"), Some("close"), "{fields}");
        assert!(connection.is_closed(), "{fields}");
    }
    for fields in
        ["", "Connection: keep-alive\r\n", "Connection: closed\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n"]
    {
        let mut connection = broker.connect();
        connection.send(format!("GET /healthz HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        let response = connection.response();
        assert_eq!((response.status, response.field("Connection")), (200, None), "{fields}");
        assert!(is_kept_alive(&mut connection), "{fields}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    for (target, status, length) in [("/healthz", 200, Some("2")), ("/nothing", 404, None), ("/publish/x", 405, None)] {
        connection.send(format!("HEAD {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let head = Response::without_body(connection.head());
        assert_eq!(head.status, status);
        assert!(length.is_none() || head.field("Content-Length") == length, "{head:?}");
        assert!(is_kept_alive(&mut connection), "{target}");
    }
    connection.send("HEAD /%zz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(Response::without_body(connection.head()).status, 400);
    assert!(connection.is_closed(), "a refused HEAD has no body either");
}

#[test]
fn expect_100_gets_100_or_the_error() {
    let broker = Broker::start(&["--max-body", "100"]);
    let head = |target: &str, length: usize| {
        format!("POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-CONTINUE\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut connection = broker.connect();
    connection.send(head("/publish/topicone1", 7));
    assert_eq!(connection.response().head, "HTTP/1.1 100 Continue\r\n");
    assert!(connection.is_silent(Duration::from_millis(20)));
    connection.send("data: x");
    assert_eq!(connection.response().status, 200);
    connection.send(head("/publish/topicone1", 7) + "data: y");
    assert_eq!(connection.final_response().status, 200);
    connection.send(head("/publish/topicone1", 7).replace("100-CONTINUE", ", 100-continue,\r\nExpect:"));
    assert_eq!(connection.response().status, 100, "empty list elements are ignored");
    connection.send("data: z");
    assert_eq!(connection.response().status, 200);
    for (target, length, status) in [("/publish/bad", 7, 400), ("/nothing", 7, 404), ("/publish/topicone1", 101, 413)] {
        let mut connection = broker.connect();
        connection.send(head(target, length));
        assert_problem(&connection.response(), status);
        assert!(connection.is_closed(), "an unrequested body can't be told apart from a request");
    }
}

#[test]
fn unknown_expectations_get_417() {
    let broker = Broker::start(&[]);
    for expect in ["200-ok", "100-continue, x", "100-continue\r\nExpect: y", "100-continue=1"] {
        assert_problem(&broker.request(with_length(&format!("Expect: {expect}\r\n"), "data: x")), 417);
    }
    assert_eq!(broker.stats()["events_published"], 0);
}

#[test]
fn request_targets_have_absolute_or_origin_form() {
    let broker = Broker::start(&[]);
    for (target, status) in [
        ("/healthz", 200),
        ("/healthz?", 200),
        ("/healthz?a=b&&=&c?", 200),
        ("/%68ealthz", 200),
        ("http://else.where:1/healthz", 200),
        ("HTTPS://h/healthz?x", 200),
        ("http://[::1]/healthz", 200),
        ("http://h", 200),
        ("http://h/nothing", 404),
        ("//healthz", 404),
        ("/healthz/", 404),
        ("/Healthz", 404),
        ("/healthz%3F", 404),
        ("/publish/a/b", 404),
        ("healthz", 400),
        ("*", 400),
        ("ftp://h/healthz", 400),
        ("http:/healthz", 400),
        ("http:///healthz", 400),
        ("http://:80/healthz", 400),
        ("http://u@h/healthz", 400),
        ("http://h:x/healthz", 400),
        ("/healthz#x", 400),
        ("/healthz?%", 400),
        ("/%zz", 400),
        ("/%ff", 400),
        ("/caf\u{e9}", 400),
    ] {
        assert_eq!(broker.get(target).status, status, "{target}");
    }
}

#[test]
fn exactly_one_valid_host_is_required() {
    let broker = Broker::start(&[]);
    for valid in ["h", "h:", "h:80", "", "127.0.0.1:3000", "[::1]:80", "a_b.c-d~e", "%41"] {
        assert_eq!(broker.request(format!("GET /healthz HTTP/1.1\r\nHost:{valid}\r\n\r\n")).status, 200, "{valid}");
    }
    for bad in
        ["a b", "h:80:80", "h:8a", "u@h", "h/", "h?x", "[::1", "::1", "[]", "[::1]x", "caf\u{e9}", "h\r\nHost: h"]
    {
        let mut connection = broker.connect();
        connection.send(format!("GET /healthz HTTP/1.1\r\nHost:{bad}\r\n\r\n{HEALTH}"));
        assert_problem(&connection.response(), 400);
        assert!(connection.is_closed(), "{bad}");
    }
    assert_problem(&broker.request("GET http://h/healthz HTTP/1.1\r\n\r\n"), 400);
}

#[test]
fn unneeded_bodies_are_read_and_dropped() {
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    for framing in
        ["Content-Length: 5\r\n\r\nGET /", "Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\nX: y\r\n\r\n"]
    {
        for target in ["/healthz", "/stats"] {
            connection.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{framing}"));
            assert_eq!(connection.response().status, 200);
        }
        connection.send(format!("OPTIONS * HTTP/1.1\r\nHost: h\r\n{framing}"));
        assert_eq!(connection.response().status, 204);
    }
    connection.send("GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nGET /");
    assert!(connection.head().contains("text/event-stream"));
}

#[test]
fn a_refused_short_body_keeps_the_connection_open() {
    let open = Broker::start(&["--max-topics", "1"]);
    let secured = Broker::start_with_tokens(&[], &SECRETS);
    let other = bearer(&tokens::publisher("topictwo2"));
    open.publish("topicone1", "data: x");
    for (broker, request, fields, status) in [
        (&open, "POST /nothing", "", 404),
        (&open, "POST /healthz", "", 405),
        (&open, "POST /publish/x", "", 400),
        (&open, "POST /insert", "Content-Type: text/html\r\n", 415),
        (&open, "POST /publish/topictwo2", "", 503),
        (&secured, "POST /publish/topicone1", "", 401),
        (&secured, "POST /publish/topicone1", other.as_str(), 403),
    ] {
        let mut connection = broker.connect();
        for body in ["data: x", &format!("data: {}", "x".repeat(60_000))] {
            let length = body.len();
            for framing in [
                format!("Content-Length: {length}\r\n\r\n{body}"),
                format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"),
            ] {
                connection.send(format!("{request} HTTP/1.1\r\nHost: h\r\n{fields}{framing}"));
                let response = connection.response();
                assert_eq!((response.status, response.field("Connection")), (status, None), "{request} {response:?}");
            }
        }
        assert!(is_kept_alive(&mut connection), "{request}");
    }
}

/// The body may never be sent, and then the next request can't be told apart from a body.
#[test]
fn expect_100_with_an_unneeded_body_gets_a_response_and_a_close() {
    let broker = Broker::start(&[]);
    for body in ["", "GET /never HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut connection = broker.connect();
        connection.send(format!(
            "GET /healthz HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 34\r\n\r\n{body}"
        ));
        let response = connection.response();
        assert_eq!((response.status, response.field("Connection")), (200, Some("close")));
        assert!(connection.is_closed());
    }
}

#[test]
fn empty_lines_before_a_request_are_ignored() {
    let broker = Broker::start(&["--request-timeout", "400ms"]);
    let mut connection = broker.connect();
    connection.send(with_length("", "data: x") + "\r\n");
    assert_eq!(connection.response().status, 200);
    // An old client's extra CRLF after a body must not start the time limit of a request head.
    assert!(connection.is_silent(Duration::from_millis(1000)));
    connection.send("\r\n\r\n");
    assert!(is_kept_alive(&mut connection));
    connection.send("\n");
    assert_problem(&connection.response(), 400);
    assert!(connection.is_closed());
}

#[test]
fn every_response_has_a_date() {
    let broker = Broker::start(&[]);
    for request in
        [HEALTH, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "GET /no HTTP/1.0\r\n\r\n", "no HTTP at all\r\n\r\n"]
    {
        let response = broker.request(request);
        let date = response.field("Date").expect("a Date");
        let time = httpdate::parse_http_date(date).expect("an IMF-fixdate");
        assert_eq!(httpdate::fmt_http_date(time), date);
        let now = SystemTime::now();
        let off = now.duration_since(time).or_else(|_| time.duration_since(now)).expect("one is the later");
        assert!(off < Duration::from_secs(60), "{date}");
    }
}

/// A browser must not interpret an event or an error as a script or a page.
#[test]
fn every_response_forbids_content_sniffing() {
    let broker = Broker::start(&[]);
    let requests = [
        HEALTH,
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /no HTTP/1.0\r\n\r\n",
        "no HTTP at all\r\n\r\n",
        "GET /stats HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /events HTTP/1.0\r\n\r\n",
        "HEAD /subscribe/topicone1 HTTP/1.1\r\nHost: h\r\n\r\n",
    ];
    for request in requests {
        let mut connection = broker.connect();
        connection.send(request);
        let head = connection.head();
        assert_eq!(head.matches("\r\nX-Content-Type-Options: nosniff\r\n").count(), 1, "{head}");
    }
}

#[test]
fn unsupported_methods_get_405() {
    let broker = Broker::start(&[]);
    for (method, target, allow) in [
        ("GET", "/publish/topicone1", "POST, OPTIONS"),
        ("DELETE", "/publish/topicone1", "POST, OPTIONS"),
        ("POST", "/subscribe/topicone1", "GET, HEAD, OPTIONS"),
        ("PUT", "/stats", "GET, HEAD, OPTIONS"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
        ("PATCH", "/healthz", "GET, HEAD, OPTIONS"),
        ("POST", "/livez", "GET, HEAD, OPTIONS"),
    ] {
        let mut connection = broker.connect();
        connection.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let response = connection.response();
        assert_problem(&response, 405);
        assert_eq!(response.field("Allow"), Some(allow), "{method} {target}");
        assert!(is_kept_alive(&mut connection), "{method} {target}");
    }
    for (line, status) in [
        ("PUT /nothing", 404),
        ("CONNECT h:80", 404),
        ("BREW /healthz", 501),
        ("get /healthz", 501),
        ("PRI /healthz", 501),
    ] {
        assert_problem(&broker.request(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n")), status);
    }
}

#[test]
fn oversized_parts_get_distinct_errors() {
    let broker = Broker::start(&["--max-body", "10"]);
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let long = |count: usize| "a".repeat(count);
    for (request, status) in [
        (get(&format!("/{}", long(8191)), ""), 404),
        (get(&format!("/{}", long(8192)), ""), 414),
        (format!("GET /{}", long(9000)), 414),
        (format!("GET /?{} HTTP/1.1\r\nHost: h\r\nX: {}", long(9000), long(9000)), 414),
        (get("/healthz", &"X: y\r\n".repeat(63)), 200),
        (get("/healthz", &"X: y\r\n".repeat(64)), 431),
        (get("/healthz", &format!("X: {}\r\n", long(16_000))), 200),
        (get("/healthz", &format!("X: {}\r\n", long(16_384))), 431),
        (format!("GET / HTTP/1.1\r\n{}", long(16_400)), 431),
        (with_length("", "data: 4567"), 200),
        (with_length("", "data: 45678"), 413),
        (get("/healthz", "Content-Length: 11\r\n"), 413),
        (get("/healthz", "Content-Length: 99999999999999999999999999\r\n"), 413),
        (chunked("", "6\r\ndata: \r\n4\r\n4567\r\n0\r\n\r\n"), 200),
        (chunked("", "6\r\ndata: \r\n5\r\n"), 413),
        (chunked("", "ffffffffffffffff\r\n"), 413),
        (chunked("", &format!("1;{}", long(17_000))), 431),
        (chunked("", &format!("0\r\nX: {}", long(17_000))), 431),
    ] {
        let response = broker.request(&request);
        assert_eq!(response.status, status, "{:.60}", request);
        if status >= 400 {
            assert_problem(&response, status);
        }
    }
}

#[test]
fn http_versions_are_checked() {
    let broker = Broker::start(&[]);
    for (version, status) in
        [("HTTP/2.0", 505), ("HTTP/3", 505), ("HTTP/0.9", 505), ("HTTP/x", 400), ("http/1.1", 400), ("HTTP/1.1 ", 400)]
    {
        assert_problem(&broker.request(format!("GET /healthz {version}\r\nHost: h\r\n\r\n")), status);
    }
    for preface in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2"] {
        let mut connection = broker.connect();
        connection.send(preface);
        assert_problem(&connection.response(), 505);
        assert!(connection.is_closed());
    }
}
