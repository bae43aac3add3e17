//! From create to remove.

use minato_engine::container::{
    ContainerState, CreateContainerError, ExitReason, LogStream, SecretEnv,
    StartContainerError, StartStage,
};

use super::support::{Host, id, is_possible, within};

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "echo out; echo err >&2; exit 7");
    let ran = host.run(&spec).await;
    assert_eq!(ran.exit.code, 7);
    assert_eq!(ran.exit.signal, None);
    assert_eq!(ran.exit.reason, ExitReason::Exited);
    assert!(!ran.exit.oom_killed);
    assert_eq!(ran.stream(LogStream::Stdout), ["out"]);
    assert_eq!(ran.stream(LogStream::Stderr), ["err"]);
    host.close().await;
}

#[tokio::test]
async fn every_step_can_be_repeated() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "echo once; sleep 1000");
    let all = &host.containers;
    all.create(&spec).await.unwrap();
    all.create(&spec).await.unwrap();
    let other = host.spec("c1", "echo other");
    assert!(matches!(
        all.create(&other).await,
        Err(CreateContainerError::Exists { .. })
    ));
    let started = all.start(&spec.id).await.unwrap();
    assert_eq!(all.start(&spec.id).await.unwrap(), started);
    assert_eq!(all.state(&spec.id), Some(ContainerState::Running(started)));
    all.signal(&spec.id, libc::SIGKILL).await.unwrap();
    let exit = within(all.wait(&spec.id)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(libc::SIGKILL)));
    all.signal(&spec.id, libc::SIGKILL).await.unwrap();
    assert_eq!(within(all.wait(&spec.id)).await.unwrap(), exit);
    assert_eq!(all.start(&spec.id).await.unwrap(), started);
    all.remove(&spec.id).await.unwrap();
    all.remove(&spec.id).await.unwrap();
    host.close().await;
}

#[tokio::test]
async fn a_running_container_is_removed_by_force() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "sleep 1000 & trap '' TERM; sleep 1000");
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    within(host.containers.remove(&spec.id)).await.unwrap();
    assert_eq!(host.containers.state(&id("c1")), None);
    host.close().await;
}

#[tokio::test]
async fn a_command_that_cannot_run_says_why() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    std::fs::write(host.rootfs.join("bin/plain"), "no program").unwrap();
    std::fs::write(host.rootfs.join("bin/odd"), "\x7fELF odd").unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(host.rootfs.join("bin/odd"), mode).unwrap();
    let cases = [
        ("nothing", libc::ENOENT),
        ("/bin/nothing", libc::ENOENT),
        ("/etc", libc::EACCES),
        ("plain", libc::EACCES),
        ("/bin/odd", libc::ENOEXEC),
    ];
    for (command, expected) in cases {
        let mut spec = host.spec("c1", "");
        spec.args = vec![command.to_owned()];
        host.containers.create(&spec).await.unwrap();
        match host.containers.start(&spec.id).await {
            Err(StartContainerError::CannotStart { stage, errno, .. }) => {
                assert_eq!(stage, StartStage::Exec, "{command}");
                assert_eq!(errno, Some(expected), "{command}");
            }
            other => panic!("{command}: {other:?}"),
        }
        assert_eq!(
            host.containers.state(&spec.id),
            Some(ContainerState::Created)
        );
        host.containers.remove(&spec.id).await.unwrap();
    }
    host.close().await;
}

#[tokio::test]
async fn an_ended_container_is_started_again_with_its_files_and_log() {
    if !is_possible() {
        return;
    }
    let mut host = Host::new().await;
    let script = "echo x >> /count; wc -l < /count; exit 3";
    let spec = host.spec("c1", script);
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    for _ in 0..2 {
        let exit = within(host.containers.wait(&spec.id)).await.unwrap();
        assert_eq!(exit.code, 3);
        let again = |at_ms| {
            let secrets = SecretEnv::default();
            host.containers.restart_with(&spec.id, at_ms, secrets)
        };
        // Of an earlier end: it was started again already.
        again(exit.at_ms - 1).await.unwrap();
        let same = within(host.containers.wait(&spec.id)).await.unwrap();
        assert_eq!(same, exit);
        again(exit.at_ms).await.unwrap();
        let next = within(host.containers.wait(&spec.id)).await.unwrap();
        assert!(next.at_ms > exit.at_ms);
        host.restart().await;
        let known = within(host.containers.wait(&spec.id)).await.unwrap();
        assert_eq!(known, next);
    }
    let ran = host.finish(&spec.id).await;
    assert_eq!(ran.stream(LogStream::Stdout), ["1", "2", "3"]);
    host.close().await;
}

#[tokio::test]
async fn one_that_cannot_be_started_again_has_ended_as_it_had() {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    let spec = host.spec("c1", "echo once; rm /bin/sh; exit 4");
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    let exit = within(host.containers.wait(&spec.id)).await.unwrap();
    let secrets = SecretEnv::default();
    let all = &host.containers;
    let again = all.restart_with(&spec.id, exit.at_ms, secrets).await;
    assert!(again.is_err());
    let ran = host.finish(&spec.id).await;
    assert_eq!(ran.exit, exit);
    assert_eq!(ran.stream(LogStream::Stdout), ["once"]);
    host.close().await;
}
