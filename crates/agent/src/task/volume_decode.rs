//! Volumes of a task, and the options of Docker's driver `local`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use minato_wire::acs;

use super::decode::{DecodeTaskError, malformed, unsupported};
use super::plan::{
    DockerVolumePlan, EbsPlan, EfsPlan, VolumePlan, VolumeScope,
};
use crate::runtime::MountOptions;

pub(super) fn decode_volumes(
    task: &acs::Task,
    attached: &BTreeMap<String, EbsPlan>,
) -> Result<BTreeMap<String, VolumePlan>, DecodeTaskError> {
    let mut volumes = BTreeMap::new();
    for volume in &task.volumes {
        let plan = match volume.r#type.as_deref().unwrap_or("host") {
            "host" => decode_host(volume)?,
            "docker" => decode_docker(volume)?,
            "efs" => decode_efs(volume)?,
            "attachment" => {
                let plan = attached.get(&volume.name).ok_or_else(|| {
                    malformed(format!(
                        "nothing is attached for volume {}",
                        volume.name
                    ))
                })?;
                VolumePlan::Ebs(plan.clone())
            }
            kind => {
                return Err(unsupported(format!(
                    "volume {} of type {kind}",
                    volume.name
                )));
            }
        };
        volumes.insert(volume.name.clone(), plan);
    }
    Ok(volumes)
}

fn empty() -> DecodeTaskError {
    malformed("empty volume configuration")
}

fn decode_host(volume: &acs::Volume) -> Result<VolumePlan, DecodeTaskError> {
    let host = volume.host.as_ref().ok_or_else(empty)?;
    match host.source_path.as_deref() {
        None | Some("") => Ok(VolumePlan::Task),
        Some(path) if path.starts_with('/') => {
            Ok(VolumePlan::Host(PathBuf::from(path)))
        }
        Some(path) => Err(malformed(format!(
            "volume {}: {path:?} is not an absolute path",
            volume.name
        ))),
    }
}

fn decode_docker(volume: &acs::Volume) -> Result<VolumePlan, DecodeTaskError> {
    let docker =
        volume.docker_volume_configuration.as_ref().ok_or_else(empty)?;
    let name = &volume.name;
    let scope = match docker.scope.as_deref() {
        None | Some("" | "task") => VolumeScope::Task,
        Some("shared") => VolumeScope::Shared {
            autoprovision: docker.autoprovision == Some(true),
        },
        Some(scope) => {
            return Err(malformed(format!("volume {name} of scope {scope:?}")));
        }
    };
    if scope != VolumeScope::Task && !is_volume_name(name) {
        return Err(unsupported(format!(
            "a shared volume of the name {name:?}"
        )));
    }
    match docker.driver.as_deref() {
        None | Some("" | "local") => {}
        Some(driver) => {
            return Err(unsupported(format!(
                "volume {name}: the volume driver {driver:?}"
            )));
        }
    }
    LocalMount::of(&docker.driver_opts)
        .map_err(|what| unsupported(format!("volume {name}: {what}")))?;
    Ok(VolumePlan::Docker(DockerVolumePlan {
        scope,
        options: docker.driver_opts.clone(),
        labels: docker.labels.clone(),
    }))
}

/// Whether Docker takes it as the name of a volume.
fn is_volume_name(name: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
    };
    // It names a directory.
    (2..=255).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(is_plain)
}

/// Transit encryption and IAM authorization protect a way to a server, and
/// from those who come by it; to a directory of this host there is no such
/// way, and whoever may name it in a definition may mount it. To a real server
/// there is one, and what cannot be had there is refused when it is mounted.
fn decode_efs(volume: &acs::Volume) -> Result<VolumePlan, DecodeTaskError> {
    let efs = volume.efs_volume_configuration.as_ref().ok_or_else(empty)?;
    let file_system_id = efs
        .file_system_id
        .clone()
        .filter(|id| !id.is_empty())
        .ok_or_else(empty)?;
    let access_point = efs
        .authorization_config
        .as_ref()
        .and_then(|config| config.access_point_id.as_deref())
        .filter(|id| !id.is_empty());
    let root = efs.root_directory.as_deref().filter(|root| !root.is_empty());
    Ok(VolumePlan::Efs(EfsPlan {
        file_system_id,
        root: PathBuf::from(root.unwrap_or("/")),
        access_point: access_point.map(str::to_owned),
        is_encrypted: efs.transit_encryption.as_deref() == Some("ENABLED"),
    }))
}

/// What Docker's driver `local` mounts in place of its own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalMount {
    /// A directory.
    Bind {
        /// The directory.
        device: PathBuf,
        /// Whether it may only be read.
        read_only: bool,
    },
    /// Memory.
    Tmpfs(MountOptions),
    /// A directory of an NFS server.
    Nfs {
        /// `nfs` or `nfs4`.
        kind: String,
        /// `server:/path`, or `:/path` where `addr` says the server.
        device: String,
        /// Options of the mount.
        options: MountOptions,
    },
}

