//! The statuses of services and of their deployments.

use super::{IllegalStep, named};

named! {
    /// The `status` of a service.
    ServiceStatus is a "service" {
        /// It keeps its tasks.
        Active = "ACTIVE",
        /// It is deleted; its tasks are being stopped.
        Draining = "DRAINING",
        /// It is deleted and has no tasks. Readers see it for a while.
        Inactive = "INACTIVE",
    }
}

named! {
    /// What happens to a service.
    ServiceEvent is a "service event" {
        /// A `DeleteService`.
        Deleted = "Deleted",
        /// None of its tasks should run any more.
        Emptied = "Emptied",
    }
}

impl ServiceStatus {
    /// The only place a service's status may change.
    pub fn step(
        self,
        event: ServiceEvent,
    ) -> Result<ServiceStatus, IllegalStep> {
        use {ServiceEvent::*, ServiceStatus::*};
        match (self, event) {
            // Deleting again is no mistake: clients retry.
            (Active | Draining, Deleted) => Ok(Draining),
            (Draining, Emptied) => Ok(Inactive),
            (Inactive, Deleted) | (Active | Inactive, Emptied) => {
                Err(IllegalStep {
                    noun: "service",
                    from: self.as_str(),
                    event: event.as_str(),
                })
            }
        }
    }
}

named! {
    /// The `rolloutState` of a deployment.
    RolloutState is a "deployment" {
        /// It is being rolled out.
        InProgress = "IN_PROGRESS",
        /// It reached a steady state.
        Completed = "COMPLETED",
        /// Its tasks did not start, or it was given up.
        Failed = "FAILED",
    }
}

named! {
    /// What happens to a deployment.
    RolloutEvent is a "deployment event" {
        /// All its tasks are there and healthy and no others are left.
        Settled = "Settled",
        /// Too many of its tasks failed.
        Broken = "Broken",
        /// A later deployment failed, and this one is rolled out again.
        Returned = "Returned",
    }
}

impl RolloutState {
    /// The only place a deployment's state may change. A task that fails
    /// after the deployment completed does not make the roll-out fail.
    pub fn step(
        self,
        event: RolloutEvent,
    ) -> Result<RolloutState, IllegalStep> {
        use {RolloutEvent::*, RolloutState::*};
        match (self, event) {
            (InProgress | Completed, Settled) => Ok(Completed),
            (InProgress, Broken) => Ok(Failed),
            (InProgress | Completed, Returned) => Ok(InProgress),
            (Failed, Settled | Returned) | (Completed | Failed, Broken) => {
                Err(IllegalStep {
                    noun: "deployment",
                    from: self.as_str(),
                    event: event.as_str(),
                })
            }
        }
    }
}

named! {
    /// The `status` of a service deployment.
    ServiceDeploymentStatus is a "service deployment" {
        /// It was asked for; the scheduler has not looked at it yet.
        Pending = "PENDING",
        /// It is being rolled out.
        InProgress = "IN_PROGRESS",
        /// It reached a steady state.
        Successful = "SUCCESSFUL",
        /// A stop was asked for.
        StopRequested = "STOP_REQUESTED",
        /// It ended before it was complete.
        Stopped = "STOPPED",
        /// A return to the revision of before was asked for.
        RollbackRequested = "ROLLBACK_REQUESTED",
        /// The revision of before is being rolled out.
        RollbackInProgress = "ROLLBACK_IN_PROGRESS",
        /// The revision of before is back.
        RollbackSuccessful = "ROLLBACK_SUCCESSFUL",
        /// The revision of before could not be brought back.
        RollbackFailed = "ROLLBACK_FAILED",
    }
}

named! {
    /// What happens to a service deployment.
    ServiceDeploymentEvent is a "service deployment event" {
        /// The scheduler begins.
        Begun = "Begun",
        /// What it rolls out is in a steady state.
        Settled = "Settled",
        /// Too many tasks of what it rolls out failed, and there is nothing
        /// to go back to.
        Broken = "Broken",
        /// A newer deployment takes its place, or the service is deleted.
        Superseded = "Superseded",
        /// `StopServiceDeployment` asks for a return.
        RollbackAsked = "RollbackAsked",
        /// The return begins.
        RollbackBegun = "RollbackBegun",
    }
}

impl ServiceDeploymentStatus {
    /// The only place a service deployment's status may change.
    pub fn step(
        self,
        event: ServiceDeploymentEvent,
    ) -> Result<ServiceDeploymentStatus, IllegalStep> {
        use {ServiceDeploymentEvent::*, ServiceDeploymentStatus::*};
        match (self, event) {
            (Pending, Begun) => Ok(InProgress),
            // Looking again changes nothing.
            (
                InProgress | StopRequested | RollbackRequested
                | RollbackInProgress,
                Begun,
            ) => Ok(self),
            (Pending | InProgress, Settled) => Ok(Successful),
            (RollbackInProgress, Settled) => Ok(RollbackSuccessful),
            (Pending | InProgress | StopRequested, Broken | Superseded) => {
                Ok(Stopped)
            }
            (RollbackRequested | RollbackInProgress, Broken | Superseded) => {
                Ok(RollbackFailed)
            }
            (
                Pending | InProgress | StopRequested | RollbackRequested,
                RollbackAsked,
            ) => Ok(RollbackRequested),
            (
                Pending | InProgress | StopRequested | RollbackRequested,
                RollbackBegun,
            ) => Ok(RollbackInProgress),
            (StopRequested | RollbackRequested, Settled)
            | (RollbackInProgress, RollbackAsked | RollbackBegun)
            | (
                Successful | Stopped | RollbackSuccessful | RollbackFailed,
                Begun | Settled | Broken | Superseded | RollbackAsked
                | RollbackBegun,
            ) => Err(IllegalStep {
                noun: "service deployment",
                from: self.as_str(),
                event: event.as_str(),
            }),
        }
    }

    /// Whether nothing will happen to it any more.
    pub const fn is_final(self) -> bool {
        use ServiceDeploymentStatus::*;
        match self {
            Successful | Stopped | RollbackSuccessful | RollbackFailed => true,
            Pending | InProgress | StopRequested | RollbackRequested
            | RollbackInProgress => false,
        }
    }
}
