//! What a Minato has in the kernel, as the kernel tells it; and how to
//! remove it by force.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where a Minato leaves traces.
#[derive(Clone, Debug)]
pub struct Traces {
    /// The short name of its data directory.
    pub name: String,
    /// Its data directory.
    pub data: PathBuf,
}

impl Traces {
    /// Its directory below `/run`.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/minato").join(&self.name)
    }

    /// Its control groups that exist, in every hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let group = format!("minato-{}", self.name);
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = children(root).into_iter().chain([root.to_owned()]);
        hierarchies
            .map(|hierarchy| hierarchy.join(&group))
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Every process in its control groups: containers and their shims.
    pub fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = vec![];
        for root in self.cgroups() {
            for group in tree(&root) {
                let text = fs::read_to_string(group.join("cgroup.procs"));
                let text = text.unwrap_or_default();
                pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Its mounts, the newest first.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut mounts: Vec<PathBuf> = text
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(PathBuf::from)
            .filter(|path| {
                path.starts_with(&self.data) || path.starts_with(self.run_dir())
            })
            .collect();
        mounts.reverse();
        mounts
    }

    /// One line for everything that is there.
    pub fn all(&self) -> Vec<String> {
        let mut found: Vec<String> = vec![];
        for pid in self.processes() {
            let line = fs::read(format!("/proc/{pid}/cmdline"));
            let line = line.unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("process {pid}: {line}"));
        }
        let path =
            |kind: &str, path: &Path| format!("{kind} {}", path.display());
        found.extend(self.cgroups().iter().map(|one| path("cgroup", one)));
        found.extend(self.mounts().iter().map(|one| path("mount", one)));
        if self.run_dir().exists() {
            found.push(path("directory", &self.run_dir()));
        }
        found
    }

    /// Ends and removes everything, as a power cut would; says whether that
    /// succeeded.
    pub fn destroy(&self) -> bool {
        let is_clear = crate::wait_for(Duration::from_secs(20), || {
            for pid in self.processes() {
                // Gone in the meantime is as good.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            for mount in self.mounts() {
                let _ = umount2(&mount, MntFlags::MNT_DETACH);
            }
            for root in self.cgroups() {
                for group in tree(&root).iter().rev() {
                    let _ = fs::remove_dir(group);
                }
            }
            let is_left =
                !self.cgroups().is_empty() || !self.mounts().is_empty();
            (!is_left).then_some(())
        });
        let removed = fs::remove_dir_all(self.run_dir());
        is_clear.is_some() && (removed.is_ok() || !self.run_dir().exists())
    }
}

/// A directory and all below it, parents first.
fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let below = children(&found[at]);
        found.extend(below);
        at += 1;
    }
    found
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
