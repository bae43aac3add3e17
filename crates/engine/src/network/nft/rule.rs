//! Rules as lists of expressions.

use super::{
    Map, NF_ACCEPT, NF_DROP, NFPROTO_IPV4, NFTA_LIST_ELEM, REG_VERDICT, data,
};
use crate::network::IpCidr;
use crate::network::family::IpFamily;
use crate::network::netlink::Request;

/// The first of the registers that hold four bytes each, and the next.
pub(in crate::network) const REG_A: u32 = 1;
const REG_B: u32 = 9;
/// The first register by its other name, for keys longer than sixteen bytes.
const REG_32: u32 = 8;

const CT_STATE_ESTABLISHED: u32 = 1 << 1;
const CT_STATE_RELATED: u32 = 1 << 2;
const CT_STATE_NEW: u32 = 1 << 3;
const CT_STATUS_DST_NAT: u32 = 1 << 5;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const RTN_LOCAL: u32 = 2;

/// Where an IPv6 header has the hop limit.
const HOP_LIMIT: u32 = 7;

/// A rule: matches, then what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::network) struct Rule(pub(super) Vec<Expression>);

/// One step of a rule; all work on the first register unless they say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::network) enum Expression {
    /// Goes on only where the value is in (or not in) a named set.
    InSet {
        set: String,
        from: u32,
        equal: bool,
    },
    /// Does what a verdict map says for the value.
    Verdicts {
        map: String,
    },
    /// Goes on in another chain, and comes back at its end.
    Jump {
        chain: String,
    },
    /// A comparison by order, not equality.
    Order {
        operator: u32,
        value: Vec<u8>,
    },
    Meta {
        key: u32,
        into: u32,
    },
    Payload {
        base: u32,
        offset: u32,
        length: u32,
        into: u32,
    },
    Ct {
        key: u32,
    },
    /// What kind of address an end of the packet's way is.
    AddressType {
        of: u32,
    },
    Mask(Vec<u8>),
    Compare {
        equal: bool,
        value: Vec<u8>,
    },
    LookUp {
        map: Map,
    },
    DestinationNat,
    Masquerade,
    Value(Vec<u8>),
    /// Leads to the port in the register, at the machine itself.
    Redirect,
    Verdict(u32),
}

const META_PROTOCOL: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
pub(super) const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
pub(in crate::network) const BASE_NETWORK: u32 = 1;
pub(super) const BASE_TRANSPORT: u32 = 2;

/// One end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::network) enum End {
    Source,
    Destination,
}

/// Where a header starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::network) enum Layer {
    /// The Ethernet header.
    Link,
    /// What follows it.
    Network,
    /// What follows that: of IP, the protocol's own header.
    Transport,
}

impl Layer {
    fn number(self) -> u32 {
        match self {
            Layer::Link => 0,
            Layer::Network => BASE_NETWORK,
            Layer::Transport => BASE_TRANSPORT,
        }
    }
}

impl Rule {
    /// Writes the expressions as elements of a list.
    pub(super) fn write(&self, list: &mut Request) {
        for expression in &self.0 {
            list.nested(NFTA_LIST_ELEM, |e| expression.write(e));
        }
    }

    /// Matches what came in through `interface`, or did not.
    pub(in crate::network) fn in_through(
        self,
        equal: bool,
        interface: &str,
    ) -> Rule {
        self.then(Expression::Meta { key: META_IIFNAME, into: REG_A }).then(
            Expression::Compare { equal, value: interface_key(interface) },
        )
    }

    /// Matches what leaves through `interface`, or does not.
    pub(in crate::network) fn out_through(
        self,
        equal: bool,
        interface: &str,
    ) -> Rule {
        self.then(Expression::Meta { key: META_OIFNAME, into: REG_A }).then(
            Expression::Compare { equal, value: interface_key(interface) },
        )
    }

