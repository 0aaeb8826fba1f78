//! Fuzzes the parsers of request targets, hosts and percent-encoding: the result must be that of a naive parser, and encoding
//! followed by decoding must not change the bytes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use super::naive;
use crate::api::audit::{self, NameSource};
use crate::auth::Validity;
use crate::http::cors::Cors;
use crate::http::response::CommonHeaders;
use crate::http::target::{Query, Target, is_host};
use crate::http::{Origins, ResponseParams, Version};
use crate::hub::TopicName;
use crate::quota::Client;
use crate::sse::position;
use crate::store::{Page, PageQuery, check_name};

/// Runs one input: any bytes, as a name and as a target, host or topic.
pub fn query(bytes: &[u8]) {
    round_trip(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(target) = Target::parse(text) {
        check_target(&target, text);
    }
    if is_host(text) {
        assert!(!text.contains(|c: char| "/?#@\\\"<>^`{|} ".contains(c) || c.is_control() || !c.is_ascii()));
    }
    if let Ok(topic) = TopicName::parse(text) {
        assert!(topic.as_str().eq_ignore_ascii_case(text) && TopicName::parse(topic.as_str()) == Ok(topic));
    }
    assert_eq!(position(position(text)), position(text));
    if check_name(text).is_ok() {
        check_next_page(text);
    }
}

fn check_target(target: &Target<'_>, text: &str) {
    assert!(target.path == "*" || target.path.starts_with('/'));
    assert!(!target.path.contains('?') && text.ends_with(target.query.0));
    assert!(target.path == "/" || text.contains(target.path));
    if !target.path.starts_with("//") {
        assert_eq!(target.segments().count(), target.path.trim_start_matches('/').split('/').count());
    }
    for (segment, plain) in target.segments().zip(target.path.trim_start_matches('/').split('/')) {
        // The first slash of the path begins the first segment; further ones make it empty.
        if target.path.starts_with("//") {
            break;
        }
        match segment {
            Ok(decoded) => assert_eq!(decoded.as_bytes(), decode(plain, false)),
            Err(problem) => assert!(problem.status == 400 && String::from_utf8(decode(plain, false)).is_err()),
        }
    }
    let pairs: Vec<_> = target.query.0.split('&').filter(|pair| !pair.is_empty()).collect();
    for pair in &pairs {
        let name = pair.split('=').next().unwrap_or_default();
        let Ok(name) = String::from_utf8(decode(name, true)) else { continue };
        check_query(target.query, &name, &pairs);
    }
}

fn check_query(query: Query<'_>, name: &str, pairs: &[&str]) {
    let values = pairs.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values: Vec<_> = values.filter(|(found, _)| decode(found, true) == name.as_bytes()).collect();
    let values: Vec<_> = values.into_iter().map(|(_, value)| decode(value, true)).collect();
    assert!(query.has(name));
    assert_eq!(query.get_bytes(name).as_ref(), values.first());
    let first = values.first().cloned().unwrap_or_default();
    let mut texts = values.iter().rev().map(|value| String::from_utf8_lossy(value));
    let last = texts.find(|text| text.bytes().any(|b| !b.is_ascii_whitespace())).map(Cow::into_owned);
    assert_eq!(query.last_among(&[name]), last);
    assert_eq!(query.get(name).ok(), String::from_utf8(first).ok().map(Some));
    let all: Option<Vec<_>> = values.into_iter().map(|value| String::from_utf8(value).ok()).collect();
    assert_eq!(query.all(name).ok(), all);
}

/// Decodes percent-encoding byte by byte. Anything that is not an escape stays unchanged.
fn decode(text: &str, is_form: bool) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut decoded = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        let escaped = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match (first, escaped) {
            (b'%', Some(digits)) => {
                decoded.extend(u8::from_str_radix(digits, 16));
                bytes = &rest[2..];
                continue;
            }
            (b'+', _) if is_form => decoded.push(b' '),
            _ => decoded.push(first),
        }
        bytes = rest;
    }
    decoded
}

/// Encodes any bytes as a segment, a name and a value, and decodes them again.
fn round_trip(bytes: &[u8]) {
    let encoded = bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02x}");
        text
    });
    let text = format!("/a/{encoded}?x=1&v={encoded}&{encoded}=n");
    let target = Target::parse(&text).expect("escapes are allowed everywhere");
    assert_eq!(target.query.get_bytes("v").as_deref(), Some(bytes));
    let segment = target.segments().nth(1).expect("there are two");
    match std::str::from_utf8(bytes) {
        Err(_) => assert!(segment.is_err()),
        Ok(name) => {
            assert_eq!(segment.as_deref(), Ok(name));
            let first = if name == "x" { "1" } else { "n" };
            assert!(name == "v" || target.query.get(name) == Ok(Some(first.to_owned())));
        }
    }
}

/// Checks that the link to the next page of an audit is a target for the same record.
fn check_next_page(name: &str) {
    for name_source in [NameSource::Path, NameSource::Query] {
        let query = PageQuery { name: Arc::from(name), after: 5, limit: 7 };
        check_link(name, &audit::Request { query, name_source, client: Client::Local, validity: Validity::default() });
    }
}

fn check_link(name: &str, request: &audit::Request) {
    let page = Page { body: "{}".into(), next: Some(9) };
    let response = audit::page_response(request, page);
    let params = ResponseParams { version: Version::Http11, keep_alive: true, head_only: false, cors: Cors::Any };
    let mut out = Vec::new();
    params.write(&response, CommonHeaders { date: "now", origins: &Origins::Any }, &mut out);
    let text = String::from_utf8(out).expect("a response is text");
    let responses = naive::parse_responses(&text);
    let link = responses[0].field("Link").expect("there is a next page");
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a link");
    let target = Target::parse(target).expect("a link is a target");
    let named = match request.name_source {
        NameSource::Path => target.after_first_segment().map(|rest| rest.map(Cow::into_owned)),
        NameSource::Query => target.query.get("event").transpose(),
    };
    assert_eq!(named, Some(Ok(name.to_owned())));
    assert_eq!(target.query.get("after"), Ok(Some("9".into())));
}
