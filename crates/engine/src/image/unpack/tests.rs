use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
};

use tar::{EntryType, Header};
use tempfile::TempDir;

use super::*;

/// Builds archives that a well-meaning builder would refuse to.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(vec![]))
    }

    fn header(kind: EntryType, name: &str, link: &str) -> Header {
        let mut header = Header::new_gnu();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(1_000_000);
        header
    }

    fn add(mut self, mut header: Header, data: &[u8]) -> Tar {
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Tar {
        self.add(Tar::header(EntryType::Regular, name, ""), data)
    }

    fn dir(self, name: &str) -> Tar {
        let mut header = Tar::header(EntryType::Directory, name, "");
        header.set_mode(0o750);
        self.add(header, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Tar {
        self.add(Tar::header(EntryType::Symlink, name, target), b"")
    }

    fn hardlink(self, name: &str, target: &str) -> Tar {
        self.add(Tar::header(EntryType::Link, name, target), b"")
    }

    fn device(
        self,
        kind: EntryType,
        name: &str,
        major: u32,
        minor: u32,
    ) -> Tar {
        let mut header = Tar::header(kind, name, "");
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.add(header, b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn unpack(self) -> Outcome {
        self.unpack_within(&UnpackLimits::default())
    }

    fn unpack_within(self, limits: &UnpackLimits) -> Outcome {
        unpack_bytes(&self.bytes(), limits)
    }
}

fn unpack_bytes(bytes: &[u8], limits: &UnpackLimits) -> Outcome {
    let outer = TempDir::new().unwrap();
    let root = outer.path().join("fs");
    fs::create_dir(&root).unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    let result = unpack(&mut &bytes[..], &root, limits);
    // Whatever happened, nothing outside of the root has changed.
    let secret = fs::read_to_string(outer.path().join("secret")).unwrap();
    assert_eq!(secret, "secret");
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2);
    Outcome { _outer: outer, root, result }
}

struct Outcome {
    _outer: TempDir,
    root: std::path::PathBuf,
    result: Result<Unpacked, UnpackLayerError>,
}

impl Outcome {
    fn ok(self) -> Outcome {
        self.result.as_ref().unwrap();
        self
    }

    fn error(&self) -> String {
        let error = self.result.as_ref().unwrap_err();
        let source = std::error::Error::source(error);
        source.map_or(error.to_string(), |s| format!("{error}: {s}"))
    }

    fn stat(&self, name: &str) -> fs::Metadata {
        fs::symlink_metadata(self.root.join(name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.root.join(name)).is_ok()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).unwrap()
    }

    fn is_whiteout(&self, name: &str) -> bool {
        let stat = self.stat(name);
        stat.file_type().is_char_device() && stat.rdev() == 0
    }

    fn xattr(&self, name: &str, attribute: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 256];
        let path = self.root.join(name);
        let n = rustix::fs::lgetxattr(path, attribute, &mut value[..]).ok()?;
        value.truncate(n);
        Some(value)
    }

    fn is_opaque(&self, name: &str) -> bool {
        self.xattr(name, "trusted.overlay.opaque").as_deref() == Some(b"y")
    }
}

#[test]
fn files_directories_links_and_their_metadata_come_out_as_packed() {
    let mut header = Tar::header(EntryType::Regular, "bin/su", "");
    header.set_mode(0o4755);
    header.set_uid(1234);
    header.set_gid(5678);
    let out = Tar::new()
        .dir("./")
        .dir("bin")
        .add(header, b"#!")
        .symlink("bin/sh", "/bin/su")
        .hardlink("bin/also", "bin/su")
        .file("not/listed/parent", b"x")
        .device(EntryType::Fifo, "pipe", 0, 0)
        .device(EntryType::Char, "null", 1, 3)
        .unpack()
        .ok();
    let su = out.stat("bin/su");
    assert_eq!(su.permissions().mode() & 0o7777, 0o4755);
    assert_eq!((su.uid(), su.gid(), su.mtime()), (1234, 5678, 1_000_000));
    assert_eq!(su.ino(), out.stat("bin/also").ino());
    assert_eq!(
        fs::read_link(out.root.join("bin/sh")).unwrap().to_str(),
        Some("/bin/su")
    );
    assert_eq!(out.stat("bin/sh").mtime(), 1_000_000);
    // Directories get their times after their files.
    assert_eq!(out.stat("bin").mtime(), 1_000_000);
    assert_eq!(out.stat("").mtime(), 1_000_000);
    assert_eq!(out.stat("").permissions().mode() & 0o7777, 0o750);
    assert_eq!(out.stat("not").permissions().mode() & 0o7777, 0o755);
    assert!(out.stat("pipe").file_type().is_fifo());
    assert_eq!(out.stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(out.result.unwrap(), Unpacked { bytes: 3, entries: 8 });
}

#[test]
fn whiteouts_hide_what_is_below_and_never_their_own_layer() {
    let out = Tar::new()
        .file("a/.wh.gone", b"")
        .file("b/.wh..wh..opq", b"")
        .file("b/kept", b"kept")
        .file("own", b"own")
        .file(".wh.own", b"")
        .dir("tree")
        .file("tree/x", b"x")
        .file(".wh.tree", b"")
        .file(".wh.later", b"")
        .file("later/file", b"x")
        .file(".wh.again", b"")
        .dir("again")
        .file(".wh..wh.plnk", b"")
        .unpack()
        .ok();
    assert!(out.is_whiteout("a/gone"));
    assert!(out.is_opaque("b") && out.read("b/kept") == "kept");
    assert_eq!(out.read("own"), "own");
    assert!(out.is_opaque("tree") && out.has("tree/x"));
    assert!(out.is_opaque("later") && out.has("later/file"));
    assert!(out.is_opaque("again") && !out.is_opaque("a"));
    assert!(!out.has(".wh..wh.plnk"));
}

#[test]
fn names_that_climb_out_are_refused() {
    for name in ["../secret", "a/../../secret", "/../secret", ".."] {
        let error = Tar::new().file(name, b"pwned").unpack().error();
        assert!(error.contains("outside of its root"), "{name}: {error}");
    }
    for target in ["../secret", "../../etc/passwd"] {
        let out = Tar::new().hardlink("link", target).unpack();
        assert!(out.error().contains("outside"), "{}", out.error());
    }
    let odd = Tar::new().file(".wh...", b"").unpack();
    assert!(odd.error().contains("invalid name"), "{}", odd.error());
}

#[test]
fn absolute_names_and_harmless_dots_stay_inside() {
    let out = Tar::new()
        .file("/etc/passwd", b"mine")
        .file("./a/./b/../c", b"c")
        .unpack()
        .ok();
    assert_eq!(out.read("etc/passwd"), "mine");
    assert_eq!(out.read("a/c"), "c");
}

#[test]
fn writing_through_a_planted_link_stays_inside() {
    // Relative, absolute, and to a magic link of /proc.
    let up = Tar::new()
        .symlink("up", "..")
        .file("up/secret", b"pwned")
        .unpack()
        .ok();
    assert_eq!(up.read("secret"), "pwned");
    let far = Tar::new()
        .symlink("far", "../../../../../etc")
        .file("far/x", b"x")
        .unpack();
    assert!(far.result.is_err() && !Path::new("/etc/x").exists());
    let deep = Tar::new()
        .dir("tmp")
        .symlink("abs", "/tmp")
        .file("abs/minato-image-test", b"x")
        .unpack()
        .ok();
    assert!(deep.has("tmp/minato-image-test"));
    assert!(!Path::new("/tmp/minato-image-test").exists());
    let looped = Tar::new().symlink("l", "l").file("l/x", b"").unpack();
    assert!(looped.result.is_err());
    let proc =
        Tar::new().symlink("p", "/proc/self/cwd").file("p/x", b"").unpack();
    assert!(proc.result.is_err());
}

#[test]
fn a_file_in_place_of_a_link_replaces_the_link_itself() {
    let out = Tar::new()
        .symlink("link", "../secret")
        .file("link", b"a file")
        .unpack()
        .ok();
    assert_eq!(out.read("link"), "a file");
    assert!(out.stat("link").is_file());
}

#[test]
fn hardlinks_reach_only_the_layers_own_files() {
    // Through a planted directory link: the kernel keeps it inside.
    let planted =
        Tar::new().symlink("up", "..").hardlink("stolen", "up/secret").unpack();
    assert!(planted.result.is_err() && !planted.has("stolen"));
    // To a link: the link is linked, not what it points to.
    let link =
        Tar::new().symlink("s", "/etc/passwd").hardlink("t", "s").unpack().ok();
    assert!(link.stat("t").is_symlink());
    let directory = Tar::new().dir("d").hardlink("e", "d").unpack();
    assert!(directory.result.is_err());
    let missing = Tar::new().hardlink("e", "missing").unpack();
    assert!(missing.error().contains("could not unpack e"));
    let itself = Tar::new().file("f", b"f").hardlink("f", "f").unpack().ok();
    assert_eq!(itself.read("f"), "f");
}

#[test]
fn a_directory_replaced_by_a_link_does_not_lead_outside() {
    let out = Tar::new()
        .dir("d")
        .file("d/inside", b"1")
        .symlink("d", "..")
        .file("d/secret", b"2")
        .unpack()
        .ok();
    assert!(out.stat("d").is_symlink() && !out.has("inside"));
    assert_eq!(out.read("secret"), "2");
    let back =
        Tar::new().symlink("d", "..").dir("d").file("d/x", b"x").unpack().ok();
    assert!(back.stat("d").is_dir() && back.has("d/x"));
    let root = Tar::new().symlink("./", "/etc").unpack();
    assert!(root.error().contains("invalid name"), "{}", root.error());
}

#[test]
fn a_file_as_parent_is_an_error() {
    let out = Tar::new().file("f", b"").file("f/x", b"").unpack();
    assert!(out.error().contains("could not unpack f/x"), "{}", out.error());
    let dangling = Tar::new().symlink("s", "nowhere").file("s/x", b"").unpack();
    assert!(dangling.result.is_err());
}

#[test]
fn devices_of_the_host_are_left_out() {
    let out = Tar::new()
        .device(EntryType::Block, "dev/sda", 8, 0)
        .device(EntryType::Char, "dev/mem", 1, 1)
        .device(EntryType::Char, "dev/kmsg", 1, 11)
        .device(EntryType::Char, "dev/tty", 5, 0)
        .unpack()
        .ok();
    assert!(!out.has("dev/sda") && !out.has("dev/mem") && !out.has("dev/kmsg"));
    assert!(out.has("dev/tty"));
}

#[test]
fn only_harmless_extended_attributes_are_kept() {
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut header = Tar::header(EntryType::Regular, "ping", "");
    header.set_uid(7);
    let out = Tar::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"hi"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("mtime", b"-1.5"),
        ])
        .add(header, b"")
        .unpack()
        .ok();
    // It survives the change of owner, which clears it.
    assert_eq!(
        out.xattr("ping", "security.capability").as_deref(),
        Some(&capability[..])
    );
    assert_eq!(out.xattr("ping", "user.note").as_deref(), Some(&b"hi"[..]));
    assert_eq!(out.xattr("ping", "trusted.overlay.redirect"), None);
    assert_eq!(out.xattr("ping", "user.overlay.opaque"), None);
    let stat = out.stat("ping");
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-2, 500_000_000));
}

