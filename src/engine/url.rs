//! The engine's address as a URL: parses it, and writes it without the password.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::settings::{EngineAddress, HostPort, Password, Tls};

/// The default port of a server.
const PORT: u16 = 6379;
/// The default port of a sentinel.
const SENTINEL_PORT: u16 = 26379;
/// The largest number of sentinels. Each may be asked for every connection.
const MAX_SENTINELS: usize = 16;
/// The longest name of a host, in bytes.
const MAX_HOST: usize = 253;
/// What is written as `%XX` in a user name and in the name that sentinels know a server by.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parts of an engine's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUrl {
    /// Where the engine is.
    pub address: EngineAddress,
    /// The user name, if it is not the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Password>,
    /// The number of the database.
    pub database: i64,
}

/// Why text is not the URL of an engine. It contains nothing of the text, because that may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineUrlError {
    /// The scheme is missing or unknown.
    Scheme,
    /// It is the address of a Unix socket.
    Unix,
    /// The host is missing, or is neither a name in ASCII nor an address.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The number of the database is not one.
    Database,
    /// The name that the sentinels know the server by is missing or invalid.
    SentinelName,
    /// There are more than 16 sentinels.
    Sentinels,
    /// The server's address is a list. Only sentinels are several.
    List,
    /// There are parameters after `?`, or a fragment after `#`.
    Parameters,
    /// The user name or the password contains a character that a URL has to encode, or is encoded wrongly.
    Encoding,
}

impl fmt::Display for EngineUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str(
                "must be a URL such as redis://127.0.0.1:6379; its scheme is redis, rediss (with TLS), redis+sentinel \
                 or rediss+sentinel",
            ),
            Self::Unix => f.write_str("can't be a Unix socket; use the server's TCP port: redis://HOST:PORT"),
            Self::Host => f.write_str(
                "must name a host: a name in ASCII, an IPv4 address, or an IPv6 address in brackets, such as \
                 redis://[::1]:6379",
            ),
            Self::Port => f.write_str("has an invalid port; use a number from 1 to 65535"),
            Self::Database => {
                f.write_str("has an invalid database after the host; use its number, such as redis://HOST:PORT/0")
            }
            Self::SentinelName => f.write_str(
                "must name the server as the sentinels know it, such as redis+sentinel://HOST1,HOST2,HOST3/NAME",
            ),
            Self::Sentinels => write!(f, "lists too many sentinels; use at most {MAX_SENTINELS}"),
            Self::List => f.write_str("must name one server; redis+sentinel://HOST1,HOST2,HOST3/NAME lists sentinels"),
            Self::Parameters => f.write_str(
                "can't have parameters after ? or #; write the database as /NUMBER, and use `engine_ack`, \
                 `engine_prefix`, `engine_ca` and `engine_password` for everything else",
            ),
            Self::Encoding => f.write_str(
                "has a user name or password with a character that must be written as %XX in a URL (% as %25, / as \
                 %2F, ? as %3F, # as %23, @ as %40); or use `engine_password`, which needs no encoding",
            ),
        }
    }
}

impl std::error::Error for EngineUrlError {}

impl FromStr for EngineUrl {
    type Err = EngineUrlError;

    fn from_str(text: &str) -> Result<Self, EngineUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(EngineUrlError::Scheme)?;
        let (tls, is_sentinel) = parse_scheme(scheme)?;
        let (authority, path) = split_path(rest)?;
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (address, database) =
            if is_sentinel { parse_sentinels(hosts, path, tls)? } else { (parse_server(hosts, tls)?, path) };
        Ok(Self {
            address,
            user: decode(user, EngineUrlError::Encoding)?,
            password: decode(password, EngineUrlError::Encoding)?.map(Password),
            database: parse_database(database)?,
        })
    }
}

/// Returns whether the scheme means TLS, and whether it means sentinels.
fn parse_scheme(scheme: &str) -> Result<(Tls, bool), EngineUrlError> {
    match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => Ok((Tls::Off, false)),
        "rediss" | "valkeys" => Ok((Tls::On, false)),
        "redis+sentinel" | "valkey+sentinel" => Ok((Tls::Off, true)),
        "rediss+sentinel" | "valkeys+sentinel" => Ok((Tls::On, true)),
        "unix" | "redis+unix" | "valkey+unix" => Err(EngineUrlError::Unix),
        _ => Err(EngineUrlError::Scheme),
    }
}

/// Splits what follows the scheme at the first slash. A password with a slash, which would be split as well, is an error.
fn split_path(rest: &str) -> Result<(&str, &str), EngineUrlError> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if rest[end..].contains('@') {
        return Err(EngineUrlError::Encoding);
    }
    if rest.contains(['?', '#']) {
        return Err(EngineUrlError::Parameters);
    }
    Ok(rest.split_once('/').unwrap_or((rest, "")))
}

