//! Who may read answers from a page of another origin: on every answer, the refusals included.

use super::support::{Broker, Response};

const LISTED: [&str; 2] = ["https://one.example", "http://two.example:8080"];

/// Requests of each kind of answer, without the empty line: an answer, an error, refused heads, a stream, a preflight.
fn requests() -> Vec<(String, u16)> {
    let line = |line: &str| format!("{line} HTTP/1.1\r\nHost: h\r\n");
    vec![
        (line("GET /stats"), 200),
        (line("GET /nothing"), 404),
        (line("DELETE /stats"), 405),
        (line("POST /publish/topicone1"), 411),
        (line("POST /publish/topicone1") + "Content-Length: 99999999\r\n", 413),
        (line("POST /publish/topicone1") + "Content-Length: 99999999999999999999\r\n", 413),
        (line("HEAD /subscribe/topicone1"), 200),
        (line("OPTIONS /publish/topicone1"), 204),
        (line("OPTIONS *"), 204),
        (line("GET /%zz"), 400),
        (line("GET /stats") + "Host: h\r\n", 400),
        (line("GET /stats") + "Expect: x\r\n", 417),
        (line("BREW /stats"), 501),
        (line(&format!("GET /{}", "x".repeat(9000))), 414),
        (line("GET /stats") + &"X: y\r\n".repeat(70), 431),
        (line("GET /stats") + "X: " + &"y".repeat(17_000) + "\r\n", 431),
    ]
}

/// The answer's head to a request with these fields first, where a head that is too long has room for them.
fn ask(broker: &Broker, request: &str, status: u16, fields: &str) -> Response {
    let (line, rest) = request.split_once("\r\n").expect("a request line");
    let mut connection = broker.connect();
    connection.send(format!("{line}\r\n{fields}{rest}\r\n"));
    let response = Response::without_body(connection.head());
    assert_eq!(response.status, status, "{request:.60}");
    response
}

fn has_cors(response: &Response) -> bool {
    response.head.to_ascii_lowercase().contains("access-control-")
}

#[test]
fn by_default_every_origin_may_read_without_credentials() {
    let broker = Broker::start(&[]);
    for (request, status) in requests() {
        for fields in ["", "Origin: https://any.example\r\n", "Origin: null\r\n"] {
            let response = ask(&broker, &request, status, fields);
            assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"), "{request:.60}");
            assert_eq!(response.field("Access-Control-Expose-Headers"), Some("Link"));
            assert_eq!(response.field("Access-Control-Allow-Credentials"), None);
            assert_eq!(response.field("Vary"), None);
        }
    }
}

#[test]
fn a_listed_origin_is_echoed_with_credentials() {
    let broker = Broker::start(&["--origin", LISTED[0], "--origin", LISTED[1]]);
    for (request, status) in requests() {
        for origin in LISTED {
            let response = ask(&broker, &request, status, &format!("oRIGIN:{origin}\r\n"));
            assert_eq!(response.field("Access-Control-Allow-Origin"), Some(origin), "{request:.60}");
            assert_eq!(response.field("Access-Control-Allow-Credentials"), Some("true"));
            assert_eq!(response.field("Access-Control-Expose-Headers"), Some("Link"));
            assert_eq!(response.field("Vary"), Some("Origin"));
        }
    }
}

#[test]
fn other_origins_get_nothing_and_caches_are_told() {
    let broker = Broker::start_with(&[], &[("ESKER_ORIGIN", "https://one.example, http://two.example:8080")]);
    let others =
        ["https://one.example.evil", "http://one.example", "https://one.example:443", "https://one.exampl", "null"];
    for (request, status) in requests() {
        for origin in others {
            let response = ask(&broker, &request, status, &format!("Origin: {origin}\r\n"));
            assert!(!has_cors(&response), "{origin}: {response:?}");
            assert_eq!(response.field("Vary"), Some("Origin"));
        }
        assert!(!has_cors(&ask(&broker, &request, status, "")));
    }
}

/// What follows a refused head is not looked at, for nobody knows what it is.
#[test]
fn an_origin_after_a_refused_head_is_not_the_heads() {
    let broker = Broker::start(&["--origin", LISTED[0]]);
    let request = format!("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\nOrigin: {}\r\n", LISTED[0]);
    assert!(!has_cors(&ask(&broker, &request, 400, "")));
}

#[test]
fn a_preflight_says_what_is_allowed() {
    for arguments in [&[][..], &["--origin", LISTED[0]]] {
        let broker = Broker::start(arguments);
        for (target, allow) in [
            ("*", "GET, HEAD, POST, OPTIONS"),
            ("/any/thing%20", "GET, HEAD, POST, OPTIONS"),
            ("/publish/topicone1", "POST, OPTIONS"),
            ("/subscribe/topicone1", "GET, HEAD, OPTIONS"),
        ] {
            let fields = "Origin: https://one.example\r\nAccess-Control-Request-Method: POST\r\n\
                          Access-Control-Request-Headers: authorization,last-event-id\r\n";
            let response = broker.ask(format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
            assert_eq!((response.status, response.field("Allow")), (204, Some(allow)), "{target}");
            assert_eq!(response.field("Access-Control-Allow-Methods"), Some("GET, POST"));
            let headers = "Authorization, Content-Type, Last-Event-ID, Cache-Control";
            assert_eq!(response.field("Access-Control-Allow-Headers"), Some(headers));
            assert_eq!(response.field("Access-Control-Max-Age"), Some("3600"));
            assert_eq!(response.field("Content-Length"), None, "a 204 has no length");
        }
    }
}

#[test]
fn a_stream_may_be_read_by_the_same_origins() {
    let broker = Broker::start(&["--origin", LISTED[0]]);
    let stream = broker.subscribe("/subscribe/topicone1", &format!("Origin: {}\r\n", LISTED[0]));
    assert!(stream.head.contains("Access-Control-Allow-Origin: https://one.example\r\n"), "{}", stream.head);
    assert!(stream.head.contains("Access-Control-Allow-Credentials: true\r\n"), "{}", stream.head);
    let stream = broker.subscribe("/subscribe/topicone1", "Origin: https://evil.example\r\n");
    assert!(!stream.head.contains("Access-Control"), "{}", stream.head);
}
