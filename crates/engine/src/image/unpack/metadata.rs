//! Owner, mode, time and extended attributes of an entry.

use std::{
    ffi::OsStr, fs::File, io, io::Read, os::fd::AsFd, os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    },
    io::Errno,
};

use super::UnpackLayerError;

/// How PAX archives carry extended attributes.
const PAX_XATTR: &str = "SCHILY.xattr.";

pub(super) struct Metadata {
    owner: (Uid, Gid),
    mode: Mode,
    modified: Timespec,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Metadata {
    pub(super) fn read(
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> Result<Metadata, UnpackLayerError> {
        let broken = UnpackLayerError::archive;
        let path = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let header = entry.header();
        let id = |id: u64, name: &str| {
            // -1 is "leave as it is" to chown.
            u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(
                || UnpackLayerError::Unsupported {
                    what: format!("the impossible {name} {id}"),
                    path: path.clone(),
                },
            )
        };
        let old = header.as_old();
        let uid = id(or_zero(&old.uid, || header.uid())?, "uid")?;
        let gid = id(or_zero(&old.gid, || header.gid())?, "gid")?;
        let mode = header.mode().map_err(broken)? & 0o7777;
        let seconds = or_zero(&old.mtime, || header.mtime())?;
        let mut metadata = Metadata {
            owner: (Uid::from_raw(uid), Gid::from_raw(gid)),
            mode: Mode::from_raw_mode(mode),
            modified: Timespec {
                tv_sec: i64::try_from(seconds).unwrap_or(0),
                tv_nsec: 0,
            },
            xattrs: vec![],
        };
        if let Some(extensions) = entry.pax_extensions().map_err(broken)? {
            for extension in extensions {
                let extension = extension.map_err(broken)?;
                let (Ok(key), value) =
                    (extension.key(), extension.value_bytes())
                else {
                    continue;
                };
                metadata.extend(key, value, &path)?;
            }
        }
        Ok(metadata)
    }

    fn extend(
        &mut self,
        key: &str,
        value: &[u8],
        path: &std::path::Path,
    ) -> Result<(), UnpackLayerError> {
        if key == "mtime" {
            if let Some(time) = parse_time(value) {
                self.modified = time;
            }
        } else if key.starts_with("GNU.sparse.") {
            return Err(UnpackLayerError::Unsupported {
                what: "a sparse file in PAX form".to_owned(),
                path: path.to_owned(),
            });
        } else if let Some(name) = key.strip_prefix(PAX_XATTR)
            && is_allowed_xattr(name)
        {
            self.xattrs.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    pub(super) fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: self.modified,
        }
    }

    /// Describes an open file or directory.
    ///
    /// The order matters: a change of owner drops setuid bits and the
    /// capability attribute, so both come after it.
    pub(super) fn apply(&self, file: impl AsFd) -> io::Result<()> {
        let (uid, gid) = self.owner;
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&file, self.mode)?;
        for (name, value) in &self.xattrs {
            let flags = XattrFlags::empty();
            match rustix::fs::fsetxattr(&file, name.as_str(), value, flags) {
                // Docker goes on too: tmpfs and others lack some of them.
                Err(Errno::OPNOTSUPP) => {
                    tracing::warn!(
                        name,
                        "the file system cannot keep an extended attribute"
                    );
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Describes a file and sets its time.
    pub(super) fn apply_to_file(&self, file: &File) -> io::Result<()> {
        self.apply(file)?;
        Ok(rustix::fs::futimens(file, &self.times())?)
    }

    /// Describes what cannot be opened: links, devices, fifos.
    pub(super) fn apply_to_name(
        &self,
        parent: impl AsFd,
        name: &[u8],
        has_mode: bool,
    ) -> io::Result<()> {
        let (uid, gid) = self.owner;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), nofollow)?;
        if has_mode {
            rustix::fs::chmodat(&parent, name, self.mode, AtFlags::empty())?;
        }
        Ok(rustix::fs::utimensat(&parent, name, &self.times(), nofollow)?)
    }
}

/// Reads a numeric field; an empty one is zero, as Go's reader has it.
fn or_zero(
    field: &[u8],
    parse: impl FnOnce() -> io::Result<u64>,
) -> Result<u64, UnpackLayerError> {
    if field.iter().all(|b| matches!(b, 0 | b' ')) {
        return Ok(0);
    }
    parse().map_err(UnpackLayerError::archive)
}

/// Lets through what an image may say about its own files.
///
/// `trusted.*` steers overlayfs itself (a redirect could show other files),
/// `security.selinux` and `security.ima` belong to the host.
fn is_allowed_xattr(name: &str) -> bool {
    let is_user =
        name.starts_with("user.") && !name.starts_with("user.overlay.");
    is_user
        || matches!(
            name,
            "security.capability"
                | "system.posix_acl_access"
                | "system.posix_acl_default"
        )
}

/// Reads PAX's decimal seconds, possibly negative and with a fraction.
fn parse_time(value: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String =
        fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    let is_negative = whole.starts_with('-');
    Some(match (is_negative, nanos) {
        (true, 1..) => Timespec {
            tv_sec: seconds.checked_sub(1)?,
            tv_nsec: 1_000_000_000 - nanos,
        },
        _ => Timespec { tv_sec: seconds, tv_nsec: nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_times_have_fractions_and_signs() {
        let time = |text: &str| {
            parse_time(text.as_bytes()).map(|t| (t.tv_sec, t.tv_nsec))
        };
        assert_eq!(time("12"), Some((12, 0)));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("1.1234567891"), Some((1, 123_456_789)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("x"), None);
        assert_eq!(time("1.-5"), None);
        assert_eq!(time(""), None);
    }
}
