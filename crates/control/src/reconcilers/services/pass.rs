//! One pass over one service, in one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use minato_core::service::{Pace, Stop, StopCause};
use minato_core::status::{
    RolloutState, ServiceDeploymentEvent, ServiceEvent, TaskStatus,
};
use minato_store::{Key, Tx};
use minato_wire::Timestamp;
use minato_wire::ecs::TaskStopCode;

use super::look::{Look, PROTECTED, STUCK, Scheme, look, task_key};
use super::start::{Order, Refusal, Started};
use crate::context::Draw;
use crate::fleet::Fleet;
use crate::services::ecs::services::roll;
use crate::services::ecs::tasks::stop;
use crate::tables::{Service, Task};

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
    /// The hosts that tasks are placed on.
    pub(super) fleet: Arc<Fleet>,
    /// What was seen of the service in the snapshot of a revision.
    pub(super) seen: Option<(u64, Look)>,
}

/// What a pass left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// A task found no place: look again when capacity changes.
    pub(super) is_blocked: bool,
}

/// Does what is due.
pub(super) fn pass(tx: &mut Tx, key: &Key, mut turn: Turn) -> Outcome {
    let Some(before) = tx.get::<Service>(key) else {
        return Outcome::default();
    };
    let seen = turn.seen.take();
    let seen = seen.filter(|(at, seen)| seen.stands(tx, &before, *at));
    let seen = match seen {
        Some((_, seen)) => Some(seen),
        None => look(tx, &before, turn.pace, turn.now),
    };
    let Some(seen) = seen else { return Outcome::default() };
    let mut pass = Pass {
        service: Service::clone(&before),
        tx,
        turn,
        outcome: Outcome::default(),
        voice: Voice::Service,
    };
    pass.run(seen);
    let Pass { service, outcome, .. } = pass;
    if service != *before {
        tx.put(service);
    }
    outcome
}

pub(super) struct Pass<'a> {
    pub(super) tx: &'a mut Tx,
    pub(super) service: Service,
    pub(super) turn: Turn,
    pub(super) outcome: Outcome,
    pub(super) voice: Voice,
}

/// Who tells what a pass did.
pub(super) enum Voice {
    Service,
    /// A task set, by its service.
    TaskSet(String),
    /// Nobody: daemons have no events.
    Nobody,
}

impl Pass<'_> {
    pub(super) fn run(&mut self, seen: Look) {
        let now = self.turn.now;
        let begun = ServiceDeploymentEvent::Begun;
        roll::step(self.tx, &self.service, begun, now, None);
        self.recover(&seen);
        let has_failed = self.count_ended(&seen);
        if self.judge() || has_failed {
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
                        STUCK,
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
        let set = match &self.voice {
            Voice::Service => None,
            Voice::TaskSet(id) => Some(id.as_str()),
            Voice::Nobody => return,
        };
        let Turn { draw, now, .. } = &mut self.turn;
        roll::tell_of(self.tx, &mut self.service, set, draw, *now, text);
    }

    /// Tells of a problem. The same kind is told again after a long time only,
    /// or when the service has settled in between: two problems at once must
    /// not make each other look new.
    pub(super) fn complain(&mut self, kind: &str, text: &str) {
        let now = self.turn.now;
        let told = self.service.complaints.get(kind);
        if told.is_some_and(|at| now.millis_since(*at) < REPEAT_AFTER_MS) {
            return;
        }
        self.service.complaints.insert(kind.to_owned(), now);
        self.tell(text);
    }

    fn complain_of_protection(&mut self, count: u32) {
        let Some(primary) = self.service.primary() else { return };
        let text = format!(
            "was unable to reach steady state because (taskSet {}) was unable \
             to scale in due to (reason {count} tasks under protection)",
            primary.id
        );
        self.complain(PROTECTED, &text);
    }

    /// Stops tasks; gives how many were unhealthy.
    fn stop(&mut self, stops: &[Stop]) -> usize {
        let Some(deployment) = self.service.primary().map(|one| one.id.clone())
        else {
            return 0;
        };
        let kind = match self.voice {
            Voice::TaskSet(_) => "taskSet",
            Voice::Service | Voice::Nobody => "deployment",
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
                    "Scaling activity initiated by ({kind} {deployment})"
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
                StopCause::ScaleIn
                | StopCause::Replaced
                | StopCause::Displaced
                | StopCause::Rebalanced => {
                    if was_running {
                        running.push(id.clone());
                    } else {
                        pending += 1;
                    }
                }
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
            fleet: &self.turn.fleet,
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
        if let Some(Refusal { reason, text }) = &started.refusal {
            self.outcome.is_blocked = true;
            // One more than desired that would balance zones is no problem.
            if zone.is_none() {
                self.complain(&format!("placement {reason}"), text);
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
        self.service.complaints.clear();
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

/// The most unhealthy tasks of one pass that get an event of their own.
const UNHEALTHY_TOLD_MAX: usize = 5;

/// The most tasks an event names.
const NAMED_MAX: usize = 100;

fn list(ids: &[String]) -> String {
    let named = ids.iter().take(NAMED_MAX);
    let named: Vec<String> = named.map(|id| format!("(task {id})")).collect();
    named.join(" ")
}
