//! Records and their data. What is kept is the same value in the same words, on one line, and what a subscriber gets of it.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::input::Input;
use super::naive::dispatched;
use crate::api::record::Record;
use crate::sse::{Framing, record_frame};
use crate::util::json::{MAX_DEPTH, compact};

/// See the module's page.
pub fn json(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.choice();
    let record = match (choice & 1, std::str::from_utf8(input.0)) {
        (0, _) => Record::parse(input.0),
        (_, Ok(text)) => Record::new("name", text),
        (_, Err(_)) => return,
    };
    match (record, choice & 1) {
        (Ok(record), 0) => {
            judge_members(&record, input.0);
            judge(&record);
        }
        (Ok(record), _) => {
            judge_text(&record, input.0);
            judge(&record);
        }
        (Err(problem), 0) => assert!(problem.status == 400 && !is_good(input.0)),
        (Err(problem), _) => assert!(problem.status == 400 && !is_good_data(input.0)),
    }
}

/// Exactly two members, each once, as serde_json's values have them.
fn judge_members(record: &Record, body: &[u8]) {
    // Numbers beyond all bounds can be kept, and are no value.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let members = value.as_object().expect("a record is an object");
    assert_eq!(members.len(), 2);
    assert_eq!(members["event"], *record.name);
    assert_eq!(Some(&members["data"]), serde_json::from_str(&record.data).ok().as_ref());
}

/// White space between words apart, the data is there as it was written.
fn judge_text(record: &Record, text: &[u8]) {
    let is_space = |b: &u8| b" \t\r\n".contains(b);
    let words = |text: &[u8]| text.iter().copied().filter(|b| !is_space(b)).collect::<Vec<_>>();
    assert_eq!(words(record.data.as_bytes()), words(text));
}

/// Whether there is nothing against it: one object, its name, and data that is not too deep.
fn is_good(body: &[u8]) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return false };
    let is_name = |name: &str| (1..=256).contains(&name.len()) && !name.chars().any(char::is_control);
    let names = members.get("event").and_then(Value::as_str).is_some_and(is_name);
    // A member that is there twice is one in the value, and can be any text inside of the other.
    let text = String::from_utf8_lossy(body);
    let once = |name: &str| text.matches(name).count() == 1 && !text.contains('\\');
    let data = members.get("data").is_some_and(|data| depth(data) < MAX_DEPTH);
    names && data && members.len() == 2 && once("event") && once("data")
}

fn is_good_data(text: &[u8]) -> bool {
    serde_json::from_slice(text).is_ok_and(|value| depth(&value) < MAX_DEPTH)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn judge(record: &Record) {
    let (name, data) = (&record.name, &*record.data);
    assert_eq!(compact(data).as_deref(), Ok(data), "it can't be made shorter");
    assert!(serde_json::from_str::<&RawValue>(data).is_ok_and(|raw| raw.get() == data));
    let frame = record_frame(&Arc::clone(name), data, 7);
    let stream = std::str::from_utf8(frame.wire(Framing::Plain)).expect("text stays text");
    assert_eq!(stream, format!("event: {name}\ndata: {data}\nid: 7\n\n"));
    assert_eq!(dispatched(&format!(":\n{stream}")), [(name.to_string(), data.to_owned(), "7".to_owned())]);
}
