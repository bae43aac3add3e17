//! Containers that mean harm: ways out of them that others have had.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use minato_engine::container::{
    BindMount, ContainerError, ContainerSpec, ExecSpec, StartContainerError,
    StartStage,
};

use super::support::{Host, PATIENCE, is_possible, names, until};

/// More descriptors than a shim has open.
const DESCRIPTORS: std::ops::Range<u32> = 3..24;

fn exec(args: &[&str]) -> ExecSpec {
    ExecSpec {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: Some("/".into()),
        output_max_bytes: 4096,
        ..ExecSpec::default()
    }
}

async fn shell(host: &Host, name: &str, script: &str) -> String {
    let id = super::support::id(name);
    let exec = exec(&["/bin/sh", "-c", script]);
    let ran = host.containers.exec(&id, &exec, PATIENCE).await.unwrap();
    String::from_utf8(ran.output).unwrap()
}

async fn start(host: &Host, spec: &ContainerSpec) {
    host.containers.create(spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
}

/// At which stage a start is refused; the container is gone afterwards.
async fn refused(host: &Host, spec: &ContainerSpec) -> StartStage {
    host.containers.create(spec).await.unwrap();
    let refused = host.containers.start(&spec.id).await;
    host.containers.remove(&spec.id).await.unwrap();
    match refused {
        Err(StartContainerError::CannotStart { stage, .. }) => stage,
        other => panic!("{}: {other:?}", spec.id),
    }
}

/// A directory that no container has anything to do with.
fn outside(host: &Host) -> PathBuf {
    let outside = host.rootfs.with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    outside
}

fn bind(source: &Path, destination: &str) -> BindMount {
    BindMount {
        source: source.to_owned(),
        destination: destination.into(),
        readonly: false,
        within: None,
    }
}

/// What CVE-2024-21626 was in runc: a descriptor of the host's directories,
/// open when the working directory is entered, is a way to all its files.
#[tokio::test]
async fn no_descriptor_of_the_shim_s_is_a_working_directory() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut spec = host.spec("c1", "sleep 1000");
    spec.cwd = "/work".into();
    start(&host, &spec).await;
    for descriptor in DESCRIPTORS {
        let script = format!(
            "/bin/busybox rm -rf /work; \
             /bin/busybox ln -s /proc/self/fd/{descriptor} /work"
        );
        assert_eq!(shell(&host, "c1", &script).await, "");
        let in_it = ExecSpec { cwd: None, ..exec(&["/bin/ls", "-a"]) };
        let ran = host.containers.exec(&spec.id, &in_it, PATIENCE).await;
        let is_refused = matches!(ran, Err(ContainerError::Refused { .. }));
        assert!(is_refused, "descriptor {descriptor}: {ran:?}");
    }
    for descriptor in DESCRIPTORS {
        let mut spec = host.spec("c2", "ls -a");
        spec.cwd = format!("/proc/self/fd/{descriptor}");
        assert_eq!(refused(&host, &spec).await, StartStage::Create);
    }
    host.close().await;
}

