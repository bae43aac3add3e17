//! EFS file systems: directories of this host or of an NFS server that stand
//! for them.

use std::fmt::Display;
use std::fs;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use super::StepError;
use crate::config::{AgentConfig, EfsTarget};
use crate::runtime::{MountOptions, VolumeSource};
use crate::task::plan::EfsPlan;

/// How AWS's mount helper mounts EFS (EFS user guide, "Recommended NFS mount
/// settings").
const NFS_OPTIONS: &str =
    "vers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";

/// Where a volume's files are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In a directory of this host's, and what links must not lead out of.
    Here(PathBuf, PathBuf),
    /// At a server.
    There(VolumeSource),
}

/// Finds the file system, and the directory in it that a volume means.
///
/// As on AWS it must be there: only access points make theirs. Links may not
/// lead out of the file system, whoever made them.
pub(super) fn resolve(
    config: &AgentConfig,
    plan: &EfsPlan,
) -> Result<Found, StepError> {
    let id = &plan.file_system_id;
    let root = root(config, plan)?;
    let target = config.efs.get(id).ok_or_else(|| {
        failed(
            plan,
            &format!(
                "no directory stands for the file system (minato up --efs \
                 {id}=DIR)"
            ),
        )
    })?;
    match target {
        EfsTarget::Dir(top) => here(plan, top, root),
        EfsTarget::Nfs { server, export } => there(plan, *server, export, root),
    }
}

fn failed(plan: &EfsPlan, why: &dyn Display) -> StepError {
    StepError::new(
        "ResourceInitializationError",
        format!(
            "failed to set up EFS volumes: mounting {}:{} failed: {why}",
            plan.file_system_id,
            plan.root.display()
        ),
    )
}

/// The directory, from the file system's root: the access point's, where the
/// volume has one.
fn root<'a>(
    config: &'a AgentConfig,
    plan: &'a EfsPlan,
) -> Result<&'a Path, StepError> {
    let Some(id) = &plan.access_point else { return Ok(&plan.root) };
    let known = config.efs_access_points.get(id);
    let own = known.filter(|it| it.file_system_id == plan.file_system_id);
    let point = own.ok_or_else(|| {
        failed(
            plan,
            &format!(
                "the file system has no access point {id} (minato up \
                 --efs-access-point {id}={}:/PATH)",
                plan.file_system_id
            ),
        )
    })?;
    Ok(&point.root)
}

fn here(plan: &EfsPlan, top: &Path, root: &Path) -> Result<Found, StepError> {
    let failed = |why: &dyn Display| failed(plan, why);
    let top = fs::canonicalize(top).map_err(|error| {
        failed(&format!("its directory {}: {error}", top.display()))
    })?;
    let below = root.strip_prefix("/").unwrap_or(root);
    let path =
        fs::canonicalize(top.join(below)).map_err(|error| failed(&error))?;
    if !path.starts_with(&top) {
        return Err(failed(&"it leads out of the file system"));
    }
    if !path.is_dir() {
        return Err(failed(&"it is not a directory"));
    }
    Ok(Found::Here(top, path))
}

fn there(
    plan: &EfsPlan,
    server: IpAddr,
    export: &Path,
    root: &Path,
) -> Result<Found, StepError> {
    if plan.is_encrypted {
        return Err(failed(
            plan,
            &"Minato speaks plain NFS: transitEncryption must be DISABLED",
        ));
    }
    // The server goes up as it is told.
    if root.components().any(|part| part == Component::ParentDir) {
        return Err(failed(plan, &"it leads out of the file system"));
    }
    let below = root.strip_prefix("/").unwrap_or(root);
    let path = export.join(below);
    let host = match server {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    Ok(Found::There(VolumeSource::Nfs {
        kind: "nfs4".to_owned(),
        device: format!("{host}:{}", path.display()),
        options: MountOptions::parse(&format!("{NFS_OPTIONS},addr={server}")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EfsAccessPoint;

    fn plan(root: &str) -> EfsPlan {
        EfsPlan {
            file_system_id: "fs-0123abcd".into(),
            root: root.into(),
            access_point: None,
            is_encrypted: false,
        }
    }

    fn config(target: EfsTarget) -> AgentConfig {
        let mut config = AgentConfig::new("c", "us-east-1", "/nowhere");
        config.efs.insert("fs-0123abcd".into(), target);
        config.efs_access_points.insert(
            "fsap-1".into(),
            EfsAccessPoint {
                file_system_id: "fs-0123abcd".into(),
                root: "/team".into(),
            },
        );
        config
    }

    fn nfs() -> AgentConfig {
        config(EfsTarget::Nfs {
            server: "192.0.2.1".parse().unwrap(),
            export: "/export".into(),
        })
    }

    fn device(plan: &EfsPlan) -> Result<(String, String), StepError> {
        let found = resolve(&nfs(), plan)?;
        let Found::There(VolumeSource::Nfs { device, options, .. }) = found
        else {
            panic!("{found:?}");
        };
        Ok((device, options.data().to_owned()))
    }

    #[test]
    fn a_server_is_mounted_as_awss_helper_does() {
        let (at, options) = device(&plan("/www")).unwrap();
        assert_eq!(at, "192.0.2.1:/export/www");
        assert_eq!(options, format!("{NFS_OPTIONS},addr=192.0.2.1"));
        assert_eq!(device(&plan("/")).unwrap().0, "192.0.2.1:/export/");
        let encrypted = EfsPlan { is_encrypted: true, ..plan("/") };
        let error = device(&encrypted).unwrap_err().to_string();
        assert!(error.contains("must be DISABLED"), "{error}");
        let error = device(&plan("/../etc")).unwrap_err().to_string();
        assert!(error.contains("leads out"), "{error}");
    }

    #[test]
    fn an_access_point_is_a_root() {
        let through =
            |id: &str| EfsPlan { access_point: Some(id.into()), ..plan("/") };
        let (at, _) = device(&through("fsap-1")).unwrap();
        assert_eq!(at, "192.0.2.1:/export/team");
        let error = device(&through("fsap-2")).unwrap_err().to_string();
        assert!(error.contains("no access point fsap-2"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("team")).unwrap();
        let local = config(EfsTarget::Dir(dir.path().to_owned()));
        let top = fs::canonicalize(dir.path()).unwrap();
        let found = resolve(&local, &through("fsap-1")).unwrap();
        assert_eq!(found, Found::Here(top.clone(), top.join("team")));
        // Of another file system.
        let mut other = local.clone();
        let point = other.efs_access_points.get_mut("fsap-1").unwrap();
        point.file_system_id = "fs-44444444".into();
        resolve(&other, &through("fsap-1")).unwrap_err();
    }
}
