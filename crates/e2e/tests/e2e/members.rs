//! What a member of a definition does to a container, as the container sees
//! it: a table of patches, one task for each, and what it prints. Beside each
//! member stands what is there without it.

#[path = "members/placing.rs"]
mod placing;
#[path = "members/together.rs"]
mod together;

use std::path::Path;

use minato_e2e::{IMAGE, Site};
use serde_json::{Value, json};

/// One task: its network mode, what is patched over a plain container and
/// over the definition, the script it runs and all that this prints.
struct Row {
    what: &'static str,
    mode: &'static str,
    container: Value,
    definition: Value,
    script: String,
    prints: String,
}

/// A row that patches the container only.
fn row(
    what: &'static str,
    mode: &'static str,
    container: Value,
    script: &str,
    prints: impl Into<String>,
) -> Row {
    let (script, prints) = (script.to_owned(), prints.into());
    Row { what, mode, container, definition: json!({}), script, prints }
}

impl Row {
    fn of(self, definition: Value) -> Row {
        Row { definition, ..self }
    }

    fn definition(&self, number: usize) -> Value {
        let mut container = json!({
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 16,
            "stopTimeout": 2,
            "command": ["/bin/sh", "-c", format!("B=/bin/busybox; {}", self.script)],
        });
        merge(&mut container, &self.container);
        let mut definition = json!({
            "family": format!("member-{number}"),
            "networkMode": self.mode,
            "containerDefinitions": [container],
        });
        merge(&mut definition, &self.definition);
        definition
    }
}

/// Puts the members of one object over those of another; `null` removes.
fn merge(base: &mut Value, patch: &Value) {
    let (Some(base), Some(patch)) = (base.as_object_mut(), patch.as_object())
    else {
        panic!("no objects: {base} {patch}");
    };
    for (name, value) in patch {
        if value.is_null() {
            base.remove(name);
        } else {
            base.insert(name.clone(), value.clone());
        }
    }
}