/// What CVE-2019-5736 was in runc: a command that is the program that started
/// it, which is the host's, and which another process then changes.
#[tokio::test]
async fn the_program_of_the_shim_cannot_be_changed() {
    if !is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let program = host.rootfs.with_file_name("program");
    fs::copy(&host.config.shim_command[0], &program).unwrap();
    host.config.shim_command = vec![program.clone().into()];
    host.restart().await;
    let before = fs::metadata(&program).unwrap();
    let mut spec = host.spec("c1", "/bin/busybox mkfifo /wait; sleep 1000");
    // What the program needs to run, which an attacker would bring along.
    let libraries = ["/lib", "/lib64", "/usr/lib"];
    let there = libraries.iter().filter(|path| Path::new(path).is_dir());
    let there = there.map(|path| BindMount {
        readonly: true,
        ..bind(Path::new(path), path)
    });
    spec.mounts = there.collect();
    // The shim reads its orders there, and waits for somebody to write them.
    let script = host.rootfs.join("bin/evil");
    fs::write(&script, "#!/proc/self/exe /wait\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    start(&host, &spec).await;
    let evil = exec(&["/bin/evil"]);
    host.containers.exec(&spec.id, &evil, PATIENCE).await.unwrap();
    let attack = "for p in /proc/[0-9]*; do \
        grep -q minato-shim $p/comm || continue; \
        echo found; \
        /bin/busybox chmod 0666 $p/exe && echo mode; \
        /bin/busybox chown 1:1 $p/exe && echo owner; \
        /bin/busybox touch $p/exe && echo time; \
        (echo >>$p/exe) && echo content; \
        done 2>/dev/null";
    assert_eq!(shell(&host, "c1", attack).await, "found\n");
    let after = fs::metadata(&program).unwrap();
    assert_eq!(after.mode(), before.mode());
    assert_eq!((after.uid(), after.len()), (before.uid(), before.len()));
    host.close().await;
}

/// The shim has one thread: who makes it wait keeps it from stopping anybody.
#[tokio::test]
async fn a_false_null_device_holds_nobody_up() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "sleep 1000");
    start(&host, &spec).await;
    let swap = "/bin/busybox rm /dev/null; /bin/busybox mkfifo /dev/null";
    assert_eq!(shell(&host, "c1", swap).await, "");
    let ten = Duration::from_secs(10);
    let hello = exec(&["/bin/echo", "hello"]);
    let ran = host.containers.exec(&spec.id, &hello, ten).await.unwrap();
    assert_eq!(String::from_utf8(ran.output).unwrap(), "hello\n");
    host.close().await;
}

/// The runtime writes below these in the host's view of the files.
#[tokio::test]
async fn an_image_whose_system_directories_are_links_is_refused() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let outside = outside(&host);
    // There is such a directory in the image, too.
    let in_image = host.rootfs.join(outside.strip_prefix("/").unwrap());
    fs::create_dir_all(in_image).unwrap();
    for name in ["dev", "proc", "sys"] {
        let layer = host.rootfs.with_file_name(format!("{name}-is-a-link"));
        fs::create_dir(&layer).unwrap();
        symlink(&outside, layer.join(name)).unwrap();
        let mut spec = host.spec(name, "true");
        spec.layers.push(layer);
        assert_eq!(refused(&host, &spec).await, StartStage::Prepare, "{name}");
        assert_eq!(names(&outside), Vec::<String>::new(), "{name}");
    }
    host.close().await;
}

/// A mount point that is a link leads to what the image has there.
#[tokio::test]
async fn links_in_an_image_do_not_lead_mounts_out_of_it() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let outside = outside(&host);
    let volume = host.rootfs.with_file_name("volume");
    fs::create_dir(&volume).unwrap();
    let file = host.rootfs.with_file_name("hosts");
    fs::write(&file, "of the agent\n").unwrap();
    let up = "../../../../../../../../../..";
    let absolute = outside.to_str().unwrap();
    for (number, target) in
        [absolute.to_owned(), format!("{up}{absolute}")].iter().enumerate()
    {
        let layer = host.rootfs.with_file_name(format!("links-{number}"));
        fs::create_dir_all(layer.join("etc")).unwrap();
        symlink(target, layer.join("data")).unwrap();
        symlink(format!("{target}/hosts"), layer.join("etc/hosts")).unwrap();
        for mount in [bind(&volume, "/data/a/b"), bind(&file, "/etc/hosts")] {
            let name = mount.source.file_name().unwrap().to_str().unwrap();
            let name = format!("{name}-{number}");
            let mut spec = host.spec(&name, "touch /data/x /data/a/b/x");
            spec.layers.push(layer.clone());
            spec.mounts = vec![mount];
            host.containers.create(&spec).await.unwrap();
            // Whether it starts is the image's affair.
            let _ = host.containers.start(&spec.id).await;
            host.containers.remove(&spec.id).await.unwrap();
            assert_eq!(names(&outside), Vec::<String>::new(), "{name}");
        }
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "of the agent\n");
    host.close().await;
}

