//! The rules of `RunTask` and `StartTask` that need nothing but the input.

use minato_wire::ecs::{LaunchType, TaskOverride};

use crate::rule::{RuleCode, RuleError};

/// The longest overrides, in characters of JSON.
const OVERRIDES_LENGTH_MAX: usize = 8192;

/// The longest `startedBy` of `RunTask`.
pub const RUN_STARTED_BY_MAX: usize = 128;

/// The longest `startedBy` of `StartTask`.
pub const START_STARTED_BY_MAX: usize = 36;

/// The platform versions of Fargate on Linux.
const PLATFORM_VERSIONS: [&str; 3] = ["LATEST", "1.4.0", "1.3.0"];

/// Checks the task group: `family:` and `service:` are ECS's own, but for
/// the family that the tasks have anyway.
pub fn group(group: Option<&str>, family: &str) -> Result<(), RuleError> {
    let Some(group) = group else { return Ok(()) };
    let own = ["family:", "service:", "daemon:"]
        .iter()
        .any(|prefix| group.starts_with(prefix));
    if own && group.strip_prefix("family:") != Some(family) {
        return Err(RuleError::invalid(
            "Task group names cannot start with 'family:', 'service:' or \
             'daemon:'.",
        ));
    }
    if group.chars().count() > crate::name::NAME_LENGTH_MAX {
        return Err(RuleError::invalid(
            "Task group names must have at most 255 characters.",
        ));
    }
    Ok(())
}

/// Checks `startedBy`. The API reference has no space and no period among what
/// is allowed, but AWS takes both: fabfuel's ecs-deploy sends `ECS Deploy`.
pub fn started_by(given: Option<&str>, most: usize) -> Result<(), RuleError> {
    let Some(given) = given else { return Ok(()) };
    let good = |c: char| c.is_ascii_alphanumeric() || "-_/. ".contains(c);
    if given.chars().count() > most || !given.chars().all(good) {
        return Err(RuleError::invalid(format!(
            "Invalid startedBy. It must have at most {most} letters, digits, \
             hyphens, forward slashes, periods, spaces and underscores."
        )));
    }
    Ok(())
}

/// Checks how much is overridden.
pub fn overrides(given: Option<&TaskOverride>) -> Result<(), RuleError> {
    let Some(given) = given else { return Ok(()) };
    let length =
        serde_json::to_string(given).map_or(0, |json| json.chars().count());
    if length > OVERRIDES_LENGTH_MAX {
        return Err(RuleError::invalid(format!(
            "Container Overrides length must be at most \
             {OVERRIDES_LENGTH_MAX}."
        )));
    }
    Ok(())
}

/// Checks the platform version against the launch type.
pub fn platform_version(
    given: Option<&str>,
    launch: LaunchType,
) -> Result<(), RuleError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Ok(());
    };
    if launch != LaunchType::Fargate {
        return Err(RuleError::invalid(format!(
            "The platform version must be null when specifying an {launch} \
             launch type."
        )));
    }
    if !PLATFORM_VERSIONS.contains(&given) {
        return Err(RuleError {
            code: RuleCode::PlatformUnknown,
            message: "The specified platform does not exist.".to_owned(),
        });
    }
    Ok(())
}

/// Refuses what Fargate has no use for.
pub fn fargate_placement(
    launch: LaunchType,
    constraints: usize,
    strategies: usize,
) -> Result<(), RuleError> {
    if launch != LaunchType::Fargate {
        return Ok(());
    }
    if constraints > 0 {
        return Err(RuleError::invalid(
            "Placement constraints are not supported with FARGATE launch \
             type.",
        ));
    }
    if strategies > 0 {
        return Err(RuleError::invalid(
            "Placement strategies are not supported with FARGATE launch \
             type.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        assert!(group(None, "web").is_ok());
        assert!(group(Some("database"), "web").is_ok());
        assert!(group(Some("family:web"), "web").is_ok());
        for bad in ["family:other", "service:web", "daemon:x"] {
            assert!(group(Some(bad), "web").is_err(), "{bad}");
        }
        assert!(group(Some(&"g".repeat(256)), "web").is_err());
    }

    #[test]
    fn who_started_it() {
        assert!(started_by(Some("ecs-svc/123_a"), 36).is_ok());
        assert!(started_by(Some(&"a".repeat(37)), 36).is_err());
        assert!(started_by(Some(&"a".repeat(128)), 128).is_ok());
        assert!(started_by(Some("ECS Deploy"), 128).is_ok());
        assert!(started_by(Some("a:b"), 128).is_err());
    }

    #[test]
    fn overrides_have_a_limit() {
        let long =
            TaskOverride { cpu: Some("1".repeat(8192)), ..Default::default() };
        assert!(overrides(Some(&long)).is_err());
        assert!(overrides(Some(&TaskOverride::default())).is_ok());
    }

    #[test]
    fn platforms_are_fargates() {
        let fargate = LaunchType::Fargate;
        assert!(platform_version(Some("LATEST"), fargate).is_ok());
        assert!(platform_version(None, LaunchType::Ec2).is_ok());
        let unknown = platform_version(Some("9.9.9"), fargate).unwrap_err();
        assert_eq!(unknown.code, RuleCode::PlatformUnknown);
        assert!(platform_version(Some("1.4.0"), LaunchType::Ec2).is_err());
    }

    #[test]
    fn fargate_places_itself() {
        assert!(fargate_placement(LaunchType::Ec2, 1, 1).is_ok());
        assert!(fargate_placement(LaunchType::Fargate, 0, 0).is_ok());
        assert!(fargate_placement(LaunchType::Fargate, 1, 0).is_err());
        assert!(fargate_placement(LaunchType::Fargate, 0, 1).is_err());
    }
}
