//! Where keys come from: secrets out of the configuration, and PEM files, which can be read again while
//! the broker runs. Refuses to know what a key verifies.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::auth::{Key, KeyError, Keyring, Role};
use crate::config::KeySource;

/// A key file has so many bytes at most, which is enough for the longest key and openssl's words about it. ASN.1 is read
/// by recursion: a longer file could nest deeper than a thread's stack.
const MAX_KEY_FILE: u64 = 8 << 10;
/// What is added to a key file's name for that of the key before.
const PREVIOUS: &str = ".previous";

/// Why a role's key could not be taken up.
#[derive(Debug)]
pub struct KeyFileError {
    role: Role,
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Read(io::Error),
    /// Reading a pipe or a device could take for ever.
    NoFile,
    Long,
    Key(KeyError),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, path, cause } = self;
        match cause {
            Cause::Read(error) => write!(f, "the {role} key file {} can't be read: {error}", path.display()),
            Cause::NoFile => {
                write!(f, "the {role} key file {} is not a regular file; use a regular file", path.display())
            }
            Cause::Long => write!(
                f,
                "the {role} key file {} is longer than {} KiB; use a file with a single public key",
                path.display(),
                MAX_KEY_FILE >> 10
            ),
            Cause::Key(error) => write!(f, "the {role} key file {} {error}", path.display()),
        }
    }
}

impl std::error::Error for KeyFileError {}

/// A role's keys as they are now.
pub fn load(role: Role, source: &KeySource) -> Result<Keyring, KeyFileError> {
    match source {
        KeySource::Secret(secret) => Ok(Keyring { current: Key::from_secret(secret), previous: None }),
        KeySource::File(path) => {
            let mut before = OsString::from(path);
            before.push(PREVIOUS);
            let previous = match read(role, Path::new(&before)) {
                Err(KeyFileError { cause: Cause::Read(error), .. }) if error.kind() == io::ErrorKind::NotFound => None,
                read => Some(read?),
            };
            Ok(Keyring { current: read(role, path)?, previous })
        }
    }
}

fn read(role: Role, path: &Path) -> Result<Key, KeyFileError> {
    let failed = |cause| KeyFileError { role, path: path.to_owned(), cause };
    let metadata = std::fs::metadata(path).map_err(|error| failed(Cause::Read(error)))?;
    if !metadata.is_file() {
        return Err(failed(Cause::NoFile));
    }
    if metadata.len() > MAX_KEY_FILE {
        return Err(failed(Cause::Long));
    }
    let mut pem = Vec::new();
    let file = File::open(path).map_err(|error| failed(Cause::Read(error)))?;
    file.take(MAX_KEY_FILE).read_to_end(&mut pem).map_err(|error| failed(Cause::Read(error)))?;
    Key::from_pem(&pem).map_err(|error| failed(Cause::Key(error)))
}
