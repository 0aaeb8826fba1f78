//! Event ids as clients send them back to resume.

/// The longest publisher id in bytes: a client must be able to send it back in a request head.
pub const MAX_PUBLISHER_ID: usize = 4096;

/// Returns an id as a client can send it back: HTTP does not preserve whitespace around a field value.
pub fn position(id: &str) -> &str {
    id.trim_matches([' ', '\t'])
}
