//! Which pages may read answers (the CORS protocol of the Fetch standard).

use super::extension::is_token;
use super::origin::{OriginPattern, is_local_origin};

/// The longest list of request header names that a preflight is granted, in bytes.
const MAX_REQUESTED_HEADERS: usize = 4 << 10;

/// The origins whose pages may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// `*`: every origin, without credentials.
    Any,
    /// Origins on this machine, with credentials.
    Local,
    /// These origins, with credentials.
    Listed(Vec<OriginPattern>),
}

/// What one request's `Origin` came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// Every origin may read the answer.
    Any,
    /// This origin may.
    Allowed(Box<str>),
    /// The request's origin may not, or there was none.
    Denied,
}

/// The fields of a granted preflight, beside those of every answer and the request headers that it asked for.
pub const PREFLIGHT: [(&str, &str); 2] =
    [("Access-Control-Allow-Methods", "GET, POST, DELETE"), ("Access-Control-Max-Age", "3600")];

const EXPOSED: &str = "Access-Control-Expose-Headers: Link, Retry-After\r\n";

impl Origins {
    /// Decides on an `Origin` field.
    pub fn decide(&self, origin: Option<&str>) -> Cors {
        match (self, origin) {
            (Self::Any, _) => Cors::Any,
            (_, Some(origin)) if self.allows(origin) => Cors::Allowed(origin.into()),
            _ => Cors::Denied,
        }
    }

    /// Returns whether pages of this origin may read answers.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Local => is_local_origin(origin),
            Self::Listed(list) => list.iter().any(|pattern| pattern.matches(origin)),
        }
    }

    /// Returns whether this origin was listed by name: not by `*`, and not by default.
    pub fn lists(&self, origin: &str) -> bool {
        matches!(self, Self::Listed(_)) && self.allows(origin)
    }

    /// Returns whether a `Host` field's host is that of a listed origin.
    pub fn lists_host(&self, host: &str) -> bool {
        matches!(self, Self::Listed(list) if list.iter().any(|pattern| pattern.names_host(host)))
    }

    /// Writes the fields that every answer has.
    pub fn write(&self, cors: &Cors, out: &mut Vec<u8>) {
        let fields: &[&str] = match (self, cors) {
            (Self::Any, _) => &["Access-Control-Allow-Origin: *\r\n", EXPOSED],
            (_, Cors::Allowed(origin)) => &[
                "Access-Control-Allow-Origin: ",
                origin,
                "\r\nAccess-Control-Allow-Credentials: true\r\n",
                EXPOSED,
                "Vary: Origin\r\n",
            ],
            // The answer would have been another for an allowed origin: caches must know.
            _ => &["Vary: Origin\r\n"],
        };
        fields.iter().for_each(|field| out.extend_from_slice(field.as_bytes()));
    }
}

/// Returns the names in an `Access-Control-Request-Headers` field, to be granted as they stand; `None` if they are not a list
/// of names or too many.
pub fn requested_headers(field: &[u8]) -> Option<&str> {
    let is_name = |element: &[u8]| {
        let name = element.trim_ascii();
        !name.is_empty() && name.iter().all(|&byte| is_token(byte))
    };
    let is_list = field.len() <= MAX_REQUESTED_HEADERS && field.split(|&b| b == b',').all(is_name);
    std::str::from_utf8(field).ok().filter(|_| is_list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(origins: &Origins, origin: Option<&str>) -> String {
        let mut out = Vec::new();
        origins.write(&origins.decide(origin), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_allowed_origin_is_echoed_and_others_get_nothing() {
        let listed =
            ["https://a.example", "https://*.b.example", "null"].map(|text| OriginPattern::parse(text).unwrap());
        let origins = Origins::Listed(listed.into());
        for allowed in ["https://a.example", "https://x.b.example", "null"] {
            let text = text(&origins, Some(allowed));
            assert!(text.contains(&format!("Allow-Origin: {allowed}\r\n")) && text.ends_with("\r\nVary: Origin\r\n"));
        }
        for denied in [Some("https://c.example"), Some("https://b.example"), Some("http://localhost"), None] {
            assert_eq!(text(&origins, denied), "Vary: Origin\r\n");
        }
        assert!(
            text(&Origins::Local, Some("http://localhost:5173")).contains("Allow-Origin: http://localhost:5173\r\n")
        );
        assert_eq!(text(&Origins::Local, Some("https://a.example")), "Vary: Origin\r\n");
        assert!(!text(&Origins::Any, Some("https://a.example")).contains("Credentials"));
    }

    #[test]
    fn only_names_of_headers_are_granted() {
        for good in ["traceparent", "authorization,last-event-id", "X-Requested-With , Idempotency-Key", " a\t"] {
            assert_eq!(requested_headers(good.as_bytes()), Some(good));
        }
        let long = "a".repeat(MAX_REQUESTED_HEADERS + 1);
        for bad in ["", ",", "a,", "a,,b", "a b", "a\rb", "a: b", "\u{e9}", &long] {
            assert_eq!(requested_headers(bad.as_bytes()), None, "{bad:.20}");
        }
    }
}