    /// Matches packets whose source lies in `range`.
    pub(in crate::network) fn source_in(
        self,
        range: impl Into<IpCidr>,
    ) -> Rule {
        let range = range.into();
        self.in_range(range.family().source(), range)
    }

    /// Matches packets whose destination lies in `range`.
    pub(in crate::network) fn destination_in(
        self,
        range: impl Into<IpCidr>,
    ) -> Rule {
        let range = range.into();
        self.in_range(range.family().destination(), range)
    }

    fn in_range(self, offset: u32, range: IpCidr) -> Rule {
        let (value, mask) = range.bytes();
        self.address(offset, range.family())
            .then(Expression::Mask(mask))
            .then(Expression::Compare { equal: true, value })
    }

    /// Matches IPv6 packets that no router has passed on.
    pub(in crate::network) fn unforwarded(self) -> Rule {
        let base = BASE_NETWORK;
        let offset = HOP_LIMIT;
        self.then(Expression::Payload { base, offset, length: 1, into: REG_A })
            .then(Expression::Compare { equal: true, value: vec![u8::MAX] })
    }

    /// Matches the first packet of a connection.
    pub(in crate::network) fn new_connection(self) -> Rule {
        self.then(Expression::Ct { key: CT_STATE })
            .then(Expression::Mask(CT_STATE_NEW.to_ne_bytes().to_vec()))
            .then(Expression::Compare { equal: false, value: vec![0; 4] })
    }

    /// Matches connections to a published port, or other ones.
    pub(in crate::network) fn published(self, published: bool) -> Rule {
        self.then(Expression::Ct { key: CT_STATUS })
            .then(Expression::Mask(CT_STATUS_DST_NAT.to_ne_bytes().to_vec()))
            .then(Expression::Compare { equal: !published, value: vec![0; 4] })
    }

    /// Matches packets one end of which is an address of this namespace.
    pub(in crate::network) fn local(self, end: End) -> Rule {
        let of = match end {
            End::Source => 1,
            End::Destination => 2,
        };
        let value = RTN_LOCAL.to_ne_bytes().to_vec();
        self.then(Expression::AddressType { of })
            .then(Expression::Compare { equal: true, value })
    }

    /// Matches packets sent to an address of the host.
    pub(in crate::network) fn for_this_host(self) -> Rule {
        self.local(End::Destination)
    }

    /// Sends the connection where `map` says for its protocol and port.
    pub(in crate::network) fn destination_nat(self, map: Map) -> Rule {
        let base = BASE_TRANSPORT;
        self.then(Expression::Meta { key: META_L4PROTO, into: REG_A })
            .then(Expression::Payload {
                base,
                offset: 2,
                length: 2,
                into: REG_B,
            })
            .then(Expression::LookUp { map })
            .then(Expression::DestinationNat)
    }

    /// Makes the connection come from the host's own address.
    pub(in crate::network) fn masquerade(self) -> Rule {
        self.then(Expression::Masquerade)
    }

    /// Matches packets of connections that were let through, and errors that
    /// belong to one.
    pub(in crate::network) fn known_connection(self) -> Rule {
        let known = CT_STATE_ESTABLISHED | CT_STATE_RELATED;
        self.then(Expression::Ct { key: CT_STATE })
            .then(Expression::Mask(known.to_ne_bytes().to_vec()))
            .then(Expression::Compare { equal: false, value: vec![0; 4] })
    }

    /// Matches packets of a protocol, by its number.
    pub(in crate::network) fn protocol(self, number: u8) -> Rule {
        self.then(Expression::Meta { key: META_L4PROTO, into: REG_A })
            .then(Expression::Compare { equal: true, value: vec![number] })
    }

    /// Matches destination ports, of a protocol that has them.
    pub(in crate::network) fn ports(self, first: u16, last: u16) -> Rule {
        let base = BASE_TRANSPORT;
        let port =
            Expression::Payload { base, offset: 2, length: 2, into: REG_A };
        let (low, high) = (first.to_be_bytes(), last.to_be_bytes());
        if first == last {
            let value = low.to_vec();
            return self
                .then(port)
                .then(Expression::Compare { equal: true, value });
        }
        let at_least = Expression::Order { operator: 5, value: low.to_vec() };
        let at_most = Expression::Order { operator: 3, value: high.to_vec() };
        self.then(port).then(at_least).then(at_most)
    }

