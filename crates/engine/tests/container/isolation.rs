//! What a container may see and do.

use minato_engine::container::{
    BindMount, ContainerSpec, DeviceMapping, NamespaceMode, Netns,
    StartContainerError, StartStage, TmpfsMount, Ulimit,
};

use super::support::{Host, id, is_possible};

/// Runs one script per case and compares all that it printed.
async fn check(cases: Vec<(ContainerSpec, &str)>, host: Host) {
    for (spec, expected) in cases {
        let ran = host.run(&spec).await;
        assert_eq!(ran.text(), expected, "{:?}", spec.args);
    }
    host.close().await;
}

#[tokio::test]
async fn a_container_has_docker_s_privileges() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let status = "grep -E '^(CapInh|CapEff|CapBnd|CapAmb|Seccomp|NoNewPrivs):' \
        /proc/self/status | tr -d ' \\t'";
    let plain = host.spec("plain", status);
    let mut user = host.spec("user", status);
    user.user = "app".into();
    let mut more = host.spec("more", status);
    more.capabilities.add = vec!["SYS_ADMIN".into()];
    more.capabilities.drop = vec!["ALL".into()];
    let mut hardened = host.spec("hard", status);
    hardened.no_new_privileges = true;
    let mut all = host.spec(
        "all",
        "grep -E '^(Seccomp):' /proc/self/status; \
        test -e /dev/kmsg && echo kmsg",
    );
    all.privileged = true;
    let text = |eff: &str, bnd: &str, nnp: u8| {
        format!(
            "CapInh:0000000000000000\nCapEff:{eff}\nCapBnd:{bnd}\n\
             CapAmb:0000000000000000\nNoNewPrivs:{nnp}\nSeccomp:2"
        )
    };
    let (default, none) = ("00000000a80425fb", "0000000000000000");
    let admin = "0000000000200000";
    let cases = [
        (plain, text(default, default, 0)),
        (user, text(none, default, 0)),
        (more, text(admin, admin, 0)),
        (hardened, text(default, default, 1)),
        (all, "Seccomp:\t0\nkmsg".into()),
    ];
    for (spec, expected) in cases {
        assert_eq!(host.run(&spec).await.text(), expected, "{}", spec.id);
    }
    host.close().await;
}

#[tokio::test]
async fn forbidden_things_are_refused() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let cases = vec![
        (
            host.spec("c1", "mount -t tmpfs none /tmp 2>/dev/null || echo no"),
            "no",
        ),
        (host.spec("c2", "unshare -m true 2>/dev/null || echo no"), "no"),
        (
            host.spec(
                "c3",
                "echo 1 2>/dev/null >/proc/sys/kernel/sysrq || echo no",
            ),
            "no",
        ),
        (
            host.spec(
                "c4",
                "wc -c </proc/interrupts; ls /sys/firmware | wc -l",
            ),
            "0\n0",
        ),
        (
            host.spec(
                "c5",
                "mknod /tmp/kmsg c 1 11 && echo made; \
                 head -c1 /tmp/kmsg 2>/dev/null || echo no; \
                 head -c4 /dev/zero | wc -c; echo x >/dev/null && echo null",
            ),
            "made\nno\n4\nnull",
        ),
        (
            host.spec("c6", "touch /sys/fs/cgroup/x 2>/dev/null || echo no"),
            "no",
        ),
        (host.spec("c7", "set -- /proc/[0-9]*; echo $#; echo $$"), "1\n1"),
    ];
    check(cases, host).await;
}

#[tokio::test]
async fn a_container_sees_its_own_control_groups_only() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut roots = host.spec(
        "roots",
        "while read _ _ _ root _ rest; do \
           case \"$rest\" in *' - cgroup'*) echo $root;; esac; \
         done </proc/self/mountinfo | sort -u",
    );
    let mut limit = host.spec(
        "limit",
        "cd /sys/fs/cgroup; \
         cat memory/memory.limit_in_bytes memory.max 2>/dev/null; \
         for file in $(find . -follow -maxdepth 2 -name cgroup.procs); do \
           case $file in *systemd*) ;; *) cat $file;; esac; done | grep -cx 0",
    );
    for spec in [&mut roots, &mut limit] {
        spec.resources.memory_bytes = Some(64 << 20);
    }
    // Processes of other containers have no number here: it shows as 0.
    let expected = "67108864\n0";
    let cases = vec![(roots, "/"), (limit, expected)];
    check(cases, host).await;
}