#[test]
fn long_names_come_through_in_gnu_and_pax_form() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let mut gnu = tar::Builder::new(vec![]);
    let mut header = Tar::header(EntryType::Regular, "", "");
    header.set_size(1);
    gnu.append_data(&mut header, &long, &b"g"[..]).unwrap();
    let mut link = Tar::header(EntryType::Symlink, "", "");
    gnu.append_link(&mut link, "link", &long).unwrap();
    let bytes = gnu.into_inner().unwrap();
    let out = unpack_bytes(&bytes, &UnpackLimits::default()).ok();
    assert_eq!(out.read("link"), "g");
    let pax = Tar::new()
        .pax(&[("path", long.as_bytes()), ("uid", b"3000000")])
        .file("short", b"p")
        .unpack()
        .ok();
    assert_eq!(pax.read(&long), "p");
    assert_eq!(pax.stat(&long).uid(), 3_000_000);
}

#[test]
fn a_sparse_file_keeps_its_holes() {
    let mut header = Tar::header(EntryType::GNUSparse, "sparse", "");
    let gnu = header.as_gnu_mut().unwrap();
    let octal = |field: &mut [u8], n: u64| {
        field.copy_from_slice(
            format!("{n:0width$o}\0", width = field.len() - 1).as_bytes(),
        );
    };
    let size: u64 = 8 << 20;
    octal(&mut gnu.sparse[0].offset, size - 512);
    octal(&mut gnu.sparse[0].numbytes, 512);
    octal(&mut gnu.realsize, size);
    let out = Tar::new().add(header, &[7; 512]).unpack().ok();
    let stat = out.stat("sparse");
    assert_eq!(stat.len(), size);
    assert!(stat.blocks() < 1024, "{} blocks", stat.blocks());
    let bytes = fs::read(out.root.join("sparse")).unwrap();
    assert!(bytes[..bytes.len() - 512].iter().all(|b| *b == 0));
    assert_eq!(bytes[bytes.len() - 1], 7);
}

