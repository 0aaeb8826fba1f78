//! Request smuggling: combinations of fragments that recipients could interpret in different ways. Each is refused with one
//! error and a closed connection, and the smuggled request is neither answered nor executed.

use super::support::Broker;

/// The request that the attacker tries to smuggle.
const SMUGGLED: &str = "POST /publish/smuggled1 HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\n\r\ndata: x";

/// Invalid ways to say `chunked`, with the expected status.
const CODINGS: &[(&str, u16)] = &[
    ("gzip", 501),
    ("identity", 501),
    ("gzip, chunked", 501),
    ("chunked, gzip", 400),
    ("chunked, identity", 400),
    ("chunked, chunked, gzip", 400),
    ("gzip, chunked, br", 400),
    ("chunked\r\nTransfer-Encoding: gzip", 400),
    ("chunked, xchunked", 400),
    ("gzip, br", 501),
    ("xchunked", 501),
    ("chunked;q=1", 501),
    ("\"chunked\"", 501),
    ("chun ked", 501),
    ("\u{a0}chunked", 501),
    ("chunked\u{2003}", 501),
    ("chunked, chunked", 400),
    ("chunked\r\nTransfer-Encoding: chunked", 400),
    (", chunked", 400),
    ("chunked,", 400),
    ("", 400),
    ("\u{b}chunked", 400),
    ("chunked\u{c}", 400),
    ("chunked\0", 400),
    ("chun\rked", 400),
    ("\r\n chunked", 400),
];

/// Invalid values of Content-Length, with the expected status.
const LENGTHS: &[(&str, u16)] = &[
    ("", 400),
    ("+5", 400),
    ("-0", 400),
    ("0x5", 400),
    ("5.0", 400),
    ("1e1", 400),
    ("5 5", 400),
    ("5,5", 400),
    ("5;", 400),
    ("\"5\"", 400),
    ("5\0", 400),
    ("\u{a0}5", 400),
    ("\u{665}", 400),
    ("5\r\n 5", 400),
    ("5\r\nContent-Length: 5", 400),
    ("5\r\ncontent-length: 6", 400),
    ("0\r\nX: y\r\nContent-Length: 0", 400),
    ("18446744073709551616", 413),
    ("9999999999999999999999999999999999999999", 413),
];

/// Malformed field names, where `N` stands for a valid name that a lenient parser reads instead.
const MISNAMES: &[&str] = &[
    "N ", "N\t", " N", "\tN", "N\0", "N\u{b}", "N\u{7f}", "N\u{a0}", "X\r\n N", "X: y\rN", "N:\0", "(N", "N\r", "\rN",
];

/// Malformed field lines.
const FIELDS: &[&str] = &[
    "X",
    ": x",
    "X Y: z",
    "X: a\u{1}b",
    "X: a\u{7f}b",
    "X: a\rb",
    "X: a\r\n b",
    "X: a\r\n\t",
    "X:\r\r\nY: z",
    "X: a\0",
    "=: x\r",
    "X: y\nZ: w",
    "X: y\n",
    "X:\n y",
    "X: y\n\nGET /healthz HTTP/1.1\r\nHost: h",
    "X@: y",
    "[X]: y",
    "Host: h",
    "HOST: other",
    "\u{feff}X: y",
];

/// What may follow a head: nothing, a body of either kind, and each way to end one.
const BODIES: &[&str] = &["", "hello", "0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"];

const LINES: &[(&str, u16)] = &[
    ("GET  /healthz HTTP/1.1", 400),
    ("GET /healthz  HTTP/1.1", 400),
    ("GET /healthz HTTP/1.1 ", 400),
    (" GET /healthz HTTP/1.1", 400),
    ("GET\t/healthz\tHTTP/1.1", 400),
    ("GET\u{b}/healthz HTTP/1.1", 400),
    ("GET /healthz\0 HTTP/1.1", 400),
    ("GET /healthz\r HTTP/1.1", 400),
    ("GET /healthz HTTP/1.1\r", 400),
    ("GET /healthz HTTP/1.1\rX: y", 400),
    ("GET /healthz HTTP/1.1\nX: y", 400),
    ("\nGET /healthz HTTP/1.1", 400),
    ("\r\n\nGET /healthz HTTP/1.1", 400),
    ("GET /healthz HTTP/1.1 X", 400),
    ("GET /healthz HTTP/1.1x", 400),
    ("GET /healthz HTTP/1.11", 400),
    ("GET /healthz HTTP/1,1", 400),
    ("GET /healthz XTTP/1.1", 400),
    ("GET /healthz hTTP/1.1", 400),
    ("GET /healthz", 400),
    ("GET HTTP/1.1", 400),
    ("GET", 400),
    ("/healthz HTTP/1.1", 400),
    ("\0GET /healthz HTTP/1.1", 400),
    ("\rGET /healthz HTTP/1.1", 400),
    ("\u{feff}GET /healthz HTTP/1.1", 400),
    ("G\u{c9}T /healthz HTTP/1.1", 400),
    ("GET: /healthz HTTP/1.1", 400),
    ("GET /healthz#a HTTP/1.1", 400),
    ("GET /health\u{e9} HTTP/1.1", 400),
    ("GET /health|z\\\u{7f} HTTP/1.1", 400),
    ("GET /healthz HTTP/2.0", 505),
    ("GET /healthz HTTP/9.9", 505),
    ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", 400),
];

