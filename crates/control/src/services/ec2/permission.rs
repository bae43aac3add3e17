//! Permissions as callers write them, and the rules that they are.
//!
//! One `IpPermission` has a protocol and many peers; a rule has one. Checks
//! are those of the EC2 API reference, `AuthorizeSecurityGroupIngress`.

use minato_wire::ApiError;
use minato_wire::ec2::{
    IpPermission, IpRange, Ipv6Range, SecurityGroupRuleRequest, UserIdGroupPair,
};

use super::filter::{error, missing};
use super::rows::{Cidr, Cidr6, RulePeer, RuleSpec};

/// The longest description of a rule (EC2 API reference, IpRange).
const DESCRIPTION_MAX: usize = 255;
/// What may stand in descriptions and names beside letters and digits.
pub(super) const PUNCTUATION: &str = " ._-:/()#,@[]+=&;{}!$*";

/// A rule as a caller gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) spec: RuleSpec,
    pub(super) description: Option<String>,
}

/// Finds the id of a group of the VPC by id or name, or says why not.
pub(super) type FindGroup<'a> =
    &'a dyn Fn(&UserIdGroupPair) -> Result<String, ApiError>;

/// The rules of permissions, in their order.
pub(super) fn read(
    permissions: &[IpPermission],
    is_egress: bool,
    find: FindGroup<'_>,
) -> Result<Vec<Given>, ApiError> {
    let mut rules: Vec<Given> = vec![];
    for permission in permissions {
        for given in read_one(permission, is_egress, find)? {
            if rules.iter().any(|known| known.spec == given.spec) {
                return Err(error(
                    "InvalidParameterValue",
                    "The same permission must not appear multiple times",
                ));
            }
            rules.push(given);
        }
    }
    Ok(rules)
}

fn read_one(
    permission: &IpPermission,
    is_egress: bool,
    find: FindGroup<'_>,
) -> Result<Vec<Given>, ApiError> {
    let (protocol, from_port, to_port) = traffic(
        permission.ip_protocol.as_deref(),
        permission.from_port,
        permission.to_port,
    )?;
    let rule = |peer,
                description: &Option<String>|
     -> Result<Given, ApiError> {
        check_description(description.as_deref())?;
        let protocol = protocol.clone();
        let spec = RuleSpec { is_egress, protocol, from_port, to_port, peer };
        Ok(Given { spec, description: description.clone() })
    };
    let mut rules = vec![];
    for range in permission.ip_ranges.iter().flatten() {
        let peer = ipv4(range.cidr_ip.as_deref().unwrap_or_default())?;
        rules.push(rule(peer, &range.description)?);
    }
    for range in permission.ipv6_ranges.iter().flatten() {
        let peer = ipv6(range.cidr_ipv6.as_deref().unwrap_or_default())?;
        rules.push(rule(peer, &range.description)?);
    }
    if let Some(list) = permission.prefix_list_ids.iter().flatten().next() {
        let id = list.prefix_list_id.as_deref().unwrap_or_default();
        return Err(no_prefix_list(id));
    }
    for pair in permission.user_id_group_pairs.iter().flatten() {
        let peer = RulePeer::Group(find(pair)?);
        rules.push(rule(peer, &pair.description)?);
    }
    if rules.is_empty() {
        return Err(error(
            "MissingParameter",
            "Missing source specification: include source security group or \
             CIDR information",
        ));
    }
    Ok(rules)
}

