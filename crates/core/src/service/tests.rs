use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// The end of a protection that outlives every test.
const LONG: Option<Timestamp> = Some(Timestamp::from_millis(i64::MAX));

fn ago(seconds: i64) -> Timestamp {
    NOW.plus_millis(-seconds * 1000)
}

fn target(desired: u32, min: u32, max: u32) -> Target {
    Target {
        desired,
        limits: Limits { minimum_healthy_percent: min, maximum_percent: max },
        settle_ms: 0,
        grace_ms: 0,
        can_start: true,
        can_replace: true,
        zones: BTreeSet::new(),
        victims: VictimOrder::Spread,
        shares: BTreeMap::new(),
        now: NOW,
    }
}

fn member(id: usize, age: u32) -> Member {
    Member {
        id: format!("{age}-{id}"),
        age,
        phase: Phase::Running(ago(600)),
        health: Health::Unchecked,
        protected_until: None,
        is_displaced: false,
        zone: Some("a".into()),
        place: "i".to_owned(),
        place_free: 0,
        provider: None,
        created_at: ago(700),
    }
}

fn members(count: usize, age: u32) -> Vec<Member> {
    (0..count).map(|id| member(id, age)).collect()
}

fn stopped(plan: &Plan) -> Vec<&str> {
    plan.stop.iter().map(|stop| stop.id.as_str()).collect()
}

fn causes(plan: &Plan) -> BTreeSet<StopCause> {
    plan.stop.iter().map(|stop| stop.cause).collect()
}

#[test]
fn a_new_service_starts_all_it_wants() {
    let plan = plan::<Member>(&[], &target(4, 100, 200));
    assert_eq!((plan.start, plan.stop.len()), (4, 0));
    assert!(!plan.is_settled && !plan.is_stuck);
}

#[test]
fn a_service_at_rest_is_settled() {
    let plan = plan(&members(4, 0), &target(4, 100, 200));
    assert_eq!(plan, Plan { is_settled: true, ..Plan::default() });
}

#[test]
fn the_first_step_of_the_documented_deployments() {
    for (desired, min, max, start, stop, stuck) in [
        (4, 100, 200, 4, 0, false),
        (4, 50, 100, 0, 2, false),
        (2, 75, 100, 0, 0, true),
        (3, 100, 125, 0, 0, true),
        (1, 100, 200, 1, 0, false),
        (1, 0, 100, 0, 1, false),
        (10, 90, 110, 1, 1, false),
    ] {
        let former = members(usize::try_from(desired).unwrap(), 1);
        let plan = plan(&former, &target(desired, min, max));
        let step = (plan.start, plan.stop.len(), plan.is_stuck);
        assert_eq!(step, (start, stop, stuck), "{desired} {min} {max}");
        assert!(!plan.is_settled);
    }
}

#[test]
fn former_tasks_go_when_their_successors_are_healthy() {
    let mut all = members(2, 1);
    all.extend(members(2, 0));
    all[2].phase = Phase::Starting;
    let first = plan(&all, &target(2, 100, 200));
    assert_eq!(first.start, 0);
    assert_eq!(first.stop.len(), 1, "one successor is healthy");
    all[2].phase = Phase::Running(ago(1));
    let then = plan(&all, &target(2, 100, 200));
    assert_eq!(causes(&then), [StopCause::Replaced].into());
    assert_eq!(then.stop.len(), 2);
}

#[test]
fn a_task_without_health_check_counts_after_a_while() {
    let mut all = members(1, 1);
    all.extend(members(1, 0));
    all[1].phase = Phase::Running(ago(10));
    let patient = Target { settle_ms: 40_000, ..target(1, 100, 200) };
    let early = plan(&all, &patient);
    assert!(early.stop.is_empty() && !early.is_settled);
    assert_eq!(early.wake_at, Some(NOW.plus_millis(30_000)));
    all[1].phase = Phase::Running(ago(40));
    assert_eq!(stopped(&plan(&all, &patient)), ["1-0"]);
}

