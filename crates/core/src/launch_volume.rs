//! Volumes that are configured when a task is launched: the rules of
//! `volumeConfigurations` (API reference, `TaskManagedEBSVolumeConfiguration`
//! and `ServiceManagedEBSVolumeConfiguration`), and what is made of them.

use std::ops::RangeInclusive;

use minato_wire::ecs::{
    EBSResourceType, EBSTagSpecification, PropagateTags,
    ServiceVolumeConfiguration, Tag, TaskDefinition, TaskFilesystemType,
    TaskManagedEBSVolumeConfiguration, TaskVolumeConfiguration,
};
use minato_wire::{ApiError, ecs};
use serde::{Deserialize, Serialize};

use crate::rule::RuleError;
use crate::tags;

/// Hosts with this attribute can make an XFS file system. Minato's own: AWS's
/// hosts all can.
pub const XFS_ATTRIBUTE: &str = "minato.capability.ebs-xfs";

/// IOPS of a gp3 volume where none are given.
const GP3_IOPS: i32 = 3000;
/// Throughput of a gp3 volume where none is given, in MiB/s (EC2 API
/// reference, CreateVolume).
const GP3_THROUGHPUT: i32 = 125;
/// Tags that ECS gives a volume itself.
const OWN_TAGS: [&str; 2] = ["AmazonECSCreated", "AmazonECSManaged"];

/// A volume that comes with a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchVolume {
    /// Its name in the task definition.
    pub name: String,
    /// Its size.
    pub size_gib: u32,
    /// `gp2`, `gp3`, `io1`, `io2`, `st1`, `sc1` or `standard`.
    pub volume_type: String,
    /// As provisioned; shown, and not enforced.
    pub iops: Option<i32>,
    /// In MiB/s; shown, and not enforced.
    pub throughput: Option<i32>,
    /// `ext3`, `ext4` or `xfs`.
    pub file_system: String,
    /// The role that AWS would create it with.
    pub role_arn: String,
    /// Whether it goes with its task.
    pub delete_on_termination: bool,
    /// Its own tags.
    pub tags: Vec<Tag>,
    /// Whose tags it gets as well.
    #[serde(default)]
    pub propagate_tags: Option<PropagateTags>,
}

/// What one type of volume may be.
struct Kind {
    name: &'static str,
    size_gib: RangeInclusive<i32>,
    iops: Option<RangeInclusive<i32>>,
    needs_iops: bool,
}

const KINDS: [Kind; 7] = [
    kind("gp2", 1..=16_384, Some(100..=16_000), false),
    kind("gp3", 1..=16_384, Some(3_000..=16_000), false),
    kind("io1", 4..=16_384, Some(100..=64_000), true),
    kind("io2", 4..=16_384, Some(100..=256_000), true),
    kind("st1", 125..=16_384, None, false),
    kind("sc1", 125..=16_384, None, false),
    kind("standard", 1..=1_024, None, false),
];

const fn kind(
    name: &'static str,
    size_gib: RangeInclusive<i32>,
    iops: Option<RangeInclusive<i32>>,
    needs_iops: bool,
) -> Kind {
    Kind { name, size_gib, iops, needs_iops }
}

/// The name of the definition's volume that is configured at launch.
pub fn at_launch(definition: &TaskDefinition) -> Option<&str> {
    let mut volumes = definition.volumes.iter().flatten();
    let found = volumes.find(|one| one.configured_at_launch == Some(true))?;
    found.name.as_deref()
}

/// The volume of a task, where its definition has one to configure.
///
/// Refuses a configuration that the definition has no volume for, and a
/// definition whose volume has no configuration.
pub fn of_task(
    definition: &TaskDefinition,
    given: &[TaskVolumeConfiguration],
    is_fargate: bool,
) -> Result<Option<LaunchVolume>, ApiError> {
    let name = at_launch(definition);
    let given = match given {
        [] => None,
        [one] => Some(one),
        _ => {
            return invalid(
                "volumeConfigurations can have one volume for each task.",
            );
        }
    };
    match (name, given) {
        (None, None) => Ok(None),
        (Some(name), None) => invalid(format!(
            "The volume '{name}' of the task definition is configured at \
             launch: volumeConfigurations must have its configuration."
        )),
        (name, Some(given)) => {
            let named = given.name.as_deref().unwrap_or_default();
            if name != Some(named) {
                return invalid(format!(
                    "The volume '{named}' in volumeConfigurations is not a \
                     volume of the task definition with configuredAtLaunch."
                ));
            }
            let Some(managed) = &given.managed_ebs_volume else {
                return invalid(format!(
                    "The configuration of volume '{named}' must have \
                     managedEBSVolume."
                ));
            };
            unserved(managed)?;
            check(named, managed, is_fargate).map(Some)
        }
    }
}

