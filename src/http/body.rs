//! Decodes request bodies, which have a length or are chunked (RFC 9112 sections 6 and 7). The decoder accepts bytes as they
//! arrive and returns the content. It is strict where leniency would allow request smuggling.

use super::extension::{Extension, is_field_text, is_token};
use super::head::BodyFraming;
use super::problem::Problem;
use crate::quota::{BodyReservation, ReserveError};

/// The maximum length of a body's chunk extensions and trailer fields together, in bytes.
pub const MAX_CHUNK_EXTRAS: usize = 16 << 10;

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The chunks are malformed, so the end of the body is unknown.
    Malformed,
    /// The content is longer than `--max-body`.
    TooLarge,
    /// The chunk extensions and trailer fields are longer than [`MAX_CHUNK_EXTRAS`].
    TooManyExtras,
    /// The bodies of all clients have reached the memory limit.
    Overload,
    /// The bodies of this client have reached its share of the memory limit.
    Share,
}

impl From<ReserveError> for BodyError {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::Total => Self::Overload,
            ReserveError::Share => Self::Share,
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Malformed => Self::bad_request(
                "the chunked body is malformed: each chunk must be its size in hexadecimal, CRLF, its data and \
                 CRLF; send a Content-Length if the client can't send chunks",
            ),
            BodyError::TooLarge => Self::new(413, "the body is larger than --max-body; send less, or raise the limit"),
            BodyError::Overload => Self::unavailable("the broker is receiving too many large bodies; try again", 1),
            BodyError::Share => Self::unavailable(
                "unfinished request bodies of this client (its token's `sub`, or its address) have reached the \
                 memory limit per client; wait for some to finish, or send fewer large ones at the same time",
                5,
            ),
            BodyError::TooManyExtras => Self::new(431, "the chunk extensions or trailer fields are longer than 16 KiB"),
        }
    }
}

/// The content of a body received so far, and the memory reserved for it.
#[derive(Debug)]
pub struct Content {
    bytes: Vec<u8>,
    reservation: BodyReservation,
}

impl Content {
    /// Creates an empty content. It grows in this reservation.
    pub fn new(reservation: BodyReservation) -> Self {
        Self { bytes: Vec::new(), reservation }
    }

    /// Appends bytes. Fails if their memory can't be reserved.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.reservation.grow(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the bytes received so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes and their reservation.
    pub fn into_parts(self) -> (Vec<u8>, BodyReservation) {
        (self.bytes, self.reservation)
    }
}

/// What the next byte of a body is. The grammar of chunks is in RFC 9112 section 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Content of a body with a length, of which this many bytes are missing.
    Length(u64),
    /// A digit of a chunk's size, or the end of the size. `value` is the size so far, `digits` its number of digits.
    Size { value: u64, digits: u8 },
    /// In the extensions of a chunk of this size.
    Extension(u64, Extension),
    /// The LF of the line with this size.
    SizeEnd(u64),
    /// Data of a chunk, of which this many bytes are missing.
    Data(u64),
    /// The CR after a chunk's data.
    DataCr,
    /// The LF after a chunk's data.
    DataLf,
    /// The first byte of a trailer field, or the CR of the last line.
    TrailerStart,
    /// In a trailer field's name.
    TrailerName,
    /// In a trailer field's value.
    TrailerValue,
    /// The LF of a trailer field.
    TrailerLf,
    /// The LF of the last line.
    EndLf,
    /// The body is complete.
    Done,
}

/// A decoder of one body, which accepts the bytes as they arrive.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The maximum length of the content in bytes.
    limit: usize,
    /// The length of the content so far.
    content: usize,
    /// The length of the extensions and trailers so far.
    extras: usize,
}

impl Decoder {
    /// Creates a decoder for one body with at most `limit` bytes of content. Fails if its length is larger.
    pub fn new(framing: BodyFraming, limit: usize) -> Result<Self, BodyError> {
        let state = match framing {
            BodyFraming::Length(length) if length > limit as u64 => return Err(BodyError::TooLarge),
            BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size { value: 0, digits: 0 },
        };
        Ok(Self { state, limit, content: 0, extras: 0 })
    }

