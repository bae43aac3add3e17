//! What containers of one task have of each other, of the host and of their
//! images.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use minato_e2e::{Site, make_image, uptime, wait_for};
use serde_json::{Value, json};

use super::{bridge, container, printed, run};

#[test]
fn host_paths_are_mounted_as_they_are() {
    let mut site = Site::start().unwrap();
    let dir = site.dir().join("host");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "kept\n").unwrap();
    let _listener = UnixListener::bind(dir.join("socket")).unwrap();
    let volume = |name: &str, path: &Path| json!({"name": name, "host": {"sourcePath": path}});
    let volumes = json!({"volumes": [
        volume("file", &dir.join("file")),
        volume("socket", &dir.join("socket")),
        volume("null", Path::new("/dev/null")),
        volume("missing", &dir.join("new/deep")),
        volume("dir", &dir),
    ]});
    let mount = |name: &str, read_only: bool| {
        json!({"sourceVolume": name, "containerPath": format!("/m/{name}"),
               "readOnly": read_only})
    };
    let script = "cat /m/file; echo told > /m/file; \
                  [ -S /m/socket ] && echo socket; \
                  [ -c /m/null ] && echo device; \
                  > /m/missing/made; \
                  (> /m/dir/x) 2> /dev/null || echo read-only; \
                  ls /m/dir";
    let mounts = json!({"mountPoints": [
        mount("file", false), mount("socket", false), mount("null", false),
        mount("missing", false), mount("dir", true),
    ]});
    let app = container("app", script, mounts);
    let said = run(&mut site, bridge("host-paths", &[app], volumes));
    assert_eq!(said, "kept\nsocket\ndevice\nread-only\nfile\nnew\nsocket");
    let file = std::fs::read_to_string(dir.join("file")).unwrap();
    assert_eq!(file, "told\n");
    assert!(dir.join("new/deep/made").exists());
    // The driver's own bind, for reading only.
    let bound = json!({"volumes": [{"name": "v", "dockerVolumeConfiguration": {
        "driverOpts": {"type": "none", "device": dir, "o": "bind,ro"},
    }}]});
    let mounts = json!({"mountPoints": [
        {"sourceVolume": "v", "containerPath": "/v"},
    ]});
    let script = "cat /v/file; (> /v/x) 2> /dev/null || echo read-only";
    let app = container("app", script, mounts);
    let said = run(&mut site, bridge("driver-opts", &[app], bound));
    assert_eq!(said, "told\nread-only");
    site.finish().unwrap();
}

#[test]
fn volumes_come_from_images_and_other_containers() {
    let mut site = Site::start().unwrap();
    let archive = site.dir().join("volume.tar");
    let image = "minato-example/volume:1";
    // The volume is where the image has something already.
    let more = ["--cmd", "/bin/sh", "--volume", "/etc", "--volume", "/var/own"];
    make_image(image, &more, &archive).unwrap();
    site.minato(&["image", "load", &archive.to_string_lossy()]).unwrap();
    let wait = json!({"dependsOn": [
        {"containerName": "first", "condition": "SUCCESS"},
    ]});
    for (read_only, expected) in [
        (true, "mounted\nshared\ngroup\nno\nno\nno"),
        (false, "mounted\nshared\ngroup\nmounted"),
    ] {
        let first = "echo mounted > /v/x; echo shared > /var/own/x";
        let first = container(
            "first",
            first,
            json!({
                "image": image, "essential": false,
                "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}],
            }),
        );
        let look = "cat /v/x /var/own/x; ls /etc | $B grep -x group; \
                    for f in /v/y /etc/y /var/own/y; do \
                        (> $f) 2> /dev/null || echo no; \
                    done; [ ! -e /v/y ] || cat /v/x";
        let mut second = wait.clone();
        second["volumesFrom"] =
            json!([{"sourceContainer": "first", "readOnly": read_only}]);
        let containers = [container("app", look, second), first];
        let volumes = json!({"volumes": [{"name": "v"}]});
        let said = run(&mut site, bridge("volumes-from", &containers, volumes));
        assert_eq!(said, expected, "{read_only}");
    }
    // Without it there is nothing, and the next task has its own.
    let look = "ls /v /var/own/x 2> /dev/null; ls /var/own | $B wc -l";
    let alone = container("app", look, json!({"image": image}));
    assert_eq!(run(&mut site, bridge("alone", &[alone], json!({}))), "0");
    site.finish().unwrap();
}

