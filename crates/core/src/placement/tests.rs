use minato_wire::ecs::{
    PlacementConstraint, PlacementConstraintType, PlacementStrategy,
    PlacementStrategyType,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::{Strategy, *};

mod planner;

fn host(cpu: i64, memory_mib: i64) -> Ledger {
    Ledger::new(Capacity {
        cpu,
        memory_mib,
        reserved_ports: [22].into(),
        ..Capacity::default()
    })
}

fn candidate(host: usize, zone: &str) -> Candidate {
    let attributes = BTreeMap::from([
        (ZONE_ATTRIBUTE.to_owned(), zone.to_owned()),
        ("ecs.cpu-architecture".to_owned(), "x86_64".to_owned()),
        ("ecs.capability.task-eni".to_owned(), String::new()),
    ]);
    Candidate {
        arn: format!("i{host}"),
        host,
        agent_connected: true,
        agent_version: Some("1.0.0".into()),
        ec2_instance_id: None,
        registered_at: Timestamp::from_millis(0),
        attributes: Arc::new(attributes),
        groups: Groups::default(),
        running_tasks: 0,
    }
}

/// Hosts of 1024 units and 1024 MiB, alternately in zones a and b.
fn world(hosts: usize) -> World {
    World {
        hosts: (0..hosts).map(|_| host(1024, 1024)).collect(),
        candidates: (0..hosts)
            .map(|n| candidate(n, if n % 2 == 0 { "a" } else { "b" }))
            .collect(),
    }
}

fn request(count: u32, cpu: i64, memory_mib: i64) -> Request {
    Request {
        count,
        claim: Claim { cpu, memory_mib, ..Claim::default() },
        group: Group::named("family:web"),
        seed: 7,
        ..Request::default()
    }
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.refusals.iter().map(|refusal| refusal.reason.as_str()).collect()
}

#[test]
fn one_failure_for_each_instance_says_why() {
    let mut world = world(9);
    world.candidates[0].agent_connected = false;
    world.candidates[1].attributes = Arc::default();
    world.hosts[2] = host(10, 1024);
    world.hosts[3] = host(1024, 10);
    world.hosts[4].add(&Claim { ports: [80].into(), ..Claim::default() });
    world.hosts[5].add(&Claim { ports_udp: [53].into(), ..Claim::default() });
    world.candidates[6].groups.add("db");
    world.candidates[8].groups.add("family:web");
    let mut request = request(1, 100, 100);
    request.claim.ports = [80].into();
    request.claim.ports_udp = [53].into();
    request.claim.gpus = 1;
    request.attributes = vec!["ecs.capability.task-eni".into()];
    request.constraints = vec![
        Constraint::MemberOf(
            Expression::parse("not(task:group == db)").unwrap(),
        ),
        Constraint::DistinctInstance,
    ];
    let plan = plan(&mut world, &request);
    assert!(plan.placed.is_empty());
    let shown: Vec<String> = plan
        .refusals
        .iter()
        .map(|refusal| {
            let failure = refusal.to_failure(&world.candidates);
            format!(
                "{} {} | {}",
                failure.arn.unwrap(),
                failure.reason.unwrap(),
                failure.detail.unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    i0 AGENT | The container agent is not connected.
    i1 ATTRIBUTE | Missing attributes: ecs.capability.task-eni
    i2 RESOURCE:CPU | 100 CPU units are needed, 10 are free.
    i3 RESOURCE:MEMORY | 100 MiB are needed, 10 are free.
    i4 RESOURCE:PORTS | Port 80/tcp is taken.
    i5 RESOURCE:PORTS_UDP | Port 53/udp is taken.
    i6 MemberOf placement constraint unsatisfied. | not(task:group == 'db')
    i7 RESOURCE:GPU | 1 GPUs are needed, 0 are free.
    i8 DistinctInstance placement constraint unsatisfied. | It has a task of group family:web.
    ");
}

#[test]
fn zones_platforms_and_interfaces() {
    let mut world = world(2);
    let mut asked = request(1, 1, 1);
    asked.zones = Some(["b".to_owned()].into());
    assert_eq!(plan(&mut world, &asked).placed, [1]);
    asked.zones = Some(["c".to_owned()].into());
    let found = plan(&mut world, &asked);
    assert_eq!(reasons(&found), ["LOCATION", "LOCATION"]);
    let mut asked = request(1, 1, 1);
    asked.platform.cpu_architecture = Some("arm64");
    let found = plan(&mut world, &asked);
    assert_eq!(reasons(&found), ["ATTRIBUTE", "ATTRIBUTE"]);
    assert_eq!(
        found.refusals[0].detail,
        "ecs.cpu-architecture is x86_64, not arm64"
    );
    let capacity = Capacity { enis: Some(1), ..Capacity::default() };
    world.hosts = vec![Ledger::new(capacity.clone()), Ledger::new(capacity)];
    let mut asked = request(3, 0, 0);
    asked.claim.enis = 1;
    let found = plan(&mut world, &asked);
    assert_eq!(found.placed.len(), 2);
    assert_eq!(reasons(&found), ["RESOURCE:ENI", "RESOURCE:ENI"]);
}

#[test]
fn what_fits_is_placed_and_the_rest_fails() {
    let mut world = world(2);
    let found = plan(&mut world, &request(10, 0, 512));
    assert_eq!(found.placed.len(), 4);
    assert_eq!(reasons(&found), ["RESOURCE:MEMORY", "RESOURCE:MEMORY"]);
    assert_eq!(plan(&mut world, &request(1, 0, 512)).placed.len(), 0);
}

#[test]
fn reserved_ports_are_nobodys() {
    let mut world = world(1);
    let mut asked = request(1, 1, 1);
    asked.claim.ports = [22].into();
    assert_eq!(reasons(&plan(&mut world, &asked)), ["RESOURCE:PORTS"]);
    assert!(world.hosts[0].used_ports().contains(&22));
}

#[test]
fn the_default_spreads_over_zones_then_instances() {
    let mut world = world(4);
    let found = plan(&mut world, &request(4, 1, 1));
    let mut placed = found.placed.clone();
    assert_ne!(placed[0] % 2, placed[1] % 2, "{placed:?}");
    placed.sort_unstable();
    assert_eq!(placed, [0, 1, 2, 3]);
}

#[test]
fn binpack_fills_the_fullest_that_fits() {
    let mut world = world(3);
    world.hosts[1].add(&Claim { memory_mib: 600, ..Claim::default() });
    world.hosts[2].add(&Claim { memory_mib: 900, ..Claim::default() });
    let mut asked = request(3, 1, 200);
    asked.strategies = vec![Strategy::Binpack(Resource::Memory)];
    let placed = plan(&mut world, &asked).placed;
    assert_eq!(placed, [1, 1, 0]);
}

#[test]
fn strategies_nest() {
    // Spread over zones, and within a zone pack by cpu.
    let mut world = world(4);
    world.hosts[2].add(&Claim { cpu: 500, ..Claim::default() });
    world.hosts[3].add(&Claim { cpu: 500, ..Claim::default() });
    let mut asked = request(4, 100, 1);
    asked.strategies = vec![
        Strategy::Spread(SpreadField::Attribute(ZONE_ATTRIBUTE.into())),
        Strategy::Binpack(Resource::Cpu),
    ];
    let mut placed = plan(&mut world, &asked).placed;
    placed.sort_unstable();
    assert_eq!(placed, [2, 2, 3, 3]);
}

#[test]
fn random_is_the_seed() {
    let draw = |seed| {
        let mut asked = request(8, 1, 1);
        asked.strategies = vec![Strategy::Random];
        asked.seed = seed;
        plan(&mut world(8), &asked).placed
    };
    assert_eq!(draw(1), draw(1));
    let all: BTreeSet<_> = (0..20).map(draw).collect();
    assert!(all.len() > 10, "{all:?}");
}

#[test]
fn two_instances_of_one_host_share_its_ledger() {
    let mut world = world(1);
    world.candidates.push(candidate(0, "a"));
    let found = plan(&mut world, &request(3, 0, 512));
    assert_eq!(found.placed.len(), 2);
    assert_eq!(found.refusals.len(), 2);
}

#[test]
fn fargate_has_one_failure() {
    let full = plan(&mut world(2), &request(1, 2000, 1));
    let failure = fargate_failure(&full.refusals);
    assert_eq!(failure.reason.as_deref(), Some(FARGATE_CAPACITY));
    assert_eq!(
        failure.detail.as_deref(),
        Some("RESOURCE:CPU: 2000 CPU units are needed, 1024 are free.")
    );
    assert_eq!(failure.arn, None);
    let mut asked = request(1, 1, 1);
    asked.attributes = vec!["ecs.capability.efs".into()];
    let failure = fargate_failure(&plan(&mut world(2), &asked).refusals);
    assert_eq!(failure.reason.as_deref(), Some("ATTRIBUTE"));
    assert_eq!(
        failure.detail.as_deref(),
        Some("Missing attributes: ecs.capability.efs")
    );
    let nowhere = fargate_failure(&[]);
    assert_eq!(nowhere.reason.as_deref(), Some(FARGATE_CAPACITY));
}

#[test]
fn calls_are_checked() {
    let constraint = |kind, expression: Option<&str>| PlacementConstraint {
        r#type: kind,
        expression: expression.map(str::to_owned),
    };
    let distinct = Some(PlacementConstraintType::DistinctInstance);
    let member = Some(PlacementConstraintType::MemberOf);
    let good = [
        constraint(distinct, None),
        constraint(member, Some("attribute:a exists")),
    ];
    assert_eq!(constraints(&[], &good).unwrap().len(), 2);
    for wrong in [
        constraint(distinct, Some("attribute:a exists")),
        constraint(member, None),
        constraint(None, None),
    ] {
        assert!(constraints(&[], &[wrong]).is_err());
    }
    assert!(constraints(&[], &vec![constraint(distinct, None); 11]).is_err());

    let strategy = |kind, field: Option<&str>| PlacementStrategy {
        r#type: kind,
        field: field.map(str::to_owned),
    };
    use PlacementStrategyType::{Binpack, Random, Spread};
    for (kind, field, expected) in [
        (Random, None, Strategy::Random),
        (Spread, Some("host"), Strategy::Spread(SpreadField::Instance)),
        (Spread, Some("instanceId"), Strategy::Spread(SpreadField::Instance)),
        (Binpack, Some("MEMORY"), Strategy::Binpack(Resource::Memory)),
        (Binpack, Some("cpu"), Strategy::Binpack(Resource::Cpu)),
    ] {
        let given = [strategy(Some(kind), field)];
        assert_eq!(strategies(&given).unwrap(), [expected]);
    }
    for wrong in [
        strategy(Some(Random), Some("x")),
        strategy(Some(Spread), None),
        strategy(Some(Spread), Some("zone")),
        strategy(Some(Binpack), Some("disk")),
        strategy(None, None),
    ] {
        assert!(strategies(&[wrong]).is_err());
    }
    assert!(strategies(&vec![strategy(Some(Random), None); 6]).is_err());
}

/// A few hosts with some load, and a few requests.
fn any_case() -> impl Generator<Value = (World, Vec<Request>)> {
    let load = (0..900i64, 0..900i64, proptest::option::of(1000..1004u16));
    let hosts = proptest::collection::vec((load, any::<bool>()), 1..6);
    let asked = (
        1..6u32,
        0..600i64,
        0..600i64,
        proptest::collection::btree_set(1000..1004u16, 0..3),
        0..4u8,
        any::<bool>(),
        any::<u64>(),
    );
    (hosts, proptest::collection::vec(asked, 1..5)).prop_map(
        |(hosts, asked)| {
            let mut all = world(hosts.len());
            for (index, ((cpu, memory, port), up)) in
                hosts.into_iter().enumerate()
            {
                all.hosts[index].add(&Claim {
                    cpu,
                    memory_mib: memory,
                    ports: port.into_iter().collect(),
                    ..Claim::default()
                });
                all.candidates[index].agent_connected = up;
            }
            let requests = asked.into_iter().map(any_request).collect();
            (all, requests)
        },
    )
}

fn any_request(
    (count, cpu, memory, ports, kind, distinct, seed): (
        u32,
        i64,
        i64,
        BTreeSet<u16>,
        u8,
        bool,
        u64,
    ),
) -> Request {
    let mut asked = request(count, cpu, memory);
    asked.claim.ports = ports;
    asked.seed = seed;
    asked.strategies = match kind {
        0 => vec![],
        1 => vec![Strategy::Random],
        2 => vec![Strategy::Binpack(Resource::Cpu)],
        _ => vec![
            Strategy::Spread(SpreadField::Instance),
            Strategy::Binpack(Resource::Memory),
        ],
    };
    if distinct {
        asked.constraints = vec![Constraint::DistinctInstance];
    }
    asked
}

proptest! {
    #[test]
    fn nothing_is_sold_twice((mut world, requests) in any_case()) {
        let before = world.hosts.clone();
        let mut sold: Vec<Vec<Claim>> = vec![vec![]; world.hosts.len()];
        for request in &requests {
            let again = plan(&mut world.clone(), request);
            let found = plan(&mut world, request);
            prop_assert_eq!(&again, &found, "the same inputs, another plan");
            let left = found.placed.len() < request.count as usize;
            prop_assert_eq!(!found.refusals.is_empty(), left);
            for index in &found.placed {
                let candidate = &world.candidates[*index];
                prop_assert!(candidate.agent_connected);
                sold[candidate.host].push(request.claim.clone());
            }
            if !request.constraints.is_empty() {
                let distinct: BTreeSet<_> = found.placed.iter().collect();
                prop_assert_eq!(distinct.len(), found.placed.len());
            }
        }
        for (index, claims) in sold.iter().enumerate() {
            // Entering them one by one, each must fit.
            let mut ledger = before[index].clone();
            for claim in claims {
                prop_assert_eq!(ledger.shortage(claim), None);
                ledger.add(claim);
            }
            prop_assert!(claims.is_empty() || ledger.free_cpu() >= 0);
            prop_assert!(claims.is_empty() || ledger.free_memory_mib() >= 0);
            for claim in claims {
                ledger.remove(claim);
            }
            prop_assert_eq!(ledger.free_cpu(), before[index].free_cpu());
            prop_assert_eq!(ledger.used_ports(), before[index].used_ports());
        }
    }

    #[test]
    fn a_spread_is_even(hosts in 1..7usize, count in 1..20u32, seed: u64) {
        let mut world = world(hosts);
        let mut asked = request(count, 1, 1);
        asked.seed = seed;
        asked.strategies = vec![Strategy::Spread(SpreadField::Instance)];
        plan(&mut world, &asked);
        let counts: Vec<u32> = world
            .candidates
            .iter()
            .map(|each| each.groups.count(&Group::named("family:web")))
            .collect();
        let (least, most) =
            (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", counts);
    }
}
