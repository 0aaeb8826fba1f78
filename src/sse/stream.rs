//! The bytes of a stream that no publisher sent: opening, priming, heartbeat, gap, expiry and end.
//! API.md, section Streams, says why each has the blank lines it has.

use std::fmt::Write as _;

use serde_json::Value;

use super::frame::{Framing, chunk};

/// The opening lines: a comment and the reconnection time, without a blank line. With `prime` the
/// newest id and a blank line follow, which an EventSource stores without dispatching anything.
pub fn opening(retry_millis: u64, prime: Option<u64>, framing: Framing, out: &mut Vec<u8>) {
    let mut text = format!(":\nretry: {retry_millis}\n");
    if let Some(id) = prime {
        let _ = writeln!(text, "id: {id}\n");
    }
    chunk(text.as_bytes(), framing, out);
}

/// What a stream that is not taken begins and ends with: a comment that says why, and when to come back.
pub fn reconnect_later(why: &str, retry_millis: u64, framing: Framing, out: &mut Vec<u8>) {
    chunk(format!(": {why}\nretry: {retry_millis}\n").as_bytes(), framing, out);
    out.extend_from_slice(end(framing));
}

/// Tells that events after `after` are gone. Has no id, so that the client's position stays as it is.
pub fn gap(after: &str, oldest: Option<u64>, framing: Framing, out: &mut Vec<u8>) {
    let after = Value::from(after);
    let oldest = oldest.map_or(Value::Null, |id| Value::from(id.to_string()));
    let text = format!("event: gap\ndata: {{\"after\":{after},\"oldest\":{oldest}}}\n\n");
    chunk(text.as_bytes(), framing, out);
}

/// What is sent after a silence: a comment without a blank line.
pub fn heartbeat(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Chunked => b"2\r\n:\n\r\n",
        Framing::Plain => b":\n",
    }
}

/// The last chunk; a stream without chunks ends with its connection.
pub fn end(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Chunked => b"0\r\n\r\n",
        Framing::Plain => b"",
    }
}

/// Tells that the token has expired, and ends the stream.
pub fn expired(framing: Framing) -> Vec<u8> {
    let mut out = Vec::new();
    chunk(b"event: expired\ndata: {\"reason\":\"token expired\"}\n\n", framing, &mut out);
    out.extend_from_slice(end(framing));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_json_whatever_the_position_was() {
        let mut out = Vec::new();
        gap("a\"\u{1}\u{e9}", Some(5), Framing::Plain, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "event: gap\ndata: {\"after\":\"a\\\"\\u0001é\",\"oldest\":\"5\"}\n\n");
    }

    #[test]
    fn a_stream_that_is_not_taken_says_why_and_ends_without_an_event() {
        let (mut chunked, mut plain) = (Vec::new(), Vec::new());
        reconnect_later("full", 5000, Framing::Chunked, &mut chunked);
        reconnect_later("full", 5000, Framing::Plain, &mut plain);
        assert_eq!(chunked, b"13\r\n: full\nretry: 5000\n\r\n0\r\n\r\n");
        assert_eq!(plain, b": full\nretry: 5000\n");
    }

    #[test]
    fn the_opening_has_no_blank_line_unless_primed() {
        let (mut plain, mut primed) = (Vec::new(), Vec::new());
        opening(3000, None, Framing::Chunked, &mut plain);
        opening(3000, Some(9), Framing::Plain, &mut primed);
        assert_eq!(plain, b"e\r\n:\nretry: 3000\n\r\n");
        assert_eq!(primed, b":\nretry: 3000\nid: 9\n\n");
    }
}