#[test]
fn links_lead_to_containers_and_tell_of_them() {
    let mut site = Site::start().unwrap();
    let serve = "echo page > /index.html; exec httpd -f -p 80 -h /";
    let db = container(
        "my-db",
        serve,
        json!({
            "portMappings": [{"containerPort": 80}],
            "environment": [{"name": "WHO", "value": "db"}],
        }),
    );
    let ask = "n=0; until wget -q -O - http://database/; do \
                   n=$((n+1)); [ $n -lt 50 ] || exit 5; sleep 0.1; \
               done; \
               [ $DATABASE_PORT = tcp://$DATABASE_PORT_80_TCP_ADDR:80 ] && \
               echo $DATABASE_ENV_WHO $DATABASE_NAME; \
               wget -q -O - http://$DATABASE_PORT_80_TCP_ADDR/";
    let app = container("app", ask, json!({"links": ["my-db:database"]}));
    let definition = bridge("linked", &[app, db.clone()], json!({}));
    assert_eq!(run(&mut site, definition), "page\ndb /app/database\npage");
    let ask = "env | $B grep -c DATABASE; \
               $B grep -c database /etc/hosts";
    let app = container("app", &format!("{ask}; true"), json!({}));
    let definition = bridge("unlinked", &[app, db], json!({}));
    assert_eq!(run(&mut site, definition), "0\n0");
    site.finish().unwrap();
}

#[test]
fn namespaces_are_shared_as_the_modes_say() {
    let mut site = Site::start().unwrap();
    let name = format!("minato-e2e-{}", std::process::id());
    let file = Path::new("/dev/shm").join(&name);
    std::fs::write(&file, "").unwrap();
    let minato = site.minato_pid().unwrap();
    let host = format!(
        "cat /proc/{minato}/comm 2> /dev/null; ls /dev/shm | $B grep -c {name}"
    );
    let long = container(
        "long",
        "echo told > /dev/shm/note 2> /dev/null; exec sleep 50",
        json!({"essential": false}),
    );
    let look = "sleep 0.5; $B ps | $B grep -c '[s]leep 50'; cat /proc/1/comm; \
                cat /dev/shm/note 2> /dev/null; \
                [ -d /dev/shm ] || echo no shm; true";
    let after = json!({"dependsOn": [
        {"containerName": "long", "condition": "START"},
    ]});
    for (modes, expected) in [
        (json!({}), "0\nsh"),
        (json!({"pidMode": "task"}), "1\ninit"),
        (json!({"ipcMode": "task"}), "0\nsh\ntold"),
        (json!({"pidMode": "task", "ipcMode": "task"}), "1\ninit\ntold"),
        (json!({"ipcMode": "none"}), "0\nsh\nno shm"),
    ] {
        let app = container("app", look, after.clone());
        let definition = bridge("modes", &[app, long.clone()], modes.clone());
        assert_eq!(run(&mut site, definition), expected, "{modes}");
    }
    let app = container("app", &format!("{host}; true"), json!({}));
    for (modes, expected) in [
        (json!({}), "0"),
        (json!({"pidMode": "host", "ipcMode": "host"}), "minato\n1"),
    ] {
        let definition = bridge("hosts", std::slice::from_ref(&app), modes);
        assert_eq!(run(&mut site, definition), expected);
    }
    std::fs::remove_file(file).unwrap();

    // Fargate has one of the modes. Who stops takes the holder along.
    let mut fargate = bridge(
        "fargate",
        &[container("app", "exec sleep 50", json!({"cpu": 0}))],
        json!({
            "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
            "cpu": "256", "memory": "512", "pidMode": "task",
        }),
    );
    let arn = site.start_task(fargate.clone(), "FARGATE").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    site.stop_task(&arn).unwrap();
    fargate["pidMode"] = json!("host");
    let refused = site.run_task(fargate, "FARGATE").unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("do not support pidMode 'host'"), "{refused}");
    site.finish().unwrap();
}

