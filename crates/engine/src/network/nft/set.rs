//! Named sets, and maps from addresses to chains.

use std::net::IpAddr;

use super::{
    NFT_MSG_DELSET, NFT_MSG_DELSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_NEWSET,
    NFT_MSG_NEWSETELEM, NFT_SET_MAP, NFTA_DATA_VALUE, NFTA_LIST_ELEM,
    TYPE_BITS, TYPE_ETHER_ADDR, TYPE_IFNAME, TYPE_IPV4_ADDR, TYPE_IPV6_ADDR,
    data, request,
};
use crate::network::family::octets;
use crate::network::netlink::{Attributes, NLM_F_CREATE, Request};

const NFT_JUMP: i32 = -3;
/// The type code of verdicts.
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// An element takes 130 bytes at most (a chain's name has 64); a netlink
/// attribute holds 64 KiB.
const ELEMENTS_PER_REQUEST: usize = 400;

/// What a key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::network) enum KeyPart {
    /// The name of an interface, sixteen bytes.
    Interface,
    /// A hardware address, six bytes that fill eight.
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
}

impl KeyPart {
    fn code(self) -> u32 {
        match self {
            KeyPart::Interface => TYPE_IFNAME,
            KeyPart::Mac => TYPE_ETHER_ADDR,
            KeyPart::Ipv4 => TYPE_IPV4_ADDR,
            KeyPart::Ipv6 => TYPE_IPV6_ADDR,
        }
    }

    fn bytes(self) -> u32 {
        match self {
            KeyPart::Interface => 16,
            KeyPart::Mac => 8,
            KeyPart::Ipv4 => 4,
            KeyPart::Ipv6 => 16,
        }
    }
}

/// A set of a table.
#[derive(Clone, Copy, Debug)]
pub(in crate::network) struct Set<'a> {
    pub(in crate::network) table: &'a str,
    pub(in crate::network) name: &'a str,
}

/// A map of a table from addresses to chains.
#[derive(Clone, Copy, Debug)]
pub(in crate::network) struct Verdicts<'a> {
    pub(in crate::network) table: &'a str,
    pub(in crate::network) name: &'a str,
}

/// Makes a set unless it exists. `id` tells it from others that the same
/// transaction makes.
pub(in crate::network) fn set_create(
    set: Set<'_>,
    key: &[KeyPart],
    id: u32,
) -> Request {
    let mut request = create(set.table, set.name, key, 0);
    request.be32(10, id);
    request
}

/// Makes a map unless it exists.
pub(in crate::network) fn verdicts_create(
    map: Verdicts<'_>,
    key: KeyPart,
    id: u32,
) -> Request {
    let mut request = create(map.table, map.name, &[key], NFT_SET_MAP);
    request.be32(6, TYPE_VERDICT).be32(10, id);
    request
}

fn create(table: &str, name: &str, key: &[KeyPart], flags: u32) -> Request {
    let code = key.iter().fold(0, |code, p| (code << TYPE_BITS) | p.code());
    let bytes = key.iter().map(|part| part.bytes()).sum();
    let mut request = request(NFT_MSG_NEWSET, NLM_F_CREATE);
    request
        .string(1, table)
        .string(2, name)
        .be32(3, flags)
        .be32(4, code)
        .be32(5, bytes);
    request
}

/// Deletes a set that no rule uses.
pub(in crate::network) fn set_delete(set: Set<'_>) -> Request {
    let mut request = request(NFT_MSG_DELSET, 0);
    request.string(1, set.table).string(2, set.name);
    request
}

/// Adds keys to a set; those it has already are no failure.
pub(in crate::network) fn set_add(
    set: Set<'_>,
    keys: &[Vec<u8>],
) -> Vec<Request> {
    let elements = keys.iter().map(|key| (key.as_slice(), None));
    change(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, elements)
}

/// Takes keys from a set; one that is not there is refused.
pub(in crate::network) fn set_remove(
    set: Set<'_>,
    keys: &[Vec<u8>],
) -> Vec<Request> {
    let elements = keys.iter().map(|key| (key.as_slice(), None));
    change(NFT_MSG_DELSETELEM, 0, set, elements)
}

/// Has addresses lead to chains; one that leads elsewhere is refused.
pub(in crate::network) fn verdicts_add(
    map: Verdicts<'_>,
    entries: &[(IpAddr, &str)],
) -> Vec<Request> {
    let keys: Vec<_> = entries.iter().map(|(a, _)| octets(*a)).collect();
    let chains = entries.iter().map(|(_, chain)| Some(*chain));
    let elements = keys.iter().map(|key| &key[..]).zip(chains);
    let Verdicts { table, name } = map;
    change(NFT_MSG_NEWSETELEM, NLM_F_CREATE, Set { table, name }, elements)
}

/// Has addresses lead nowhere; one that is not there is refused.
pub(in crate::network) fn verdicts_remove(
    map: Verdicts<'_>,
    addresses: &[IpAddr],
) -> Vec<Request> {
    let keys: Vec<_> = addresses.iter().map(|a| octets(*a)).collect();
    let Verdicts { table, name } = map;
    set_remove(Set { table, name }, &keys)
}

fn change<'a>(
    message: u16,
    flags: u16,
    set: Set<'_>,
    elements: impl Iterator<Item = (&'a [u8], Option<&'a str>)>,
) -> Vec<Request> {
    let elements: Vec<_> = elements.collect();
    let chunks = elements.chunks(ELEMENTS_PER_REQUEST);
    chunks
        .map(|elements| {
            let mut request = request(message, flags);
            request.string(1, set.table).string(2, set.name);
            request.nested(3, |list| {
                for (key, chain) in elements {
                    list.nested(NFTA_LIST_ELEM, |element| {
                        element.nested(1, |k| data(k, key));
                        if let Some(chain) = chain {
                            element.nested(2, |value| jump(value, chain));
                        }
                    });
                }
            });
            request
        })
        .collect()
}

/// Writes the verdict to go on in `chain`.
pub(super) fn jump(value: &mut Request, chain: &str) {
    value.nested(2, |verdict| {
        verdict.attribute(1, &NFT_JUMP.to_be_bytes()).string(2, chain);
    });
}

/// Asks for all keys of a set.
pub(in crate::network) fn set_entries(set: Set<'_>) -> Request {
    let mut request = request(NFT_MSG_GETSETELEM, 0);
    request.string(1, set.table).string(2, set.name);
    request
}

/// Reads the keys in one answer to [`set_entries`].
pub(in crate::network) fn set_keys(payload: &[u8]) -> Vec<Vec<u8>> {
    let attributes = Attributes(payload.get(4..).unwrap_or_default());
    let Some(list) = attributes.value(3) else { return Vec::new() };
    let keys = Attributes(list).filter_map(|(_, element)| {
        let key = Attributes(element).value(1)?;
        Some(Attributes(key).value(NFTA_DATA_VALUE)?.to_vec())
    });
    keys.collect()
}
