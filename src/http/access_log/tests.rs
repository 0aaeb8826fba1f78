//! The formats, credentials in targets, and attempts to forge lines.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ARRIVAL: Arrival<'_> =
    Arrival { date: "Sun, 06 Nov 1994 08:49:37 GMT", unix_millis: 784_111_777_042, millis: 1_000, client: None };

fn summary<'a>(method: &'a [u8], target: Target<'a>, user_agent: Option<&'a [u8]>) -> Summary<'a> {
    Summary { method, target, version: Version::Http11, user_agent }
}

fn shown(target: &str) -> String {
    target_without_credentials(Target::parse(target).unwrap())
}

#[test]
fn a_common_line_is_that_of_apache() {
    let arrival = Arrival { client: Some("::ffff:192.0.2.1".parse().unwrap()), ..ARRIVAL };
    let target = Target::parse("http://h/stats?a=b").unwrap();
    let mut line = AccessLine::begin(AccessLogFormat::Common, arrival, Some(summary(b"GET", target, Some(b"x"))));
    line.add_sub("user 1");
    let text = line.end(200, Some(42), 1_234);
    assert_eq!(text, "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /stats?a=b HTTP/1.1\" 200 42\n");
    let malformed = AccessLine::begin(AccessLogFormat::Common, ARRIVAL, None).end(400, None, 0);
    assert_eq!(malformed, "unix - - [06/Nov/1994:08:49:37 +0000] \"-\" 400 -\n");
}

#[test]
fn a_json_line_is_an_object() {
    let arrival = Arrival { client: Some("2001:db8::1".parse().unwrap()), ..ARRIVAL };
    let request = summary(b"POST", Target::ASTERISK, Some(b"\"a\"\t\xff\x7f"));
    let mut line = AccessLine::begin(AccessLogFormat::Json, arrival, Some(request));
    line.add_sub("user\\\u{2028}1");
    let text = line.end(200, Some(42), 1_234);
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        found,
        json!({
            "time": "1994-11-06T08:49:37.042Z", "client": "2001:db8::1", "method": "POST", "target": "*",
            "version": "HTTP/1.1", "user_agent": "\"a\"\t\u{fffd}\u{7f}", "sub": "user\\\u{2028}1",
            "status": 200, "bytes": 42, "duration_ms": 234,
        })
    );
    let malformed = AccessLine::begin(AccessLogFormat::Json, ARRIVAL, None).end(408, None, 0);
    let found: Value = serde_json::from_str(&malformed).unwrap();
    assert_eq!(
        found,
        json!({
            "time": "1994-11-06T08:49:37.042Z", "client": "unix", "method": null, "target": null, "version": null,
            "user_agent": null, "status": 408, "bytes": null, "duration_ms": 0,
        })
    );
}

#[test]
fn times_are_those_of_the_date_field() {
    for (seconds, time) in
        [(0, "1970-01-01T00:00:00"), (951_782_400, "2000-02-29T00:00:00"), (1_796_000_000, "2026-11-30T00:53:20")]
    {
        let date = crate::clock::imf_fixdate(seconds);
        let arrival = Arrival { date: &date, unix_millis: seconds * 1000, ..ARRIVAL };
        let text = AccessLine::begin(AccessLogFormat::Json, arrival, None).end(400, None, 0);
        assert!(text.starts_with(&format!("{{\"time\":\"{time}.000Z\"")), "{text}");
    }
}

