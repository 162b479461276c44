//! Who is asking, also when a load balancer asks for them.

use std::{net::IpAddr, str::FromStr};

use warp::http::HeaderMap;

/// The client's address; stands in the extensions of every request that [`super::HttpServer`] serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The nearest address that is not a trusted proxy: the peer itself, unless it is one; then the last address in
    /// `X-Forwarded-For` that is not. What stands before that was written by the client and proves nothing.
    pub(super) fn find(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        if !is_trusted(peer) {
            return Self(peer);
        }
        let told = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let mut addresses: Vec<&str> = told.flat_map(|value| value.split(',')).collect();
        let mut nearest = peer;
        while let Some(address) = addresses.pop().and_then(|text| text.trim().parse::<IpAddr>().ok()) {
            nearest = address.to_canonical();
            if !is_trusted(nearest) {
                break;
            }
        }
        Self(nearest)
    }
}

/// A range of addresses: `10.0.0.0/8`, `::1`, `192.168.1.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix_bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix_bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is not an address or a range such as 10.0.0.0/8");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(most), str::parse).map_err(|_| expected())?;
        if prefix_bits > most { Err(expected()) } else { Ok(Self { address, prefix_bits }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn found(peer: &str, forwarded: &str, trusted: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().expect("a header value"));
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().expect("a network")).collect();
        ClientAddress::find(ip(peer), &headers, &trusted).0
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(found("9.9.9.9", "1.1.1.1", &[]), ip("9.9.9.9"));
        assert_eq!(found("10.0.0.1", "1.1.1.1", &["10.0.0.0/8"]), ip("1.1.1.1"));
        assert_eq!(found("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", &["10.0.0.0/8"]), ip("1.1.1.1"));
        assert_eq!(found("10.0.0.1", "not an address", &["10.0.0.0/8"]), ip("10.0.0.1"));
        assert_eq!(found("::ffff:10.0.0.1", "1.1.1.1", &["10.0.0.0/8"]), ip("1.1.1.1"));
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let contains =
            |network: &str, address: &str| network.parse::<Network>().expect("a network").contains(ip(address));
        assert!(contains("0.0.0.0/0", "1.2.3.4"));
        assert!(contains("10.1.0.0/16", "10.1.255.255"));
        assert!(!contains("10.1.0.0/16", "10.2.0.0"));
        assert!(contains("10.1.2.3", "10.1.2.3"));
        assert!(contains("fd00::/8", "fd12::1"));
        assert!(!contains("fd00::/8", "1.2.3.4"));
        for text in ["", "x", "10.0.0.0/33", "10.0.0.0/x", "::/129"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
