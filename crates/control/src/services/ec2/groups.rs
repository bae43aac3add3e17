//! CreateSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups.

use std::sync::Arc;

use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ec2::{
    CreateSecurityGroupRequest, CreateSecurityGroupResult,
    DeleteSecurityGroupRequest, DeleteSecurityGroupResult,
    DescribeSecurityGroupsRequest, DescribeSecurityGroupsResult, ResourceType,
};

use super::defaults::{DEFAULT_GROUP, all_out, all_out_ipv6};
use super::describe::{network, one, select};
use super::eni::hex_id;
use super::filter::{Ids, check_dry_run, error, missing, page};
use super::permission::PUNCTUATION;
use super::rows::{EniRow, Rule, RulePeer, SecurityGroupRow, VpcRow};
use super::shape::{describe_group, group_arn};
use super::{change, tags, vpcs};
use crate::context::{Context, Scope};

/// The longest name and description (EC2 API reference, CreateSecurityGroup).
const TEXT_MAX: usize = 255;
/// Groups of an account in a region (VPC quotas).
const GROUPS_MAX: usize = 2500;

/// Refuses a name or description that EC2 does not take.
fn check_text(
    text: Option<&str>,
    parameter: &'static str,
) -> Result<String, ApiError> {
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Err(missing(parameter));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || PUNCTUATION.contains(c);
    if text.chars().count() > TEXT_MAX || !text.chars().all(fits) {
        return Err(error(
            "InvalidParameterValue",
            format!(
                "Value ({text}) for parameter {parameter} is invalid. It must \
                 have up to {TEXT_MAX} characters of a-z, A-Z, 0-9, spaces, \
                 and ._-:/()#,@[]+=&;{{}}!$*"
            ),
        ));
    }
    Ok(text.to_owned())
}

fn check_name(given: Option<&str>) -> Result<String, ApiError> {
    let name = check_text(given, "GroupName")?;
    if name.starts_with("sg-") {
        return Err(error(
            "InvalidParameterValue",
            format!(
                "Value ({name}) for parameter GroupName is invalid. Group \
                 names may not be in the format sg-*"
            ),
        ));
    }
    if name == DEFAULT_GROUP {
        return Err(error(
            "InvalidParameterValue",
            "Cannot use reserved security group name: default",
        ));
    }
    Ok(name)
}

pub(super) async fn create_security_group(
    cx: &Context,
    scope: &Scope,
    input: CreateSecurityGroupRequest,
) -> Result<CreateSecurityGroupResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let name = check_name(input.group_name.as_deref())?;
    let description =
        check_text(input.description.as_deref(), "GroupDescription")?;
    let specifications = input.tag_specifications.as_deref();
    let kind = ResourceType::SecurityGroup;
    let tags = tags::of_new(specifications, &kind)?;
    let mut draw = cx.draw(3);
    let mut id = |kind: &str| hex_id(kind, draw.next());
    let ids = (id("sg"), id("sgr"), id("sgr"));
    let (account, region) = (scope.account.clone(), scope.region.clone());
    let row = change(cx, scope, move |tx, within| {
        let vpc_id = vpc_of(tx, within, input.vpc_id.as_deref())?;
        let vpc = within.with(&vpc_id);
        let is_taken = tx
            .by_index::<SecurityGroupRow>(SecurityGroupRow::BY_VPC, &vpc)
            .any(|group| group.name == name);
        if is_taken {
            return Err(error(
                "InvalidGroup.Duplicate",
                format!(
                    "The security group '{name}' already exists for VPC \
                     '{vpc_id}'"
                ),
            ));
        }
        if tx.scan::<SecurityGroupRow>(within).count() >= GROUPS_MAX {
            return Err(error(
                "SecurityGroupLimitExceeded",
                "The maximum number of security groups has been reached.",
            ));
        }
        let mut rules = vec![all_out(ids.1)];
        if vpcs::find(tx, within, &vpc_id)?.ipv6.is_some() {
            rules.push(all_out_ipv6(ids.2));
        }
        let id = ids.0;
        let row = SecurityGroupRow {
            account,
            region,
            id,
            vpc_id,
            name,
            description,
            rules,
            tags,
        };
        tx.put(row.clone());
        Ok(row)
    })
    .await?;
    Ok(CreateSecurityGroupResult {
        security_group_arn: Some(group_arn(&row)),
        tags: tags::shown(&row.tags),
        group_id: Some(row.id),
    })
}

/// The VPC given, or the default one.
fn vpc_of(
    tx: &Tx,
    within: &Key,
    given: Option<&str>,
) -> Result<String, ApiError> {
    match given {
        Some(id) => vpcs::find(tx, within, id).map(|vpc| vpc.id.clone()),
        None => tx
            .scan::<VpcRow>(within)
            .find(|vpc| vpc.is_default)
            .map(|vpc| vpc.id.clone())
            .ok_or_else(|| {
                error("VPCIdNotSpecified", "No default VPC for this user")
            }),
    }
}

