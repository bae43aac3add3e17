//! A host of containers of its own for each test, taken down whatever happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use minato_engine::cgroup::Cgroups;
use minato_engine::container::{
    ContainerId, ContainerSpec, Containers, ContainersConfig, Exit, LogEntry,
    LogLine, LogPosition, LogStream,
};
use tempfile::TempDir;

/// Longest any step of a test may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) containers: Containers,
    pub(crate) config: ContainersConfig,
    pub(crate) rootfs: PathBuf,
    dir: Option<TempDir>,
}

static HOSTS: AtomicU32 = AtomicU32::new(0);

/// Says whether the test can run here, and why not.
pub(crate) fn is_possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let busybox = Path::new("/bin/busybox").exists();
    if !root || !busybox {
        eprintln!("skipped: needs root and /bin/busybox");
    }
    root && busybox
}

impl Host {
    pub(crate) async fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("layer");
        make_rootfs(&rootfs);
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let group = format!("/minato-test-{}-{number}", std::process::id());
        let run = PathBuf::from("/run").join(&group[1..]);
        let shim = env!("CARGO_BIN_EXE_minato-shim-test").into();
        let root = dir.path().join("containers");
        let config = ContainersConfig::new(root, run, vec![shim], group);
        let containers = Containers::open(config.clone()).await.unwrap();
        Host { containers, config, rootfs, dir: Some(dir) }
    }

    /// Forgets everything in memory, as a killed daemon does.
    pub(crate) async fn restart(&mut self) {
        self.containers = Containers::open(self.config.clone()).await.unwrap();
    }

    pub(crate) fn spec(&self, name: &str, script: &str) -> ContainerSpec {
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        ContainerSpec::new(id(name), vec![self.rootfs.clone()], args)
    }

    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.config.root.join(name)
    }

    /// Runs a container to its end and returns exit and lines.
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> Ran {
        self.containers.create(spec).await.unwrap();
        self.containers.start(&spec.id).await.unwrap();
        self.finish(&spec.id).await
    }

    pub(crate) async fn finish(&self, id: &ContainerId) -> Ran {
        let exit = within(self.containers.wait(id)).await.unwrap();
        let lines = self.lines(id).await;
        self.containers.remove(id).await.unwrap();
        Ran { exit, lines }
    }

    /// Reads a log to its end.
    pub(crate) async fn lines(&self, id: &ContainerId) -> Vec<LogLine> {
        let mut log = self.containers.logs(id, LogPosition::default()).unwrap();
        let mut lines = vec![];
        while let Some(entry) = within(log.next()).await.unwrap() {
            match entry {
                LogEntry::Line(line) => lines.push(line),
                LogEntry::Dropped { lines } => panic!("{lines} lines dropped"),
            }
        }
        lines
    }

    /// Takes everything down and checks that nothing is left.
    pub(crate) async fn close(mut self) {
        for (id, _) in self.containers.list() {
            self.containers.remove(&id).await.unwrap();
        }
        let left = names(&self.config.root);
        assert_eq!(left, [".mount-points"], "directories are left");
        let left: Vec<String> = names(&self.config.run_dir)
            .into_iter()
            .filter(|name| name != ".seccomp")
            .collect();
        assert_eq!(left, Vec::<String>::new(), "run directories are left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let run = self.config.run_dir.to_str().unwrap().to_owned();
        assert!(!mounts.contains(&run), "mounts are left:\n{mounts}");
        for dir in self.group_dirs() {
            let below = names(&dir)
                .into_iter()
                .filter(|name| dir.join(name).is_dir())
                .collect::<Vec<_>>();
            assert_eq!(below, Vec::<String>::new(), "groups below {dir:?}");
        }
        until("no shim is left", || self.shims() == 0).await;
        self.clean();
        assert_eq!(self.group_dirs(), Vec::<PathBuf>::new());
    }

    /// The engine's own group in every hierarchy.
    pub(crate) fn group_dirs(&self) -> Vec<PathBuf> {
        let base = Path::new("/sys/fs/cgroup");
        let name = &self.config.cgroup_root[1..];
        let mut dirs = vec![base.join(name)];
        dirs.extend(names(base).iter().map(|h| base.join(h).join(name)));
        dirs.retain(|dir| dir.is_dir());
        dirs
    }

    /// Processes whose command line names this host's run directory.
    pub(crate) fn shims(&self) -> usize {
        let run = self.config.run_dir.to_str().unwrap();
        names(Path::new("/proc"))
            .iter()
            .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
            .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok())
            .filter(|line| String::from_utf8_lossy(line).contains(run))
            .count()
    }

    /// Removes by force; also after a failed test.
    fn clean(&mut self) {
        let groups = Cgroups::open(&self.config.cgroup_root).unwrap();
        let _ = groups.remove_all();
        for name in names(&self.config.run_dir) {
            let at = self.config.run_dir.join(name).join("rootfs");
            let flags = nix::mount::MntFlags::MNT_DETACH;
            let _ = nix::mount::umount2(&at, flags);
        }
        let _ = fs::remove_dir_all(&self.config.run_dir);
        drop(self.dir.take());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.dir.is_some() {
            self.clean();
        }
    }
}

pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) lines: Vec<LogLine>,
}

impl Ran {
    /// All lines as text, without saying which stream they came from.
    pub(crate) fn text(&self) -> String {
        let text =
            |line: &LogLine| String::from_utf8_lossy(&line.bytes).into_owned();
        self.lines.iter().map(text).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn stream(&self, stream: LogStream) -> Vec<String> {
        self.lines
            .iter()
            .filter(|line| line.stream == stream)
            .map(|line| String::from_utf8_lossy(&line.bytes).into_owned())
            .collect()
    }
}

pub(crate) fn id(name: &str) -> ContainerId {
    ContainerId::new(name).unwrap()
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("took too long")
}

/// Waits until something is true, for as long as patience lasts.
pub(crate) async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let started = tokio::time::Instant::now();
    while !is_true() {
        assert!(started.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// A root file system of busybox and a few accounts.
fn make_rootfs(root: &Path) {
    for dir in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "true", "false", "cat", "echo", "sleep", "id", "ls", "env",
        "head", "dd", "mknod", "chown", "pwd", "hostname", "kill", "seq",
        "grep", "tail", "ps", "mount", "touch", "stat", "wc", "tty", "yes",
        "unshare", "chroot", "sync", "tr", "awk", "sort",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))
            .unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
        app:x:1000:1000::/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).unwrap();
    let group = "root:x:0:\napp:x:1000:\nextra:x:2000:app\n";
    fs::write(root.join("etc/group"), group).unwrap();
}
