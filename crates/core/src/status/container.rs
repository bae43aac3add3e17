//! The `lastStatus` of a container, as an agent reports it.

use super::{IllegalStep, named};

named! {
    /// The `lastStatus` of a container.
    ContainerStatus is a "container" {
        /// Not started yet.
        Pending = "PENDING",
        /// Started.
        Running = "RUNNING",
        /// Ended, or never to be started.
        Stopped = "STOPPED",
    }
}

named! {
    /// What happens to a container.
    ContainerEvent is a "container event" {
        /// The agent works on it: its image is known, it may be created.
        Prepared = "Prepared",
        /// It runs.
        Started = "Started",
        /// It ended or could not start.
        Ended = "Ended",
    }
}

impl ContainerStatus {
    /// The only place a container's status may change.
    ///
    /// Agents batch their reports, so an older one may come after a newer
    /// one; it says nothing new and is refused.
    pub fn step(
        self,
        event: ContainerEvent,
    ) -> Result<ContainerStatus, IllegalStep> {
        use {ContainerEvent::*, ContainerStatus::*};
        match (self, event) {
            (Pending, Prepared) => Ok(Pending),
            (Pending | Running, Started) => Ok(Running),
            (Pending | Running | Stopped, Ended) => Ok(Stopped),
            (Running | Stopped, Prepared) | (Stopped, Started) => {
                Err(IllegalStep {
                    noun: "container",
                    from: self.as_str(),
                    event: event.as_str(),
                })
            }
        }
    }
}
