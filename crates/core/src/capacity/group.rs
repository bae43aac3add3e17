//! Auto Scaling group providers: what may be said of one, and what stands
//! where nothing is said (API reference, `AutoScalingGroupProvider`).

use minato_wire::ecs::{
    AutoScalingGroupProvider, AutoScalingGroupProviderUpdate, ManagedDraining,
    ManagedScaling, ManagedScalingStatus, ManagedTerminationProtection,
};

use crate::rule::RuleError;

/// The attribute by which a container instance tells the Auto Scaling group
/// it is of. It is ours: on AWS, EC2 knows.
pub const GROUP_ATTRIBUTE: &str = "minato.auto-scaling-group";

/// The longest name of a provider (API reference, CreateCapacityProvider).
const NAME_MAX: usize = 255;
/// The longest name of an Auto Scaling group (Auto Scaling API reference).
const GROUP_NAME_MAX: usize = 255;
/// Beginnings that are kept for providers of AWS itself.
const RESERVED: [&str; 3] = ["aws", "ecs", "fargate"];

/// Checks the name of a new provider.
///
/// # Errors
/// `InvalidParameter` where it is empty, too long, of other letters or begins
/// as one of AWS's own.
pub fn check_name(name: &str) -> Result<(), RuleError> {
    let is_letter = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')
    };
    let is_sound =
        (1..=NAME_MAX).contains(&name.len()) && name.chars().all(is_letter);
    if !is_sound {
        return Err(RuleError::invalid(
            "The specified capacity provider name is invalid. Up to 255 \
             letters (uppercase and lowercase), numbers, hyphens, and \
             underscores are allowed. Specify a valid name and try again.",
        ));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.iter().any(|reserved| lower.starts_with(reserved)) {
        return Err(RuleError::invalid(
            "The specified capacity provider name is invalid. The name \
             cannot be prefixed with \"aws\", \"ecs\", or \"fargate\". \
             Specify a valid name and try again.",
        ));
    }
    Ok(())
}

/// The name of the group that an ARN, or a plain name, means.
///
/// # Errors
/// `InvalidParameter` where it is neither, or of another account or region.
pub fn group_name<'a>(
    given: &'a str,
    account: &str,
    region: &str,
) -> Result<&'a str, RuleError> {
    let invalid = || {
        RuleError::invalid(
            "The specified Auto Scaling group ARN is invalid. Specify a valid \
             Auto Scaling group ARN and try again.",
        )
    };
    let name = if given.starts_with("arn:") {
        let parts: Vec<&str> = given.splitn(8, ':').collect();
        let ["arn", _, "autoscaling", of_region, of_account, kind, _, last] =
            parts[..]
        else {
            return Err(invalid());
        };
        let is_here = of_region == region && of_account == account;
        if kind != "autoScalingGroup" || !is_here {
            return Err(invalid());
        }
        last.strip_prefix("autoScalingGroupName/").ok_or_else(invalid)?
    } else {
        given
    };
    let is_sound = (1..=GROUP_NAME_MAX).contains(&name.chars().count())
        && !name.chars().any(|letter| letter.is_control() || letter == ':');
    is_sound.then_some(name).ok_or_else(invalid)
}

/// A new provider with every default filled in.
///
/// # Errors
/// `InvalidParameter` where a number is out of its range or protection is
/// wanted without managed scaling.
pub fn created(
    given: AutoScalingGroupProvider,
) -> Result<AutoScalingGroupProvider, RuleError> {
    let blank = AutoScalingGroupProvider {
        auto_scaling_group_arn: given.auto_scaling_group_arn,
        managed_scaling: Some(ManagedScaling {
            // Told to scale without saying whether: it does.
            status: Some(match given.managed_scaling {
                Some(_) => ManagedScalingStatus::Enabled,
                None => ManagedScalingStatus::Disabled,
            }),
            target_capacity: Some(100),
            minimum_scaling_step_size: Some(1),
            maximum_scaling_step_size: Some(10_000),
            instance_warmup_period: Some(300),
        }),
        managed_termination_protection: Some(
            ManagedTerminationProtection::Disabled,
        ),
        managed_draining: Some(ManagedDraining::Enabled),
    };
    updated(
        &blank,
        AutoScalingGroupProviderUpdate {
            managed_scaling: given.managed_scaling,
            managed_termination_protection: given
                .managed_termination_protection,
            managed_draining: given.managed_draining,
        },
    )
}

/// A provider after an update: what the update does not name stays.
///
/// # Errors
/// As [`created`].
pub fn updated(
    current: &AutoScalingGroupProvider,
    update: AutoScalingGroupProviderUpdate,
) -> Result<AutoScalingGroupProvider, RuleError> {
    let scaling = scaling(
        current.managed_scaling.clone().unwrap_or_default(),
        update.managed_scaling,
    )?;
    let protection = update
        .managed_termination_protection
        .or(current.managed_termination_protection);
    let is_protected =
        protection == Some(ManagedTerminationProtection::Enabled);
    if is_protected && scaling.status != Some(ManagedScalingStatus::Enabled) {
        return Err(RuleError::invalid(
            "The managed termination protection setting for the capacity \
             provider is invalid. To enable managed termination protection \
             for a capacity provider, managed scaling must be enabled.",
        ));
    }
    Ok(AutoScalingGroupProvider {
        auto_scaling_group_arn: current.auto_scaling_group_arn.clone(),
        managed_scaling: Some(scaling),
        managed_termination_protection: protection,
        managed_draining: update.managed_draining.or(current.managed_draining),
    })
}

