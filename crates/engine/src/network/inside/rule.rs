//! The rules that are set within tasks' namespaces: ports, users and peers,
//! where those of the host's table are about bridges and maps.

use super::super::netlink::{
    NFNL_SUBSYS_NFTABLES, NLM_F_APPEND, NLM_F_CREATE, Request,
};
use super::super::nft::NFPROTO_IPV4;
use super::range::IpRange;

const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

const REGISTER: u32 = 1;
const REG_VERDICT: u32 = 0;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

const NFPROTO_IPV6: u8 = 10;
const META_SKUID: u32 = 10;
const META_SKGID: u32 = 11;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_OF_SOURCE: u32 = 1;
const FIB_OF_DESTINATION: u32 = 2;
const RTN_LOCAL: u32 = 2;

/// One end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// A rule: matches, then what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule(Vec<Expression>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    /// Loads into the register: an expression with numbers as attributes.
    Load {
        kind: &'static str,
        numbers: Vec<(u16, u32)>,
    },
    Mask(Vec<u8>),
    Compare {
        equal: bool,
        value: Vec<u8>,
    },
    Value(Vec<u8>),
    /// Leads to the port in the register, at the machine itself.
    Redirect,
    Verdict(u32),
}

impl Rule {
    /// Matches a transport protocol, by its number.
    pub(super) fn protocol(self, number: u8) -> Rule {
        self.meta(META_L4PROTO).compare(true, vec![number])
    }

    /// Matches a destination port.
    pub(super) fn port(self, port: u16) -> Rule {
        self.payload(BASE_TRANSPORT, 2, 2)
            .compare(true, port.to_be_bytes().to_vec())
    }

    /// Matches packets of a local process with the user id given.
    pub(super) fn user(self, id: u32) -> Rule {
        self.meta(META_SKUID).compare(true, id.to_ne_bytes().to_vec())
    }

    /// Matches packets of a local process with the group id given.
    pub(super) fn group(self, id: u32) -> Rule {
        self.meta(META_SKGID).compare(true, id.to_ne_bytes().to_vec())
    }

    /// Matches packets one end of which is an address of the namespace's own.
    pub(super) fn local(self, end: End) -> Rule {
        let of = match end {
            End::Source => FIB_OF_SOURCE,
            End::Destination => FIB_OF_DESTINATION,
        };
        let numbers = vec![(1, REGISTER), (2, FIB_RESULT_ADDRTYPE), (3, of)];
        self.then(Expression::Load { kind: "fib", numbers })
            .compare(true, RTN_LOCAL.to_ne_bytes().to_vec())
    }

    /// Matches packets one end of which lies in `range`.
    pub(super) fn within(self, end: End, range: IpRange) -> Rule {
        let (address, mask) = range.bytes();
        let (family, offset) = match (range.is_ipv6(), end) {
            (false, End::Source) => (NFPROTO_IPV4, 12),
            (false, End::Destination) => (NFPROTO_IPV4, 16),
            (true, End::Source) => (NFPROTO_IPV6, 8),
            (true, End::Destination) => (NFPROTO_IPV6, 24),
        };
        let length = u32::try_from(address.len()).unwrap_or(0);
        self.meta(META_NFPROTO)
            .compare(true, vec![family])
            .payload(BASE_NETWORK, offset, length)
            .then(Expression::Mask(mask))
            .compare(true, address)
    }

    /// Leads the connection to a port of the namespace's own.
    pub(super) fn redirect(self, port: u16) -> Rule {
        self.then(Expression::Value(port.to_be_bytes().to_vec()))
            .then(Expression::Redirect)
    }

    /// Lets the packet go on.
    pub(super) fn accept(self) -> Rule {
        self.then(Expression::Verdict(NF_ACCEPT))
    }

    /// Drops the packet.
    pub(super) fn drop(self) -> Rule {
        self.then(Expression::Verdict(NF_DROP))
    }

