//! What a service may ask for.
//!
//! `CreateService` and `UpdateService` both end in a whole service, defaults
//! filled in; the rules look at that, so that an update cannot bring about
//! what a creation would refuse.

use minato_wire::ecs::{
    AvailabilityZoneRebalancing, DeploymentCircuitBreaker,
    DeploymentConfiguration, DeploymentControllerType, DeploymentStrategy,
    LaunchType, SchedulingStrategy, Service,
};

use super::Limits;
use crate::name::is_name;
use crate::placement;
use crate::rule::RuleError;

/// The most tasks of a service (service quotas, "tasks per service").
pub const DESIRED_MAX: i32 = 5000;
/// The longest client token (API reference, CreateService).
const CLIENT_TOKEN_MAX: usize = 36;

/// Checks the name of a new service.
pub fn name(given: Option<&str>) -> Result<&str, RuleError> {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return Err(RuleError::invalid("Service name cannot be empty."));
    }
    if !is_name(given) {
        return Err(RuleError::invalid(format!(
            "Invalid service name: {given}. It must have 1 to 255 letters, \
             digits, hyphens and underscores."
        )));
    }
    Ok(given)
}

/// Checks a client token.
pub fn client_token(given: Option<&str>) -> Result<(), RuleError> {
    let Some(given) = given else { return Ok(()) };
    let is_good = given.len() <= CLIENT_TOKEN_MAX
        && given.bytes().all(|byte| (33..=126).contains(&byte));
    if is_good {
        return Ok(());
    }
    Err(RuleError::invalid(format!(
        "clientToken must have at most {CLIENT_TOKEN_MAX} printable ASCII \
         characters."
    )))
}

/// Whether the service keeps one task on every container instance.
pub fn is_daemon(service: &Service) -> bool {
    service.scheduling_strategy == Some(SchedulingStrategy::Daemon)
}

/// The percentages that are in force.
pub fn limits(service: &Service) -> Limits {
    let default =
        if is_daemon(service) { Limits::DAEMON } else { Limits::REPLICA };
    let given = service.deployment_configuration.as_ref();
    let percent = |given: Option<i32>, default: u32| {
        given.and_then(|given| u32::try_from(given).ok()).unwrap_or(default)
    };
    Limits {
        minimum_healthy_percent: percent(
            given.and_then(|given| given.minimum_healthy_percent),
            default.minimum_healthy_percent,
        ),
        maximum_percent: percent(
            given.and_then(|given| given.maximum_percent),
            default.maximum_percent,
        ),
    }
}

/// A deployment configuration with everything that is not given filled in.
pub fn deployment_configuration(
    given: Option<DeploymentConfiguration>,
    is_daemon: bool,
) -> DeploymentConfiguration {
    let default = if is_daemon { Limits::DAEMON } else { Limits::REPLICA };
    let percent = |value: u32| i32::try_from(value).ok();
    let given = given.unwrap_or_default();
    let breaker = given.deployment_circuit_breaker.unwrap_or_default();
    DeploymentConfiguration {
        deployment_circuit_breaker: Some(DeploymentCircuitBreaker {
            enable: breaker.enable.or(Some(false)),
            rollback: breaker.rollback.or(Some(false)),
        }),
        maximum_percent: given
            .maximum_percent
            .or(percent(default.maximum_percent)),
        minimum_healthy_percent: given
            .minimum_healthy_percent
            .or(percent(default.minimum_healthy_percent)),
        strategy: given.strategy.or(Some(DeploymentStrategy::Rolling)),
        bake_time_in_minutes: given.bake_time_in_minutes.or(Some(0)),
        ..given
    }
}

/// Whether zones are balanced where nothing is said: wherever it is allowed
/// (developer guide, "Balancing an Amazon ECS service across Availability
/// Zones").
pub fn default_rebalancing(service: &Service) -> AvailabilityZoneRebalancing {
    if can_rebalance(service) {
        AvailabilityZoneRebalancing::Enabled
    } else {
        AvailabilityZoneRebalancing::Disabled
    }
}

fn can_rebalance(service: &Service) -> bool {
    !is_daemon(service)
        && service.launch_type != Some(LaunchType::External)
        && limits(service).maximum_percent > 100
        && controller(service) == DeploymentControllerType::Ecs
}

