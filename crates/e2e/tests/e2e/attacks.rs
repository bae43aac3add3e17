//! Containers that mean harm: what they reach of each other and of the host.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

use crate::secrets::files_with;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// What must be found nowhere.
const SECRET: &str = "seven-seas-under-the-harbour";

fn definition(family: &str, mode: &str, command: &str) -> Value {
    json!({
        "family": family,
        "networkMode": mode,
        "taskRoleArn": format!("arn:aws:iam::000000000000:role/{family}"),
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 32,
            "stopTimeout": 2,
            "command": ["/bin/sh", "-c", format!("B=/bin/busybox; {command}")],
        }]
    })
}

/// What a task that ends by itself has printed.
fn said(site: &mut Site, definition: Value) -> String {
    let arn = site.start_task(definition, "EC2").unwrap();
    site.wait_task(&arn, "STOPPED").unwrap();
    site.minato(&["logs", &arn]).unwrap()
}

/// Waits until a running task has printed a text.
fn until_said(site: &Site, arn: &str, text: &str) -> String {
    let said = wait_for(PATIENCE, || {
        let said = site.minato(&["logs", arn]).unwrap();
        said.contains(text).then_some(said)
    });
    said.unwrap_or_else(|| panic!("{}", site.minato(&["logs", arn]).unwrap()))
}

/// Asks the task endpoint for each path, seeming to be somebody else; prints
/// what is answered.
fn guesses(paths: &[String], victim: &str) -> String {
    let asked = paths.iter().map(|path| {
        format!(
            "$B wget -q -S -O - --header 'X-Forwarded-For: {victim}' \
             --header 'Forwarded: for={victim}' \
             --header 'X-Real-IP: {victim}' \
             'http://169.254.170.2{path}' 2>&1; "
        )
    });
    asked.collect::<String>() + "echo that was all"
}

#[test]
fn tasks_get_neither_each_other_s_credentials_nor_metadata() {
    let mut site = Site::start().unwrap();
    let show = "$B wget -q -O - \
                http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; \
                echo; echo I am here; exec sleep 600";
    for mode in ["bridge", "awsvpc"] {
        let victim = definition(&format!("victim-{mode}"), mode, show);
        let arn = site.start_task(victim, "EC2").unwrap();
        let own = until_said(&site, &arn, "I am here");
        assert!(own.contains("AccessKeyId"), "{own}");
        let task = site.wait_task(&arn, "RUNNING").unwrap();
        let container = &task["containers"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let last = |id: &str| id.rsplit('/').next().unwrap().to_owned();
        // All that others may know of a task, and what is no id at all.
        let ids = [
            last(&arn),
            last(&text(&container["containerArn"])),
            text(&container["runtimeId"]),
            String::new(),
            "..".into(),
            "%2e%2e".into(),
            "*".into(),
        ];
        let mut paths = vec!["/v1/credentials".to_owned()];
        for id in ids {
            paths.push(format!("/v1/credentials?id={id}"));
            paths.push(format!("/v2/credentials/{id}"));
            paths.push(format!("/v4/{id}/task"));
            paths.push(format!("/v4/{id}/../v2/credentials/{id}"));
            paths.push(format!("/api/{id}/task-protection/v1/state"));
        }
        // In bridge mode nobody is told it.
        let address = &container["networkInterfaces"][0]["privateIpv4Address"];
        let address = address.as_str().unwrap_or("172.17.0.2");
        for thief in ["bridge", "awsvpc", "host"] {
            let steal = guesses(&paths, address);
            let steal = definition(&format!("thief-{thief}"), thief, &steal);
            let said = said(&mut site, steal);
            assert!(said.contains("that was all"), "{said}");
            let answers = said.matches("error: HTTP/1.1 4").count();
            assert_eq!(answers, paths.len(), "{said}");
            assert!(!said.contains("HTTP/1.1 2"), "{thief}: {said}");
            assert!(!said.contains("AccessKey"), "{thief}: {said}");
            assert!(!said.contains("TaskARN"), "{thief}: {said}");
        }
        site.stop_task(&arn).unwrap();
    }
    site.finish().unwrap();
}

/// The ports on which anything in the site's network listens, by whether only
/// its own loopback is served.
fn listening(site: &Site) -> Vec<(bool, u16)> {
    let mut found = vec![];
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in site.run("cat", &[table]).unwrap().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = words[1].split_once(':').unwrap();
            // In the kernel's order of bytes; 0A is LISTEN.
            let is_local = address.len() == 8 && address.ends_with("7F");
            if words[3] == "0A" {
                found.push((is_local, u16::from_str_radix(port, 16).unwrap()));
            }
        }
    }
    found
}

