//! `minato doctor`: what this machine lacks, and what mends it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::args::DoctorArgs;
use crate::home::Home;
use crate::out::say;

/// What one look found.
enum Finding {
    /// All is well; what was seen.
    Fine(String),
    /// Something works less well; why, and what mends it.
    Warning(String, &'static str),
    /// Minato cannot work; why, and what mends it.
    Broken(String, &'static str),
}

/// One thing to look at.
struct Check {
    name: &'static str,
    look: fn(&Home) -> Finding,
}

const CHECKS: &[Check] = &[
    Check { name: "user", look: root },
    Check { name: "kernel", look: kernel },
    Check { name: "cgroups", look: cgroups },
    Check { name: "overlayfs", look: overlay },
    Check { name: "network namespaces", look: namespaces },
    Check { name: "network", look: network },
    Check { name: "firewalls", look: firewalls },
    Check { name: "seccomp", look: seccomp },
    Check { name: "name servers", look: name_servers },
    Check { name: "disk", look: disk },
    Check { name: "EBS volumes", look: volumes },
    Check { name: "AWS CLI", look: aws_cli },
];

pub(crate) fn run(home: &Home, args: DoctorArgs) -> Result<ExitCode> {
    if args.coverage {
        say!("{}", minato_control::coverage::markdown().trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut is_broken = false;
    for check in CHECKS {
        let (mark, text, cure) = match (check.look)(home) {
            Finding::Fine(text) => ("ok  ", text, None),
            Finding::Warning(text, cure) => ("warn", text, Some(cure)),
            Finding::Broken(text, cure) => {
                is_broken = true;
                ("FAIL", text, Some(cure))
            }
        };
        say!("{mark}  {}: {text}", check.name)?;
        if let Some(cure) = cure {
            say!("      mend it: {cure}")?;
        }
    }
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn root(_: &Home) -> Finding {
    if nix::unistd::geteuid().is_root() {
        Finding::Fine("root".to_owned())
    } else {
        Finding::Broken(
            "Minato makes namespaces, mounts and control groups, for which \
             it must be root"
                .to_owned(),
            "run it with sudo",
        )
    }
}

/// The oldest kernel that Minato is tested for.
const KERNEL_MIN: (u32, u32) = (5, 15);

fn kernel(_: &Home) -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    let release = release.unwrap_or_default().trim().to_owned();
    match version(&release) {
        Some(found) if found >= KERNEL_MIN => Finding::Fine(release),
        _ => Finding::Broken(
            format!("{release} is older than 5.15"),
            "upgrade the kernel; Debian 12 and Ubuntu 22.04 have one",
        ),
    }
}

/// The first two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn cgroups(_: &Home) -> Finding {
    match minato_engine::cgroup::Cgroups::open("/minato-doctor") {
        Ok(cgroups) if cgroups.is_unified() => {
            Finding::Fine("version 2".to_owned())
        }
        Ok(_) => Finding::Fine("version 1".to_owned()),
        Err(error) => Finding::Broken(
            error.to_string(),
            "mount them: mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

fn overlay(_: &Home) -> Finding {
    has_filesystem("overlay", "modprobe overlay")
}

fn has_filesystem(name: &str, cure: &'static str) -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_known =
        known.lines().any(|line| line.split_whitespace().last() == Some(name));
    if is_known {
        Finding::Fine("in the kernel".to_owned())
    } else {
        Finding::Broken(format!("the kernel has no {name}"), cure)
    }
}

fn namespaces(_: &Home) -> Finding {
    if Path::new("/proc/self/ns/net").exists() {
        Finding::Fine("in the kernel".to_owned())
    } else {
        Finding::Broken(
            "the kernel has no network namespaces".to_owned(),
            "use a kernel with CONFIG_NET_NS",
        )
    }
}

/// Tries out a bridge, an interface pair and a published port, in namespaces
/// that are gone afterwards.
fn network(_: &Home) -> Finding {
    if !nix::unistd::geteuid().is_root() {
        let text = "only root can try it out".to_owned();
        return Finding::Warning(text, "run minato doctor with sudo");
    }
    match minato_engine::network::probe() {
        Ok(()) => Finding::Fine(
            "bridges, interface pairs and nftables work".to_owned(),
        ),
        Err(error) => Finding::Broken(
            chain(&error),
            "modprobe -a bridge veth nf_tables nft_fib_inet nft_masq nft_nat",
        ),
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn firewalls(home: &Home) -> Finding {
    const CURE: &str = "let it forward packets of Minato's bridges as said";
    match minato_engine::network::closed_firewalls(home.name()) {
        Ok(closed) if closed.is_empty() => {
            Finding::Fine("none in the way".to_owned())
        }
        Ok(closed) => Finding::Warning(closed.join("; "), CURE),
        Err(error) => Finding::Warning(chain(&error), CURE),
    }
}

/// What tasks with EBS volumes or ephemeralStorage need.
fn volumes(_: &Home) -> Finding {
    let support = minato_engine::volume::support();
    match (support.ext4, support.xfs) {
        (true, true) => Finding::Fine("ext4 and xfs can be made".to_owned()),
        (true, false) => Finding::Warning(
            "no xfs can be made, which volumes are where nothing else is said"
                .to_owned(),
            "install the package xfsprogs, or say filesystemType ext4",
        ),
        (false, _) => Finding::Warning(
            "tasks cannot have EBS volumes or ephemeralStorage: there are no \
             loop devices, or no mkfs.ext4"
                .to_owned(),
            "modprobe loop, and install the packages e2fsprogs and xfsprogs",
        ),
    }
}

/// Less than this and the first larger image may not fit, in bytes.
const DISK_MIN: u64 = 2 << 30;

fn disk(home: &Home) -> Finding {
    // The data directory need not exist yet: the disk it will be on does.
    let there = home.dir().ancestors().find(|path| path.exists());
    let there = there.unwrap_or(Path::new("/"));
    let found = nix::sys::statvfs::statvfs(there);
    let free = found.map_or(0, |found| {
        found.blocks_available().saturating_mul(found.fragment_size())
    });
    let text =
        format!("{:.1} GiB free for {}", gib(free), home.dir().display());
    if free >= DISK_MIN {
        return Finding::Fine(text);
    }
    Finding::Warning(
        text,
        "minato image rm what is not needed, or choose another --data-dir",
    )
}

#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn seccomp(_: &Home) -> Finding {
    let actions = "/proc/sys/kernel/seccomp/actions_avail";
    if Path::new(actions).exists() {
        Finding::Fine("in the kernel".to_owned())
    } else {
        Finding::Broken(
            "the kernel has no seccomp filters".to_owned(),
            "use a kernel with CONFIG_SECCOMP_FILTER",
        )
    }
}

fn name_servers(_: &Home) -> Finding {
    const CURE: &str = "put one that other machines reach into \
        /etc/resolv.conf, or give dnsServers in the task definition";
    match minato_engine::network::resolv_conf() {
        Ok(found) => {
            let servers = found.nameservers.iter().map(ToString::to_string);
            Finding::Fine(servers.collect::<Vec<_>>().join(", "))
        }
        Err(error) => Finding::Warning(error.to_string(), CURE),
    }
}

fn aws_cli(_: &Home) -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("aws"))
        .find(|path| path.is_file());
    match found {
        Some(path) => Finding::Fine(path.display().to_string()),
        None => Finding::Warning(
            "not found; `minato run`, `ps` and `logs` work without it"
                .to_owned(),
            "pip install awscli",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.4.0"), Some((5, 4)));
        assert!(version("5.4.0") < Some(KERNEL_MIN));
        assert_eq!(version("x"), None);
    }
}
