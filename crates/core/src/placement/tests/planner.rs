//! The planner against the plain way, and what it says of its choices.

use super::*;

/// Instances in zones and racks, some of them on one host, with tasks of some
/// groups, and requests of every kind for them.
fn any_fleet() -> impl Generator<Value = (World, Vec<Request>)> {
    let instance = (
        (0..900i64, 0..900i64),
        0..3u8,
        0..4u8,
        any::<bool>(),
        0..3u32,
        proptest::option::weighted(0.1, Just(())),
    );
    let instances = proptest::collection::vec(instance, 1..12);
    let strategy = prop_oneof![
        1 => Just(Strategy::Random),
        2 => Just(Strategy::Spread(SpreadField::Instance)),
        2 => Just(Strategy::Binpack(Resource::Cpu)),
        2 => Just(Strategy::Binpack(Resource::Memory)),
        3 => prop_oneof![Just(ZONE_ATTRIBUTE), Just("rack"), Just("none")]
            .prop_map(|name| {
                Strategy::Spread(SpreadField::Attribute(name.to_owned()))
            }),
    ];
    let asked = (
        1..12u32,
        0..300i64,
        0..300i64,
        proptest::collection::vec(strategy, 0..5),
        0..4u8,
        any::<u64>(),
    );
    (instances, proptest::collection::vec(asked, 1..5)).prop_map(
        |(instances, asked)| {
            let requests = asked.into_iter().map(any_demand).collect();
            (fleet(instances), requests)
        },
    )
}

type Load = (i64, i64);

/// Load, zone, rack, whether on the host before it, tasks of the group, and
/// whether its agent is gone.
type Instance = (Load, u8, u8, bool, u32, Option<()>);

fn fleet(instances: Vec<Instance>) -> World {
    let mut world = World::default();
    for (load, zone, rack, is_shared, tasks, down) in instances {
        if world.hosts.is_empty() || !is_shared {
            world.hosts.push(host(1024, 1024));
        }
        let index = world.hosts.len() - 1;
        world.hosts[index].add(&Claim {
            cpu: load.0 / 2,
            memory_mib: load.1 / 2,
            ..Claim::default()
        });
        let zone = ["a", "b", "c"][usize::from(zone)];
        let mut one = candidate(index, zone);
        if rack > 0 {
            Arc::make_mut(&mut one.attributes)
                .insert("rack".into(), rack.to_string());
        }
        one.arn = format!("i{}", world.candidates.len());
        one.agent_connected = down.is_none();
        (0..tasks).for_each(|_| one.groups.add("family:web"));
        world.candidates.push(one);
    }
    world
}

fn any_demand(
    (count, cpu, memory, strategies, constraint, seed): (
        u32,
        i64,
        i64,
        Vec<Strategy>,
        u8,
        u64,
    ),
) -> Request {
    let mut asked = request(count, cpu, memory);
    asked.strategies = strategies;
    asked.seed = seed;
    let few = "attribute:rack != 2 and not(task:group == x)";
    asked.constraints = match constraint {
        0 => vec![Constraint::DistinctInstance],
        1 => vec![Constraint::MemberOf(Expression::parse(few).unwrap())],
        _ => vec![],
    };
    if constraint == 2 {
        asked.zones = Some(["a".into(), "b".into()].into());
    }
    asked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_plan_that_is_released_never_was((world, requests) in any_fleet()) {
        let mut after = world.clone();
        for request in &requests {
            // Only the even ones may be chosen.
            let pool: Vec<usize> =
                (0..world.candidates.len()).step_by(2).collect();
            let mut planner = Planner::new(&after, &pool, request);
            let placed = planner.place(&mut after, request.count);
            prop_assert!(placed.iter().all(|it| pool.contains(it)));
            release(&mut after, request, &placed);
        }
        for (before, after) in world.candidates.iter().zip(&after.candidates) {
            let tasks = |one: &Candidate| format!("{:?}", one.groups);
            prop_assert_eq!(tasks(before), tasks(after));
        }
        for (before, after) in world.hosts.iter().zip(&after.hosts) {
            prop_assert_eq!(before.free_cpu(), after.free_cpu());
            prop_assert_eq!(before.free_memory_mib(), after.free_memory_mib());
        }
    }

    #[test]
    fn every_choice_is_among_the_best((world, requests) in any_fleet()) {
        let (mut world, mut plain) = (world.clone(), world);
        let all: Vec<usize> = (0..plain.candidates.len()).collect();
        for request in &requests {
            let found = plan(&mut world, request);
            for chosen in &found.placed {
                let best = oracle::best(&plain, request);
                prop_assert!(best.contains(chosen), "{best:?}: {chosen}");
                take(&mut plain, request, *chosen);
            }
            let is_whole = found.placed.len() == request.count as usize;
            if !is_whole {
                prop_assert!(oracle::best(&plain, request).is_empty());
                let refused: Vec<usize> =
                    found.refusals.iter().map(|it| it.candidate).collect();
                prop_assert_eq!(&refused, &all, "each has its reason");
            }
            // What is explained is what is planned.
            let free: Vec<usize> = explain(&plain, &all, request)
                .into_iter()
                .filter(|verdict| verdict.lacks.is_empty())
                .map(|verdict| verdict.candidate)
                .collect();
            let mut one = request.clone();
            one.count = 1;
            let next = plan(&mut plain.clone(), &one);
            match next.placed.first() {
                Some(chosen) => prop_assert!(free.contains(chosen)),
                None => prop_assert!(free.is_empty()),
            }
        }
    }
}

