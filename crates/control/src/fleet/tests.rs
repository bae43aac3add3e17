use minato_core::placement::Group;
use minato_store::{TransactError, Tx};
use minato_wire::ecs::Attribute;
use proptest::prelude::*;

use super::*;
use crate::tables::Needs;
use crate::testing::{ACCOUNT, REGION, TestBed, task_on};

/// One write.
#[derive(Clone, Debug)]
enum Write {
    Host { host: u8, cpu: i64, connected: bool, fargate: bool },
    NoHost { host: u8 },
    Instance { host: u8, cluster: u8, active: bool, rack: u8 },
    NoInstance { host: u8, cluster: u8 },
    Task { task: u8, host: u8, cpu: i64, stopped: bool },
    NoTask { task: u8 },
}

fn any_write() -> impl Strategy<Value = Write> {
    let host = 0..4u8;
    prop_oneof![
        (host.clone(), 100..200i64, any::<bool>(), any::<bool>()).prop_map(
            |(host, cpu, connected, fargate)| Write::Host {
                host,
                cpu,
                connected,
                fargate
            }
        ),
        host.clone().prop_map(|host| Write::NoHost { host }),
        (host.clone(), 0..2u8, any::<bool>(), 0..3u8).prop_map(
            |(host, cluster, active, rack)| Write::Instance {
                host,
                cluster,
                active,
                rack
            }
        ),
        (host.clone(), 0..2u8)
            .prop_map(|(host, cluster)| Write::NoInstance { host, cluster }),
        (0..12u8, host, 1..9i64, any::<bool>()).prop_map(
            |(task, host, cpu, stopped)| Write::Task {
                task,
                host,
                cpu,
                stopped
            }
        ),
        (0..12u8).prop_map(|task| Write::NoTask { task }),
    ]
}

fn host_row(host: u8, cpu: i64, connected: bool, fargate: bool) -> Host {
    Host {
        account: ACCOUNT.into(),
        region: REGION.into(),
        id: format!("h{host}"),
        cluster: "c0".into(),
        cpu,
        memory_mib: 1000,
        reserved_ports: [22].into(),
        reserved_ports_udp: [].into(),
        attributes: [("zone".to_owned(), Some((host % 2).to_string()))].into(),
        is_connected: connected,
        offers_fargate: fargate,
    }
}

fn instance_row(
    host: u8,
    cluster: u8,
    active: bool,
    rack: u8,
) -> ContainerInstance {
    ContainerInstance {
        account: ACCOUNT.into(),
        region: REGION.into(),
        cluster: format!("c{cluster}"),
        id: format!("i{host}"),
        host: format!("h{host}"),
        status: if active { "ACTIVE" } else { "DRAINING" }.into(),
        ec2_instance_id: format!("i-{host}"),
        attributes: vec![],
        custom_attributes: vec![Attribute {
            name: Some("rack".into()),
            value: Some(rack.to_string()),
            ..Default::default()
        }],
        registered_resources: vec![],
        version_info: None,
        capacity_provider: (rack == 0).then(|| "p".to_owned()),
        tags: vec![],
        registered_at: minato_wire::Timestamp::from_millis(0),
        version: 1,
    }
}

fn task_row(task: u8, host: u8, cpu: i64, stopped: bool) -> Task {
    let status = if stopped { "STOPPED" } else { "RUNNING" };
    let needs = Needs {
        cpu,
        ports: [1000 + u16::from(task)].into(),
        ..Needs::default()
    };
    let mut row = task_on(&format!("h{host}"), &format!("t{task}"), status);
    row.task.group = Some(format!("family:{}", task % 3));
    Task { needs, ..row }
}

fn write(tx: &mut Tx, write: &Write) {
    let id = |kind: &str, number: u8| format!("{kind}{number}");
    match *write {
        Write::Host { host, cpu, connected, fargate } => {
            tx.put(host_row(host, cpu, connected, fargate));
        }
        Write::NoHost { host } => {
            let key = Host::key_of(ACCOUNT, REGION, &id("h", host));
            tx.delete::<Host>(&key);
        }
        Write::Instance { host, cluster, active, rack } => {
            tx.put(instance_row(host, cluster, active, rack));
        }
        Write::NoInstance { host, cluster } => {
            let cluster = id("c", cluster);
            let key = ContainerInstance::key_of(
                ACCOUNT,
                REGION,
                &cluster,
                &id("i", host),
            );
            tx.delete::<ContainerInstance>(&key);
        }
        Write::Task { task, host, cpu, stopped } => {
            // A task stays on the host it was placed on.
            let key = Task::key_of(ACCOUNT, REGION, "c0", &id("t", task));
            let host = match tx.get::<Task>(&key) {
                Some(known) => known.host.clone(),
                None => id("h", host),
            };
            tx.put(Task { host, ..task_row(task, 0, cpu, stopped) });
        }
        Write::NoTask { task } => {
            let key = Task::key_of(ACCOUNT, REGION, "c0", &id("t", task));
            tx.delete::<Task>(&key);
        }
    }
}

fn cluster(name: &str, provider: Option<&str>) -> Pool {
    let provider = provider.map(str::to_owned);
    Pool::Cluster { cluster: name.to_owned(), provider }
}

