//! What one subscriber has read so far, in 12 bytes: the answer's head, its chunks, and the lines of the stream in them.
//! An event is remembered as a hash, which is enough to tell whether it is the one that was published. Knows no socket.

/// How an answer that opens a stream begins.
const STATUS: &[u8] = b"HTTP/1.1 200 ";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Where an FNV-1a hash begins.
const HASH: u32 = 0x811c_9dc5;

/// Where in the answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the status line; `left` is how much of it was as it should be.
    Status,
    /// In the other lines of the head; `left` is how much of its end was seen.
    Head,
    /// In a chunk's size, which `left` is.
    Size,
    /// Before the LF of that line.
    SizeEnd,
    /// In a chunk, of which `left` bytes are to come.
    Data,
    /// In the CRLF after a chunk, of which `left` bytes are to come.
    DataEnd,
    /// Behind the last chunk.
    Ended,
    /// Something was not as it should be.
    Bad,
}

/// Where in a line of the stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Begin,
    Comment,
    Field,
    /// In a field's value, in the opening, where it may be anything.
    Value,
}

/// See the module's page.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    left: u32,
    hash: u32,
    place: Place,
    line: Line,
    is_open: bool,
    events: u8,
}

/// What some bytes brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The opening is complete.
    pub opened: bool,
    /// Complete comment lines after the opening: heartbeats.
    pub heartbeats: u64,
    /// Complete events.
    pub events: u64,
}

impl Reader {
    /// Nothing read.
    pub fn new() -> Self {
        Self { left: 0, hash: HASH, place: Place::Status, line: Line::Begin, is_open: false, events: 0 }
    }

    /// Takes bytes in, however they were cut.
    pub fn take(&mut self, bytes: &[u8]) -> News {
        let mut news = News::default();
        for &byte in bytes {
            self.step(byte, &mut news);
        }
        news
    }

    /// Whether the answer and its opening were right, whatever came then.
    pub fn was_opened(&self) -> bool {
        self.is_open
    }

    /// Whether the stream ended as it should: with the last chunk.
    pub fn has_ended(&self) -> bool {
        self.place == Place::Ended
    }

    /// Whether something was not as it should be.
    pub fn is_bad(&self) -> bool {
        self.place == Place::Bad
    }

    /// The events since they were forgotten, at most 255, and the hash of all that they were made of.
    pub fn events(&self) -> (u8, u32) {
        (self.events, self.hash)
    }

    /// Forgets the events that were read.
    pub fn forget_events(&mut self) {
        self.events = 0;
        self.hash = HASH;
    }

    fn step(&mut self, byte: u8, news: &mut News) {
        match (self.place, byte) {
            (Place::Status, _) if byte == STATUS[self.left as usize] => self.count_up(STATUS, Place::Head),
            (Place::Head, _) if byte == HEAD_END[self.left as usize] => self.count_up(HEAD_END, Place::Size),
            (Place::Head, _) => self.left = u32::from(byte == b'\r'),
            (Place::Size, b'\r') => self.place = Place::SizeEnd,
            (Place::Size, _) if byte.is_ascii_hexdigit() => self.left = self.left << 4 | hex(byte),
            (Place::SizeEnd, b'\n') => self.place = if self.left == 0 { Place::Ended } else { Place::Data },
            (Place::Data, _) => {
                self.step_line(byte, news);
                self.count_down(Place::DataEnd, 2);
            }
            (Place::DataEnd, b'\r' | b'\n') => self.count_down(Place::Size, 0),
            (Place::Ended, b'\r' | b'\n') => {}
            _ => self.place = Place::Bad,
        }
    }

    fn count_up(&mut self, whole: &[u8], next: Place) {
        self.left += 1;
        if self.left as usize == whole.len() {
            self.left = 0;
            self.place = next;
        }
    }

    fn count_down(&mut self, next: Place, left: u32) {
        self.left -= 1;
        if self.left == 0 && self.place != Place::Bad {
            self.left = left;
            self.place = next;
        }
    }

    fn step_line(&mut self, byte: u8, news: &mut News) {
        match (self.line, byte) {
            (Line::Begin, b':') => self.line = Line::Comment,
            (Line::Comment, b'\n') => {
                self.line = Line::Begin;
                news.heartbeats += u64::from(self.is_open);
            }
            (Line::Comment | Line::Value, byte) if byte != b'\n' => {}
            _ if !self.is_open => self.step_opening(byte, news),
            (Line::Begin, b'\n') => {
                self.hash = mix(self.hash, byte);
                self.events = self.events.saturating_add(1);
                news.events += 1;
            }
            _ => {
                self.hash = mix(self.hash, byte);
                self.line = if byte == b'\n' { Line::Begin } else { Line::Field };
            }
        }
    }

    /// The opening has one field, `retry`, and is over with it.
    fn step_opening(&mut self, byte: u8, news: &mut News) {
        match byte {
            b':' => self.line = Line::Value,
            b'\n' if self.line == Line::Value && self.hash == hash(b"retry") => {
                self.line = Line::Begin;
                self.is_open = true;
                self.hash = HASH;
                news.opened = true;
            }
            b'\n' => self.place = Place::Bad,
            _ => {
                self.line = Line::Field;
                self.hash = mix(self.hash, byte);
            }
        }
    }
}

/// What a reader's hash is after an event of these bytes.
pub fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(HASH, |hash, &byte| mix(hash, byte))
}

fn mix(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

fn hex(digit: u8) -> u32 {
    char::from(digit).to_digit(16).unwrap_or(0)
}
