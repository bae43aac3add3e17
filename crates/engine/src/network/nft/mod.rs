//! nftables requests: tables, chains, maps, and rules as lists of expressions.
//!
//! Written by hand because the alternatives are the `nft` program, which users
//! would have to install, and a binding under the GPL. Registers follow what
//! `nft --debug=netlink` shows for the same rules, so that `nft list ruleset`
//! can print ours.

#[cfg(test)]
pub(super) mod model;
mod rule;
mod set;

pub(super) use rule::{
    BASE_NETWORK, End, Expression, Layer, REG_A, Rule, interface_key,
};
pub(super) use set::{
    KeyPart, Set, Verdicts, set_add, set_create, set_delete, set_entries,
    set_keys, set_remove, verdicts_add, verdicts_create, verdicts_remove,
};

use std::io;

use super::netlink::{
    Attributes, NFNL_SUBSYS_NFTABLES, NLM_F_APPEND, NLM_F_CREATE, Request,
    Socket, text,
};

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_DELSETELEM: u16 = 14;

/// Netfilter's number for IPv4, also the family of our table.
pub(super) const NFPROTO_IPV4: u8 = 2;
/// The same for IPv6.
pub(super) const NFPROTO_IPV6: u8 = 10;
/// Tables for IPv4 and IPv6.
pub(super) const NFPROTO_INET: u8 = 1;
/// Tables for frames on bridges.
pub(super) const NFPROTO_BRIDGE: u8 = 7;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// Where verdicts go.
const REG_VERDICT: u32 = 0;

/// A set that has a value for each key.
const NFT_SET_MAP: u32 = 0x8;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// The type codes by which `nft` prints keys and values.
const TYPE_IPV4_ADDR: u32 = 7;
const TYPE_IPV6_ADDR: u32 = 8;
const TYPE_ETHER_ADDR: u32 = 9;
const TYPE_INET_PROTO: u32 = 12;
const TYPE_INET_SERVICE: u32 = 13;
const TYPE_IFNAME: u32 = 41;
const TYPE_BITS: u32 = 6;

/// Bytes of `proto . port` and of `address . port`: each part fills a register.
const MAP_ENTRY_BYTES: u32 = 8;
/// An entry takes 40 bytes; a netlink attribute holds 64 KiB at most.
const ENTRIES_PER_REQUEST: usize = 1000;

/// Where in the kernel's packet path a chain runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook<'a> {
    pub(super) chain: &'a str,
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// NF_INET_*, the hooks of the packet path.
pub(super) const HOOK_PREROUTING: u32 = 0;
pub(super) const HOOK_INPUT: u32 = 1;
pub(super) const HOOK_FORWARD: u32 = 2;
pub(super) const HOOK_OUTPUT: u32 = 3;
pub(super) const HOOK_POSTROUTING: u32 = 4;

/// A map from protocol and port to address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) name: &'static str,
    /// Names the map within the transaction that makes it.
    pub(super) id: u32,
}

/// One entry of a map.
pub(super) type MapEntry = ([u8; 8], [u8; 8]);

/// The same request for a table of the bridge family.
pub(super) fn for_bridges(request: Request) -> Request {
    request.of_family(NFPROTO_BRIDGE)
}

/// Makes a table unless it exists.
pub(super) fn table_create(table: &str) -> Request {
    let mut request = request(NFT_MSG_NEWTABLE, NLM_F_CREATE);
    request.string(1, table).be32(2, 0);
    request
}

/// Deletes a table with everything in it.
pub(super) fn table_delete(table: &str) -> Request {
    let mut request = request(NFT_MSG_DELTABLE, 0);
    request.string(1, table);
    request
}

/// The names of all tables of a protocol family.
pub(super) fn table_names(
    socket: &mut Socket,
    family: u8,
) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let all = request(NFT_MSG_GETTABLE, 0).of_family(family);
    socket.dump(&all, |_, payload| {
        let attributes = Attributes(payload.get(4..).unwrap_or_default());
        names.extend(attributes.value(1).map(text));
    })?;
    Ok(names)
}

/// Asks for all chains that see IPv4 packets, and others.
pub(super) fn chains() -> Request {
    const NFPROTO_UNSPEC: u8 = 0;
    let fixed = [NFPROTO_UNSPEC, 0, 0, 0];
    let message = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN;
    Request::new(message, 0, &fixed)
}

/// A chain as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) name: String,
    /// The hook it starts at, if it does.
    pub(super) hook: Option<u32>,
    /// Whether it drops what no rule accepts.
    pub(super) drops: bool,
}

