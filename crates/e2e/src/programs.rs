//! The programs and the images that tests use; built if they are missing.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The image that every site has.
pub const IMAGE: &str = "minato-example/web:1";

/// The images of [`standin_archives`]: one of Docker Hub, one of ECR.
pub const STANDINS: [&str; 2] = [
    "minato-example/standin:1",
    "000000000000.dkr.ecr.us-east-1.amazonaws.com/standin:1",
];

/// Busybox's commands that tests' containers use.
const APPLETS: [&str; 19] = [
    "sh", "httpd", "echo", "cat", "sleep", "hostname", "wget", "nc", "ls",
    "env", "true", "dd", "stty", "tty", "id", "wc", "head", "tr", "grep",
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
    ARCHIVE.get_or_init(|| {
        let more = ["--cmd", "/bin/sh"];
        kept(IMAGE, &more, &[], "e2e-image.tar")
    })
}

/// Archives of [`STANDINS`], which stand in for images that cannot be had:
/// they run until they are told to stop, whatever their arguments are. Made
/// once.
pub fn standin_archives() -> &'static [PathBuf; 2] {
    static ARCHIVES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    ARCHIVES.get_or_init(|| {
        let more = ["--entrypoint", "/stay"];
        [(0, "e2e-standin.tar"), (1, "e2e-standin-ecr.tar")]
            .map(|(index, file)| kept(STANDINS[index], &more, &SCRIPTS, file))
    })
}

/// Waits, and ends at once when asked to.
const STAY: &str = "#!/bin/sh\n\
                    trap 'exit 0' TERM INT\n\
                    while :; do sleep 1 & wait $!; done\n";

/// What [`STANDINS`] have besides busybox.
const SCRIPTS: [(&str, &str); 3] = [
    ("stay", STAY),
    ("usr/local/bin/docker-entrypoint.sh", STAY),
    // What is asked for its health is well.
    ("bin/curl", "#!/bin/sh\necho '\"state\": \"LIVE\"'\n"),
];

/// An archive beside the programs: nobody drops what is static, so a
/// temporary directory would stay behind.
fn kept(
    name: &str,
    more: &[&str],
    scripts: &[(&str, &str)],
    file: &str,
) -> PathBuf {
    let made = target().and_then(|target| {
        let archive = target.join(file);
        build(name, more, scripts, &archive)?;
        Ok(archive)
    });
    match made {
        Ok(archive) => archive,
        Err(error) => panic!("no image for the tests: {error:#}"),
    }
}

/// Makes an archive of busybox under a name, with further arguments of
/// `mkimage`.
pub fn make_image(name: &str, more: &[&str], archive: &Path) -> Result<()> {
    build(name, more, &[], archive)
}

fn build(
    name: &str,
    more: &[&str],
    scripts: &[(&str, &str)],
    archive: &Path,
) -> Result<()> {
    let mkimage = built(
        "examples/mkimage",
        &["-p", "minato-engine", "--example", "mkimage"],
    )?;
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    for dir in ["bin", "etc", "tmp", "usr/local/bin"] {
        std::fs::create_dir_all(root.join(dir))?;
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox"))
        .context("the package busybox-static is missing")?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    for (path, text) in scripts {
        let path = root.join(path);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
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
