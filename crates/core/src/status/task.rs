//! The life of a task: `lastStatus` and `desiredStatus`.

use super::{IllegalStep, named};

named! {
    /// The `lastStatus` of a task, in the order of a task's life.
    TaskStatus is a "task" {
        /// Work before the launch: its network interface, its capacity.
        Provisioning = "PROVISIONING",
        /// Placed; the agent pulls images and creates containers.
        Pending = "PENDING",
        /// Containers are up; registrations with others are outstanding.
        Activating = "ACTIVATING",
        /// All containers that should run do.
        Running = "RUNNING",
        /// Registrations with others are being undone.
        Deactivating = "DEACTIVATING",
        /// The agent is stopping the containers.
        Stopping = "STOPPING",
        /// Containers are gone; attachments are being released.
        Deprovisioning = "DEPROVISIONING",
        /// Over. Readers see it for an hour more.
        Stopped = "STOPPED",
        /// The record is about to vanish.
        Deleted = "DELETED",
    }
}

named! {
    /// What happens to a task.
    TaskEvent is a "task event" {
        /// All it needs before the launch is there; the agent has it.
        Provisioned = "Provisioned",
        /// Its containers run, but it must be registered elsewhere first.
        ContainersUp = "ContainersUp",
        /// Its containers run and nothing else is outstanding.
        Started = "Started",
        /// A stop was decided and there are registrations to undo.
        DeactivateBegun = "DeactivateBegun",
        /// A stop was decided and the agent was told, or, if no agent ever
        /// heard of the task, its attachments are being released.
        StopBegun = "StopBegun",
        /// Every container is gone; attachments remain.
        ContainersGone = "ContainersGone",
        /// Nothing of the task is left anywhere.
        Ended = "Ended",
        /// The time to remember it is over.
        Expired = "Expired",
    }
}

named! {
    /// The `desiredStatus` of a task. It only ever goes from the first to
    /// the second.
    DesiredStatus is a "task" {
        /// The task should run.
        Running = "RUNNING",
        /// The task should end, or has.
        Stopped = "STOPPED",
    }
}

impl TaskStatus {
    /// The only place a task's `lastStatus` may change.
    pub fn step(self, event: TaskEvent) -> Result<TaskStatus, IllegalStep> {
        use {TaskEvent::*, TaskStatus::*};
        let illegal = || {
            Err(IllegalStep {
                noun: "task",
                from: self.as_str(),
                event: event.as_str(),
            })
        };
        match (self, event) {
            (Provisioning | Pending, Provisioned) => Ok(Pending),
            (Pending | Activating, ContainersUp) => Ok(Activating),
            (Pending | Activating | Running, Started) => Ok(Running),
            (Activating | Running | Deactivating, DeactivateBegun) => {
                Ok(Deactivating)
            }
            // No agent knows the task yet, so no container has to stop.
            (Provisioning | Deprovisioning, StopBegun) => Ok(Deprovisioning),
            (
                Pending | Activating | Running | Deactivating | Stopping,
                StopBegun,
            ) => Ok(Stopping),
            // A stop is idempotent: agents and users both send it.
            (Stopped, StopBegun) => Ok(Stopped),
            (
                Provisioning | Pending | Activating | Running | Deactivating
                | Stopping | Deprovisioning,
                ContainersGone,
            ) => Ok(Deprovisioning),
            (
                Provisioning | Pending | Activating | Running | Deactivating
                | Stopping | Deprovisioning | Stopped,
                Ended,
            ) => Ok(Stopped),
            (Stopped | Deleted, Expired) => Ok(Deleted),

            (
                Activating | Running | Deactivating | Stopping | Deprovisioning
                | Stopped | Deleted,
                Provisioned,
            )
            | (
                Provisioning | Running | Deactivating | Stopping
                | Deprovisioning | Stopped | Deleted,
                ContainersUp,
            )
            | (
                Provisioning | Deactivating | Stopping | Deprovisioning
                | Stopped | Deleted,
                Started,
            )
            | (
                Provisioning | Pending | Stopping | Deprovisioning | Stopped
                | Deleted,
                DeactivateBegun,
            )
            | (Deleted, StopBegun | Ended)
            | (Stopped | Deleted, ContainersGone)
            | (
                Provisioning | Pending | Activating | Running | Deactivating
                | Stopping | Deprovisioning,
                Expired,
            ) => illegal(),
        }
    }

    /// Whether the task is over for API readers.
    pub const fn is_stopped(self) -> bool {
        match self {
            TaskStatus::Stopped | TaskStatus::Deleted => true,
            TaskStatus::Provisioning
            | TaskStatus::Pending
            | TaskStatus::Activating
            | TaskStatus::Running
            | TaskStatus::Deactivating
            | TaskStatus::Stopping
            | TaskStatus::Deprovisioning => false,
        }
    }

    /// Whether the agent of a host may be holding containers of the task.
    pub const fn is_with_agent(self) -> bool {
        match self {
            TaskStatus::Pending
            | TaskStatus::Activating
            | TaskStatus::Running
            | TaskStatus::Deactivating
            | TaskStatus::Stopping => true,
            TaskStatus::Provisioning
            | TaskStatus::Deprovisioning
            | TaskStatus::Stopped
            | TaskStatus::Deleted => false,
        }
    }
}