fn parse_server(text: &str, tls: Tls) -> Result<EngineAddress, EngineUrlError> {
    if text.contains(',') {
        return Err(EngineUrlError::List);
    }
    Ok(EngineAddress::Server(parse_host(text, PORT)?, tls))
}

/// Returns the sentinels with the server's name, and the rest of the path.
fn parse_sentinels<'a>(hosts: &str, path: &'a str, tls: Tls) -> Result<(EngineAddress, &'a str), EngineUrlError> {
    let (name, database) = path.split_once('/').unwrap_or((path, ""));
    let hosts = hosts.split(',').map(|host| parse_host(host, SENTINEL_PORT)).collect::<Result<Vec<_>, _>>()?;
    if hosts.len() > MAX_SENTINELS {
        return Err(EngineUrlError::Sentinels);
    }
    let name = decode(name, EngineUrlError::SentinelName)?.ok_or(EngineUrlError::SentinelName)?;
    Ok((EngineAddress::Sentinels(hosts, name, tls), database))
}

fn parse_host(text: &str, default_port: u16) -> Result<HostPort, EngineUrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']').ok_or(EngineUrlError::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| EngineUrlError::Host)?;
            (address, port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            if !is_host_name(name) {
                return Err(EngineUrlError::Host);
            }
            (name, port)
        }
    };
    Ok(HostPort { host: host.to_owned(), port: parse_port(port, default_port)? })
}

/// Returns whether text can be the name of a host, or an IPv4 address.
fn is_host_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=MAX_HOST).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Parses a port with its colon.
fn parse_port(text: &str, default: u16) -> Result<u16, EngineUrlError> {
    if text.is_empty() {
        return Ok(default);
    }
    let digits = text.strip_prefix(':').filter(|digits| is_number(digits)).ok_or(EngineUrlError::Port)?;
    digits.parse().ok().filter(|port| *port != 0).ok_or(EngineUrlError::Port)
}

fn parse_database(text: &str) -> Result<i64, EngineUrlError> {
    match text {
        "" => Ok(0),
        // The server counts databases with a C `int`.
        _ if is_number(text) => text.parse::<i32>().map(i64::from).map_err(|_| EngineUrlError::Database),
        _ => Err(EngineUrlError::Database),
    }
}

/// Returns whether there are only digits: numbers in Rust may begin with `+`.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Decodes `%XX`. Empty text is `None`.
fn decode(text: &str, error: EngineUrlError) -> Result<Option<String>, EngineUrlError> {
    let is_pair = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if text.split('%').skip(1).any(|rest| !is_pair(rest)) {
        return Err(error);
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| error)?;
    Ok((!decoded.is_empty()).then(|| decoded.into_owned()))
}

/// Writes a URL without the password.
pub(super) fn write_url(
    f: &mut fmt::Formatter<'_>,
    address: &EngineAddress,
    user: Option<&str>,
    database: i64,
) -> fmt::Result {
    let (scheme, hosts, name, tls) = match address {
        EngineAddress::Server(host, tls) => ("", std::slice::from_ref(host), None, tls),
        EngineAddress::Sentinels(hosts, name, tls) => ("+sentinel", hosts.as_slice(), Some(name), tls),
    };
    write!(f, "redis{}{scheme}://", if *tls == Tls::On { "s" } else { "" })?;
    if let Some(user) = user {
        write!(f, "{}@", utf8_percent_encode(user, ENCODED))?;
    }
    for (index, host) in hosts.iter().enumerate() {
        write!(f, "{}{host}", if index == 0 { "" } else { "," })?;
    }
    if let Some(name) = name {
        write!(f, "/{}", utf8_percent_encode(name, ENCODED))?;
    }
    if database == 0 { Ok(()) } else { write!(f, "/{database}") }
}

/// Formats the URL without the password.
impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_url(f, &self.address, self.user.as_deref(), self.database)
    }
}

