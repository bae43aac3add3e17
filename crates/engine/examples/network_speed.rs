//! Measures attaching, detaching and publishing, in namespaces of its own.
//!
//! `cargo run --release -p minato-engine --example network_speed`, as root.

use std::error::Error;
use std::future::Future;
use std::net::Ipv4Addr;

use minato_engine::network::{
    HostPort, Ipv4Cidr, MacAddress, Network, NetworkConfig, Protocol, Publish,
    Subnet, TaskEni, leftovers,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::time::Instant;

const ROUNDS: u8 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let run_dir = std::env::temp_dir()
        .join(format!("minato-network-speed-{}", std::process::id()));
    let cidr: Ipv4Cidr = "172.31.0.0/20".parse()?;
    let gateway = Ipv4Addr::new(172, 31, 0, 1);
    let config = NetworkConfig {
        name: "speed".to_owned(),
        run_dir: run_dir.clone(),
        subnets: vec![Subnet {
            id: "subnet-a".to_owned(),
            cidr,
            gateway,
            ipv6: None,
        }],
        bridge_cidr: None,
        dynamic_ports: None,
        security_groups: false,
    };
    let (mut attach, mut detach, mut publish) = (vec![], vec![], vec![]);
    let start = Instant::now();
    let network = Network::open(config.clone()).await?;
    println!("open          {:8.2} ms", start.elapsed().as_secs_f64() * 1e3);
    for n in 0..ROUNDS {
        let eni = TaskEni {
            task_id: format!("task-{n}"),
            mac: MacAddress([0x02, 0, 0, 0, 0, n]),
            ip: Ipv4Addr::new(172, 31, 1, n),
            prefix_len: 20,
            gateway,
            subnet_id: "subnet-a".to_owned(),
            ipv6: None,
        };
        attach.push(timed(network.attach_task(&eni)).await?);
    }
    network.attach_bridge("web").await?;
    for n in 0..ROUNDS {
        let wish = Publish {
            endpoint: "web".to_owned(),
            protocol: Protocol::Tcp,
            container_port: 1000 + u16::from(n),
            count: 1,
            host_port: HostPort::Dynamic,
        };
        publish.push(timed(network.publish(&wish)).await?);
    }
    let start = Instant::now();
    let network = Network::open(config).await?;
    println!("open again    {:8.2} ms", start.elapsed().as_secs_f64() * 1e3);
    for n in 0..ROUNDS {
        let id = format!("task-{n}");
        detach.push(timed(network.detach_task(&id)).await?);
    }
    report("attach_task", attach);
    report("detach_task", detach);
    report("publish", publish);
    network.teardown().await?;
    std::fs::remove_dir_all(run_dir)?;
    println!("left over     {:?}", leftovers("speed"));
    Ok(())
}

async fn timed<T, E>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<f64, E> {
    let start = Instant::now();
    work.await?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn report(what: &str, mut times_ms: Vec<f64>) {
    times_ms.sort_by(f64::total_cmp);
    let at = |percent: usize| times_ms[(times_ms.len() - 1) * percent / 100];
    println!(
        "{what:<12} p50 {:6.2} ms  p95 {:6.2} ms  least {:6.2} ms",
        at(50),
        at(95),
        at(0)
    );
}