/// A group by its id, or by its name in the default VPC.
pub(super) fn find(
    tx: &Tx,
    within: &Key,
    id: Option<&str>,
    name: Option<&str>,
) -> Result<Arc<SecurityGroupRow>, ApiError> {
    if let Some(id) = id {
        if !id.starts_with("sg-") {
            return Err(error(
                "InvalidGroupId.Malformed",
                format!("Invalid id: \"{id}\" (expecting \"sg-...\")"),
            ));
        }
        return tx.get(&within.with(id)).ok_or_else(|| {
            let message = format!("The security group '{id}' does not exist");
            error("InvalidGroup.NotFound", message)
        });
    }
    let Some(name) = name else {
        return Err(missing("groupName or groupId"));
    };
    let vpc_id = vpc_of(tx, within, None)?;
    tx.by_index::<SecurityGroupRow>(
        SecurityGroupRow::BY_VPC,
        &within.with(&vpc_id),
    )
    .find(|group| group.name == name)
    .ok_or_else(|| {
        error(
            "InvalidGroup.NotFound",
            format!(
                "The security group '{name}' does not exist in default VPC \
                 '{vpc_id}'"
            ),
        )
    })
}

pub(super) async fn delete_security_group(
    cx: &Context,
    scope: &Scope,
    input: DeleteSecurityGroupRequest,
) -> Result<DeleteSecurityGroupResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let id = change(cx, scope, move |tx, within| {
        let (id, name) =
            (input.group_id.as_deref(), input.group_name.as_deref());
        let group = find(tx, within, id, name)?;
        if group.name == DEFAULT_GROUP {
            return Err(error(
                "CannotDelete",
                format!(
                    "the specified group: \"{}\" name: \"{DEFAULT_GROUP}\" \
                     cannot be deleted by a user",
                    group.id
                ),
            ));
        }
        let key = within.with(&group.id);
        let is_used =
            tx.by_index::<EniRow>(EniRow::BY_GROUP, &key).next().is_some();
        // A group may refer to itself.
        let is_peer = tx
            .by_index::<SecurityGroupRow>(SecurityGroupRow::BY_PEER, &key)
            .any(|other| other.id != group.id);
        if is_used || is_peer {
            return Err(error(
                "DependencyViolation",
                format!("resource {} has a dependent object", group.id),
            ));
        }
        tx.delete::<SecurityGroupRow>(&key);
        Ok(group.id.clone())
    })
    .await?;
    Ok(DeleteSecurityGroupResult { r#return: Some(true), group_id: Some(id) })
}

pub(super) async fn describe_security_groups(
    cx: &Context,
    scope: &Scope,
    input: DescribeSecurityGroupsRequest,
) -> Result<DescribeSecurityGroupsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = Ids {
        given: input.group_ids.as_deref().unwrap_or_default(),
        prefix: "sg-",
        code: "InvalidGroup",
        noun: "security group",
    };
    let filters = input.filters.as_deref();
    let mut found = select(&snapshot, scope, &ids, filters, |r| &r.id, values)?;
    for name in input.group_names.iter().flatten() {
        if !found.iter().any(|group| group.name == *name) {
            return Err(error(
                "InvalidGroup.NotFound",
                format!("The security group '{name}' does not exist"),
            ));
        }
    }
    if let Some(names) = input.group_names.filter(|names| !names.is_empty()) {
        found.retain(|group| names.contains(&group.name));
    }
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |r| &r.id, &ids, input.max_results, token)?;
    let groups = found.iter().map(|row| describe_group(row)).collect();
    Ok(DescribeSecurityGroupsResult {
        security_groups: Some(groups),
        next_token,
    })
}

fn values(row: &SecurityGroupRow, name: &str) -> Option<Vec<String>> {
    match name {
        "description" => one(&row.description),
        "group-id" => one(&row.id),
        "group-name" => one(&row.name),
        "owner-id" => one(&row.account),
        "vpc-id" => one(&row.vpc_id),
        name => {
            let (is_egress, member) = match name.strip_prefix("egress.") {
                Some(member) => (true, member),
                None => (false, name),
            };
            let Some(member) = member.strip_prefix("ip-permission.") else {
                return tags::values(&row.tags, name);
            };
            let rules = row.rules.iter();
            let mut values = vec![];
            for rule in rules.filter(|rule| rule.spec.is_egress == is_egress) {
                values.extend(rule_value(row, rule, member)?);
            }
            // A group without rules knows the filters' names, too.
            let known = [
                "cidr",
                "ipv6-cidr",
                "group-id",
                "user-id",
                "protocol",
                "from-port",
                "to-port",
                "prefix-list-id",
                "group-name",
            ];
            known.contains(&member).then_some(values)
        }
    }
}

/// What a rule has for a member of `ip-permission`.
fn rule_value(
    row: &SecurityGroupRow,
    rule: &Rule,
    member: &str,
) -> Option<Option<String>> {
    let port = |port: i32| Some((port != -1).then(|| port.to_string()));
    match (member, &rule.spec.peer) {
        ("cidr", RulePeer::Ipv4(cidr)) => Some(Some(cidr.to_string())),
        ("ipv6-cidr", RulePeer::Ipv6(cidr)) => Some(Some(cidr.clone())),
        ("group-id", RulePeer::Group(id)) => Some(Some(id.clone())),
        ("user-id", RulePeer::Group(_)) => Some(Some(row.account.clone())),
        ("group-name", RulePeer::Group(id)) => {
            Some((*id == row.id).then(|| row.name.clone()))
        }
        ("protocol", _) => Some(Some(rule.spec.protocol.clone())),
        ("from-port", _) => port(rule.spec.from_port),
        ("to-port", _) => port(rule.spec.to_port),
        (
            "cidr" | "ipv6-cidr" | "group-id" | "user-id" | "group-name"
            | "prefix-list-id",
            _,
        ) => Some(None),
        _ => None,
    }
}
