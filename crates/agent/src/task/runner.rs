//! One container's life, from its first step up to its last step down.
//!
//! ```text
//!             ____start again_____
//!            v                    \
//! bring up -> wait for its end, or stop it -> send the rest of its log
//!    \________________________________________________-> steps down
//! ```
//! A runner tells its actor what happened and decides nothing about other
//! containers. The actor starts it when the dependencies allow and calls it
//! off by its token. After a restart a runner begins at the phase that the
//! record says.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use minato_wire::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::health::HealthWatch;
use super::record::{ContainerFacts, Ending, Health, HealthStatus};
use super::status::ContainerEvent;
use crate::logs::{self, Pump};
use crate::runtime::{Exit, ExitReason, RuntimeError, RuntimeErrorKind};
use crate::steps::{
    self, ContainerContext, StepError, UpError, container_steps,
};

/// How long a stopped container's last lines may take to arrive before it is
/// reported STOPPED without them; they are still sent after that.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// A SIGKILL takes effect at once, or the kernel holds the process.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// Where a runner begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// At the first step.
    BringUp,
    /// The container runs already.
    Wait,
    /// The container ended and was being started again.
    Restart(Ending),
    /// The container ended already; its remains are to be cleared away.
    Clear,
}

/// What a runner tells its actor.
#[derive(Debug)]
pub(crate) enum RunnerEvent {
    /// A step found something out.
    Progress {
        facts: Box<ContainerFacts>,
        event: Option<ContainerEvent>,
        pull: Option<PullTime>,
    },
    /// The container ended and is about to be started again, which happens
    /// only after the answer: this is kept on disk. No answer means no.
    Restarting { ending: Ending, kept: oneshot::Sender<()> },
    /// The container ended, or will not run. Nothing is cleared away before
    /// the answer, which means that this is kept on disk.
    Ended { outcome: Outcome, kept: oneshot::Sender<()> },
    /// Its check said something.
    Health(Health),
    /// Nothing of it is left but its log.
    Finished { log_done: bool },
    /// The rest of its log has arrived, too.
    LogDone,
}

/// When an image was pulled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PullTime {
    pub(crate) started_at: Timestamp,
    pub(crate) stopped_at: Option<Timestamp>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) exit_code: Option<i32>,
    pub(crate) reason: Option<String>,
    pub(crate) at: Timestamp,
}

pub(crate) struct Runner {
    pub(crate) cx: ContainerContext,
    pub(crate) facts: ContainerFacts,
    pub(crate) health: HealthStatus,
    pub(crate) phase: Phase,
    pub(crate) is_resumed: bool,
    pub(crate) stop: CancellationToken,
    pub(crate) events: mpsc::Sender<(String, RunnerEvent)>,
}

impl Runner {
    pub(crate) async fn run(mut self) {
        let up = match self.phase.clone() {
            Phase::BringUp => self.bring_up().await,
            Phase::Wait => Ok(()),
            Phase::Restart(ending) => self.restart(ending).await,
            Phase::Clear => {
                let pump = self.pump();
                return self.clear(pump).await;
            }
        };
        // Even a container that failed to start may have said why.
        let pump = self.pump();
        let outcome = match up {
            Ok(()) => self.until_last_end(pump.as_ref()).await,
            Err(outcome) => outcome,
        };
        self.ended(outcome).await;
        self.clear(pump).await;
    }

    /// Waits for the end after which it is not started again.
    async fn until_last_end(&mut self, pump: Option<&Pump>) -> Outcome {
        loop {
            let exit = self.until_end().await;
            let ending = match self.ending_to_restart(&exit) {
                Some(ending) if self.may_restart(&ending).await => ending,
                Some(_) | None => return self.outcome(exit),
            };
            let again = self.restart(ending).await;
            if let Err(outcome) = again {
                return outcome;
            }
            if let Some(pump) = pump {
                pump.goes_on();
            }
        }
    }

