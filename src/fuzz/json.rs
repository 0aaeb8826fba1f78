//! Fuzzes the parser of records. The stored data must be the same value with the same spelling, on one line; a subscriber must
//! receive it unchanged; and only invalid records may be refused.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::input::Input;
use super::naive::dispatched;
use crate::api::record;
use crate::records::{NewRecord, Record};
use crate::sse::{Framing, record_frame};
use crate::util::json::{MAX_DEPTH, compact};

/// Runs one input: a byte that chooses between a request's body and a record's data, and its text.
pub fn json(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.choice();
    let record = match (choice & 1, std::str::from_utf8(input.0)) {
        (0, _) => record::parse(input.0),
        (_, Ok(text)) => record::create("name", text),
        (_, Err(_)) => return,
    };
    match (record, choice & 1) {
        (Ok(record), 0) => {
            check_members(&record, input.0);
            check(&record);
        }
        (Ok(record), _) => {
            check_text(&record, input.0);
            check(&record);
        }
        (Err(problem), 0) => assert!(problem.status == 400 && !is_valid(input.0)),
        (Err(problem), _) => assert!(problem.status == 400 && !is_valid_data(input.0)),
    }
}

/// Checks that the record has the two members of the body, as serde_json parses them.
fn check_members(record: &NewRecord, body: &[u8]) {
    // A record may contain numbers that are too large for serde_json's values.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let members = value.as_object().expect("a record is an object");
    assert_eq!(members.len(), 2);
    assert_eq!(members["event"], *record.name);
    assert_eq!(Some(&members["data"]), serde_json::from_str(&record.data).ok().as_ref());
}

/// Checks that the data is unchanged except for whitespace.
fn check_text(record: &NewRecord, text: &[u8]) {
    let is_space = |b: &u8| b" \t\r\n".contains(b);
    let without_space = |text: &[u8]| text.iter().copied().filter(|b| !is_space(b)).collect::<Vec<_>>();
    assert_eq!(without_space(record.data.as_bytes()), without_space(text));
}

/// Returns whether a body is certainly valid: one object with a name, and data that is not nested too deep.
fn is_valid(body: &[u8]) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return false };
    let is_name = |name: &str| (1..=256).contains(&name.len()) && !name.chars().any(char::is_control);
    let names = members.get("event").and_then(Value::as_str).is_some_and(is_name);
    // serde_json's value has only one of two members with the same name, so count the names in the text. A name may also occur
    // within the data, in which case the body is not certainly valid.
    let text = String::from_utf8_lossy(body);
    let once = |name: &str| text.matches(name).count() == 1 && !text.contains('\\');
    let data = members.get("data").is_some_and(|data| depth(data) < MAX_DEPTH);
    names && data && members.len() == 2 && once("event") && once("data")
}

fn is_valid_data(text: &[u8]) -> bool {
    serde_json::from_slice(text).is_ok_and(|value| depth(&value) < MAX_DEPTH)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Checks that the data can't be compacted further, and that a subscriber receives it.
fn check(record: &NewRecord) {
    let (name, data) = (&record.name, &*record.data);
    assert_eq!(compact(data).as_deref(), Ok(data), "the data is compact");
    assert!(serde_json::from_str::<&RawValue>(data).is_ok_and(|raw| raw.get() == data));
    let frame = record_frame(&Record::shared(Arc::clone(name), data, 7));
    let stream = std::str::from_utf8(frame.wire(Framing::Plain)).expect("a frame of UTF-8 text is UTF-8");
    assert_eq!(stream, format!("event: {name}\ndata: {data}\nid: 7\n\n"));
    assert_eq!(dispatched(&format!(":\n{stream}")), [(name.to_string(), data.to_owned(), "7".to_owned())]);
}