/// The volume of each of a service's tasks, which always goes with its task.
pub fn of_service(
    definition: &TaskDefinition,
    given: &[ServiceVolumeConfiguration],
    is_fargate: bool,
) -> Result<Option<LaunchVolume>, ApiError> {
    let as_task = |one: &ServiceVolumeConfiguration| {
        let managed = one.managed_ebs_volume.clone().map(|given| {
            TaskManagedEBSVolumeConfiguration {
                encrypted: given.encrypted,
                kms_key_id: given.kms_key_id,
                volume_type: given.volume_type,
                size_in_gi_b: given.size_in_gi_b,
                snapshot_id: given.snapshot_id,
                volume_initialization_rate: given.volume_initialization_rate,
                iops: given.iops,
                throughput: given.throughput,
                tag_specifications: given.tag_specifications,
                role_arn: given.role_arn,
                termination_policy: None,
                filesystem_type: given.filesystem_type,
            }
        });
        TaskVolumeConfiguration {
            name: one.name.clone(),
            managed_ebs_volume: managed,
        }
    };
    let given: Vec<_> = given.iter().map(as_task).collect();
    of_task(definition, &given, is_fargate)
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(RuleError::invalid(message).into())
}

/// What a file on the host's disk is not.
fn unserved(given: &TaskManagedEBSVolumeConfiguration) -> Result<(), ApiError> {
    let wanted = [
        (given.snapshot_id.is_some(), "snapshotId of an Amazon EBS volume"),
        (
            given.encrypted == Some(true) || given.kms_key_id.is_some(),
            "encryption of an Amazon EBS volume",
        ),
        (
            given.filesystem_type == Some(TaskFilesystemType::Ntfs),
            "the filesystemType ntfs",
        ),
    ];
    match wanted.into_iter().find(|(is_wanted, _)| *is_wanted) {
        None => Ok(()),
        Some((_, what)) => Err(ecs::error::unsupported_feature_exception(
            format!("Minato does not serve {what}."),
        )),
    }
}

fn check(
    name: &str,
    given: &TaskManagedEBSVolumeConfiguration,
    is_fargate: bool,
) -> Result<LaunchVolume, ApiError> {
    let role = given.role_arn.as_deref().unwrap_or_default();
    if !(role.starts_with("arn:") && role.contains(":role/")) {
        return invalid(format!(
            "roleArn of volume '{name}' must be the ARN of an IAM role."
        ));
    }
    if given.volume_initialization_rate.is_some() {
        return invalid(
            "volumeInitializationRate can be specified only with a \
             snapshotId.",
        );
    }
    let named = given.volume_type.as_deref().unwrap_or("gp3");
    let Some(kind) = KINDS.iter().find(|kind| kind.name == named) else {
        return invalid(format!("There is no volumeType '{named}'."));
    };
    if is_fargate && kind.name == "standard" {
        return invalid("The volumeType standard is not supported on Fargate.");
    }
    let Some(size) = given.size_in_gi_b else {
        return invalid("Either sizeInGiB or snapshotId must be specified.");
    };
    in_range("sizeInGiB", kind, size, &kind.size_gib)?;
    let file_system = match given.filesystem_type {
        None | Some(TaskFilesystemType::Xfs) => "xfs",
        Some(TaskFilesystemType::Ext4) => "ext4",
        Some(TaskFilesystemType::Ext3) => "ext3",
        Some(other) => {
            return invalid(format!("There is no filesystemType '{other}'."));
        }
    };
    let (tags, propagate_tags) =
        check_tags(given.tag_specifications.as_deref().unwrap_or_default())?;
    Ok(LaunchVolume {
        name: name.to_owned(),
        size_gib: u32::try_from(size).unwrap_or(0),
        volume_type: kind.name.to_owned(),
        iops: check_iops(kind, given.iops, size)?,
        throughput: check_throughput(kind, given.throughput)?,
        file_system: file_system.to_owned(),
        role_arn: role.to_owned(),
        delete_on_termination: given
            .termination_policy
            .as_ref()
            .and_then(|policy| policy.delete_on_termination)
            .unwrap_or(true),
        tags,
        propagate_tags,
    })
}

