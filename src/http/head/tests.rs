use super::*;

fn status(text: &str) -> u16 {
    match parse(text.as_bytes()) {
        Ok(Parsed::Complete(..)) => 200,
        Ok(Parsed::Partial) => 100,
        Err(problem) => problem.status,
    }
}

fn with(fields: &str) -> String {
    format!("POST /publish/greeting HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

#[test]
fn a_head_is_partial_until_its_last_byte() {
    let text = "POST /publish/greeting?x=1 HTTP/1.1\r\nHost: h:80\r\nLast-Event-ID: 7\r\nContent-Length: 5\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(status(&text[..end]), 100, "{end}");
    }
    let Ok(Parsed::Complete(head, len)) = parse(text.as_bytes()) else { panic!("not complete") };
    assert_eq!(len, text.len());
    assert_eq!((head.method, head.version, head.keep_alive), (Method::Post, Version::Http11, true));
    assert_eq!((head.body.framing, head.last_event_id), (BodyFraming::Length(5), Some(&b"7"[..])));
}

#[test]
fn ambiguous_fields_are_refused() {
    for (fields, expected) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: -5\r\n", 400),
        ("Content-Length: \r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: 99999999999999999999\r\n", 413),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: \r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked, gzip\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("Transfer-Encoding: gzip, chunked, br\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", 400),
        ("Transfer-Encoding: chunked,\r\n", 400),
        ("Transfer-Encoding: gzip,\r\n", 501),
        ("Transfer-Encoding: xchunked\r\n", 501),
        ("Transfer-Encoding: \u{a0}chunked\r\n", 501),
        ("Transfer-Encoding: \u{b}chunked\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Content-Length : 5\r\n", 400),
        ("X: a\r\n b\r\n", 400),
        ("X: a\rb\r\n", 400),
        ("X: a\0b\r\n", 400),
        ("X\r\n", 400),
        (": x\r\n", 400),
        ("Host: h\r\n", 400),
        ("Expect: 200-ok\r\n", 417),
        ("Transfer-Encoding: Chunked\r\n", 200),
        ("Expect: 100-Continue\r\n", 200),
        ("X: caf\u{e9}\r\n", 200),
    ] {
        assert_eq!(status(&with(fields)), expected, "{fields:?}");
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    for (line, expected) in [
        ("GET / HTTP/1.1", 200),
        ("GET http://h/stats HTTP/1.1", 200),
        ("OPTIONS * HTTP/1.1", 200),
        ("CONNECT h:80 HTTP/1.1", 200),
        ("GET * HTTP/1.1", 400),
        ("GET stats HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET /", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/x", 400),
        ("GET / HTTP/1,1", 400),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
        ("get / HTTP/1.1", 501),
        ("BREW / HTTP/1.1", 501),
        ("G@T / HTTP/1.1", 400),
    ] {
        assert_eq!(status(&format!("{line}\r\nHost: h\r\n\r\n")), expected, "{line}");
    }
    assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_eq!(status("PRI * HTTP/2"), 505);
}

#[test]
fn http_1_1_requires_one_valid_host() {
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 200);
    assert_eq!(status("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

#[test]
fn long_heads_and_targets_are_refused() {
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(MAX_TARGET));
    assert_eq!(status(&long_target), 414);
    assert_eq!(status(&long_target[..MAX_TARGET + 10]), 414);
    assert_eq!(status(&with(&format!("X: {}\r\n", "a".repeat(MAX_HEAD)))), 431);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD))), 431);
    assert_eq!(status(&with(&"X: a\r\n".repeat(MAX_FIELDS))), 431);
    assert_eq!(status(&with(&"X: a\r\n".repeat(MAX_FIELDS - 1))), 200);
}

/// The first error is reported, regardless of what follows it.
#[test]
fn the_result_does_not_depend_on_how_many_bytes_have_arrived() {
    let long = |before: &str, after: &str| format!("{before}{}{after}", "a".repeat(MAX_HEAD));
    let lines = "\r\n".repeat(MAX_HEAD / 2 + 1) + &with("X: a\r\n");
    for (text, expected) in [
        (long("GET / HTTP/1.1\r\nX: ", "\r\nY : b\r\n\r\n"), 431),
        (long("G@T /", " HTTP/1.1\r\n\r\n"), 400),
        (long("GET /", "\u{1} HTTP/1.1\r\n\r\n"), 414),
        (lines, 200),
        ("PRI * HTTP/2x\r\n".into(), 505),
        ("GET / HTTP/1.1\nHost: h\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: h\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: h\r\n\n and more".into(), 400),
        ("\r\n\nGET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/2\n and more of it".into(), 505),
        ("GET / HTTP/1.0\r\n\r\na body\nof lines".into(), 200),
        ("\r\nPRI * HTTP/2.0\r\n".into(), 505),
        ("GET / HTTP/1x\r\n".into(), 400),
        ("GET / HTTP/1.9x\r\n".into(), 505),
    ] {
        assert_eq!(status(&text), expected, "{:?}", &text[..20]);
        let ends = (0..text.len()).step_by(if text.len() < 100 { 1 } else { 997 });
        let first = ends.map(|end| status(&text[..end])).find(|&status| status != 100);
        assert_eq!(first.unwrap_or(expected), expected, "{:?}", &text[..20]);
    }
}

#[test]
fn content_codings_other_than_identity_are_noticed() {
    let coding = |fields: &str| match parse(with(fields).as_bytes()) {
        Ok(Parsed::Complete(head, _)) => head.body.content_coding.map(str::to_owned),
        other => panic!("{other:?}"),
    };
    for none in ["", "Content-Encoding: Identity\r\n", "Content-Encoding: ,\r\nContent-Encoding: identity\r\n"] {
        assert_eq!(coding(none), None, "{none}");
    }
    for gzip in ["Content-Encoding: gzip\r\n", "content-encoding: identity, gzip,br\r\nContent-Encoding: br\r\n"] {
        assert_eq!(coding(gzip).as_deref(), Some("gzip"), "{gzip}");
    }
}

#[test]
fn persistence_depends_on_version_and_connection_field() {
    let keeps = |text: &str| match parse(text.as_bytes()) {
        Ok(Parsed::Complete(head, _)) => head.keep_alive,
        other => panic!("{other:?}"),
    };
    assert!(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}