impl LocalMount {
    /// What the driver's options ask for, or why that cannot be.
    ///
    /// The driver hands any type to mount(2); here they are those that need
    /// no block device of the host's, which any container could have so.
    pub(crate) fn of(
        options: &BTreeMap<String, String>,
    ) -> Result<Option<LocalMount>, String> {
        if options.is_empty() {
            return Ok(None);
        }
        let get = |name| options.get(name).map(String::as_str).unwrap_or("");
        for name in options.keys() {
            if !matches!(name.as_str(), "type" | "device" | "o") {
                return Err(format!("the driver option {name:?}"));
            }
        }
        for name in ["type", "device"] {
            if get(name).is_empty() {
                return Err(format!("driver options without {name:?}"));
            }
        }
        let (kind, device, list) = (get("type"), get("device"), get("o"));
        let mut flags = list.split(',').map(str::trim);
        // The kernel does not look at the type of a bind mount.
        if flags.any(|flag| matches!(flag, "bind" | "rbind")) {
            return bind(device, list).map(Some);
        }
        let options = MountOptions::parse(list);
        match kind {
            "tmpfs" => Ok(Some(LocalMount::Tmpfs(options))),
            "nfs" | "nfs4" => {
                let (kind, device) = (kind.to_owned(), nfs(device, list)?);
                Ok(Some(LocalMount::Nfs { kind, device, options }))
            }
            other => Err(format!("the driver option \"type\" {other:?}")),
        }
    }
}

fn bind(device: &str, list: &str) -> Result<LocalMount, String> {
    let flags = || list.split(',').map(str::trim);
    let known = ["bind", "rbind", "ro", "rw"];
    if let Some(flag) = flags().find(|flag| !known.contains(flag)) {
        return Err(format!("the mount option {flag:?}"));
    }
    let device = PathBuf::from(device);
    if !device.is_absolute() {
        return Err(format!("the relative device {device:?}"));
    }
    let read_only = flags().any(|flag| flag == "ro");
    Ok(LocalMount::Bind { device, read_only })
}

/// The device of an NFS mount. The kernel takes addresses only, and Docker
/// looks up the name in `addr`; here it must be an address.
fn nfs(device: &str, list: &str) -> Result<String, String> {
    if !device.contains(":/") {
        return Err(format!("the device {device:?}, which has no server"));
    }
    let mut addresses = list.split(',').filter_map(|option| {
        option.trim().strip_prefix("addr=").map(str::to_owned)
    });
    match addresses.next_back() {
        Some(address) if address.parse::<std::net::IpAddr>().is_ok() => {
            Ok(device.to_owned())
        }
        Some(address) => {
            Err(format!("the NFS server {address:?}: it must be an address"))
        }
        None => Err("an NFS volume without the mount option \"addr\"".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn names_are_dockers() {
        for name in ["db", "a_b.c-d", "0x", &"a".repeat(255)] {
            assert!(is_volume_name(name), "{name}");
        }
        for name in ["", "a", "-ab", ".ab", "..", "a/b", "a b", "ä-b"] {
            assert!(!is_volume_name(name), "{name}");
        }
        assert!(!is_volume_name(&"a".repeat(256)));
    }

    #[test]
    fn a_bind_is_what_the_local_driver_can_do_here() {
        assert_eq!(LocalMount::of(&options(&[])), Ok(None));
        for (o, read_only) in [("bind", false), ("rbind,ro", true)] {
            let given =
                options(&[("type", "none"), ("device", "/srv/x"), ("o", o)]);
            let device = PathBuf::from("/srv/x");
            let bind = LocalMount::Bind { device, read_only };
            assert_eq!(LocalMount::of(&given), Ok(Some(bind)));
        }
    }

    #[test]
    fn memory_and_nfs_are_mounted() {
        let given = options(&[
            ("type", "tmpfs"),
            ("device", "tmpfs"),
            ("o", "size=100m,uid=1000,ro"),
        ]);
        let Ok(Some(LocalMount::Tmpfs(tmpfs))) = LocalMount::of(&given) else {
            panic!("{given:?}");
        };
        assert!(tmpfs.is_read_only());
        assert_eq!(tmpfs.data(), "size=100m,uid=1000");
        let given = options(&[
            ("type", "nfs"),
            ("device", ":/export"),
            ("o", "addr=192.0.2.1,nfsvers=4,rw"),
        ]);
        assert_eq!(
            LocalMount::of(&given),
            Ok(Some(LocalMount::Nfs {
                kind: "nfs".into(),
                device: ":/export".into(),
                options: MountOptions::parse("addr=192.0.2.1,nfsvers=4"),
            }))
        );
    }

    #[test]
    fn other_options_are_refused() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("size", "1g")], "the driver option \"size\""),
            (
                &[("o", "bind"), ("type", "none")],
                "driver options without \"device\"",
            ),
            (
                &[("type", "ext4"), ("device", "/dev/sda1")],
                "the driver option \"type\" \"ext4\"",
            ),
            (
                &[("type", "nfs"), ("device", "/x"), ("o", "addr=192.0.2.1")],
                "the device \"/x\", which has no server",
            ),
            (
                &[("type", "nfs"), ("device", ":/x"), ("o", "rw")],
                "an NFS volume without the mount option \"addr\"",
            ),
            (
                &[("type", "nfs"), ("device", ":/x"), ("o", "addr=nas")],
                "the NFS server \"nas\": it must be an address",
            ),
            (
                &[("type", "none"), ("device", "/x"), ("o", "bind,suid")],
                "the mount option \"suid\"",
            ),
            (
                &[("type", "none"), ("device", "x"), ("o", "bind")],
                "the relative device \"x\"",
            ),
        ];
        for (given, expected) in cases {
            let error = LocalMount::of(&options(given)).unwrap_err();
            assert_eq!(error, expected);
        }
    }
}
