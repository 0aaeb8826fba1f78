//! What the broker itself writes to a stream: the opening, heartbeats, gaps, positions, the expiry and the end.
//!
//! A blank line makes an EventSource dispatch the pending event and store its id (WHATWG HTML, section 9.2.6). So the opening
//! and heartbeats have none: a subscriber that receives only these keeps its position.

use serde_json::Value;

use super::frame::{Framing, chunk};

/// Writes the opening: a comment and the reconnection time, without a blank line. With `prime`, the newest id and a blank line
/// follow; an EventSource stores this id without dispatching an event.
pub fn opening(retry_millis: u64, prime: Option<u64>, framing: Framing, out: &mut Vec<u8>) {
    let mut text = format!(":\nretry: {retry_millis}\n");
    if let Some(id) = prime {
        text.push_str(&position_text(id));
    }
    chunk(text.as_bytes(), framing, out);
}

/// Writes the whole body of a stream that is not accepted: a comment with the reason, and the time after which to reconnect.
pub fn reconnect_later(why: &str, retry_millis: u64, framing: Framing, out: &mut Vec<u8>) {
    chunk(format!(": {why}\nretry: {retry_millis}\n").as_bytes(), framing, out);
    out.extend_from_slice(end(framing));
}

/// Writes a `gap` event, which reports that events after `after` are no longer retained. It has no id, so that the client keeps
/// its position.
pub fn gap(after: &str, oldest: Option<u64>, framing: Framing, out: &mut Vec<u8>) {
    let after = Value::from(after);
    let oldest = oldest.map_or(Value::Null, |id| Value::from(id.to_string()));
    let text = format!("event: gap\ndata: {{\"after\":{after},\"oldest\":{oldest}}}\n\n");
    chunk(text.as_bytes(), framing, out);
}

/// Writes a position: an id and a blank line. An EventSource stores the id without dispatching an event.
pub fn position(id: u64, framing: Framing, out: &mut Vec<u8>) {
    chunk(position_text(id).as_bytes(), framing, out);
}

fn position_text(id: u64) -> String {
    format!("id: {id}\n\n")
}

/// Returns what is sent to an idle stream: a comment without a blank line.
pub fn heartbeat(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Chunked => b"2\r\n:\n\r\n",
        Framing::Plain => b":\n",
    }
}

/// Returns the last chunk (RFC 9112 section 7.1). A stream without chunks ends when the connection is closed.
pub fn end(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Chunked => b"0\r\n\r\n",
        Framing::Plain => b"",
    }
}

/// Returns an `expired` event, which reports why the token is not valid any more, and the end of the stream.
pub fn expired(reason: &str, framing: Framing) -> Vec<u8> {
    let mut out = Vec::new();
    chunk(format!("event: expired\ndata: {{\"reason\":\"{reason}\"}}\n\n").as_bytes(), framing, &mut out);
    out.extend_from_slice(end(framing));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_in_a_gap_is_escaped_as_json() {
        let mut out = Vec::new();
        gap("a\"\u{1}\u{e9}", Some(5), Framing::Plain, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "event: gap\ndata: {\"after\":\"a\\\"\\u0001é\",\"oldest\":\"5\"}\n\n");
    }

    #[test]
    fn a_refused_stream_has_a_reason_and_no_event() {
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
