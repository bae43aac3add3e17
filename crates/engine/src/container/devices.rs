//! Which devices a container has, and which it may use.
//!
//! On cgroup version 1 the rules go to the devices controller through the OCI
//! configuration. Version 2 has no such controller; there a small BPF program
//! of ours is attached to the container's group (`device_filter`).

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::DeviceMapping;

/// A device could not be found on the host.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Nothing there, or it cannot be examined.
    #[error("could not examine device {}", .path.display())]
    Examine {
        /// Path on the host.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something there, but neither a device nor a directory of devices.
    #[error("{} is not a device", .path.display())]
    NotADevice {
        /// Path on the host.
        path: PathBuf,
    },
    /// Permissions other than `r`, `w` and `m`.
    #[error("{permissions:?} are not device permissions (r, w, m)")]
    Permissions {
        /// As given.
        permissions: String,
    },
}

/// Character or block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceKind {
    Character,
    Block,
}

/// One rule of who may do what with which devices; `None` is any number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRule {
    /// `None` is both kinds.
    pub(crate) kind: Option<DeviceKind>,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: String,
}

/// A device node to make in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    path: PathBuf,
    kind: DeviceKind,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    access: String,
}

impl Device {
    /// The node as OCI describes it.
    pub(crate) fn oci_node(&self) -> Value {
        json!({
            "path": self.path, "type": letter(Some(self.kind)),
            "major": self.major, "minor": self.minor,
            "fileMode": self.mode, "uid": self.uid, "gid": self.gid,
        })
    }
}

/// Most devices of one container: a host's `/dev` has a few hundred.
const DEVICES_MAX: usize = 1024;

/// The numbers of the character device `/dev/net/tun`.
pub(crate) const TUNNEL: [u32; 2] = [10, 200];

/// Whether a rule is about the character device with these numbers: it was
/// mapped, or the container is privileged.
pub(crate) fn is_named(rules: &[DeviceRule], major: u32, minor: u32) -> bool {
    rules.iter().any(|rule| {
        let is_any = rule.kind.is_none();
        let numbers = (rule.major, rule.minor);
        let is_it = rule.kind == Some(DeviceKind::Character)
            && numbers == (Some(major), Some(minor));
        is_any || is_it
    })
}

/// Looks up the devices a specification names.
pub(crate) fn resolve(
    mappings: &[DeviceMapping],
) -> Result<Vec<Device>, DeviceError> {
    let mut devices = vec![];
    for mapping in mappings {
        let access = match mapping.permissions.as_str() {
            "" => "rwm".to_owned(),
            given if given.chars().all(|c| "rwm".contains(c)) => given.into(),
            given => {
                return Err(DeviceError::Permissions {
                    permissions: given.to_owned(),
                });
            }
        };
        let inside = mapping.container_path.as_ref();
        let inside = inside.unwrap_or(&mapping.host_path);
        collect(&mapping.host_path, inside, &access, &mut devices)?;
    }
    Ok(devices)
}

/// The devices of the host that a privileged container sees.
pub(crate) fn of_host() -> Result<Vec<Device>, DeviceError> {
    let mut devices = vec![];
    collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut devices)?;
    // The runtime makes these itself, and terminals are the container's own.
    let own = ["/dev/console", "/dev/ptmx"];
    devices.retain(|d| !own.iter().any(|path| Path::new(path) == d.path));
    Ok(devices)
}

/// Takes a device, or every device below a directory.
fn collect(
    host: &Path,
    inside: &Path,
    access: &str,
    devices: &mut Vec<Device>,
) -> Result<(), DeviceError> {
    let examine =
        |source| DeviceError::Examine { path: host.to_owned(), source };
    let data = fs::metadata(host).map_err(examine)?;
    let kind = data.file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(host).map_err(examine)?.flatten() {
            let name = entry.file_name();
            let skipped = ["pts", "shm", "mqueue", "fd", ".udev"];
            let is_device = entry.file_type().is_ok_and(|kind| {
                kind.is_dir() || kind.is_char_device() || kind.is_block_device()
            });
            if is_device && !skipped.iter().any(|skip| name == *skip) {
                let (host, inside) = (host.join(&name), inside.join(&name));
                collect(&host, &inside, access, devices)?;
            }
        }
        return Ok(());
    }
    let kind = if kind.is_char_device() {
        DeviceKind::Character
    } else if kind.is_block_device() {
        DeviceKind::Block
    } else {
        return Err(DeviceError::NotADevice { path: host.to_owned() });
    };
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    if devices.len() < DEVICES_MAX {
        devices.push(Device {
            path: inside.to_owned(),
            kind,
            major: narrow(nix::sys::stat::major(data.rdev())),
            minor: narrow(nix::sys::stat::minor(data.rdev())),
            mode: data.mode() & 0o777,
            uid: data.uid(),
            gid: data.gid(),
            access: access.to_owned(),
        });
    }
    Ok(())
}