    /// Returns whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Consumes the bytes that belong to the body and passes their content to `sink`. Returns the number of bytes consumed.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), BodyError>,
    ) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            match self.state {
                State::Length(left) | State::Data(left) => {
                    let run = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    self.count_content(run)?;
                    sink(&bytes[at..at + run])?;
                    at += run;
                    self.state = self.state.after_run(run as u64);
                }
                state => {
                    self.state = state.after_byte(bytes[at])?;
                    self.count_extras()?;
                    at += 1;
                }
            }
        }
        debug_assert!(at <= bytes.len() && self.content <= self.limit);
        Ok(at)
    }

    /// Counts content, which may be limited only now if the body is chunked.
    fn count_content(&mut self, run: usize) -> Result<(), BodyError> {
        self.content += run;
        if self.content > self.limit { Err(BodyError::TooLarge) } else { Ok(()) }
    }

    /// Counts a byte between chunks. A chunk that would exceed the limit is refused once its size is known.
    fn count_extras(&mut self) -> Result<(), BodyError> {
        if matches!(self.state, State::Extension(..) | State::TrailerName | State::TrailerValue) {
            self.extras += 1;
        }
        if let State::Size { value, .. } = self.state
            && value.saturating_add(self.content as u64) > self.limit as u64
        {
            return Err(BodyError::TooLarge);
        }
        if self.extras > MAX_CHUNK_EXTRAS { Err(BodyError::TooManyExtras) } else { Ok(()) }
    }
}

impl State {
    /// Returns the state after `run` bytes of content.
    fn after_run(self, run: u64) -> Self {
        match self {
            Self::Length(left) if left == run => Self::Done,
            Self::Length(left) => Self::Length(left - run),
            Self::Data(left) if left == run => Self::DataCr,
            Self::Data(left) => Self::Data(left - run),
            other => other,
        }
    }

    /// Returns the state after a byte that is not content.
    fn after_byte(self, byte: u8) -> Result<Self, BodyError> {
        match (self, byte) {
            (Self::Size { value, digits }, _) => after_size_byte(value, digits, byte),
            (Self::Extension(size, extension), b'\r') if extension.may_end() => Ok(Self::SizeEnd(size)),
            (Self::Extension(size, extension), _) => {
                extension.after(byte).map(|next| Self::Extension(size, next)).ok_or(BodyError::Malformed)
            }
            (Self::SizeEnd(0), b'\n') => Ok(Self::TrailerStart),
            (Self::SizeEnd(size), b'\n') => Ok(Self::Data(size)),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::Size { value: 0, digits: 0 }),
            (Self::TrailerStart, b'\r') => Ok(Self::EndLf),
            (Self::TrailerStart | Self::TrailerName, _) if is_token(byte) => Ok(Self::TrailerName),
            (Self::TrailerName, b':') => Ok(Self::TrailerValue),
            (Self::TrailerValue, b'\r') => Ok(Self::TrailerLf),
            (Self::TrailerValue, _) if is_field_text(byte) => Ok(Self::TrailerValue),
            (Self::TrailerLf, b'\n') => Ok(Self::TrailerStart),
            (Self::EndLf, b'\n') => Ok(Self::Done),
            _ => Err(BodyError::Malformed),
        }
    }
}

