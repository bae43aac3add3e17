//! Commands inside, limits and numbers, terminals, init.

use std::time::Duration;

use minato_engine::cgroup::TaskLimits;
use minato_engine::container::{
    ContainerError, ContainerState, ExecSpec, LogEntry, LogPosition, Resources,
    WhenLogFull,
};

use super::support::{Host, PATIENCE, is_possible, until, within};

fn command(script: &str) -> ExecSpec {
    ExecSpec {
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        output_max_bytes: 4096,
        ..ExecSpec::default()
    }
}

#[tokio::test]
async fn commands_run_inside() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut spec = host.spec("c1", "sleep 1000");
    spec.env = vec!["OWN=1".into()];
    spec.cwd = "/tmp".into();
    spec.resources.memory_bytes = Some(64 << 20);
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    let run = |spec: ExecSpec| {
        let host = &host;
        async move {
            let id = super::support::id("c1");
            let ran = host.containers.exec(&id, &spec, PATIENCE).await;
            let ran = ran.unwrap();
            (ran.exit_code, String::from_utf8(ran.output).unwrap())
        }
    };
    let said = |text: &str| (0, text.to_owned());
    assert_eq!(
        run(command("echo out; echo err >&2")).await,
        said("out\nerr\n")
    );
    assert_eq!(run(command("exit 9")).await.0, 9);
    assert_eq!(run(command("kill -9 $$")).await.0, 137);
    assert_eq!(
        run(command("pwd; echo $OWN$HOME")).await,
        said("/tmp\n1/root\n")
    );
    assert_eq!(run(command("ps | grep -c '[s]leep 1000'")).await, said("1\n"));
    let same = "grep -E '^(CapEff|CapBnd|Seccomp):' /proc/1/status >/tmp/a; \
        grep -E '^(CapEff|CapBnd|Seccomp):' /proc/self/status | \
        cat >/tmp/b; cat /proc/1/cgroup >>/tmp/a; \
        cat /proc/self/cgroup >>/tmp/b; \
        [ \"$(cat /tmp/a)\" = \"$(cat /tmp/b)\" ] && echo same";
    assert_eq!(run(command(same)).await, said("same\n"));
    let as_app = ExecSpec {
        user: Some("app".into()),
        cwd: Some("/".into()),
        env: vec!["OWN=2".into()],
        ..command("id -u; id -G; pwd; echo $OWN; ls /proc/self/fd | wc -l")
    };
    // Descriptors: three streams, and the one `ls` reads.
    assert_eq!(run(as_app).await, said("1000\n1000 2000\n/\n2\n4\n"));
    let ran = host
        .containers
        .exec(&spec.id, &command("yes | head -c 100000"), PATIENCE)
        .await
        .unwrap();
    assert!(ran.truncated);
    assert_eq!(ran.output.len(), 4096);
    let missing = ExecSpec { args: vec!["nothing".into()], ..command("") };
    let refused = host.containers.exec(&spec.id, &missing, PATIENCE).await;
    assert!(matches!(
        refused,
        Err(ContainerError::Refused { errno: Some(libc::ENOENT), .. })
    ));
    host.close().await;
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "sleep 1000");
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    let slow = command("sleep 2000");
    let soon = Duration::from_millis(300);
    let ran = host.containers.exec(&spec.id, &slow, soon).await.unwrap();
    assert!(ran.timed_out);
    assert_eq!(ran.exit_code, 137);
    let stats = || host.containers.stats(&spec.id).unwrap();
    until("only the first process is left", || stats().pids == 1).await;
    // The container's end ends a command too.
    let (containers, id) = (host.containers.clone(), spec.id.clone());
    let running = tokio::spawn(async move {
        containers.exec(&id, &command("sleep 3000"), PATIENCE).await
    });
    until("the command runs", || stats().pids > 1).await;
    host.containers.signal(&spec.id, libc::SIGKILL).await.unwrap();
    let ended = within(running).await.unwrap().unwrap();
    assert_eq!((ended.exit_code, ended.timed_out), (137, false));
    host.close().await;
}

