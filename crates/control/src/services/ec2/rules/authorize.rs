//! AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupEgress.

use minato_wire::ApiError;
use minato_wire::ec2::{
    AuthorizeSecurityGroupEgressRequest, AuthorizeSecurityGroupEgressResult,
    AuthorizeSecurityGroupIngressRequest, AuthorizeSecurityGroupIngressResult,
    ResourceType, SecurityGroupRule, TagSpecification,
};

use super::{
    About, Flat, RULES_MAX, check_count, duplicate, flat, read, too_many,
};
use crate::context::{Context, Scope};
use crate::services::ec2::eni::hex_id;
use crate::services::ec2::filter::{check_dry_run, missing};
use crate::services::ec2::rows::Rule;
use crate::services::ec2::shape::describe_rule;
use crate::services::ec2::{change, tags};

pub(in crate::services::ec2) async fn authorize_security_group_ingress(
    cx: &Context,
    scope: &Scope,
    input: AuthorizeSecurityGroupIngressRequest,
) -> Result<AuthorizeSecurityGroupIngressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let flat = flat!(input);
    let about = About {
        is_egress: false,
        group_id: input.group_id,
        group_name: input.group_name,
        permissions: super::permissions(input.ip_permissions, flat, false)?,
    };
    let rules = authorize(cx, scope, about, input.tag_specifications).await?;
    Ok(AuthorizeSecurityGroupIngressResult {
        r#return: Some(true),
        security_group_rules: Some(rules),
    })
}

pub(in crate::services::ec2) async fn authorize_security_group_egress(
    cx: &Context,
    scope: &Scope,
    input: AuthorizeSecurityGroupEgressRequest,
) -> Result<AuthorizeSecurityGroupEgressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let flat = flat!(input);
    let about = About {
        is_egress: true,
        group_id: input.group_id,
        group_name: None,
        permissions: super::permissions(input.ip_permissions, flat, true)?,
    };
    let rules = authorize(cx, scope, about, input.tag_specifications).await?;
    Ok(AuthorizeSecurityGroupEgressResult {
        r#return: Some(true),
        security_group_rules: Some(rules),
    })
}

/// Adds all the rules, or none.
async fn authorize(
    cx: &Context,
    scope: &Scope,
    about: About,
    tags: Option<Vec<TagSpecification>>,
) -> Result<Vec<SecurityGroupRule>, ApiError> {
    if about.permissions.is_empty() {
        return Err(missing("ipPermissions"));
    }
    let kind = ResourceType::SecurityGroupRule;
    let tags = tags::of_new(tags.as_deref(), &kind)?;
    // More than this cannot be added: IPv4 and IPv6 count apart.
    let mut draw = cx.draw(2 * RULES_MAX + 1);
    change(cx, scope, move |tx, within| {
        let (mut group, given) = read(tx, within, &about)?;
        if given.len() > 2 * RULES_MAX {
            return Err(too_many());
        }
        let mut added = vec![];
        for given in given {
            if group.rules.iter().any(|rule| rule.spec == given.spec) {
                return Err(duplicate(&given.spec));
            }
            let rule = Rule {
                id: hex_id("sgr", draw.next()),
                spec: given.spec,
                description: given.description,
                tags: tags.clone(),
            };
            added.push(describe_rule(&group, &rule));
            group.rules.push(rule);
        }
        check_count(&group, about.is_egress)?;
        tx.put(group);
        Ok(added)
    })
    .await
}