/// Malformed chunked bodies.
const CHUNKS: &[&str] = &[
    "\r\n",
    "\n",
    "g\r\n",
    "5\nhello\r\n",
    "5\rhello",
    "-5\r\n",
    "+5\r\n",
    "0x5\r\n",
    "\\x35\r\n",
    " 5\r\n",
    "\t5\r\n",
    "5 \r\n",
    "5\t\r\n",
    "5 5\r\n",
    "5,\r\n",
    "5\0\r\n",
    "5\u{b}\r\n",
    "5;\r\n",
    "5;;a\r\n",
    "5;a;\r\n",
    "5; a b\r\n",
    "5;a=\r\n",
    "5;=b\r\n",
    "5;a==b\r\n",
    "5;a=b c\r\n",
    "5;a=\"b\r\n",
    "5;a=\"b\\\"\r\n",
    "5;a=\"b\"c\r\n",
    "5;a=b \r\n",
    "5;(a)\r\n",
    "5;a,b\r\n",
    "5;\u{e9}\r\n",
    "5;\r\nhello\r\n0\r\n\r\n",
    "5;a\nhello\r\n",
    "5;\0\r\n",
    "5;a\rb\r\n",
    "5;\u{7f}\r\n",
    ";\r\n",
    "\u{665}\r\n",
    "00000000000000005\r\n",
    "3\r\nabcd\r\n",
    "3\r\nab\r\n",
    "3\r\nabc",
    "3\r\nabc\n0\r\n\r\n",
    "3\r\nabc\r0\r\n\r\n",
    "3\r\nabc\r\n\r\n",
    "3\r\nabc0\r\n\r\n",
    "0\n\r\n",
    "0\r\n\n",
    "0\r\n\r\r\n",
    "0\r\n",
    "0\r\nA b: c\r\n\r\n",
    "0\r\nA : c\r\n\r\n",
    "0\r\nA\r\n\r\n",
    "0\r\n A: b\r\n\r\n",
    "0\r\n: b\r\n\r\n",
    "0\r\nA: b\nB: c\r\n\r\n",
    "0\r\nA: b\r\n c\r\n\r\n",
    "0\r\nA: \0\r\n\r\n",
    "0\r\nA: b\rC: d\r\n\r\n",
];

/// Sends an attack in one piece and in two parts. There must be one response, with this status.
fn assert_refused(broker: &Broker, attack: &str, status: u16) {
    let middle = attack.char_indices().nth(attack.chars().count() / 2).map_or(0, |(at, _)| at);
    for cut in [0, middle] {
        let mut connection = broker.connect();
        connection.send(&attack[..cut]);
        connection.send(&attack[cut..]);
        let response = connection.response();
        assert_eq!(response.status, status, "{attack:?}: {response:?}");
        assert_eq!(response.field("Connection"), Some("close"), "{attack:?}");
        assert_eq!(response.field("Content-Type"), Some("application/problem+json"), "{attack:?}");
        assert!(connection.is_closed(), "{attack:?} got a second response");
    }
    broker.assert_healthy();
}

fn assert_nothing_was_smuggled(broker: &Broker) {
    let stats = broker.stats();
    assert_eq!((&stats["events_published"], &stats["topics"]), (&0.into(), &0.into()), "{stats}");
}

/// Tries the header fields with each request line and with everything that may follow.
fn assert_fields_are_refused<'a>(cases: impl Iterator<Item = (String, u16)> + 'a) {
    let broker = Broker::start(&[]);
    for (fields, status) in cases {
        for line in ["POST /publish/smuggled1", "GET /healthz"] {
            for body in BODIES {
                let attack = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}{SMUGGLED}");
                assert_refused(&broker, &attack, status);
            }
        }
    }
    assert_nothing_was_smuggled(&broker);
}

#[test]
fn invalid_transfer_codings_are_refused() {
    let names = ["Transfer-Encoding", "tRANSFER-eNCODING"].into_iter();
    let all = names.flat_map(|name| CODINGS.iter().map(move |(coding, status)| (format!("{name}: {coding}"), *status)));
    assert_fields_are_refused(all);
}

#[test]
fn invalid_lengths_are_refused() {
    assert_fields_are_refused(LENGTHS.iter().map(|(length, status)| (format!("Content-Length: {length}"), *status)));
}

#[test]
fn lengths_with_transfer_codings_are_refused() {
    let codings = ["chunked", "CHUNKED", "gzip", "identity", ""].into_iter();
    let both = codings.flat_map(|coding| {
        ["0", "5", "44"].into_iter().flat_map(move |length| {
            let (coding, length) = (format!("Transfer-Encoding: {coding}"), format!("Content-Length: {length}"));
            [format!("{coding}\r\n{length}"), format!("{length}\r\nX: y\r\n{coding}")]
        })
    });
    assert_fields_are_refused(both.map(|fields| (fields, 400)));
}

