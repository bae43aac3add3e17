//! What the end of tasks means for a deployment: failures counted, starts
//! throttled, the circuit breaker.

use minato_core::service::{breaker_threshold, retry_delay_ms};
use minato_core::status::{
    RolloutEvent, RolloutState, ServiceDeploymentEvent, ServiceDeploymentStatus,
};
use minato_wire::ecs::TaskStopCode;

use super::look::Look;
use super::pass::{Pass, Turn};
use crate::services::ecs::services::roll;
use crate::tables::{ServiceDeployment, Task};

/// After this many rounds of failures the service says so.
const IMPAIRED_AFTER: u32 = 3;

/// What a task's end says of the deployment.
enum End {
    /// It never ran.
    Failed,
    /// It ran, and ended at once.
    Crashed,
    /// Somebody wanted it, or it ran well before.
    Wanted,
}

impl Pass<'_> {
    /// A task that came up for good makes earlier failures forgotten.
    pub(super) fn recover(&mut self, seen: &Look) {
        let now = self.turn.now;
        let is_recovered = seen.is_recovered(&self.service, now);
        if let Some(primary) =
            self.service.deployments.first_mut().filter(|_| is_recovered)
        {
            primary.failed_tasks = 0;
            primary.failed_rounds = 0;
            primary.retry_at = None;
        }
    }

    /// Counts tasks that ended without ever running, each once, and waits
    /// longer before the next attempt with every round of them. Gives
    /// whether there were any.
    pub(super) fn count_ended(&mut self, seen: &Look) -> bool {
        let (mut failed, mut crashed) = (0_u32, 0_u32);
        let primary = self.service.primary().map(|one| one.id.clone());
        for task in &seen.ended {
            let mut row = Task::clone(task);
            let Some(of) = &mut row.service else { continue };
            of.is_counted = true;
            if Some(&of.deployment) == primary.as_ref() {
                match self.end_of(task) {
                    End::Failed => failed += 1,
                    End::Crashed => crashed += 1,
                    End::Wanted => {}
                }
            }
            self.tx.put(row);
        }
        if failed > 0 {
            self.add_failures(failed);
        }
        let has_failed = failed + crashed > 0;
        if has_failed {
            self.throttle();
        }
        has_failed
    }

    fn end_of(&self, task: &Task) -> End {
        let started = task.task.started_at;
        let is_own_end = matches!(
            task.task.stop_code,
            Some(
                TaskStopCode::TaskFailedToStart
                    | TaskStopCode::EssentialContainerExited
            )
        );
        match (started, task.task.stopped_at) {
            _ if !is_own_end => End::Wanted,
            (None, _) => End::Failed,
            (Some(started), Some(stopped))
                if stopped.millis_since(started) < self.turn.pace.crash_ms =>
            {
                End::Crashed
            }
            (Some(_), _) => End::Wanted,
        }
    }

    pub(super) fn add_failures(&mut self, count: u32) {
        let Some(primary) = self.service.deployments.first_mut() else {
            return;
        };
        primary.failed_tasks += count;
        primary.updated_at = self.turn.now;
        let id = primary.service_deployment.clone();
        let key = self.service.owner().key().with(&id);
        if let Some(known) = self.tx.get::<ServiceDeployment>(&key) {
            let mut row = ServiceDeployment::clone(&known);
            row.failures += count;
            self.tx.put(row);
        }
    }

    fn throttle(&mut self) {
        let (now, pace) = (self.turn.now, self.turn.pace);
        let Some(primary) = self.service.deployments.first_mut() else {
            return;
        };
        // Tasks of one round fail one after the other.
        if primary.retry_at.is_some_and(|at| at > now) {
            return;
        }
        primary.failed_rounds += 1;
        let delay_ms = retry_delay_ms(pace, primary.failed_rounds);
        primary.retry_at = Some(now.plus_millis(delay_ms));
        let is_impaired = primary.failed_rounds == IMPAIRED_AFTER;
        if is_impaired {
            self.complain(
                "impaired",
                "is unable to consistently start tasks successfully. For more \
                 information, see the Troubleshooting section of the Amazon \
                 ECS Developer Guide.",
            );
        }
    }

    /// Whether the primary deployment failed, or is to be taken back.
    pub(super) fn judge(&mut self) -> bool {
        let Turn { draw, now, .. } = &mut self.turn;
        let Some(primary) = self.service.deployments.first_mut() else {
            return false;
        };
        let (failed, rollout) = (primary.failed_tasks, primary.rollout);
        let asked = roll::status(self.tx, &self.service)
            == Some(ServiceDeploymentStatus::RollbackRequested);
        if asked {
            if let Some(primary) = self.service.deployments.first_mut()
                && let Ok(next) = primary.rollout.step(RolloutEvent::Broken)
            {
                primary.rollout = next;
                primary.reason =
                    format!("ECS deployment {} was stopped.", primary.id);
            }
            let why = "Service deployment rolled back at the user's request.";
            let is_back =
                roll::roll_back(self.tx, &mut self.service, draw, *now, why);
            if !is_back {
                let event = ServiceDeploymentEvent::Broken;
                roll::step(self.tx, &self.service, event, *now, None);
            }
            return true;
        }
        let is_watched = roll::breaker(&self.service).enable == Some(true)
            && rollout == RolloutState::InProgress;
        let is_broken =
            is_watched && failed >= breaker_threshold(self.service.desired);
        if is_broken {
            roll::fail(self.tx, &mut self.service, draw, *now);
        }
        is_broken
    }
}
