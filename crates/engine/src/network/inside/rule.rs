//! Matches that only rules within tasks' namespaces need: users, and ranges of
//! either family, where those of the host's tables are about bridges and maps.

use super::super::nft::{
    BASE_NETWORK, End, Expression, NFPROTO_IPV4, NFPROTO_IPV6, REG_A, Rule,
};
use super::range::IpRange;

const META_SKUID: u32 = 10;
const META_SKGID: u32 = 11;
const META_NFPROTO: u32 = 15;

impl Rule {
    /// Matches packets of a local process with the user id given.
    pub(super) fn user(self, id: u32) -> Rule {
        self.meta(META_SKUID, id.to_ne_bytes().to_vec())
    }

    /// Matches packets of a local process with the group id given.
    pub(super) fn group(self, id: u32) -> Rule {
        self.meta(META_SKGID, id.to_ne_bytes().to_vec())
    }

    /// Matches packets one end of which lies in `range`.
    pub(super) fn within(self, end: End, range: IpRange) -> Rule {
        let (value, mask) = range.bytes();
        let (family, offset) = match (range.is_ipv6(), end) {
            (false, End::Source) => (NFPROTO_IPV4, 12),
            (false, End::Destination) => (NFPROTO_IPV4, 16),
            (true, End::Source) => (NFPROTO_IPV6, 8),
            (true, End::Destination) => (NFPROTO_IPV6, 24),
        };
        let length = u32::try_from(value.len()).unwrap_or(0);
        let base = BASE_NETWORK;
        self.meta(META_NFPROTO, vec![family])
            .then(Expression::Payload { base, offset, length, into: REG_A })
            .then(Expression::Mask(mask))
            .then(Expression::Compare { equal: true, value })
    }

    /// Leads the connection to a port of the namespace's own.
    pub(super) fn redirect(self, port: u16) -> Rule {
        self.then(Expression::Value(port.to_be_bytes().to_vec()))
            .then(Expression::Redirect)
    }

    fn meta(self, key: u32, value: Vec<u8>) -> Rule {
        self.then(Expression::Meta { key, into: REG_A })
            .then(Expression::Compare { equal: true, value })
    }
}
