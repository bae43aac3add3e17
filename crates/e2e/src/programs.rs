//! The programs and the image that tests use; built if they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The image that every site has.
pub const IMAGE: &str = "minato-example/web:1";

/// Busybox's commands that tests' containers use.
const APPLETS: [&str; 18] = [
    "sh", "httpd", "echo", "cat", "sleep", "hostname", "wget", "nc", "ls",
    "env", "true", "dd", "stty", "tty", "id", "wc", "head", "tr",
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
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| match make_archive() {
        Ok(archive) => archive,
        Err(error) => panic!("no image for the tests: {error:#}"),
    })
}

/// Makes the archive beside the programs: nobody drops what is static, so a
/// temporary directory would stay behind.
fn make_archive() -> Result<PathBuf> {
    make_image(IMAGE, &["--cmd", "/bin/sh"], &target()?.join("e2e-image.tar"))?;
    Ok(target()?.join("e2e-image.tar"))
}

/// Makes an archive of busybox under a name, with further arguments of
/// `mkimage`.
pub fn make_image(name: &str, more: &[&str], archive: &Path) -> Result<()> {
    let mkimage = built(
        "examples/mkimage",
        &["-p", "minato-engine", "--example", "mkimage"],
    )?;
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    for dir in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(root.join(dir))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .context("the package busybox-static is missing")?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let made = dir.path().join("image.tar");
    let status = Command::new(mkimage)
        .args(["--name", name])
        .args(more)
        .arg("--root")
        .arg(&root)
        .arg("-o")
        .arg(&made)
        .status()?;
    ensure!(status.success(), "mkimage failed: {status}");
    // Whole at every moment: other tests may be reading the one of before.
    let fresh = archive.with_extension(std::process::id().to_string());
    std::fs::copy(&made, &fresh)?;
    std::fs::rename(&fresh, archive)?;
    Ok(())
}

/// The directory of the programs that were built beside this test.
fn target() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.parent().and_then(Path::parent);
    Ok(target.context("this test is in no target directory")?.to_owned())
}

/// A program in the target directory of this test.
fn built(name: &str, package: &[&str]) -> Result<PathBuf> {
    let path = target()?.join(name);
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
