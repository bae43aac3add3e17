//! Ranges of IP addresses, and MAC addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::family::{IpFamily, octets};

/// An IPv4 range in CIDR notation; host bits are always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Cidr {
    network: u32,
    prefix_len: u8,
}

/// An IPv6 range in CIDR notation; host bits are always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv6Cidr {
    network: u128,
    prefix_len: u8,
}

/// A range of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpCidr {
    /// Of IPv4.
    V4(Ipv4Cidr),
    /// Of IPv6.
    V6(Ipv6Cidr),
}

/// A string that is not a range in CIDR notation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a range such as {example}")]
pub struct ParseCidrError {
    text: String,
    example: &'static str,
}

impl Ipv4Cidr {
    /// The range of `prefix_len` bits that holds `address`.
    ///
    /// `None` when the prefix is longer than an address.
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Option<Ipv4Cidr> {
        if prefix_len > 32 {
            return None;
        }
        let network = address.to_bits() & mask(prefix_len);
        Some(Ipv4Cidr { network, prefix_len })
    }

    /// The lowest address of the range.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network)
    }

    /// The number of leading bits that all its addresses share.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The highest address of the range.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network | !mask(self.prefix_len))
    }

    /// The address at `offset`, or `None` past the end of the range.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        let address = self.network.checked_add(offset)?;
        let address = Ipv4Addr::from_bits(address);
        self.contains(address).then_some(address)
    }

    /// Whether `address` lies in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix_len) == self.network
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(self, other: Ipv4Cidr) -> bool {
        let shorter = mask(self.prefix_len.min(other.prefix_len));
        self.network & shorter == other.network & shorter
    }
}

fn mask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0)
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix_len)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = ParseCidrError;

    /// Refuses host bits: `10.0.0.1/16` is more often a slip than a wish.
    fn from_str(text: &str) -> Result<Ipv4Cidr, ParseCidrError> {
        let example = "10.0.0.0/16";
        let error = || ParseCidrError { text: text.to_owned(), example };
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let cidr = Ipv4Cidr::new(address, prefix).ok_or_else(error)?;
        if cidr.network() != address {
            return Err(error());
        }
        Ok(cidr)
    }
}

impl Ipv6Cidr {
    /// The range of `prefix_len` bits that holds `address`.
    ///
    /// `None` when the prefix is longer than an address.
    pub fn new(address: Ipv6Addr, prefix_len: u8) -> Option<Ipv6Cidr> {
        if prefix_len > 128 {
            return None;
        }
        let network = address.to_bits() & mask6(prefix_len);
        Some(Ipv6Cidr { network, prefix_len })
    }

    /// The range that holds `address` alone.
    pub fn of_address(address: Ipv6Addr) -> Ipv6Cidr {
        Ipv6Cidr { network: address.to_bits(), prefix_len: 128 }
    }

    /// The lowest address of the range.
    pub fn network(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.network)
    }

    /// The number of leading bits that all its addresses share.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Whether `address` lies in the range.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        address.to_bits() & mask6(self.prefix_len) == self.network
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(self, other: Ipv6Cidr) -> bool {
        let shorter = mask6(self.prefix_len.min(other.prefix_len));
        self.network & shorter == other.network & shorter
    }
}

fn mask6(prefix_len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0)
}

impl fmt::Display for Ipv6Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix_len)
    }
}

impl FromStr for Ipv6Cidr {
    type Err = ParseCidrError;

    /// Refuses host bits, as for IPv4.
    fn from_str(text: &str) -> Result<Ipv6Cidr, ParseCidrError> {
        let example = "fd00:0:0:100::/64";
        let error = || ParseCidrError { text: text.to_owned(), example };
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: Ipv6Addr = address.parse().map_err(|_| error())?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let cidr = Ipv6Cidr::new(address, prefix).ok_or_else(error)?;
        if cidr.network() != address {
            return Err(error());
        }
        Ok(cidr)
    }
}

impl IpCidr {
    /// The range of `prefix_len` bits that holds `address`.
    ///
    /// `None` when the prefix is longer than an address.
    pub fn new(address: IpAddr, prefix_len: u8) -> Option<IpCidr> {
        match address {
            IpAddr::V4(it) => Ipv4Cidr::new(it, prefix_len).map(IpCidr::V4),
            IpAddr::V6(it) => Ipv6Cidr::new(it, prefix_len).map(IpCidr::V6),
        }
    }

    /// The number of leading bits that all its addresses share.
    pub fn prefix_len(self) -> u8 {
        match self {
            IpCidr::V4(range) => range.prefix_len(),
            IpCidr::V6(range) => range.prefix_len(),
        }
    }

    /// Whether `address` lies in the range; never for one of the other
    /// family.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (IpCidr::V4(range), IpAddr::V4(it)) => range.contains(it),
            (IpCidr::V6(range), IpAddr::V6(it)) => range.contains(it),
            (IpCidr::V4(_), IpAddr::V6(_)) | (IpCidr::V6(_), IpAddr::V4(_)) => {
                false
            }
        }
    }

    pub(super) fn family(self) -> IpFamily {
        match self {
            IpCidr::V4(_) => IpFamily::V4,
            IpCidr::V6(_) => IpFamily::V6,
        }
    }

    /// The first address and the mask, as in headers.
    pub(super) fn bytes(self) -> (Vec<u8>, Vec<u8>) {
        let (network, mask) = match self {
            IpCidr::V4(range) => (
                IpAddr::V4(range.network()),
                IpAddr::V4(Ipv4Addr::from_bits(mask(range.prefix_len))),
            ),
            IpCidr::V6(range) => (
                IpAddr::V6(range.network()),
                IpAddr::V6(Ipv6Addr::from_bits(mask6(range.prefix_len))),
            ),
        };
        (octets(network), octets(mask))
    }
}