/// All that a container may do with devices; what no rule allows is denied.
///
/// Docker's list: make any node, use the harmless ones, its own terminals,
/// and what was mapped.
pub(crate) fn rules(devices: &[Device], privileged: bool) -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access: &str| DeviceRule {
        kind,
        major,
        minor,
        access: access.to_owned(),
    };
    if privileged {
        return vec![rule(None, None, None, "rwm")];
    }
    let character = |major, minor| {
        rule(Some(DeviceKind::Character), Some(major), minor, "rwm")
    };
    let mut rules = vec![
        rule(Some(DeviceKind::Character), None, None, "m"),
        rule(Some(DeviceKind::Block), None, None, "m"),
        character(1, Some(3)), // null
        character(1, Some(5)), // zero
        character(1, Some(7)), // full
        character(1, Some(8)), // random
        character(1, Some(9)), // urandom
        character(5, Some(0)), // tty
        character(5, Some(1)), // console
        character(5, Some(2)), // ptmx
        character(136, None),  // pts
    ];
    rules.extend(devices.iter().map(|device| {
        let (major, minor) = (Some(device.major), Some(device.minor));
        rule(Some(device.kind), major, minor, &device.access)
    }));
    rules
}

/// The rules as OCI writes them for version 1: deny all, then allow.
pub(crate) fn v1_rules(rules: &[DeviceRule]) -> Vec<Value> {
    let mut all = vec![json!({ "allow": false, "access": "rwm" })];
    for rule in rules {
        let mut value = json!({
            "allow": true, "type": letter(rule.kind), "access": rule.access,
        });
        if let Some(major) = rule.major {
            value["major"] = json!(major);
        }
        if let Some(minor) = rule.minor {
            value["minor"] = json!(minor);
        }
        all.push(value);
    }
    all
}

fn letter(kind: Option<DeviceKind>) -> &'static str {
    match kind {
        Some(DeviceKind::Character) => "c",
        Some(DeviceKind::Block) => "b",
        None => "a",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(path: &str, permissions: &str) -> DeviceMapping {
        DeviceMapping {
            host_path: path.into(),
            container_path: Some("/dev/mine".into()),
            permissions: permissions.to_owned(),
        }
    }

    #[test]
    fn a_mapped_device_has_its_numbers_and_a_rule() {
        let devices = resolve(&[mapping("/dev/null", "r")]).unwrap();
        assert_eq!(devices[0].oci_node()["major"], 1);
        assert_eq!(devices[0].oci_node()["path"], "/dev/mine");
        let rules = rules(&devices, false);
        let last = rules.last().unwrap();
        assert_eq!((last.major, last.minor), (Some(1), Some(3)));
        assert_eq!(last.access, "r");
    }

    #[test]
    fn wrong_devices_are_refused() {
        assert!(matches!(
            resolve(&[mapping("/etc/passwd", "")]),
            Err(DeviceError::NotADevice { .. })
        ));
        assert!(matches!(
            resolve(&[mapping("/dev/null", "x")]),
            Err(DeviceError::Permissions { .. })
        ));
        assert!(matches!(
            resolve(&[mapping("/dev/there/is/none", "")]),
            Err(DeviceError::Examine { .. })
        ));
    }

    #[test]
    fn version_1_rules_begin_by_denying_all() {
        let list = v1_rules(&rules(&[], false));
        assert_eq!(list[0], json!({ "allow": false, "access": "rwm" }));
        assert!(list[1..].iter().all(|rule| rule["allow"] == true));
        let all = v1_rules(&rules(&[], true));
        assert_eq!(
            all[1],
            json!({"allow": true, "type": "a", "access": "rwm"})
        );
    }
}
