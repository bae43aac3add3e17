//! Ranges of addresses of either family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IPv4 or IPv6 range; a single address is one of full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpRange {
    address: IpAddr,
    prefix_len: u8,
}

/// A text that is neither an address nor a range.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no IP address, and no range such as 10.0.0.0/16")]
pub struct ParseIpRangeError {
    text: String,
}

impl IpRange {
    /// The address alone.
    pub fn of_address(address: IpAddr) -> IpRange {
        IpRange { address, prefix_len: full_length(address) }
    }

    /// Whether it is of IPv6.
    pub fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// The range's first address and its mask, as in headers.
    pub(super) fn bytes(self) -> (Vec<u8>, Vec<u8>) {
        let address = match self.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let mask: Vec<u8> = (0..address.len())
            .map(|at| {
                let bits = usize::from(self.prefix_len).saturating_sub(at * 8);
                let cleared = 8 - u32::try_from(bits.min(8)).unwrap_or(8);
                u8::MAX.checked_shl(cleared).unwrap_or(0)
            })
            .collect();
        let pairs = address.iter().zip(&mask);
        (pairs.map(|(byte, mask)| byte & mask).collect(), mask)
    }
}

fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for IpRange {
    type Err = ParseIpRangeError;

    /// Host bits are let pass, as `iptables` and `tc` do.
    fn from_str(text: &str) -> Result<IpRange, ParseIpRangeError> {
        let error = || ParseIpRangeError { text: text.to_owned() };
        let Some((address, prefix)) = text.split_once('/') else {
            return text.parse().map(IpRange::of_address).map_err(|_| error());
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        // No sign: `parse` would take "+8".
        let is_plain = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_len: u8 = prefix.parse().map_err(|_| error())?;
        if !is_plain || prefix_len > full_length(address) {
            return Err(error());
        }
        Ok(IpRange { address, prefix_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ranges_of_both_families_are_read() {
        for (text, first, mask) in [
            ("10.1.2.3", vec![10, 1, 2, 3], vec![255; 4]),
            ("10.1.2.3/12", vec![10, 0, 0, 0], vec![255, 240, 0, 0]),
            ("0.0.0.0/0", vec![0; 4], vec![0; 4]),
        ] {
            let range: IpRange = text.parse().unwrap();
            assert_eq!(range.bytes(), (first, mask), "{text}");
            assert!(!range.is_ipv6());
        }
        let range: IpRange = "fd00:1::1/20".parse().unwrap();
        let (first, mask) = range.bytes();
        assert_eq!(first[..4], [0xfd, 0, 0, 0]);
        assert_eq!(mask[..4], [255, 255, 240, 0]);
        assert!(range.is_ipv6());
        for text in ["", "x", "10.0.0.1/33", "10.0.0.1/+8", "::1/129", "1.2.3"]
        {
            assert!(text.parse::<IpRange>().is_err(), "{text}");
        }
    }
}