    /// Matches a byte of the header after the IP header: of ICMP, 0 is the
    /// type and 1 the code.
    pub(in crate::network) fn transport_byte(
        self,
        offset: u32,
        value: u8,
    ) -> Rule {
        let base = BASE_TRANSPORT;
        self.then(Expression::Payload { base, offset, length: 1, into: REG_A })
            .then(Expression::Compare { equal: true, value: vec![value] })
    }

    /// Matches packets whose source is in a set of addresses.
    pub(in crate::network) fn source_in_set(
        self,
        family: IpFamily,
        set: &str,
    ) -> Rule {
        self.address(family.source(), family).in_set(set, REG_A, true)
    }

    /// Matches packets whose destination is in a set of addresses.
    pub(in crate::network) fn destination_in_set(
        self,
        family: IpFamily,
        set: &str,
    ) -> Rule {
        self.address(family.destination(), family).in_set(set, REG_A, true)
    }

    /// Goes where a map says for the packet's source.
    pub(in crate::network) fn verdict_of_source(
        self,
        family: IpFamily,
        map: &str,
    ) -> Rule {
        let map = map.to_owned();
        self.address(family.source(), family).then(Expression::Verdicts { map })
    }

    /// Goes where a map says for the packet's destination.
    pub(in crate::network) fn verdict_of_destination(
        self,
        family: IpFamily,
        map: &str,
    ) -> Rule {
        let map = map.to_owned();
        self.address(family.destination(), family)
            .then(Expression::Verdicts { map })
    }

    /// Goes on in `chain`, and comes back from its end.
    pub(in crate::network) fn jump(self, chain: &str) -> Rule {
        self.then(Expression::Jump { chain: chain.to_owned() })
    }

    /// Matches frames that came in through an interface of a set of names, or
    /// of none of them.
    pub(in crate::network) fn in_through_set(
        self,
        set: &str,
        equal: bool,
    ) -> Rule {
        self.then(Expression::Meta { key: META_IIFNAME, into: REG_A })
            .in_set(set, REG_A, equal)
    }

    /// Matches frames of a protocol, by its EtherType.
    pub(in crate::network) fn ether_type(self, number: u16) -> Rule {
        let value = number.to_be_bytes().to_vec();
        self.then(Expression::Meta { key: META_PROTOCOL, into: REG_A })
            .then(Expression::Compare { equal: true, value })
    }

    /// Matches frames whose interface, hardware address at `mac` and address
    /// at `ip` (layer and offset) are one entry of a set.
    pub(in crate::network) fn owner_in_set(
        self,
        family: IpFamily,
        mac: (Layer, u32),
        ip: (Layer, u32),
        set: &str,
    ) -> Rule {
        let part = |(layer, offset): (Layer, u32), length, into| {
            let base = layer.number();
            Expression::Payload { base, offset, length, into }
        };
        // Sixteen bytes of name, eight that hold six, and the IP address.
        self.then(Expression::Meta { key: META_IIFNAME, into: REG_32 })
            .then(part(mac, 6, REG_32 + 4))
            .then(part(ip, family.length(), REG_32 + 6))
            .in_set(set, REG_32, true)
    }

    fn address(self, offset: u32, family: IpFamily) -> Rule {
        let (base, length) = (BASE_NETWORK, family.length());
        self.then(Expression::Payload { base, offset, length, into: REG_A })
    }

    fn in_set(self, set: &str, from: u32, equal: bool) -> Rule {
        self.then(Expression::InSet { set: set.to_owned(), from, equal })
    }

