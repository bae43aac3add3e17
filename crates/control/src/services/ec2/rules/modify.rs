//! ModifySecurityGroupRules, UpdateSecurityGroupRuleDescriptionsIngress and
//! UpdateSecurityGroupRuleDescriptionsEgress.

use minato_wire::ApiError;
use minato_wire::ec2::{
    ModifySecurityGroupRulesRequest, ModifySecurityGroupRulesResult,
    SecurityGroupRuleDescription,
    UpdateSecurityGroupRuleDescriptionsEgressRequest,
    UpdateSecurityGroupRuleDescriptionsEgressResult,
    UpdateSecurityGroupRuleDescriptionsIngressRequest,
    UpdateSecurityGroupRuleDescriptionsIngressResult, UserIdGroupPair,
};

use super::{
    About, duplicate, no_such_rule, no_such_rule_id, peer_group, read,
};
use crate::context::{Context, Scope};
use crate::services::ec2::filter::{check_dry_run, error, missing};
use crate::services::ec2::permission::{check_description, read_request};
use crate::services::ec2::rows::SecurityGroupRow;
use crate::services::ec2::{change, groups};

pub(in crate::services::ec2) async fn modify_security_group_rules(
    cx: &Context,
    scope: &Scope,
    input: ModifySecurityGroupRulesRequest,
) -> Result<ModifySecurityGroupRulesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let updates = input.security_group_rules.unwrap_or_default();
    if updates.is_empty() {
        return Err(missing("SecurityGroupRules"));
    }
    let group_id = input.group_id;
    change(cx, scope, move |tx, within| {
        let known = groups::find(tx, within, group_id.as_deref(), None)?;
        let find =
            |pair: &UserIdGroupPair| peer_group(tx, within, &known, pair);
        let mut group = SecurityGroupRow::clone(&known);
        for update in updates {
            let id = update.security_group_rule_id.unwrap_or_default();
            let rules = &mut group.rules;
            let at = rules
                .iter()
                .position(|rule| rule.id == id)
                .ok_or_else(|| no_such_rule_id(&id))?;
            // "You can't change the direction of a rule."
            let is_egress = rules[at].spec.is_egress;
            let request = update.security_group_rule.unwrap_or_default();
            let given = read_request(&request, is_egress, &find)?;
            if std::mem::discriminant(&rules[at].spec.peer)
                != std::mem::discriminant(&given.spec.peer)
            {
                return Err(error(
                    "InvalidParameterValue",
                    "A rule's source or destination cannot be changed to one \
                     of another kind (IPv4, IPv6, security group).",
                ));
            }
            let is_taken = rules
                .iter()
                .any(|rule| rule.id != id && rule.spec == given.spec);
            if is_taken {
                return Err(duplicate(&given.spec));
            }
            rules[at].spec = given.spec;
            rules[at].description = given.description;
        }
        tx.put(group);
        Ok(())
    })
    .await?;
    Ok(ModifySecurityGroupRulesResult { r#return: Some(true) })
}

pub(in crate::services::ec2) async fn update_security_group_rule_descriptions_ingress(
    cx: &Context,
    scope: &Scope,
    input: UpdateSecurityGroupRuleDescriptionsIngressRequest,
) -> Result<UpdateSecurityGroupRuleDescriptionsIngressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let about = About {
        is_egress: false,
        group_id: input.group_id,
        group_name: input.group_name,
        permissions: input.ip_permissions.unwrap_or_default(),
    };
    let by_id = input.security_group_rule_descriptions;
    update_descriptions(cx, scope, about, by_id).await?;
    let r#return = Some(true);
    Ok(UpdateSecurityGroupRuleDescriptionsIngressResult { r#return })
}

pub(in crate::services::ec2) async fn update_security_group_rule_descriptions_egress(
    cx: &Context,
    scope: &Scope,
    input: UpdateSecurityGroupRuleDescriptionsEgressRequest,
) -> Result<UpdateSecurityGroupRuleDescriptionsEgressResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let about = About {
        is_egress: true,
        group_id: input.group_id,
        group_name: input.group_name,
        permissions: input.ip_permissions.unwrap_or_default(),
    };
    let by_id = input.security_group_rule_descriptions;
    update_descriptions(cx, scope, about, by_id).await?;
    let r#return = Some(true);
    Ok(UpdateSecurityGroupRuleDescriptionsEgressResult { r#return })
}

/// "You can remove a description by omitting the description parameter."
async fn update_descriptions(
    cx: &Context,
    scope: &Scope,
    about: About,
    by_id: Option<Vec<SecurityGroupRuleDescription>>,
) -> Result<(), ApiError> {
    let by_id = by_id.unwrap_or_default();
    if by_id.is_empty() == about.permissions.is_empty() {
        return Err(error(
            "InvalidParameterCombination",
            "You must specify either IpPermissions or \
             SecurityGroupRuleDescriptions, but not both.",
        ));
    }
    change(cx, scope, move |tx, within| {
        let (mut group, given) = read(tx, within, &about)?;
        for given in given {
            let mut rules = group.rules.iter_mut();
            let rule = rules.find(|rule| rule.spec == given.spec);
            rule.ok_or_else(no_such_rule)?.description = given.description;
        }
        for named in by_id {
            check_description(named.description.as_deref())?;
            let id = named.security_group_rule_id.unwrap_or_default();
            let mut rules = group.rules.iter_mut();
            let rule = rules.find(|rule| {
                rule.id == id && rule.spec.is_egress == about.is_egress
            });
            rule.ok_or_else(|| no_such_rule_id(&id))?.description =
                named.description;
        }
        tx.put(group);
        Ok(())
    })
    .await
}
