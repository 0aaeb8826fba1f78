//! CORS: which origins may read responses, on every response including errors.

use super::support::tokens::{self, SECRETS, bearer, cookie};
use super::support::{Broker, Response};

const LISTED: [&str; 2] = ["https://one.example", "http://two.example:8080"];

/// Requests for each kind of response, without the final empty line: a success, an error, refused heads, a stream, a preflight.
fn requests() -> Vec<(String, u16)> {
    let line = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    vec![
        (line("GET /stats"), 200),
        (line("GET /topics"), 200),
        (line("GET /nothing"), 404),
        (line("DELETE /stats"), 405),
        (line("POST /publish/topicone1"), 411),
        (line("POST /publish/topicone1") + "Content-Length: 99999999\r\n", 413),
        (line("POST /publish/topicone1") + "Content-Length: 99999999999999999999\r\n", 413),
        (line("HEAD /subscribe/topicone1"), 200),
        (line("OPTIONS /publish/topicone1"), 204),
        (line("OPTIONS *"), 204),
        (line("GET /%zz"), 400),
        (line("GET /stats") + "Host: localhost\r\n", 400),
        (line("GET /stats") + "Expect: x\r\n", 417),
        (line("BREW /stats"), 501),
        (line(&format!("GET /{}", "x".repeat(9000))), 414),
        (line("GET /stats") + &"X: y\r\n".repeat(70), 431),
        (line("GET /stats") + "X: " + &"y".repeat(17_000) + "\r\n", 431),
    ]
}

/// Sends a request with these fields first, and returns the response's head. The fields come first because a head that is too
/// long leaves no room for more.
fn send_request(broker: &Broker, request: &str, status: u16, fields: &str) -> Response {
    let (line, rest) = request.split_once("\r\n").expect("a request line");
    let mut connection = broker.connect();
    connection.send(format!("{line}\r\n{fields}{rest}\r\n"));
    let response = Response::without_body(connection.head());
    assert_eq!(response.status, status, "{request:.60}");
    response
}

fn has_cors(response: &Response) -> bool {
    response.head.to_ascii_lowercase().contains("\naccess-control-")
}

#[test]
fn any_origin_may_read_without_credentials() {
    let broker = Broker::start(&["--origin", "*"]);
    for (request, status) in requests() {
        for fields in ["", "Origin: https://any.example\r\n", "Origin: null\r\n"] {
            let response = send_request(&broker, &request, status, fields);
            assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"), "{request:.60}");
            assert_eq!(response.field("Access-Control-Expose-Headers"), Some("ETag, Link, Retry-After"));
            assert_eq!(response.field("Access-Control-Allow-Credentials"), None);
            let vary = (status == 204).then_some("Access-Control-Request-Headers");
            assert_eq!(response.field("Vary"), vary);
        }
    }
}

#[test]
fn a_listed_origin_is_echoed_with_credentials() {
    let broker = Broker::start(&["--origin", LISTED[0], "--origin", LISTED[1]]);
    for (request, status) in requests() {
        for origin in LISTED {
            let response = send_request(&broker, &request, status, &format!("oRIGIN:{origin}\r\n"));
            assert_eq!(response.field("Access-Control-Allow-Origin"), Some(origin), "{request:.60}");
            assert_eq!(response.field("Access-Control-Allow-Credentials"), Some("true"));
            assert_eq!(response.field("Access-Control-Expose-Headers"), Some("ETag, Link, Retry-After"));
            assert_eq!(response.field("Vary"), Some("Origin"));
        }
    }
}