/// What CVE-2021-30465 was in runc: whoever has a volume mounted exchanges a
/// directory in it for a link while another container is mounted over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_mount_in_a_volume_cannot_be_led_out_by_its_other_users() {
    if !is_possible() {
        return;
    }
    const STARTS: u32 = 20;
    let host = Host::new().await;
    let outside = outside(&host);
    let shared = host.rootfs.with_file_name("shared");
    fs::create_dir_all(shared.join("place")).unwrap();
    symlink(outside.parent().unwrap(), shared.join("link")).unwrap();
    let inner = host.rootfs.with_file_name("inner");
    fs::create_dir(&inner).unwrap();
    let is_over = AtomicBool::new(false);
    let exchange = || {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let (place, link) = (shared.join("place"), shared.join("link"));
        while !is_over.load(Ordering::Relaxed) {
            let exchange = RenameFlags::EXCHANGE;
            let _ = renameat_with(CWD, &place, CWD, &link, exchange);
        }
    };
    let runtime = tokio::runtime::Handle::current();
    let started = std::thread::scope(|scope| {
        scope.spawn(exchange);
        let started = tokio::task::block_in_place(|| {
            let mut started = 0;
            for number in 0..STARTS {
                let mut spec = host.spec(&format!("c{number}"), "true");
                spec.mounts = vec![
                    bind(&shared, "/vol"),
                    bind(&inner, "/vol/place/outside/deep"),
                ];
                runtime.block_on(async {
                    host.containers.create(&spec).await.unwrap();
                    let start = host.containers.start(&spec.id).await;
                    started += u32::from(start.is_ok());
                    host.containers.remove(&spec.id).await.unwrap();
                });
            }
            started
        });
        is_over.store(true, Ordering::Relaxed);
        started
    });
    assert_eq!(names(&outside), Vec::<String>::new(), "{started} started");
    host.close().await;
}

/// Everything that is the kernel's own can be read at most.
#[tokio::test]
async fn nothing_of_the_kernel_s_can_be_written() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    // Opened, and never written to.
    let script = "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern \
            /proc/sys/kernel/modprobe /proc/sys/fs/binfmt_misc/register \
            /sys/kernel/uevent_helper /sys/power/state \
            /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent \
            /sys/fs/cgroup/*/notify_on_release \
            /sys/fs/cgroup/*/devices.allow /sys/fs/cgroup/cgroup.procs; do \
            { true >>$f; } 2>/dev/null && echo opened $f; \
        done; \
        for f in $(/bin/busybox find /proc/sys/kernel /proc/sys/vm /sys/fs \
            /sys/module /sys/kernel /proc/bus /proc/irq /proc/fs -type f \
            2>/dev/null); do \
            { true >>$f; } 2>/dev/null && echo opened $f; \
        done; \
        cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; \
        ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | \
            grep -v -e : -e '^$' | wc -l";
    assert_eq!(host.run(&host.spec("c1", script)).await.text(), "0\n0");
    host.close().await;
}

