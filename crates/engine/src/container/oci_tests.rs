use super::*;
use crate::container::{BindMount, ContainerId, TmpfsMount, Ulimit};

fn spec() -> ContainerSpec {
    let id = ContainerId::new("0123456789abcdef").unwrap();
    ContainerSpec::new(id, vec!["/layer".into()], vec!["/bin/true".into()])
}

fn build(spec: &ContainerSpec) -> Value {
    build_for(spec, false)
}

fn build_for(spec: &ContainerSpec, is_unified: bool) -> Value {
    let identity =
        Identity { uid: 5, gid: 6, groups: vec![7], home: "/".into() };
    let rules = devices::rules(&[], spec.privileged);
    configuration(
        spec,
        &Resolved {
            rootfs: Path::new("/run/c/rootfs"),
            cgroup: "/minato/c",
            identity: &identity,
            env: &["A=b".to_owned()],
            devices: &[],
            device_rules: &rules,
            pid_namespace: None,
            ipc_namespace: None,
            hierarchies: (!is_unified).then_some(Path::new("/run/c/groups")),
            is_unified,
        },
    )
}

fn kinds(config: &Value) -> Vec<String> {
    let list = config["linux"]["namespaces"].as_array().unwrap();
    list.iter().map(|n| n["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_runtime_accepts_what_is_built() {
    let mut full = spec();
    full.tmpfs.push(TmpfsMount {
        destination: "/t".into(),
        size_bytes: Some(1 << 20),
        options: vec![],
    });
    full.mounts.push(BindMount {
        source: "/etc".into(),
        destination: "/e".into(),
        readonly: true,
        within: None,
    });
    full.ulimits.push(Ulimit { name: "nofile".into(), soft: 10, hard: -1 });
    full.resources.memory_bytes = Some(1 << 30);
    full.resources.cpu_shares = Some(0);
    full.resources.pids = Some(1);
    for spec in [spec(), full] {
        let text = build(&spec).to_string();
        let parsed: libcontainer::oci_spec::runtime::Spec =
            serde_json::from_str(&text).unwrap();
        assert_eq!(parsed.hostname().as_deref(), Some("0123456789ab"));
    }
}

#[test]
fn docker_s_defaults_are_there() {
    let config = build(&spec());
    assert_eq!(
        kinds(&config),
        ["mount", "uts", "cgroup", "pid", "ipc", "network"]
    );
    let process = &config["process"];
    assert_eq!(process["cwd"], "/");
    assert_eq!(process["user"]["uid"], 5);
    // libcontainer takes either for a reason to load seccomp too late.
    assert!(process.get("noNewPrivileges").is_none());
    assert!(process.get("capabilities").is_none());
    let linux = &config["linux"];
    assert!(linux["maskedPaths"].as_array().unwrap().len() >= 11);
    let readonly = linux["readonlyPaths"].as_array().unwrap();
    assert!(readonly.contains(&json!("/proc/sysrq-trigger")));
    assert_eq!(linux["sysctl"]["net.ipv4.ip_unprivileged_port_start"], "0");
    let mounts = config["mounts"].as_array().unwrap();
    let groups =
        |m: &&Value| m["destination"].as_str() == Some("/sys/fs/cgroup");
    let groups = mounts.iter().find(groups).unwrap();
    assert_eq!(groups["source"], "/run/c/groups");
    let shm = mounts.iter().find(|m| m["destination"] == "/dev/shm").unwrap();
    let options = shm["options"].as_array().unwrap();
    assert!(options.contains(&json!("size=67108864")));
}

#[test]
fn limits_below_the_least_are_raised_and_swap_counts_memory_too() {
    let mut spec = spec();
    spec.resources = Resources {
        cpu_shares: Some(0),
        cpu_quota_us: Some(1),
        memory_bytes: Some(1),
        memory_reservation_bytes: Some(1),
        pids: Some(0),
        ..Resources::default()
    };
    let resources = &build(&spec)["linux"]["resources"];
    assert_eq!(resources["cpu"]["shares"], 2);
    assert_eq!(resources["cpu"]["quota"], 1000);
    assert_eq!(resources["cpu"]["period"], 100_000);
    assert_eq!(resources["memory"]["limit"], MEMORY_MIN_BYTES);
    assert_eq!(resources["pids"]["limit"], PIDS_MIN);
    assert!(resources["devices"].is_array());
    // Version 2 has a program instead.
    assert!(build_for(&spec, true)["linux"]["resources"]["devices"].is_null());
}

#[test]
fn what_is_given_for_a_tmpfs_goes_over_docker_s_defaults() {
    let options = |given: &[&str]| {
        let given: Vec<String> = given.iter().map(|o| (*o).into()).collect();
        tmpfs_options(&given).join(",")
    };
    assert_eq!(options(&[]), "nosuid,nodev,noexec");
    assert_eq!(options(&["rw"]), "nosuid,nodev,noexec,rw");
    assert_eq!(options(&["exec", "mode=700"]), "nosuid,nodev,exec,mode=700");
    assert_eq!(
        options(&["rw", "suid", "ro", "nr_inodes=5", "uid=1", "uid=2"]),
        "nodev,noexec,suid,ro,nr_inodes=5,uid=2"
    );
}

#[test]
fn mounts_nearer_to_the_root_come_first() {
    let bind = |to: &str| BindMount {
        source: "/src".into(),
        destination: to.into(),
        readonly: false,
        within: None,
    };
    let tmpfs = TmpfsMount {
        destination: "/data/cache".into(),
        size_bytes: None,
        options: vec![],
    };
    let config = build(&ContainerSpec {
        mounts: vec![bind("/data/cache/own"), bind("/data"), bind("/etc")],
        tmpfs: vec![tmpfs],
        ..spec()
    });
    let mounts = config["mounts"].as_array().unwrap();
    let order: Vec<&str> = mounts
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .skip_while(|to| *to != "/data")
        .collect();
    assert_eq!(order, ["/data", "/etc", "/data/cache", "/data/cache/own"]);
}

#[test]
fn who_has_no_shm_of_its_own_gets_none_mounted() {
    let other = NamespaceMode::Container(ContainerId::new("other").unwrap());
    for spec in [
        ContainerSpec { no_shm: true, ..spec() },
        ContainerSpec { ipc_mode: other, ..spec() },
    ] {
        let config = build(&spec);
        let mounts = config["mounts"].as_array().unwrap();
        assert!(mounts.iter().all(|m| m["destination"] != "/dev/shm"));
    }
}

#[test]
fn namespaces_follow_the_modes() {
    let host = ContainerSpec {
        netns: Netns::Host,
        pid_mode: NamespaceMode::Host,
        ipc_mode: NamespaceMode::Host,
        ..spec()
    };
    let config = build(&host);
    assert_eq!(kinds(&config), ["mount", "uts", "cgroup"]);
    // The host's own network must not be changed.
    assert_eq!(config["linux"]["sysctl"], json!({}));
    let mounts = config["mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|m| m["source"] == "/dev/shm"));
    let shared =
        ContainerSpec { netns: Netns::Path("/run/ns/t".into()), ..spec() };
    let list = build(&shared)["linux"]["namespaces"].clone();
    let network =
        list.as_array().unwrap().iter().find(|n| n["type"] == "network");
    assert_eq!(network.unwrap()["path"], "/run/ns/t");
}

#[test]
fn a_privileged_container_hides_nothing() {
    let config = build(&ContainerSpec { privileged: true, ..spec() });
    assert!(config["linux"].get("maskedPaths").is_none());
    assert!(config["linux"].get("readonlyPaths").is_none());
    let mounts = config["mounts"].as_array().unwrap();
    let sys = mounts.iter().find(|m| m["destination"] == "/sys").unwrap();
    assert!(sys["options"].as_array().unwrap().contains(&json!("rw")));
}
