//! A roster that is kept up is the one that would be written anew.

use minato_store::{Row, Tx};
use proptest::prelude::*;

use super::super::*;
use super::play::Play;
use super::{packing, running};
use crate::services::ecs::services::tasks_of;
use crate::testing::task_on;

/// The roster of the service as it is kept, and as it is.
fn rosters(play: &Play) -> (Option<Roster>, Roster) {
    let now = play.bed.scope().now;
    let newest = || play.bed.cx.snapshot();
    let (rows, kept) = play.rosters.see(newest, &play.key(), now);
    let service = play.service();
    let eyes = Eyes::new(&rows, &service, now);
    (kept, Roster::of(&eyes, &tasks_of(&rows, &service)))
}

/// Something that happens to the service's world.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// One of its tasks takes this many steps of its life.
    Moves(usize, u8),
    /// One of its tasks is protected, or not any more.
    Protects(usize),
    /// The row of one of its tasks is deleted.
    Vanishes(usize),
    /// One of its tasks is without an instance, as Fargate's are.
    Lifts(usize),
    /// A task of somebody else comes or goes.
    Others(bool),
    /// An instance takes no tasks any more, or does again.
    Drains(usize),
    /// The row of an instance is deleted.
    Deregisters(usize),
    /// A host is gone, or there again.
    Loses(usize, bool),
    /// The service gets another deployment.
    Deploys,
    /// The scheduler does what is due.
    Settles,
}

fn act() -> impl Strategy<Value = Act> {
    let one = 0_usize..8;
    prop_oneof![
        6 => (one.clone(), 1_u8..4).prop_map(|(at, by)| Act::Moves(at, by)),
        2 => one.clone().prop_map(Act::Protects),
        1 => one.clone().prop_map(Act::Vanishes),
        2 => one.clone().prop_map(Act::Lifts),
        1 => any::<bool>().prop_map(Act::Others),
        2 => (0_usize..2).prop_map(Act::Drains),
        1 => (0_usize..2).prop_map(Act::Deregisters),
        2 => (0_usize..2, any::<bool>()).prop_map(|(at, is)| Act::Loses(at, is)),
        1 => Just(Act::Deploys),
        1 => Just(Act::Settles),
    ]
}

/// The hosts and instances as they were, to bring some of them back.
struct World {
    hosts: Vec<Arc<Host>>,
    instances: Vec<Arc<ContainerInstance>>,
}

fn moved(task: &Task, by: u8) -> Task {
    let mut row = task.clone();
    for _ in 0..by {
        let next = match row.last_status() {
            "PENDING" => "RUNNING",
            "RUNNING" => "STOPPING",
            _ => "STOPPED",
        };
        let wanted = if next == "RUNNING" { "RUNNING" } else { "STOPPED" };
        row.task.last_status = Some(next.to_owned());
        row.task.desired_status = Some(wanted.to_owned());
        row.task.started_at = row.task.created_at;
    }
    row
}

fn carry_out(tx: &mut Tx, act: Act, service: &Service, world: &World) {
    let all: Vec<Arc<Task>> = tx.scan::<Task>(&Key::root()).collect();
    let pick = |at: usize| {
        let ours = all.iter().filter(|task| task.service.is_some());
        let ours: Vec<&Arc<Task>> = ours.collect();
        ours.get(at % ours.len().max(1)).map(|task| Arc::clone(task))
    };
    match act {
        Act::Moves(at, by) => {
            pick(at).map(|task| tx.put(moved(&task, by)));
        }
        Act::Protects(at) => {
            let Some(task) = pick(at) else { return };
            let mut row = Task::clone(&task);
            if let Some(of) = &mut row.service {
                let until = row.task.created_at.map(|at| at.plus_millis(5));
                of.protected_until = until.xor(of.protected_until);
            }
            tx.put(row);
        }
        Act::Vanishes(at) => {
            pick(at).map(|task| tx.delete::<Task>(&task.key()));
        }
        Act::Lifts(at) => {
            let Some(task) = pick(at) else { return };
            let mut row = Task::clone(&task);
            row.task.container_instance_arn = None;
            tx.put(row);
        }
        Act::Others(true) => drop(tx.put(task_on("h", "t", "PENDING"))),
        Act::Others(false) => {
            let key = task_on("h", "t", "PENDING").key();
            tx.delete::<Task>(&key);
        }
        Act::Drains(at) => {
            let key = world.instances[at].key();
            let found = tx.get::<ContainerInstance>(&key);
            let row = found.as_ref().unwrap_or(&world.instances[at]);
            let is_active = row.status == "ACTIVE";
            let status = if is_active { "DRAINING" } else { "ACTIVE" };
            let status = status.to_owned();
            tx.put(ContainerInstance { status, ..(**row).clone() });
        }
        Act::Deregisters(at) => {
            tx.delete::<ContainerInstance>(&world.instances[at].key());
        }
        Act::Loses(at, true) => {
            tx.delete::<Host>(&world.hosts[at].key());
        }
        Act::Loses(at, false) => {
            tx.put(Host::clone(&world.hosts[at]));
        }
        Act::Deploys => {
            let mut row = service.clone();
            let newest = row.deployments.first().cloned();
            if let Some(mut newest) = newest {
                newest.id.push('+');
                row.deployments.insert(0, newest);
            }
            tx.put(row);
        }
        Act::Settles => {}
    }
}

/// Writes more than the store keeps account of.
async fn flood(play: &Play) {
    let written = play.bed.cx.transact(|tx| {
        for number in 0..40_000 {
            tx.put(task_on("h", &format!("flood-{number}"), "STOPPED"));
        }
        Ok(())
    });
    written.await.unwrap();
}

async fn check(acts: Vec<Act>) {
    let play = running(4).await;
    let rows = play.bed.cx.snapshot();
    let world = Arc::new(World {
        hosts: rows.scan::<Host>(&Key::root()).collect(),
        instances: rows.scan::<ContainerInstance>(&Key::root()).collect(),
    });
    drop(rows);
    for act in acts {
        if matches!(act, Act::Settles) {
            play.settle().await;
        } else {
            let (service, world) = (play.service(), Arc::clone(&world));
            let done = play.bed.cx.transact(move |tx| {
                carry_out(tx, act, &service, &world);
                Ok(())
            });
            done.await.unwrap();
        }
        let (kept, anew) = rosters(&play);
        assert_eq!(kept, Some(anew), "after {act:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_kept_is_what_would_be_read(
        acts in prop::collection::vec(act(), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(check(acts));
    }
}

#[tokio::test]
async fn rosters_that_are_too_old_are_written_anew() {
    let play = running(3).await;
    assert!(rosters(&play).0.is_some());
    let task = Arc::clone(&play.tasks()[0]);
    play.change(&task, |row| *row = moved(row, 1)).await;
    flood(&play).await;
    let (kept, anew) = rosters(&play);
    assert_eq!(anew.members.len(), 2);
    assert_eq!(kept, Some(anew));
}

#[tokio::test]
async fn services_that_mind_others_are_not_kept() {
    let play = packing(2).await;
    assert_eq!(rosters(&play).0, None);
}
