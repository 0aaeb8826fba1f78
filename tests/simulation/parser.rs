//! A client's own parser of HTTP responses and event streams, from bytes that arrive in pieces. Deliberately simple, and
//! independent of the broker's code.

/// A whole response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Removes the next response from the bytes, if it is whole. Its body has a `Content-Length`.
pub fn take_response(bytes: &mut Vec<u8>) -> Option<Response> {
    let (status, head, begin) = split_head(bytes)?;
    let length = field(&head, "Content-Length").map_or(0, |text| text.parse().expect("a length"));
    if bytes.len() < begin + length {
        return None;
    }
    let body = bytes[begin..begin + length].to_vec();
    bytes.drain(..begin + length);
    Some(Response { status, head, body })
}

/// Returns the status, the head, and where the body begins.
pub fn split_head(bytes: &[u8]) -> Option<(u16, String, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is ASCII");
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status line");
    Some((status.parse().expect("a status"), head, end))
}

/// Returns a field's value.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    Event {
        id: String,
        name: String,
        data: String,
    },
    Gap {
        oldest: Option<u64>,
    },
    Expired,
    Erased {
        id: u64,
        name: String,
    },
    /// The newest id, without an event.
    Prime {
        id: u64,
    },
    /// The last chunk.
    End,
}

/// A stream and its bytes that are not yet parsed.
#[derive(Debug, Default)]
pub struct Stream {
    /// It has no chunks, as in HTTP/1.0.
    is_plain: bool,
    bytes: Vec<u8>,
    text: String,
    is_over: bool,
}

impl Stream {
    /// A stream without chunks.
    pub fn plain() -> Self {
        Self { is_plain: true, ..Self::default() }
    }

    pub fn is_chunked(&self) -> bool {
        !self.is_plain
    }

    /// Adds bytes. Returns every item that is whole by now.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<StreamItem> {
        self.bytes.extend_from_slice(bytes);
        let mut items = Vec::new();
        if self.is_plain {
            let whole = self.bytes.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
            let bytes: Vec<u8> = self.bytes.drain(..whole).collect();
            self.read(&bytes, &mut items);
            return items;
        }
        while let Some(chunk) = self.take_chunk() {
            if chunk.is_empty() {
                self.is_over = true;
                items.push(StreamItem::End);
                assert!(self.bytes.is_empty(), "nothing follows the last chunk");
                return items;
            }
            self.read(&chunk, &mut items);
        }
        items
    }

    fn read(&mut self, bytes: &[u8], items: &mut Vec<StreamItem>) {
        self.text.push_str(std::str::from_utf8(bytes).expect("UTF-8"));
        while let Some(end) = self.text.find("\n\n") {
            let rest = self.text.split_off(end + 2);
            items.extend(read_block(&std::mem::replace(&mut self.text, rest)));
        }
    }

    fn take_chunk(&mut self) -> Option<Vec<u8>> {
        assert!(!self.is_over || self.bytes.is_empty(), "nothing follows the last chunk");
        let line = self.bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = std::str::from_utf8(&self.bytes[..line]).expect("a chunk size is ASCII");
        let size = usize::from_str_radix(digits, 16).expect("a chunk size");
        let (begin, end) = (line + 2, line + 2 + size);
        if self.bytes.len() < end + 2 {
            return None;
        }
        assert_eq!(&self.bytes[end..end + 2], b"\r\n", "a chunk ends with its line");
        let chunk = self.bytes[begin..end].to_vec();
        self.bytes.drain(..end + 2);
        Some(chunk)
    }
}

fn read_block(block: &str) -> Option<StreamItem> {
    let value = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let Some(data) = value("data: ").map(str::to_owned) else {
        return value("id: ").map(|id| StreamItem::Prime { id: id.parse().expect("an id") });
    };
    let name = value("event: ").unwrap_or_default().to_owned();
    match name.as_str() {
        "gap" => {
            let gap: serde_json::Value = serde_json::from_str(&data).expect("a gap is JSON");
            let oldest = gap["oldest"].as_str().map(|text| text.parse().expect("an id"));
            Some(StreamItem::Gap { oldest })
        }
        "expired" => Some(StreamItem::Expired),
        "erased" => {
            let erased: serde_json::Value = serde_json::from_str(&data).expect("an erasure is JSON");
            assert_eq!(data, format!("{{\"event\":{}}}", erased["event"]), "an erasure has one member");
            let id = value("id: ").and_then(|id| id.parse().ok()).expect("an erasure has an id");
            Some(StreamItem::Erased { id, name: erased["event"].as_str().expect("a name").to_owned() })
        }
        _ => {
            let lines: Vec<&str> = block.lines().filter(|line| !line.is_empty()).collect();
            let id = lines.last().and_then(|line| line.strip_prefix("id: ")).expect("an event's id is its last line");
            Some(StreamItem::Event { id: id.to_owned(), name, data })
        }
    }
}
