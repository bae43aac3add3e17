//! Version 1's control groups as a container sees them.
//!
//! Programs look there for their limits. The runtime mounts each hierarchy
//! anew by some hundred system calls, half of all that a start makes, and
//! leaves them writable; here the container's groups are bound into one tree,
//! which is made read-only as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rustix::fs::CWD;

use crate::container::attributes;

/// The controllers for which the runtime puts a container in its group.
const MANAGED: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// A hierarchy that several controllers may share.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hierarchy {
    controllers: Vec<String>,
    /// The container's group, or the shim's where it has none.
    group: String,
}

/// Makes the tree of the container's groups at `place`.
pub(super) fn mount(
    mounts: &BTreeMap<String, PathBuf>,
    group: &str,
    place: &Path,
) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let tmpfs = Some("tmpfs");
    let no_flags = MsFlags::empty();
    nix::mount::mount(tmpfs, place, tmpfs, no_flags, Some("mode=755"))?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    for (point, hierarchy) in hierarchies(mounts, group, &own) {
        let Some(name) = point.file_name() else { continue };
        let dir = point.join(hierarchy.group.trim_start_matches('/'));
        fs::create_dir_all(&dir)?;
        let shown = place.join(name);
        fs::create_dir(&shown)?;
        let none = None::<&str>;
        nix::mount::mount(Some(&dir), &shown, none, MsFlags::MS_BIND, none)?;
        if hierarchy.controllers.len() > 1 {
            for controller in &hierarchy.controllers {
                symlink(name, place.join(controller))?;
            }
        }
    }
    let readonly = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    attributes::set(CWD, place, readonly, libc::AT_RECURSIVE)
}

/// The hierarchies by where they are mounted; `own` is the shim's
/// `/proc/self/cgroup`.
fn hierarchies<'m>(
    mounts: &'m BTreeMap<String, PathBuf>,
    group: &str,
    own: &str,
) -> BTreeMap<&'m Path, Hierarchy> {
    let mut found: BTreeMap<&Path, Hierarchy> = BTreeMap::new();
    for (controller, point) in mounts {
        let hierarchy = found.entry(point).or_default();
        hierarchy.controllers.push(controller.clone());
        if MANAGED.contains(&controller.as_str()) {
            group.clone_into(&mut hierarchy.group);
        } else if hierarchy.group.is_empty() {
            hierarchy.group = own_group(own, controller).to_owned();
        }
    }
    found
}

/// Where `/proc/self/cgroup` says that a process is for a controller.
fn own_group<'o>(own: &'o str, controller: &str) -> &'o str {
    let mut lines = own.lines().map(|line| line.splitn(3, ':'));
    let found = lines.find_map(|mut parts| {
        let is_meant = parts.nth(1)?.split(',').any(|c| c == controller);
        is_meant.then(|| parts.next()).flatten()
    });
    found.unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hierarchy_shows_the_container_s_group_or_the_shim_s() {
        let point = |name: &str| Path::new("/sys/fs/cgroup").join(name);
        let mounts = [
            ("cpu", "cpu,cpuacct"),
            ("cpuacct", "cpu,cpuacct"),
            ("memory", "memory"),
            ("name=systemd", "systemd"),
            ("rdma", "rdma"),
        ]
        .map(|(controller, name)| (controller.to_owned(), point(name)));
        let mounts = BTreeMap::from(mounts);
        let own = "4:cpu,cpuacct:/a\n3:memory:/a\n2:name=systemd:/shims:x\n";
        let found = hierarchies(&mounts, "/t/c", own);
        let hierarchy = |controllers: &[&str], group: &str| Hierarchy {
            controllers: controllers.iter().map(ToString::to_string).collect(),
            group: group.to_owned(),
        };
        let wanted = [
            ("cpu,cpuacct", hierarchy(&["cpu", "cpuacct"], "/t/c")),
            ("memory", hierarchy(&["memory"], "/t/c")),
            ("rdma", hierarchy(&["rdma"], "/")),
            ("systemd", hierarchy(&["name=systemd"], "/shims:x")),
        ];
        let found: Vec<_> = found.into_iter().collect();
        let wanted = wanted.map(|(name, wanted)| (point(name), wanted));
        assert_eq!(found.len(), wanted.len());
        for ((at, found), (point, wanted)) in found.into_iter().zip(wanted) {
            assert_eq!((at, found), (point.as_path(), wanted));
        }
    }
}