#[test]
fn health_checks_gate_a_deployment() {
    let mut all = members(1, 1);
    all.extend(members(1, 0));
    all[1].health = Health::Unknown;
    assert!(plan(&all, &target(1, 100, 200)).stop.is_empty());
    all[1].health = Health::Healthy;
    assert_eq!(stopped(&plan(&all, &target(1, 100, 200))), ["1-0"]);
}

#[test]
fn pending_former_tasks_go_at_once() {
    let mut all = members(3, 1);
    all[1].phase = Phase::Starting;
    let plan = plan(&all, &target(3, 100, 100));
    assert_eq!(stopped(&plan), ["1-1"]);
}

#[test]
fn an_unhealthy_task_is_replaced_first_where_there_is_room() {
    let mut all = members(2, 0);
    all[0].health = Health::Unhealthy;
    let first = plan(&all, &target(2, 100, 200));
    assert_eq!((first.start, first.stop.len()), (1, 0));
    all.push(member(7, 0));
    let then = plan(&all, &target(2, 100, 200));
    assert_eq!((then.start, stopped(&then)), (0, vec!["0-0"]));
    assert_eq!(causes(&then), [StopCause::Unhealthy].into());
}

#[test]
fn an_unhealthy_task_makes_way_where_there_is_none() {
    let mut all = members(3, 0);
    all[0].health = Health::Unhealthy;
    all[1].health = Health::Unhealthy;
    let plan = plan(&all, &target(3, 100, 100));
    assert_eq!((plan.start, plan.stop.len()), (0, 1), "one by one");
}

#[test]
fn unhealthy_verdicts_count_after_the_grace_period() {
    let mut all = members(1, 0);
    all[0].health = Health::Unhealthy;
    all[0].phase = Phase::Running(ago(10));
    let graceful = Target { grace_ms: 60_000, ..target(1, 100, 200) };
    let early = plan(&all, &graceful);
    assert!(early.is_settled, "{early:?}");
    assert_eq!(early.wake_at, Some(NOW.plus_millis(50_000)));
    all[0].phase = Phase::Running(ago(60));
    assert_eq!(plan(&all, &graceful).start, 1);
}

