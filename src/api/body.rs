//! Complete request bodies, as text.

use std::borrow::Cow;
use std::str::Utf8Error;

use crate::http::{Content, Head, Problem};
use crate::quota::BodyReservation;

/// A request's complete body.
#[derive(Debug)]
pub enum Body<'a> {
    /// The body is in the buffer into which it was read.
    Read(&'a [u8]),
    /// The body arrived in pieces and was copied into memory of its own.
    Gathered(Content),
}

impl<'a> Body<'a> {
    /// Returns the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Gathered(content) => content.bytes(),
        }
    }

    /// Returns the text and, if the body has memory of its own, its reservation. Returns 400 if the body is not UTF-8.
    pub(super) fn into_text(self) -> Result<(Cow<'a, str>, Option<BodyReservation>), Problem> {
        match self {
            Self::Read(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok((text.into(), None)),
                Err(error) => Err(not_utf8(error)),
            },
            Self::Gathered(content) => {
                let (bytes, reservation) = content.into_parts();
                match String::from_utf8(bytes) {
                    Ok(text) => Ok((text.into(), Some(reservation))),
                    Err(error) => Err(not_utf8(error.utf8_error())),
                }
            }
        }
    }
}

/// Creates a 400 for a body that is not UTF-8, with the offset of the first invalid byte.
pub(super) fn not_utf8(error: Utf8Error) -> Problem {
    let at = error.valid_up_to();
    Problem::bad_request(format!("the body is not valid UTF-8 at byte {at}; encode it as UTF-8"))
}

/// Returns 415 if the body is compressed.
pub(super) fn check_coding(head: &Head<'_>) -> Result<(), Problem> {
    match head.body.content_coding {
        None => Ok(()),
        Some(coding) => Err(Problem::unsupported_coding(format!(
            "Content-Encoding: {coding} is not supported; send the body unencoded, without Content-Encoding"
        ))),
    }
}