#[test]
fn other_origins_get_no_cors_fields_but_vary() {
    let broker = Broker::start_with(&[], &[("ESKER_ORIGIN", "https://one.example, http://two.example:8080")]);
    let others =
        ["https://one.example.evil", "http://one.example", "https://one.example:443", "https://one.exampl", "null"];
    // Without tokens, these origins are not even allowed to write.
    let is_safe = |(request, _): &(String, u16)| !request.starts_with("POST") && !request.starts_with("DELETE");
    for (request, status) in requests().into_iter().filter(is_safe) {
        for origin in others {
            let response = send_request(&broker, &request, status, &format!("Origin: {origin}\r\n"));
            assert!(!has_cors(&response), "{origin}: {response:?}");
            assert_eq!(response.field("Vary"), Some("Origin"));
        }
        assert!(!has_cors(&send_request(&broker, &request, status, "")));
    }
}

/// Requests whose token is missing, invalid, or for another name, without the final empty line.
fn denied_requests() -> Vec<(String, u16)> {
    let other = tokens::publisher("topictwo2");
    let mut all = Vec::new();
    for line in
        ["GET /stats", "HEAD /subscribe/topicone1", "POST /publish/topicone1", "GET /subscribe/topicone1?token=bad"]
    {
        all.push((format!("{line} HTTP/1.1\r\nHost: localhost\r\n"), 401));
        all.push((format!("{line} HTTP/1.1\r\nHost: localhost\r\n{}", bearer("bad")), 401));
    }
    all.push((format!("GET /stats?token={other} HTTP/1.1\r\nHost: localhost\r\n"), 403));
    all.push((format!("POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\n{}", bearer(&other)), 403));
    all.push((format!("POST /publish/topicone1 HTTP/1.1\r\nHost: localhost\r\n{}", cookie(&other)), 403));
    all
}

/// A page must be able to read why its request was refused.
#[test]
fn responses_without_a_valid_token_have_the_same_cors_fields() {
    let open = Broker::start_with_tokens(&[], &SECRETS);
    let listed = Broker::start_with_tokens(&["--origin", LISTED[0], "--origin", LISTED[1]], &SECRETS);
    for (request, status) in denied_requests() {
        let response = send_request(&open, &request, status, "Origin: https://any.example\r\n");
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"), "{request:.60}");
        assert_eq!(response.field("Access-Control-Expose-Headers"), Some("ETag, Link, Retry-After"));
        assert_eq!((response.field("Access-Control-Allow-Credentials"), response.field("Vary")), (None, None));
        for origin in LISTED {
            let response = send_request(&listed, &request, status, &format!("Origin: {origin}\r\n"));
            assert_eq!(response.field("Access-Control-Allow-Origin"), Some(origin), "{request:.60}");
            assert_eq!(response.field("Access-Control-Allow-Credentials"), Some("true"));
            assert_eq!(response.field("Vary"), Some("Origin"));
        }
        for fields in ["Origin: https://evil.example\r\n", ""] {
            let response = send_request(&listed, &request, status, fields);
            assert!(!has_cors(&response), "{response:?}");
            assert_eq!(response.field("Vary"), Some("Origin"));
        }
    }
}