    fn meta(self, key: u32) -> Rule {
        let numbers = vec![(1, REGISTER), (2, key)];
        self.then(Expression::Load { kind: "meta", numbers })
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Rule {
        let numbers = vec![(1, REGISTER), (2, base), (3, offset), (4, length)];
        self.then(Expression::Load { kind: "payload", numbers })
    }

    fn compare(self, equal: bool, value: Vec<u8>) -> Rule {
        self.then(Expression::Compare { equal, value })
    }

    fn then(mut self, expression: Expression) -> Rule {
        self.0.push(expression);
        self
    }
}

impl Expression {
    /// Writes `{name, data}`; the numbers are those of nf_tables.h.
    fn write(&self, out: &mut Request) {
        let kind = match self {
            Expression::Load { kind, .. } => kind,
            Expression::Mask(_) => "bitwise",
            Expression::Compare { .. } => "cmp",
            Expression::Redirect => "redir",
            Expression::Value(_) | Expression::Verdict(_) => "immediate",
        };
        out.string(1, kind).nested(2, |data| self.write_data(data));
    }

    fn write_data(&self, out: &mut Request) {
        match self {
            Expression::Load { numbers, .. } => {
                for (attribute, number) in numbers {
                    out.be32(*attribute, *number);
                }
            }
            Expression::Mask(mask) => {
                let length = u32::try_from(mask.len()).unwrap_or(0);
                out.be32(1, REGISTER)
                    .be32(2, REGISTER)
                    .be32(3, length)
                    .nested(4, |m| data(m, mask))
                    .nested(5, |xor| data(xor, &vec![0; mask.len()]));
            }
            Expression::Compare { equal, value } => {
                out.be32(1, REGISTER)
                    .be32(2, u32::from(!equal))
                    .nested(3, |v| data(v, value));
            }
            Expression::Value(value) => {
                out.be32(1, REGISTER).nested(2, |v| data(v, value));
            }
            Expression::Redirect => {
                out.be32(1, REGISTER);
            }
            Expression::Verdict(code) => {
                out.be32(1, REG_VERDICT).nested(2, |value| {
                    value.nested(NFTA_DATA_VERDICT, |verdict| {
                        verdict.be32(1, *code);
                    });
                });
            }
        }
    }
}

fn data(out: &mut Request, value: &[u8]) {
    out.attribute(NFTA_DATA_VALUE, value);
}

fn request(message: u16, flags: u16) -> Request {
    // struct nfgenmsg
    let fixed = [NFPROTO_IPV4, 0, 0, 0];
    Request::new((NFNL_SUBSYS_NFTABLES << 8) | message, flags, &fixed)
}

/// Where in the packets' way a chain begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// `filter` or `nat`.
    pub(super) kind: &'static str,
    /// NF_INET_*.
    pub(super) hook: u32,
    pub(super) priority: i32,
}

/// Makes a chain unless it exists; without a start nothing runs through it.
pub(super) fn chain_create(
    table: &str,
    chain: &str,
    start: Option<Start>,
) -> Request {
    let mut request = request(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    request.string(1, table).string(3, chain);
    if let Some(start) = start {
        request
            .nested(4, |h| {
                h.be32(1, start.hook)
                    .attribute(2, &start.priority.to_be_bytes());
            })
            .string(7, start.kind);
    }
    request
}

/// Deletes a chain without rules.
pub(super) fn chain_delete(table: &str, chain: &str) -> Request {
    let mut request = request(NFT_MSG_DELCHAIN, 0);
    request.string(1, table).string(3, chain);
    request
}

/// Appends a rule to a chain.
pub(super) fn rule_append(table: &str, chain: &str, rule: &Rule) -> Request {
    let mut request = request(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    request.string(1, table).string(2, chain).nested(4, |list| {
        for expression in &rule.0 {
            list.nested(NFTA_LIST_ELEM, |e| expression.write(e));
        }
    });
    request
}
