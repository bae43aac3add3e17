//! The programs and the image that tests use; built if they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The image that every site has.
pub const IMAGE: &str = "minato-example/web:1";

/// Busybox's commands that tests' containers use.
const APPLETS: [&str; 12] = [
    "sh", "httpd", "echo", "cat", "sleep", "hostname", "wget", "nc", "ls",
    "env", "true", "dd",
];

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The `minato` binary that was built beside this test.
pub fn minato_program() -> Result<PathBuf> {
    built("minato", &["-p", "minato"])
}

/// An archive of a small image: busybox alone. Made once.
pub fn image_archive() -> &'static Path {
    static ARCHIVE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let made = ARCHIVE.get_or_init(|| match make_archive() {
        Ok(made) => made,
        Err(error) => panic!("no image for the tests: {error:#}"),
    });
    &made.1
}

fn make_archive() -> Result<(tempfile::TempDir, PathBuf)> {
    let mkimage = built(
        "examples/mkimage",
        &["-p", "minato-engine", "--example", "mkimage"],
    )?;
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    for name in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .context("the package busybox-static is missing")?;
    for name in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let archive = dir.path().join("image.tar");
    let status = Command::new(mkimage)
        .args(["--name", IMAGE, "--cmd", "/bin/sh"])
        .arg("--root")
        .arg(&root)
        .arg("-o")
        .arg(&archive)
        .status()?;
    ensure!(status.success(), "mkimage failed: {status}");
    Ok((dir, archive))
}

/// A program in the target directory of this test.
fn built(name: &str, package: &[&str]) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test
        .parent()
        .and_then(Path::parent)
        .context("this test is in no target directory")?;
    let path = target.join(name);
    if !path.exists() {
        let command = format!("cargo build {}", package.join(" "));
        eprintln!("{} is missing: running `{command}`", path.display());
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let status = Command::new(cargo)
            .arg("build")
            .args(package)
            .current_dir(repository())
            .status()?;
        ensure!(
            status.success() && path.exists(),
            "{} is missing and `{command}` did not make it",
            path.display()
        );
    }
    Ok(path)
}