/// What is hidden stays hidden, and no file system can be added.
#[tokio::test]
async fn mounts_cannot_be_changed_from_inside() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let script = "try() { /bin/busybox \"$@\" 2>/dev/null && echo \"$@\"; }; \
        try umount /proc/kcore; try umount -l /proc/sys; try umount -l /sys; \
        try mount -o remount,rw /sys; try mount -o remount,rw /proc/sys; \
        try mount -t proc none /tmp; try mount -t sysfs none /tmp; \
        try mount -t cgroup -o devices none /tmp; \
        try mount -t cgroup2 none /tmp; try mount -t overlay none /tmp; \
        try mount -t devtmpfs none /tmp; try mount --bind / /tmp; \
        try mount --make-rshared /; try pivot_root / /tmp; \
        try unshare -U true; try unshare -Ur true; try unshare -m true; \
        try unshare -p true; try unshare -n true; \
        try nsenter -t 1 -m true; try nsenter -t 1 -p true; \
        try losetup /dev/loop0 /bin/busybox; try swapon /tmp; try insmod /bin/busybox; \
        [ \"$(readlink /proc/1/root)\" = / ] || echo root; \
        /bin/busybox chroot /proc/1/root /bin/cat /etc/group | head -n 1";
    let ran = host.run(&host.spec("c1", script)).await;
    assert_eq!(ran.text(), "root:x:0:");
    host.close().await;
}

/// A device's node can be made, as in Docker, and not be opened.
#[tokio::test]
async fn devices_of_the_host_cannot_be_opened() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let partitions = fs::read_to_string("/proc/partitions").unwrap();
    let disks = partitions.lines().skip(2).take(8).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(format!("b {} {}", words.next()?, words.next()?))
    });
    // mem, kmem, port, kmsg, and of the miscellaneous ones loop-control, fuse,
    // tun, kvm, and the first loop device.
    let others = [
        "c 1 1", "c 1 2", "c 1 4", "c 1 11", "c 10 237", "c 10 229",
        "c 10 200", "c 10 232", "b 7 0",
    ];
    let all: Vec<String> = disks.chain(others.map(str::to_owned)).collect();
    let script = format!(
        "n=0; while read kind major minor; do \
            n=$((n+1)); mknod /tmp/$n $kind $major $minor || echo not made; \
            for mode in '<' '>>' '<>'; do \
                eval \"(: $mode/tmp/$n)\" 2>/dev/null && \
                    echo opened $kind $major $minor $mode; \
            done; \
        done <<END\n{}\nEND\necho $n",
        all.join("\n")
    );
    let ran = host.run(&host.spec("c1", &script)).await;
    assert_eq!(ran.text(), all.len().to_string());
    host.close().await;
}

/// Neither the shim, which holds all a container needs, nor its orders show
/// what a container is given in secret.
#[tokio::test]
async fn secrets_are_not_shown_by_processes_of_the_host() {
    if !is_possible() {
        return;
    }
    use minato_engine::container::SecretEnv;
    let host = Host::new().await;
    let spec = host.spec("c1", "echo $TOKEN; sleep 1000");
    host.containers.create(&spec).await.unwrap();
    let secret = ("TOKEN".to_owned(), "hidden-treasure".to_owned());
    let secret = SecretEnv::new(vec![secret]);
    let started = host.containers.start_with(&spec.id, secret).await.unwrap();
    let status =
        fs::read_to_string(format!("/proc/{}/status", started.pid)).unwrap();
    let shim = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap();
    let shim = shim.trim();
    assert_eq!(fs::read(format!("/proc/{shim}/environ")).unwrap(), b"");
    let arguments = fs::read(format!("/proc/{shim}/cmdline")).unwrap();
    let arguments = String::from_utf8(arguments).unwrap();
    assert!(!arguments.contains("hidden-treasure"), "{arguments}");
    let log = host.root("c1").join("logs");
    until("it has spoken", || has_text(&log, "hidden-treasure")).await;
    fs::remove_dir_all(&log).unwrap();
    assert!(!has_text(&host.root("c1"), "hidden-treasure"));
    host.close().await;
}

/// Whether any file below a directory, which may not be there yet, has a text.
fn has_text(path: &Path, text: &str) -> bool {
    let Ok(about) = path.symlink_metadata() else { return false };
    if about.is_dir() {
        return names(path).iter().any(|name| has_text(&path.join(name), text));
    }
    let bytes = if about.is_file() { fs::read(path).unwrap() } else { vec![] };
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}
