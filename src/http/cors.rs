//! Decides which pages may read responses: the CORS protocol of the WHATWG Fetch standard.

use super::extension::is_token;
use super::origin::{OriginPattern, is_local_origin};

/// The maximum length of the list of header names that a preflight may request, in bytes.
const MAX_REQUESTED_HEADERS: usize = 4 << 10;

/// The origins whose pages may read responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// `*`: every origin, without credentials.
    Any,
    /// Origins on this machine, with credentials.
    Local,
    /// These origins, with credentials.
    Listed(Vec<OriginPattern>),
}

/// Whether the page that sent a request may read the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// Pages of every origin may read it.
    Any,
    /// Pages of this origin, the request's, may read it.
    Allowed(Box<str>),
    /// The request's origin is not allowed, or the request has none.
    Denied,
}

/// The fields of the response to an allowed preflight, in addition to those of every response and to the requested headers.
pub const PREFLIGHT: [(&str, &str); 2] =
    [("Access-Control-Allow-Methods", "GET, POST, DELETE"), ("Access-Control-Max-Age", "3600")];

const EXPOSED: &str = "Access-Control-Expose-Headers: ETag, Link, Retry-After\r\n";

impl Origins {
    /// Decides whether the page with this `Origin` may read the response.
    pub fn decide(&self, origin: Option<&str>) -> Cors {
        match (self, origin) {
            (Self::Any, _) => Cors::Any,
            (_, Some(origin)) if self.allows(origin) => Cors::Allowed(origin.into()),
            _ => Cors::Denied,
        }
    }

    /// Returns whether pages of this origin may read responses.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Local => is_local_origin(origin),
            Self::Listed(list) => list.iter().any(|pattern| pattern.matches(origin)),
        }
    }

    /// Returns whether this origin is listed explicitly, and not allowed by `*` or by default.
    pub fn lists(&self, origin: &str) -> bool {
        matches!(self, Self::Listed(_)) && self.allows(origin)
    }

    /// Returns whether a `Host` field's host is that of a listed origin.
    pub fn lists_host(&self, host: &str) -> bool {
        matches!(self, Self::Listed(list) if list.iter().any(|pattern| pattern.matches_host(host)))
    }

    /// Writes the CORS fields of every response.
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
            // The response to an allowed origin would differ, so caches must key on the origin.
            _ => &["Vary: Origin\r\n"],
        };
        fields.iter().for_each(|field| out.extend_from_slice(field.as_bytes()));
    }
}

/// Returns the value of an `Access-Control-Request-Headers` field, to be granted unchanged; `None` if it is not a list of names
/// or is too long.
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
    fn only_allowed_origins_are_echoed() {
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
    fn only_lists_of_header_names_are_granted() {
        for good in ["traceparent", "authorization,last-event-id", "X-Requested-With , Idempotency-Key", " a\t"] {
            assert_eq!(requested_headers(good.as_bytes()), Some(good));
        }
        let long = "a".repeat(MAX_REQUESTED_HEADERS + 1);
        for bad in ["", ",", "a,", "a,,b", "a b", "a\rb", "a: b", "\u{e9}", &long] {
            assert_eq!(requested_headers(bad.as_bytes()), None, "{bad:.20}");
        }
    }
}