#[tokio::test]
async fn limits_hold_and_are_counted() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let groups = host.containers.cgroups();
    let limits = TaskLimits {
        cpu_quota_us: Some(50_000),
        cpu_shares: Some(512),
        memory_bytes: Some(64 << 20),
    };
    let parent = groups.create_task("task-1", &limits).unwrap();
    assert_eq!(groups.create_task("task-1", &limits).unwrap(), parent);
    let mut spec = host.spec("c1", "while :; do :; done");
    spec.cgroup_parent = Some(parent);
    spec.resources = Resources {
        memory_bytes: Some(32 << 20),
        pids: Some(50),
        ..Resources::default()
    };
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    let stats = || host.containers.stats(&spec.id).unwrap();
    until("it has used CPU time", || stats().cpu_usage_ns > 50_000_000).await;
    let now = stats();
    assert_eq!(now.memory_limit_bytes, Some(32 << 20));
    assert_eq!(now.pids, 1);
    assert!(now.memory_usage_bytes > 0);
    // Half a CPU at most: measured over a while, with room for a period.
    let (before, started) = (stats().cpu_usage_ns, tokio::time::Instant::now());
    tokio::time::sleep(Duration::from_millis(800)).await;
    let used = stats().cpu_usage_ns - before;
    let wall = started.elapsed().as_nanos();
    let share = u128::from(used) * 100 / wall;
    assert!(share < 70, "used {share} % of a CPU");
    host.containers.remove(&spec.id).await.unwrap();
    assert!(host.containers.stats(&spec.id).is_err());
    groups.remove_task("task-1").unwrap();
    groups.remove_task("task-1").unwrap();
    host.close().await;
}

#[tokio::test]
async fn running_out_of_memory_is_noticed() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let groups = host.containers.cgroups();
    let hungry = "x=x; while :; do x=$x$x; done";
    let mut own = host.spec("own", hungry);
    own.resources.memory_bytes = Some(16 << 20);
    own.resources.swap_bytes = Some(0);
    let limits =
        TaskLimits { memory_bytes: Some(16 << 20), ..TaskLimits::default() };
    let mut of_task = host.spec("task", hungry);
    of_task.cgroup_parent = Some(groups.create_task("t", &limits).unwrap());
    for spec in [own, of_task] {
        let exit = host.run(&spec).await.exit;
        assert_eq!((exit.code, exit.oom_killed), (137, true), "{}", spec.id);
    }
    groups.remove_task("t").unwrap();
    host.close().await;
}

#[tokio::test]
async fn logs_are_followed_while_it_runs_and_across_restarts() {
    if !is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let script = "n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); \
        [ $((n % 500)) -ne 0 ] || sleep 0.05; done";
    let spec = host.spec("c1", script);
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    let (mut position, mut seen) = (LogPosition::default(), vec![]);
    'restarts: loop {
        let mut log = host.containers.logs(&spec.id, position).unwrap();
        let stop_at = seen.len() + 700;
        while seen.len() < stop_at {
            match within(log.next()).await.unwrap() {
                Some(LogEntry::Line(line)) => seen.push(line),
                Some(LogEntry::Dropped { lines }) => panic!("{lines} dropped"),
                None => break 'restarts,
            }
        }
        position = log.position();
        log.acknowledge(position).unwrap();
        host.restart().await;
    }
    let text = |n: usize| String::from_utf8_lossy(&seen[n].bytes).into_owned();
    assert_eq!(seen.len(), 3000);
    assert!((0..3000).all(|n| text(n) == format!("line {n}")));
    assert!(seen.windows(2).all(|two| two[0].time_ns <= two[1].time_ns));
    host.close().await;
}

