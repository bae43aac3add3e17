//! A layer, unpacked into a directory: nothing outside of it may change.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use minato_engine::image::{UnpackLimits, fuzzing};

/// The names below a directory, and what its one file holds.
fn guard(dir: &Path) -> (usize, String) {
    let names = std::fs::read_dir(dir).unwrap().count();
    (names, std::fs::read_to_string(dir.join("secret")).unwrap())
}

fuzz_target!(|bytes: &[u8]| {
    // Memory, where there is some: a layer is many small files.
    let base = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(base).unwrap();
    let (outside, root) = (dir.path().join("outside"), dir.path().join("root"));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "untouched").unwrap();
    std::fs::create_dir(&root).unwrap();
    let limits = UnpackLimits {
        bytes: 1 << 20,
        entries: 200,
        ..UnpackLimits::default()
    };
    let _ = fuzzing::unpack_layer(bytes, &root, &limits);
    assert_eq!(guard(&outside), (1, "untouched".to_owned()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    // Deep trees are taken away without recursion.
    minato_engine::tree::remove(&root).unwrap();
});
