//! Rotation schedules, which are kept; no function runs.

use minato_wire::secretsmanager::{
    CancelRotateSecretRequest, CancelRotateSecretResponse, RotateSecretRequest,
    RotateSecretResponse, RotationRulesType, error,
};
use minato_wire::{ApiError, Timestamp};

use super::lookup;
use super::rows::{DAY_MS, Rotation};
use crate::context::{Context, Scope};

/// Days between rotations (API reference, RotationRulesType).
const DAYS: std::ops::RangeInclusive<i64> = 1..=1000;

/// When the schedule asks for the next rotation; `None` for cron and rate
/// expressions, which nothing here evaluates.
pub(super) fn next(rotation: &Rotation) -> Option<Timestamp> {
    let rules = rotation.rules.as_ref().filter(|_| rotation.is_enabled)?;
    let days = rules.automatically_after_days?;
    Some(rotation.since.plus_millis(days * DAY_MS))
}

fn check(rules: &RotationRulesType) -> Result<(), ApiError> {
    let invalid =
        |text: &str| Err(error::invalid_parameter_exception(text.to_owned()));
    let expression = rules.schedule_expression.as_deref();
    match (rules.automatically_after_days, expression) {
        (Some(_), Some(_)) => invalid(
            "You can't specify both AutomaticallyAfterDays and \
             ScheduleExpression.",
        ),
        (Some(days), None) if !DAYS.contains(&days) => {
            invalid("AutomaticallyAfterDays must be between 1 and 1000.")
        }
        (None, Some(text))
            if !(text.starts_with("rate(") || text.starts_with("cron("))
                || !text.ends_with(')') =>
        {
            invalid("The ScheduleExpression must be a rate or cron expression.")
        }
        (Some(_) | None, None) | (None, Some(_)) => Ok(()),
    }
}

pub(super) async fn rotate_secret(
    cx: &Context,
    scope: &Scope,
    input: RotateSecretRequest,
) -> Result<RotateSecretResponse, ApiError> {
    if let Some(rules) = &input.rotation_rules {
        check(rules)?;
    }
    if input.external_secret_rotation_metadata.is_some()
        || input.external_secret_rotation_role_arn.is_some()
    {
        return Err(error::invalid_parameter_exception(
            "Minato has no partners' managed external secrets.",
        ));
    }
    // AWS's default, which needs the function.
    if input.rotate_immediately != Some(false) {
        return Err(error::invalid_request_exception(
            "Minato runs no Lambda functions, so it can't rotate the secret \
             now. With RotateImmediately false it keeps the schedule.",
        ));
    }
    let (given, rules, now) =
        (input.rotation_lambda_arn, input.rotation_rules, scope.now);
    lookup::change(cx, scope, input.secret_id, move |row| {
        let known = row.rotation.take();
        let lambda_arn =
            given.or_else(|| known.as_ref().map(|it| it.lambda_arn.clone()));
        let Some(lambda_arn) = lambda_arn else {
            return Err(error::invalid_request_exception(
                "No Lambda rotation function ARN is associated with this \
                 secret.",
            ));
        };
        row.rotation = Some(Rotation {
            is_enabled: true,
            lambda_arn,
            rules: rules.or_else(|| known.and_then(|it| it.rules)),
            since: now,
        });
        Ok(RotateSecretResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
            version_id: None,
        })
    })
    .await
}

pub(super) async fn cancel_rotate_secret(
    cx: &Context,
    scope: &Scope,
    input: CancelRotateSecretRequest,
) -> Result<CancelRotateSecretResponse, ApiError> {
    lookup::change(cx, scope, input.secret_id, |row| {
        if let Some(rotation) = &mut row.rotation {
            rotation.is_enabled = false;
        }
        Ok(CancelRotateSecretResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
            version_id: None,
        })
    })
    .await
}
