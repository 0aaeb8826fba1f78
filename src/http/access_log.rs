//! Formats the lines of the access log, one per response. What a client chooses is escaped, so that it can't forge a line, and
//! credentials in the target are replaced. Independent of where the lines go.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::target::Target;
use super::version::Version;

/// The longest target in a line, in bytes before it is escaped; longer ones are truncated.
const MAX_TARGET: usize = 1024;
/// The longest user agent in a line, in bytes.
const MAX_USER_AGENT: usize = 256;
/// The longest `sub` in a line, in bytes.
const MAX_SUB: usize = 128;
/// What a credential is replaced by.
const REPLACEMENT: &str = "***";
/// Parts of the names of query parameters that contain credentials. The broker itself reads only `token`.
const CREDENTIALS: [&str; 8] =
    ["token", "secret", "password", "passwd", "authorization", "credential", "jwt", "api_key"];

/// The format of the access log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessLogFormat {
    /// The Common Log Format of the Apache and NCSA servers, with the time in UTC.
    Common,
    /// One JSON object per line.
    Json,
}

impl FromStr for AccessLogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "common" => Ok(Self::Common),
            "json" => Ok(Self::Json),
            _ => Err("give common or json".into()),
        }
    }
}

/// When a request arrived, and from whom.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The time as an IMF-fixdate.
    pub date: &'a str,
    /// The time in milliseconds since the Unix epoch.
    pub unix_millis: u64,
    /// The time in milliseconds of the clock for durations.
    pub millis: u64,
    /// The client's address; `None` for a Unix socket.
    pub client: Option<IpAddr>,
}

/// What a line says about a request.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// The method, as the client wrote it.
    pub method: &'a [u8],
    /// The request target.
    pub target: Target<'a>,
    /// The client's version.
    pub version: Version,
    /// `User-Agent`; may be any bytes
    pub user_agent: Option<&'a [u8]>,
}

/// The line of a request that has no response yet.
#[derive(Debug)]
pub struct AccessLine {
    format: AccessLogFormat,
    text: String,
    /// When the request arrived, in milliseconds of the clock for durations.
    arrived: u64,
}

impl AccessLine {
    /// Begins a line. `request` is `None` if the head was malformed or did not arrive in time.
    pub fn begin(format: AccessLogFormat, arrival: Arrival<'_>, request: Option<Summary<'_>>) -> Self {
        let mut text = String::with_capacity(256);
        match format {
            AccessLogFormat::Common => begin_common(&mut text, arrival, request),
            AccessLogFormat::Json => begin_json(&mut text, arrival, request),
        }
        Self { format, text, arrived: arrival.millis }
    }

    /// Adds the `sub` of the request's token. The Common Log Format has none, because a `sub` may contain spaces.
    pub fn add_sub(&mut self, sub: &str) {
        if self.format == AccessLogFormat::Json {
            self.text.push_str(",\"sub\":");
            push_json_string(&mut self.text, truncate(sub, MAX_SUB));
        }
    }

    /// Completes the line with the response. `bytes` is the length of its body, if that is known.
    pub fn end(self, status: u16, bytes: Option<usize>, millis: u64) -> String {
        let Self { format, mut text, arrived } = self;
        let took = millis.saturating_sub(arrived);
        // Writing to a string can't fail.
        let _ = match (format, bytes) {
            (AccessLogFormat::Common, Some(bytes)) => writeln!(text, " {status} {bytes}"),
            (AccessLogFormat::Common, None) => writeln!(text, " {status} -"),
            (AccessLogFormat::Json, Some(bytes)) => {
                writeln!(text, ",\"status\":{status},\"bytes\":{bytes},\"duration_ms\":{took}}}")
            }
            (AccessLogFormat::Json, None) => {
                writeln!(text, ",\"status\":{status},\"bytes\":null,\"duration_ms\":{took}}}")
            }
        };
        text
    }
}

/// Writes `192.0.2.1 - - [29/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1"`.
fn begin_common(text: &mut String, arrival: Arrival<'_>, request: Option<Summary<'_>>) {
    let Date { year, month, day, time } = Date::of(arrival.date);
    push_client(text, arrival.client);
    let _ = write!(text, " - - [{day}/{month}/{year}:{time} +0000] \"");
    match request {
        None => text.push('-'),
        Some(request) => {
            push_escaped(text, request.method);
            text.push(' ');
            push_escaped(text, target_without_credentials(request.target).as_bytes());
            text.push(' ');
            text.push_str(version_text(request.version));
        }
    }
    text.push('"');
}

