//! Parses the header fields of an insert that contain its condition and its idempotency key.

use crate::http::Problem;
use crate::http::entity_tag::IfMatch;
use crate::http::head::ConditionFields;
use crate::ids::parse_id;
use crate::records::insert::{Condition, IdempotencyKey};

/// Parses the condition and the key.
pub(super) fn parse(fields: &ConditionFields<'_>) -> Result<(Condition, Option<IdempotencyKey>), Problem> {
    if let Some(name) = fields.repeated {
        return Err(Problem::bad_request(format!("the request has more than one {name} field; send one")));
    }
    Ok((condition(fields)?, fields.idempotency_key.map(key).transpose()?))
}

fn condition(fields: &ConditionFields<'_>) -> Result<Condition, Problem> {
    match (fields.if_match, fields.if_none_match) {
        (None, None) => Ok(Condition::Always),
        (Some(value), None) => if_match(value),
        (None, Some(b"*")) => Ok(Condition::Absent),
        (None, Some(_)) => Err(Problem::bad_request(
            "the only supported If-None-Match is *, which stores the record if there is no version of it; to replace a \
             version, send its id as If-Match: \"<id>\"",
        )),
        (Some(_), Some(_)) => Err(Problem::bad_request(
            "the request has both If-Match and If-None-Match; send If-Match: \"<id>\" to replace that version, or \
             If-None-Match: * to store the first one",
        )),
    }
}

fn if_match(value: &[u8]) -> Result<Condition, Problem> {
    match IfMatch::parse(value) {
        Some(IfMatch::Any) => Ok(Condition::Exists),
        Some(IfMatch::Strong(tags)) => {
            // A tag that is not an id matches nothing.
            let id = |tag: &[u8]| std::str::from_utf8(tag).ok().and_then(parse_id);
            Ok(Condition::NewestIs(tags.into_iter().filter_map(id).collect()))
        }
        None => Err(Problem::bad_request(
            "the If-Match field is malformed; send the id of the newest version in quotation marks, as in If-Match: \
             \"1795304931407762\", several of them separated by commas, or *",
        )),
    }
}

fn key(value: &[u8]) -> Result<IdempotencyKey, Problem> {
    std::str::from_utf8(value).ok().and_then(IdempotencyKey::new).ok_or_else(|| {
        Problem::bad_request(
            "the Idempotency-Key must have 1 to 128 bytes of printable ASCII, such as a UUID; use a new one for each \
             record",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Condition, String> {
        let (if_match, if_none_match) = (if_match.map(str::as_bytes), if_none_match.map(str::as_bytes));
        let fields = ConditionFields { if_match, if_none_match, ..ConditionFields::default() };
        parse(&fields).map(|(condition, _)| condition).map_err(|problem| problem.detail.into())
    }

    #[test]
    fn conditions_are_those_of_rfc_9110() {
        let ids = |ids: &[u64]| Condition::NewestIs(ids.into());
        for (value, condition) in [
            ("*", Condition::Exists),
            ("\"17\"", ids(&[17])),
            ("\"17\", W/\"18\", \"x\", \"019\", \"20\"", ids(&[17, 20])),
            ("W/\"17\"", ids(&[])),
        ] {
            assert_eq!(parsed(Some(value), None), Ok(condition), "{value}");
        }
        assert_eq!(parsed(None, Some("*")), Ok(Condition::Absent));
        assert_eq!(parsed(None, None), Ok(Condition::Always));
        for (if_match, if_none_match, words) in [
            (Some("17"), None, "quotation marks"),
            (None, Some("\"17\""), "the only supported If-None-Match is *"),
            (None, Some(""), "the only supported If-None-Match is *"),
            (Some("*"), Some("*"), "both"),
        ] {
            let detail = parsed(if_match, if_none_match).unwrap_err();
            assert!(detail.contains(words), "{detail}");
        }
    }
}