#[test]
fn containers_do_not_reach_the_doors_of_the_host() {
    let mut site = Site::start().unwrap();
    let doors = listening(&site);
    assert!(doors.iter().any(|(_, port)| *port == 4566), "{doors:?}");
    assert!(doors.iter().all(|(is_local, _)| *is_local), "{doors:?}");
    let ports: String =
        doors.iter().map(|(_, port)| format!("{port} ")).collect();
    let signature = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/\
                     20261128/us-east-1/ecs/aws4_request, \
                     SignedHeaders=host, Signature=00";
    let call = |more: &str| {
        format!(
            "{{ printf 'POST / HTTP/1.1\\r\\nHost: 169.254.170.2\\r\\n\
             X-Amz-Target: AmazonEC2ContainerServiceV20141113.ListClusters\
             \\r\\nContent-Type: application/x-amz-json-1.1\\r\\n{more}\
             Connection: close\\r\\nContent-Length: 2\\r\\n\\r\\n{{}}'; \
             $B sleep 3; }} | $B nc -w 5 169.254.170.2 80; echo; "
        )
    };
    for mode in ["bridge", "awsvpc"] {
        let script = format!(
            "g=$($B ip route | $B sed -n 's/^default via \\([0-9.]*\\) .*/\\1/p'); \
             echo gateway $g; \
             $B nc -w 1 169.254.170.2 80 </dev/null && echo endpoint; \
             for to in $g 127.0.0.1 127.169.170.2; do for port in {ports}; do \
                 $B nc -w 1 $to $port </dev/null && echo open $to $port; \
             done; done 2>/dev/null; \
             {} {} \
             ls /run/minato 2>/dev/null; \
             $B grep -c -e '@' -e minato /proc/net/unix; echo the end",
            call(""),
            call(&format!("Authorization: {signature}\\r\\n")),
        );
        let said = said(&mut site, definition(mode, mode, &script));
        assert!(said.contains("gateway 1"), "{said}");
        assert!(said.contains("app | endpoint\n"), "{said}");
        assert!(!said.contains("open "), "{said}");
        assert!(said.contains("MissingAuthenticationToken"), "{said}");
        assert!(!said.contains("HTTP/1.1 2"), "{said}");
        assert!(said.contains("app | 0\n"), "{said}");
        assert!(said.contains("the end"), "{said}");
    }
    // In the host's network its abstract sockets are everybody's: there is
    // none. Others are files, which are not in the container.
    let script = "$B grep '@' /proc/net/unix; \
                  $B find / -xdev -type s; ls /run/minato; echo the end";
    let said = said(&mut site, definition("host", "host", script));
    assert!(!said.contains('@') && !said.contains("sock"), "{said}");
    assert!(said.contains("the end"), "{said}");
    site.finish().unwrap();
}

#[test]
fn what_minato_keeps_is_its_owner_s_alone() {
    let mut site = Site::start().unwrap();
    let data = site.traces().unwrap().data.clone();
    // As an operator may have made them.
    for dir in [site.dir(), &data] {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    site.down_keeping_tasks().unwrap();
    site.up().unwrap();
    let mut wanted = definition("keeper", "bridge", "exec sleep 600");
    wanted["volumes"] = json!([{"name": "own"}, {"name": "shared",
        "dockerVolumeConfiguration":
            {"scope": "shared", "autoprovision": true}}]);
    wanted["containerDefinitions"][0]["mountPoints"] = json!([
        {"sourceVolume": "own", "containerPath": "/own"},
        {"sourceVolume": "shared", "containerPath": "/shared"},
    ]);
    let arn = site.start_task(wanted, "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    let run = site.traces().unwrap().run_dir();
    let is_closed = |path: &Path| {
        let mode = path.symlink_metadata().unwrap().permissions().mode();
        mode & 0o077 == 0
    };
    assert!(is_closed(&run), "{}", run.display());
    let entries = fs::read_dir(&data).unwrap();
    let open: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| !is_closed(path))
        .collect();
    assert_eq!(open, Vec::<std::path::PathBuf>::new());
    site.stop_task(&arn).unwrap();
    site.finish().unwrap();
}

#[test]
fn secrets_are_not_shown_by_processes_or_left_behind() {
    let mut site = Site::start().unwrap();
    site.aws(&[
        "ssm",
        "put-parameter",
        "--name",
        "/app/secret",
        "--type",
        "SecureString",
        "--value",
        SECRET,
    ])
    .unwrap();
    let script = "[ ${#TOKEN} -gt 20 ] && echo have it; exec sleep 600";
    let mut wanted = definition("secretive", "bridge", script);
    wanted["executionRoleArn"] =
        json!("arn:aws:iam::000000000000:role/ecsTaskExecutionRole");
    wanted["containerDefinitions"][0]["secrets"] =
        json!([{"name": "TOKEN", "valueFrom": "/app/secret"}]);
    let arn = site.start_task(wanted, "EC2").unwrap();
    until_said(&site, &arn, "have it");
    let mut owners = 0;
    let traces = site.traces().unwrap().clone();
    let minato = i32::try_from(site.minato_pid().unwrap()).unwrap();
    for pid in traces.processes().into_iter().chain([minato]) {
        let file = |name: &str| format!("/proc/{pid}/{name}");
        let command = fs::read_to_string(file("comm")).unwrap_or_default();
        // The container's own process has it, and is no other's to read.
        if command.trim() == "sleep" {
            owners += 1;
            continue;
        }
        for name in ["environ", "cmdline"] {
            let bytes = fs::read(file(name)).unwrap_or_default();
            assert!(!has(&bytes), "{command} shows it in {name}");
        }
    }
    assert_eq!(owners, 1);
    site.stop_task(&arn).unwrap();
    for dir in [site.dir(), &traces.run_dir()] {
        assert_eq!(files_with(dir, SECRET), Vec::<String>::new());
    }
    assert!(!site.log().contains(SECRET));
    site.finish().unwrap();
}

fn has(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
}