fn begin_json(text: &mut String, arrival: Arrival<'_>, request: Option<Summary<'_>>) {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let Date { year, month, day, time } = Date::of(arrival.date);
    let month = MONTHS.find(month).map_or(0, |at| at / 3 + 1);
    let millis = arrival.unix_millis % 1000;
    let _ = write!(text, "{{\"time\":\"{year}-{month:02}-{day}T{time}.{millis:03}Z\",\"client\":\"");
    push_client(text, arrival.client);
    text.push('"');
    let Some(request) = request else {
        return text.push_str(",\"method\":null,\"target\":null,\"version\":null,\"user_agent\":null");
    };
    text.push_str(",\"method\":");
    push_json_string(text, &String::from_utf8_lossy(request.method));
    text.push_str(",\"target\":");
    push_json_string(text, &target_without_credentials(request.target));
    let _ = write!(text, ",\"version\":\"{}\",\"user_agent\":", version_text(request.version));
    match request.user_agent {
        None => text.push_str("null"),
        Some(agent) => push_json_string(text, truncate(&String::from_utf8_lossy(agent), MAX_USER_AGENT)),
    }
}

/// The parts of an IMF-fixdate.
struct Date<'a> {
    year: &'a str,
    month: &'a str,
    day: &'a str,
    time: &'a str,
}

impl<'a> Date<'a> {
    /// Splits `Sun, 06 Nov 1994 08:49:37 GMT`.
    fn of(date: &'a str) -> Self {
        let part = |range| date.get(range).unwrap_or("-");
        Self { year: part(12..16), month: part(8..11), day: part(5..7), time: part(17..25) }
    }
}

fn push_client(text: &mut String, client: Option<IpAddr>) {
    let _ = match client {
        Some(address) => write!(text, "{}", address.to_canonical()),
        None => text.write_str("unix"),
    };
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// Returns the path and the query, truncated, without values that are credentials.
fn target_without_credentials(target: Target<'_>) -> String {
    let mut text = String::with_capacity(target.path.len() + target.query.0.len() + 1);
    for (index, segment) in target.path.split('/').enumerate() {
        text.push_str(if index == 0 { "" } else { "/" });
        text.push_str(if is_token(segment) { REPLACEMENT } else { segment });
    }
    for (index, pair) in target.query.0.split('&').enumerate().filter(|_| !target.query.0.is_empty()) {
        text.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, value)) if is_credential(name) || is_token(value) => {
                text.push_str(if is_token(name) { REPLACEMENT } else { name });
                text.push('=');
                text.push_str(REPLACEMENT);
            }
            _ if is_token(pair) => text.push_str(REPLACEMENT),
            _ => text.push_str(pair),
        }
    }
    if text.len() > MAX_TARGET {
        text.truncate(truncate(&text, MAX_TARGET).len());
        text.push_str("...");
    }
    text
}

/// Returns whether the name of a query parameter is that of a credential.
fn is_credential(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
    CREDENTIALS.iter().any(|part| name.contains(part))
}

/// Returns whether a text contains what looks like a JSON Web Token, in case that a client sends it in the wrong place: `{"` in
/// base64, and a dot.
fn is_token(text: &str) -> bool {
    let text = percent_decode_str(text).decode_utf8_lossy();
    text.find("eyJ").is_some_and(|at| text[at..].contains('.'))
}

/// Returns the beginning of a text, up to this many bytes.
fn truncate(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// Escapes everything except visible ASCII characters as Apache does. Spaces are escaped as well: they separate words.
fn push_escaped(text: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            _ if byte.is_ascii_graphic() => text.push(byte.into()),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
}

/// Writes a string with its quotes. Escapes all control characters and line separators, not only those for which JSON requires
/// it: they may control a terminal, or end a line for some programs.
fn push_json_string(text: &mut String, string: &str) {
    text.push('"');
    for letter in string.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ if letter.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(letter));
            }
            _ => text.push(letter),
        }
    }
    text.push('"');
}
