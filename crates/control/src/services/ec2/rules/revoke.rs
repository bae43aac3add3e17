//! RevokeSecurityGroupIngress, RevokeSecurityGroupEgress.

use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ec2::{
    IpPermission, RevokeSecurityGroupEgressRequest,
    RevokeSecurityGroupEgressResult, RevokeSecurityGroupIngressRequest,
    RevokeSecurityGroupIngressResult, RevokedSecurityGroupRule,
};

use super::{About, Flat, flat, no_such_rule, no_such_rule_id, read};
use crate::context::{Context, Scope};
use crate::services::ec2::filter::{check_dry_run, error, missing};
use crate::services::ec2::rows::{RulePeer, SecurityGroupRow, VpcRow};
use crate::services::ec2::shape::describe_rule;
use crate::services::ec2::{change, groups, permission};

/// What is revoked, and what could not be because it is not there.
type Revoked = (Vec<RevokedSecurityGroupRule>, Vec<IpPermission>);

pub(in crate::services::ec2) async fn revoke_security_group_ingress(
    cx: &Context,
    scope: &Scope,
    input: RevokeSecurityGroupIngressRequest,
) -> Result<RevokeSecurityGroupIngressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let flat = flat!(input);
    let about = About {
        is_egress: false,
        group_id: input.group_id,
        group_name: input.group_name,
        permissions: super::permissions(input.ip_permissions, flat, false)?,
    };
    let ids = input.security_group_rule_ids;
    let (revoked, unknown) = revoke(cx, scope, about, ids).await?;
    Ok(RevokeSecurityGroupIngressResult {
        r#return: Some(true),
        unknown_ip_permissions: (!unknown.is_empty()).then_some(unknown),
        revoked_security_group_rules: Some(revoked),
    })
}

pub(in crate::services::ec2) async fn revoke_security_group_egress(
    cx: &Context,
    scope: &Scope,
    input: RevokeSecurityGroupEgressRequest,
) -> Result<RevokeSecurityGroupEgressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let flat = flat!(input);
    let about = About {
        is_egress: true,
        group_id: input.group_id,
        group_name: None,
        permissions: super::permissions(input.ip_permissions, flat, true)?,
    };
    let ids = input.security_group_rule_ids;
    let (revoked, unknown) = revoke(cx, scope, about, ids).await?;
    Ok(RevokeSecurityGroupEgressResult {
        r#return: Some(true),
        unknown_ip_permissions: (!unknown.is_empty()).then_some(unknown),
        revoked_security_group_rules: Some(revoked),
    })
}

async fn revoke(
    cx: &Context,
    scope: &Scope,
    about: About,
    ids: Option<Vec<String>>,
) -> Result<Revoked, ApiError> {
    let ids = ids.unwrap_or_default();
    match (ids.is_empty(), about.permissions.is_empty()) {
        (true, true) => return Err(missing("ipPermissions")),
        (false, false) => {
            return Err(error(
                "InvalidParameterCombination",
                "The parameter 'ipPermissions' may not be used in \
                 combination with 'securityGroupRuleIds'",
            ));
        }
        (true, false) | (false, true) => {}
    }
    change(cx, scope, move |tx, within| {
        if ids.is_empty() {
            by_permissions(tx, within, &about)
        } else {
            by_ids(tx, within, &about, &ids)
        }
    })
    .await
}

fn by_ids(
    tx: &mut Tx,
    within: &Key,
    about: &About,
    ids: &[String],
) -> Result<Revoked, ApiError> {
    let (id, name) = (about.group_id.as_deref(), about.group_name.as_deref());
    let group = groups::find(tx, within, id, name)?;
    let mut group = SecurityGroupRow::clone(&group);
    let mut revoked = vec![];
    for id in ids {
        let at = group.rules.iter().position(|rule| {
            rule.id == *id && rule.spec.is_egress == about.is_egress
        });
        let at = at.ok_or_else(|| no_such_rule_id(id))?;
        revoked.push(take(&mut group, at));
    }
    tx.put(group);
    Ok((revoked, vec![]))
}

/// In a default VPC what is not there is only told of; elsewhere it is an
/// error and nothing is revoked (EC2 API reference,
/// RevokeSecurityGroupIngress).
fn by_permissions(
    tx: &mut Tx,
    within: &Key,
    about: &About,
) -> Result<Revoked, ApiError> {
    let (mut group, given) = read(tx, within, about)?;
    let vpc = tx.get::<VpcRow>(&within.with(&group.vpc_id));
    let is_lenient = vpc.is_some_and(|vpc| vpc.is_default);
    let (mut revoked, mut unknown) = (vec![], vec![]);
    for given in &given {
        let at = group.rules.iter().position(|rule| rule.spec == given.spec);
        match at {
            Some(at) => revoked.push(take(&mut group, at)),
            None if is_lenient => {
                unknown.push((&given.spec, given.description.as_deref()));
            }
            None => return Err(no_such_rule()),
        }
    }
    let unknown = permission::group(unknown.into_iter(), &group.account);
    if !revoked.is_empty() {
        tx.put(group);
    }
    Ok((revoked, unknown))
}

/// Takes a rule out of its group.
fn take(group: &mut SecurityGroupRow, at: usize) -> RevokedSecurityGroupRule {
    let rule = group.rules.remove(at);
    let shown = describe_rule(group, &rule);
    let referenced_group_id = match rule.spec.peer {
        RulePeer::Group(id) => Some(id),
        RulePeer::Ipv4(_) | RulePeer::Ipv6(_) => None,
    };
    RevokedSecurityGroupRule {
        security_group_rule_id: shown.security_group_rule_id,
        group_id: shown.group_id,
        is_egress: shown.is_egress,
        ip_protocol: shown.ip_protocol,
        from_port: shown.from_port,
        to_port: shown.to_port,
        cidr_ipv4: shown.cidr_ipv4,
        cidr_ipv6: shown.cidr_ipv6,
        prefix_list_id: None,
        referenced_group_id,
        description: shown.description,
    }
}
