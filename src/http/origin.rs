//! Parses and compares origins (RFC 6454) and hosts: those that an operator lists, those of this machine, and whether a page's
//! origin is the host of the request.

use std::net::IpAddr;

use super::target::host_len;

/// One value of `--origin`, other than `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// One origin. `null` is the origin of sandboxed pages and of local files.
    Exact(String),
    /// Every subdomain of a domain, at any depth, but not the domain itself.
    Subdomains {
        /// For example `https://`.
        scheme: String,
        /// For example `.example.com:8443`.
        suffix: String,
    },
}

impl OriginPattern {
    /// Parses a serialized origin as browsers send it, `null`, or `https://*.example.com`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Exact(text.to_owned()));
        }
        match text.split_once("://*.") {
            Some((scheme, domain)) => is_origin(&format!("{scheme}://{domain}"))
                .then(|| Self::Subdomains { scheme: format!("{scheme}://"), suffix: format!(".{domain}") }),
            None => is_origin(text).then(|| Self::Exact(text.to_owned())),
        }
    }

    /// Returns whether the pattern matches this origin.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(listed) => listed == origin,
            Self::Subdomains { scheme, suffix } => {
                let host = origin.strip_prefix(scheme.as_str());
                host.and_then(|host| host.strip_suffix(suffix.as_str())).is_some_and(is_domain)
            }
        }
    }

    /// Returns whether the pattern matches the host of a `Host` field, regardless of the port.
    pub fn matches_host(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        match self {
            Self::Exact(listed) => host_of(listed).is_some_and(|host| without_port(host) == name),
            Self::Subdomains { suffix, .. } => name.strip_suffix(without_port(suffix)).is_some_and(is_domain),
        }
    }
}

/// Returns whether a text is an origin as browsers serialize it (RFC 6454 section 6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "/",
    };
    let is_plain = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"*,".contains(&b);
    text.bytes().all(is_plain)
        && !scheme.is_empty()
        && !host.is_empty()
        && !host.contains('/')
        && !host.ends_with(default_port)
}

/// Returns whether a text is one or more labels separated by dots.
fn is_domain(text: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    text.split('.').all(is_label)
}

/// Returns whether an origin is on this machine: `http` or `https`, `localhost`, `127.0.0.1` or `[::1]`, and any port.
pub fn is_local_origin(origin: &str) -> bool {
    let is_http = origin.starts_with("http://") || origin.starts_with("https://");
    let host = host_of(origin).unwrap_or_default();
    let (name, port) = host.split_at(without_port(host).len());
    let is_port = port.is_empty() || port[1..].parse::<u16>().is_ok();
    is_http && is_port && matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// Returns whether the host of a `Host` field is a loopback address, `localhost` or a subdomain of it. These names are not
/// looked up in DNS (RFC 6761 section 6.3), so no website can own one of them.
pub fn is_loopback_host(host: &str) -> bool {
    let name = without_port(host);
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if literal.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback()) {
        return true;
    }
    let domain = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    domain == "localhost" || domain.strip_suffix(".localhost").is_some_and(is_domain)
}

/// Returns whether a page's origin has the host and port of a `Host` field. The scheme's default port may be present or not.
pub fn is_origin_of_host(origin: &str, host: &str) -> bool {
    let Some((scheme, page)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    !page.is_empty() && plain(page) == plain(host)
}

/// Returns the host and port of an origin.
fn host_of(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, host)| host)
}

fn without_port(host: &str) -> &str {
    &host[..host_len(host)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serialized_origins_are_patterns() {
        for good in ["null", "http://localhost:8000", "https://a.example", "https://[::1]:1", "app://x"] {
            assert_eq!(OriginPattern::parse(good), Some(OriginPattern::Exact(good.into())), "{good}");
        }
        for bad in [
            "",
            "*",
            "NULL",
            "example.com",
            "https://a.example/",
            "https://",
            "https://a\r\nb",
            "HTTPS://a.example",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://*",
            "https://*.",
            "https://a.*.example",
            "https://*.*.example",
            "https://*a.example",
            "https://*.a.example/",
            "https://*.a.example:443",
            "*.a.example",
            "*://*.a.example",
        ] {
            assert_eq!(OriginPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wildcard_matches_subdomains_at_any_depth() {
        let pattern = OriginPattern::parse("https://*.example.com").unwrap();
        let with_port = OriginPattern::parse("http://*.example.com:8443").unwrap();
        for origin in ["https://a.example.com", "https://a.b.example.com", "https://x-1_y.example.com"] {
            assert!(pattern.matches(origin), "{origin}");
        }
        assert!(with_port.matches("http://a.example.com:8443"));
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "https://aexample.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil",
            "https://evil/.example.com",
            "https://evil:1.example.com",
            "https://u@a.example.com",
            "https://\u{e9}.example.com",
            "null",
        ] {
            assert!(!pattern.matches(origin) && !with_port.matches(origin), "{origin}");
        }
    }

    #[test]
    fn listed_hosts_match_at_any_port() {
        let exact = OriginPattern::parse("https://a.example:8443").unwrap();
        let below = OriginPattern::parse("https://*.b.example").unwrap();
        for host in ["a.example", "A.example:80", "a.example:8443"] {
            assert!(exact.matches_host(host) && !below.matches_host(host), "{host}");
        }
        assert!(below.matches_host("x.y.B.example:3000"));
        for host in ["b.example", "", "a.example.evil", "xa.example", "xb.example", "null"] {
            assert!(!exact.matches_host(host) && !below.matches_host(host), "{host}");
        }
        assert!(!OriginPattern::parse("null").unwrap().matches_host("null"));
    }

    #[test]
    fn origins_of_this_machine_are_recognized() {
        for origin in [
            "http://localhost",
            "https://localhost:8443",
            "http://127.0.0.1:65535",
            "http://[::1]",
            "https://[::1]:5173",
        ] {
            assert!(is_local_origin(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "localhost",
            "file://localhost",
            "http://localhost.evil.example",
            "http://localhost:x",
            "http://localhost:",
            "http://localhost:65536",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1@evil.example",
            "http://evil.example:3000",
            "http://[::1].evil.example",
            "http://192.168.1.2:3000",
            "chrome-extension://localhost",
        ] {
            assert!(!is_local_origin(origin), "{origin}");
        }
    }

    #[test]
    fn loopback_hosts_are_recognized() {
        for host in [
            "localhost",
            "LOCALHOST:3000",
            "localhost.",
            "app.localhost:80",
            "127.0.0.1",
            "127.1.2.3:3000",
            "[::1]",
            "[::1]:3000",
            "[::ffff:127.0.0.1]:3000",
            "[::FFFF:127.0.0.1]",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "notlocalhost",
            ".localhost",
            "127.0.0.1.evil.example",
            "128.0.0.1",
            "0.0.0.0",
            "[::]",
            "[::2]:3000",
            "[::1].evil.example",
            "[::1]x:80",
            "192.168.0.1:3000",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn an_origin_is_compared_with_the_host_of_a_request() {
        for (origin, host) in [
            ("http://a.example", "a.example"),
            ("http://a.example:3000", "A.example:3000"),
            ("https://a.example", "a.example:443"),
            ("http://[::1]:3000", "[::1]:3000"),
        ] {
            assert!(is_origin_of_host(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "null"),
            ("http://a.example", "a.example:3000"),
            ("http://a.example:443", "a.example"),
            ("http://a.example.evil", "a.example"),
            ("http://", ""),
            ("app://a.example", "a.example"),
            ("a.example", "a.example"),
        ] {
            assert!(!is_origin_of_host(origin, host), "{origin} {host}");
        }
    }
}
