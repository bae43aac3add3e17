//! How long a container takes, beside what the kernel alone takes.
//!
//! Cases, each one after the other:
//! - `fork+exec`: a bare process;
//! - `clone+pivot_root+exec`: the floor: new mount, process, UTS and IPC
//!   namespaces, /proc, pivot_root, exec (through `unshare`, so with its own
//!   exec on top);
//! - `container`: create, start, wait and remove, with everything: overlay,
//!   network namespace, control groups, seccomp, capabilities, shim, logs;
//! - its four parts;
//! - `container, 8 at once`: the rate of many.
//!
//! Not criterion: percentiles of whole lives are wanted, not a mean of a tight
//! loop, and each life must clean up. Run as root:
//! `cargo bench -p minato-engine --bench container [-- LIVES]`

#![expect(clippy::unwrap_used, reason = "a benchmark may fail by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use minato_engine::cgroup::Cgroups;
use minato_engine::container::{
    ContainerId, ContainerSpec, Containers, ContainersConfig, Resources,
};
use tokio::time::Instant;

/// Something to compare with, given a root file system.
type Floor = fn(&Path);

const WARM_UP: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(100);
    if !nix::unistd::geteuid().is_root() {
        println!("needs root");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(count));
}

async fn measure(count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let layer = dir.path().join("layer");
    make_layer(&layer);
    let group = format!("/minato-bench-{}", std::process::id());
    let run = Path::new("/run").join(&group[1..]);
    let shim = env!("CARGO_BIN_EXE_minato-shim-test").into();
    let root = dir.path().join("containers");
    let config = ContainersConfig::new(root, &run, vec![shim], &group);
    let containers = Containers::open(config).await.unwrap();
    let floors: [(&str, Floor); 2] =
        [("fork+exec", fork_exec), ("clone+pivot_root+exec", clone_exec)];
    for (name, case) in floors {
        let mut times = vec![];
        for _ in 0..count {
            let started = Instant::now();
            case(&layer);
            times.push(started.elapsed());
        }
        report(name, &mut times);
    }
    let mut times: [Vec<Duration>; 5] = Default::default();
    for n in 0..count + WARM_UP {
        let parts = life(&containers, &layer, n).await;
        if n >= WARM_UP {
            for (column, part) in times.iter_mut().zip(parts) {
                column.push(part);
            }
        }
    }
    let names = ["container", "- create", "- start", "- wait", "- remove"];
    for (name, column) in names.into_iter().zip(&mut times) {
        report(name, column);
    }
    let (mut at_once, mut running) = (vec![], tokio::task::JoinSet::new());
    let started = Instant::now();
    for n in 0..count {
        if running.len() == 8 {
            at_once.push(running.join_next().await.unwrap().unwrap());
        }
        let (containers, layer) = (containers.clone(), layer.clone());
        running
            .spawn(async move { life(&containers, &layer, 1000 + n).await[0] });
    }
    at_once.extend(running.join_all().await);
    let rate = count as f64 / started.elapsed().as_secs_f64();
    report(&format!("container, 8 at once ({rate:.0}/s)"), &mut at_once);
    drop(containers);
    Cgroups::open(&group).unwrap().remove_all().unwrap();
    std::fs::remove_dir_all(&run).unwrap();
}

/// One container's life: total, create, start, wait, remove.
async fn life(
    containers: &Containers,
    layer: &Path,
    number: usize,
) -> [Duration; 5] {
    let id = ContainerId::new(format!("bench-{number}")).unwrap();
    let args = vec!["/bin/true".to_owned()];
    let mut spec = ContainerSpec::new(id, vec![layer.to_owned()], args);
    spec.resources = Resources {
        memory_bytes: Some(128 << 20),
        cpu_shares: Some(256),
        ..Resources::default()
    };
    let started = Instant::now();
    containers.create(&spec).await.unwrap();
    let created = started.elapsed();
    containers.start(&spec.id).await.unwrap();
    let running = started.elapsed();
    let exit = containers.wait(&spec.id).await.unwrap();
    assert_eq!(exit.code, 0);
    let ended = started.elapsed();
    containers.remove(&spec.id).await.unwrap();
    let gone = started.elapsed();
    [gone, created, running - created, ended - running, gone - ended]
}

fn fork_exec(layer: &Path) {
    run(Command::new(layer.join("bin/true")));
}

/// What any container costs: namespaces, a mount of /proc, pivot_root.
fn clone_exec(layer: &Path) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--uts", "--ipc", "--pid", "--fork"]);
    command.args(["--propagation", "private", "/bin/busybox", "sh", "-c"]);
    command.arg(
        "b=/bin/busybox; $b mount --bind $0 $0 && cd $0 && \
         $b pivot_root . old && cd / && /bin/busybox mount -t proc p /proc && \
         /bin/busybox umount -l /old && exec /bin/true",
    );
    command.arg(layer);
    run(command);
}

fn run(mut command: Command) {
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}

fn make_layer(layer: &Path) {
    for dir in ["bin", "proc", "sys", "dev", "old"] {
        std::fs::create_dir_all(layer.join(dir)).unwrap();
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for applet in ["true", "sh"] {
        let link = layer.join("bin").join(applet);
        std::os::unix::fs::symlink("busybox", link).unwrap();
    }
}

fn report(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len().saturating_sub(1)) * percent / 100;
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let count = times.len();
    println!(
        "{name:<32} p50 {:7.2} ms   p95 {:7.2} ms   n {count}",
        at(50),
        at(95)
    );
}
