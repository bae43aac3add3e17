//! A process killed at any moment: what it left is found and mended.

use std::process::{Command, Stdio};

use super::*;

const RUN_DIR: &str = "MINATO_TEST_NETWORK_RUN_DIR";
const ROUNDS: u64 = 12;
/// A whole turn of the victim takes some 20 ms.
const LIFE_MAX_MS: u64 = 80;

/// The victim: goes through everything until it is killed. Does nothing
/// unless started by the test below.
#[test]
fn victim() {
    let Some(run_dir) = std::env::var_os(RUN_DIR) else { return };
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut config = config(PathBuf::from(run_dir));
        config.dynamic_ports = Some((45000, 45010));
        let network = Network::open(config).await.unwrap();
        loop {
            let task = eni('a', 10);
            network.attach_task(&task).await.unwrap();
            network.attach_bridge("web").await.unwrap();
            network.attach_none("alone").await.unwrap();
            let mut wish = tcp("web", 80, HostPort::Dynamic);
            wish.count = 4;
            network.publish(&wish).await.unwrap();
            network.detach_task(&task.task_id).await.unwrap();
            network.detach_bridge("web").await.unwrap();
            network.detach_none("alone").await.unwrap();
        }
    });
}

#[test]
fn a_process_killed_at_any_moment_leaves_nothing_broken() {
    in_world(|world| {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..ROUNDS {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let life = Duration::from_millis(seed % LIFE_MAX_MS);
            kill_a_victim(world, life);
            let network = world.open();
            let task = world.task(&network, 'a', 10);
            let web = world.container(&network, "web");
            let _task = world.serve(&task, Protocol::Tcp, 80);
            let _web = world.serve(&web, Protocol::Tcp, 80);
            let wish = tcp("web", 80, HostPort::Fixed(8080));
            world.wait(network.publish(&wish)).unwrap();
            let (host, lo) = (world.host(), Ipv4Addr::LOCALHOST);
            let shown = format!("round {round}, killed after {life:?}");
            let answer = world.ask(&host, (task.ip, 80));
            assert!(answer.is_ok(), "{shown}: {answer:?}");
            let answer = world.ask(&host, (lo, 8080));
            assert!(answer.is_ok(), "{shown}: {answer:?}");
            // Some rounds go on with what there is, some start afresh.
            if round % 3 == 0 {
                world.close(network);
            }
        }
        world.close(world.open());
    });
}

fn kill_a_victim(world: &World, life: Duration) {
    let this = std::env::current_exe().unwrap();
    let mut victim = Command::new(this)
        .args(["--exact", "network::tests::kills::victim", "--nocapture"])
        .env(RUN_DIR, world.dir.path().join("run"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pins = world.dir.path().join("run/netns/mn");
    world.soon(|| pins.exists(), "the victim has started");
    std::thread::sleep(life);
    assert_eq!(victim.try_wait().unwrap(), None, "the victim failed");
    victim.kill().unwrap();
    victim.wait().unwrap();
}
