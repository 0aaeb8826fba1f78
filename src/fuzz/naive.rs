//! Naive parsers of event streams and responses. They follow the standards, step by step and without any optimization, and
//! share no code with the broker.

/// An event as an EventSource dispatches it: name, data and last event id.
pub type Dispatched = (String, String, String);

/// Returns the events that an EventSource dispatches, by the algorithm of the HTML standard, section 9.2.6. An event without
/// its own id has that of the previous event.
pub fn dispatched(stream: &str) -> Vec<Dispatched> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let (mut name, mut data, mut id) = (String::new(), String::new(), String::new());
    let mut dispatched = Vec::new();
    for line in stream.split('\n').chain([""]) {
        if line.is_empty() {
            if !data.is_empty() {
                data.pop();
                dispatched.push((name.clone(), data.clone(), id.clone()));
            }
            (name, data) = (String::new(), String::new());
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => id = value.to_owned(),
            _ => {}
        }
    }
    dispatched
}

/// Returns whether a text has at least one field of an event, and every line is a field with a colon, a comment or blank.
pub fn is_all_fields(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty() && !line.starts_with(':')).peekable();
    lines.peek().is_some()
        && lines.all(|line| ["data:", "event:", "id:", "retry:"].iter().any(|name| line.starts_with(name)))
}

/// A response as a client reads it.
#[derive(Debug)]
pub struct ParsedResponse<'a> {
    /// The status code.
    pub status: u16,
    /// The header fields, unchanged.
    pub fields: Vec<(&'a str, &'a str)>,
    /// The content. For a stream, all bytes that follow the head.
    pub body: &'a str,
}

impl ParsedResponse<'_> {
    /// Returns the value of a header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// Returns whether the response is an event stream.
    pub fn is_stream(&self) -> bool {
        self.field("Content-Type") == Some("text/event-stream")
    }
}

/// Parses all responses of a connection. A response without content, as to HEAD, is followed by another response or by nothing.
pub fn parse_responses(mut text: &str) -> Vec<ParsedResponse<'_>> {
    let mut responses = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").expect("a response has a head");
        let mut lines = head.split("\r\n");
        let status = status(lines.next().unwrap_or_default());
        let fields = lines.map(field).collect();
        let mut response = ParsedResponse { status, fields, body: "" };
        let has_no_body = rest.is_empty() || rest.starts_with("HTTP/1.1 ");
        let length = match response.field("Content-Length") {
            _ if has_no_body => 0,
            Some(length) => length.parse().expect("the length is a number"),
            None if response.is_stream() => rest.len(),
            None => 0,
        };
        (response.body, text) = rest.split_at_checked(length).expect("the body is complete");
        responses.push(response);
    }
    responses
}

fn status(line: &str) -> u16 {
    let rest = line.strip_prefix("HTTP/1.1 ").expect("a response begins with its version");
    let (code, reason) = rest.split_once(' ').expect("a status has a reason");
    assert!(code.len() == 3 && !reason.is_empty(), "{line:?}");
    code.parse().expect("a status is a number")
}

fn field(line: &str) -> (&str, &str) {
    let (name, value) = line.split_once(": ").expect("a field has a name and a value");
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{line:?}");
    assert!(!value.bytes().any(|b| b.is_ascii_control()), "{line:?}");
    (name, value)
}

/// Decodes complete chunks. Returns their text, and whether the last chunk was among them.
pub fn unchunked(mut text: &str) -> (String, bool) {
    let mut all = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk has a size");
        let data = rest.get(..size).expect("a chunk is complete");
        text = rest[size..].strip_prefix("\r\n").expect("a chunk ends in CRLF");
        all.push_str(data);
        if size == 0 {
            assert_eq!(text, "", "nothing follows the last chunk");
            return (all, true);
        }
    }
    assert_eq!(text, "", "a chunk has a size line");
    (all, false)
}
