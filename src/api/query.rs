//! Query parameters that several routes have.

use crate::http::{Head, Problem};

/// Returns a query parameter that is a whole number.
pub(super) fn number(head: &Head<'_>, name: &str) -> Result<Option<u64>, Problem> {
    let Some(text) = head.target.query.get(name)? else { return Ok(None) };
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.map(Some).ok_or_else(|| Problem::bad_request(format!("the query parameter {name} must be a whole number")))
}

/// Returns the maximum length of a page, from the query parameter `limit`.
pub(super) fn page_limit(head: &Head<'_>, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(number) = number(head, "limit")? else { return Ok(default) };
    let limit = usize::try_from(number).ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| Problem::bad_request(format!("the query parameter limit must be between 1 and {max}")))
}
