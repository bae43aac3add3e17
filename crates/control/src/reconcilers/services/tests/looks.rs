//! When a look in a snapshot may stand for one in the transaction after it.

use minato_store::Row;

use super::super::*;
use super::play::Play;
use super::{packing, running};
use crate::testing::task_on;

/// Whether a look before a change stands in a transaction after it.
async fn stands_after(
    play: &Play,
    change: impl FnOnce(&mut minato_store::Tx) + Send + 'static,
) -> bool {
    let cx = &play.bed.cx;
    let rows = cx.snapshot();
    let service = play.service();
    let seen = look(&rows, &service, Pace::FAST, play.bed.scope().now).unwrap();
    let changed = cx.transact(move |tx| {
        change(tx);
        Ok(())
    });
    changed.await.unwrap();
    let stands =
        cx.transact(move |tx| Ok(seen.stands(tx, &service, rows.revision())));
    stands.await.unwrap()
}

#[tokio::test]
async fn a_look_stands_where_only_others_changed() {
    let play = running(2).await;
    let other = Service { name: "other".into(), ..(*play.service()).clone() };
    assert!(stands_after(&play, |_| ()).await);
    assert!(stands_after(&play, |tx| drop(tx.put(other))).await);
    let task = task_on("h", "t", "PENDING");
    assert!(stands_after(&play, |tx| drop(tx.put(task))).await);
}

#[tokio::test]
async fn a_look_does_not_stand_where_the_service_changed() {
    let play = running(2).await;
    let service = Service { desired: 7, ..(*play.service()).clone() };
    assert!(!stands_after(&play, |tx| drop(tx.put(service))).await);
    let task = Task::clone(&play.tasks()[0]);
    let key = task.key();
    assert!(!stands_after(&play, |tx| drop(tx.put(task))).await);
    assert!(
        !stands_after(&play, move |tx| drop(tx.delete::<Task>(&key))).await
    );
}

#[tokio::test]
async fn a_look_does_not_stand_where_a_host_changed() {
    let play = running(2).await;
    let rows = play.bed.cx.snapshot();
    let row = rows.scan::<ContainerInstance>(&Key::root()).next().unwrap();
    let row = ContainerInstance { status: "DRAINING".into(), ..(*row).clone() };
    assert!(!stands_after(&play, |tx| drop(tx.put(row))).await);
    let host = rows.scan::<Host>(&Key::root()).next().unwrap().key();
    assert!(
        !stands_after(&play, move |tx| drop(tx.delete::<Host>(&host))).await
    );
}

#[tokio::test]
async fn a_service_that_packs_minds_the_tasks_of_others() {
    let play = packing(2).await;
    let task = task_on("h", "t", "PENDING");
    assert!(!stands_after(&play, |tx| drop(tx.put(task))).await);
}