#[test]
fn containers_wait_for_health_and_not_for_ever() {
    let mut site = Site::start().unwrap();
    let shared = |name: &str, script: &str, mut patch: Value| {
        patch["mountPoints"] =
            json!([{"sourceVolume": "shared", "containerPath": "/shared"}]);
        container(name, script, patch)
    };
    let volumes = json!({"volumes": [{"name": "shared"}]});
    let on = |name: &str, condition: &str| json!([{"containerName": name, "condition": condition}]);
    // The words after the line are its arguments, as in Docker.
    let check = json!({"healthCheck": {
        "command": ["CMD-SHELL", "test -e $0", "/shared/up"],
        "interval": 5, "timeout": 5, "retries": 5, "startPeriod": 1,
    }});
    let slow = "sleep 3; > /shared/up; exec sleep 99";
    let healthy = bridge(
        "healthy",
        &[
            shared("db", slow, check),
            shared(
                "app",
                "ls /shared/up; exec sleep 99",
                json!({"dependsOn": on("db", "HEALTHY")}),
            ),
            container(
                "off",
                "exec sleep 99",
                json!({"healthCheck": {"command": ["NONE"]}}),
            ),
        ],
        volumes.clone(),
    );
    let healthy = site.start_task(healthy, "EC2").unwrap();
    // Meanwhile one that waits in vain, as long as it is told to.
    let late = bridge(
        "late",
        &[
            container(
                "init",
                "exec sleep 99",
                json!({"essential": false, "startTimeout": 2}),
            ),
            container(
                "app",
                "true",
                json!({"dependsOn": on("init", "SUCCESS")}),
            ),
        ],
        json!({}),
    );
    let before = uptime();
    let late = site.start_task(late, "EC2").unwrap();
    let task = site.wait_task(&late, "STOPPED").unwrap();
    assert!(uptime() - before >= Duration::from_secs(2));
    let reasons = task["containers"].to_string();
    assert!(reasons.contains("TaskDependencyError"), "{task:#}");

    site.wait_task(&healthy, "RUNNING").unwrap();
    // It is told of with the next report.
    let health = wait_for(Duration::from_secs(30), || {
        let task = site.task(&healthy).unwrap();
        let of = |name: &str| {
            let mut all = task["containers"].as_array().unwrap().iter();
            all.find(|one| one["name"] == name).unwrap()["healthStatus"].clone()
        };
        (of("db") == "HEALTHY").then(|| of("off"))
    });
    assert_eq!(health, Some(json!("UNKNOWN")));
    let said = wait_for(Duration::from_secs(10), || {
        Some(printed(&site, &healthy)).filter(|said| !said.is_empty())
    });
    assert_eq!(said.as_deref(), Some("/shared/up"));
    site.stop_task(&healthy).unwrap();
    site.finish().unwrap();
}

#[test]
fn restart_policies_hold_after_the_least_period() {
    let mut site = Site::start().unwrap();
    let policy = json!({"restartPolicy": {
        "enabled": true, "restartAttemptPeriod": 60, "ignoredExitCodes": [5],
    }});
    let one = |family: &str, script: &str| {
        bridge(family, &[container("app", script, policy.clone())], json!({}))
    };
    let again = "echo run >> /runs; cat /runs; \
                 [ $($B wc -l < /runs) -gt 1 ] && exec sleep 99; \
                 sleep 61; exit 3";
    let again = site.start_task(one("again", again), "EC2").unwrap();
    let ignored = one("ignored", "sleep 61; exit 5");
    let ignored = site.start_task(ignored, "EC2").unwrap();
    let short = site.start_task(one("short", "exit 3"), "EC2").unwrap();
    let task = site.wait_task(&short, "STOPPED").unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 3, "{task:#}");
    let said = wait_for(Duration::from_secs(90), || {
        let said = printed(&site, &again);
        said.ends_with("run\nrun").then_some(said)
    });
    assert_eq!(said.as_deref(), Some("run\nrun\nrun"));
    assert_eq!(site.task(&again).unwrap()["lastStatus"], "RUNNING");
    let task = site.wait_task(&ignored, "STOPPED").unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 5, "{task:#}");
    site.stop_task(&again).unwrap();
    site.finish().unwrap();
}
