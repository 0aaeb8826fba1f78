//! Fuzzes the decoder of request bodies. The content must not depend on the pieces in which the bytes arrive, must be the one
//! that a naive decoder of whole bodies finds, and must not exceed its limit.

use super::input::{Input, cuts, pieces};
use crate::http::body::{BodyError, MAX_CHUNK_EXTRAS};
use crate::http::head::BodyFraming;
use crate::http::{Content, Decoder};
use crate::quota::{BodyBudget, Client};

/// The limit on the content in bytes.
const LIMIT: usize = 300;

/// The content, and the number of bytes consumed if the body is complete.
type Decoded = Result<(Vec<u8>, Option<usize>), BodyError>;

/// Runs one input: a byte that chooses the framing, one that chooses the pieces, and the bytes of a connection.
pub fn body(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (kind, cutting) = (input.choice(), input.choice());
    let framing = if kind & 1 == 0 { BodyFraming::Chunked } else { BodyFraming::Length((input.number() / 64) as u64) };
    let bytes = input.0;
    let whole = decode(framing, bytes, &[]);
    assert_eq!(decode(framing, bytes, &cuts(cutting, bytes.len())), whole);
    match (framing, whole) {
        (BodyFraming::Length(length), whole) => assert_eq!(whole, by_length(length, bytes)),
        (BodyFraming::Chunked, Ok((content, Some(taken)))) => {
            assert_eq!(chunks(bytes), Some((content.clone(), &bytes[taken..])));
            round_trip(&content, cutting);
        }
        (BodyFraming::Chunked, Ok((content, None))) => assert!(content.len() <= LIMIT),
        (BodyFraming::Chunked, Err(BodyError::Malformed)) => assert_eq!(chunks(bytes), None),
        (BodyFraming::Chunked, Err(error)) => {
            let is_bound = matches!(error, BodyError::TooLarge | BodyError::TooManyExtras);
            assert!(is_bound && chunks(bytes).is_none_or(|(content, _)| is_large(&content, bytes)), "{error:?}");
        }
    }
}

fn is_large(content: &[u8], bytes: &[u8]) -> bool {
    content.len() > LIMIT || bytes.len() > MAX_CHUNK_EXTRAS
}

fn decode(framing: BodyFraming, bytes: &[u8], cuts: &[usize]) -> Decoded {
    let (mut decoder, budget) = (Decoder::new(framing, LIMIT)?, BodyBudget::new(LIMIT));
    let (mut content, mut taken) = (Content::new(budget.reservation(Client::Local)), 0);
    for piece in pieces(bytes, cuts) {
        let took = decoder.decode(piece, |run| content.extend(run))?;
        taken += took;
        assert!(took == piece.len() || decoder.is_done(), "bytes are left over, but the body is incomplete");
        assert!(content.bytes().len() <= LIMIT, "the content exceeds its limit");
    }
    Ok((content.bytes().to_vec(), decoder.is_done().then_some(taken)))
}

fn by_length(length: u64, bytes: &[u8]) -> Decoded {
    let length = length as usize;
    if length > LIMIT {
        return Err(BodyError::TooLarge);
    }
    let taken = length.min(bytes.len());
    Ok((bytes[..taken].to_vec(), (taken == length).then_some(taken)))
}

/// Decodes a complete chunked body in one go. Returns the content and the bytes after the body, or `None` if it is malformed.
fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut content = Vec::new();
    loop {
        let (line, rest) = line(bytes)?;
        let size = size(line)?;
        bytes = rest;
        if size == 0 {
            return trailers(bytes).map(|rest| (content, rest));
        }
        let (data, rest) = bytes.split_at_checked(size)?;
        content.extend_from_slice(data);
        bytes = rest.strip_prefix(b"\r\n")?;
    }
}

/// Splits off a line that ends in CRLF. `None` if it has a bare CR or LF, or another control character except the tab.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let is_clean = bytes[..end].iter().all(|b| *b == b'\t' || !b.is_ascii_control());
    is_clean.then_some((&bytes[..end], &bytes[end + 2..]))
}

fn size(line: &[u8]) -> Option<usize> {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at(end);
    let is_number = !digits.is_empty() && digits.len() <= 16 && are_extensions(extensions);
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| is_number)
}

/// Parses chunk extensions by recursive descent (RFC 9112 section 7.1.1): `*( BWS ";" BWS name [ BWS "=" BWS value ] )`.
fn are_extensions(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(rest) = skip_space(text).strip_prefix(b";") else { return false };
        let Some(rest) = skip_token(skip_space(rest)) else { return false };
        text = match skip_space(rest).strip_prefix(b"=").map(skip_space) {
            None => rest,
            Some(value) => match skip_quoted(value).or_else(|| skip_token(value)) {
                Some(rest) => rest,
                None => return false,
            },
        };
    }
    true
}

fn skip_space(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()..]
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|b| is_token(b)).count();
    (length > 0).then_some(&text[length..])
}

fn is_token(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b)
}

/// Returns the part of a line after a quoted string. The line has no control characters.
fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
            [] => return None,
        };
    }
}

fn trailers(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (line, rest) = line(bytes)?;
        if line.is_empty() {
            return Some(rest);
        }
        let colon = line.iter().position(|&b| b == b':').filter(|&at| at > 0)?;
        line[..colon].iter().all(is_token).then_some(())?;
        bytes = rest;
    }
}

/// Encodes the content in chunks of any sizes, and decodes it again.
fn round_trip(content: &[u8], choice: u8) {
    let mut bytes = Vec::new();
    for piece in pieces(content, &cuts(choice, content.len())).filter(|piece| !piece.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let decoded = decode(BodyFraming::Chunked, &bytes, &cuts(choice.wrapping_add(1), bytes.len()));
    assert_eq!(decoded, Ok((content.to_vec(), Some(bytes.len()))));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Returns pieces of valid and of nearly valid chunked bodies.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "1",
            "0",
            "a",
            ";",
            "=",
            " ",
            "\t",
            "\"",
            "\\",
            "\r\n",
            "\n",
            "\r",
            "x",
            ",",
            "(",
            "\0",
            "\u{e9}",
            ";a=\"b\"",
            "1\r\nx\r\n",
            "0\r\n\r\n",
            "A: b\r\n",
        ])
    }

    proptest! {
        #[test]
        fn chunks_are_accepted_if_the_grammar_accepts_them(
            pieces in prop::collection::vec(piece(), 0..12),
            cutting in any::<u8>(),
        ) {
            // The first two bytes choose the framing and the cuts.
            super::body(&[&[0, cutting], pieces.concat().as_bytes()].concat());
        }

        #[test]
        fn extensions_are_accepted_if_the_grammar_accepts_them(pieces in prop::collection::vec(piece(), 0..8)) {
            super::body(format!("\0\0{}{}\r\nx\r\n0\r\n\r\n", "1;", pieces.concat()).as_bytes());
        }
    }
}
