//! `minato stop`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use minato_wire::ecs;
use tokio::time::Instant;

use crate::api::{Api, block_on, id_of};
use crate::args::StopArgs;
use crate::home::Home;
use crate::out::say;

/// Longest wait for tasks to end: the longest stopTimeout of Fargate is two
/// minutes, and containers that depend on each other stop one by one.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);
/// How often the wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) fn run(home: &Home, args: &StopArgs) -> Result<ExitCode> {
    let api = Api::of(home)?;
    block_on(async {
        let mut tasks = vec![];
        for given in &args.tasks {
            tasks.push(api.find(given).await?);
        }
        for task in &tasks {
            api.stop(task, args.reason.clone()).await?;
        }
        wait_stopped(&api, &tasks).await?;
        for task in &tasks {
            say!("{} stopped", id_of(task))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Waits until tasks are `STOPPED` or forgotten.
pub(crate) async fn wait_stopped(api: &Api, tasks: &[ecs::Task]) -> Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    for task in tasks {
        let cluster = task.cluster_arn.clone().unwrap_or_default();
        let arn = task.task_arn.clone().unwrap_or_default();
        loop {
            let now =
                api.describe(&cluster, std::slice::from_ref(&arn)).await?;
            let is_over = now
                .iter()
                .all(|task| task.last_status.as_deref() == Some("STOPPED"));
            if is_over {
                break;
            }
            if Instant::now() > deadline {
                bail!("{arn} did not stop within {} s", WAIT_MAX.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}
