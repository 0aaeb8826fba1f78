//! Event ids as clients send them back in `Last-Event-ID` to resume.

/// The maximum length of a publisher id in bytes. A client must be able to send it back in a request head.
pub const MAX_PUBLISHER_ID: usize = 4096;

/// Returns an id without surrounding whitespace, which HTTP does not preserve around a field value (RFC 9110 section 5.5).
pub fn position(id: &str) -> &str {
    id.trim_matches([' ', '\t'])
}
