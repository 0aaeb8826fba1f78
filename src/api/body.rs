//! Request bodies as the routes take them: complete, in memory, as text.

use std::borrow::Cow;
use std::str::Utf8Error;

use crate::http::{Content, Head, Problem};
use crate::quota::BodyReservation;

/// A request's body, complete.
#[derive(Debug)]
pub enum Body<'a> {
    /// It lies in the buffer that it was read into.
    Read(&'a [u8]),
    /// It came in pieces and was put together.
    Gathered(Content),
}

impl<'a> Body<'a> {
    /// Returns its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Gathered(content) => content.bytes(),
        }
    }

    /// Returns its text and, if it is held in memory of its own, what is reserved for it.
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

/// 400 for a body that is not UTF-8, and where it stops being that.
pub(super) fn not_utf8(error: Utf8Error) -> Problem {
    let at = error.valid_up_to();
    Problem::bad_request(format!("the body is not valid UTF-8 at byte {at}; encode it as UTF-8"))
}

/// 415 for a body that is compressed.
pub(super) fn check_coding(head: &Head<'_>) -> Result<(), Problem> {
    match head.content_coding {
        None => Ok(()),
        Some(coding) => Err(Problem::unsupported_coding(format!(
            "Content-Encoding: {coding} is not supported; send the body unencoded, without Content-Encoding"
        ))),
    }
}