    /// The end, if it is one after which the container is started again.
    fn ending_to_restart(
        &self,
        exit: &Result<Exit, RuntimeError>,
    ) -> Option<Ending> {
        let policy = self.cx.plan.restart.as_ref()?;
        let exit = exit.as_ref().ok()?;
        let ran_ms = exit.at_ms.saturating_sub(self.facts.started_at_ms?);
        let ran = Duration::from_millis(u64::try_from(ran_ms).unwrap_or(0));
        let is_meant = !self.stop.is_cancelled()
            && exit.reason != ExitReason::Reboot
            && !policy.ignored_exit_codes.contains(&exit.code)
            && ran >= policy.attempt_period;
        is_meant.then(|| Ending {
            exit_code: exit.code,
            reason: exit_reason(exit),
            at_ms: exit.at_ms,
        })
    }

    async fn may_restart(&self, ending: &Ending) -> bool {
        let (kept, is_kept) = oneshot::channel();
        let ending = ending.clone();
        self.send(RunnerEvent::Restarting { ending, kept }).await;
        is_kept.await.is_ok()
    }

    async fn restart(&mut self, ending: Ending) -> Result<(), Outcome> {
        let at_ms = ending.at_ms;
        let again =
            steps::restart(&self.cx, &mut self.facts, at_ms, &self.stop);
        let why = match again.await {
            Ok(()) => {
                self.health = HealthStatus::Unknown;
                self.send_started().await;
                return Ok(());
            }
            Err(UpError::Cancelled) => ending.reason,
            Err(UpError::Failed { error, .. }) => Some(error.to_string()),
        };
        Err(Outcome {
            exit_code: Some(ending.exit_code),
            reason: why,
            at: Timestamp::from_millis(at_ms),
        })
    }

    async fn send_started(&self) {
        self.send(RunnerEvent::Progress {
            facts: Box::new(self.facts.clone()),
            event: Some(ContainerEvent::Started),
            pull: None,
        })
        .await;
    }

    async fn send(&self, event: RunnerEvent) {
        // The actor outlives its runners, but for a shutdown.
        let name = self.cx.plan.name.clone();
        let _ = self.events.send((name, event)).await;
    }

    /// Starts sending the log, where there is somewhere to send it.
    fn pump(&self) -> Option<Pump> {
        // Without an image nothing was made, and nothing was written.
        self.facts.image.as_ref()?;
        self.facts.started_at_ms?;
        logs::pump(&self.cx, &self.facts, self.is_resumed)
    }

