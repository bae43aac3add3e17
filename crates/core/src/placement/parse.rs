//! Constraints and strategies of a call, checked.

use minato_wire::ecs::{
    PlacementConstraint, PlacementConstraintType, PlacementStrategy,
    PlacementStrategyType, TaskDefinitionPlacementConstraint,
};

use super::{Constraint, Resource, SpreadField, Strategy};
use crate::query::Expression;
use crate::rule::RuleError;
use crate::task_definition::CONSTRAINTS_MAX;

/// The most strategies of a call.
pub(super) const STRATEGIES_MAX: usize = 5;

/// The constraints of a definition and of a call together.
pub fn constraints(
    of_definition: &[TaskDefinitionPlacementConstraint],
    of_call: &[PlacementConstraint],
) -> Result<Vec<Constraint>, RuleError> {
    if of_definition.len() + of_call.len() > CONSTRAINTS_MAX {
        return Err(RuleError::invalid(format!(
            "The number of placement constraints must not exceed \
             {CONSTRAINTS_MAX}."
        )));
    }
    let given = of_definition
        .iter()
        .map(|constraint| member_of(constraint.expression.as_deref()));
    let called = of_call.iter().map(|constraint| match constraint.r#type {
        Some(PlacementConstraintType::DistinctInstance) => {
            match constraint.expression.as_deref() {
                None | Some("") => Ok(Constraint::DistinctInstance),
                Some(_) => Err(RuleError::invalid(
                    "A distinctInstance placement constraint cannot have an \
                     expression.",
                )),
            }
        }
        Some(PlacementConstraintType::MemberOf) => {
            member_of(constraint.expression.as_deref())
        }
        None => Err(RuleError::invalid(
            "The type of a placement constraint should be one of \
             [distinctInstance, memberOf].",
        )),
    });
    given.chain(called).collect()
}

fn member_of(expression: Option<&str>) -> Result<Constraint, RuleError> {
    let source = expression.unwrap_or_default();
    Expression::parse(source).map(Constraint::MemberOf).map_err(|error| {
        RuleError::invalid(format!(
            "Invalid expression in placement constraint: {error}"
        ))
    })
}

/// The strategies of a call.
pub fn strategies(
    given: &[PlacementStrategy],
) -> Result<Vec<Strategy>, RuleError> {
    if given.len() > STRATEGIES_MAX {
        return Err(RuleError::invalid(format!(
            "The number of placement strategies must not exceed \
             {STRATEGIES_MAX}."
        )));
    }
    given.iter().map(strategy).collect()
}

fn strategy(given: &PlacementStrategy) -> Result<Strategy, RuleError> {
    let field = given.field.as_deref().unwrap_or_default();
    let wrong = |expected: &str| {
        Err(RuleError::invalid(format!(
            "Invalid field '{field}' in placement strategy. It should be \
             {expected}."
        )))
    };
    match given.r#type {
        Some(PlacementStrategyType::Random) if field.is_empty() => {
            Ok(Strategy::Random)
        }
        Some(PlacementStrategyType::Random) => wrong("absent for random"),
        Some(PlacementStrategyType::Spread) => {
            if let Some(name) = field.strip_prefix("attribute:")
                && crate::name::is_attribute_name(name)
            {
                let field = SpreadField::Attribute(name.to_owned());
                return Ok(Strategy::Spread(field));
            }
            match field.to_ascii_lowercase().as_str() {
                "instanceid" | "host" => {
                    Ok(Strategy::Spread(SpreadField::Instance))
                }
                _ => wrong("instanceId, host or attribute:NAME"),
            }
        }
        Some(PlacementStrategyType::Binpack) => {
            match field.to_ascii_lowercase().as_str() {
                "cpu" => Ok(Strategy::Binpack(Resource::Cpu)),
                "memory" => Ok(Strategy::Binpack(Resource::Memory)),
                _ => wrong("cpu or memory"),
            }
        }
        None => Err(RuleError::invalid(
            "The type of a placement strategy should be one of [random, \
             spread, binpack].",
        )),
    }
}
