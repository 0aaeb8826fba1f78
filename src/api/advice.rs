//! Describes what is wrong with the body of a publish and what to send instead. Recognizes the most common mistakes.

use std::fmt::Write as _;

use crate::http::Problem;
use crate::sse::{Dataless, PublishError};

/// The maximum number of lines of an event without data that are searched for a mistake.
const LINES_SEARCHED: usize = 16;
/// The maximum length of a quoted line in characters; longer ones are truncated.
const MAX_QUOTED: usize = 40;

/// Describes the two ways to send data.
const BOTH_WAYS: &str = "write each line of data as `data: …`, or send Content-Type: text/plain or application/json to publish a body \
                         as the data of one event";

/// Describes SSE text that can't be published: 413 for too many events, 400 for everything else.
pub(super) fn on_text(error: &PublishError, body: &str) -> Problem {
    match error {
        PublishError::Empty if is_blank(body) => Problem::bad_request(format!("the body is empty; {BOTH_WAYS}")),
        PublishError::Empty => Problem::bad_request(
            "the body contains only comments (lines that begin with a colon) and no event; add a line such as `data: hello`",
        ),
        PublishError::NoData(event) => Problem::bad_request(on_dataless(*event, body)),
        PublishError::Id(event, error) => {
            Problem::bad_request(format!("event {event} of the body: {error}; nothing was published"))
        }
        PublishError::TooManyEvents => Problem::new(413, error.to_string()),
    }
}

fn is_blank(body: &str) -> bool {
    body.trim_start_matches('\u{feff}').bytes().all(|b| matches!(b, b'\r' | b'\n'))
}

/// A common mistake, which explains why an event has no data.
enum Mistake<'a> {
    /// A multipart form, from `curl -F` or a page.
    Form,
    /// JSON without its media type.
    Json,
    /// A backslash and `n` instead of a line break, which shells keep in plain quotes.
    Escape,
    /// A field name with capitals, or with whitespace around it.
    Misspelled(&'a str),
    /// `data=`, from a URL-encoded form.
    Assignment,
    /// Text that is not an SSE field.
    Prose(&'a str),
}

fn on_dataless(event: Dataless, body: &str) -> String {
    let mut text = String::new();
    let lines = body[event.at..].split(['\r', '\n']).take_while(|line| !line.is_empty());
    let found =
        lines.take(LINES_SEARCHED).enumerate().find_map(|(offset, line)| Some((offset, mistake(line, event, body)?)));
    // Writing to a string never fails.
    let _ = match found {
        Some((_, Mistake::Form)) => write!(
            text,
            "the body is a form (multipart/form-data, as curl's -F sends it); send the event itself, with curl's -d or \
             --data-binary: {BOTH_WAYS}"
        ),
        Some((_, Mistake::Json)) => write!(
            text,
            "the body looks like JSON, but was read as SSE text and has no `data` line; send Content-Type: application/json to \
             publish it as the data of an event, or write `data: ` before each of its lines (Content-Type: text/plain publishes any \
             other text as data)"
        ),
        Some((offset, Mistake::Escape)) => write!(
            text,
            "line {} contains a backslash followed by n instead of a line break; in a shell write $'event: \
             greeting\\ndata: hello', with the dollar sign, or send a file with --data-binary; {BOTH_WAYS}",
            event.line + offset
        ),
        Some((offset, Mistake::Misspelled(name))) => write!(
            text,
            "line {} begins with `{name}:`; field names are lower case, without white space around them: `data: …`; \
             {BOTH_WAYS}",
            event.line + offset
        ),
        Some((offset, Mistake::Assignment)) => {
            write!(
                text,
                "line {} begins with `data=`; write a colon instead of the equals sign: `data: …`; {BOTH_WAYS}",
                event.line + offset
            )
        }
        Some((offset, Mistake::Prose(line))) => write!(
            text,
            "event {} of the body has no `data`; line {} is {line:?}, which is not an SSE field; {BOTH_WAYS}",
            event.event,
            event.line + offset
        ),
        None => write!(
            text,
            "event {} of the body (line {}) has fields but no `data`; note that a blank line ends an event; add \
             `data: …` (a line with just `data` means empty data), or send Content-Type: text/plain or \
             application/json to publish a body as the data of one event",
            event.event, event.line
        ),
    };
    text.push_str("; nothing was published");
    text
}

/// Recognizes the mistake in a line of an event without data. `None` if the line is a valid field.
fn mistake<'a>(line: &'a str, event: Dataless, body: &str) -> Option<Mistake<'a>> {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    if event.event == 1 && is_form(body) {
        Some(Mistake::Form)
    } else if event.event == 1 && is_json(body) {
        Some(Mistake::Json)
    } else if value.contains("\\n") && value.contains("data") {
        Some(Mistake::Escape)
    } else if matches!(name, "event" | "id" | "retry" | "") {
        None
    } else if name.trim().eq_ignore_ascii_case("data") && line.contains(':') {
        Some(Mistake::Misspelled(name))
    } else if line.starts_with("data=") {
        Some(Mistake::Assignment)
    } else {
        let end = line.char_indices().nth(MAX_QUOTED).map_or(line.len(), |(at, _)| at);
        Some(Mistake::Prose(&line[..end]))
    }
}

