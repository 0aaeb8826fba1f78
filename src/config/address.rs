//! Where a broker listens: what `--listen` and `--admin` take. Refuses to know sockets.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on.
///
/// ```
/// use esker::ListenAddress;
/// let dual_stack: ListenAddress = "[::]:3000".parse()?;
/// let file: ListenAddress = "unix:/run/esker/esker.sock".parse()?;
/// assert_eq!((dual_stack.to_string(), file.to_string()), ("http://[::]:3000".into(), "unix:/run/esker/esker.sock".into()));
/// assert!("localhost".parse::<ListenAddress>().is_err());
/// # Ok::<(), esker::ParseAddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// An IP address and a port, 0 for any free one. `[::]` takes IPv4 as well, unless `0.0.0.0` is listened on with the
    /// same port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A text that is no address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseAddressError;

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("give IP:PORT such as 0.0.0.0:3000 or [::]:3000, or unix:/PATH")
    }
}

impl std::error::Error for ParseAddressError {}

impl FromStr for ListenAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        match text.strip_prefix("unix:") {
            // Elsewhere `@` is a name beside the file system; here it would be a file that nobody looks for.
            Some(path) if path.is_empty() || path.starts_with('@') => Err(ParseAddressError),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| ParseAddressError),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// As the log names it, and as clients can use it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
