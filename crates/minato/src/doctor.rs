//! `minato doctor`: what this machine lacks, and what mends it.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::args::DoctorArgs;

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
    look: fn() -> Finding,
}

const CHECKS: &[Check] = &[
    Check { name: "user", look: root },
    Check { name: "kernel", look: kernel },
    Check { name: "cgroups", look: cgroups },
    Check { name: "overlayfs", look: overlay },
    Check { name: "network namespaces", look: namespaces },
    Check { name: "seccomp", look: seccomp },
    Check { name: "name servers", look: name_servers },
    Check { name: "AWS CLI", look: aws_cli },
];

pub(crate) fn run(args: DoctorArgs) -> Result<ExitCode> {
    if args.coverage {
        print!("{}", minato_control::coverage::markdown());
        return Ok(ExitCode::SUCCESS);
    }
    let mut is_broken = false;
    for check in CHECKS {
        let (mark, text, cure) = match (check.look)() {
            Finding::Fine(text) => ("ok  ", text, None),
            Finding::Warning(text, cure) => ("warn", text, Some(cure)),
            Finding::Broken(text, cure) => {
                is_broken = true;
                ("FAIL", text, Some(cure))
            }
        };
        println!("{mark}  {}: {text}", check.name);
        if let Some(cure) = cure {
            println!("      mend it: {cure}");
        }
    }
    Ok(if is_broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn root() -> Finding {
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

fn kernel() -> Finding {
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

fn cgroups() -> Finding {
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

fn overlay() -> Finding {
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

fn namespaces() -> Finding {
    if Path::new("/proc/self/ns/net").exists() {
        Finding::Fine("in the kernel".to_owned())
    } else {
        Finding::Broken(
            "the kernel has no network namespaces".to_owned(),
            "use a kernel with CONFIG_NET_NS",
        )
    }
}

fn seccomp() -> Finding {
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

fn name_servers() -> Finding {
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

fn aws_cli() -> Finding {
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
