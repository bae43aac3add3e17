//! One pass over one service, in one transaction.

use std::collections::BTreeSet;

use minato_core::service::{
    Pace, Stop, StopCause, breaker_threshold, retry_delay_ms,
};
use minato_core::status::{
    RolloutEvent, RolloutState, ServiceDeploymentEvent,
    ServiceDeploymentStatus, ServiceEvent, TaskStatus,
};
use minato_store::{Key, Tx};
use minato_wire::Timestamp;
use minato_wire::ecs::TaskStopCode;

use super::look::{Look, Scheme, look, task_key};
use super::start::{Order, Started};
use crate::context::Draw;
use crate::services::ecs::services::roll;
use crate::services::ecs::tasks::stop;
use crate::tables::{Service, ServiceDeployment, Task};

/// News that does not change is told again after this long, in milliseconds
/// (developer guide, "Amazon ECS service event messages": six hours).
pub(super) const REPEAT_AFTER_MS: i64 = 6 * 60 * 60 * 1000;

/// Numbers that a pass may draw for events and deployments.
pub(super) const DRAWS: usize = 16;

/// What a pass brings along.
pub(super) struct Turn {
    pub(super) now: Timestamp,
    pub(super) pace: Pace,
    pub(super) draw: Draw,
    /// The numbers for new tasks' ids; as many tasks may be started.
    pub(super) ids: Vec<Vec<u128>>,
    pub(super) seed: u64,
}

/// What a pass left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// A task found no place: look again when capacity changes.
    pub(super) is_blocked: bool,
}

/// Does what is due.
pub(super) fn pass(tx: &mut Tx, key: &Key, turn: Turn) -> Outcome {
    let Some(before) = tx.get::<Service>(key) else {
        return Outcome::default();
    };
    let Some(seen) = look(tx, &before, turn.pace, turn.now) else {
        return Outcome::default();
    };
    let mut pass = Pass {
        service: Service::clone(&before),
        tx,
        turn,
        outcome: Outcome::default(),
    };
    pass.run(seen);
    let Pass { service, outcome, .. } = pass;
    if service != *before {
        tx.put(service);
    }
    outcome
}

struct Pass<'a> {
    tx: &'a mut Tx,
    service: Service,
    turn: Turn,
    outcome: Outcome,
}

