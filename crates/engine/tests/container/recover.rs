//! Restarts: of the daemon, of a shim, of the machine.

use minato_engine::container::{ContainerState, ExitReason};

use super::support::{Host, is_possible, until, within};

#[tokio::test]
async fn a_restarted_daemon_finds_running_and_ended_containers() {
    if !is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let long =
        host.spec("long", "echo one; cat /tmp/pipe 2>/dev/null; sleep 1000");
    let short = host.spec("short", "exit 3");
    let never = host.spec("never", "true");
    for spec in [&long, &short, &never] {
        host.containers.create(spec).await.unwrap();
    }
    let started = host.containers.start(&long.id).await.unwrap();
    host.containers.start(&short.id).await.unwrap();
    within(host.containers.wait(&short.id)).await.unwrap();
    host.restart().await;
    let state = |name| host.containers.state(name);
    assert_eq!(state(&long.id), Some(ContainerState::Running(started)));
    assert_eq!(state(&never.id), Some(ContainerState::Created));
    let exit = within(host.containers.wait(&short.id)).await.unwrap();
    assert_eq!((exit.code, exit.reason), (3, ExitReason::Exited));
    host.containers.start(&never.id).await.unwrap();
    assert_eq!(host.finish(&never.id).await.exit.code, 0);
    host.containers.signal(&long.id, libc::SIGKILL).await.unwrap();
    let ran = host.finish(&long.id).await;
    assert_eq!(ran.exit.code, 137);
    assert_eq!(ran.text(), "one");
    host.close().await;
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "sleep 1000 & sleep 1000");
    host.containers.create(&spec).await.unwrap();
    let started = host.containers.start(&spec.id).await.unwrap();
    kill_shim(&host, "c1");
    let exit = within(host.containers.wait(&spec.id)).await.unwrap();
    assert_eq!((exit.code, exit.reason), (137, ExitReason::ShimLost));
    until("the container's process is gone", || {
        !std::path::Path::new(&format!("/proc/{}", started.pid)).exists()
    })
    .await;
    host.close().await;
}

#[tokio::test]
async fn a_shim_killed_while_no_daemon_looks_is_noticed() {
    if !is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let spec = host.spec("c1", "sleep 1000");
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    // The old daemon's ear stays open here, but its answer is not used: the
    // new one has to find out by itself.
    kill_shim(&host, "c1");
    host.restart().await;
    let exit = within(host.containers.wait(&spec.id)).await.unwrap();
    assert_eq!((exit.code, exit.reason), (137, ExitReason::ShimLost));
    host.close().await;
}

#[tokio::test]
async fn another_boot_id_means_everything_is_gone() {
    if !is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let spec = host.spec("c1", "sleep 1000");
    let done = host.spec("done", "exit 5");
    host.containers.create(&spec).await.unwrap();
    host.containers.create(&done).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    host.containers.start(&done.id).await.unwrap();
    within(host.containers.wait(&done.id)).await.unwrap();
    let kept = host.root("done").join("exit.json");
    until("the end is on the disk", || kept.exists()).await;
    let boot = host.rootfs.with_file_name("boot_id");
    std::fs::write(&boot, "another\n").unwrap();
    host.config.boot_id_file = boot;
    host.restart().await;
    let exit = within(host.containers.wait(&spec.id)).await.unwrap();
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Reboot));
    let exit = within(host.containers.wait(&done.id)).await.unwrap();
    assert_eq!((exit.code, exit.reason), (5, ExitReason::Exited));
    until("the shim has gone with its container", || host.shims() == 0).await;
    host.close().await;
}

/// Kills the shim of a container the hard way.
fn kill_shim(host: &Host, name: &str) {
    let file = host.config.run_dir.join(name).join("running.json");
    let running: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let pid = running["shim"]["pid"].as_i64().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
}
