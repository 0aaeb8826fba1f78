//! Loads keys: secrets from the configuration or from files, and public keys from files in PEM or JWK Sets. Files can be read
//! again while the broker runs. Independent of what a key verifies.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::auth::{Key, KeyError, KeySet, Keyring, Role, Secret};
use crate::config::{KeySource, RoleKey};
use crate::util::file::{ReadError, read_regular, strip_line_end};

/// The largest file with a key in PEM, in bytes: enough for the longest key and the text that openssl adds. ASN.1 is parsed by
/// recursion, so a larger file could overflow a thread's stack.
const MAX_PEM_FILE: usize = 8 << 10;
/// The largest file with a JWK Set, in bytes: some identity providers add certificates.
const MAX_KEY_FILE: u64 = 128 << 10;
/// The largest file with a secret, in bytes.
const MAX_SECRET_FILE: u64 = 4 << 10;
/// The suffix of the file with the previous key.
const PREVIOUS_SUFFIX: &str = ".previous";

/// Why a role's key file or secret file can't be used.
#[derive(Debug)]
pub struct KeyFileError {
    role: Role,
    kind: FileKind,
    path: PathBuf,
    cause: Cause,
}

/// What a file contains.
#[derive(Clone, Copy, Debug)]
enum FileKind {
    Secret,
    PublicKeys,
}

#[derive(Debug)]
enum Cause {
    Read(ReadError),
    /// It is a key in PEM, longer than any.
    LongPem,
    Key(KeyError),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, kind, path, cause } = self;
        let name = match kind {
            FileKind::Secret => "secret",
            FileKind::PublicKeys => "key",
        };
        write!(f, "the {role} {name} file {} ", path.display())?;
        match (cause, kind) {
            (Cause::Read(ReadError::Io(error)), _) => write!(f, "can't be read: {error}"),
            (Cause::Read(ReadError::NotRegular), _) => {
                f.write_str("is not a regular file (a pipe or a device can't be used)")
            }
            (Cause::Read(ReadError::TooLong), FileKind::Secret) => {
                write!(f, "is longer than {} KiB; it must contain only the secret", MAX_SECRET_FILE >> 10)
            }
            (Cause::Read(ReadError::TooLong), FileKind::PublicKeys) => write!(
                f,
                "is longer than {} KiB; use a JWK Set without certificates (`x5c`), or a single public key in PEM",
                MAX_KEY_FILE >> 10
            ),
            (Cause::LongPem, _) => {
                write!(f, "is longer than {} KiB; use a file with a single public key", MAX_PEM_FILE >> 10)
            }
            (Cause::Key(error), _) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Read(ReadError::Io(error)) => Some(error),
            Cause::Key(error) => Some(error),
            Cause::Read(_) | Cause::LongPem => None,
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

    fn is_missing(&self) -> bool {
        matches!(&self.cause, Cause::Read(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Loads a role's current keys, and the previous ones if there are any.
pub fn load(role: Role, key: &RoleKey) -> Result<Keyring, KeyFileError> {
    let previous = key.previous.iter().map(|secret| Key::from_secret(secret).into());
    let (current, from_file) = match &key.source {
        KeySource::Secret(secret) => (Key::from_secret(secret).into(), None),
        KeySource::SecretFile(path) => load_with_previous(path, |path| {
            read_secret_file(role, path).map(|secret| Key::from_secret(&secret).into())
        })?,
        KeySource::File(path) => load_with_previous(path, |path| read_key_file(role, path))?,
    };
    Ok(Keyring { current, previous: from_file.into_iter().chain(previous).collect() })
}

/// Reads a file, and the one with the previous keys if it exists.
fn load_with_previous(
    path: &Path,
    read: impl Fn(&Path) -> Result<KeySet, KeyFileError>,
) -> Result<(KeySet, Option<KeySet>), KeyFileError> {
    let mut previous_path = OsString::from(path);
    previous_path.push(PREVIOUS_SUFFIX);
    let previous = match read(Path::new(&previous_path)) {
        Err(error) if error.is_missing() => None,
        keys => Some(keys?),
    };
    Ok((read(path)?, previous))
}

/// Reads a file that contains a role's secret, without a trailing newline.
pub fn read_secret_file(role: Role, path: &Path) -> Result<Secret, KeyFileError> {
    let failed = |cause| KeyFileError { role, kind: FileKind::Secret, path: path.to_owned(), cause };
    let bytes = read_regular(path, MAX_SECRET_FILE).map_err(|error| failed(Cause::Read(error)))?;
    Secret::new(strip_line_end(&bytes)).map_err(|error| failed(Cause::Key(error)))
}

fn read_key_file(role: Role, path: &Path) -> Result<KeySet, KeyFileError> {
    let failed = |cause| KeyFileError { role, kind: FileKind::PublicKeys, path: path.to_owned(), cause };
    let text = read_regular(path, MAX_KEY_FILE).map_err(|error| failed(Cause::Read(error)))?;
    if text.len() > MAX_PEM_FILE && !KeySet::is_json(&text) {
        return Err(failed(Cause::LongPem));
    }
    let (keys, ignored) = KeySet::parse(&text).map_err(|error| failed(Cause::Key(error)))?;
    for key in &ignored {
        let level = if key.is_defective() { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "{key}, so it verifies no tokens; the set is in the {role} key file {}", path.display());
    }
    Ok(keys)
}