impl Pass<'_> {
    fn run(&mut self, seen: Look) {
        let now = self.turn.now;
        let begun = ServiceDeploymentEvent::Begun;
        roll::step(self.tx, &self.service, begun, now, None);
        self.recover(&seen);
        self.count_ended(&seen);
        if self.judge() {
            // Everything looks different now; the next pass sees it.
            return;
        }
        match &seen.scheme {
            Scheme::Drain(ids) => self.drain(ids),
            Scheme::Replica(plan) => {
                let unhealthy = self.stop(&plan.stop);
                let started = self.start(&seen, plan.start_zone.as_deref());
                self.tell_started(
                    &started,
                    plan.start_zone.as_deref(),
                    unhealthy,
                );
                if plan.is_stuck {
                    self.complain(
                        "was unable to stop or start tasks during a \
                         deployment because of the service deployment \
                         configuration. Update the minimumHealthyPercent or \
                         maximumPercent value and try again.",
                    );
                }
                if plan.protected > 0 {
                    self.complain_of_protection(plan.protected);
                }
                self.finish(&seen, &plan.stop, plan.is_settled);
            }
            Scheme::Daemon(plan) => {
                self.service.desired = plan.desired;
                let unhealthy = self.stop(&plan.stop);
                let started = self.start_on(&seen, &plan.start);
                self.tell_started(&started, None, unhealthy);
                self.finish(&seen, &plan.stop, plan.is_settled);
            }
        }
    }

    fn tell(&mut self, text: &str) {
        let Turn { draw, now, .. } = &mut self.turn;
        roll::tell(self.tx, &mut self.service, draw, *now, text);
    }

    /// Tells of a problem, once until it changes or a long time has passed.
    fn complain(&mut self, text: &str) {
        let now = self.turn.now;
        if let Some((last, at)) = &self.service.complaint
            && last == text
            && now.millis_since(*at) < REPEAT_AFTER_MS
        {
            return;
        }
        self.service.complaint = Some((text.to_owned(), now));
        self.tell(text);
    }

    fn complain_of_protection(&mut self, count: u32) {
        let Some(primary) = self.service.primary() else { return };
        let text = format!(
            "was unable to reach steady state because (taskSet {}) was unable \
             to scale in due to (reason {count} tasks under protection)",
            primary.id
        );
        self.complain(&text);
    }

    /// A task that came up for good makes earlier failures forgotten.
    fn recover(&mut self, seen: &Look) {
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
    /// longer before the next attempt with every round of them.
    fn count_ended(&mut self, seen: &Look) {
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
        if failed + crashed > 0 {
            self.throttle();
        }
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

    fn add_failures(&mut self, count: u32) {
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
                "is unable to consistently start tasks successfully. For more \
                 information, see the Troubleshooting section of the Amazon \
                 ECS Developer Guide.",
            );
        }
    }

    /// Whether the primary deployment failed, or is to be taken back.
    fn judge(&mut self) -> bool {
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

    /// Stops tasks; gives how many were unhealthy.
    fn stop(&mut self, stops: &[Stop]) -> usize {
        let Some(deployment) = self.service.primary().map(|one| one.id.clone())
        else {
            return 0;
        };
        let (mut running, mut pending) = (vec![], 0_usize);
        let mut unhealthy = vec![];
        for Stop { id, cause } in stops {
            let key = task_key(&self.service, id);
            let Some(found) = self.tx.get::<Task>(&key) else { continue };
            let mut row = Task::clone(&found);
            let reason = match cause {
                StopCause::Unhealthy => {
                    "Task failed container health checks".to_owned()
                }
                StopCause::ScaleIn
                | StopCause::Replaced
                | StopCause::Displaced
                | StopCause::Rebalanced => format!(
                    "Scaling activity initiated by (deployment {deployment})"
                ),
            };
            let code = TaskStopCode::ServiceSchedulerInitiated;
            let was_running =
                row.last_status().parse() == Ok(TaskStatus::Running);
            if !stop::begin(&mut row, code, reason, self.turn.now) {
                continue;
            }
            self.tx.put(row);
            match cause {
                StopCause::Unhealthy => unhealthy.push(id.clone()),
                _ if was_running => running.push(id.clone()),
                _ => pending += 1,
            }
        }
        self.tell_stopped(&running, pending, &unhealthy);
        unhealthy.len()
    }

    fn tell_stopped(
        &mut self,
        running: &[String],
        pending: usize,
        unhealthy: &[String],
    ) {
        for id in unhealthy.iter().take(UNHEALTHY_TOLD_MAX) {
            self.tell(&format!("(task {id}) failed container health checks."));
        }
        if !unhealthy.is_empty() {
            let count = u32::try_from(unhealthy.len()).unwrap_or(u32::MAX);
            if self.service.primary().is_some_and(|primary| {
                primary.rollout == RolloutState::InProgress
            }) {
                self.add_failures(count);
            }
        }
        if !running.is_empty() {
            self.tell(&format!(
                "has stopped {} running tasks: {}.",
                running.len(),
                list(running)
            ));
        }
        if pending > 0 {
            self.tell(&format!("stopped {pending} pending tasks."));
        }
    }

    fn start(&mut self, seen: &Look, zone: Option<&str>) -> Started {
        let count = seen.starts().min(self.turn.ids.len());
        self.order(seen, zone, count, |order, tx| order.carry_out(tx))
    }

    fn start_on(&mut self, seen: &Look, places: &[String]) -> Started {
        let count = places.len().min(self.turn.ids.len());
        self.order(seen, None, count, |order, tx| {
            order.carry_out_on(tx, places)
        })
    }

    fn order(
        &mut self,
        seen: &Look,
        zone: Option<&str>,
        count: usize,
        carry_out: impl FnOnce(Order<'_>, &mut Tx) -> Started,
    ) -> Started {
        let Some(deployment) = self.service.primary().cloned() else {
            return Started::default();
        };
        if count == 0 {
            return Started::default();
        }
        let ids = self.turn.ids.drain(..count).collect();
        let order = Order {
            service: &self.service,
            deployment: &deployment,
            members: &seen.members,
            zone,
            ids,
            seed: self.turn.seed,
            now: self.turn.now,
        };
        carry_out(order, self.tx)
    }

    fn tell_started(
        &mut self,
        started: &Started,
        zone: Option<&str>,
        unhealthy: usize,
    ) {
        let tasks = &started.tasks;
        if !tasks.is_empty() {
            let replaced = match unhealthy {
                0 => String::new(),
                count => format!(
                    " Amazon ECS replaced {count} tasks due to an unhealthy \
                     status."
                ),
            };
            let text = match zone {
                None => format!(
                    "has started {} tasks: {}.{replaced}",
                    tasks.len(),
                    list(tasks)
                ),
                Some(zone) => format!(
                    "has started {} tasks in {zone} to AZ Rebalance: {}.",
                    tasks.len(),
                    list(tasks)
                ),
            };
            self.tell(&text);
        }
        if let Some(why) = &started.refusal {
            self.outcome.is_blocked = true;
            // One more than desired that would balance zones is no problem.
            if zone.is_none() {
                self.complain(why);
            }
        }
    }

    /// A deleted service has no tasks that should run.
    fn drain(&mut self, ids: &[String]) {
        let stops: Vec<Stop> = ids
            .iter()
            .map(|id| Stop { id: id.clone(), cause: StopCause::ScaleIn })
            .collect();
        self.stop(&stops);
        if let Ok(next) = self.service.status.step(ServiceEvent::Emptied) {
            self.service.status = next;
            self.service.inactive_at = Some(self.turn.now);
            self.service.deployments.clear();
        }
    }

    /// Former deployments without tasks vanish; a settled one is complete.
    fn finish(&mut self, seen: &Look, stops: &[Stop], is_settled: bool) {
        let gone: BTreeSet<&str> =
            stops.iter().map(|stop| stop.id.as_str()).collect();
        let remaining = |age: usize| {
            let stay = seen.members.iter().filter(|one| {
                usize::try_from(one.age) == Ok(age)
                    && !gone.contains(one.id.as_str())
            });
            u32::try_from(stay.count()).unwrap_or(u32::MAX)
        };
        let desired = self.service.desired;
        let now = self.turn.now;
        let mut age = 0;
        self.service.deployments.retain_mut(|deployment| {
            let wanted = if age == 0 { desired } else { remaining(age) };
            if deployment.desired_count != wanted {
                deployment.desired_count = wanted;
                deployment.updated_at = now;
            }
            let stays = age == 0 || wanted > 0;
            age += 1;
            stays
        });
        if !is_settled || self.service.deployments.len() != 1 {
            self.service.steady_at = None;
            return;
        }
        let Turn { draw, now, .. } = &mut self.turn;
        roll::complete(self.tx, &mut self.service, draw, *now);
        self.service.complaint = None;
        let is_told = self
            .service
            .steady_at
            .is_some_and(|at| self.turn.now.millis_since(at) < REPEAT_AFTER_MS);
        if !is_told {
            self.service.steady_at = Some(self.turn.now);
            self.tell("has reached a steady state.");
        }
    }
}

/// After this many rounds of failures the service says so.
const IMPAIRED_AFTER: u32 = 3;

/// The most unhealthy tasks of one pass that get an event of their own.
const UNHEALTHY_TOLD_MAX: usize = 5;

/// What a task's end says of the deployment.
enum End {
    /// It never ran.
    Failed,
    /// It ran, and ended at once.
    Crashed,
    /// Somebody wanted it, or it ran well before.
    Wanted,
}

/// The most tasks an event names.
const NAMED_MAX: usize = 100;

fn list(ids: &[String]) -> String {
    let named = ids.iter().take(NAMED_MAX);
    let named: Vec<String> = named.map(|id| format!("(task {id})")).collect();
    named.join(" ")
}