fn in_range(
    what: &str,
    kind: &Kind,
    value: i32,
    range: &RangeInclusive<i32>,
) -> Result<(), ApiError> {
    if range.contains(&value) {
        return Ok(());
    }
    invalid(format!(
        "{what} of a volume of type {} must be between {} and {}.",
        kind.name,
        range.start(),
        range.end()
    ))
}

fn check_iops(
    kind: &Kind,
    given: Option<i32>,
    size_gib: i32,
) -> Result<Option<i32>, ApiError> {
    match (given, &kind.iops) {
        (None, _) if kind.needs_iops => {
            invalid(format!("The volumeType {} requires iops.", kind.name))
        }
        (None, _) if kind.name == "gp3" => Ok(Some(GP3_IOPS)),
        // Three for each GiB (EBS user guide, gp2).
        (None, Some(range)) => {
            let of_size = size_gib.saturating_mul(3);
            Ok(Some(of_size.clamp(*range.start(), *range.end())))
        }
        (None, None) => Ok(None),
        (Some(_), None) => invalid(format!(
            "The volumeType {} does not support iops.",
            kind.name
        )),
        (Some(iops), Some(range)) => {
            in_range("iops", kind, iops, range).map(|()| Some(iops))
        }
    }
}

fn check_throughput(
    kind: &Kind,
    given: Option<i32>,
) -> Result<Option<i32>, ApiError> {
    match given {
        None if kind.name == "gp3" => Ok(Some(GP3_THROUGHPUT)),
        None => Ok(None),
        Some(_) if kind.name != "gp3" => {
            invalid("throughput is only supported for the volumeType gp3.")
        }
        Some(rate) => in_range("throughput", kind, rate, &(125..=1_000))
            .map(|()| Some(rate)),
    }
}

