//! Parses the body of an insert: `{"event":…,"data":…}`. The data is kept byte for byte, except for insignificant whitespace.

use std::fmt::Display;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::not_utf8;
use crate::http::Problem;
use crate::records::NewRecord;
use crate::store;
use crate::util::json;

/// The maximum length of data in bytes. SQLite's limit is a billion.
pub const MAX_DATA: usize = 500_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    event: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Parses a request's body.
pub fn parse(body: &[u8]) -> Result<NewRecord, Problem> {
    let text = std::str::from_utf8(body).map_err(not_utf8)?;
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    // serde also accepts the list of a name and data as a struct.
    if !text.trim_start().starts_with('{') {
        return Err(malformed(&"it is a list"));
    }
    check_name(&members.event)?;
    Ok(NewRecord { name: members.event.into(), data: compact(members.data.get())? })
}

/// Creates a record from a name and JSON.
pub fn create(name: &str, json: &str) -> Result<NewRecord, Problem> {
    check_name(name)?;
    let data: &RawValue =
        serde_json::from_str(json).map_err(|error| Problem::bad_request(format!("the data is not JSON: {error}")))?;
    Ok(NewRecord { name: name.into(), data: compact(data.get())? })
}

fn malformed(reason: &dyn Display) -> Problem {
    Problem::bad_request(format!(
        "the body must be {{\"event\":<name>,\"data\":<any JSON>}}, with each member once and no others: {reason}"
    ))
}

/// Returns 400 unless a record can have this name, which must fit on a line of the stream and in a path.
pub fn check_name(name: &str) -> Result<(), Problem> {
    store::check_name(name).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Removes insignificant whitespace from JSON. Returns 413 if it is longer than [`MAX_DATA`].
fn compact(text: &str) -> Result<Box<str>, Problem> {
    if text.len() > MAX_DATA {
        return Err(Problem::new(
            413,
            "the data is longer than 500 million bytes; store it elsewhere and insert a link to it",
        ));
    }
    json::compact(text).map_err(|error| Problem::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn data(body: &str) -> Result<String, u16> {
        parse(body.as_bytes()).map(|record| record.data.into()).map_err(|problem| problem.status)
    }

    #[test]
    fn data_is_kept_as_it_was_written() {
        for text in [
            "1",
            "null",
            r#""a \" b  c\\""#,
            "12345678901234567890123456789.10e+400",
            r#"{"b":1,"a":2,"b":3}"#,
            r#"["\u0000\ud800","é☂"]"#,
            "-0",
        ] {
            assert_eq!(data(&format!(r#"{{"event":"user","data":{text}}}"#)).as_deref(), Ok(text));
        }
        assert_eq!(
            data("{ \"data\" : [ 1 ,\r\n\t{ \"a b\" : \" \" } ] , \"event\":\"u\"}").as_deref(),
            Ok(r#"[1,{"a b":" "}]"#)
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "",
            "[]",
            r#"{"event":"user"}"#,
            r#"{"data":1}"#,
            r#"{"event":5,"data":1}"#,
            r#"{"event":"","data":1}"#,
            r#"{"event":"a\nb","data":1}"#,
            r#"{"event":"a\u0085b","data":1}"#,
            r#"{"event":"user","data":1,"more":2}"#,
            r#"{"event":"user","event":"user","data":1}"#,
            r#"{"event":"user","data":01}"#,
            r#"{"event":"user","data":{]}"#,
            r#"{"event":"user","data":1} x"#,
            r#"["user",1]"#,
            r#" ["user",{"event":"user","data":1}]"#,
            "\u{feff}{\"event\":\"user\",\"data\":1}",
        ] {
            assert_eq!(data(bad), Err(400), "{bad}");
        }
        assert_eq!(parse(b"\xff").map_err(|problem| problem.status).unwrap_err(), 400);
        assert!(data(&format!(r#"{{"event":"{}","data":1}}"#, "n".repeat(256))).is_ok());
        assert_eq!(data(&format!(r#"{{"event":"{}","data":1}}"#, "n".repeat(257))), Err(400));
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| format!(r#"{{"event":"u","data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(data(&nested(128)).is_ok());
        assert_eq!(data(&nested(129)), Err(400));
        assert_eq!(data(&nested(400_000)), Err(400));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whitespace_makes_no_difference(value in json()) {
            let body = |data: String| format!(r#"{{"event":"u","data":{data}}}"#);
            let pretty = data(&body(serde_json::to_string_pretty(&value).unwrap()));
            prop_assert_eq!(pretty, Ok(value.to_string()));
        }
    }
}