/// A browser sends cookies whichever page makes the request. Any other token was given to the page.
#[test]
fn only_listed_origins_and_the_broker_itself_publish_with_a_cookie() {
    let open = Broker::start_with_tokens(&[], &SECRETS);
    let listed = Broker::start_with_tokens(&["--origin", LISTED[0], "--origin", "https://*.three.example"], &SECRETS);
    let token = tokens::publisher("topicone1");
    let publish = |broker: &Broker, target: &str, fields: &str| broker.post(target, fields, "data: x").status;
    let (bare, queried) = ("/publish/topicone1", format!("/publish/topicone1?token={token}"));
    for (page, expected) in [
        ("Origin: https://one.example\r\n", [403, 200]),
        ("Origin: https://a.three.example\r\n", [403, 200]),
        ("Origin: https://three.example\r\n", [403, 403]),
        ("Origin: https://evil.example\r\n", [403, 403]),
        ("Origin: null\r\n", [403, 403]),
        ("Origin: http://localhost\r\n", [200, 200]),
        ("Origin: http://localhost.evil\r\n", [403, 403]),
        // Behind a proxy that changes Host.
        ("Origin: https://events.example\r\nSec-Fetch-Site: same-origin\r\n", [200, 200]),
        ("Origin: https://events.example\r\nSec-Fetch-Site: same-site\r\n", [403, 403]),
        ("Origin: https://events.example\r\nSec-Fetch-Site: cross-site\r\n", [403, 403]),
        ("Origin: https://events.example\r\nSec-Fetch-Site: none\r\n", [403, 403]),
        ("Sec-Fetch-Site: same-origin\r\n", [200, 200]),
        ("Sec-Fetch-Site: cross-site\r\n", [403, 403]),
        // Browsers that send neither field are old, and the page may be of any origin.
        ("", [403, 403]),
    ] {
        let fields = format!("{page}{}", cookie(&token));
        assert_eq!([&open, &listed].map(|broker| publish(broker, bare, &fields)), expected, "{page}");
        for broker in [&open, &listed] {
            assert_eq!(publish(broker, bare, &format!("{fields}{}", bearer(&token))), 200, "{page}");
            assert_eq!(publish(broker, &queried, &fields), 200, "{page}");
        }
    }
}

/// CORS controls whether a page may read the response. The request itself needs no listed origin.
#[test]
fn a_cookie_allows_reading_from_any_page() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    let fields =
        format!("Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n{}", cookie(&tokens::subscriber("*")));
    assert_eq!(tokens::try_subscribe(&broker, "/subscribe/topicone1", &fields).status, 200);
}

#[test]
fn subdomains_and_null_can_be_listed() {
    let broker = Broker::start(&[
        "--origin",
        "null",
        "--origin",
        "https://*.one.example",
        "--origin",
        "http://*.two.example:81",
    ]);
    let allowed = |origin: &str| {
        let response = broker.request(format!("GET /stats HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n"));
        assert_eq!(response.field("Vary"), Some("Origin"));
        response.field("Access-Control-Allow-Origin").map(str::to_owned)
    };
    for origin in ["null", "https://a.one.example", "https://a.b.one.example", "http://a.two.example:81"] {
        assert_eq!(allowed(origin).as_deref(), Some(origin));
    }
    for origin in [
        "https://one.example",
        "https://.one.example",
        "https://aone.example",
        "http://a.one.example",
        "https://a.one.example:8443",
        "https://a.one.example.evil",
        "https://evil/.one.example",
        "http://a.two.example",
        "http://a.two.example:82",
        "NULL",
        "",
    ] {
        assert_eq!(allowed(origin), None, "{origin}");
    }
}

/// Bytes after a refused head are not parsed, because their meaning is unknown.
#[test]
fn an_origin_after_a_refused_head_is_ignored() {
    let broker = Broker::start(&["--origin", LISTED[0]]);
    let request = format!("GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\nOrigin: {}\r\n", LISTED[0]);
    assert!(!has_cors(&send_request(&broker, &request, 400, "")));
}

#[test]
fn a_preflight_lists_what_is_allowed() {
    for arguments in [&[][..], &["--origin", LISTED[0]]] {
        let broker = Broker::start(arguments);
        for (target, allow) in [
            ("*", "GET, HEAD, POST, DELETE, OPTIONS"),
            ("/any/thing%20", "GET, HEAD, POST, DELETE, OPTIONS"),
            ("/audit/a/b", "GET, HEAD, DELETE, OPTIONS"),
            ("/publish/topicone1", "POST, OPTIONS"),
            ("/subscribe/topicone1", "GET, HEAD, OPTIONS"),
            ("/livez", "GET, HEAD, OPTIONS"),
            ("/topics/topicone1", "GET, HEAD, OPTIONS"),
        ] {
            let response = preflight(&broker, target, "authorization,last-event-id");
            assert_eq!((response.status, response.field("Allow")), (204, Some(allow)), "{target}");
            assert_eq!(response.field("Access-Control-Allow-Methods"), Some("GET, POST, DELETE"));
            assert_eq!(response.field("Access-Control-Max-Age"), Some("3600"));
            assert_eq!(response.field("Content-Length"), None, "a 204 has no length");
        }
    }
}

