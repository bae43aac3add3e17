//! Real loop devices and file systems, in a mount namespace of the test's.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use minato_engine::volume::{
    Format, MountOptions, VolumeError, VolumeSource, is_mount_point, mount,
    support, unmount,
};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

const MIB: u64 = 1 << 20;

/// Runs a test in a mount namespace that goes with its thread.
fn apart(test: impl FnOnce(&Path) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let run = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, private, none).unwrap();
        test(&path);
    });
    run.join().unwrap();
}

fn image(dir: &Path, mib: u64, format: Format) -> VolumeSource {
    let file = dir.join("vol.img");
    VolumeSource::Image { file, bytes: mib * MIB, format, mode: 0o775 }
}

/// Loop devices that have a file of a directory behind them.
fn devices(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/sys/block").unwrap();
    let files = entries.filter_map(|entry| {
        let file = entry.unwrap().path().join("loop/backing_file");
        Some(PathBuf::from(fs::read_to_string(file).ok()?.trim()))
    });
    files.filter(|file| file.starts_with(dir)).collect()
}

/// The kernel clears a device a moment after its last user is gone.
fn wait_no_device(dir: &Path) {
    const LOOKS: usize = 2000;
    for _ in 0..LOOKS {
        if devices(dir).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("still there: {:?}", devices(dir));
}

/// Writes until there is no more room; how much went.
fn fill(dir: &Path) -> u64 {
    let mut file = fs::File::create(dir.join("fill")).unwrap();
    let block = vec![7_u8; 1 << 20];
    let mut written = 0;
    loop {
        match file.write_all(&block).and_then(|()| file.sync_data()) {
            Ok(()) => written += MIB,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                return written;
            }
        }
    }
}

#[test]
fn an_image_has_its_size_and_keeps_its_files() {
    apart(|dir| {
        assert!(support().ext4, "mkfs.ext4 and loop devices are there");
        let source = image(dir, 64, Format::Ext4);
        let place = dir.join("place");
        mount(&source, &place).unwrap();
        assert!(is_mount_point(&place).unwrap());
        let mode = fs::metadata(&place).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o775);
        let written = fill(&place);
        assert!((40 * MIB..64 * MIB).contains(&written), "{written}");
        fs::remove_file(place.join("fill")).unwrap();
        fs::write(place.join("data"), "kept").unwrap();
        // Again: nothing happens, no second device.
        mount(&source, &place).unwrap();
        assert_eq!(devices(dir).len(), 1);
        for _ in 0..2 {
            unmount(&place).unwrap();
            assert!(!place.exists());
        }
        wait_no_device(dir);
        mount(&source, &place).unwrap();
        assert_eq!(fs::read(place.join("data")).unwrap(), b"kept");
        unmount(&place).unwrap();
        wait_no_device(dir);
    });
}

#[test]
fn a_file_has_one_device_however_often_it_is_mounted() {
    apart(|dir| {
        let source = image(dir, 16, Format::Ext3);
        let (one, two) = (dir.join("one"), dir.join("two"));
        mount(&source, &one).unwrap();
        mount(&source, &two).unwrap();
        assert_eq!(devices(dir).len(), 1);
        fs::write(one.join("data"), "same").unwrap();
        assert_eq!(fs::read(two.join("data")).unwrap(), b"same");
        for place in [&one, &two] {
            unmount(place).unwrap();
        }
        wait_no_device(dir);
    });
}

#[test]
fn a_place_in_use_is_taken_out_of_sight() {
    apart(|dir| {
        let source = image(dir, 16, Format::Scratch);
        let place = dir.join("place");
        mount(&source, &place).unwrap();
        let open = fs::File::create(place.join("open")).unwrap();
        unmount(&place).unwrap();
        assert!(!place.exists());
        assert_eq!(devices(dir).len(), 1, "as long as the file is open");
        drop(open);
        wait_no_device(dir);
    });
}

#[test]
fn xfs_where_its_program_is() {
    apart(|dir| {
        let source = image(dir, 512, Format::Xfs);
        let place = dir.join("place");
        let mounted = mount(&source, &place);
        if support().xfs {
            mounted.unwrap();
            fs::write(place.join("data"), "").unwrap();
            unmount(&place).unwrap();
            wait_no_device(dir);
        } else {
            let error = mounted.unwrap_err();
            assert!(matches!(error, VolumeError::NoProgram { .. }), "{error}");
        }
    });
}

#[test]
fn what_failed_leaves_nothing() {
    apart(|dir| {
        // Too small for any file system.
        let source = VolumeSource::Image {
            file: dir.join("vol.img"),
            bytes: 512,
            format: Format::Ext4,
            mode: 0o755,
        };
        let place = dir.join("place");
        let error = mount(&source, &place).unwrap_err();
        assert!(matches!(error, VolumeError::Make { .. }), "{error}");
        unmount(&place).unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    });
}

fn tmpfs(options: MountOptions, siblings: Option<&Path>) -> VolumeSource {
    let siblings = siblings.map(Path::to_owned);
    VolumeSource::Tmpfs { options, siblings }
}

#[test]
fn memory_is_shared_until_the_last_one_leaves() {
    apart(|dir| {
        let options = MountOptions::parse("size=1m");
        let shared = tmpfs(options.clone(), Some(dir));
        let [one, two] =
            ["one", "two"].map(|task| dir.join(task).join("cache"));
        mount(&shared, &one).unwrap();
        fs::write(one.join("data"), "shared").unwrap();
        mount(&shared, &two).unwrap();
        unmount(&one).unwrap();
        assert_eq!(fs::read(two.join("data")).unwrap(), b"shared");
        mount(&tmpfs(options, None), &one).unwrap();
        assert!(!one.join("data").exists());
        unmount(&one).unwrap();
        unmount(&two).unwrap();
        mount(&shared, &one).unwrap();
        assert!(!one.join("data").exists());
        unmount(&one).unwrap();
    });
}

#[test]
fn memory_has_its_size_and_nfs_its_error() {
    apart(|dir| {
        let place = dir.join("place");
        let options = MountOptions::parse("size=2m,mode=1777,noexec");
        mount(&tmpfs(options, None), &place).unwrap();
        assert_eq!(fill(&place), 2 * MIB);
        unmount(&place).unwrap();
        let options = MountOptions::parse("size=nonsense");
        let error = mount(&tmpfs(options, None), &place);
        let error = error.unwrap_err();
        assert!(matches!(error, VolumeError::Mount { .. }), "{error}");
        if !support().nfs {
            let source = VolumeSource::Nfs {
                kind: "nfs4".into(),
                device: "127.0.0.1:/".into(),
                options: MountOptions::parse("addr=127.0.0.1"),
            };
            let error = mount(&source, &place).unwrap_err();
            assert_eq!(error.to_string(), "this host's kernel has no nfs4");
        }
        unmount(&place).unwrap();
    });
}
