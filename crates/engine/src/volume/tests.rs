use super::*;

#[test]
fn options_are_flags_and_the_rest() {
    let options = MountOptions::parse("size=64m, ro,nosuid,,mode=1777");
    assert!(options.is_read_only());
    assert_eq!(options.data(), "size=64m,mode=1777");
    assert_eq!(options.flags, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID);
    assert!(!MountOptions::parse("ro,rw").is_read_only());
    assert_eq!(MountOptions::parse("defaults").data(), "");
}

#[test]
fn nothing_is_mounted_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!is_mount_point(dir.path()).unwrap());
    assert!(!is_mount_point(&dir.path().join("none")).unwrap());
    assert!(is_mount_point(Path::new("/proc")).unwrap());
}

#[test]
fn unmounting_never_removes_files() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("kept"), "").unwrap();
    unmount(&place).unwrap_err();
    assert!(place.join("kept").exists());
    unmount(&dir.path().join("none")).unwrap();
}