#[test]
fn scale_in_keeps_the_shares_of_capacity_providers() {
    // Two of `a` for each of `b`, by a strategy that wants it the other way.
    let mut all = members(9, 0);
    for (number, one) in all.iter_mut().enumerate() {
        let provider = if number % 3 == 0 { "b" } else { "a" };
        one.provider = Some(provider.to_owned());
    }
    let shares = [("a".to_owned(), 2), ("b".to_owned(), 1)].into();
    let found = plan(&all, &Target { shares, ..target(3, 100, 200) });
    let gone: BTreeSet<String> =
        stopped(&found).into_iter().map(Into::into).collect();
    let left = |provider: &str| {
        let of = all.iter().filter(|one| {
            one.provider.as_deref() == Some(provider) && !gone.contains(&one.id)
        });
        of.count()
    };
    assert_eq!((left("a"), left("b")), (2, 1), "{gone:?}");
    // One with more than its share gives first, wherever that is.
    let shares = [("a".to_owned(), 6), ("b".to_owned(), 2)].into();
    let found = plan(&all, &Target { shares, ..target(8, 100, 200) });
    let [id] = &stopped(&found)[..] else { panic!("{found:?}") };
    let victim = all.iter().find(|one| one.id == *id).unwrap();
    assert_eq!(victim.provider.as_deref(), Some("b"));
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_healthy() {
    let mut all = members(2, 0);
    all[0].health = Health::Unhealthy;
    all[0].phase = Phase::Running(NOW.plus_millis(300_000));
    let found = plan(&all, &target(2, 100, 200));
    assert!(!found.is_settled, "{found:?}");
    assert_eq!(found.start, 1);
}

#[test]
fn tasks_on_draining_instances_move_within_the_percentages() {
    let mut all = members(2, 0);
    all[0].is_displaced = true;
    let stuck = plan(&all, &target(2, 100, 100));
    assert!(stuck.is_stuck, "{stuck:?}");
    let first = plan(&all, &target(2, 100, 200));
    assert_eq!((first.start, first.stop.len()), (1, 0));
    all.push(member(7, 0));
    let then = plan(&all, &target(2, 100, 200));
    assert_eq!(stopped(&then), ["0-0"]);
    assert_eq!(causes(&then), [StopCause::Displaced].into());
}

#[test]
fn scale_in_takes_what_serves_least_then_keeps_zones_even() {
    let mut all = members(6, 0);
    for (index, zone) in ["a", "a", "a", "b", "b", "c"].iter().enumerate() {
        all[index].zone = Some((*zone).into());
    }
    all[5].phase = Phase::Starting;
    let four = plan(&all, &target(4, 100, 200));
    assert_eq!(stopped(&four)[0], "0-5");
    assert_eq!(
        all.iter().find(|m| m.id == stopped(&four)[1]).unwrap().zone.as_deref(),
        Some("a")
    );
    assert_eq!(causes(&four), [StopCause::ScaleIn].into());
    let none = plan(&all, &target(0, 100, 200));
    assert_eq!(none.stop.len(), 6);
}

#[test]
fn binpack_empties_the_emptiest_instance() {
    let mut all = members(3, 0);
    for (index, free) in [10, 900, 500].into_iter().enumerate() {
        all[index].place = format!("i{index}");
        all[index].place_free = free;
    }
    let packed =
        Target { victims: VictimOrder::Binpack, ..target(2, 100, 200) };
    assert_eq!(stopped(&plan(&all, &packed)), ["0-1"]);
}

#[test]
fn protected_tasks_stay() {
    let mut all = members(3, 0);
    all.iter_mut().for_each(|member| member.protected_until = LONG);
    all[2].protected_until = None;
    let scaled = plan(&all, &target(1, 100, 200));
    assert_eq!((stopped(&scaled), scaled.protected), (vec!["0-2"], 1));
    let mut former = members(1, 1);
    former[0].protected_until = LONG;
    former.extend(members(1, 0));
    let deployed = plan(&former, &target(1, 100, 200));
    assert_eq!((deployed.stop.len(), deployed.protected), (0, 1));
    assert!(!deployed.is_settled && !deployed.is_stuck);
}

/// Found by the simulator: the task that served was stopped because the one
/// that did not yet was protected.
#[test]
fn scale_in_leaves_enough_healthy_tasks() {
    let mut all = members(2, 0);
    all[0].protected_until = LONG;
    all[0].phase = Phase::Starting;
    let early = plan(&all, &target(1, 100, 200));
    assert!(early.stop.is_empty(), "{early:?}");
    all[0].phase = Phase::Running(ago(1));
    assert_eq!(stopped(&plan(&all, &target(1, 100, 200))), ["0-1"]);
}

#[test]
fn a_clock_set_back_makes_no_task_unhealthy() {
    let mut all = members(2, 0);
    all[0].phase = Phase::Running(NOW.plus_millis(300_000));
    assert!(plan(&all, &target(2, 100, 200)).is_settled);
}

#[test]
fn a_failed_deployment_starts_and_replaces_nothing() {
    let mut all = members(3, 1);
    all.push(member(0, 0));
    let failed =
        Target { can_start: false, can_replace: false, ..target(3, 100, 200) };
    let plan = plan(&all, &failed);
    assert_eq!((plan.start, plan.stop.len()), (0, 0));
    assert!(!plan.is_settled && !plan.is_stuck);
}

#[test]
fn zones_are_balanced_by_one_task_at_a_time() {
    let zones: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    let even = Target { zones, ..target(4, 100, 200) };
    let mut all = members(4, 0);
    all[3].zone = Some("b".into());
    let first = plan(&all, &even);
    assert_eq!((first.start, first.start_zone.as_deref()), (1, Some("b")));
    all.push(member(9, 0));
    all[4].zone = Some("b".into());
    all[4].phase = Phase::Starting;
    assert!(plan(&all, &even).stop.is_empty(), "it comes up first");
    all[4].phase = Phase::Running(ago(1));
    let then = plan(&all, &even);
    assert_eq!(then.stop.len(), 1);
    assert!(then.stop[0].id != "0-3" && then.stop[0].id != "0-9");
    let full = Target {
        limits: Limits { minimum_healthy_percent: 100, maximum_percent: 100 },
        ..even
    };
    let mut all = members(4, 0);
    all[3].zone = Some("b".into());
    assert!(plan(&all, &full).is_settled, "no room to balance");
}

fn post(place: &str, is_manned: bool) -> Post {
    Post { place: place.to_owned(), is_manned, has_others: false }
}

fn at(id: usize, age: u32, place: &str) -> Member {
    Member { place: place.to_owned(), ..member(id, age) }
}

#[test]
fn a_daemon_has_one_task_on_each_instance() {
    let posts = [post("i1", true), post("i2", true), post("i3", false)];
    let target = target(0, 0, 100);
    let all = [at(1, 0, "i1"), at(3, 0, "i3")];
    let plan = plan_daemon(&all, &posts, &target, None);
    assert_eq!(plan.desired, 2);
    assert_eq!(plan.start, ["i2"]);
    assert_eq!(plan.stop[0].id, "0-3");
    assert!(!plan.is_settled);
    let all = [at(1, 0, "i1"), at(2, 0, "i2")];
    assert!(plan_daemon(&all, &posts, &target, None).is_settled);
}

#[test]
fn daemons_are_replaced_as_fast_as_the_minimum_allows() {
    let posts: Vec<Post> =
        (0..4).map(|n| post(&format!("i{n}"), true)).collect();
    let all: Vec<Member> = (0..4).map(|n| at(n, 1, &format!("i{n}"))).collect();
    let half = plan_daemon(&all, &posts, &target(0, 50, 100), None);
    assert_eq!((half.stop.len(), half.start.len()), (2, 0));
    let all_at_once = plan_daemon(&all, &posts, &target(0, 0, 100), None);
    assert_eq!(all_at_once.stop.len(), 4);
}

proptest! {
    #[test]
    fn a_managed_daemon_is_never_drained_faster_than_it_says(
        instances in 1_u32..3_000,
        tenths in 0_u32..=1_000,
        unhealthy in 0_usize..4,
    ) {
        let posts: Vec<Post> =
            (0..instances).map(|n| post(&format!("i{n}"), true)).collect();
        let mut all: Vec<Member> = (0..instances)
            .map(|n| at(n as usize, 1, &format!("i{n}")))
            .collect();
        for one in all.iter_mut().take(unhealthy) {
            one.phase = Phase::Starting;
        }
        let drain = f64::from(tenths) / 10.0;
        let target = target(0, 100, 100);
        let plan = plan_daemon(&all, &posts, &target, Some(drain));
        let most = (instances * tenths / 1_000).max(1) as usize;
        let healthy = all.iter().filter(|one| one.is_healthy(&target));
        let healthy: BTreeSet<&str> =
            healthy.map(|one| one.id.as_str()).collect();
        let stopped = plan.stop.iter().map(|stop| stop.id.as_str());
        let taken = stopped.filter(|id| healthy.contains(id)).count();
        let gone = unhealthy.min(instances as usize);
        prop_assert_eq!(taken, most.saturating_sub(gone));
    }
}

#[test]
fn a_daemon_leaves_a_draining_instance_last() {
    let mut draining = post("i1", false);
    draining.has_others = true;
    let all = [at(1, 0, "i1")];
    let target = target(0, 0, 100);
    assert!(
        plan_daemon(&all, &[draining.clone()], &target, None).stop.is_empty()
    );
    draining.has_others = false;
    assert_eq!(plan_daemon(&all, &[draining], &target, None).stop.len(), 1);
}

/// A service whose tasks come up, fail and go as the generator says.
#[derive(Debug)]
struct World {
    members: Vec<Member>,
    next: usize,
}

impl World {
    fn obey(&mut self, plan: &Plan) {
        let gone = stopped(plan);
        self.members.retain(|member| !gone.contains(&member.id.as_str()));
        for _ in 0..plan.start {
            self.next += 1;
            let mut new = member(self.next, 0);
            new.phase = Phase::Starting;
            new.zone = plan.start_zone.as_deref().map(Arc::from).or(new.zone);
            self.members.push(new);
        }
    }

    fn deploy(&mut self) {
        self.members.iter_mut().for_each(|member| {
            member.age += 1;
            member.id = format!("former-{}", member.id);
        });
    }

    fn healthy(&self, target: &Target) -> u32 {
        let healthy = self.members.iter().filter(|one| one.is_healthy(target));
        u32::try_from(healthy.count()).unwrap()
    }

    fn come_up(&mut self, which: usize) {
        if let Some(one) = self.members.get_mut(which) {
            one.phase = Phase::Running(ago(100));
        }
    }
}

proptest! {
    #[test]
    fn a_pass_keeps_within_the_limits(
        desired in 0..12_u32,
        min in 0..=100_u32,
        max in 100..=250_u32,
        events in proptest::collection::vec((0..5_u8, 0..24_usize), 0..80),
    ) {
        let target = target(desired, min, max);
        let mut world = World { members: vec![], next: 0 };
        for (event, which) in events {
            match event {
                0 | 1 => world.come_up(which),
                2 if which < 3 => world.deploy(),
                3 => if let Some(one) = world.members.get_mut(which) {
                    one.health = Health::Unhealthy;
                },
                2 => if let Some(one) = world.members.get_mut(which) {
                    one.protected_until = LONG.xor(one.protected_until);
                },
                4 if which < world.members.len() => {
                    world.members.remove(which);
                }
                _ => {}
            }
            let before = world.healthy(&target);
            let plan = plan(&world.members, &target);
            let floor = target.limits.fewest_healthy(desired).min(before);
            world.obey(&plan);
            prop_assert!(world.healthy(&target) >= floor, "{plan:?}");
            let total = u32::try_from(world.members.len()).unwrap();
            if plan.start > 0 {
                prop_assert!(total <= target.limits.most(desired));
            }
        }
    }

    #[test]
    fn a_deployment_converges_when_nothing_fails(
        desired in 0..12_u32,
        (min, max) in prop_oneof![
            Just((100, 200)), Just((50, 100)), Just((0, 100)),
            Just((90, 150)), Just((100, 150)),
        ],
        former in 0..14_usize,
        protected in 0..2_usize,
    ) {
        let target = target(desired, min, max);
        // 150 % of one task is one task: AWS stays put there too.
        let limits = target.limits;
        prop_assume!(
            desired == 0
                || limits.most(desired) > desired
                || limits.fewest_healthy(desired) < desired
        );
        let mut world = World { members: members(former, 1), next: 0 };
        for one in world.members.iter_mut().take(protected) {
            one.protected_until = LONG;
        }
        let mut passes = 0;
        loop {
            let plan = plan(&world.members, &target);
            if plan.is_settled {
                break;
            }
            world.obey(&plan);
            world.members.iter_mut().for_each(|one| {
                one.phase = Phase::Running(ago(100));
                // Protection ends some time.
                one.protected_until =
                    one.protected_until.filter(|_| passes < 5);
            });
            passes += 1;
            prop_assert!(passes < 60, "{world:?}");
        }
        prop_assert!(world.members.iter().all(|one| one.age == 0));
        prop_assert_eq!(world.members.len(), usize::try_from(desired).unwrap());
    }
}
