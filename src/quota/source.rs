//! What quotas count as one client. Independent of sockets.

use std::net::{IpAddr, Ipv6Addr};

use crate::auth::Principal;

/// A client's address as limits per address count it: an IPv4 address, or the /64 network of an IPv6 address, because a single
/// client can usually choose any address of such a network. A link-local address counts in full: all machines on a link share
/// one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

/// Whom a reservation or a limit is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// The principal of a token.
    Principal(Principal),
    /// An address, if there is no token or limits don't depend on it.
    Address(Source),
    /// All clients on Unix sockets, which have no address.
    Local,
}

impl From<Option<IpAddr>> for Client {
    fn from(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Local, |address| Self::Address(address.into()))
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_unicast_link_local() => Self(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
            address => Self(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_client_are_one_source() {
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("fe80::1", "fe80::2", false),
            ("::1", "::1", true),
        ] {
            let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
            assert_eq!(source(one) == source(other), is_same, "{one} {other}");
        }
    }
}
