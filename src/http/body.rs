//! Request bodies (RFC 9112 sections 6 and 7): so many bytes, or chunks. The decoder takes bytes as
//! they come and gives back content; it is strict where leniency would let a request be smuggled.

use super::extension::{Extension, is_text, is_token};
use super::head::BodyFraming;
use super::problem::Problem;
use crate::quota::{BodyReservation, ReserveError};

/// At most so many bytes of chunk extensions, and of trailer fields, per body.
pub const MAX_CHUNK_EXTRAS: usize = 16 << 10;

/// Why a body can't be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The chunks are malformed; where the body ends is unknown.
    Malformed,
    /// There is more content than allowed.
    TooLarge,
    /// The extensions or trailers are longer than allowed.
    TooManyExtras,
    /// All bodies that are being received have too many bytes together.
    Overload,
    /// Those of this client have too many bytes together.
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

/// What has come of a body, with the memory that is reserved for it.
#[derive(Debug)]
pub struct Content {
    bytes: Vec<u8>,
    reservation: BodyReservation,
}

impl Content {
    /// Creates the content of a body of which nothing has come.
    pub fn new(reservation: BodyReservation) -> Self {
        Self { bytes: Vec::new(), reservation }
    }

    /// Appends, if the memory can be reserved.
    pub fn extend(&mut self, run: &[u8]) -> Result<(), BodyError> {
        self.reservation.grow(run.len())?;
        self.bytes.extend_from_slice(run);
        Ok(())
    }

    /// All that has come.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns all that has come, and what is reserved for it.
    pub fn into_parts(self) -> (Vec<u8>, BodyReservation) {
        (self.bytes, self.reservation)
    }
}

/// Where in a body the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of a body with a length are to come.
    Length(u64),
    /// In a chunk's size; so many digits have come.
    Size { value: u64, digits: u8 },
    /// In the extensions of a chunk of this size.
    Extension(u64, Extension),
    /// After the CR of a size line.
    SizeEnd(u64),
    /// In a chunk's data.
    Data(u64),
    /// After a chunk's data: CR.
    DataCr,
    /// And LF.
    DataLf,
    /// At the beginning of a trailer field or of the last line.
    TrailerStart,
    /// In a trailer field's name.
    TrailerName,
    /// In a trailer field's value.
    TrailerValue,
    /// After the CR of a trailer field.
    TrailerLf,
    /// After the CR of the last line.
    EndLf,
    /// All has come.
    Done,
}

/// Takes a body's bytes as they come.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    limit: usize,
    content: usize,
    extras: usize,
}

impl Decoder {
    /// A decoder for one body of at most `limit` bytes of content.
    pub fn new(framing: BodyFraming, limit: usize) -> Result<Self, BodyError> {
        let state = match framing {
            BodyFraming::Length(length) if length > limit as u64 => return Err(BodyError::TooLarge),
            BodyFraming::Length(0) => State::Done,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size { value: 0, digits: 0 },
        };
        Ok(Self { state, limit, content: 0, extras: 0 })
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes from `bytes` what belongs to the body, hands its content to `keep` and answers how many bytes it took.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        mut keep: impl FnMut(&[u8]) -> Result<(), BodyError>,
    ) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            match self.state {
                State::Length(left) | State::Data(left) => {
                    let run = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    self.count_content(run)?;
                    keep(&bytes[at..at + run])?;
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
        Ok(at)
    }

    fn count_content(&mut self, run: usize) -> Result<(), BodyError> {
        self.content += run;
        if self.content > self.limit { Err(BodyError::TooLarge) } else { Ok(()) }
    }

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
    fn after_run(self, run: u64) -> Self {
        match self {
            Self::Length(left) if left == run => Self::Done,
            Self::Length(left) => Self::Length(left - run),
            Self::Data(left) if left == run => Self::DataCr,
            Self::Data(left) => Self::Data(left - run),
            other => other,
        }
    }

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
            (Self::TrailerValue, _) if is_text(byte) => Ok(Self::TrailerValue),
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
        (b' ' | b'\t', 1..) => Ok(State::Extension(value, Extension::Gap)),
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

    /// The content and how many bytes the body took, fed in pieces that end at `cuts`.
    fn decode(
        framing: BodyFraming,
        bytes: &[u8],
        cuts: &[usize],
        limit: usize,
    ) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let mut decoder = Decoder::new(framing, limit)?;
        let (mut content, mut taken) = (Vec::new(), 0);
        for &end in cuts.iter().chain([&bytes.len()]) {
            while taken < end && !decoder.is_done() {
                let keep = |run: &[u8]| {
                    content.extend_from_slice(run);
                    Ok(())
                };
                taken += decoder.decode(&bytes[taken..end], keep)?;
            }
        }
        Ok((content, taken, decoder.is_done()))
    }

    #[test]
    fn chunks_split_at_every_byte() {
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
    fn bounds() {
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
    fn a_length_takes_just_its_bytes() {
        let got = decode(BodyFraming::Length(5), b"helloGET", &[2], 10).unwrap();
        assert_eq!(got, (b"hello".to_vec(), 5, true));
        assert!(!decode(BodyFraming::Length(5), b"hell", &[], 10).unwrap().2);
        assert!(Decoder::new(BodyFraming::Length(0), 10).unwrap().is_done());
    }

    proptest! {
        #[test]
        fn any_chunking_in_any_pieces_gives_the_content(
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