#[test]
fn credentials_are_replaced() {
    for (target, text) in [
        ("/subscribe/a?token=abc&x=1", "/subscribe/a?token=***&x=1"),
        ("/a?x=1&token=abc&token=def", "/a?x=1&token=***&token=***"),
        ("/a?%74oken=abc", "/a?%74oken=***"),
        ("/a?Token=abc&access_token=abc&id-token=&api_key=k", "/a?Token=***&access_token=***&id-token=***&api_key=***"),
        ("/a?password=a&client_secret=b&jwt=c", "/a?password=***&client_secret=***&jwt=***"),
        ("/a?t=eyJhbGciOi.eyJ.x", "/a?t=***"),
        ("/a?t=%65yJhbGciOi%2EeyJ.x", "/a?t=***"),
        ("/a?t=Bearer+eyJhbGciOi.eyJ.x", "/a?t=***"),
        ("/a?eyJhbGciOi.eyJ.x", "/a?***"),
        ("/a?eyJhbGciOi.eyJ.x=eyJhbGciOi.eyJ.x", "/a?***=***"),
        ("/subscribe/eyJhbGciOi.eyJ.x/b", "/subscribe/***/b"),
        ("/a?token", "/a?token"),
        ("/a?x=token&y=1=2&&z", "/a?x=token&y=1=2&&z"),
        ("/subscribe/eyJournal1", "/subscribe/eyJournal1"),
        ("/", "/"),
    ] {
        assert_eq!(shown(target), text, "{target}");
    }
}

#[test]
fn long_targets_are_truncated_after_credentials_are_replaced() {
    let long = format!("/a?x={}&token=abc", "y".repeat(MAX_TARGET));
    let text = shown(&long);
    assert!(text.len() == MAX_TARGET + 3 && text.ends_with("y..."));
    assert_eq!(shown(&format!("/a?token={}&x=1", "y".repeat(2 * MAX_TARGET))), "/a?token=***&x=1");
}

#[test]
fn other_formats_are_refused() {
    assert_eq!("json".parse(), Ok(AccessLogFormat::Json));
    assert_eq!("common".parse(), Ok(AccessLogFormat::Common));
    assert!(["", "JSON", "combined"].iter().all(|text| text.parse::<AccessLogFormat>().is_err()));
}

proptest! {
    /// Whatever a client sends, a line is one line with the same number of fields.
    #[test]
    fn lines_cannot_be_forged(
        method in prop::collection::vec(any::<u8>(), 0..20),
        path in "(?s).{0,60}",
        query in "(?s).{0,60}",
        agent in prop::option::of(prop::collection::vec(any::<u8>(), 0..400)),
        sub in prop::option::of("(?s).{0,300}"),
    ) {
        let target = Target { authority: None, path: &path, query: crate::http::target::Query(&query) };
        let request = summary(&method, target, agent.as_deref());
        let line = |format| {
            let mut line = AccessLine::begin(format, ARRIVAL, Some(request));
            sub.iter().for_each(|sub| line.add_sub(sub));
            line.end(200, None, 5_000)
        };
        let common = line(AccessLogFormat::Common);
        let rest = common.strip_prefix("unix - - [06/Nov/1994:08:49:37 +0000] \"").unwrap();
        let quoted = rest.strip_suffix(" HTTP/1.1\" 200 -\n").unwrap();
        prop_assert!(quoted.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
        prop_assert_eq!(quoted.matches(' ').count(), 1);
        // No quotation mark ends the request early.
        let escaped = quoted.replace("\\\\", "").replace("\\\"", "");
        prop_assert!(!escaped.contains('"'), "{}", quoted);

        let json = line(AccessLogFormat::Json);
        let is_break = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
        prop_assert_eq!(json.find(is_break), Some(json.len() - 1));
        let object: Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&object["status"], 200);
        prop_assert_eq!(object["duration_ms"].as_u64(), Some(4_000));
        prop_assert_eq!(object["client"].as_str(), Some("unix"));
        let members = object.as_object().unwrap();
        prop_assert_eq!(members.len(), 9 + usize::from(sub.is_some()));
        prop_assert!(json.len() < 8_192, "the bound of the queue's memory");
        if let Some(sub) = sub.filter(|sub| sub.len() <= MAX_SUB) {
            prop_assert_eq!(object["sub"].as_str(), Some(sub.as_str()));
        }
    }

    /// Wherever a token is in the target.
    #[test]
    fn tokens_are_never_shown(
        parts in prop::collection::vec(prop::sample::select(vec!["/", "?", "&", "=", "a", "token=", "%74oken=", "TOKEN", "eyJ0.s3cret.x"]), 0..10),
    ) {
        let text = shown(&format!("/{}", parts.concat()));
        prop_assert!(!text.contains("s3cret"), "{}", text);
    }
}