/// The rule of `ModifySecurityGroupRules`, which has exactly one peer.
pub(super) fn read_request(
    request: &SecurityGroupRuleRequest,
    is_egress: bool,
    find: FindGroup<'_>,
) -> Result<Given, ApiError> {
    if let Some(id) = request.prefix_list_id.as_deref() {
        return Err(no_prefix_list(id));
    }
    let mut peers = vec![];
    if let Some(cidr) = request.cidr_ipv4.as_deref() {
        peers.push(ipv4(cidr)?);
    }
    if let Some(cidr) = request.cidr_ipv6.as_deref() {
        peers.push(ipv6(cidr)?);
    }
    if let Some(id) = &request.referenced_group_id {
        let pair = UserIdGroupPair {
            group_id: Some(id.clone()),
            ..UserIdGroupPair::default()
        };
        peers.push(RulePeer::Group(find(&pair)?));
    }
    let Ok([peer]) = <[RulePeer; 1]>::try_from(peers) else {
        return Err(error(
            "InvalidParameterCombination",
            "A security group rule must have exactly one of CidrIpv4, \
             CidrIpv6, PrefixListId and ReferencedGroupId.",
        ));
    };
    let (protocol, from_port, to_port) = traffic(
        request.ip_protocol.as_deref(),
        request.from_port,
        request.to_port,
    )?;
    check_description(request.description.as_deref())?;
    let spec = RuleSpec { is_egress, protocol, from_port, to_port, peer };
    Ok(Given { spec, description: request.description.clone() })
}

fn no_prefix_list(id: &str) -> ApiError {
    let message = format!("The prefix list ID '{id}' does not exist");
    error("InvalidPrefixListID.NotFound", message)
}

/// Protocol and ports in the form that is kept.
fn traffic(
    protocol: Option<&str>,
    from: Option<i32>,
    to: Option<i32>,
) -> Result<(String, i32, i32), ApiError> {
    let protocol = protocol.unwrap_or_default();
    if protocol.is_empty() {
        return Err(missing("ipProtocol"));
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "1" => "icmp".to_owned(),
        "6" => "tcp".to_owned(),
        "17" => "udp".to_owned(),
        "58" => "icmpv6".to_owned(),
        named @ ("-1" | "tcp" | "udp" | "icmp" | "icmpv6") => named.to_owned(),
        other => match other.parse::<u8>() {
            Ok(number) => number.to_string(),
            Err(_) => {
                return Err(error(
                    "InvalidParameterValue",
                    format!(
                        "Invalid value '{protocol}' for IP protocol. Unknown \
                         protocol."
                    ),
                ));
            }
        },
    };
    let (from, to) = match protocol.as_str() {
        "tcp" | "udp" => ports(from, to)?,
        "icmp" | "icmpv6" => icmp(from, to)?,
        // "Specifying -1 or a protocol number other than tcp, udp, icmp, or
        // icmpv6 allows traffic on all ports, regardless of any port range".
        _ => (-1, -1),
    };
    Ok((protocol, from, to))
}

fn ports(from: Option<i32>, to: Option<i32>) -> Result<(i32, i32), ApiError> {
    let wrong = |message: String| error("InvalidParameterValue", message);
    let (Some(from), Some(to)) = (from, to) else {
        return Err(wrong(
            "Invalid value 'Must specify both from and to ports with \
             TCP/UDP.' for portRange."
                .to_owned(),
        ));
    };
    for port in [from, to] {
        if !(0..=65_535).contains(&port) {
            return Err(wrong(format!("TCP/UDP port ({port}) out of range")));
        }
    }
    if from > to {
        return Err(wrong(format!("Invalid TCP/UDP port range ({from}:{to})")));
    }
    Ok((from, to))
}

/// Type and code; "if you specify all ICMP types, you must specify all codes".
fn icmp(from: Option<i32>, to: Option<i32>) -> Result<(i32, i32), ApiError> {
    let kind = from.unwrap_or(-1);
    let code = to.unwrap_or(-1);
    for (value, name) in [(kind, "type"), (code, "code")] {
        if !(-1..=255).contains(&value) {
            return Err(error(
                "InvalidParameterValue",
                format!("ICMP {name} ({value}) out of range"),
            ));
        }
    }
    if kind == -1 && code != -1 {
        return Err(error(
            "InvalidPermission.Malformed",
            "ICMP code must be -1 where the ICMP type is -1",
        ));
    }
    Ok((kind, code))
}

fn ipv4(text: &str) -> Result<RulePeer, ApiError> {
    let block = Cidr::parse(text).map(RulePeer::Ipv4);
    block.ok_or_else(|| no_block(text))
}

fn ipv6(text: &str) -> Result<RulePeer, ApiError> {
    let block = Cidr6::parse(text).map(|it| RulePeer::Ipv6(it.to_string()));
    block.ok_or_else(|| no_block(text))
}

