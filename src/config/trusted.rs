//! The proxies whose `X-Forwarded-For` is trusted. Independent of HTTP and of sockets.

use std::net::IpAddr;
use std::str::FromStr;

use super::Config;

impl Config {
    /// Adds a proxy that is trusted to report its clients' addresses in `X-Forwarded-For`: an IP address, a network such as
    /// `10.0.0.0/8`, or `unix` for all Unix sockets. Repeatable. Limits per address and the log then use the last address in the
    /// field that is not of a trusted proxy. Default: none; the field is ignored.
    #[must_use]
    pub fn trusted_proxy(mut self, proxy: impl Into<String>) -> Self {
        self.trusted_proxies.push(proxy.into());
        self
    }
}

/// The peers that `--trusted-proxy` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    /// Whether all peers on Unix sockets are trusted.
    includes_unix: bool,
}

/// The addresses that have the first `prefix` bits of `address`. The other bits of `address` are 0. An IPv4-mapped network is
/// stored as an IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

impl TrustedProxies {
    /// Parses a list of IP addresses, networks in CIDR notation, and `unix`. Returns the first text that is none of these.
    pub fn parse(texts: &[String]) -> Result<Self, &str> {
        let mut proxies = Self::default();
        for text in texts {
            match text.as_str() {
                "unix" => proxies.includes_unix = true,
                network => proxies.networks.push(network.parse().map_err(|NotANetwork| network)?),
            }
        }
        Ok(proxies)
    }

    /// Returns whether no peer is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.includes_unix
    }

    /// Returns whether a peer is trusted; `None` is a peer on a Unix socket.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            None => self.includes_unix,
            Some(address) => self.networks.iter().any(|network| network.contains(address.to_canonical())),
        }
    }
}

/// The error for text that is not a network.
struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let canonical = address.to_canonical();
        let prefix = prefix.map_or(Ok(width(address)), parse_prefix)?;
        // An IPv4 address is the last 32 bits of its IPv4-mapped form.
        let mapped_by = width(address) - width(canonical);
        let prefix = prefix.checked_sub(mapped_by).filter(|&prefix| prefix <= width(canonical)).ok_or(NotANetwork)?;
        let network = Self { address: canonical, prefix };
        // Bits after the prefix are a typo: of the address, or of the prefix.
        if network.host_bits(canonical) == 0 { Ok(network) } else { Err(NotANetwork) }
    }
}

/// Parses the length of a prefix: decimal digits without a leading zero.
fn parse_prefix(text: &str) -> Result<u8, NotANetwork> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_number).ok_or(NotANetwork)
}

/// Returns the number of bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns the bits of an address as the last bits of a number.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Network {
    /// Returns whether it includes an address, which must not be IPv4-mapped.
    fn contains(self, address: IpAddr) -> bool {
        let differing = bits(address) ^ bits(self.address);
        address.is_ipv4() == self.address.is_ipv4() && differing == differing & self.host_mask()
    }

    /// Returns the bits of an address of the same family that are not determined by the prefix.
    fn host_bits(self, address: IpAddr) -> u128 {
        bits(address) & self.host_mask()
    }

    fn host_mask(self) -> u128 {
        let free = u32::from(width(self.address) - self.prefix);
        1_u128.checked_shl(free).map_or(u128::MAX, |bit| bit - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn proxies(texts: &[&str]) -> TrustedProxies {
        let texts: Vec<_> = texts.iter().copied().map(str::to_owned).collect();
        TrustedProxies::parse(&texts).unwrap()
    }

    #[test]
    fn networks_include_their_addresses() {
        for (network, address, is_included) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("10.0.0.0/8", "::10.0.0.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "127.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("::1/128", "::2", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("::ffff:10.0.0.1", "10.0.0.2", false),
            ("::ffff:0.0.0.0/96", "10.0.0.2", true),
        ] {
            let proxies = proxies(&[network]);
            assert_eq!(proxies.contains(Some(address.parse().unwrap())), is_included, "{network} {address}");
            assert!(!proxies.contains(None) && !proxies.is_empty());
        }
    }

    #[test]
    fn unix_sockets_are_trusted_separately() {
        let unix = proxies(&["unix"]);
        assert!(unix.contains(None) && !unix.contains(Some(Ipv4Addr::LOCALHOST.into())) && !unix.is_empty());
        let both = proxies(&["127.0.0.1", "unix"]);
        assert!(both.contains(None) && both.contains(Some(Ipv4Addr::LOCALHOST.into())));
        let none = proxies(&[]);
        assert!(none.is_empty() && !none.contains(None) && !none.contains(Some(Ipv4Addr::LOCALHOST.into())));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "localhost",
            "Unix",
            "unix:",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.1/8",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/255.0.0.0",
            " 10.0.0.0/8",
            "10.0.0.1:80",
            "::/129",
            "::1/64",
            "[::1]",
            "fe80::1%eth0",
            "::ffff:0.0.0.0/95",
            "::ffff:10.0.0.1/104",
            "*",
        ] {
            let texts = ["127.0.0.1".to_owned(), text.to_owned()];
            assert_eq!(TrustedProxies::parse(&texts), Err(text));
        }
    }

    proptest! {
        /// Compares with comparing the binary digits.
        #[test]
        fn a_network_includes_what_shares_its_prefix(
            first in any::<u128>(),
            flipped in 0..128_u32,
            prefix in 0..=128_usize,
            is_v4: bool,
        ) {
            let second = first ^ (1 << flipped);
            let address = |bits: u128| -> IpAddr {
                if is_v4 { Ipv4Addr::from_bits(bits as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
            };
            let digits = |bits: u128| if is_v4 { format!("{:032b}", bits as u32) } else { format!("{bits:0128b}") };
            let prefix = if is_v4 { prefix / 4 } else { prefix };
            let zeros = "0".repeat(digits(first).len() - prefix);
            let base = u128::from_str_radix(&format!("{}{zeros}", &digits(first)[..prefix]), 2).unwrap();
            // Another family.
            prop_assume!(address(first).to_canonical() == address(first) && address(second).to_canonical() == address(second));
            prop_assume!(address(base).to_canonical() == address(base));
            let proxies = proxies(&[&format!("{}/{prefix}", address(base))]);
            prop_assert!(proxies.contains(Some(address(first))));
            let is_shared = digits(first)[..prefix] == digits(second)[..prefix];
            prop_assert_eq!(proxies.contains(Some(address(second))), is_shared);
        }
    }
}
