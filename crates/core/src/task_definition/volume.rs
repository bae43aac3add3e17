//! Rules of volumes and of what refers to them.

use std::collections::BTreeSet;

use minato_wire::ecs::{
    DockerVolumeConfiguration, EFSAuthorizationConfigIAM, EFSTransitEncryption,
    EFSVolumeConfiguration, FSxWindowsFileServerVolumeConfiguration,
    S3FilesVolumeConfiguration, Scope, TaskDefinition, Volume,
};

use super::{containers, find, list, name, text};
use crate::name::is_name;
use crate::rule::RuleError;

pub(super) fn volumes(definition: &TaskDefinition) -> Result<(), RuleError> {
    let mut names = BTreeSet::new();
    let mut at_launch = 0;
    for volume in list(&definition.volumes) {
        let name = text(&volume.name);
        if name.is_empty() {
            return Err(RuleError::client(
                "Volume.name should not be null or empty.",
            ));
        }
        if !is_name(name) {
            return Err(RuleError::client(format!(
                "Volume.name contains invalid characters: '{name}'."
            )));
        }
        if !names.insert(name) {
            return Err(RuleError::client(format!(
                "Volume.name must be unique. '{name}' is used more than once."
            )));
        }
        at_launch += usize::from(volume.configured_at_launch == Some(true));
        one_volume(definition, volume)?;
    }
    if at_launch > 1 {
        return Err(RuleError::client(
            "Only one volume can be configured at launch.",
        ));
    }
    Ok(())
}

fn one_volume(
    definition: &TaskDefinition,
    volume: &Volume,
) -> Result<(), RuleError> {
    let kinds = [
        volume.host.is_some(),
        volume.docker_volume_configuration.is_some(),
        volume.efs_volume_configuration.is_some(),
        volume.s3files_volume_configuration.is_some(),
        volume.fsx_windows_file_server_volume_configuration.is_some(),
        volume.configured_at_launch == Some(true),
    ];
    if kinds.into_iter().filter(|given| *given).count() > 1 {
        return Err(RuleError::client(format!(
            "Only one volume type can be specified for volume '{}'.",
            text(&volume.name)
        )));
    }
    let name = text(&volume.name);
    let path = volume.host.as_ref().map(|host| text(&host.source_path));
    if let Some(path) = path.filter(|path| !is_absolute(definition, path)) {
        return Err(RuleError::client(format!(
            "Invalid setting for volume '{name}'. 'host.sourcePath' must be \
             an absolute path, not '{path}'."
        )));
    }
    if let Some(docker) = &volume.docker_volume_configuration {
        docker_volume(name, docker)?;
    }
    if let Some(efs) = &volume.efs_volume_configuration {
        efs_volume(name, efs)?;
    }
    if let Some(s3) = &volume.s3files_volume_configuration {
        s3_volume(definition, name, s3)?;
    }
    if let Some(fsx) = &volume.fsx_windows_file_server_volume_configuration {
        fsx_volume(name, fsx)?;
    }
    Ok(())
}

/// Whether a path begins at the root, as Docker wants it; one that is not
/// given is no relative one, and Windows has paths of its own.
fn is_absolute(definition: &TaskDefinition, path: &str) -> bool {
    path.is_empty()
        || path.starts_with('/')
        || super::task::is_windows(definition)
}

fn docker_volume(
    name: &str,
    docker: &DockerVolumeConfiguration,
) -> Result<(), RuleError> {
    let scope = docker.scope.unwrap_or(Scope::Task);
    if scope == Scope::Task && docker.autoprovision == Some(true) {
        return Err(RuleError::client(format!(
            "Invalid setting for volume '{name}'. 'autoprovision' can only \
             be used if the scope is shared."
        )));
    }
    Ok(())
}

