//! Tasks that are over: stopped, reported, their logs sent.
//!
//! The agent still knows them for a while, as the upstream agent does, so that
//! a payload that comes late does not start one again and their files can be
//! looked at. Of most of them nothing but names is in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use minato_wire::Timestamp;
use tokio::sync::mpsc;

use super::{Inner, Known, State};
use crate::task::actor::TaskOver;
use crate::task::plan::TaskPlan;

/// What is left of a task that is over.
#[derive(Debug)]
pub(super) struct Over {
    /// Ids of its containers.
    containers: Vec<String>,
    /// Its plan, if there may be something left of volumes.
    pub(super) plan_with_volumes: Option<Arc<TaskPlan>>,
}

impl Over {
    fn of(plan: Option<&Arc<TaskPlan>>) -> Over {
        let containers = plan.iter().flat_map(|plan| &plan.containers);
        Over {
            containers: containers.map(|one| one.id.clone()).collect(),
            plan_with_volumes: plan
                .filter(|plan| !plan.volumes.is_empty())
                .cloned(),
        }
    }
}

/// Lets go of tasks that are over, and forgets them in time. Ends with the
/// engine.
pub(super) async fn keep(
    inner: Weak<Inner>,
    mut news: mpsc::Receiver<TaskOver>,
) {
    let mut due = BTreeSet::new();
    loop {
        let next: Option<&(Timestamp, String)> = due.first();
        let wait = {
            let Some(inner) = inner.upgrade() else { return };
            let now = inner.deps.services.clock.now();
            next.map(|(at, _)| {
                let millis = at.millis_since(now).max(0);
                Duration::from_millis(u64::try_from(millis).unwrap_or(0))
            })
        };
        tokio::select! {
            one = news.recv() => {
                let (Some(one), Some(inner)) = (one, inner.upgrade()) else {
                    return;
                };
                let mut tasks = inner.tasks.lock();
                if let Some(known) = tasks.get_mut(&one.id) {
                    let plan = known.handle().and_then(|it| it.plan.clone());
                    known.state = State::Over(Over::of(plan.as_ref()));
                }
                due.insert((one.forget_at, one.id));
            }
            () = sleep(wait) => {
                let Some(inner) = inner.upgrade() else { return };
                if let Some((_, id)) = due.pop_first() {
                    forget(&inner, &id).await;
                }
            }
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Removes all that is left of a task that is over. It is unknown only when
/// its files are gone: a payload that comes meanwhile must not meet them.
async fn forget(inner: &Inner, id: &str) {
    let containers = match inner.tasks.lock().get(id) {
        Some(Known { state: State::Over(over), .. }) => over.containers.clone(),
        Some(_) | None => return,
    };
    let services = &inner.deps.services;
    for container in containers {
        if let Err(error) = services.runtime.log_remove(&container).await {
            tracing::warn!(container, %error, "log kept");
        }
    }
    if let Err(error) = inner.deps.files.remove(id).await {
        tracing::warn!(task = id, %error, "files kept");
    }
    inner.tasks.lock().remove(id);
}
