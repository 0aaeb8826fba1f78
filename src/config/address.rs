//! Addresses to listen on. Independent of sockets.

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
    /// An IP address and a port; 0 for any free port. `[::]` also accepts IPv4, unless the broker listens on `0.0.0.0` with the
    /// same port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// The error for text that is not an address to listen on.
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
            // In other programs `@` begins an abstract socket's name. Here it would create a file that no client looks for.
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

/// Formats the address as the log and clients use it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
