//! Reads the engine's password. There is no option for it, because all users of a machine can read command lines.

use std::ffi::OsString;
use std::path::Path;

use super::{UsageError, into_utf8};
use crate::util::file::{ReadError, read_regular, strip_line_end};

/// Contains the password.
pub(super) const PASSWORD: &str = "ESKER_ENGINE_PASSWORD";
/// Contains the path of a file that contains the password.
pub(super) const PASSWORD_FILE: &str = "ESKER_ENGINE_PASSWORD_FILE";
/// The largest file with a password, in bytes.
const MAX_FILE: u64 = 4 << 10;

/// Returns the engine's password.
pub(super) fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Option<String>, UsageError> {
    match (get(PASSWORD), get(PASSWORD_FILE)) {
        (Some(_), Some(_)) => {
            Err(UsageError::new(format!("{PASSWORD} and {PASSWORD_FILE} are both set; set only one")))
        }
        (Some(password), None) => into_utf8(password, PASSWORD).map(Some),
        (None, Some(path)) => read_file(Path::new(&path)).map(Some),
        (None, None) => Ok(None),
    }
}

/// Returns the contents of a file, without a trailing newline.
fn read_file(path: &Path) -> Result<String, UsageError> {
    let failed = |why: &str| UsageError::new(format!("{PASSWORD_FILE}: the file {} {why}", path.display()));
    let bytes = read_regular(path, MAX_FILE).map_err(|error| match error {
        ReadError::Io(error) => failed(&format!("can't be read: {error}")),
        ReadError::NotRegular => failed("is not a regular file; use a regular file"),
        ReadError::TooLong => {
            failed(&format!("is longer than {} KiB; it must contain only the password", MAX_FILE >> 10))
        }
    })?;
    match std::str::from_utf8(strip_line_end(&bytes)) {
        Ok("") => Err(failed("is empty")),
        Ok(password) => Ok(password.to_owned()),
        Err(_) => Err(failed("is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        read(get).map_err(|error| error.to_string())
    }

    fn read_contents(name: &str, contents: impl AsRef<[u8]>) -> Result<Option<String>, String> {
        let path = std::env::temp_dir().join(format!("esker-password-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        let result = read_with(&[(PASSWORD_FILE, path.to_str().unwrap())]);
        std::fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn a_password_comes_from_a_variable_or_a_file() {
        assert_eq!(read_with(&[]), Ok(None));
        assert_eq!(read_with(&[(PASSWORD, "a b\n")]), Ok(Some("a b\n".into())));
        for (contents, password) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("é ", "é ")] {
            assert_eq!(read_contents("valid", contents), Ok(Some(password.into())));
        }
    }

    #[test]
    fn a_file_that_is_not_a_password_is_refused_without_showing_it() {
        let error = |contents: &[u8]| read_contents("invalid", contents).unwrap_err();
        assert!(error(b"\n").ends_with("is empty"));
        assert!(error(b"s3cret\xFF").ends_with("is not UTF-8"));
        assert!(
            error(&vec![b's'; MAX_FILE as usize + 1]).ends_with("longer than 4 KiB; it must contain only the password")
        );
        let missing = read_with(&[(PASSWORD_FILE, "/missing")]).unwrap_err();
        assert!(missing.starts_with("ESKER_ENGINE_PASSWORD_FILE: the file /missing can't be read: "), "{missing}");
        assert!(read_with(&[(PASSWORD_FILE, "/dev/zero")]).unwrap_err().contains("regular file"));
        assert!(
            read_with(&[(PASSWORD_FILE, "/x"), (PASSWORD, "s3cret")]).unwrap_err().ends_with("both set; set only one")
        );
    }
}
