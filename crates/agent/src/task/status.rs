//! The states of containers and tasks in the agent.
//!
//! ```text
//! NONE -> PULLED -> CREATED -> RUNNING -> STOPPED
//!   \________\_________\__________________^
//! ```
//! Status only moves forward. The control plane hears of `RUNNING` and
//! `STOPPED`; everything before is `PENDING` to it.

use serde::{Deserialize, Serialize};

use super::record::TaskRecord;

/// Where a container stands.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum ContainerStatus {
    /// Nothing was done yet.
    #[default]
    None,
    /// Its image is here.
    Pulled,
    /// It is made.
    Created,
    /// It runs.
    Running,
    /// It ended, or will never run.
    Stopped,
}

/// What happens to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerEvent {
    /// Its image is here.
    Pulled,
    /// It was made.
    Created,
    /// It was started.
    Started,
    /// It ended, or was given up.
    Stopped,
}

impl ContainerStatus {
    /// The only place a container's status may change.
    ///
    /// Steps are repeated after a restart, so an event that is behind the
    /// status changes nothing; a stopped container never comes back.
    #[must_use]
    pub const fn step(self, event: ContainerEvent) -> ContainerStatus {
        use ContainerEvent as E;
        use ContainerStatus as S;
        match (self, event) {
            (S::None, E::Pulled) => S::Pulled,
            (S::None | S::Pulled, E::Created) => S::Created,
            (S::None | S::Pulled | S::Created, E::Started) => S::Running,
            (
                S::None | S::Pulled | S::Created | S::Running | S::Stopped,
                E::Stopped,
            ) => S::Stopped,
            (S::Pulled | S::Created | S::Running | S::Stopped, E::Pulled)
            | (S::Created | S::Running | S::Stopped, E::Created)
            | (S::Running | S::Stopped, E::Started) => self,
        }
    }

    /// As the control plane is told.
    pub const fn reported_as(self) -> &'static str {
        match self {
            ContainerStatus::None
            | ContainerStatus::Pulled
            | ContainerStatus::Created => "PENDING",
            ContainerStatus::Running => "RUNNING",
            ContainerStatus::Stopped => "STOPPED",
        }
    }
}

/// Where a task stands, as the control plane is told.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskStatus {
    /// Some container has yet to start.
    #[default]
    Pending,
    /// Every container runs or has run.
    Running,
    /// Every container stopped, and nothing of the task is left but records.
    Stopped,
}

impl TaskStatus {
    /// As ECS writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TaskStatus::Pending => "PENDING",
            TaskStatus::Running => "RUNNING",
            TaskStatus::Stopped => "STOPPED",
        }
    }

    /// The status that follows from the containers'.
    ///
    /// A finished container counts as past `RUNNING`, so a task is `RUNNING`
    /// once every other one is. With all stopped, the task is `STOPPED` only
    /// after its own steps are undone, which [`TaskRecord::stopped_at`] says.
    pub fn of(record: &TaskRecord) -> TaskStatus {
        if record.stopped_at.is_some() {
            return TaskStatus::Stopped;
        }
        let all_ran = record.containers.values().all(|container| {
            container.status == ContainerStatus::Running
                || container.started_at.is_some()
        });
        let any_runs = record
            .containers
            .values()
            .any(|container| container.status == ContainerStatus::Running);
        if all_ran && any_runs {
            TaskStatus::Running
        } else {
            TaskStatus::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [ContainerStatus; 5] = [
        ContainerStatus::None,
        ContainerStatus::Pulled,
        ContainerStatus::Created,
        ContainerStatus::Running,
        ContainerStatus::Stopped,
    ];
    const EVENTS: [ContainerEvent; 4] = [
        ContainerEvent::Pulled,
        ContainerEvent::Created,
        ContainerEvent::Started,
        ContainerEvent::Stopped,
    ];

    #[test]
    fn status_never_moves_back_and_events_repeat() {
        for status in STATUSES {
            for event in EVENTS {
                let next = status.step(event);
                assert!(next >= status, "{status:?} {event:?}");
                assert_eq!(next.step(event), next, "{status:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_stopped_container_stays_stopped() {
        for event in EVENTS {
            assert_eq!(
                ContainerStatus::Stopped.step(event),
                ContainerStatus::Stopped
            );
        }
    }
}