fn after_size_byte(value: u64, digits: u8, byte: u8) -> Result<State, BodyError> {
    match (byte, digits) {
        (b'\r', 1..) => Ok(State::SizeEnd(value)),
        (b';', 1..) => Ok(State::Extension(value, Extension::Start)),
        (b' ' | b'\t', 1..) => Ok(State::Extension(value, Extension::Whitespace)),
        (_, 0..16) => {
            let digit = char::from(byte).to_digit(16).ok_or(BodyError::Malformed)?;
            Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
        }
        _ => Err(BodyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes bytes in pieces that end at `cuts`. Returns the content, the bytes consumed and whether the body is complete.
    fn decode(
        framing: BodyFraming,
        bytes: &[u8],
        cuts: &[usize],
        limit: usize,
    ) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let mut decoder = Decoder::new(framing, limit)?;
        let (mut content, mut consumed) = (Vec::new(), 0);
        for &end in cuts.iter().chain([&bytes.len()]) {
            while consumed < end && !decoder.is_done() {
                let sink = |run: &[u8]| {
                    content.extend_from_slice(run);
                    Ok(())
                };
                consumed += decoder.decode(&bytes[consumed..end], sink)?;
            }
        }
        Ok((content, consumed, decoder.is_done()))
    }

    #[test]
    fn chunks_are_decoded_when_split_at_every_byte() {
        let body = b"5;a=\"b c\\\"\" ; d = e\r\nhello\r\n0005 ;x\r\nworld\r\n0\r\nA: b\r\nC:\r\n\r\n";
        let all = [body.as_slice(), b"GET /"].concat();
        for cut in 0..all.len() {
            let got = decode(BodyFraming::Chunked, &all, &[cut], 10).unwrap();
            assert_eq!(got, (b"helloworld".to_vec(), body.len(), true), "{cut}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            "\r\n",
            "g\r\n",
            "5\nhello",
            "5\rhello",
            "-5\r\n",
            "+5\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5;\r\n",
            "5;;\r\n",
            "5;a b\r\n",
            "5;a=\r\n",
            "5;a=b c\r\n",
            "5;a=\"b\r\n",
            "5;a=\"b\\\"\r\n",
            "5;a=b \r\n",
            "5;=b\r\n",
            "5;(junk)\r\n",
            "5;a\nhello",
            "5;a\0\r\n",
            "5;a\rb\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n",
            "3\r\nabc\r0",
            "00000000000000005\r\n",
            "0\r\n\n",
            "0\r\nA b: c\r\n",
            "0\r\nA : c\r\n",
            "0\r\nA\r\n",
            "0\r\n A: b\r\n",
            "0\r\nA: b\nB: c",
            ";a\r\n",
            ";",
        ] {
            assert_eq!(decode(BodyFraming::Chunked, bad.as_bytes(), &[], 100), Err(BodyError::Malformed), "{bad:?}");
        }
    }

    #[test]
    fn content_and_extras_are_limited() {
        let chunked = |text: &str| decode(BodyFraming::Chunked, text.as_bytes(), &[], 10);
        assert_eq!(chunked("b\r\n"), Err(BodyError::TooLarge));
        assert_eq!(chunked("6\r\nhello!\r\n5"), Err(BodyError::TooLarge));
        assert_eq!(chunked("ffffffffffffffff\r\n"), Err(BodyError::TooLarge));
        assert!(matches!(Decoder::new(BodyFraming::Length(11), 10), Err(BodyError::TooLarge)));
        let extension = format!("1;{}\r\nx", "a".repeat(MAX_CHUNK_EXTRAS));
        assert_eq!(chunked(&extension), Err(BodyError::TooManyExtras));
        let trailers = format!("0\r\n{}", "A: b\r\n".repeat(MAX_CHUNK_EXTRAS));
        assert_eq!(chunked(&trailers), Err(BodyError::TooManyExtras));
    }

    #[test]
    fn a_body_with_a_length_consumes_exactly_its_bytes() {
        let got = decode(BodyFraming::Length(5), b"helloGET", &[2], 10).unwrap();
        assert_eq!(got, (b"hello".to_vec(), 5, true));
        assert!(!decode(BodyFraming::Length(5), b"hell", &[], 10).unwrap().2);
        assert!(Decoder::new(BodyFraming::Length(0), 10).unwrap().is_done());
    }

    proptest! {
        #[test]
        fn the_content_does_not_depend_on_chunks_and_pieces(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            cuts in prop::collection::vec(0usize..600, 0..5),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let got = decode(BodyFraming::Chunked, &bytes, &cuts, 1000).unwrap();
            prop_assert_eq!(got, (chunks.concat(), bytes.len(), true));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(BodyFraming::Chunked, &bytes, &[], 1000);
        }
    }
}
