//! `esker health`: asks a broker whether it is well, over a plain socket. For images without a shell or curl, whose
//! health check has the broker's own environment and nothing else: so the address is taken from there.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::{Command, UsageError, no_option, usage, with_environment};
use crate::config::ListenAddress;

/// For connecting, and for every pause of the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than the answer is; what comes beyond it is of no interest.
const MAX_ANSWER: u64 = 16_384;

/// What a broker says of its readiness, and of its being alive.
const READINESS: &str = "/healthz";
const LIVENESS: &str = "/livez";

const ADVICE: &str = "give http://IP:PORT, IP:PORT or unix:/PATH";

/// The variables that say where a broker is to be asked, beside PORT.
const WHERE: [&str; 4] = ["ESKER_ADMIN", "ESKER_BIND", "ESKER_PORT", "ESKER_LISTEN"];

const HELP: &str = "\
esker health: checks the health of a broker

Usage: esker health [OPTION]… [URL]

  --live        request /livez (is it running?) instead of /healthz (does it
                accept all requests, including inserts?)
  -h, --help    print this help

URL is http://IP:PORT, IP:PORT or unix:/PATH. Without URL, the address comes
from ESKER_ADMIN, ESKER_BIND, ESKER_PORT, PORT and ESKER_LISTEN; if none of them
is set, it is 127.0.0.1:3000. Exits with 0 if the response is 200, otherwise
with 1.
";

/// Whom to ask.
#[derive(Debug, PartialEq, Eq)]
pub struct HealthCheck {
    place: Place,
    path: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Tried one after the other until one accepts.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl HealthCheck {
    /// Asks; what the broker says of itself, or why it can't be said to be well.
    pub fn run(&self) -> Result<String, String> {
        let answer = self.ask().map_err(|error| format!("the broker can't be reached: {error}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(format!("{}\n", body.trim_end())),
            Some(status) => Err(format!("the broker responded with {status}: {}", body.trim_end())),
            None => Err("the server at this address does not speak HTTP".into()),
        }
    }

    fn ask(&self) -> io::Result<String> {
        match &self.place {
            Place::Tcp(addresses) => {
                let socket = connect(addresses)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                self.converse(socket)
            }
            Place::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                self.converse(socket)
            }
        }
    }

    fn converse(&self, mut socket: impl Read + Write) -> io::Result<String> {
        let Self { path, .. } = self;
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        socket.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::other("no address to connect to");
    for address in addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// Reads what follows `esker health`.
pub(super) fn parse(mut parser: lexopt::Parser, get: impl Fn(&str) -> Option<OsString>) -> Result<Command, UsageError> {
    let (mut url, mut asks_live) = (None, false);
    while let Some(argument) = parser.next().map_err(|error| usage(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Long("live") => asks_live = true,
            Value(value) if url.is_none() => url = Some(value.string().map_err(|error| usage(&error))?),
            Value(more) => {
                return Err(UsageError::new(format!(
                    "unexpected argument {more:?}; esker health takes one \
                                                               URL"
                )));
            }
            Long(long) => return Err(no_option("health", &format!("--{long}"))),
            Short(short) => return Err(no_option("health", &format!("-{short}"))),
        }
    }
    let (place, path) = match url {
        Some(url) => place(&url).ok_or_else(|| UsageError::new(format!("{url:?} is not a supported URL: {ADVICE}")))?,
        None => (described(get)?, READINESS),
    };
    let path = if asks_live { LIVENESS } else { path };
    Ok(Command::Health(HealthCheck { place, path }))
}

/// Where the broker with this environment is to be asked. Its other variables are its own business.
fn described(get: impl Fn(&str) -> Option<OsString>) -> Result<Place, UsageError> {
    let config = with_environment(|name| if WHERE.contains(&name) { get(name) } else { None })?.config;
    let port = get("PORT").and_then(|port| port.into_string().ok());
    let address = config.health_address(port).map_err(|error| UsageError::new(error.to_string()))?;
    match address {
        Some(ListenAddress::Unix(path)) => Ok(Place::Unix(path)),
        Some(ListenAddress::Tcp(address)) if address.port() != 0 => Ok(Place::Tcp(reachable(address))),
        _ => Err(UsageError::new(format!("the port in the environment is 0, so the actual port is unknown: {ADVICE}"))),
    }
}

/// An address as it is given, and what is asked there: names but `localhost` are not looked up, for a static binary can't do
/// so everywhere.
fn place(text: &str) -> Option<(Place, &'static str)> {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/').then(|| (Place::Unix(path.into()), READINESS));
    }
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = match path {
        "" | "/" | READINESS => READINESS,
        LIVENESS => LIVENESS,
        _ => return None,
    };
    if let Some(port) = authority.strip_prefix("localhost:") {
        let port = port.parse().ok()?;
        return Some((Place::Tcp(both_loopbacks(port).into()), path));
    }
    Some((Place::Tcp(reachable(authority.parse().ok()?)), path))
}

/// Where what listens on this address can be reached: who listens everywhere also does so on the loopback.
fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![(Ipv4Addr::LOCALHOST, address.port()).into()],
        // As dual stack it is there on IPv4 as well, and IPv6 may have no loopback.
        IpAddr::V6(ip) if ip.is_unspecified() => both_loopbacks(address.port()).into(),
        _ => vec![address],
    }
}

