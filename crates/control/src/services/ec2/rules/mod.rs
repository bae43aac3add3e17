//! The rules of security groups: what changes them and what shows them.

mod authorize;
mod describe;
mod modify;
mod revoke;

pub(super) use authorize::{
    authorize_security_group_egress, authorize_security_group_ingress,
};
pub(super) use describe::describe_security_group_rules;
pub(super) use modify::{
    modify_security_group_rules,
    update_security_group_rule_descriptions_egress,
    update_security_group_rule_descriptions_ingress,
};
pub(super) use revoke::{
    revoke_security_group_egress, revoke_security_group_ingress,
};

use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ec2::{IpPermission, IpRange, UserIdGroupPair};

use super::filter::error;
use super::groups;
use super::permission::{self, Given};
use super::rows::{RuleSpec, SecurityGroupRow};

/// Rules of a group in each direction (VPC quotas: 60 inbound and 60
/// outbound, counted for IPv4 and IPv6 apart).
const RULES_MAX: usize = 60;

/// Which rules of a group a call is about.
#[derive(Clone, Debug, Default)]
struct About {
    is_egress: bool,
    group_id: Option<String>,
    group_name: Option<String>,
    permissions: Vec<IpPermission>,
}

/// A call's permission in parameters of its own, as `ip_permissions` is in
/// newer calls.
#[derive(Clone, Debug, Default)]
struct Flat {
    protocol: Option<String>,
    from_port: Option<i32>,
    to_port: Option<i32>,
    cidr: Option<String>,
    source_name: Option<String>,
    source_owner: Option<String>,
}

/// Takes them out of a request; the model has a shape of its own for each of
/// the calls that have them.
macro_rules! flat {
    ($input:ident) => {
        Flat {
            protocol: $input.ip_protocol,
            from_port: $input.from_port,
            to_port: $input.to_port,
            cidr: $input.cidr_ip,
            source_name: $input.source_security_group_name,
            source_owner: $input.source_security_group_owner_id,
        }
    };
}
use flat;

impl Flat {
    fn is_empty(&self) -> bool {
        let Flat { protocol, from_port, to_port, cidr, .. } = self;
        protocol.is_none()
            && from_port.is_none()
            && to_port.is_none()
            && cidr.is_none()
            && self.source_name.is_none()
            && self.source_owner.is_none()
    }

    /// The permission; a group as source means all its traffic.
    fn permission(self) -> IpPermission {
        let pair = self.source_name.map(|name| UserIdGroupPair {
            group_name: Some(name),
            user_id: self.source_owner,
            ..UserIdGroupPair::default()
        });
        let protocol = match (&pair, self.protocol) {
            (Some(_), None) => Some("-1".to_owned()),
            (Some(_) | None, protocol) => protocol,
        };
        let range = self
            .cidr
            .map(|cidr| IpRange { cidr_ip: Some(cidr), description: None });
        IpPermission {
            ip_protocol: protocol,
            from_port: self.from_port,
            to_port: self.to_port,
            user_id_group_pairs: Some(pair.into_iter().collect()),
            ip_ranges: Some(range.into_iter().collect()),
            ..IpPermission::default()
        }
    }
}

/// The permissions of a call that may have them in either form.
fn permissions(
    given: Option<Vec<IpPermission>>,
    flat: Flat,
    is_egress: bool,
) -> Result<Vec<IpPermission>, ApiError> {
    let given = given.unwrap_or_default();
    match (given.is_empty(), flat.is_empty()) {
        (_, true) => Ok(given),
        (false, false) => Err(error(
            "InvalidParameterCombination",
            "The parameter 'ipPermissions' may not be used in combination \
             with 'ipProtocol'",
        )),
        // EC2 API reference, AuthorizeSecurityGroupEgress: "Not supported.
        // Use IP permissions instead."
        (true, false) if is_egress => Err(error(
            "InvalidParameterCombination",
            "For egress rules, a permission can only be given in \
             'ipPermissions'",
        )),
        (true, false) => Ok(vec![flat.permission()]),
    }
}

/// The group of a call and the rules that its permissions are.
fn read(
    tx: &Tx,
    within: &Key,
    about: &About,
) -> Result<(SecurityGroupRow, Vec<Given>), ApiError> {
    let (id, name) = (about.group_id.as_deref(), about.group_name.as_deref());
    let group = groups::find(tx, within, id, name)?;
    let find = |pair: &UserIdGroupPair| peer_group(tx, within, &group, pair);
    let rules = permission::read(&about.permissions, about.is_egress, &find)?;
    Ok(((*group).clone(), rules))
}

/// The id of the group that a rule of `group` refers to.
fn peer_group(
    tx: &Tx,
    within: &Key,
    group: &SecurityGroupRow,
    pair: &UserIdGroupPair,
) -> Result<String, ApiError> {
    let id = pair.group_id.as_deref();
    let other = pair.user_id.as_ref().filter(|user| **user != group.account);
    if let Some(user) = other {
        let name = id.or(pair.group_name.as_deref()).unwrap_or_default();
        return Err(error(
            "InvalidGroup.NotFound",
            format!("The security group '{user}/{name}' does not exist"),
        ));
    }
    let found = groups::find(tx, within, id, pair.group_name.as_deref())?;
    if found.vpc_id != group.vpc_id {
        return Err(error(
            "InvalidGroup.NotFound",
            "You have specified two resources that belong to different \
             networks.",
        ));
    }
    Ok(found.id.clone())
}

/// Refuses more rules in one direction than a group may have.
fn check_count(
    group: &SecurityGroupRow,
    is_egress: bool,
) -> Result<(), ApiError> {
    let of = |spec: &RuleSpec, is_ipv6: bool| {
        use super::rows::RulePeer::{Group, Ipv4, Ipv6};
        spec.is_egress == is_egress
            && match &spec.peer {
                Ipv4(_) => !is_ipv6,
                Ipv6(_) => is_ipv6,
                // Counts for both.
                Group(_) => true,
            }
    };
    let count = |is_ipv6| {
        group.rules.iter().filter(|rule| of(&rule.spec, is_ipv6)).count()
    };
    if count(false).max(count(true)) > RULES_MAX {
        return Err(too_many());
    }
    Ok(())
}

fn too_many() -> ApiError {
    error(
        "RulesPerSecurityGroupLimitExceeded",
        "The maximum number of rules per security group has been reached.",
    )
}

/// Why a rule cannot be made a second time.
fn duplicate(spec: &RuleSpec) -> ApiError {
    error(
        "InvalidPermission.Duplicate",
        format!(
            "the specified rule \"{}\" already exists",
            permission::in_words(spec)
        ),
    )
}

fn no_such_rule() -> ApiError {
    error(
        "InvalidPermission.NotFound",
        "The specified rule does not exist in this security group.",
    )
}

fn no_such_rule_id(id: &str) -> ApiError {
    error(
        "InvalidSecurityGroupRuleId.NotFound",
        format!("The security group rule ID '{id}' does not exist"),
    )
}