#[tokio::test]
async fn a_container_that_may_not_lose_lines_waits_for_its_reader() {
    if !is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let mut spec = host.spec("c1", "yes 0123456789 | head -n 200000; echo end");
    spec.log.segment_bytes = 64 << 10;
    spec.log.max_bytes = 256 << 10;
    spec.log.when_full = WhenLogFull::Block;
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    // Nobody reads, also across a restart: it gets no further.
    let logs = host.root("c1").join("logs");
    let size = || {
        let entries = std::fs::read_dir(&logs).into_iter().flatten().flatten();
        entries.map(|it| it.metadata().map_or(0, |it| it.len())).sum::<u64>()
    };
    within(async {
        while size() < spec.log.max_bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    host.restart().await;
    assert!(size() <= spec.log.max_bytes + (128 << 10));
    let state = host.containers.state(&spec.id).unwrap();
    assert!(matches!(state, ContainerState::Running(_)), "{state:?}");
    let mut log =
        host.containers.logs(&spec.id, LogPosition::default()).unwrap();
    let mut lines = 0;
    while let Some(entry) = within(log.next()).await.unwrap() {
        let LogEntry::Line(_) = entry else { panic!("{entry:?}") };
        lines += 1;
        if lines % 1000 == 0 {
            log.acknowledge(log.position()).unwrap();
        }
    }
    assert_eq!(lines, 200_001);
    let exit = within(host.containers.wait(&spec.id)).await.unwrap();
    assert_eq!(exit.code, 0);
    host.close().await;
}

#[tokio::test]
async fn nobody_reading_does_not_stop_a_chatty_container() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut spec = host.spec("c1", "yes 0123456789 | head -n 500000; echo end");
    spec.log.segment_bytes = 64 << 10;
    spec.log.max_bytes = 256 << 10;
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    let exit = within(host.containers.wait(&spec.id)).await.unwrap();
    assert_eq!(exit.code, 0);
    let mut log =
        host.containers.logs(&spec.id, LogPosition::default()).unwrap();
    let (mut lines, mut dropped, mut last) = (0, 0, vec![]);
    while let Some(entry) = within(log.next()).await.unwrap() {
        match entry {
            LogEntry::Line(line) => {
                lines += 1;
                last = line.bytes;
            }
            LogEntry::Dropped { lines } => dropped += lines,
        }
    }
    assert_eq!(last, b"end");
    assert!(dropped > 0);
    assert_eq!(lines + dropped, 500_001);
    host.close().await;
}

#[tokio::test]
async fn a_terminal_and_an_open_input_are_given_on_request() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut tty = host.spec("tty", "tty; echo err >&2; echo $TERM");
    tty.tty = true;
    assert_eq!(
        host.run(&tty).await.text().replace('\r', ""),
        "/dev/pts/0\nerr\nxterm"
    );
    let closed = host.spec("closed", "cat; echo ended");
    assert_eq!(host.run(&closed).await.text(), "ended");
    let mut open = host.spec("open", "cat; echo ended");
    open.stdin = true;
    host.containers.create(&open).await.unwrap();
    host.containers.start(&open.id).await.unwrap();
    let waited = tokio::time::timeout(
        Duration::from_millis(300),
        host.containers.wait(&open.id),
    );
    assert!(waited.await.is_err(), "cat has read the end of its input");
    host.close().await;
}

#[tokio::test]
async fn an_init_reaps_passes_signals_and_the_exit_code() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let mut orphans = host.spec(
        "orphans",
        "(sleep 0.01 & ) ; (sleep 0.01 &); sleep 0.3; \
         grep -l '^State:.Z' /proc/[0-9]*/status | wc -l; echo $$; exit 4",
    );
    orphans.init = true;
    let ran = host.run(&orphans).await;
    assert_eq!((ran.text().as_str(), ran.exit.code), ("0\n2", 4));
    let mut polite = host.spec(
        "polite",
        "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done",
    );
    polite.init = true;
    host.containers.create(&polite).await.unwrap();
    host.containers.start(&polite.id).await.unwrap();
    let mut log =
        host.containers.logs(&polite.id, LogPosition::default()).unwrap();
    assert!(within(log.next()).await.unwrap().is_some());
    host.containers.signal(&polite.id, libc::SIGTERM).await.unwrap();
    let ran = host.finish(&polite.id).await;
    assert_eq!((ran.text().as_str(), ran.exit.code), ("ready\nbye", 5));
    let mut missing = host.spec("missing", "");
    missing.args = vec!["nothing".into()];
    missing.init = true;
    host.containers.create(&missing).await.unwrap();
    assert!(host.containers.start(&missing.id).await.is_err());
    host.close().await;
}

#[tokio::test]
async fn a_shim_is_small() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "yes | head -c 10000000; sleep 1000");
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    let mut log =
        host.containers.logs(&spec.id, LogPosition::default()).unwrap();
    assert!(within(log.next()).await.unwrap().is_some());
    let file = host.config.run_dir.join("c1/running.json");
    let running: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let pid = running["shim"]["pid"].as_i64().unwrap();
    let rollup =
        std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    let kib: u64 = kib.parse().unwrap();
    println!("memory of a shim's own: {kib} KiB");
    assert!(kib <= 3 * 1024, "{kib} KiB");
    host.close().await;
}
