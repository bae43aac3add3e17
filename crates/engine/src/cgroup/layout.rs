//! Which hierarchies the host has, and the files of a group in them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    CPU_PERIOD_US, CPU_QUOTA_MIN_US, CPU_SHARES_MIN, CgroupError,
    MEMORY_MIN_BYTES,
};

/// Where each controller is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Version 1: one directory per controller (several may share one).
    V1(BTreeMap<String, PathBuf>),
    /// Version 2: one directory for all.
    V2(PathBuf),
}

/// How long a group may take to become empty after its processes were killed.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
const EMPTY_POLL: Duration = Duration::from_millis(2);

impl Layout {
    pub(crate) fn detect() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(io_error("read", path))?;
        Layout::from_mountinfo(&text).ok_or(CgroupError::NotMounted)
    }

    /// Reads `/proc/self/mountinfo`; only what is below `/sys/fs/cgroup` counts.
    pub(crate) fn from_mountinfo(text: &str) -> Option<Self> {
        let mut v1 = BTreeMap::new();
        let mut v2 = None;
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or(""));
            if kind == Some("cgroup2") && point == Path::new("/sys/fs/cgroup") {
                v2 = Some(point);
            } else if kind == Some("cgroup")
                && point.starts_with("/sys/fs/cgroup")
            {
                for option in options.split(',') {
                    if !matches!(option, "rw" | "ro" | "xattr") {
                        v1.entry(option.to_owned())
                            .or_insert_with(|| point.clone());
                    }
                }
            }
        }
        match v2 {
            Some(point) => Some(Layout::V2(point)),
            None if v1.contains_key("memory") => Some(Layout::V1(v1)),
            None => None,
        }
    }

    pub(crate) fn is_unified(&self) -> bool {
        matches!(self, Layout::V2(_))
    }

    /// The directory of a group under one controller, if there is one.
    pub(crate) fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let mount = match self {
            Layout::V1(mounts) => mounts.get(controller)?,
            Layout::V2(mount) => mount,
        };
        Some(mount.join(path.trim_start_matches('/')))
    }

    /// Every directory the group has, each once.
    pub(crate) fn dirs(&self, path: &str) -> Vec<PathBuf> {
        let below = |mount: &PathBuf| mount.join(path.trim_start_matches('/'));
        let mut dirs: Vec<PathBuf> = match self {
            Layout::V1(mounts) => mounts.values().map(below).collect(),
            Layout::V2(mount) => vec![below(mount)],
        };
        dirs.sort();
        dirs.dedup();
        dirs
    }

    /// Makes a group that holds other groups but no processes.
    ///
    /// On version 1 only the controllers that limit tasks are made here; the
    /// shim makes the rest on its way (cpuset needs its parents filled in).
    pub(crate) fn create_parent(&self, path: &str) -> Result<(), CgroupError> {
        match self {
            Layout::V1(_) => {
                for controller in ["cpu", "memory"] {
                    if let Some(dir) = self.dir(controller, path) {
                        fs::create_dir_all(&dir)
                            .map_err(io_error("create", &dir))?;
                    }
                }
                Ok(())
            }
            Layout::V2(mount) => {
                let mut dir = mount.clone();
                enable_controllers(&dir)?;
                for part in path.split('/').filter(|part| !part.is_empty()) {
                    dir.push(part);
                    match fs::create_dir(&dir) {
                        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                            return Err(io_error("create", &dir)(e));
                        }
                        Ok(()) | Err(_) => enable_controllers(&dir)?,
                    }
                }
                Ok(())
            }
        }
    }

    pub(crate) fn limit_cpu(
        &self,
        path: &str,
        quota_us: Option<u64>,
        shares: Option<u64>,
    ) -> Result<(), CgroupError> {
        let Some(dir) = self.dir("cpu", path) else { return Ok(()) };
        let quota = quota_us.map(|quota| quota.max(CPU_QUOTA_MIN_US));
        match self {
            Layout::V1(_) => {
                if let Some(quota) = quota {
                    write(&dir, "cpu.cfs_period_us", CPU_PERIOD_US)?;
                    write(&dir, "cpu.cfs_quota_us", quota)?;
                }
                if let Some(shares) = shares {
                    write(&dir, "cpu.shares", shares.max(CPU_SHARES_MIN))?;
                }
            }
            Layout::V2(_) => {
                if let Some(quota) = quota {
                    write(&dir, "cpu.max", format!("{quota} {CPU_PERIOD_US}"))?;
                }
                if let Some(shares) = shares {
                    write(&dir, "cpu.weight", weight_of_shares(shares))?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn limit_memory(
        &self,
        path: &str,
        bytes: Option<u64>,
    ) -> Result<(), CgroupError> {
        let (Some(dir), Some(bytes)) = (self.dir("memory", path), bytes) else {
            return Ok(());
        };
        let file = match self {
            Layout::V1(_) => "memory.limit_in_bytes",
            Layout::V2(_) => "memory.max",
        };
        write(&dir, file, bytes.max(MEMORY_MIN_BYTES))
    }

    /// Process ids in the group itself (not below); none if it is gone.
    pub(crate) fn processes(&self, path: &str) -> Vec<i32> {
        // Any hierarchy would do: a process is in all of a container's groups.
        let Some(dir) = self.dir("memory", path) else { return vec![] };
        let text = fs::read_to_string(dir.join("cgroup.procs"));
        let lines = text.unwrap_or_default();
        lines.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Sends SIGKILL to everything in the group, once.
    pub(crate) fn kill(&self, path: &str) {
        if let Layout::V2(mount) = self {
            let file = mount.join(path.trim_start_matches('/'));
            if fs::write(file.join("cgroup.kill"), "1").is_ok() {
                return;
            }
        }
        for pid in self.processes(path) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
        }
    }

    /// Kills what is left in the group and below, then removes all of it.
    ///
    /// A killed process stays in its group until it is gone, so this waits
    /// for it, a few milliseconds as a rule and never without end.
    pub(crate) fn remove_tree(&self, path: &str) -> Result<(), CgroupError> {
        for dir in self.dirs(path) {
            let mut below = vec![dir];
            let mut next = 0;
            while let Some(dir) = below.get(next).cloned() {
                next += 1;
                let Ok(entries) = fs::read_dir(&dir) else { continue };
                let is_dir = |e: &fs::DirEntry| {
                    e.file_type().is_ok_and(|kind| kind.is_dir())
                };
                below
                    .extend(entries.flatten().filter(is_dir).map(|e| e.path()));
            }
            for dir in below.iter().rev() {
                remove_group(dir)?;
            }
        }
        Ok(())
    }

    /// Moves the calling process out of the daemon's group, if that is one a
    /// service manager would kill as a whole when the daemon restarts.
    ///
    /// Managers go by the unified hierarchy or by the one named `systemd`;
    /// being in the root of these needs no move, and a move is not free.
    pub(crate) fn shelter(&self, path: &str) -> Result<(), CgroupError> {
        let file = Path::new("/proc/self/cgroup");
        let own = fs::read_to_string(file).map_err(io_error("read", file))?;
        for line in own.lines() {
            let mount = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
                ["0", "", at] if at != "/" => match self {
                    Layout::V2(mount) => mount.clone(),
                    Layout::V1(_) => PathBuf::from("/sys/fs/cgroup/unified"),
                },
                [_, "name=systemd", at] if at != "/" => {
                    PathBuf::from("/sys/fs/cgroup/systemd")
                }
                _ => continue,
            };
            if mount.join("cgroup.procs").exists() {
                let dir = mount.join(path.trim_start_matches('/'));
                fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
                write(&dir, "cgroup.procs", 0)?;
            }
        }
        Ok(())
    }

    /// Moves the calling process into the group, in every hierarchy it has.
    pub(crate) fn enter(&self, path: &str) -> Result<(), CgroupError> {
        for dir in self.dirs(path).iter().filter(|dir| dir.is_dir()) {
            write(dir, "cgroup.procs", 0)?;
        }
        Ok(())
    }
}

/// Removes one empty group, killing and waiting for what is still in it.
fn remove_group(dir: &Path) -> Result<(), CgroupError> {
    let mut waited = Duration::ZERO;
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if waited >= EMPTY_WITHIN => {
                return Err(io_error("remove", dir)(e));
            }
            Err(_) => {}
        }
        let text = fs::read_to_string(dir.join("cgroup.procs"));
        for pid in text.unwrap_or_default().lines() {
            if let Ok(pid) = pid.parse::<i32>() {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
            }
        }
        std::thread::sleep(EMPTY_POLL);
        waited += EMPTY_POLL;
    }
}

