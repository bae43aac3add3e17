//! The two families of IP, as kernel interfaces tell them apart.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::Request;
use super::nft::{KeyPart, NFPROTO_IPV4, NFPROTO_IPV6};
use super::{Ipv4Cidr, Ipv6Cidr};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    pub(super) fn of(address: IpAddr) -> IpFamily {
        match address {
            IpAddr::V4(_) => IpFamily::V4,
            IpAddr::V6(_) => IpFamily::V6,
        }
    }

    /// Netfilter's number, also of tables; the kernel's sockets have the same.
    pub(super) fn number(self) -> u8 {
        match self {
            IpFamily::V4 => NFPROTO_IPV4,
            IpFamily::V6 => NFPROTO_IPV6,
        }
    }

    /// How `nft` names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            IpFamily::V4 => "ip",
            IpFamily::V6 => "ip6",
        }
    }

    /// Bytes of an address.
    pub(super) fn length(self) -> u32 {
        match self {
            IpFamily::V4 => 4,
            IpFamily::V6 => 16,
        }
    }

    /// Where a header has the source's address.
    pub(super) fn source(self) -> u32 {
        match self {
            IpFamily::V4 => 12,
            IpFamily::V6 => 8,
        }
    }

    /// Where a header has the destination's address.
    pub(super) fn destination(self) -> u32 {
        self.source() + self.length()
    }

    /// An address as part of a set's key.
    pub(super) fn key(self) -> KeyPart {
        match self {
            IpFamily::V4 => KeyPart::Ipv4,
            IpFamily::V6 => KeyPart::Ipv6,
        }
    }

    /// The same requests for tables of this family.
    pub(super) fn all(self, requests: Vec<Request>) -> Vec<Request> {
        let number = self.number();
        requests.into_iter().map(|it| it.of_family(number)).collect()
    }
}

/// An address of a known family.
pub(super) trait Ip: Copy + Debug + PartialEq + Into<IpAddr> {
    /// Its ranges.
    type Cidr: Copy + Debug + Eq;

    const FAMILY: IpFamily;
    const UNSPECIFIED: Self;

    /// Reads an address as headers have it.
    fn of_octets(octets: &[u8]) -> Option<Self>;

    /// The range of `prefix_len` bits that holds it.
    fn range(self, prefix_len: u8) -> Option<Self::Cidr>;
}

impl Ip for Ipv4Addr {
    type Cidr = Ipv4Cidr;

    const FAMILY: IpFamily = IpFamily::V4;
    const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    fn of_octets(octets: &[u8]) -> Option<Ipv4Addr> {
        octets.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
    }

    fn range(self, prefix_len: u8) -> Option<Ipv4Cidr> {
        Ipv4Cidr::new(self, prefix_len)
    }
}

impl Ip for Ipv6Addr {
    type Cidr = Ipv6Cidr;

    const FAMILY: IpFamily = IpFamily::V6;
    const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

    fn of_octets(octets: &[u8]) -> Option<Ipv6Addr> {
        octets.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
    }

    fn range(self, prefix_len: u8) -> Option<Ipv6Cidr> {
        Ipv6Cidr::new(self, prefix_len)
    }
}

/// An address as headers have it.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address of a header; `None` for bytes of another length.
pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}
