//! The console's HTTP response: one self-contained document, and a policy that allows exactly the document's own blocks. Its
//! behavior is tested in browsers, in tests/browser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::support::tokens::SECRETS;
use super::support::{Broker, Response};

/// Returns the text between `begin` and the next `end`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{begin} is missing"));
    rest.split_once(end).unwrap_or_else(|| panic!("{end} is missing")).0
}

fn directive<'a>(policy: &'a str, name: &str) -> &'a str {
    let found = policy.split(';').find_map(|directive| directive.trim().strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{policy} has no {name}"))
}

#[test]
fn the_policy_allows_only_the_pages_own_blocks() {
    let response = Broker::start(&[]).get("/");
    assert_eq!((response.status, response.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let (policy, html) = (response.field("Content-Security-Policy").expect("a policy"), response.text());
    for (name, begin, end) in [("script-src", "<script>", "</script>"), ("style-src", "<style>", "</style>")] {
        let hash = STANDARD.encode(digest(&SHA256, between(&html, begin, end).as_bytes()));
        assert_eq!(directive(policy, name), format!("'sha256-{hash}'"));
        assert_eq!(html.matches(begin).count(), 1);
    }
    assert_eq!((directive(policy, "connect-src"), directive(policy, "img-src")), ("'self'", "data:"));
    for name in ["default-src", "base-uri", "form-action", "frame-ancestors", "trusted-types"] {
        assert_eq!(directive(policy, name), "'none'", "{name}");
    }
}

#[test]
fn the_page_loads_and_sends_nothing_elsewhere() {
    let response = Broker::start(&[]).get("/");
    assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(response.field("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(response.field("Cache-Control"), Some("no-store"));
    let html = response.text();
    for foreign in [
        " src=",
        " url(",
        ":url(",
        "@import",
        "<link rel=\"stylesheet",
        " style=",
        "https://",
        "javascript:",
        "innerHTML",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    let markup = format!("{}{}", between(&html, "<!doctype", "<style>"), between(&html, "</style>", "<script>"));
    assert!(
        !markup.split_whitespace().any(|word| word.starts_with("on") && word.contains('=')),
        "no handler in the markup"
    );
}

#[test]
fn the_console_allows_only_get_and_head() {
    let broker = Broker::start(&[]);
    let mut connection = broker.connect();
    connection.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    let head = Response::without_body(connection.head());
    connection.send("GET /?x=y HTTP/1.1\r\nHost: h\r\n\r\n");
    let whole = connection.response();
    assert_eq!((head.status, whole.status), (200, 200));
    assert_eq!(head.field("Content-Length"), Some(whole.body.len().to_string().as_str()));
    for method in ["POST", "PUT", "DELETE"] {
        let refused = broker.request(format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    assert_eq!(broker.get("//").status, 404);
    assert_eq!(broker.get("/index.html").status, 404);
}

#[test]
fn the_console_requires_no_token() {
    let broker = Broker::start_with_tokens(&[], &SECRETS);
    assert_eq!(broker.get("/").status, 200);
    assert_eq!(broker.get("/stats").status, 401);
}

#[test]
fn without_the_console_its_path_is_not_found() {
    for broker in [Broker::start(&["--no-console"]), Broker::start_with(&[], &[("ESKER_NO_CONSOLE", "1")])] {
        for method in ["GET", "POST"] {
            let response = broker.request(format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!((response.status, response.field("Content-Security-Policy")), (404, None), "{method}");
        }
        let options = broker.request("OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(options.field("Allow"), broker.request("OPTIONS /none HTTP/1.1\r\nHost: h\r\n\r\n").field("Allow"));
        broker.assert_healthy();
    }
}
