//! What a client makes of a stream and of answers: slow, plain, and written from the standards rather than from the code
//! that writes them.

/// What an EventSource dispatches: name, data and last event id.
pub type Dispatched = (String, String, String);

/// The standard's own algorithm (HTML, section 9.2.6), step by step. The id is what one of the event's own lines says, and
/// else that of the event before.
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

/// Whether every line of a text is a field of an event, with its colon; comments and blank lines may stand between them.
pub fn is_all_fields(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty() && !line.starts_with(':')).peekable();
    lines.peek().is_some()
        && lines.all(|line| ["data:", "event:", "id:", "retry:"].iter().any(|name| line.starts_with(name)))
}

/// One answer as a client reads it.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its fields, as they stand there.
    pub fields: Vec<(&'a str, &'a str)>,
    /// All that belongs to it beside the head. Of a stream, everything.
    pub body: &'a str,
}

impl Answer<'_> {
    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// Whether it is a stream.
    pub fn is_stream(&self) -> bool {
        self.field("Content-Type") == Some("text/event-stream")
    }
}

/// All answers of a connection. An answer to HEAD is told by what follows its head: another one, or nothing.
pub fn answers(mut text: &str) -> Vec<Answer<'_>> {
    let mut answers = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let mut lines = head.split("\r\n");
        let status = status(lines.next().unwrap_or_default());
        let fields = lines.map(field).collect();
        let mut answer = Answer { status, fields, body: "" };
        let has_no_body = rest.is_empty() || rest.starts_with("HTTP/1.1 ");
        let length = match answer.field("Content-Length") {
            _ if has_no_body => 0,
            Some(length) => length.parse().expect("a length is a number"),
            None if answer.is_stream() => rest.len(),
            None => 0,
        };
        (answer.body, text) = rest.split_at_checked(length).expect("a body has its length");
        answers.push(answer);
    }
    answers
}

fn status(line: &str) -> u16 {
    let rest = line.strip_prefix("HTTP/1.1 ").expect("an answer begins with its version");
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

/// The text of whole chunks, and whether the last one was there.
pub fn unchunked(mut text: &str) -> (String, bool) {
    let mut all = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk has a size");
        let data = rest.get(..size).expect("a chunk has its size");
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
