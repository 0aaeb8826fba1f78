//! Reads small files that an operator names, such as keys and passwords.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Why a file can't be used.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The system can't read it.
    Io(io::Error),
    /// It is not a regular file: reading a pipe or a device might never end.
    NotRegular,
    /// It has more bytes than allowed.
    TooLong,
}

/// Reads a regular file of at most `max` bytes.
pub(crate) fn read_regular(path: &Path, max: u64) -> Result<Vec<u8>, ReadError> {
    if !std::fs::metadata(path).map_err(ReadError::Io)?.is_file() {
        return Err(ReadError::NotRegular);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ReadError::Io)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > max { Err(ReadError::TooLong) } else { Ok(bytes) }
}

/// Returns a text without a trailing newline, which editors and `echo` add.
pub(crate) fn strip_line_end(text: &[u8]) -> &[u8] {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    line.strip_suffix(b"\r").unwrap_or(line)
}