#[test]
fn bombs_stop_at_the_limits() {
    let limits =
        UnpackLimits { bytes: 1000, entries: 3, ..UnpackLimits::default() };
    let large = Tar::new().file("f", &[0; 1001]).unpack_within(&limits);
    assert!(large.error().contains("more than 1000 bytes"));
    assert!(!large.has("f"), "refused before it was written");
    let sum = Tar::new().file("f", &[0; 600]).file("g", &[0; 600]);
    assert!(sum.unpack_within(&limits).error().contains("1000 bytes"));
    let many = (0..4).fold(Tar::new(), |tar, n| tar.dir(&format!("{n}")));
    assert!(
        many.unpack_within(&limits).error().contains("more than 3 entries")
    );
    let full = UnpackLimits { reserve_bytes: u64::MAX, ..limits };
    // The reserve is capped at 2 % of the disk, so this still fits.
    Tar::new().file("f", b"x").unpack_within(&full).ok();
}

#[test]
fn a_header_without_end_is_cut_off() {
    let mut header = Tar::header(EntryType::XHeader, "x", "");
    header.set_size(1 << 40);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(bytes.len() + (4 << 20), b'9');
    let out = unpack_bytes(&bytes, &UnpackLimits::default());
    assert!(out.error().contains("header is longer"), "{}", out.error());
}

