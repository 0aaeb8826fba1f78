//! Recognizes journald, which records the time of each line itself and reads its priority from a prefix.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use super::LogFormat;

/// The device and the inode of the socket that systemd has connected to journald (systemd.exec(5)).
const VARIABLE: &str = "JOURNAL_STREAM";

/// Returns the format for this process: text is for journald if it reads standard error.
pub(super) fn adapt(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Text if is_connected() => LogFormat::Journal,
        format => format,
    }
}

/// Returns whether journald reads standard error. The variable alone doesn't say so: a child process that inherits it may
/// write somewhere else.
fn is_connected() -> bool {
    let stream = std::env::var(VARIABLE).ok();
    stream.as_deref().and_then(parse).is_some_and(|stream| standard_error().is_ok_and(|own| own == stream))
}

/// Parses `DEVICE:INODE`.
fn parse(text: &str) -> Option<(u64, u64)> {
    let (device, inode) = text.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// Returns the device and the inode of standard error.
fn standard_error() -> io::Result<(u64, u64)> {
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_device_and_an_inode() {
        assert_eq!(parse("8:4711"), Some((8, 4711)));
        for text in ["", ":", "8", "8:", ":4711", "8:4711:1", "-8:4711", "8:0x10"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
