//! DescribeSecurityGroupRules.

use minato_store::Key;
use minato_wire::ApiError;
use minato_wire::ec2::{
    DescribeSecurityGroupRulesRequest, DescribeSecurityGroupRulesResult,
};

use crate::context::{Context, Scope};
use crate::services::ec2::describe::network;
use crate::services::ec2::filter::{Ids, check_dry_run, page, passes};
use crate::services::ec2::rows::SecurityGroupRow;
use crate::services::ec2::shape::describe_rule;
use crate::services::ec2::tags;

pub(in crate::services::ec2) async fn describe_security_group_rules(
    cx: &Context,
    scope: &Scope,
    input: DescribeSecurityGroupRulesRequest,
) -> Result<DescribeSecurityGroupRulesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = Ids {
        given: input.security_group_rule_ids.as_deref().unwrap_or_default(),
        prefix: "sgr-",
        code: "InvalidSecurityGroupRuleId",
        noun: "security group rule ID",
    };
    let within = Key::of([&scope.account, &scope.region]);
    let groups: Vec<_> = snapshot.scan::<SecurityGroupRow>(&within).collect();
    let all = || {
        groups
            .iter()
            .flat_map(|group| group.rules.iter().map(move |it| (group, it)))
    };
    ids.check(|id| all().any(|(_, rule)| rule.id == id))?;
    let filters = input.filters.as_deref().unwrap_or_default();
    let mut found = vec![];
    for (group, rule) in all() {
        let fits = passes(filters, |name| match name {
            "group-id" => Some(vec![group.id.clone()]),
            "security-group-rule-id" => Some(vec![rule.id.clone()]),
            name => tags::values(&rule.tags, name),
        })?;
        if fits && ids.holds(&rule.id) {
            found.push((rule.id.clone(), describe_rule(group, rule)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |(id, _)| id, &ids, input.max_results, token)?;
    let rules = found.into_iter().map(|(_, rule)| rule).collect();
    Ok(DescribeSecurityGroupRulesResult {
        security_group_rules: Some(rules),
        next_token,
    })
}
