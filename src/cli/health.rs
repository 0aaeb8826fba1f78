//! `esker health`: checks the health of a broker over a plain socket, for container images without a shell or curl. A health
//! check there has only the broker's own environment, so the address is taken from it.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::{Command, UsageError, describe, read_environment, unknown_option, usage_error};
use crate::config::ListenAddress;

/// The time limit for connecting, and for each pause in the response.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of bytes read, which is more than a broker's response.
const MAX_RESPONSE: u64 = 16_384;

/// The path of the readiness check.
const READINESS: &str = "/healthz";
/// The path of the liveness check.
const LIVENESS: &str = "/livez";

const ADVICE: &str = "give http://IP:PORT, IP:PORT or unix:/PATH";

/// The variables that determine the broker's address, besides PORT.
const ADDRESS_VARIABLES: [&str; 4] = ["ESKER_ADMIN", "ESKER_BIND", "ESKER_PORT", "ESKER_LISTEN"];

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

/// A health check: where to connect, and which path to request.
#[derive(Debug, PartialEq, Eq)]
pub struct HealthCheck {
    endpoint: Endpoint,
    path: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Endpoint {
    /// The addresses are tried in order until one accepts the connection.
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

impl HealthCheck {
    /// Requests the path. Returns the broker's report, or why the broker is not known to be healthy.
    pub fn run(&self) -> Result<String, String> {
        let response = self.request().map_err(|error| format!("the broker can't be reached: {error}"))?;
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(format!("{}\n", body.trim_end())),
            Some(status) => Err(format!("the broker responded with {status}: {}", body.trim_end())),
            None => Err("the server at this address does not speak HTTP".into()),
        }
    }

    fn request(&self) -> io::Result<String> {
        match &self.endpoint {
            Endpoint::Tcp(addresses) => {
                let socket = connect(addresses)?;
                socket.set_read_timeout(Some(TIMEOUT))?;
                socket.set_write_timeout(Some(TIMEOUT))?;
                self.exchange(socket)
            }
            Endpoint::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(TIMEOUT))?;
                socket.set_write_timeout(Some(TIMEOUT))?;
                self.exchange(socket)
            }
        }
    }

    fn exchange(&self, mut socket: impl Read + Write) -> io::Result<String> {
        let Self { path, .. } = self;
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut response = Vec::new();
        socket.take(MAX_RESPONSE).read_to_end(&mut response)?;
        Ok(String::from_utf8_lossy(&response).into_owned())
    }
}

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::other("no address to connect to");
    for address in addresses {
        match TcpStream::connect_timeout(address, TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// Parses the arguments of `esker health`.
pub(super) fn parse(mut parser: lexopt::Parser, get: impl Fn(&str) -> Option<OsString>) -> Result<Command, UsageError> {
    let (mut url, mut is_liveness) = (None, false);
    while let Some(argument) = parser.next().map_err(|error| usage_error(&error))? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Long("live") => is_liveness = true,
            Value(value) if url.is_none() => url = Some(value.string().map_err(|error| usage_error(&error))?),
            Value(more) => {
                return Err(UsageError::new(format!(
                    "unexpected argument {more:?}; esker health takes one \
                                                               URL"
                )));
            }
            Long(long) => return Err(unknown_option("health", &format!("--{long}"))),
            Short(short) => return Err(unknown_option("health", &format!("-{short}"))),
        }
    }
    let (endpoint, path) = match url {
        Some(url) => {
            parse_url(&url).ok_or_else(|| UsageError::new(format!("{url:?} is not a supported URL: {ADVICE}")))?
        }
        None => (endpoint_from_environment(get)?, READINESS),
    };
    let path = if is_liveness { LIVENESS } else { path };
    Ok(Command::Health(HealthCheck { endpoint, path }))
}

/// Returns where a broker with this environment listens. Other variables are ignored, even if they are invalid.
fn endpoint_from_environment(get: impl Fn(&str) -> Option<OsString>) -> Result<Endpoint, UsageError> {
    let config = read_environment(|name| if ADDRESS_VARIABLES.contains(&name) { get(name) } else { None })?.config;
    let port = get("PORT").and_then(|port| port.into_string().ok());
    let address = config.health_address(port).map_err(|error| UsageError::new(describe(&error)))?;
    match address {
        Some(ListenAddress::Unix(path)) => Ok(Endpoint::Unix(path)),
        Some(ListenAddress::Tcp(address)) if address.port() != 0 => Ok(Endpoint::Tcp(reachable_addresses(address))),
        _ => Err(UsageError::new(format!("the port in the environment is 0, so the actual port is unknown: {ADVICE}"))),
    }
}

/// Parses a URL. `localhost` is the only name that is supported, because a static binary can't resolve names everywhere.
fn parse_url(text: &str) -> Option<(Endpoint, &'static str)> {
    if let Some(path) = text.strip_prefix("unix:") {
        return path.starts_with('/').then(|| (Endpoint::Unix(path.into()), READINESS));
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
        return Some((Endpoint::Tcp(loopback_addresses(port).into()), path));
    }
    Some((Endpoint::Tcp(reachable_addresses(authority.parse().ok()?)), path))
}

/// Returns the addresses to connect to for a broker that listens on `address`. If it listens on all interfaces, that is the
/// loopback interface.
fn reachable_addresses(address: SocketAddr) -> Vec<SocketAddr> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![(Ipv4Addr::LOCALHOST, address.port()).into()],
        // A dual-stack socket also accepts IPv4, and the loopback interface may have no IPv6 address.
        IpAddr::V6(ip) if ip.is_unspecified() => loopback_addresses(address.port()).into(),
        _ => vec![address],
    }
}

fn loopback_addresses(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(environment: &[(&str, &str)]) -> Result<Endpoint, UsageError> {
        endpoint_from_environment(|name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    fn tcp(addresses: &[&str]) -> Endpoint {
        Endpoint::Tcp(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn the_environment_determines_the_address() {
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
            assert_eq!(endpoint(environment), Ok(tcp(&[expected])), "{environment:?}");
        }
        assert_eq!(endpoint(&[("ESKER_BIND", "::")]), Ok(tcp(&["[::1]:3000", "127.0.0.1:3000"])));
        assert_eq!(endpoint(&[("ESKER_LISTEN", "unix:/run/a")]), Ok(Endpoint::Unix("/run/a".into())));
        for wrong in [("PORT", "0"), ("ESKER_PORT", "http"), ("ESKER_BIND", "here"), ("ESKER_ADMIN", "9000")] {
            assert!(endpoint(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn urls_are_parsed() {
        for (text, expected) in [
            ("http://127.0.0.1:3000", &["127.0.0.1:3000"][..]),
            ("http://127.0.0.1:3000/", &["127.0.0.1:3000"]),
            ("http://[::1]:3000/healthz", &["[::1]:3000"]),
            ("[::]:80", &["[::1]:80", "127.0.0.1:80"]),
            ("http://localhost:80", &["[::1]:80", "127.0.0.1:80"]),
        ] {
            assert_eq!(parse_url(text), Some((tcp(expected), READINESS)), "{text}");
        }
        assert_eq!(parse_url("http://127.0.0.1:3000/livez"), Some((tcp(&["127.0.0.1:3000"]), LIVENESS)));
        assert_eq!(parse_url("unix:/run/esker.sock"), Some((Endpoint::Unix("/run/esker.sock".into()), READINESS)));
        for wrong in
            ["", "https://127.0.0.1:3000", "http://example.com:80", "unix:esker.sock", "127.0.0.1", "1.2.3.4:5/x"]
        {
            assert_eq!(parse_url(wrong), None, "{wrong}");
        }
    }
}
