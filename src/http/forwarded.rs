//! The client's address as proxies report it in `X-Forwarded-For`: each appends the address of its own peer, so only the
//! elements at the end, which trusted proxies have added, are reliable. Independent of which proxies are trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::head::fields_from_last;

/// The maximum number of elements that are looked at, from the last one on.
const MAX_ELEMENTS: usize = 64;

/// Returns the last address of a head's `X-Forwarded-For` fields that is not trusted, or the first one if all are trusted.
/// An element that is not an address, such as `unknown`, ends the search: what precedes it may be forged. The result is then
/// the address after it, or `None` if there is none.
///
/// `head` is a complete head.
pub fn client_address(head: &[u8], is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let values = fields_from_last(head, "x-forwarded-for");
    let elements = values.flat_map(|value| value.rsplit(|&b| b == b',')).take(MAX_ELEMENTS).map(<[u8]>::trim_ascii);
    let mut client = None;
    // Empty elements of a list are ignored (RFC 9110 section 5.6.1.2).
    for element in elements.filter(|element| !element.is_empty()) {
        let Some(address) = std::str::from_utf8(element).ok().and_then(parse_element) else { break };
        client = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// Parses an IP address. Some proxies add the port: `192.0.2.1:80` or `[2001:db8::1]:80`.
fn parse_element(text: &str) -> Option<IpAddr> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => match text.parse::<IpAddr>() {
            Ok(address) => (address, ""),
            Err(_) => {
                let (address, port) = text.split_at(text.find(':')?);
                (address.parse::<Ipv4Addr>().ok()?.into(), port)
            }
        },
    };
    is_port(port).then(|| address.to_canonical())
}

/// Returns whether a text is empty, or a colon and a port.
fn is_port(text: &str) -> bool {
    let is_number = |digits: &str| (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    text.is_empty() || text.strip_prefix(':').is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Trusts 10.0.0.0/8 and ::1.
    fn is_trusted(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST,
        }
    }

    /// Returns the client's address in a head with these values of `X-Forwarded-For`.
    fn client(values: &[&str]) -> Option<String> {
        let fields: String =
            values.iter().map(|value| format!("x-FORWARDED-for:{value}\r\nX-Forwarded: 9.9.9.9\r\n")).collect();
        let head = format!("GET /x-forwarded-for:9.9.9.9 HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        client_address(head.as_bytes(), is_trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_last_untrusted_address_counts() {
        for (values, address) in [
            (&[][..], None),
            (&[""], None),
            (&[" , ,"], None),
            (&[" 192.0.2.1 "], Some("192.0.2.1")),
            (&["192.0.2.1, 192.0.2.2"], Some("192.0.2.2")),
            (&["192.0.2.1, 192.0.2.2, 10.0.0.1"], Some("192.0.2.2")),
            (&["192.0.2.1, 192.0.2.2,, 10.0.0.1,"], Some("192.0.2.2")),
            (&["192.0.2.1,10.0.0.2,::1"], Some("192.0.2.1")),
            (&["10.0.0.1, 10.0.0.2"], Some("10.0.0.1")),
            // Several fields are one list.
            (&["192.0.2.1", "192.0.2.2"], Some("192.0.2.2")),
            (&["192.0.2.1, 192.0.2.2", "10.0.0.1", "10.0.0.2, ::1"], Some("192.0.2.2")),
            (&["192.0.2.1", "", "10.0.0.1"], Some("192.0.2.1")),
            // What is not an address ends the search.
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, unknown, 10.0.0.1"], Some("10.0.0.1")),
            (&["192.0.2.1, _hidden, 10.0.0.1, 10.0.0.2"], Some("10.0.0.1")),
            (&["unknown, 192.0.2.1, 10.0.0.1"], Some("192.0.2.1")),
            (&["192.0.2.1", "for=192.0.2.2"], None),
        ] {
            assert_eq!(client(values).as_deref(), address, "{values:?}");
        }
    }

    #[test]
    fn elements_are_addresses_with_or_without_a_port() {
        for (element, address) in [
            ("192.0.2.1:5678", "192.0.2.1"),
            ("192.0.2.1:0", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ] {
            assert_eq!(client(&[element]).as_deref(), Some(address), "{element}");
        }
        for element in [
            "unknown",
            "_hidden",
            "localhost",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:+8",
            "192.0.2.1:123456",
            "192.0.2.1 :80",
            "192.0.2",
            "192.0.2.01",
            "192.0.2.1/32",
            "[192.0.2.1]:80",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "2001:db8::1]:80",
            "fe80::1%eth0",
            "\"[2001:db8::1]\"",
            "\u{e9}",
        ] {
            assert_eq!(client(&["192.0.2.9", element]), None, "{element}");
        }
    }

    #[test]
    fn the_search_is_bounded() {
        let trusted = vec!["10.0.0.1"; MAX_ELEMENTS - 1].join(",");
        assert_eq!(client(&["192.0.2.1", &trusted]).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&["192.0.2.1", "10.0.0.2", &trusted]).as_deref(), Some("10.0.0.2"));
        assert_eq!(client(&["192.0.2.1", &",".repeat(MAX_ELEMENTS)]), None);
    }

    proptest! {
        /// Compares with joining all fields and reading them from the beginning.
        #[test]
        fn the_client_is_found_as_by_a_naive_reader(values in prop::collection::vec(
            prop::collection::vec(
                prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "::1", "192.0.2.1", "192.0.2.2:80", "[2001:db8::1]:9", "unknown", ""]),
                0..6,
            ),
            0..5,
        )) {
            let joined: Vec<_> = values.iter().flatten().filter(|element| !element.is_empty()).collect();
            let mut expected = None;
            for (index, element) in joined.iter().enumerate() {
                let rest = &joined[index + 1..];
                let is_address = |text: &str| text != "unknown";
                let is_trusted = |text: &str| text.starts_with("10.") || text == "::1";
                let is_reached = rest.iter().all(|after| is_address(after) && is_trusted(after));
                let is_last = index == 0 || !is_address(joined[index - 1]) || !is_trusted(element);
                if is_address(element) && is_reached && is_last {
                    expected = Some(element.replace(":80", "").replace("]:9", "").replace('[', ""));
                }
            }
            let values: Vec<_> = values.iter().map(|elements| elements.join(" ,\t")).collect();
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            prop_assert_eq!(client(&values), expected);
        }
    }
}