/// Formats an address as a URL contains it.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<EngineUrl, EngineUrlError> {
        text.parse()
    }

    #[test]
    fn addresses_have_defaults_and_are_shown_in_one_form() {
        for (text, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
            ("REDIS://db.example:7/", "redis://db.example:7"),
            ("valkey://[::1]/3", "redis://[::1]:6379/3"),
            ("rediss://u@[fd00::1]:80/0", "rediss://u@[fd00::1]:80"),
            ("valkeys://a_b-c", "rediss://a_b-c:6379"),
            ("redis+sentinel://a,b:1,[::1]/main/2", "redis+sentinel://a:26379,b:1,[::1]:26379/main/2"),
            ("rediss+sentinel://a/my%20name", "rediss+sentinel://a:26379/my%20name"),
            ("redis://n%40me:x@h", "redis://n%40me@h:6379"),
        ] {
            assert_eq!(parse(text).map(|url| url.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn users_and_passwords_are_decoded() {
        let credentials = |text: &str| parse(text).map(|url| (url.user, url.password.map(|password| password.0)));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(credentials("redis://h"), Ok((None, None)));
        assert_eq!(credentials("redis://:p%25%2f:q@h"), Ok((None, some("p%/:q"))));
        assert_eq!(credentials("redis://m%C3%A9:a@b@h"), Ok((some("mé"), some("a@b"))));
        assert_eq!(credentials("redis://u:@h"), Ok((some("u"), None)));
        assert_eq!(credentials("redis+sentinel://u:p@a,b/n"), Ok((some("u"), some("p"))));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        use EngineUrlError as E;
        for (text, error) in [
            ("localhost:6379", E::Scheme),
            ("http://h", E::Scheme),
            ("", E::Scheme),
            ("unix:///run/redis.sock", E::Unix),
            ("redis+unix:///run/redis.sock", E::Unix),
            ("redis://", E::Host),
            ("redis://:6379", E::Host),
            ("redis://h\u{e9}", E::Host),
            ("redis://::1", E::Host),
            ("redis://[::1", E::Host),
            ("redis://[h]", E::Host),
            ("redis+sentinel://a,/n", E::Host),
            ("redis://h:", E::Port),
            ("redis://h:0", E::Port),
            ("redis://h:65536", E::Port),
            ("redis://[::1]6379", E::Port),
            ("redis://h/x", E::Database),
            ("redis://h/+1", E::Database),
            ("redis://h/0/1", E::Database),
            ("redis://h/2147483648", E::Database),
            ("redis+sentinel://a,b", E::SentinelName),
            ("redis+sentinel://a,b//1", E::SentinelName),
            ("redis+sentinel://a/%", E::SentinelName),
            ("redis://a,b", E::List),
            ("redis://h?db=1", E::Parameters),
            ("redis://h/0#insecure", E::Parameters),
            ("redis://:pa/ss@h", E::Encoding),
            ("redis://:pa?ss@h", E::Encoding),
            ("redis://:50%@h", E::Encoding),
            ("redis://:%ff@h", E::Encoding),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        let many = format!("redis+sentinel://{}/n", vec!["h"; MAX_SENTINELS + 1].join(","));
        assert_eq!(parse(&many), Err(E::Sentinels));
    }

    fn host() -> impl Strategy<Value = HostPort> {
        let name = prop_oneof![
            "[a-zA-Z0-9._-]{1,30}",
            any::<[u8; 4]>().prop_map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            any::<[u8; 16]>().prop_map(|bytes| Ipv6Addr::from(bytes).to_string()),
        ];
        (name, 1..=u16::MAX).prop_map(|(host, port)| HostPort { host, port })
    }

    fn address() -> impl Strategy<Value = EngineAddress> {
        let tls = || prop_oneof![Just(Tls::Off), Just(Tls::On)];
        prop_oneof![
            (host(), tls()).prop_map(|(host, tls)| EngineAddress::Server(host, tls)),
            (prop::collection::vec(host(), 1..=MAX_SENTINELS), any::<String>(), tls())
                .prop_filter("a server has a name", |(_, name, _)| !name.is_empty())
                .prop_map(|(hosts, name, tls)| EngineAddress::Sentinels(hosts, name, tls)),
        ]
    }

    fn url() -> impl Strategy<Value = EngineUrl> {
        let user = prop::option::of(any::<String>().prop_filter("a user has a name", |user| !user.is_empty()));
        (address(), user, 0..=i32::MAX).prop_map(|(address, user, database)| EngineUrl {
            address,
            user,
            password: None,
            database: database.into(),
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_back(url in url()) {
            prop_assert_eq!(parse(&url.to_string()), Ok(url));
        }

        #[test]
        fn passwords_are_parsed_and_never_shown(url in url(), tail in any::<String>()) {
            let password = format!("S3CRET{tail}");
            let user = url.user.as_deref().unwrap_or_default();
            let credentials =
                format!("{}:{}@", utf8_percent_encode(user, ENCODED), utf8_percent_encode(&password, ENCODED));
            let shown = EngineUrl { user: None, ..url.clone() }.to_string().replacen("://", &format!("://{credentials}"), 1);
            let parsed = parse(&shown).unwrap();
            prop_assert_eq!(&parsed, &EngineUrl { password: Some(Password(password)), ..url.clone() });
            prop_assert_eq!(parsed.to_string(), url.to_string());
            let debug = format!("{parsed:?}");
            prop_assert!(!debug.contains("S3CRET"));
        }

        #[test]
        fn no_text_panics(text in any::<String>(), rest in "[a-z0-9:/@,%?#.\\[\\]+]{0,40}", sentinel in any::<bool>()) {
            let _ = parse(&text);
            let text = format!("redis{}://{rest}", if sentinel { "+sentinel" } else { "" });
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url.to_string()), Ok(EngineUrl { password: None, ..url }));
            }
        }
    }
}
