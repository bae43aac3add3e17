//! Renews the credentials of tasks, long before they expire.
//!
//! The sessions of the hosts' agents see the new ones and pass them on.

use std::sync::Arc;

use minato_store::{Key, Row as _};

use crate::context::Context;
use crate::services::sts::rows::TaskRoles;
use crate::services::sts::tasks;
use crate::tables::Task;

/// Tasks whose credentials are renewed in one transaction.
const BATCH_MAX: usize = 500;

/// Renews all that is due.
pub(super) async fn pass(cx: &Context) {
    let now = cx.clock.now();
    let rows = cx.snapshot();
    let due: Vec<Arc<Task>> = rows
        .by_index::<TaskRoles>(TaskRoles::BY_RENEWAL, &Key::root())
        .take_while(|roles| roles.renew_at <= now)
        // Those whose task is gone are left to the `expire` reconciler.
        .filter_map(|roles| rows.get::<Task>(&roles.key()))
        .filter(|task| !task.is_stopped())
        .collect();
    for batch in due.chunks(BATCH_MAX) {
        if let Err(error) = tasks::issue(cx, batch).await {
            tracing::warn!(
                details = error.internal(),
                "could not renew the credentials of tasks",
            );
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcilers::{expire, provision};
    use crate::services::sts::rows::SessionRow;
    use crate::testing::{TestBed, definition, task_on};

    async fn bed() -> TestBed {
        let bed = TestBed::new();
        let put = bed.cx.transact(|tx| {
            tx.put(definition(Some("app"), None));
            for id in ["a", "b"] {
                tx.put(task_on("h", id, "RUNNING"));
            }
            Ok(())
        });
        put.await.unwrap();
        let rows = bed.cx.snapshot();
        let tasks: Vec<_> = rows.scan::<Task>(&Key::root()).collect();
        tasks::issue(&bed.cx, &tasks).await.unwrap();
        bed
    }

    fn counts(bed: &TestBed) -> (usize, usize) {
        let rows = bed.cx.snapshot();
        (rows.count::<TaskRoles>(), rows.count::<SessionRow>())
    }

    #[tokio::test]
    async fn what_is_due_is_renewed_and_what_is_over_goes() {
        let bed = bed().await;
        pass(&bed.cx).await;
        assert_eq!(counts(&bed), (2, 2));
        bed.clock.advance_ms(tasks::LIFE_MS / 2);
        pass(&bed.cx).await;
        assert_eq!(counts(&bed), (2, 4));
        pass(&bed.cx).await;
        assert_eq!(counts(&bed), (2, 4));
        bed.clock.advance_ms(tasks::LIFE_MS / 2);
        expire::pass(&bed.cx).await;
        assert_eq!(counts(&bed), (2, 2));
    }

    #[tokio::test]
    async fn they_end_with_the_task_that_gives_its_interface_back() {
        let bed = bed().await;
        let put = bed.cx.transact(|tx| {
            tx.put(task_on("h", "a", "DEPROVISIONING"));
            Ok(())
        });
        put.await.unwrap();
        assert!(provision::pass(&bed.cx).await);
        assert_eq!(counts(&bed), (1, 1));
    }

    #[tokio::test]
    async fn a_task_that_is_gone_leaves_no_roles() {
        let bed = bed().await;
        let gone = task_on("h", "a", "RUNNING");
        let removed = bed.cx.transact(move |tx| {
            tx.delete::<Task>(&gone.key());
            Ok(())
        });
        removed.await.unwrap();
        // Neither renewed, though they are due, nor kept.
        bed.clock.advance_ms(tasks::LIFE_MS / 2);
        pass(&bed.cx).await;
        assert_eq!(counts(&bed), (2, 3));
        expire::pass(&bed.cx).await;
        assert_eq!(counts(&bed), (1, 2));
    }
}