    async fn bring_up(&mut self) -> Result<(), Outcome> {
        let steps = container_steps();
        let clock = Arc::clone(&self.cx.task.services.clock);
        let pull_started_at = clock.now();
        if self.facts.image.is_none() {
            let pull =
                PullTime { started_at: pull_started_at, stopped_at: None };
            let facts = Box::new(self.facts.clone());
            self.send(RunnerEvent::Progress {
                facts,
                event: None,
                pull: Some(pull),
            })
            .await;
        }
        let (events, name) = (&self.events, self.cx.plan.name.clone());
        let after = |step: &'static str, facts: &ContainerFacts| {
            let event = match step {
                "image" => Some(ContainerEvent::Pulled),
                "create" => Some(ContainerEvent::Created),
                "start" => Some(ContainerEvent::Started),
                _ => None,
            };
            let pull = (step == "image").then(|| PullTime {
                started_at: pull_started_at,
                stopped_at: Some(clock.now()),
            });
            let progress = RunnerEvent::Progress {
                facts: Box::new(facts.clone()),
                event,
                pull,
            };
            // Only `start`'s must arrive, and its facts hold all the others';
            // a full queue means the actor has news enough.
            let _ = events.try_send((name.clone(), progress));
        };
        let up = steps.up(&self.cx, &mut self.facts, &self.stop, after).await;
        let outcome = |reason| Outcome {
            exit_code: None,
            reason,
            at: self.cx.task.services.clock.now(),
        };
        match up {
            Ok(()) => {
                self.send_started().await;
                Ok(())
            }
            Err(UpError::Cancelled) => Err(outcome(None)),
            Err(UpError::Failed { step, error }) => {
                tracing::info!(
                    container = self.cx.plan.id,
                    step,
                    %error,
                    "the container could not be brought up"
                );
                Err(outcome(Some(error.to_string())))
            }
        }
    }

    /// Waits for the container's end, and makes it end when called off.
    async fn until_end(&self) -> Result<Exit, RuntimeError> {
        let runtime = &self.cx.task.services.runtime;
        let id = &self.cx.plan.id;
        tokio::select! {
            biased;
            exit = runtime.wait(id) => exit,
            () = self.stop.cancelled() => self.stop_container().await,
            never = self.check_health() => match never {},
        }
    }

    async fn check_health(&self) -> Infallible {
        let Some(check) = &self.cx.plan.health_check else {
            return std::future::pending().await;
        };
        let services = &self.cx.task.services;
        let id = &self.cx.plan.id;
        let mut watch = HealthWatch::new(check, self.health);
        loop {
            let (status, output) = watch.next(&*services.runtime, id).await;
            let since = Some(services.clock.now());
            let health = Health { status, since, output };
            self.send(RunnerEvent::Health(health)).await;
        }
    }

    /// Asks it to stop; kills it when it does not.
    async fn stop_container(&self) -> Result<Exit, RuntimeError> {
        let services = &self.cx.task.services;
        let (runtime, id) = (&services.runtime, self.cx.plan.id.as_str());
        let patience =
            self.cx.plan.stop_timeout.unwrap_or(services.config.stop_timeout);
        let signal = self
            .cx
            .plan
            .stop_signal
            .as_deref()
            .or_else(|| {
                self.facts.image.as_ref().and_then(|i| i.stop_signal.as_deref())
            })
            .unwrap_or("SIGTERM");
        for (signal, patience) in
            [(signal, patience), ("SIGKILL", KILL_PATIENCE)]
        {
            if let Err(error) = runtime.signal(id, signal).await {
                tracing::info!(container = id, %error, signal, "not sent");
            }
            let wait = runtime.wait(id);
            if let Ok(exit) = tokio::time::timeout(patience, wait).await {
                return exit;
            }
        }
        Err(RuntimeError::other(format!(
            "CannotStopContainerError: still there {KILL_PATIENCE:?} after \
             SIGKILL"
        )))
    }

    fn outcome(&self, exit: Result<Exit, RuntimeError>) -> Outcome {
        let at = self.cx.task.services.clock.now();
        match exit {
            Ok(exit) => Outcome {
                exit_code: Some(exit.code),
                reason: exit_reason(&exit),
                at: Timestamp::from_millis(exit.at_ms),
            },
            Err(error) => {
                let reason = match error.kind {
                    RuntimeErrorKind::NotFound | RuntimeErrorKind::Lost => {
                        format!("ContainerVanishedError: {error}")
                    }
                    RuntimeErrorKind::Manifest
                    | RuntimeErrorKind::Unauthorized
                    | RuntimeErrorKind::Other => error.to_string(),
                };
                Outcome { exit_code: None, reason: Some(reason), at }
            }
        }
    }

    async fn ended(&self, outcome: Outcome) {
        let (kept, is_kept) = oneshot::channel();
        self.send(RunnerEvent::Ended { outcome, kept }).await;
        // An actor that is gone keeps nothing; its successor clears away.
        let _ = is_kept.await;
    }

    async fn clear(&mut self, pump: Option<Pump>) {
        let mut pump = pump;
        let mut log_done = match &mut pump {
            Some(pump) => pump.drained(DRAIN_PATIENCE).await,
            None => true,
        };
        let failures = container_steps().down(&self.cx, &mut self.facts).await;
        log_failures(&self.cx.plan.id, &failures);
        self.send(RunnerEvent::Finished { log_done }).await;
        if let Some(pump) = &mut pump {
            while !log_done {
                log_done = pump.drained(Duration::from_secs(60)).await;
            }
            self.send(RunnerEvent::LogDone).await;
        }
    }
}

/// Tells of everything that could not be undone.
pub(crate) fn log_failures(what: &str, failures: &[(&'static str, StepError)]) {
    for (step, error) in failures {
        tracing::warn!(what, step, %error, "could not be undone");
    }
}

fn exit_reason(exit: &Exit) -> Option<String> {
    match exit.reason {
        ExitReason::Exited if exit.oom_killed => Some(
            "OutOfMemoryError: Container killed due to memory usage".into(),
        ),
        ExitReason::Exited => None,
        ExitReason::ShimLost => Some(
            "ContainerVanishedError: The container's supervisor process was \
             killed, and the container with it"
                .into(),
        ),
        ExitReason::Reboot => Some(REBOOT_REASON.into()),
    }
}

/// Why containers stop that the machine did not keep.
pub(crate) const REBOOT_REASON: &str =
    "ContainerVanishedError: The host was restarted";