/// What the container `app` of a task printed, without the log's own words.
fn printed(site: &Site, arn: &str) -> String {
    let said = site.minato(&["logs", arn]).unwrap();
    said.lines()
        .filter(|line| !line.contains(" | ") || line.starts_with("app"))
        .map(|line| line.split_once(" | ").map_or(line, |(_, text)| text))
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Runs them all at the same time and tells of every one that is wrong.
fn check(site: &mut Site, rows: &[Row]) {
    let mut wrong = vec![];
    // Not so many that they wait for memory.
    for (number, some) in rows.chunks(12).enumerate() {
        let arns: Vec<String> = some
            .iter()
            .enumerate()
            .map(|(at, row)| {
                let definition = row.definition(number * 12 + at);
                let started = site.start_task(definition, "EC2");
                started.unwrap_or_else(|why| panic!("{}: {why:#}", row.what))
            })
            .collect();
        for (row, arn) in some.iter().zip(&arns) {
            let task = site.wait_task(arn, "STOPPED").unwrap();
            let said = printed(site, arn);
            if said != row.prints {
                let Row { what, mode, prints, .. } = row;
                let why = &task["stoppedReason"];
                wrong.push(format!(
                    "{what} in {mode}: {said:?}, not {prints:?} ({why}, {})",
                    task["containers"][0]["reason"]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs one definition of several containers to its end; what `app` printed.
fn run(site: &mut Site, definition: Value) -> String {
    let arn = site.start_task(definition, "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = printed(site, &arn);
    let containers = task["containers"].as_array().unwrap();
    let app = containers.iter().find(|one| one["name"] == "app").unwrap();
    assert_eq!(app["exitCode"], 0, "{task:#} {said}");
    said
}

fn container(name: &str, script: &str, patch: Value) -> Value {
    let mut made = json!({
        "name": name, "image": IMAGE, "cpu": 16, "memory": 16,
        "stopTimeout": 2,
        "command": ["/bin/sh", "-c", format!("B=/bin/busybox; {script}")],
    });
    merge(&mut made, &patch);
    made
}

fn bridge(family: &str, containers: &[Value], patch: Value) -> Value {
    let mut made = json!({
        "family": family, "networkMode": "bridge",
        "containerDefinitions": containers,
    });
    merge(&mut made, &patch);
    made
}

#[test]
fn networks_are_off_or_as_the_mode_says() {
    let mut site = Site::start().unwrap();
    // Two lines of heading and loopback.
    let count = "$B wc -l < /proc/net/dev";
    let several = "[ $($B wc -l < /proc/net/dev) -gt 3 ] && echo several";
    let off = || json!({"disableNetworking": true});
    let on = || json!({});
    check(
        &mut site,
        &[
            row("disableNetworking", "bridge", off(), count, "3"),
            row("disableNetworking", "awsvpc", off(), count, "3"),
            row("disableNetworking", "host", off(), count, "3"),
            row("disableNetworking", "none", off(), count, "3"),
            row("a network", "bridge", on(), several, "several"),
            row("a network", "awsvpc", on(), several, "several"),
            row("a network", "host", on(), several, "several"),
            row("no network", "none", on(), count, "3"),
        ],
    );
    site.finish().unwrap();
}

#[test]
fn a_tmpfs_has_docker_s_options_and_one_s_own() {
    let mut site = Site::start().unwrap();
    let tmpfs = |path: &str, options: Value| {
        json!({"linuxParameters": {"tmpfs": [
            {"containerPath": path, "size": 8, "mountOptions": options},
        ]}})
    };
    let look = "o=$($B grep ' /scratch ' /proc/mounts); \
                for w in nosuid nodev noexec size=8192k; do \
                    case $o in *$w*) echo $w;; esac; \
                done; $B stat -c %a /scratch";
    let execute = "$B cp /bin/busybox /scratch/echo && \
                   /scratch/echo ran 2> /dev/null || echo refused";
    let all = "nosuid\nnodev\nnoexec\nsize=8192k";
    let mut below = tmpfs("/data/cache", json!([]));
    below["mountPoints"] =
        json!([{"sourceVolume": "data", "containerPath": "/data"}]);
    let kind = "$B grep -c ' /data/cache tmpfs ' /proc/mounts; \
                > /data/cache/x && > /data/y && ls /data/cache";
    let none = "$B grep -c ' /scratch ' /proc/mounts";
    check(
        &mut site,
        &[
            row(
                "mountOptions mode",
                "bridge",
                tmpfs("/scratch", json!(["mode=750"])),
                look,
                format!("{all}\n750"),
            ),
            row(
                "no mountOptions",
                "bridge",
                tmpfs("/scratch", json!([])),
                look,
                format!("{all}\n1777"),
            ),
            row(
                "mountOptions exec",
                "bridge",
                tmpfs("/scratch", json!(["exec"])),
                execute,
                "ran",
            ),
            row(
                "mountOptions rw",
                "bridge",
                tmpfs("/scratch", json!(["rw"])),
                execute,
                "refused",
            ),
            row("below a volume", "bridge", below, kind, "1\nx")
                .of(json!({"volumes": [{"name": "data"}]})),
            row("no tmpfs", "bridge", json!({}), none, "0"),
        ],
    );
    site.finish().unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn who_and_where_a_container_is() {
    let mut site = Site::start().unwrap();
    let who = "$B id -u; $B id -g; $B pwd";
    let name = "hostname; cat /etc/hostname";
    let names = "$B grep -E '^(nameserver|search)' /etc/resolv.conf; \
                 $B grep -c db.local /etc/hosts";
    let resolver = || {
        json!({
            "dnsServers": ["192.0.2.5", "192.0.2.6"],
            "dnsSearchDomains": ["a.example", "b.example"],
        })
    };
    let with_hosts = || {
        let mut all = resolver();
        all["extraHosts"] =
            json!([{"hostname": "db.local", "ipAddress": "192.0.2.7"}]);
        all
    };
    let servers = "nameserver 192.0.2.5\nnameserver 192.0.2.6\n\
                   search a.example b.example";
    let resolved = format!("{servers}\n1");
    let resolved = resolved.as_str();
    let unnamed = format!("{servers}\n0");
    let none = "$B grep -c -E '192.0.2|a.example' /etc/resolv.conf /etc/hosts";
    let labels = "wget -q -O - $ECS_CONTAINER_METADATA_URI_V4 | \
                  $B grep -c '\"team\":\"blue\"'";
    check(
        &mut site,
        &[
            row(
                "user uid:gid, workingDirectory",
                "bridge",
                json!({"user": "1000:2000", "workingDirectory": "/srv/deep"}),
                who,
                "1000\n2000\n/srv/deep",
            ),
            row("user name", "bridge", json!({"user": "root"}), who, "0\n0\n/"),
            row("no user", "bridge", json!({}), who, "0\n0\n/"),
            row(
                "hostname",
                "bridge",
                json!({"hostname": "box"}),
                name,
                "box\nbox",
            ),
            row(
                "no hostname",
                "bridge",
                json!({}),
                "n=$(hostname); [ ${#n} = 12 ] && [ $n = $(cat /etc/hostname) ] \
                 && echo digits",
                "digits",
            ),
            row("dns, extraHosts", "bridge", with_hosts(), names, resolved),
            row("dns, extraHosts", "host", with_hosts(), names, resolved),
            row("dns, extraHosts", "none", with_hosts(), names, resolved),
            row("dns", "awsvpc", resolver(), names, unnamed),
            row(
                "no dns",
                "bridge",
                json!({}),
                none,
                "/etc/resolv.conf:0\n/etc/hosts:0",
            ),
            row(
                "dockerLabels",
                "bridge",
                json!({"dockerLabels": {"team": "blue"}}),
                labels,
                "1",
            ),
            row("no dockerLabels", "awsvpc", json!({}), labels, "0"),
        ],
    );
    site.finish().unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_a_container_may_do() {
    let mut site = Site::start().unwrap();
    let effective = "$B grep CapEff /proc/self/status | $B cut -f2";
    let capabilities =
        |change: Value| json!({"linuxParameters": {"capabilities": change}});
    let status = "for n in NoNewPrivs Seccomp; do \
                  $B grep ^$n: /proc/self/status | $B cut -f2; done";
    let mount = "$B mount -t tmpfs none /tmp 2> /dev/null && echo mounted \
                 || echo refused; [ -b /dev/loop0 ] && echo devices; true";
    let write = "(> /x) 2> /dev/null && echo root; > /v/x && echo volume";
    let volume = |more: Value| {
        let mut patch = json!({
            "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}],
        });
        merge(&mut patch, &more);
        patch
    };
    let has_loop = Path::new("/dev/loop0").exists();
    let all_devices = if has_loop { "mounted\ndevices" } else { "mounted" };
    let input = "exec 2> /dev/null; $B timeout 1 cat; echo $?";
    let tty = "$B tty";
    check(
        &mut site,
        &[
            row(
                "Docker's capabilities",
                "bridge",
                json!({}),
                effective,
                "00000000a80425fb",
            ),
            row(
                "capabilities.add",
                "bridge",
                capabilities(json!({"add": ["NET_ADMIN"]})),
                effective,
                "00000000a80435fb",
            ),
            row(
                "capabilities.drop",
                "bridge",
                capabilities(json!({"drop": ["ALL"]})),
                effective,
                "0000000000000000",
            ),
            row("no-new-privileges off", "bridge", json!({}), status, "0\n2"),
            row(
                "no-new-privileges",
                "bridge",
                json!({"dockerSecurityOptions": ["no-new-privileges"]}),
                status,
                "1\n2",
            ),
            row(
                "privileged: no seccomp",
                "bridge",
                json!({"privileged": true}),
                status,
                "0\n0",
            ),
            row(
                "privileged",
                "bridge",
                json!({"privileged": true}),
                mount,
                all_devices,
            ),
            row("not privileged", "bridge", json!({}), mount, "refused"),
            row(
                "readonlyRootFilesystem",
                "bridge",
                volume(json!({"readonlyRootFilesystem": true})),
                write,
                "volume",
            )
            .of(json!({"volumes": [{"name": "v"}]})),
            row(
                "writable root",
                "bridge",
                volume(json!({})),
                write,
                "root\nvolume",
            )
            .of(json!({"volumes": [{"name": "v"}]})),
            row(
                "interactive",
                "bridge",
                json!({"interactive": true}),
                input,
                "143",
            ),
            row("not interactive", "bridge", json!({}), input, "0"),
            row(
                "pseudoTerminal",
                "bridge",
                json!({"pseudoTerminal": true}),
                tty,
                "/dev/pts/0",
            ),
            row("no terminal", "bridge", json!({}), tty, "not a tty"),
        ],
    );
    site.finish().unwrap();
}

#[test]
fn sizes_limit_containers_and_tasks() {
    let mut site = Site::start().unwrap();
    let is_unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let (look, limits) = if is_unified {
        // A weight of 128 shares, in the runtime's conversion.
        (
            "cat /sys/fs/cgroup/memory.low /sys/fs/cgroup/memory.max",
            "8388608\n16777216",
        )
    } else {
        (
            "cat /sys/fs/cgroup/cpu/cpu.shares \
             /sys/fs/cgroup/memory/memory.soft_limit_in_bytes \
             /sys/fs/cgroup/memory/memory.limit_in_bytes",
            "128\n8388608\n16777216",
        )
    };
    let given = json!({"cpu": 128, "memory": 16, "memoryReservation": 8});
    // dd's buffer is larger than what the task may have.
    let greedy = "dd if=/dev/zero of=/dev/null bs=200M count=1 2> /dev/null; \
                  echo $?";
    let unlimited = json!({"memory": null});
    // Two seconds of wall time; the second line counts children.
    let busy = "exec 2> /dev/null; $B timeout 2 /bin/sh -c 'while :; do :; done'; \
                t=$(times | $B tail -n1); t=${t%% *}; t=${t#0m}; \
                [ ${t%%.*} = 0 ] && echo little || echo much";
    check(
        &mut site,
        &[
            row(
                "cpu, memoryReservation, memory",
                "bridge",
                given,
                look,
                limits,
            ),
            row("task memory", "bridge", unlimited.clone(), greedy, "137")
                .of(json!({"memory": "64"})),
            row("more task memory", "bridge", unlimited, greedy, "0")
                .of(json!({"memory": "512"})),
            row("task cpu", "bridge", json!({}), busy, "little")
                .of(json!({"cpu": "256", "memory": "64"})),
        ],
    );
    site.finish().unwrap();
}
