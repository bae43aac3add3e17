//! `minato down`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::api::{Api, block_on};
use crate::args::DownArgs;
use crate::home::Home;
use crate::{stop, up};

/// Longest wait for the process to end once its tasks have.
const EXIT_MAX: Duration = Duration::from_secs(30);
/// How often the wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run(home: &Home, args: DownArgs) -> Result<ExitCode> {
    let api = Api::of(home)?;
    block_on(async {
        let pid = Pid::from_raw(api.running.pid);
        if !args.keep_tasks {
            // Services must not replace what is stopped here.
            kill(pid, Signal::SIGUSR1)
                .context("could not signal the running Minato")?;
            stop_all(&api).await?;
        }
        kill(pid, Signal::SIGTERM)
            .context("could not signal the running Minato")?;
        let deadline = Instant::now() + EXIT_MAX;
        while api.running.is_alive() {
            if Instant::now() > deadline {
                bail!("Minato (pid {}) does not end", api.running.pid);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if !args.keep_tasks {
            up::take_down(home).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Stops every task, those too that a service was just starting.
async fn stop_all(api: &Api) -> Result<()> {
    loop {
        let tasks = api.tasks(false).await?;
        for task in &tasks {
            let reason = Some("Minato is going down".to_owned());
            api.stop(task, reason).await?;
        }
        // Those that were stopping already count too.
        let all = api.tasks(true).await?;
        let live = all
            .into_iter()
            .filter(|task| task.last_status.as_deref() != Some("STOPPED"));
        let live: Vec<_> = live.collect();
        if live.is_empty() {
            return Ok(());
        }
        // One that came in between is asked in the next round.
        let asked = live
            .into_iter()
            .filter(|task| task.desired_status.as_deref() == Some("STOPPED"));
        stop::wait_stopped(api, &asked.collect::<Vec<_>>()).await?;
    }
}
