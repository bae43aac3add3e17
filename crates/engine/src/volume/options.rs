//! Mount options as people write them.

use nix::mount::MsFlags;

/// Options as the kernel takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Those that hold for every file system.
    pub(super) flags: MsFlags,
    /// The rest, which the file system reads.
    pub(super) data: String,
}

impl MountOptions {
    /// Reads a list with commas, as in `/etc/fstab` and in the option `o` of
    /// Docker's driver `local`. What is no option of all file systems is left
    /// to the one that is mounted, which refuses what it does not know.
    pub fn parse(list: &str) -> MountOptions {
        let mut flags = MsFlags::empty();
        let mut data = vec![];
        for option in list.split(',').map(str::trim) {
            match flag(option) {
                Some((flag, true)) => flags.insert(flag),
                Some((flag, false)) => flags.remove(flag),
                None if option.is_empty() || option == "defaults" => {}
                None => data.push(option),
            }
        }
        MountOptions { flags, data: data.join(",") }
    }

    /// What the file system reads.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Whether nothing may be written.
    pub fn is_read_only(&self) -> bool {
        self.flags.contains(MsFlags::MS_RDONLY)
    }
}

/// The flag an option stands for, and whether it sets it.
fn flag(option: &str) -> Option<(MsFlags, bool)> {
    Some(match option {
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        _ => return None,
    })
}