#[tokio::test]
async fn identity_and_environment_are_the_container_s() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut app = host.spec("app", "id -u; id -g; id -G; echo $HOME; pwd");
    app.user = "app".into();
    app.cwd = "/made/for/it".into();
    let mut numeric = host.spec("numeric", "id -u; id -g; id -G; echo $HOME");
    numeric.user = "4242:4343".into();
    numeric.additional_groups = vec!["extra".into()];
    let mut env =
        host.spec("env", "/bin/env | grep -v -E '^(PWD|SHLVL|OLDPWD)='");
    env.args = vec!["env".into()];
    env.env = vec!["B=2".into(), "A=1=1".into()];
    env.hostname = Some("harbour".into());
    let mut nobody = host.spec("nobody", "true");
    nobody.user = "nobody".into();
    host.containers.create(&nobody).await.unwrap();
    let refused = host.containers.start(&nobody.id).await.unwrap_err();
    let StartContainerError::CannotStart { stage, message, .. } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(stage, StartStage::Prepare);
    assert!(message.contains("unable to find user nobody"), "{message}");
    host.containers.remove(&nobody.id).await.unwrap();
    let path =
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = format!("{path}\nHOSTNAME=harbour\nHOME=/root\nB=2\nA=1=1");
    let ran = host.run(&env).await;
    assert_eq!(ran.text(), expected);
    let cases = vec![
        (app, "1000\n1000\n1000 2000\n/home/app\n/made/for/it"),
        (numeric, "4242\n4343\n4343 2000\n/"),
    ];
    check(cases, host).await;
}

#[tokio::test]
async fn only_the_container_sees_its_mounts() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let app = host.spec("app", "sleep 1000");
    let id = app.id.clone();
    host.containers.create(&app).await.unwrap();
    let started = host.containers.start(&id).await.unwrap();
    let run = host.config.run_dir.to_str().unwrap().to_owned();
    let mounts = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap()
    };
    let shim = std::fs::read_to_string(format!("/proc/{}/status", started.pid));
    let shim = shim.unwrap();
    let shim = shim.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap();
    assert!(!mounts("self").contains(&run), "{}", mounts("self"));
    assert!(!mounts(shim.trim()).contains(&run));
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let of_shim = format!("/proc/{}/ns/mnt", shim.trim());
    assert_eq!(std::fs::read_link(of_shim).unwrap(), own);
    host.containers.remove(&id).await.unwrap();
    host.close().await;
}