impl From<Ipv4Cidr> for IpCidr {
    fn from(range: Ipv4Cidr) -> IpCidr {
        IpCidr::V4(range)
    }
}

impl From<Ipv6Cidr> for IpCidr {
    fn from(range: Ipv6Cidr) -> IpCidr {
        IpCidr::V6(range)
    }
}

impl fmt::Display for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IpCidr::V4(range) => range.fmt(f),
            IpCidr::V6(range) => range.fmt(f),
        }
    }
}

impl FromStr for IpCidr {
    type Err = ParseCidrError;

    /// Refuses host bits.
    fn from_str(text: &str) -> Result<IpCidr, ParseCidrError> {
        if text.contains(':') {
            text.parse().map(IpCidr::V6)
        } else {
            text.parse().map(IpCidr::V4)
        }
    }
}

/// A hardware address of an Ethernet interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

/// A string that is not a usable MAC address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a unicast MAC address such as 02:1a:2b:3c:4d:5e")]
pub struct ParseMacError {
    text: String,
}

impl MacAddress {
    /// The address Docker would give: derived from the IP address, so that a
    /// reused IP address does not leave wrong entries in ARP tables.
    pub fn of_address(address: Ipv4Addr) -> MacAddress {
        let [a, b, c, d] = address.octets();
        MacAddress([0x02, 0x42, a, b, c, d])
    }

    /// Whether one interface, not a group, is meant.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<MacAddress, ParseMacError> {
        let error = || ParseMacError { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.is_ascii() || part.starts_with('+') {
                return Err(error());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        let mac = MacAddress(bytes);
        if parts.next().is_some() || !mac.is_unicast() {
            return Err(error());
        }
        Ok(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Ipv4Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_parse_strictly() {
        assert_eq!(
            cidr("10.0.0.0/8").broadcast().to_string(),
            "10.255.255.255"
        );
        assert_eq!(cidr("0.0.0.0/0").broadcast(), Ipv4Addr::BROADCAST);
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.1/8", "a/8", "1.2/8"]
        {
            assert!(bad.parse::<Ipv4Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_of_ipv6_parse_strictly_too() {
        let range: IpCidr = "fd12::/16".parse().unwrap();
        assert!(range.contains("fd12:1::9".parse().unwrap()));
        assert!(!range.contains("fd13::".parse().unwrap()));
        assert!(!range.contains("10.0.0.1".parse().unwrap()));
        let (network, mask) = range.bytes();
        assert_eq!(network[..3], [0xfd, 0x12, 0]);
        assert_eq!(mask[..3], [0xff, 0xff, 0]);
        let all: IpCidr = "::/0".parse().unwrap();
        assert!(all.contains("fe80::1".parse().unwrap()));
        for bad in ["::", "::/129", "fd12::1/64", "x::/8", "::/", "::1/-1"] {
            assert!(bad.parse::<IpCidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_counted_within_the_range() {
        let range = cidr("172.31.16.0/20");
        assert_eq!(range.nth(1), Some(Ipv4Addr::new(172, 31, 16, 1)));
        assert_eq!(range.nth(4095), Some(range.broadcast()));
        assert_eq!(range.nth(4096), None);
        assert_eq!(cidr("255.255.255.0/24").nth(u32::MAX), None);
    }

    #[test]
    fn mac_addresses_parse_strictly() {
        let mac: MacAddress = "02:1A:2b:3c:4d:5e".parse().unwrap();
        assert_eq!(mac.to_string(), "02:1a:2b:3c:4d:5e");
        let bad = [
            "",
            "02:1a:2b:3c:4d",
            "02:1a:2b:3c:4d:5e:6f",
            "01:00:5e:00:00:01",
            "+2:1a:2b:3c:4d:5e",
            "00:00:00:00:00:00",
            "ü:1a:2b:3c:4d:5e",
        ];
        for bad in bad {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(bits: u32, prefix in 0u8..=32) {
            let range = Ipv4Cidr::new(Ipv4Addr::from_bits(bits), prefix);
            let range = range.unwrap();
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            prop_assert!(range.contains(Ipv4Addr::from_bits(bits)));
        }

        #[test]
        fn printing_and_parsing_agree_for_ipv6(bits: u128, prefix in 0u8..=128) {
            let address = Ipv6Addr::from_bits(bits);
            let range = Ipv6Cidr::new(address, prefix).unwrap();
            prop_assert_eq!(range.to_string().parse(), Ok(range));
            prop_assert!(range.contains(address));
            prop_assert!(range.overlaps(Ipv6Cidr::new(address, 128).unwrap()));
        }

        #[test]
        fn overlap_means_a_shared_address(
            a: u32, b: u32, p in 8u8..=32, q in 8u8..=32,
        ) {
            let a = Ipv4Cidr::new(Ipv4Addr::from_bits(a), p).unwrap();
            // Half of the pairs nearby, so that both answers are common.
            let b = if b & 1 == 0 { a.network().to_bits() ^ (b >> 20) } else { b };
            let b = Ipv4Cidr::new(Ipv4Addr::from_bits(b), q).unwrap();
            let shared = a.contains(b.network()) || b.contains(a.network());
            prop_assert_eq!(a.overlaps(b), shared);
            prop_assert_eq!(a.overlaps(b), b.overlaps(a));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,24}") {
            let _ = text.parse::<MacAddress>();
            let _ = text.parse::<Ipv4Cidr>();
            let _ = text.parse::<IpCidr>();
        }
    }
}
