//! Linux capabilities: their names, and Docker's default set.

use super::Capabilities;

/// Every capability in the order of its bit.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What Docker gives a container that asks for nothing: 14 capabilities.
pub(crate) const DEFAULT: u64 = 0xa804_25fb;
/// All of them.
pub(crate) const ALL: u64 = (1 << NAMES.len()) - 1;
/// The highest bit a kernel may know; unknown ones are dropped too.
pub(crate) const LAST_BIT: u32 = 63;

/// The bit mask of one capability, named with or without `CAP_`.
pub(crate) fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == short).map(|bit| 1 << bit)
}

/// A capability that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no capability {name:?}")]
pub struct UnknownCapability {
    /// The name as given.
    pub name: String,
}

/// Applies drops, then additions, to the default set.
pub(crate) fn resolve(
    changes: &Capabilities,
    privileged: bool,
) -> Result<u64, UnknownCapability> {
    let mask = |names: &[String]| -> Result<u64, UnknownCapability> {
        names.iter().try_fold(0, |mask, name| {
            if name.eq_ignore_ascii_case("ALL") {
                return Ok(ALL);
            }
            match bit(name) {
                Some(bit) => Ok(mask | bit),
                None => Err(UnknownCapability { name: name.clone() }),
            }
        })
    };
    let (add, drop) = (mask(&changes.add)?, mask(&changes.drop)?);
    if privileged {
        return Ok(ALL);
    }
    // Dropping ALL and adding one leaves that one; adding ALL and dropping
    // one leaves all but that one.
    Ok(match (add == ALL, drop == ALL) {
        (true, false) => ALL & !drop,
        _ => (DEFAULT & !drop) | add,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> u64 {
        let list = |names: &[&str]| names.iter().map(|n| (*n).into()).collect();
        resolve(&Capabilities { add: list(add), drop: list(drop) }, false)
            .unwrap()
    }

    #[test]
    fn the_default_set_is_docker_s_fourteen() {
        let fourteen = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FSETID",
            "FOWNER",
            "MKNOD",
            "NET_RAW",
            "SETGID",
            "SETUID",
            "SETFCAP",
            "SETPCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
            "KILL",
            "AUDIT_WRITE",
        ];
        let mask = fourteen.iter().map(|name| bit(name).unwrap()).sum::<u64>();
        assert_eq!(mask, DEFAULT);
    }

    #[test]
    fn additions_and_drops_combine() {
        let admin = bit("SYS_ADMIN").unwrap();
        let chown = bit("chown").unwrap();
        assert_eq!(of(&[], &[]), DEFAULT);
        assert_eq!(
            of(&["CAP_SYS_ADMIN"], &["CHOWN"]),
            DEFAULT & !chown | admin
        );
        assert_eq!(of(&["SYS_ADMIN"], &["ALL"]), admin);
        assert_eq!(of(&["ALL"], &["CHOWN"]), ALL & !chown);
        assert_eq!(of(&["ALL"], &["ALL"]), ALL);
        assert_eq!(of(&[], &["all"]), 0);
        let bad = Capabilities { add: vec!["FLY".into()], drop: vec![] };
        assert!(resolve(&bad, true).is_err());
    }
}