#[tokio::test]
async fn links_do_not_lead_a_mount_out_of_its_directory() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let top = host.rootfs.with_file_name("top");
    std::fs::create_dir_all(top.join("a/b")).unwrap();
    std::fs::write(top.join("a/b/file"), "inside\n").unwrap();
    let outside = host.rootfs.with_file_name("outside");
    std::fs::create_dir(&outside).unwrap();
    let mount = |source: &str| BindMount {
        source: top.join(source),
        destination: "/mnt".into(),
        readonly: false,
        within: Some(top.clone()),
    };
    let mut good = host.spec("good", "cat /mnt/file");
    good.mounts = vec![mount("a/b")];
    let ran = host.run(&good).await;
    assert_eq!(ran.text(), "inside");
    std::os::unix::fs::symlink(&outside, top.join("out")).unwrap();
    std::os::unix::fs::symlink("../../..", top.join("a/up")).unwrap();
    for (name, source) in [("out", "out"), ("up", "a/up"), ("dots", "../x")] {
        let mut bad = host.spec(name, "touch /mnt/x");
        bad.mounts = vec![mount(source)];
        host.containers.create(&bad).await.unwrap();
        let refused = host.containers.start(&bad.id).await.unwrap_err();
        let StartContainerError::CannotStart { stage, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(stage, StartStage::Prepare, "{name}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    host.close().await;
}

#[tokio::test]
async fn file_systems_are_as_specified() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let shared = host.rootfs.with_file_name("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "content\n").unwrap();
    let bind = |readonly| BindMount {
        source: shared.clone(),
        destination: "/mnt/shared".into(),
        readonly,
        within: None,
    };
    let mut readonly = host.spec("ro", "touch /x 2>/dev/null || echo no");
    readonly.readonly_rootfs = true;
    let mut mounted = host.spec(
        "bind",
        "cat /mnt/shared/file; touch /mnt/shared/x 2>/dev/null || echo no",
    );
    mounted.mounts = vec![bind(true)];
    let mut writable =
        host.spec("rw", "echo more >/mnt/shared/new; cat /mnt/shared/new");
    writable.mounts = vec![bind(false)];
    let mut tmpfs = host.spec(
        "tmpfs",
        "grep -c ' /scratch tmpfs .*nosuid.*size=1024k' /proc/mounts; \
         grep -c ' /dev/shm tmpfs .*size=131072k' /proc/mounts",
    );
    tmpfs.tmpfs = vec![TmpfsMount {
        destination: "/scratch".into(),
        size_bytes: Some(1 << 20),
        options: vec![],
    }];
    tmpfs.shm_size_bytes = Some(128 << 20);
    let mut limits = host.spec("limits", "ulimit -n; ulimit -Hn");
    limits.ulimits =
        vec![Ulimit { name: "nofile".into(), soft: 99, hard: 199 }];
    let mut sysctl = host.spec("sysctl", "cat /proc/sys/net/core/somaxconn");
    sysctl.sysctls.insert("net.core.somaxconn".into(), "77".into());
    let mut device =
        host.spec("device", "head -c1 /dev/mine >/dev/null && echo yes");
    device.devices = vec![DeviceMapping {
        host_path: "/dev/zero".into(),
        container_path: Some("/dev/mine".into()),
        permissions: "r".into(),
    }];
    let cases = vec![
        (readonly, "no"),
        (mounted, "content\nno"),
        (writable, "more"),
        (tmpfs, "1\n1"),
        (limits, "99\n199"),
        (sysctl, "77"),
        (device, "yes"),
    ];
    check(cases, host).await;
}

#[tokio::test]
async fn many_layers_stack_and_the_upper_ones_win() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut spec = host.spec("c1", "cat /which; ls /n | wc -l");
    for n in 0..126 {
        let layer =
            host.rootfs.with_file_name(format!("layer-{n}, with: odd name"));
        std::fs::create_dir_all(layer.join("n")).unwrap();
        std::fs::write(layer.join("which"), format!("{n}\n")).unwrap();
        std::fs::write(layer.join(format!("n/{n}")), "").unwrap();
        spec.layers.push(layer);
    }
    check(vec![(spec, "125\n126")], host).await;
}

#[tokio::test]
async fn namespaces_can_be_shared() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let first = host.spec("first", "sleep 1000");
    host.containers.create(&first).await.unwrap();
    let started = host.containers.start(&first.id).await.unwrap();
    let mut second =
        host.spec("second", "ps | grep -c '[s]leep 1000'; sleep 1001 &");
    second.pid_mode = NamespaceMode::Container(id("first"));
    second.ipc_mode = NamespaceMode::Container(id("first"));
    second.netns = Netns::Path(format!("/proc/{}/ns/net", started.pid).into());
    let ran = host.run(&second).await;
    assert_eq!(ran.text(), "1");
    // What it left in the shared namespace is gone with it.
    let mut third = host.spec("third", "ps | grep -c '[s]leep 1001'");
    third.pid_mode = NamespaceMode::Container(id("first"));
    assert_eq!(host.run(&third).await.text(), "0");
    let net = host.spec("net", "grep -c : /proc/net/dev");
    let mut on_host = host.spec("host", "cat /proc/net/dev | grep -c :");
    on_host.netns = Netns::Host;
    assert_eq!(host.run(&net).await.text(), "1");
    assert_ne!(host.run(&on_host).await.text(), "0");
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_keeps_namespaces_for_others() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut holder = host.spec("holder", "");
    holder.is_holder = true;
    host.containers.create(&holder).await.unwrap();
    host.containers.start(&holder.id).await.unwrap();
    let joining = |name: &str, script: &str| {
        let mut spec = host.spec(name, script);
        spec.pid_mode = NamespaceMode::Container(holder.id.clone());
        spec.ipc_mode = NamespaceMode::Container(holder.id.clone());
        spec
    };
    // Its process is the first, and holds nothing but itself.
    let look = "cat /proc/1/comm; [ $$ = 1 ] || echo other; \
                echo told > /dev/shm/note";
    assert_eq!(host.run(&joining("looks", look)).await.text(), "init\nother");
    // Shared memory outlives the container that made it, and is a tmpfs.
    let read = "cat /dev/shm/note; grep -c ' /dev/shm tmpfs' /proc/mounts";
    assert_eq!(host.run(&joining("reads", read)).await.text(), "told\n1");
    let alone = host.spec("alone", "ls /dev/shm; cat /proc/1/comm; true");
    assert_eq!(host.run(&alone).await.text(), "sh");
    let mut bare = host.spec("bare", "[ -e /dev/shm ] || echo none");
    bare.no_shm = true;
    assert_eq!(host.run(&bare).await.text(), "none");

    // With the first process of a namespace all others end.
    let long = joining("long", "sleep 1000");
    host.containers.create(&long).await.unwrap();
    host.containers.start(&long.id).await.unwrap();
    host.containers.signal(&holder.id, libc::SIGTERM).await.unwrap();
    assert_eq!(host.containers.wait(&holder.id).await.unwrap().code, 0);
    assert_eq!(host.containers.wait(&long.id).await.unwrap().code, 137);
    host.close().await;
}
