//! Finds the sessions of brokers. This takes as long as the server has keys, because they are in no list.

use std::collections::BTreeSet;

use redis::Value;

use crate::engine::log::LogError;
use crate::engine::redis::wire::Wire;
use crate::engine::redis::{Keys, error, value};

/// How many keys the server looks at before it answers.
const STEP: usize = 1000;
/// The most sessions. More are an error.
const MAX_SESSIONS: usize = 10_000;

/// Returns the keys of all sessions.
pub fn sessions(wire: &mut Wire, keys: &Keys) -> Result<BTreeSet<String>, LogError> {
    let pattern = format!("{}*", escape(&keys.session));
    let (mut found, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let mut command = redis::cmd("SCAN");
        let answer = wire.call(command.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP))?;
        let (next, keys) = read(answer).ok_or_else(|| value::malformed("the answer to SCAN"))?;
        found.extend(keys);
        if found.len() > MAX_SESSIONS {
            return Err(error::setup(format!("it has more than {MAX_SESSIONS} sessions of brokers")));
        }
        if next == "0" {
            return Ok(found);
        }
        cursor = next;
    }
}

fn read(answer: Value) -> Option<(String, Vec<String>)> {
    let [cursor, keys] = <[Value; 2]>::try_from(value::list(answer)?).ok()?;
    Some((value::text(cursor)?, value::list(keys)?.into_iter().filter_map(value::text).collect()))
}

/// Escapes what is special in a pattern.
fn escape(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for character in key.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escape("{a*b[c]?\\d}:1:s:"), "{a\\*b\\[c\\]\\?\\\\d}:1:s:");
    }
}