fn no_block(text: &str) -> ApiError {
    let message = format!("CIDR block {text} is malformed");
    error("InvalidParameterValue", message)
}

/// Refuses what no description of a rule may be.
pub(super) fn check_description(text: Option<&str>) -> Result<(), ApiError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || PUNCTUATION.contains(c);
    match text {
        Some(text)
            if text.len() > DESCRIPTION_MAX || !text.chars().all(fits) =>
        {
            Err(error(
                "InvalidParameterValue",
                "Invalid rule description. Valid descriptions are strings \
                 less than 256 characters from the following set:  \
                 a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

/// A rule in the words of EC2's errors.
pub(super) fn in_words(spec: &RuleSpec) -> String {
    let peer = match &spec.peer {
        RulePeer::Ipv4(cidr) => cidr.to_string(),
        RulePeer::Ipv6(cidr) => cidr.clone(),
        RulePeer::Group(id) => id.clone(),
    };
    let RuleSpec { protocol, from_port, to_port, .. } = spec;
    match protocol.as_str() {
        "-1" => format!("peer: {peer}, ALL, ALLOW"),
        "tcp" | "udp" => format!(
            "peer: {peer}, {}, from port: {from_port}, to port: {to_port}, \
             ALLOW",
            protocol.to_ascii_uppercase()
        ),
        "icmp" | "icmpv6" => format!(
            "peer: {peer}, {}, type: {from_port}, code: {to_port}, ALLOW",
            protocol.to_ascii_uppercase()
        ),
        number => format!("peer: {peer}, protocol: {number}, ALLOW"),
    }
}

/// The permissions that rules are: those of the same traffic together.
pub(super) fn group<'a>(
    rules: impl Iterator<Item = (&'a RuleSpec, Option<&'a str>)>,
    account: &str,
) -> Vec<IpPermission> {
    let mut permissions: Vec<IpPermission> = vec![];
    for (spec, description) in rules {
        // Protocols without ports have none here.
        let has_ports =
            matches!(spec.protocol.as_str(), "tcp" | "udp" | "icmp" | "icmpv6");
        let (from, to) = (
            has_ports.then_some(spec.from_port),
            has_ports.then_some(spec.to_port),
        );
        let known = permissions.iter().position(|it| {
            it.ip_protocol.as_deref() == Some(spec.protocol.as_str())
                && it.from_port == from
                && it.to_port == to
        });
        let at = known.unwrap_or_else(|| {
            permissions.push(IpPermission {
                ip_protocol: Some(spec.protocol.clone()),
                from_port: from,
                to_port: to,
                user_id_group_pairs: Some(vec![]),
                ip_ranges: Some(vec![]),
                ipv6_ranges: Some(vec![]),
                prefix_list_ids: Some(vec![]),
            });
            permissions.len() - 1
        });
        add(&mut permissions[at], spec, description, account);
    }
    permissions
}

fn add(
    permission: &mut IpPermission,
    spec: &RuleSpec,
    description: Option<&str>,
    account: &str,
) {
    let description = description.map(str::to_owned);
    match &spec.peer {
        RulePeer::Ipv4(cidr) => {
            permission
                .ip_ranges
                .get_or_insert_default()
                .push(IpRange { cidr_ip: Some(cidr.to_string()), description });
        }
        RulePeer::Ipv6(cidr) => {
            permission
                .ipv6_ranges
                .get_or_insert_default()
                .push(Ipv6Range { cidr_ipv6: Some(cidr.clone()), description });
        }
        RulePeer::Group(id) => {
            let pairs = permission.user_id_group_pairs.get_or_insert_default();
            pairs.push(UserIdGroupPair {
                group_id: Some(id.clone()),
                user_id: Some(account.to_owned()),
                description,
                ..UserIdGroupPair::default()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find(pair: &UserIdGroupPair) -> Result<String, ApiError> {
        Ok(pair.group_id.clone().unwrap_or_default())
    }

    fn one(protocol: &str, ports: (Option<i32>, Option<i32>)) -> IpPermission {
        IpPermission {
            ip_protocol: Some(protocol.to_owned()),
            from_port: ports.0,
            to_port: ports.1,
            ip_ranges: Some(vec![IpRange {
                cidr_ip: Some("10.1.2.3/8".into()),
                description: None,
            }]),
            ..IpPermission::default()
        }
    }

    #[test]
    fn protocols_and_ports_are_checked_and_made_canonical() {
        let both = |from, to| (Some(from), Some(to));
        for (protocol, given, kept) in [
            ("6", both(80, 81), ("tcp", 80, 81)),
            ("UDP", both(0, 65535), ("udp", 0, 65535)),
            ("-1", both(1, 2), ("-1", -1, -1)),
            ("50", both(1, 2), ("50", -1, -1)),
            ("icmp", (None, None), ("icmp", -1, -1)),
            ("58", both(128, 0), ("icmpv6", 128, 0)),
        ] {
            let read = read(&[one(protocol, given)], true, &find).unwrap();
            let spec = &read[0].spec;
            let found = (spec.protocol.as_str(), spec.from_port, spec.to_port);
            assert_eq!(found, kept);
            assert_eq!(spec.peer, ipv4("10.0.0.0/8").unwrap());
        }
        for (protocol, given, code) in [
            ("tcp", (None, None), "InvalidParameterValue"),
            ("tcp", both(2, 1), "InvalidParameterValue"),
            ("tcp", both(-1, 80), "InvalidParameterValue"),
            ("tcp", both(1, 65536), "InvalidParameterValue"),
            ("icmp", both(-1, 3), "InvalidPermission.Malformed"),
            ("icmp", both(256, 0), "InvalidParameterValue"),
            ("256", both(1, 1), "InvalidParameterValue"),
            ("ipsec", both(1, 1), "InvalidParameterValue"),
            ("", both(1, 1), "MissingParameter"),
        ] {
            let refused = read(&[one(protocol, given)], true, &find);
            assert_eq!(refused.unwrap_err().code(), code, "{protocol}");
        }
    }

    #[test]
    fn a_permission_needs_peers_and_each_once() {
        let none = IpPermission {
            ip_protocol: Some("-1".into()),
            ..IpPermission::default()
        };
        let refused = read(&[none], false, &find).unwrap_err();
        assert_eq!(refused.code(), "MissingParameter");
        let twice = [one("-1", (None, None)), one("-1", (None, None))];
        let refused = read(&twice, false, &find).unwrap_err();
        assert_eq!(refused.code(), "InvalidParameterValue");
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "x/8"] {
            assert!(ipv4(text).is_err(), "{text}");
        }
        assert_eq!(
            ipv6("2001:DB8::1/32").unwrap(),
            RulePeer::Ipv6("2001:db8::/32".into())
        );
        assert!(ipv6("2001::/129").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_to_the_same_rules(
            given in prop::collection::vec(
                (0..3_usize, 0..60_i32, any::<u32>(), 0..=32_u8), 1..20),
        ) {
            let mut specs: Vec<RuleSpec> = vec![];
            for (protocol, port, base, prefix) in given {
                let protocol = ["tcp", "udp", "-1"][protocol].to_owned();
                let port = if protocol == "-1" { -1 } else { port };
                let text = format!("{}/{prefix}", std::net::Ipv4Addr::from(base));
                let peer = if port % 3 == 0 {
                    RulePeer::Group(format!("sg-{base}"))
                } else {
                    ipv4(&text).unwrap()
                };
                let spec = RuleSpec {
                    is_egress: false, protocol, from_port: port, to_port: port, peer,
                };
                if !specs.contains(&spec) {
                    specs.push(spec);
                }
            }
            let shown = group(specs.iter().map(|spec| (spec, None)), "1");
            let again = read(&shown, false, &find).unwrap();
            prop_assert_eq!(again.len(), specs.len());
            for given in again {
                prop_assert!(specs.contains(&given.spec));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (ipv4(&text), ipv6(&text));
            let _ = check_description(Some(&text));
            let _ = traffic(Some(&text), Some(1), Some(2));
        }
    }
}