fn scaling(
    current: ManagedScaling,
    update: Option<ManagedScaling>,
) -> Result<ManagedScaling, RuleError> {
    let Some(update) = update else { return Ok(current) };
    let within = |value: Option<i32>, least: i32, most: i32, what: &str| {
        if value.is_none_or(|value| (least..=most).contains(&value)) {
            return Ok(());
        }
        Err(RuleError::invalid(format!(
            "The specified managed scaling {what} is invalid. It must be \
             between {least} and {most}."
        )))
    };
    within(update.target_capacity, 1, 100, "targetCapacity")?;
    let (least, most) =
        (update.minimum_scaling_step_size, update.maximum_scaling_step_size);
    within(least, 1, 10_000, "minimumScalingStepSize")?;
    within(most, 1, 10_000, "maximumScalingStepSize")?;
    within(update.instance_warmup_period, 0, 10_000, "instanceWarmupPeriod")?;
    let merged = ManagedScaling {
        status: update.status.or(current.status),
        target_capacity: update.target_capacity.or(current.target_capacity),
        minimum_scaling_step_size: least.or(current.minimum_scaling_step_size),
        maximum_scaling_step_size: most.or(current.maximum_scaling_step_size),
        instance_warmup_period: update
            .instance_warmup_period
            .or(current.instance_warmup_period),
    };
    if merged.minimum_scaling_step_size > merged.maximum_scaling_step_size {
        return Err(RuleError::invalid(
            "The specified managed scaling minimumScalingStepSize is larger \
             than its maximumScalingStepSize.",
        ));
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:autoscaling:us-east-1:000000000000:\
                       autoScalingGroup:0f:autoScalingGroupName/web fleet/1";

    fn given(scaling: Option<ManagedScaling>) -> AutoScalingGroupProvider {
        AutoScalingGroupProvider {
            auto_scaling_group_arn: Some(ARN.to_owned()),
            managed_scaling: scaling,
            ..Default::default()
        }
    }

    #[test]
    fn names() {
        for good in ["a", "web-fleet_1", "spot-fargate", &"x".repeat(255)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(256);
        for bad in ["", "a b", "é", "AWS-x", "ecsfleet", "Fargate1", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups_are_named_or_given_as_arns() {
        let name = |given| group_name(given, "000000000000", "us-east-1");
        assert_eq!(name(ARN), Ok("web fleet/1"));
        assert_eq!(name("fleet"), Ok("fleet"));
        for bad in [
            "",
            "a:b",
            "arn:aws:autoscaling",
            "arn:aws:ec2:us-east-1:000000000000:autoScalingGroup:0:autoScalingGroupName/x",
            "arn:aws:autoscaling:eu-west-1:000000000000:autoScalingGroup:0:autoScalingGroupName/x",
            "arn:aws:autoscaling:us-east-1:111111111111:autoScalingGroup:0:autoScalingGroupName/x",
            "arn:aws:autoscaling:us-east-1:000000000000:autoScalingGroup:0:autoScalingGroupName/",
            "arn:aws:autoscaling:us-east-1:000000000000:launchConfiguration:0:autoScalingGroupName/x",
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let plain = created(given(None)).unwrap();
        let scaling = plain.managed_scaling.unwrap();
        assert_eq!(scaling.status, Some(ManagedScalingStatus::Disabled));
        assert_eq!(scaling.maximum_scaling_step_size, Some(10_000));
        assert_eq!(plain.managed_draining, Some(ManagedDraining::Enabled));
        let scaled = created(given(Some(ManagedScaling::default()))).unwrap();
        let scaling = scaled.managed_scaling.unwrap();
        assert_eq!(scaling.status, Some(ManagedScalingStatus::Enabled));
        assert_eq!(scaling.instance_warmup_period, Some(300));
    }

    #[test]
    fn an_update_leaves_what_it_does_not_name() {
        let wanted = ManagedScaling {
            target_capacity: Some(80),
            maximum_scaling_step_size: Some(5),
            ..Default::default()
        };
        let row = created(given(Some(wanted))).unwrap();
        let update = AutoScalingGroupProviderUpdate {
            managed_scaling: Some(ManagedScaling {
                minimum_scaling_step_size: Some(2),
                ..Default::default()
            }),
            managed_draining: Some(ManagedDraining::Disabled),
            ..Default::default()
        };
        let after = updated(&row, update.clone()).unwrap();
        let scaling = after.managed_scaling.clone().unwrap();
        assert_eq!(scaling.target_capacity, Some(80));
        assert_eq!(scaling.minimum_scaling_step_size, Some(2));
        assert_eq!(after.managed_draining, Some(ManagedDraining::Disabled));
        assert_eq!(after.auto_scaling_group_arn.as_deref(), Some(ARN));
        assert_eq!(updated(&after, update).unwrap(), after);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let of = |target, least, most, warmup| ManagedScaling {
            status: None,
            target_capacity: target,
            minimum_scaling_step_size: least,
            maximum_scaling_step_size: most,
            instance_warmup_period: warmup,
        };
        for scaling in [
            of(Some(0), None, None, None),
            of(Some(101), None, None, None),
            of(None, Some(0), None, None),
            of(None, None, Some(10_001), None),
            of(None, Some(6), Some(5), None),
            of(None, None, None, Some(-1)),
            of(None, None, None, Some(10_001)),
        ] {
            assert!(created(given(Some(scaling.clone()))).is_err());
        }
        let protected = AutoScalingGroupProvider {
            managed_termination_protection: Some(
                ManagedTerminationProtection::Enabled,
            ),
            ..given(None)
        };
        assert!(created(protected.clone()).is_err());
        let scaled = AutoScalingGroupProvider {
            managed_scaling: Some(ManagedScaling::default()),
            ..protected
        };
        assert!(created(scaled).is_ok());
    }
}