fn check_tags(
    given: &[EBSTagSpecification],
) -> Result<(Vec<Tag>, Option<PropagateTags>), ApiError> {
    let one = match given {
        [] => return Ok((vec![], None)),
        [one] => one,
        _ => return invalid("tagSpecifications can have one entry."),
    };
    if one.resource_type != Some(EBSResourceType::Volume) {
        return invalid("resourceType of tagSpecifications must be volume.");
    }
    let checked = tags::check(one.tags.as_deref().unwrap_or_default())?;
    if let Some(own) = OWN_TAGS.iter().find(|key| checked.contains_key(**key)) {
        return invalid(format!("The tag {own} is reserved."));
    }
    Ok((tags::to_wire(&checked), one.propagate_tags))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn definition() -> TaskDefinition {
        serde_json::from_value(json!({"volumes": [
            {"name": "scratch"}, {"name": "db", "configuredAtLaunch": true},
        ]}))
        .unwrap()
    }

    fn run(managed: Value) -> Result<LaunchVolume, ApiError> {
        let mut whole = json!({"roleArn": "arn:aws:iam::1:role/ebs"});
        let members = whole.as_object_mut().unwrap();
        members.extend(managed.as_object().unwrap().clone());
        let given = json!([{"name": "db", "managedEBSVolume": whole}]);
        let given: Vec<_> = serde_json::from_value(given).unwrap();
        of_task(&definition(), &given, true).map(Option::unwrap)
    }

    fn refused(managed: Value, expected: &str) {
        let error = run(managed.clone()).unwrap_err();
        assert!(error.message().contains(expected), "{managed}: {error:?}");
    }

    #[test]
    fn defaults_are_awss() {
        let volume = run(json!({"sizeInGiB": 1})).unwrap();
        assert_eq!(volume.volume_type, "gp3");
        assert_eq!(volume.file_system, "xfs");
        assert_eq!((volume.iops, volume.throughput), (Some(3000), Some(125)));
        assert!(volume.delete_on_termination);
        let given = json!({"sizeInGiB": 2, "terminationPolicy":
            {"deleteOnTermination": false}});
        assert!(!run(given).unwrap().delete_on_termination);
        let gp2 = json!({"sizeInGiB": 200, "volumeType": "gp2"});
        assert_eq!(run(gp2).unwrap().iops, Some(600));
    }

    #[test]
    fn a_service_s_volume_goes_with_its_task() {
        let given = json!([{"name": "db", "managedEBSVolume": {
            "roleArn": "arn:aws:iam::1:role/ebs", "sizeInGiB": 4,
            "filesystemType": "ext4",
        }}]);
        let given: Vec<_> = serde_json::from_value(given).unwrap();
        let volume = of_service(&definition(), &given, false).unwrap();
        let volume = volume.unwrap();
        assert!(volume.delete_on_termination);
        assert_eq!(volume.file_system, "ext4");
    }

    #[test]
    fn definition_and_configuration_belong_together() {
        let plain = TaskDefinition::default();
        assert_eq!(of_task(&plain, &[], false).unwrap(), None);
        let error = of_task(&definition(), &[], false).unwrap_err();
        assert!(error.message().contains("must have its configuration"));
        for name in ["scratch", "other"] {
            let given = TaskVolumeConfiguration {
                name: Some(name.into()),
                managed_ebs_volume: None,
            };
            let error = of_task(&definition(), &[given], false).unwrap_err();
            assert!(error.message().contains("is not a volume"), "{error:?}");
        }
        let given = TaskVolumeConfiguration {
            name: Some("db".into()),
            managed_ebs_volume: None,
        };
        let both = [given.clone(), given.clone()];
        of_task(&definition(), &both, false).unwrap_err();
        let error = of_task(&definition(), &[given], false).unwrap_err();
        assert!(error.message().contains("must have managedEBSVolume"));
    }

    #[test]
    fn sizes_and_rates_are_the_types() {
        for (kind, too_small, too_large) in [
            ("gp3", 0, 16_385),
            ("io1", 3, 16_385),
            ("st1", 124, 16_385),
            ("sc1", 124, 16_385),
        ] {
            for size in [too_small, too_large] {
                let given = json!({"sizeInGiB": size, "volumeType": kind,
                    "iops": if kind == "io1" { json!(100) } else { json!(null) }});
                refused(given, "must be between");
            }
        }
        refused(json!({"sizeInGiB": 4, "volumeType": "io2"}), "requires iops");
        refused(
            json!({"sizeInGiB": 4, "volumeType": "io1", "iops": 64_001}),
            "must be between 100 and 64000",
        );
        refused(json!({"sizeInGiB": 4, "iops": 100}), "iops of a volume");
        refused(
            json!({"sizeInGiB": 125, "volumeType": "st1", "iops": 100}),
            "does not support iops",
        );
        refused(json!({"sizeInGiB": 1, "throughput": 1001}), "throughput");
        refused(
            json!({"sizeInGiB": 1, "volumeType": "gp2", "throughput": 200}),
            "only supported for",
        );
        refused(json!({"sizeInGiB": 1, "volumeType": "gp9"}), "'gp9'");
        refused(json!({"sizeInGiB": 1, "volumeType": "standard"}), "Fargate");
    }

    #[test]
    fn what_is_missing_and_what_is_not_served() {
        refused(json!({}), "Either sizeInGiB or snapshotId");
        refused(json!({"sizeInGiB": 1, "roleArn": null}), "roleArn");
        refused(json!({"sizeInGiB": 1, "roleArn": "x"}), "roleArn");
        refused(json!({"snapshotId": "snap-1"}), "Minato does not serve");
        refused(json!({"sizeInGiB": 1, "encrypted": true}), "encryption");
        refused(json!({"sizeInGiB": 1, "filesystemType": "ntfs"}), "ntfs");
        run(json!({"sizeInGiB": 1, "encrypted": false})).unwrap();
        refused(
            json!({"sizeInGiB": 1, "volumeInitializationRate": 100}),
            "only with a",
        );
        refused(
            json!({"sizeInGiB": 1, "tagSpecifications": [
                {"resourceType": "volume", "tags": [
                    {"key": "AmazonECSManaged", "value": "no"}]}]}),
            "reserved",
        );
    }
}
