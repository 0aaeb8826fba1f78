//! Loads keys: secrets from the configuration, and public keys from PEM files, which can be read again while the broker
//! runs. Independent of what a key verifies.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::auth::{Key, KeyError, Keyring, Role};
use crate::config::KeySource;

/// The largest key file, in bytes: enough for the longest key and the text that openssl adds. ASN.1 is parsed by recursion, so
/// a larger file could overflow a thread's stack.
const MAX_KEY_FILE: u64 = 8 << 10;
/// The suffix of the file with the previous key.
const PREVIOUS_SUFFIX: &str = ".previous";

/// Why a role's key file can't be used.
#[derive(Debug)]
pub struct KeyFileError {
    role: Role,
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Read(io::Error),
    /// It is not a regular file: reading a pipe or a device might never end.
    NotRegular,
    TooLong,
    Key(KeyError),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, path, cause } = self;
        match cause {
            Cause::Read(error) => write!(f, "the {role} key file {} can't be read: {error}", path.display()),
            Cause::NotRegular => {
                write!(f, "the {role} key file {} is not a regular file; use a regular file", path.display())
            }
            Cause::TooLong => write!(
                f,
                "the {role} key file {} is longer than {} KiB; use a file with a single public key",
                path.display(),
                MAX_KEY_FILE >> 10
            ),
            Cause::Key(error) => write!(f, "the {role} key file {} {error}", path.display()),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Read(error) => Some(error),
            Cause::Key(error) => Some(error),
            Cause::NotRegular | Cause::TooLong => None,
        }
    }
}

impl KeyFileError {
    /// Returns the role whose key it is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Loads a role's current key, and the previous one if its file exists.
pub fn load(role: Role, source: &KeySource) -> Result<Keyring, KeyFileError> {
    match source {
        KeySource::Secret(secret) => Ok(Keyring { current: Key::from_secret(secret), previous: None }),
        KeySource::File(path) => {
            let mut previous_path = OsString::from(path);
            previous_path.push(PREVIOUS_SUFFIX);
            let previous = match read_file(role, Path::new(&previous_path)) {
                Err(KeyFileError { cause: Cause::Read(error), .. }) if error.kind() == io::ErrorKind::NotFound => None,
                key => Some(key?),
            };
            Ok(Keyring { current: read_file(role, path)?, previous })
        }
    }
}

fn read_file(role: Role, path: &Path) -> Result<Key, KeyFileError> {
    let failed = |cause| KeyFileError { role, path: path.to_owned(), cause };
    let metadata = std::fs::metadata(path).map_err(|error| failed(Cause::Read(error)))?;
    if !metadata.is_file() {
        return Err(failed(Cause::NotRegular));
    }
    if metadata.len() > MAX_KEY_FILE {
        return Err(failed(Cause::TooLong));
    }
    let mut pem = Vec::new();
    let file = File::open(path).map_err(|error| failed(Cause::Read(error)))?;
    file.take(MAX_KEY_FILE).read_to_end(&mut pem).map_err(|error| failed(Cause::Read(error)))?;
    Key::from_pem(&pem).map_err(|error| failed(Cause::Key(error)))
}