/// Reads one answer to [`chains`].
pub(super) fn parse_chain(payload: &[u8]) -> Option<Chain> {
    let attributes = Attributes(payload.get(4..)?);
    let number = |value: &[u8]| {
        value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    };
    let hook = attributes.value(4).and_then(|h| Attributes(h).value(1));
    Some(Chain {
        family: *payload.first()?,
        table: text(attributes.value(1)?),
        name: text(attributes.value(3)?),
        hook: hook.and_then(number),
        drops: attributes.value(5).and_then(number) == Some(NF_DROP),
    })
}

/// Makes a chain that starts at a hook, unless it exists.
pub(super) fn chain_create(table: &str, hook: &Hook<'_>) -> Request {
    let mut request = request(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    request
        .string(1, table)
        .string(3, hook.chain)
        .nested(4, |h| {
            h.be32(1, hook.number).attribute(2, &hook.priority.to_be_bytes());
        })
        .string(7, hook.kind);
    request
}

/// Makes a chain that rules and maps jump to, unless it exists.
pub(super) fn chain_create_plain(table: &str, chain: &str) -> Request {
    let mut request = request(NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    request.string(1, table).string(3, chain);
    request
}

/// Deletes a chain that nothing leads to, with its rules.
pub(super) fn chain_delete(table: &str, chain: &str) -> Request {
    let mut request = request(NFT_MSG_DELCHAIN, 0);
    request.string(1, table).string(3, chain);
    request
}

/// Deletes the rules of a chain.
pub(super) fn chain_flush(table: &str, chain: &str) -> Request {
    let mut request = request(NFT_MSG_DELRULE, 0);
    request.string(1, table).string(2, chain);
    request
}

/// Appends a rule to a chain.
pub(super) fn rule_append(table: &str, chain: &str, rule: &Rule) -> Request {
    let mut request = request(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    request
        .string(1, table)
        .string(2, chain)
        .nested(4, |list| rule.write(list));
    request
}

/// Makes a map unless it exists.
pub(super) fn map_create(table: &str, map: Map) -> Request {
    let key = (TYPE_INET_PROTO << TYPE_BITS) | TYPE_INET_SERVICE;
    let value = (TYPE_IPV4_ADDR << TYPE_BITS) | TYPE_INET_SERVICE;
    let mut request = request(NFT_MSG_NEWSET, NLM_F_CREATE);
    request
        .string(1, table)
        .string(2, map.name)
        .be32(3, NFT_SET_MAP)
        .be32(4, key)
        .be32(5, MAP_ENTRY_BYTES)
        .be32(6, value)
        .be32(7, MAP_ENTRY_BYTES)
        .be32(10, map.id);
    request
}

/// Adds entries to a map; one that is there with another value is refused.
pub(super) fn map_add(
    table: &str,
    map: Map,
    entries: &[MapEntry],
) -> Vec<Request> {
    map_change(NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, map, entries)
}

/// Deletes entries from a map; one that is not there is refused.
pub(super) fn map_remove(
    table: &str,
    map: Map,
    entries: &[MapEntry],
) -> Vec<Request> {
    map_change(NFT_MSG_DELSETELEM, 0, table, map, entries)
}

fn map_change(
    message: u16,
    flags: u16,
    table: &str,
    map: Map,
    entries: &[MapEntry],
) -> Vec<Request> {
    let chunks = entries.chunks(ENTRIES_PER_REQUEST);
    chunks
        .map(|entries| {
            let mut request = request(message, flags);
            request.string(1, table).string(2, map.name).nested(3, |list| {
                for (key, value) in entries {
                    list.nested(NFTA_LIST_ELEM, |element| {
                        element.nested(1, |k| data(k, key));
                        element.nested(2, |v| data(v, value));
                    });
                }
            });
            request
        })
        .collect()
}

/// Asks for all entries of a map.
pub(super) fn map_entries(table: &str, map: Map) -> Request {
    let mut request = request(NFT_MSG_GETSETELEM, 0);
    request.string(1, table).string(2, map.name);
    request
}

/// Reads the entries in one answer to [`map_entries`].
pub(super) fn parse_entries(payload: &[u8], entries: &mut Vec<MapEntry>) {
    let attributes = Attributes(payload.get(4..).unwrap_or_default());
    let Some(list) = attributes.value(3) else { return };
    for (_, element) in Attributes(list) {
        let part = |kind| {
            let nested = Attributes(element).value(kind)?;
            let value = Attributes(nested).value(NFTA_DATA_VALUE)?;
            value.first_chunk::<8>().copied()
        };
        entries.extend(part(1).zip(part(2)));
    }
}

fn request(message: u16, flags: u16) -> Request {
    // struct nfgenmsg
    let fixed = [NFPROTO_IPV4, 0, 0, 0];
    Request::new((NFNL_SUBSYS_NFTABLES << 8) | message, flags, &fixed)
}

fn data(out: &mut Request, value: &[u8]) {
    out.attribute(NFTA_DATA_VALUE, value);
}