/// Returns whether the body begins like JSON. Skips a limited amount of whitespace.
fn is_json(body: &str) -> bool {
    body.chars().take(MAX_QUOTED).find(|char| !char.is_whitespace()).is_some_and(|char| matches!(char, '{' | '['))
}

/// Returns whether the body begins like `multipart/form-data`: with a boundary and the disposition of a part (RFC 7578).
fn is_form(body: &str) -> bool {
    const FIELD: &[u8] = b"content-disposition: form-data";
    // A boundary has at most 70 characters (RFC 2046 section 5.1.1).
    let begin = &body.as_bytes()[..body.len().min(256)];
    let Some(end) = memchr::memmem::find(begin, b"\r\n") else { return false };
    let second = begin[end + 2..].get(..FIELD.len());
    begin.starts_with(b"--") && second.is_some_and(|second| second.eq_ignore_ascii_case(FIELD))
}

/// Creates a 400 for text/plain that is SSE text. A browser's `fetch` sends strings with this type by default.
pub(super) fn on_fields_as_data() -> Problem {
    Problem::bad_request(
        "every line of the body is an SSE field, such as `data: …`, but its Content-Type, text/plain (the default \
         of a browser's fetch for strings), means that the body is data; send Content-Type: text/event-stream to \
         publish the event; if these lines themselves are the data, write `data: ` before each of them, or send \
         them as a JSON string with Content-Type: application/json",
    )
}

/// Creates a 400 for application/json that is not JSON.
pub(super) fn on_json(error: &serde_json::Error, body: &str) -> Problem {
    if body.is_empty() {
        return Problem::bad_request("the body is empty, but its Content-Type is application/json; send a JSON value");
    }
    Problem::bad_request(format!(
        "the Content-Type is application/json, but the body is not valid JSON: {error}; correct it, or send other \
         data as text/plain, or SSE text such as `data: hello` as text/event-stream"
    ))
}

/// Creates a 400 for `?event=` or `?id=` with more than one event.
pub(super) fn on_several(events: usize) -> Problem {
    Problem::bad_request(format!(
        "the query parameters event and id apply to a single event, but the body has {events}; write `event: …` and \
         `id: …` in the body, or send each event in its own request"
    ))
}

/// Creates a 400 for a field that has different values in the event and in the query.
pub(super) fn on_conflict(field: &str) -> Problem {
    Problem::bad_request(format!(
        "the event's line `{field}: …` and the query parameter {field} have different values; leave one of them out"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::frames_from_text;

    fn advice(body: &str) -> String {
        on_text(&frames_from_text(body).expect_err("it is refused"), body).detail.into_owned()
    }

    #[test]
    fn common_mistakes_are_recognized() {
        let form = "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\nhello\r\n\
                    --------------------------d74496d66958873e--\r\n";
        for (body, part) in [
            ("", "the body is empty"),
            ("\u{feff}\n\r\n", "the body is empty"),
            (": note", "only comments"),
            ("hello", "line 1 is \"hello\""),
            ("event: greeting\nhello", "line 2 is \"hello\""),
            ("data: x\n\n\nbuy milk", "event 2 of the body has no `data`; line 4 is \"buy milk\""),
            ("{\"data\": 1}", "looks like JSON"),
            (" [\n1]", "looks like JSON"),
            (form, "is a form"),
            ("event: greeting\\ndata: hello", "line 1 contains a backslash"),
            ("id: 1\nData: hello", "line 2 begins with `Data:`"),
            (" data: hello", "line 1 begins with ` data:`"),
            ("data=hello", "begins with `data=`"),
            ("event: x\r\n\r\ndata: y", "event 1 of the body (line 1) has fields but no `data`"),
            ("id: a\u{1}\ndata: x", "event 1 of the body: an event's id must not contain"),
        ] {
            let text = advice(body);
            assert!(text.contains(part), "{body:?}: {text}");
            let may_be_short = part.contains("comments") || part.contains("an event's id");
            let ways = ["data: ", "text/plain", "application/json"];
            assert!(
                may_be_short || ways.iter().all(|way| text.contains(way) || text.contains("`data` ")),
                "{body:?}: {text}"
            );
        }
    }

    #[test]
    fn quoted_lines_are_truncated() {
        let text = advice(&"é".repeat(100_000));
        assert!(text.contains(&format!("\"{}\"", "é".repeat(MAX_QUOTED))) && text.len() < 500, "{text}");
        assert!(advice(&"x\n".repeat(100_000)).len() < 500);
    }
}