fn both_loopbacks(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(environment: &[(&str, &str)]) -> Result<Place, UsageError> {
        described(|name| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn tcp(addresses: &[&str]) -> Place {
        Place::Tcp(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn the_environment_tells_where_the_broker_is() {
        for (environment, expected) in [
            (&[][..], "127.0.0.1:3000"),
            (&[("PORT", "80")], "127.0.0.1:80"),
            (&[("ESKER_BIND", "0.0.0.0"), ("ESKER_PORT", "81"), ("PORT", "80")], "127.0.0.1:81"),
            (&[("ESKER_BIND", "192.0.2.1")], "192.0.2.1:3000"),
            (&[("ESKER_LISTEN", "0.0.0.0:82, unix:/run/esker.sock")], "127.0.0.1:82"),
            (&[("ESKER_LISTEN", "unix:/run/esker.sock"), ("PORT", "80")], "127.0.0.1:80"),
            (&[("ESKER_ADMIN", "127.0.0.2:9000"), ("PORT", "80")], "127.0.0.2:9000"),
            (&[("ESKER_PORT", "tcp://10.96.0.17:3000"), ("PORT", "80")], "127.0.0.1:80"),
            (&[("ESKER_PORT", "tcp://10.96.0.17:3000"), ("PORT", "tcp://10.96.0.18:80")], "127.0.0.1:3000"),
        ] {
            assert_eq!(asked(environment), Ok(tcp(&[expected])), "{environment:?}");
        }
        assert_eq!(asked(&[("ESKER_BIND", "::")]), Ok(tcp(&["[::1]:3000", "127.0.0.1:3000"])));
        assert_eq!(asked(&[("ESKER_LISTEN", "unix:/run/a")]), Ok(Place::Unix("/run/a".into())));
        for wrong in [("PORT", "0"), ("ESKER_PORT", "http"), ("ESKER_BIND", "here"), ("ESKER_ADMIN", "9000")] {
            assert!(asked(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn urls_are_addresses() {
        for (text, expected) in [
            ("http://127.0.0.1:3000", &["127.0.0.1:3000"][..]),
            ("http://127.0.0.1:3000/", &["127.0.0.1:3000"]),
            ("http://[::1]:3000/healthz", &["[::1]:3000"]),
            ("[::]:80", &["[::1]:80", "127.0.0.1:80"]),
            ("http://localhost:80", &["[::1]:80", "127.0.0.1:80"]),
        ] {
            assert_eq!(place(text), Some((tcp(expected), READINESS)), "{text}");
        }
        assert_eq!(place("http://127.0.0.1:3000/livez"), Some((tcp(&["127.0.0.1:3000"]), LIVENESS)));
        assert_eq!(place("unix:/run/esker.sock"), Some((Place::Unix("/run/esker.sock".into()), READINESS)));
        for wrong in
            ["", "https://127.0.0.1:3000", "http://example.com:80", "unix:esker.sock", "127.0.0.1", "1.2.3.4:5/x"]
        {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