fn pools() -> [(&'static str, Pool); 4] {
    [
        ("c0", cluster("c0", None)),
        ("c1", cluster("c1", None)),
        ("p", cluster("c0", Some("p"))),
        ("fargate", Pool::Fargate),
    ]
}

/// What plans come to, but for what is decided by lot: how many tasks find a
/// place in all, and how good the first one's is.
fn planned(space: &mut Space, pool: &Pool) -> impl Iterator<Item = String> {
    use placement::{Resource, SpreadField, Strategy};
    let strategies = [
        Strategy::Binpack(Resource::Cpu),
        Strategy::Spread(SpreadField::Instance),
        Strategy::Spread(SpreadField::Attribute("rack".to_owned())),
    ];
    let plans = strategies.map(|strategy| {
        let request = Request {
            count: 30,
            claim: Claim { cpu: 30, ..Claim::default() },
            group: Group::named("family:1"),
            strategies: vec![strategy.clone()],
            ..Request::default()
        };
        let Plan { placed, refusals } = space.plan(pool, &request);
        let candidates = &space.world().candidates;
        let first = placed.first().map(|index| {
            let candidate = &candidates[*index];
            let host = &space.world().hosts[candidate.host];
            let tasks = |it: &Candidate| it.groups.count(&request.group);
            match &strategy {
                Strategy::Binpack(_) => host.free_cpu(),
                Strategy::Spread(SpreadField::Attribute(name)) => {
                    let rack = candidate.attributes.get(name);
                    let pool = space.members(pool).into_iter();
                    let all = pool.map(|index| &candidates[index]);
                    let all = all.filter(|it| it.attributes.get(name) == rack);
                    all.map(|it| i64::from(tasks(it))).sum()
                }
                Strategy::Spread(SpreadField::Instance) | Strategy::Random => {
                    i64::from(tasks(candidate))
                }
            }
        });
        let placed = placed.len();
        format!("{strategy:?}: {placed} {first:?} {}", refusals.len())
    });
    plans.into_iter()
}

/// What placement can see of a space, in an order of its own.
fn seen(fleet: &Fleet, tx: &Tx) -> Vec<String> {
    fleet.with(tx, ACCOUNT, REGION, |space| {
        let mut all = vec![];
        for (name, pool) in pools() {
            let plans = planned(space, &pool);
            all.extend(plans.map(|plan| format!("{name} {plan}")));
        }
        let shown = |index: &usize| {
            let (host, instance) = space.seat(*index).unwrap();
            let candidate = &space.world().candidates[*index];
            let ledger = &space.world().hosts[candidate.host];
            format!(
                "{} {:?} {} {:?} {:?} {} {} {:?} {:?}",
                host.id,
                instance.map(|row| (row.id.clone(), row.status.clone())),
                candidate.agent_connected,
                candidate.attributes,
                candidate.groups,
                candidate.running_tasks,
                ledger.free_cpu(),
                ledger.used_ports(),
                candidate.ec2_instance_id,
            )
        };
        for (name, pool) in pools() {
            let pool = space.members(&pool);
            all.extend(pool.iter().map(|it| format!("{name} {}", shown(it))));
        }
        all.sort();
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_books_are_what_the_rows_say(
        rounds in proptest::collection::vec(
            (
                proptest::collection::vec(any_write(), 0..6),
                proptest::collection::vec(any_write(), 0..4),
                any::<bool>(),
                any::<bool>(),
            ),
            1..12,
        )
    ) {
        let bed = TestBed::new();
        let fleet = Arc::new(Fleet::default());
        for (before, after, looks, commits) in rounds {
            let fleet = Arc::clone(&fleet);
            let (told, answer) = std::sync::mpsc::channel();
            let _: Result<(), TransactError<()>> =
                bed.cx.store.transact_blocking(move |tx| {
                    for one in &before {
                        write(tx, one);
                    }
                    if !commits {
                        fleet.catch_up(tx);
                    }
                    if looks {
                        // In the middle of a transaction, which goes on.
                        let fresh = seen(&Fleet::default(), tx);
                        told.send((seen(&fleet, tx), fresh)).unwrap();
                    }
                    for one in &after {
                        write(tx, one);
                    }
                    if commits { Ok(()) } else { Err(()) }
                });
            for (kept, fresh) in answer {
                prop_assert_eq!(kept, fresh);
            }
        }
        let (told, answer) = std::sync::mpsc::channel();
        let _: Result<(), TransactError<()>> =
            bed.cx.store.transact_blocking(move |tx| {
                let fresh = seen(&Fleet::default(), tx);
                told.send((seen(&fleet, tx), fresh)).unwrap();
                Ok(())
            });
        let (kept, fresh) = answer.recv().unwrap();
        prop_assert_eq!(kept, fresh);
    }
}

#[test]
fn hosts_that_are_alike_share_their_attributes() {
    let bed = TestBed::new();
    let fleet = Fleet::default();
    let _: Result<(), TransactError<()>> =
        bed.cx.store.transact_blocking(move |tx| {
            for host in [0, 2] {
                tx.put(host_row(host, 100, true, true));
                tx.put(instance_row(host, 0, true, 1));
            }
            fleet.with(tx, ACCOUNT, REGION, |space| {
                let of = |index: usize| {
                    let candidate = &space.world().candidates[index];
                    Arc::as_ptr(&candidate.attributes)
                };
                let pool = space.members(&cluster("c0", None));
                assert_eq!(of(pool[0]), of(pool[1]));
            });
            Ok(())
        });
}