fn efs_volume(
    name: &str,
    efs: &EFSVolumeConfiguration,
) -> Result<(), RuleError> {
    let invalid = |why: &str| {
        Err(RuleError::client(format!(
            "Invalid setting for volume '{name}'. {why}"
        )))
    };
    if text(&efs.file_system_id).is_empty() {
        return invalid(
            "'efsVolumeConfiguration.fileSystemId' should not be null or \
             empty.",
        );
    }
    let encrypted =
        efs.transit_encryption == Some(EFSTransitEncryption::Enabled);
    let root = efs.root_directory.as_deref().unwrap_or("/");
    if efs.transit_encryption_port.is_some() && !encrypted {
        return invalid(
            "'transitEncryptionPort' requires transit encryption to be \
             enabled.",
        );
    }
    if let Some(port) = efs.transit_encryption_port
        && !(0..=65535).contains(&port)
    {
        return invalid("'transitEncryptionPort' is not a port.");
    }
    let Some(authorization) = &efs.authorization_config else {
        return Ok(());
    };
    let access_point = !text(&authorization.access_point_id).is_empty();
    if access_point && root != "/" {
        return invalid(
            "The root directory must be omitted or set to '/' when an EFS \
             access point is specified.",
        );
    }
    if access_point && !encrypted {
        return invalid(
            "Transit encryption must be enabled when an EFS access point is \
             specified.",
        );
    }
    if authorization.iam == Some(EFSAuthorizationConfigIAM::Enabled)
        && !encrypted
    {
        return invalid(
            "Transit encryption must be enabled when EFS IAM authorization \
             is enabled.",
        );
    }
    Ok(())
}

fn s3_volume(
    definition: &TaskDefinition,
    name: &str,
    s3: &S3FilesVolumeConfiguration,
) -> Result<(), RuleError> {
    if text(&s3.file_system_arn).is_empty() {
        return Err(RuleError::client(format!(
            "Invalid setting for volume '{name}'. \
             's3filesVolumeConfiguration.fileSystemArn' should not be null \
             or empty."
        )));
    }
    if text(&definition.task_role_arn).is_empty() {
        return Err(RuleError::client(format!(
            "Volume '{name}' requires the task definition to have a task \
             role."
        )));
    }
    Ok(())
}

fn fsx_volume(
    name: &str,
    fsx: &FSxWindowsFileServerVolumeConfiguration,
) -> Result<(), RuleError> {
    let authorization = fsx.authorization_config.as_ref();
    let complete = !text(&fsx.file_system_id).is_empty()
        && !text(&fsx.root_directory).is_empty()
        && authorization.is_some_and(|config| {
            !text(&config.credentials_parameter).is_empty()
                && !text(&config.domain).is_empty()
        });
    if !complete {
        return Err(RuleError::client(format!(
            "Invalid setting for volume '{name}'. \
             'fsxWindowsFileServerVolumeConfiguration' requires \
             'fileSystemId', 'rootDirectory' and 'authorizationConfig'."
        )));
    }
    Ok(())
}

pub(super) fn mounts(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        let mut paths = BTreeSet::new();
        for mount in list(&container.mount_points) {
            let source = text(&mount.source_volume);
            let path = text(&mount.container_path);
            let known = list(&definition.volumes)
                .iter()
                .any(|volume| text(&volume.name) == source);
            if !known {
                return Err(RuleError::client(format!(
                    "Unknown volume '{source}'."
                )));
            }
            if path.is_empty() {
                return Err(RuleError::client(format!(
                    "The mount point of volume '{source}' in container '{}' \
                     must have a containerPath.",
                    name(container)
                )));
            }
            if !is_absolute(definition, path) {
                return Err(RuleError::client(format!(
                    "Invalid mount point of volume '{source}' in container \
                     '{}'. 'containerPath' must be an absolute path, not \
                     '{path}'.",
                    name(container)
                )));
            }
            if !paths.insert(path) {
                return Err(RuleError::client(format!(
                    "Duplicate mount point '{path}' in container '{}'.",
                    name(container)
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn volumes_from(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    for container in containers(definition) {
        for from in list(&container.volumes_from) {
            let source = text(&from.source_container);
            if source == name(container) || find(definition, source).is_none() {
                return Err(RuleError::client(format!(
                    "Invalid 'volumesFrom' setting for container '{}'. \
                     '{source}' is not another container of the task \
                     definition.",
                    name(container)
                )));
            }
        }
    }
    Ok(())
}