/// Who deploys the service.
pub fn controller(service: &Service) -> DeploymentControllerType {
    let given = service.deployment_controller.as_ref();
    given
        .and_then(|given| given.r#type)
        .unwrap_or(DeploymentControllerType::Ecs)
}

/// Checks the scale of a task set, in percent.
///
/// # Errors
/// `InvalidParameter` where it is not between 0 and 100.
pub fn scale(percent: f64) -> Result<(), RuleError> {
    if (0.0..=100.0).contains(&percent) {
        return Ok(());
    }
    Err(RuleError::invalid(
        "The scale of a task set must be between 0 and 100 percent.",
    ))
}

/// 7 percent of 100 is 7, though not in binary fractions.
const NOISE: f64 = 1e-9;

/// A part of `desired` tasks, in percent, rounded up (API reference,
/// `TaskSet.computedDesiredCount`).
pub fn scaled(desired: u32, percent: f64) -> u32 {
    let exact = f64::from(desired) * percent / 100.0;
    let wanted = (exact - NOISE).ceil();
    (0..=desired).find(|count| f64::from(*count) >= wanted).unwrap_or(desired)
}

/// How many of so many instances a daemon is replaced on at a time: `drain`
/// percent of them, rounded down, and one at least.
pub fn at_a_time(instances: u32, drain: f64) -> u32 {
    let exact = f64::from(instances) * drain / 100.0 + NOISE;
    let mut counts = (1..=instances).rev();
    counts.find(|count| f64::from(*count) <= exact).unwrap_or(1)
}

/// Checks what a service of the EXTERNAL controller may not say itself: its
/// task sets do (API reference, CreateService `deploymentController`).
///
/// # Errors
/// `InvalidParameter` that names the first such member.
pub fn external(service: &Service) -> Result<(), RuleError> {
    let given = [
        (service.task_definition.is_some(), "taskDefinition"),
        (service.launch_type.is_some(), "launchType"),
        (
            service
                .capacity_provider_strategy
                .as_ref()
                .is_some_and(|items| !items.is_empty()),
            "capacityProviderStrategy",
        ),
        (service.platform_version.is_some(), "platformVersion"),
        (service.network_configuration.is_some(), "networkConfiguration"),
    ];
    let given = given.into_iter().find(|(is_given, _)| *is_given);
    let Some((_, member)) = given else { return Ok(()) };
    Err(RuleError::invalid(format!(
        "{member} cannot be specified for services with an EXTERNAL \
         deployment controller. Specify it for their task sets."
    )))
}

/// Checks a whole service.
pub fn check(service: &Service) -> Result<(), RuleError> {
    check_count(service)?;
    check_percentages(service)?;
    check_placement(service)?;
    if is_daemon(service) {
        check_daemon(service)?;
    }
    let grace = service.health_check_grace_period_seconds.unwrap_or(0);
    if grace < 0 {
        return Err(RuleError::invalid(
            "Health check grace period must not be negative.",
        ));
    }
    let rebalances = service.availability_zone_rebalancing
        == Some(AvailabilityZoneRebalancing::Enabled);
    if rebalances && !can_rebalance(service) {
        return Err(RuleError::invalid(
            "Availability Zone rebalancing is not supported for services \
             with the DAEMON scheduling strategy, the EXTERNAL launch type or \
             a maximumPercent of 100 or less.",
        ));
    }
    if service.role_arn.is_some() {
        return Err(RuleError::invalid(
            "Role is only valid for services configured to use load \
             balancers.",
        ));
    }
    Ok(())
}

fn check_count(service: &Service) -> Result<(), RuleError> {
    match service.desired_count {
        None if is_daemon(service) => Ok(()),
        None => Err(RuleError::invalid(
            "The desired count must be specified for services with the \
             REPLICA scheduling strategy.",
        )),
        Some(count) if (0..=DESIRED_MAX).contains(&count) => Ok(()),
        Some(_) => Err(RuleError::invalid(format!(
            "The desired count must be between 0 and {DESIRED_MAX}."
        ))),
    }
}

fn check_percentages(service: &Service) -> Result<(), RuleError> {
    let Some(given) = service.deployment_configuration.as_ref() else {
        return Ok(());
    };
    let members = [
        ("minimumHealthyPercent", given.minimum_healthy_percent),
        ("maximumPercent", given.maximum_percent),
        ("bakeTimeInMinutes", given.bake_time_in_minutes),
    ];
    for (member, value) in members {
        if value.is_some_and(|value| value < 0) {
            return Err(RuleError::invalid(format!(
                "{member} must not be negative."
            )));
        }
    }
    Ok(())
}

fn check_placement(service: &Service) -> Result<(), RuleError> {
    let constraints =
        service.placement_constraints.as_deref().unwrap_or_default();
    let strategy = service.placement_strategy.as_deref().unwrap_or_default();
    placement::constraints(&[], constraints)?;
    placement::strategies(strategy)?;
    let is_fargate = service.launch_type == Some(LaunchType::Fargate);
    if is_fargate && !(constraints.is_empty() && strategy.is_empty()) {
        return Err(RuleError::invalid(
            "Placement constraints and strategies are not supported with the \
             FARGATE launch type.",
        ));
    }
    Ok(())
}

fn check_daemon(service: &Service) -> Result<(), RuleError> {
    let refuse = |text: &str| Err(RuleError::invalid(text));
    if service.launch_type == Some(LaunchType::Fargate) {
        return refuse(
            "The daemon scheduling strategy is not supported for the FARGATE \
             launch type.",
        );
    }
    if controller(service) != DeploymentControllerType::Ecs {
        return refuse(
            "The daemon scheduling strategy is only supported with the ECS \
             deployment controller.",
        );
    }
    if !service.placement_strategy.as_deref().unwrap_or_default().is_empty() {
        return refuse(
            "The daemon scheduling strategy does not support placement \
             strategies.",
        );
    }
    if !service
        .capacity_provider_strategy
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        return refuse(
            "The daemon scheduling strategy does not support capacity \
             provider strategies.",
        );
    }
    if limits(service).maximum_percent != Limits::DAEMON.maximum_percent {
        return refuse(
            "The daemon scheduling strategy does not support a maximumPercent \
             other than 100.",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service { desired_count: Some(1), ..Service::default() }
    }

    fn configured(min: i32, max: i32) -> DeploymentConfiguration {
        DeploymentConfiguration {
            minimum_healthy_percent: Some(min),
            maximum_percent: Some(max),
            ..DeploymentConfiguration::default()
        }
    }

    #[test]
    fn a_drain_takes_its_part_and_one_at_least() {
        for (instances, drain, expected) in [
            (4, 25.0, 1),
            (10, 50.0, 5),
            (3, 0.0, 1),
            (3, 100.0, 3),
            (1_000, 2.9, 29),
            (2_000, 0.0, 1),
            (0, 25.0, 1),
        ] {
            let found = at_a_time(instances, drain);
            assert_eq!(found, expected, "{instances} {drain}");
        }
    }

    #[test]
    fn a_scale_is_rounded_up() {
        for (desired, percent, expected) in [
            (10, 50.0, 5),
            (3, 50.0, 2),
            (100, 7.0, 7),
            (1, 0.1, 1),
            (5000, 100.0, 5000),
            (7, 0.0, 0),
            (0, 100.0, 0),
        ] {
            assert_eq!(scaled(desired, percent), expected, "{percent}");
        }
        for wrong in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert!(scale(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_tokens() {
        assert_eq!(name(Some("web_1-A")), Ok("web_1-A"));
        for wrong in [None, Some(""), Some("a b"), Some("a.b")] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
        assert!(client_token(Some(&"t".repeat(36))).is_ok());
        assert!(client_token(Some(&"t".repeat(37))).is_err());
        assert!(client_token(Some("a b")).is_err());
    }

    #[test]
    fn what_is_not_said_is_filled_in() {
        let filled = deployment_configuration(None, false);
        assert_eq!(filled.maximum_percent, Some(200));
        assert_eq!(filled.minimum_healthy_percent, Some(100));
        assert_eq!(filled.strategy, Some(DeploymentStrategy::Rolling));
        assert_eq!(filled.bake_time_in_minutes, Some(0));
        let breaker = filled.deployment_circuit_breaker.unwrap();
        assert_eq!(
            (breaker.enable, breaker.rollback),
            (Some(false), Some(false))
        );
        let daemon = deployment_configuration(None, true);
        assert_eq!(daemon.maximum_percent, Some(100));
        assert_eq!(daemon.minimum_healthy_percent, Some(0));
    }

    #[test]
    fn zones_are_balanced_where_they_can_be() {
        use AvailabilityZoneRebalancing::{Disabled, Enabled};
        assert_eq!(default_rebalancing(&service()), Enabled);
        let full = Service {
            deployment_configuration: Some(configured(50, 100)),
            ..service()
        };
        assert_eq!(default_rebalancing(&full), Disabled);
        let wrong =
            Service { availability_zone_rebalancing: Some(Enabled), ..full };
        assert!(check(&wrong).is_err());
    }

    #[test]
    fn wrong_services_are_refused() {
        let daemon = Service {
            desired_count: None,
            scheduling_strategy: Some(SchedulingStrategy::Daemon),
            ..Service::default()
        };
        assert!(check(&daemon).is_ok() && check(&service()).is_ok());
        let wrong = [
            Service::default(),
            Service { desired_count: Some(-1), ..service() },
            Service { desired_count: Some(5001), ..service() },
            Service {
                deployment_configuration: Some(configured(-1, 200)),
                ..service()
            },
            Service {
                health_check_grace_period_seconds: Some(-1),
                ..service()
            },
            Service { role_arn: Some("role".into()), ..service() },
            Service {
                launch_type: Some(LaunchType::Fargate),
                ..daemon.clone()
            },
            Service {
                deployment_configuration: Some(configured(0, 200)),
                ..daemon
            },
        ];
        for service in wrong {
            assert!(check(&service).is_err(), "{service:?}");
        }
    }
}