/// Sends a preflight and returns the response.
fn preflight(broker: &Broker, target: &str, headers: &str) -> Response {
    let fields = format!("Origin: {}\r\nAccess-Control-Request-Method: POST\r\n", LISTED[0]);
    broker.request(format!(
        "OPTIONS {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Access-Control-Request-Headers:{headers}\r\n\r\n"
    ))
}

/// Tracing libraries and frameworks add fields of their own to every request.
#[test]
fn a_preflight_allows_every_requested_header() {
    let long = "x".repeat(5000);
    for arguments in [&[][..], &["--origin", LISTED[0]]] {
        let broker = Broker::start(arguments);
        let granted = |headers: &str| {
            let response = preflight(&broker, "/publish/topicone1", headers);
            assert!(response.head.contains("\r\nVary: Access-Control-Request-Headers\r\n"), "{}", response.head);
            response.field("Access-Control-Allow-Headers").map(str::to_owned)
        };
        for headers in ["traceparent", "authorization,sentry-trace,x-requested-with", "Idempotency-Key, baggage"] {
            assert_eq!(granted(headers).as_deref(), Some(headers));
        }
        for headers in ["", "a b", "a,,b", "a: b", "\u{e9}", &long] {
            assert_eq!(granted(headers), None, "{headers:.20}");
        }
    }
}

#[test]
fn streams_may_be_read_by_the_same_origins() {
    let broker = Broker::start(&["--origin", LISTED[0]]);
    let stream = broker.subscribe("/subscribe/topicone1", &format!("Origin: {}\r\n", LISTED[0]));
    assert!(stream.head.contains("Access-Control-Allow-Origin: https://one.example\r\n"), "{}", stream.head);
    assert!(stream.head.contains("Access-Control-Allow-Credentials: true\r\n"), "{}", stream.head);
    let stream = broker.subscribe("/subscribe/topicone1", "Origin: https://evil.example\r\n");
    assert!(!stream.head.contains("Access-Control"), "{}", stream.head);
}

/// A page follows the links of pages, and waits as long as a refusal says.
#[test]
fn what_a_write_or_a_page_returned_may_be_read() {
    let limits = ["--publish-rate", "1", "--publish-burst", "10"];
    let broker = Broker::start_with_tokens(&[&["--origin", LISTED[0]], &limits[..]].concat(), &SECRETS);
    let [write, read] = [tokens::publisher("*"), tokens::subscriber("*")]
        .map(|token| format!("Origin: {}\r\n{}", LISTED[0], bearer(&token)));
    let insert = |data: &str| broker.post("/insert", &write, format!("{{\"event\":\"user\",\"data\":{data}}}"));
    let get = |target: &str| broker.request(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{read}\r\n"));
    let publish = || broker.post("/publish/topicone1", &write, "data: x");
    let [one, two, bad] = ["1", "2", "x"].map(insert);
    let refused = std::iter::repeat_with(publish).take(1000).find(|response| response.status != 200);
    for (response, status, field) in [
        (one, 200, "Date"),
        (two, 200, "Date"),
        (bad, 400, "Date"),
        (refused.expect("the rate is limited"), 429, "Retry-After"),
        (get("/audit/user?limit=1"), 200, "Link"),
        (get("/audit/user?limit=x"), 400, "Date"),
    ] {
        assert_eq!(response.status, status, "{response:?}");
        assert!(response.field(field).is_some(), "{response:?}");
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some(LISTED[0]), "{response:?}");
        assert_eq!(response.field("Access-Control-Expose-Headers"), Some("ETag, Link, Retry-After"));
    }
}
