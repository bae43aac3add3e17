//! Who a container runs as, looked up in its own `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Most bytes read of `/etc/passwd` or `/etc/group`; an image is not trusted.
const DATABASE_MAX_BYTES: u64 = 1 << 20;
/// The kernel's limit is 65536; nobody's image has more than a handful.
const GROUPS_MAX: usize = 256;

/// A user or group that the image does not have, or cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ResolveUserError {
    /// No such user.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    NoUser {
        /// The name.
        name: String,
    },
    /// No such group.
    #[error("unable to find group {name}: no matching entries in group file")]
    NoGroup {
        /// The name.
        name: String,
    },
    /// The root file system could not be read.
    #[error("could not open {file} in the root file system")]
    Open {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
}

/// A process's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, sorted.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Opens a path inside a root file system: links cannot lead out of it.
pub(crate) fn open_inside(
    root: impl AsFd,
    path: &str,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat2(
        root,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?)
}

/// Resolves `user`, `uid`, `user:group`, `uid:gid`; empty means root.
pub(crate) fn resolve(
    rootfs: &Path,
    user: &str,
    additional_groups: &[String],
) -> Result<Identity, ResolveUserError> {
    let open_error = |file: &str, source| ResolveUserError::Open {
        file: file.to_owned(),
        source,
    };
    let root = File::open(rootfs).map_err(|e| open_error("/", e))?;
    let passwd = read_database(&root, "/etc/passwd")
        .map_err(|e| open_error("/etc/passwd", e))?;
    let group = read_database(&root, "/etc/group")
        .map_err(|e| open_error("/etc/group", e))?;
    resolve_in(&passwd, &group, user, additional_groups)
}

/// A missing file is an empty one: images from scratch have neither.
fn read_database(root: &File, path: &str) -> io::Result<String> {
    let file = match open_inside(root, path, OFlags::RDONLY | OFlags::NONBLOCK)
    {
        Ok(fd) => File::from(fd),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(String::new());
        }
        Err(e) => return Err(e),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = vec![];
    file.take(DATABASE_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(PasswdEntry { name, uid, gid, home })
    })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn resolve_in(
    passwd: &str,
    group: &str,
    user: &str,
    additional_groups: &[String],
) -> Result<Identity, ResolveUserError> {
    let (user, named_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name made of digits may still be a name; the number comes second.
    let entry = passwd_entries(passwd).find(|e| e.name == user).or_else(|| {
        let uid = user.parse::<u32>().ok()?;
        passwd_entries(passwd).find(|e| e.uid == uid)
    });
    let mut identity = match (&entry, user.parse::<u32>()) {
        (Some(entry), _) => Identity {
            uid: entry.uid,
            gid: entry.gid,
            groups: vec![],
            home: entry.home.to_owned(),
        },
        (None, Ok(uid)) => Identity { uid, ..Identity::default() },
        (None, Err(_)) => {
            return Err(ResolveUserError::NoUser { name: user.to_owned() });
        }
    };
    let gid_of = |name: &str| {
        group_entries(group)
            .find(|e| e.name == name)
            .map(|e| e.gid)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| ResolveUserError::NoGroup { name: name.to_owned() })
    };
    if let Some(name) = named_group {
        // An explicit group replaces the memberships, as in Docker.
        identity.gid = gid_of(name)?;
    } else if let Some(entry) = &entry {
        identity.groups = group_entries(group)
            .filter(|g| g.members.split(',').any(|m| m == entry.name))
            .map(|g| g.gid)
            .collect();
    }
    for name in additional_groups {
        identity.groups.push(gid_of(name)?);
    }
    identity.groups.sort_unstable();
    identity.groups.dedup();
    identity.groups.truncate(GROUPS_MAX);
    if identity.home.is_empty() {
        identity.home = "/".to_owned();
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        app:x:1000:1000::/srv/app:/bin/sh\nbroken\n:::\n\
        7:x:70:70::/seven:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\napp:x:1000:\n\
        audio:x:29:app\nbad:x:y:app\n";

    fn of(user: &str, groups: &[&str]) -> Result<Identity, ResolveUserError> {
        let groups: Vec<_> = groups.iter().map(|g| (*g).to_owned()).collect();
        resolve_in(PASSWD, GROUP, user, &groups)
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn names_and_numbers_resolve_as_docker_resolves_them() {
        let app = identity(1000, 1000, &[10, 29], "/srv/app");
        assert_eq!(of("", &[]).unwrap(), identity(0, 0, &[10], "/root"));
        assert_eq!(of("app", &[]).unwrap(), app);
        assert_eq!(of("1000", &[]).unwrap(), app);
        assert_eq!(of("app:", &[]).unwrap(), app);
        assert_eq!(
            of("app:audio", &[]).unwrap(),
            identity(1000, 29, &[], "/srv/app")
        );
        assert_eq!(of("4242:99", &[]).unwrap(), identity(4242, 99, &[], "/"));
        assert_eq!(of("7", &[]).unwrap().uid, 70);
        assert_eq!(of("app", &["5", "audio"]).unwrap().groups, [5, 10, 29]);
        assert!(matches!(of("who", &[]), Err(ResolveUserError::NoUser { .. })));
        assert!(matches!(
            of("app:who", &[]),
            Err(ResolveUserError::NoGroup { .. })
        ));
        assert!(of("-1", &[]).is_err());
    }

    #[test]
    fn databases_are_read_inside_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let link = root.path().join("etc/passwd");
        std::os::unix::fs::symlink("/../../../../etc/mine", link).unwrap();
        std::fs::write(root.path().join("etc/mine"), PASSWD).unwrap();
        assert_eq!(resolve(root.path(), "app", &[]).unwrap().uid, 1000);
    }

    proptest::proptest! {
        #[test]
        fn no_database_or_name_panics(passwd: String, group: String, user: String) {
            let _ = resolve_in(&passwd, &group, &user, &[]);
        }
    }
}