#[test]
fn malformed_names_of_framing_fields_are_refused() {
    let names = ["Transfer-Encoding", "Content-Length", "Host"].into_iter();
    let all = names.flat_map(|name| MISNAMES.iter().map(move |misname| misname.replace('N', name)));
    let values = all.flat_map(|name| ["chunked", "5", "h"].map(|value| (format!("{name}: {value}"), 400)));
    assert_fields_are_refused(values);
}

#[test]
fn malformed_fields_are_refused() {
    assert_fields_are_refused(FIELDS.iter().flat_map(|field| {
        let framed = format!("{field}\r\nContent-Length: 5");
        [((*field).to_owned(), 400), (framed, 400)]
    }));
}

#[test]
fn malformed_request_lines_are_refused() {
    let broker = Broker::start(&[]);
    for (line, status) in LINES {
        for fields in ["Host: h\r\n", "Host: h\r\nContent-Length: 5\r\n"] {
            assert_refused(&broker, &format!("{line}\r\n{fields}\r\n{SMUGGLED}"), *status);
        }
    }
    assert_nothing_was_smuggled(&broker);
}

#[test]
fn malformed_chunks_are_refused() {
    let broker = Broker::start(&[]);
    for line in ["POST /publish/smuggled1", "GET /healthz", "OPTIONS *", "GET /subscribe/smuggled1"] {
        for before in ["", "7;x\r\ndata: y\r\n", "7 ; x = \"y\\\"z\";a\r\ndata: y\r\n"] {
            for chunk in CHUNKS {
                let head = format!("{line} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
                assert_refused(&broker, &format!("{head}{before}{chunk}{SMUGGLED}"), 400);
            }
        }
    }
    assert_nothing_was_smuggled(&broker);
}

/// An HTTP/1.0 front end doesn't know chunks, and passes them on as the next request.
#[test]
fn chunks_in_http_1_0_are_refused() {
    let broker = Broker::start(&[]);
    for connection in ["", "Connection: keep-alive\r\n"] {
        for body in BODIES {
            let head = format!("GET /healthz HTTP/1.0\r\nHost: h\r\n{connection}Transfer-Encoding: chunked\r\n\r\n");
            assert_refused(&broker, &format!("{head}{body}{SMUGGLED}"), 400);
        }
    }
    assert_nothing_was_smuggled(&broker);
}

/// The body of a request that is refused before it is read must not be parsed as a request.
#[test]
fn bodies_of_refused_requests_are_not_requests() {
    let broker = Broker::start(&["--max-body", "40"]);
    let length = SMUGGLED.len();
    let roomy = Broker::start(&[]);
    for (line, status) in [("POST /nothing", 404), ("POST /publish/bad", 400), ("POST /healthz", 405)] {
        let head = format!("{line} HTTP/1.1\r\nHost: h\r\n");
        // The body is dropped, whatever it contains, and the connection stays usable.
        let mut connection = roomy.connect();
        for framed in [
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
            format!("Content-Length: {length}\r\n\r\n{SMUGGLED}"),
        ] {
            connection.send(format!("{head}{framed}"));
            assert_eq!(connection.response().status, status, "{line} {framed}");
        }
        connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(connection.response().text(), "ok", "{line}");
        // Bodies too long to drop, malformed, or possibly never sent: nothing after the head is read.
        let large = format!("{head}Transfer-Encoding: chunked\r\n\r\n10001\r\n{SMUGGLED}");
        assert_refused(&roomy, &large, status);
        assert_refused(&roomy, &format!("{head}Content-Length: 65537\r\n\r\n{SMUGGLED}"), status);
        let asking = format!("{head}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}");
        assert_refused(&roomy, &asking, status);
        let malformed = format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello{SMUGGLED}");
        assert_refused(&roomy, &malformed, 400);
        assert_refused(&broker, &format!("{head}Content-Length: {length}\r\n\r\n{SMUGGLED}"), 413);
    }
    let head = "POST /publish/smuggled1 HTTP/1.1\r\nHost: h\r\n";
    assert_refused(&broker, &format!("{head}Expect: x\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"), 417);
    assert_refused(&broker, &format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}"), 413);
    assert_nothing_was_smuggled(&broker);
    assert_nothing_was_smuggled(&roomy);
}

/// Bytes that a client sends after it has requested a stream are never parsed as a request.
#[test]
fn bytes_sent_on_a_stream_are_not_requests() {
    let broker = Broker::start(&[]);
    for version in ["1.0", "1.1"] {
        let mut connection = broker.connect();
        connection.send(format!("GET /subscribe/listener1 HTTP/{version}\r\nHost: h\r\n\r\n{SMUGGLED}"));
        assert!(connection.head().contains("text/event-stream"));
        connection.send(SMUGGLED);
        broker.assert_healthy();
        assert_eq!(broker.stats()["events_published"], 0);
        connection.shutdown_write();
        let rest = String::from_utf8(connection.read_to_end()).expect("a stream is UTF-8");
        assert!(!rest.contains("HTTP/") && rest.contains("retry: "), "{rest}");
    }
}