#[test]
fn a_truncated_archive_is_an_error_wherever_it_ends() {
    let whole = Tar::new()
        .file("a", &[1; 700])
        .pax(&[("mtime", b"1")])
        .file("b", &[2; 700])
        .bytes();
    // Up to the closing zero blocks, every cut inside an entry is noticed.
    for cut in (1..whole.len() - 1024).filter(|cut| cut % 97 == 0) {
        let is_between = cut % 512 == 0;
        let out = unpack_bytes(&whole[..cut], &UnpackLimits::default());
        assert!(out.result.is_err() || is_between, "cut at {cut}");
    }
}

#[test]
fn impossible_owners_and_unknown_kinds_are_refused() {
    let mut header = Tar::header(EntryType::Regular, "f", "");
    header.set_uid(1 << 33);
    let out = Tar::new().add(header, b"").unpack();
    assert!(out.error().contains("impossible uid"), "{}", out.error());
    let odd = Tar::header(EntryType::new(b'Z'), "f", "");
    let out = Tar::new().add(odd, b"").unpack();
    assert!(out.error().contains("unknown type"), "{}", out.error());
    let out = Tar::new().symlink("empty", "").unpack();
    assert!(out.error().contains("link to nothing"), "{}", out.error());
    let sparse = Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("f", b"");
    assert!(sparse.unpack().error().contains("sparse file in PAX form"));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = (u8, String, String)> {
        let name = "(/|\\.\\./|a/|b/|l/|\\.wh\\.){0,4}(a|b|l|secret|\\.\\.|\\.wh\\.a|)";
        (0u8..6, name, name)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// `unpack_bytes` checks that nothing outside changed.
        #[test]
        fn no_sequence_of_entries_leaves_the_root(
            steps in proptest::collection::vec(step(), 1..12)
        ) {
            let mut tar = Tar::new();
            for (kind, name, other) in steps {
                tar = match kind {
                    0 | 1 => tar.file(&name, b"data"),
                    2 => tar.dir(&name),
                    3 | 4 => tar.symlink(&name, &other),
                    _ => tar.hardlink(&name, &other),
                };
            }
            let _ = tar.unpack();
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = unpack_bytes(&bytes, &UnpackLimits::default());
        }
    }
}