/// Something that happens between two calls.
#[derive(Clone, Debug)]
enum Change {
    /// A task comes or goes, of the group or of another.
    Load {
        candidate: usize,
        cpu: i64,
        is_of_group: bool,
    },
    Connected(usize, bool),
    /// It moves to another zone.
    Zone(usize, bool),
    /// It comes into the pool or leaves it.
    Pool(usize, bool),
    /// Another one comes up, on a host of its own or on the last one.
    Joins {
        zone: bool,
        is_shared: bool,
    },
}

fn any_change() -> impl Generator<Value = Change> {
    let at = 0..12usize;
    let yes = any::<bool>;
    prop_oneof![
        4 => (at.clone(), -300..300i64, yes()).prop_map(
            |(candidate, cpu, is_of_group)| Change::Load {
                candidate, cpu, is_of_group
            }
        ),
        1 => (at.clone(), yes()).prop_map(|(at, it)| Change::Connected(at, it)),
        1 => (at.clone(), yes()).prop_map(|(at, it)| Change::Zone(at, it)),
        2 => (at, yes()).prop_map(|(at, it)| Change::Pool(at, it)),
        1 => (yes(), yes()).prop_map(
            |(zone, is_shared)| Change::Joins { zone, is_shared }
        ),
    ]
}

/// A world, those of it that are in the pool, and which to review.
struct Changing {
    world: World,
    pool: BTreeSet<usize>,
    changed: BTreeSet<usize>,
}