/// Hands every controller the group has down to its children.
///
/// One at a time: a controller that cannot be enabled (realtime processes
/// forbid `cpu`) must not keep the others from being so.
fn enable_controllers(dir: &Path) -> Result<(), CgroupError> {
    let file = dir.join("cgroup.controllers");
    let have = fs::read_to_string(&file).map_err(io_error("read", &file))?;
    for controller in have.split_whitespace() {
        let _ = fs::write(
            dir.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
    Ok(())
}

/// Turns version 1 shares (2 to 262144) into a version 2 weight (1 to 10000).
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(CPU_SHARES_MIN, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

fn write(
    dir: &Path,
    file: &str,
    value: impl ToString,
) -> Result<(), CgroupError> {
    let path = dir.join(file);
    fs::write(&path, value.to_string()).map_err(io_error("write", &path))
}

fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_is_version_1_and_shared_mounts_count_once() {
        let layout = Layout::from_mountinfo(HYBRID).unwrap();
        assert!(!layout.is_unified());
        assert_eq!(
            layout.dir("cpuacct", "/m/t").unwrap(),
            Path::new("/sys/fs/cgroup/cpu,cpuacct/m/t")
        );
        assert_eq!(layout.dirs("/m").len(), 3);
    }

    #[test]
    fn a_unified_host_is_version_2() {
        let text = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let layout = Layout::from_mountinfo(text).unwrap();
        assert!(layout.is_unified());
        assert_eq!(
            layout.dir("cpu", "/m/t").unwrap(),
            Path::new("/sys/fs/cgroup/m/t")
        );
        assert_eq!(Layout::from_mountinfo("nonsense\n\n"), None);
    }

    #[test]
    fn weights_span_the_whole_range() {
        assert_eq!(weight_of_shares(0), 1);
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }
}
