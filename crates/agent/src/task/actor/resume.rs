//! Taking a task over from an earlier agent.

use super::Actor;
use crate::task::record::Desired;
use crate::task::runner::{Phase, REBOOT_REASON};
use crate::task::status::ContainerStatus;

impl Actor {
    /// Goes on where an earlier agent was.
    pub(super) fn resume(&mut self) {
        let Some(plan) = self.plan.clone() else { return };
        let is_rebooted =
            self.record.boot_id != self.deps.services.runtime.boot_id();
        if is_rebooted && self.record.stopped_at.is_none() {
            self.record.desired = Desired::Stopped;
            self.record.facts.is_up = true;
            self.is_dirty = true;
        }
        let now = self.now();
        for container in &plan.containers {
            let name = container.name.as_str();
            let Some(known) = self.record.containers.get_mut(name) else {
                continue;
            };
            let phase = match known.status {
                ContainerStatus::Stopped if known.log_done => continue,
                ContainerStatus::Stopped => Phase::Clear,
                _ if is_rebooted => {
                    known.finished_at.get_or_insert(now);
                    known
                        .reason
                        .get_or_insert_with(|| REBOOT_REASON.to_owned());
                    self.is_dirty = true;
                    Phase::Clear
                }
                _ if known.finished_at.is_some() => Phase::Clear,
                ContainerStatus::Running => match known.restarting.clone() {
                    None => Phase::Wait,
                    Some(end) if self.record.desired == Desired::Running => {
                        Phase::Restart(end)
                    }
                    Some(end) => {
                        known.finished_at.get_or_insert(now);
                        known.exit_code = Some(end.exit_code);
                        known.reason = end.reason;
                        Phase::Clear
                    }
                },
                ContainerStatus::None
                | ContainerStatus::Pulled
                | ContainerStatus::Created => {
                    if self.record.desired == Desired::Running {
                        // The gate opens again, and the steps are repeated.
                        continue;
                    }
                    known.finished_at.get_or_insert(now);
                    Phase::Clear
                }
            };
            self.start_runner(&plan, name, phase, true);
        }
        self.after_ends();
    }
}