impl Changing {
    fn make(&mut self, change: &Change) {
        let len = self.world.candidates.len();
        let zone = |is_a| if is_a { "a" } else { "b" };
        let at = match *change {
            Change::Load { candidate: at, cpu, is_of_group } => {
                let one = &mut self.world.candidates[at % len];
                match (is_of_group, cpu > 0) {
                    (true, true) => one.groups.add("family:web"),
                    (true, false) => one.groups.remove("family:web"),
                    (false, _) => one.groups.add("family:other"),
                }
                let claim = Claim { cpu, ..Claim::default() };
                let host = one.host;
                self.world.hosts[host].add(&claim);
                // What shares the host has less as well.
                let all = self.world.candidates.iter().enumerate();
                let all = all.filter(|(_, it)| it.host == host);
                self.changed.extend(all.map(|(index, _)| index));
                at
            }
            Change::Connected(at, is_connected) => {
                self.world.candidates[at % len].agent_connected = is_connected;
                at
            }
            Change::Zone(at, is_a) => {
                let one = &mut self.world.candidates[at % len];
                let attributes = Arc::make_mut(&mut one.attributes);
                attributes.insert(ZONE_ATTRIBUTE.into(), zone(is_a).into());
                at
            }
            Change::Pool(at, true) => {
                self.pool.insert(at % len);
                at
            }
            Change::Pool(at, false) => {
                self.pool.remove(&(at % len));
                at
            }
            Change::Joins { zone: is_a, is_shared } => {
                if !is_shared {
                    self.world.hosts.push(host(1024, 1024));
                }
                let on = self.world.hosts.len() - 1;
                self.world.candidates.push(candidate(on, zone(is_a)));
                self.pool.insert(len);
                self.changed.insert(len);
                return;
            }
        };
        self.changed.insert(at % len);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_planner_that_is_kept_chooses_among_the_best(
        (world, requests) in any_fleet(),
        rounds in proptest::collection::vec(
            (proptest::collection::vec(any_change(), 0..6), 1..4u32),
            1..8,
        ),
    ) {
        let request = &requests[0];
        let all: Vec<usize> = (0..world.candidates.len()).collect();
        let mut planner = Planner::new(&world, &all, request);
        let pool = all.into_iter().collect();
        let mut it = Changing { world, pool, changed: BTreeSet::new() };
        for (changes, count) in rounds {
            for change in &changes {
                it.make(change);
            }
            for index in std::mem::take(&mut it.changed) {
                let is_in = it.pool.contains(&index);
                planner.review(&it.world, index, is_in);
            }
            let before = it.world.clone();
            let placed = planner.place(&mut it.world, count);
            let mut plain = before;
            for chosen in &placed {
                let best = oracle::best_of(&plain, &it.pool, request);
                prop_assert!(best.contains(chosen), "{best:?}: {chosen}");
                take(&mut plain, request, *chosen);
            }
            if placed.len() < count as usize {
                let best = oracle::best_of(&plain, &it.pool, request);
                prop_assert!(best.is_empty(), "{best:?}");
            }
            // Half of the plans come to nothing.
            if count % 2 == 0 {
                release(&mut it.world, request, &placed);
                it.changed.extend(&placed);
                for index in &placed {
                    let host = it.world.candidates[*index].host;
                    let all = it.world.candidates.iter().enumerate();
                    let all = all.filter(|(_, it)| it.host == host);
                    it.changed.extend(all.map(|(index, _)| index));
                }
            }
        }
    }
}

#[test]
fn a_planner_is_for_requests_that_differ_in_count_and_seed_only() {
    let mut world = world(2);
    let asked = request(1, 100, 100);
    let mut planner = Planner::new(&world, &[0, 1], &asked);
    assert!(planner.is_for(&Request { count: 7, seed: 9, ..asked.clone() }));
    let others = [
        request(1, 101, 100),
        Request { attributes: vec!["x".into()], ..asked.clone() },
        Request { zones: Some(BTreeSet::new()), ..asked.clone() },
        Request { group: Group::named("family:x"), ..asked.clone() },
        Request {
            constraints: vec![Constraint::DistinctInstance],
            ..asked.clone()
        },
        Request { strategies: vec![Strategy::Random], ..asked.clone() },
        Request {
            platform: Platform { os_type: Some("x"), ..Platform::default() },
            ..asked.clone()
        },
    ];
    for other in &others {
        assert!(!planner.is_for(other), "{other:?}");
    }
    // However often a candidate changes, nothing piles up.
    for round in 0..5000 {
        assert!(!planner.is_worn(), "after {round}");
        let attributes = Arc::make_mut(&mut world.candidates[0].attributes);
        attributes.insert("round".into(), round.to_string());
        planner.review(&world, 0, true);
        if planner.is_worn() {
            planner = Planner::new(&world, &[0, 1], &asked);
        }
        planner.review(&world, 1, true);
    }
    assert_eq!(planner.place(&mut world, 2).len(), 2);
}

#[test]
fn random_is_fair_and_forgets() {
    // Ten tasks to each instance would be a spread, not a draw.
    let mut world = World {
        hosts: (0..10).map(|_| host(100_000, 100_000)).collect(),
        candidates: (0..10).map(|n| candidate(n, "a")).collect(),
    };
    let mut asked = request(10_000, 1, 1);
    asked.strategies = vec![Strategy::Random];
    let placed = plan(&mut world, &asked).placed;
    let mut counts = [0_u32; 10];
    let mut repeats = 0;
    for (chosen, next) in placed.iter().zip(&placed[1..]) {
        counts[*chosen] += 1;
        repeats += u32::from(chosen == next);
    }
    // 1,000 ± 5 standard deviations (30), for each and for the repeats.
    for count in counts.into_iter().chain([repeats]) {
        assert!((850..1150).contains(&count), "{counts:?} {repeats}");
    }
}

#[test]
fn everything_that_is_lacking_is_explained() {
    let mut world = world(2);
    world.candidates[0].agent_connected = false;
    world.candidates[0].groups.add("family:web");
    world.hosts[0].add(&Claim { ports: [80].into(), ..Claim::default() });
    let mut asked = request(1, 2000, 2000);
    asked.claim.ports = [22, 80].into();
    asked.attributes = vec!["gpu".into(), "ecs.capability.task-eni".into()];
    asked.platform.cpu_architecture = Some("arm64");
    asked.zones = Some(["b".to_owned()].into());
    asked.constraints = vec![Constraint::DistinctInstance];
    let reasons = |verdict: &Verdict| -> Vec<&str> {
        verdict.lacks.iter().map(|(reason, _)| reason.as_str()).collect()
    };
    let told = explain(&world, &[0, 1], &asked);
    assert_eq!(
        reasons(&told[0]),
        [
            "AGENT",
            "ATTRIBUTE",
            "ATTRIBUTE",
            "LOCATION",
            "DistinctInstance placement constraint unsatisfied.",
            "RESOURCE:CPU",
            "RESOURCE:MEMORY",
            "RESOURCE:PORTS",
            "RESOURCE:PORTS",
        ]
    );
    assert_eq!(told[0].lacks[1].1, "Missing attributes: gpu");
    assert_eq!(told[1].lacks.len(), 5, "{told:?}");
}
