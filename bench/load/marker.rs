//! Markers in the data of events: `@`, the event's number, the time it was due, both in hexadecimal, and padding. The reader
//! finds them in the raw bytes of a stream, however a server frames them. Independent of sockets and clocks.

const SEQUENCE_DIGITS: u8 = 8;
const NANOS_DIGITS: u8 = 16;

/// The length of the shortest data that holds a marker.
pub const SHORTEST: usize = 1 + (SEQUENCE_DIGITS + NANOS_DIGITS) as usize;

/// Returns data of `size` bytes, at least [`SHORTEST`].
pub fn data(sequence: u32, nanos: u64, size: usize) -> String {
    let mut data = format!("@{sequence:08x}{nanos:016x}");
    data.extend(std::iter::repeat_n('x', size.saturating_sub(SHORTEST)));
    data
}

/// The reader's position in a marker, and the digits read so far.
#[derive(Clone, Copy, Default)]
pub struct Reader {
    nanos: u64,
    sequence: u32,
    /// Digits read, including the `@`; zero outside a marker.
    begun: u8,
}

impl Reader {
    /// Calls `found` for each marker that ends in these bytes.
    pub fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(u32, u64)) {
        while !bytes.is_empty() {
            bytes = if self.begun == 0 { self.seek(bytes) } else { self.digit(bytes, &mut found) };
        }
    }

    fn seek<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(at) = bytes.iter().position(|byte| *byte == b'@') else { return &[] };
        *self = Self { begun: 1, ..Self::default() };
        &bytes[at + 1..]
    }

    fn digit<'a>(&mut self, bytes: &'a [u8], found: &mut impl FnMut(u32, u64)) -> &'a [u8] {
        let Some(digit) = char::from(bytes[0]).to_digit(16) else {
            self.begun = 0;
            return bytes;
        };
        if self.begun <= SEQUENCE_DIGITS {
            self.sequence = self.sequence << 4 | digit;
        } else {
            self.nanos = self.nanos << 4 | u64::from(digit);
        }
        self.begun += 1;
        if self.begun > SEQUENCE_DIGITS + NANOS_DIGITS {
            self.begun = 0;
            found(self.sequence, self.nanos);
        }
        &bytes[1..]
    }
}