    /// Lets the packet through.
    pub(in crate::network) fn accept(self) -> Rule {
        self.then(Expression::Verdict(NF_ACCEPT))
    }

    /// Drops the packet.
    pub(in crate::network) fn drop(self) -> Rule {
        self.then(Expression::Verdict(NF_DROP))
    }

    pub(in crate::network) fn then(mut self, expression: Expression) -> Rule {
        self.0.push(expression);
        self
    }
}

impl Expression {
    /// Writes `{name, data}`; the numbers are those of nf_tables.h.
    fn write(&self, out: &mut Request) {
        let kind = match self {
            Expression::InSet { .. } | Expression::Verdicts { .. } => "lookup",
            Expression::Jump { .. } => "immediate",
            Expression::Order { .. } => "cmp",
            Expression::Meta { .. } => "meta",
            Expression::Payload { .. } => "payload",
            Expression::Ct { .. } => "ct",
            Expression::AddressType { .. } => "fib",
            Expression::Mask(_) => "bitwise",
            Expression::Compare { .. } => "cmp",
            Expression::LookUp { .. } => "lookup",
            Expression::DestinationNat => "nat",
            Expression::Masquerade => "masq",
            Expression::Redirect => "redir",
            Expression::Value(_) | Expression::Verdict(_) => "immediate",
        };
        out.string(1, kind).nested(2, |data| self.write_data(data));
    }

    fn write_data(&self, out: &mut Request) {
        match self {
            Expression::InSet { set, from, equal } => {
                out.string(1, set).be32(2, *from).be32(5, u32::from(!equal))
            }
            Expression::Verdicts { map } => {
                out.string(1, map).be32(2, REG_A).be32(3, REG_VERDICT)
            }
            Expression::Jump { chain } => {
                out.be32(1, REG_VERDICT).nested(2, |value| {
                    super::set::jump(value, chain);
                })
            }
            Expression::Order { operator, value } => out
                .be32(1, REG_A)
                .be32(2, *operator)
                .nested(3, |v| data(v, value)),
            Expression::Meta { key, into } => out.be32(1, *into).be32(2, *key),
            Expression::Payload { base, offset, length, into } => out
                .be32(1, *into)
                .be32(2, *base)
                .be32(3, *offset)
                .be32(4, *length),
            Expression::Ct { key } => out.be32(1, REG_A).be32(2, *key),
            Expression::AddressType { of } => {
                out.be32(1, REG_A).be32(2, FIB_RESULT_ADDRTYPE).be32(3, *of)
            }
            Expression::Mask(mask) => {
                let length = u32::try_from(mask.len()).unwrap_or(0);
                out.be32(1, REG_A)
                    .be32(2, REG_A)
                    .be32(3, length)
                    .nested(4, |m| data(m, mask))
                    .nested(5, |xor| data(xor, &vec![0; mask.len()]))
            }
            Expression::Compare { equal, value } => out
                .be32(1, REG_A)
                .be32(2, u32::from(!equal))
                .nested(3, |v| data(v, value)),
            Expression::LookUp { map } => out
                .string(1, map.name)
                .be32(2, REG_A)
                .be32(3, REG_A)
                .be32(4, map.id),
            // To the address in one register and the port in the next.
            Expression::DestinationNat => out
                .be32(1, 1)
                .be32(2, u32::from(NFPROTO_IPV4))
                .be32(3, REG_A)
                .be32(5, REG_B),
            Expression::Masquerade => out,
            Expression::Value(value) => {
                out.be32(1, REG_A).nested(2, |v| data(v, value))
            }
            Expression::Redirect => out.be32(1, REG_A),
            Expression::Verdict(code) => out.be32(1, 0).nested(2, |value| {
                value.nested(2, |verdict| {
                    verdict.be32(1, *code);
                });
            }),
        };
    }
}

/// An interface name as the kernel compares it: padded to IFNAMSIZ.
pub(in crate::network) fn interface_key(interface: &str) -> Vec<u8> {
    let mut bytes = interface.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
