//! Placements per second as a fleet fills up.
//!
//! Each fleet has hosts in three zones; tasks of five sizes are placed on it,
//! group after group, until it holds twenty for each host. The time is that
//! of [`plan`]; a line for each fleet and strategy says what came of it.
//!
//! `cargo bench -p minato-core --bench placement`, with a part of a line's
//! name to run only such lines.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minato_core::placement::{
    Candidate, Capacity, Claim, Group, Groups, Ledger, Request, Resource,
    SpreadField, Strategy, World, ZONE_ATTRIBUTE, plan,
};
use minato_wire::Timestamp;

/// Tasks that a fleet holds in the end, for each of its hosts.
const TASKS_PER_HOST: u32 = 20;
/// CPU units and MiB of the tasks, in turn.
const SIZES: [(i64, i64); 5] =
    [(128, 256), (256, 512), (256, 1024), (512, 1024), (1024, 2048)];
/// Attributes that a task asks for: as many as an ordinary definition.
const NEEDS: [&str; 4] = [
    "com.amazonaws.ecs.capability.docker-remote-api.1.18",
    "com.amazonaws.ecs.capability.logging-driver.awslogs",
    "ecs.capability.execution-role-awslogs",
    "ecs.capability.container-health-check",
];

/// Hosts of 16 cores and 32 GiB: room for 26 tasks on average.
fn fleet(hosts: usize) -> World {
    let capacity = Capacity {
        cpu: 16 * 1024,
        memory_mib: 32 * 1024,
        ..Capacity::default()
    };
    // Hosts that are alike share their attributes, as in the control plane.
    let zones: Vec<Arc<BTreeMap<String, String>>> = ["a", "b", "c"]
        .into_iter()
        .map(|zone| {
            let mut attributes: BTreeMap<String, String> = NEEDS
                .iter()
                .chain(&["ecs.os-type", "ecs.instance-type", "ecs.ami-id"])
                .map(|name| ((*name).to_owned(), String::new()))
                .collect();
            attributes.insert(ZONE_ATTRIBUTE.to_owned(), zone.to_owned());
            Arc::new(attributes)
        })
        .collect();
    World {
        hosts: (0..hosts).map(|_| Ledger::new(capacity.clone())).collect(),
        candidates: (0..hosts)
            .map(|host| Candidate {
                arn: format!("{host:032x}"),
                host,
                agent_connected: true,
                agent_version: None,
                ec2_instance_id: None,
                registered_at: Timestamp::from_millis(0),
                attributes: Arc::clone(&zones[host % zones.len()]),
                groups: Groups::default(),
                running_tasks: 0,
            })
            .collect(),
    }
}

/// The request of the service of this number.
fn request(number: usize, count: u32, strategies: &[Strategy]) -> Request {
    let (cpu, memory_mib) = SIZES[number % SIZES.len()];
    Request {
        count,
        claim: Claim { cpu, memory_mib, ..Claim::default() },
        attributes: NEEDS.iter().map(|name| (*name).to_owned()).collect(),
        group: Group::named(&format!("service:{}", number / 10)),
        strategies: strategies.to_vec(),
        seed: number as u64,
        ..Request::default()
    }
}

/// Fills a fleet; the time of each call, and of all placements.
fn fill(hosts: usize, count: u32, strategies: &[Strategy]) -> Vec<Duration> {
    let mut world = fleet(hosts);
    let wanted = u32::try_from(hosts).unwrap_or(u32::MAX) * TASKS_PER_HOST;
    let mut times = vec![];
    for number in 0..(wanted / count) as usize {
        let request = request(number, count, strategies);
        let start = Instant::now();
        let found = plan(&mut world, &request);
        times.push(start.elapsed());
        assert_eq!(black_box(found).placed.len(), count as usize);
    }
    times
}

fn main() {
    let only = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let zone =
        || Strategy::Spread(SpreadField::Attribute(ZONE_ATTRIBUTE.to_owned()));
    let kinds = [
        ("spread", vec![zone(), Strategy::Spread(SpreadField::Instance)]),
        ("binpack", vec![Strategy::Binpack(Resource::Memory)]),
        ("spread+binpack", vec![zone(), Strategy::Binpack(Resource::Memory)]),
        ("random", vec![Strategy::Random]),
    ];
    println!("line                                p50/s      all/s   µs each");
    for hosts in [100, 1_000, 5_000, 10_000] {
        for count in [100, 10, 1] {
            for (name, strategies) in &kinds {
                let line = format!("{hosts} hosts, {count} a call, {name}");
                if only.as_ref().is_some_and(|only| !line.contains(only)) {
                    continue;
                }
                let mut times = fill(hosts, count, strategies);
                times.sort_unstable();
                let rate = |seconds: f64, tasks: f64| tasks / seconds;
                let median = times[times.len() / 2].as_secs_f64();
                let all: f64 = times.iter().map(Duration::as_secs_f64).sum();
                let tasks = f64::from(count) * times.len() as f64;
                println!(
                    "{line:<34} {:>8.0}   {:>8.0}   {:>7.2}",
                    rate(median, f64::from(count)),
                    rate(all, tasks),
                    all / tasks * 1e6,
                );
            }
        }
    }
}
