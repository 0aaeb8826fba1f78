//! Parses what one subscriber reads, with a state of 12 bytes: the response head, its chunks, and the lines of the stream in
//! them. An event is remembered as a hash, which is enough to compare it with the published one. Independent of sockets.

/// The beginning of the response to a subscriber.
const STATUS: &[u8] = b"HTTP/1.1 200 ";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// The initial value of an FNV-1a hash.
const HASH: u32 = 0x811c_9dc5;

/// The position in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the status line; `left` counts the bytes that matched so far.
    Status,
    /// In the other lines of the head; `left` counts the matched bytes of its end.
    Head,
    /// In a chunk's size; `left` is the size so far.
    Size,
    /// Before the LF of the size line.
    SizeEnd,
    /// In a chunk; `left` bytes remain.
    Data,
    /// In the CRLF after a chunk; `left` bytes remain.
    DataEnd,
    /// After the last chunk.
    Ended,
    /// The response was invalid.
    Bad,
}

/// The position in a line of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Begin,
    Comment,
    Field,
    /// In a field's value, which is arbitrary in the opening.
    Value,
}

/// The state of one subscriber's parser.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    left: u32,
    hash: u32,
    state: State,
    line: Line,
    is_open: bool,
    events: u8,
}

/// What parsing some bytes found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The opening is complete.
    pub opened: bool,
    /// Complete comment lines after the opening: heartbeats.
    pub heartbeats: u64,
    /// Complete events.
    pub events: u64,
}

impl Reader {
    /// Creates a parser at the beginning of a response.
    pub fn new() -> Self {
        Self { left: 0, hash: HASH, state: State::Status, line: Line::Begin, is_open: false, events: 0 }
    }

    /// Parses bytes, however they are split.
    pub fn take(&mut self, bytes: &[u8]) -> Parsed {
        let mut parsed = Parsed::default();
        for &byte in bytes {
            self.step(byte, &mut parsed);
        }
        parsed
    }

    /// Returns whether the response and its opening were valid, regardless of what followed.
    pub fn was_opened(&self) -> bool {
        self.is_open
    }

    /// Returns whether the stream ended with the last chunk.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Returns whether something was invalid.
    pub fn is_bad(&self) -> bool {
        self.state == State::Bad
    }

    /// Returns the number of events since they were forgotten, at most 255, and the hash of all their bytes.
    pub fn events(&self) -> (u8, u32) {
        (self.events, self.hash)
    }

    /// Forgets the events read so far.
    pub fn forget_events(&mut self) {
        self.events = 0;
        self.hash = HASH;
    }

    fn step(&mut self, byte: u8, parsed: &mut Parsed) {
        match (self.state, byte) {
            (State::Status, _) if byte == STATUS[self.left as usize] => self.count_up(STATUS, State::Head),
            (State::Head, _) if byte == HEAD_END[self.left as usize] => self.count_up(HEAD_END, State::Size),
            (State::Head, _) => self.left = u32::from(byte == b'\r'),
            (State::Size, b'\r') => self.state = State::SizeEnd,
            (State::Size, _) if byte.is_ascii_hexdigit() => self.left = self.left << 4 | hex(byte),
            (State::SizeEnd, b'\n') => self.state = if self.left == 0 { State::Ended } else { State::Data },
            (State::Data, _) => {
                self.step_line(byte, parsed);
                self.count_down(State::DataEnd, 2);
            }
            (State::DataEnd, b'\r' | b'\n') => self.count_down(State::Size, 0),
            (State::Ended, b'\r' | b'\n') => {}
            _ => self.state = State::Bad,
        }
    }

    fn count_up(&mut self, whole: &[u8], next: State) {
        self.left += 1;
        if self.left as usize == whole.len() {
            self.left = 0;
            self.state = next;
        }
    }

    fn count_down(&mut self, next: State, left: u32) {
        self.left -= 1;
        if self.left == 0 && self.state != State::Bad {
            self.left = left;
            self.state = next;
        }
    }

    fn step_line(&mut self, byte: u8, parsed: &mut Parsed) {
        match (self.line, byte) {
            (Line::Begin, b':') => self.line = Line::Comment,
            (Line::Comment, b'\n') => {
                self.line = Line::Begin;
                parsed.heartbeats += u64::from(self.is_open);
            }
            (Line::Comment | Line::Value, byte) if byte != b'\n' => {}
            _ if !self.is_open => self.step_opening(byte, parsed),
            (Line::Begin, b'\n') => {
                self.hash = mix(self.hash, byte);
                self.events = self.events.saturating_add(1);
                parsed.events += 1;
            }
            _ => {
                self.hash = mix(self.hash, byte);
                self.line = if byte == b'\n' { Line::Begin } else { Line::Field };
            }
        }
    }

    /// The opening has a single field, `retry`, which ends it.
    fn step_opening(&mut self, byte: u8, parsed: &mut Parsed) {
        match byte {
            b':' => self.line = Line::Value,
            b'\n' if self.line == Line::Value && self.hash == hash(b"retry") => {
                self.line = Line::Begin;
                self.is_open = true;
                self.hash = HASH;
                parsed.opened = true;
            }
            b'\n' => self.state = State::Bad,
            _ => {
                self.line = Line::Field;
                self.hash = mix(self.hash, byte);
            }
        }
    }
}

/// Returns a reader's hash after an event with these bytes.
pub fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(HASH, |hash, &byte| mix(hash, byte))
}

fn mix(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

fn hex(digit: u8) -> u32 {
    char::from(digit).to_digit(16).unwrap_or(0)
}
