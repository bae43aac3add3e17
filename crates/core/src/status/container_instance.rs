//! The `status` of a container instance: a host's registration in a cluster.

use super::{IllegalStep, named};

named! {
    /// The status of a container instance.
    InstanceStatus is a "container instance" {
        /// Its registration is under way.
        Registering = "REGISTERING",
        /// Its registration failed.
        RegistrationFailed = "REGISTRATION_FAILED",
        /// It takes tasks.
        Active = "ACTIVE",
        /// It keeps its tasks and takes no new ones.
        Draining = "DRAINING",
        /// It is being deregistered.
        Deregistering = "DEREGISTERING",
        /// It is deregistered; readers see it for a while.
        Inactive = "INACTIVE",
    }
}

named! {
    /// What happens to a container instance.
    InstanceEvent is a "container instance event" {
        /// Its registration succeeded (the first or a repeated one).
        Registered = "Registered",
        /// Its registration failed.
        Refused = "Refused",
        /// A user or the agent wants it drained.
        Drain = "Drain",
        /// A user wants it to take tasks again.
        Activate = "Activate",
        /// It is to be deregistered, and something must end first.
        DeregisterBegun = "DeregisterBegun",
        /// It is deregistered.
        Deregistered = "Deregistered",
    }
}

impl InstanceStatus {
    /// The only place a container instance's status may change.
    pub fn step(
        self,
        event: InstanceEvent,
    ) -> Result<InstanceStatus, IllegalStep> {
        use {InstanceEvent::*, InstanceStatus::*};
        match (self, event) {
            (Registering | Active, Registered) => Ok(Active),
            // A restarted agent registers again and stays drained.
            (Draining, Registered | Drain) => Ok(Draining),
            (Registering, Refused) => Ok(RegistrationFailed),
            (Active, Drain) => Ok(Draining),
            (Active | Draining, Activate) => Ok(Active),
            (Active | Draining | Deregistering, DeregisterBegun) => {
                Ok(Deregistering)
            }
            (
                Registering | RegistrationFailed | Active | Draining
                | Deregistering | Inactive,
                Deregistered,
            ) => Ok(Inactive),
            (RegistrationFailed | Deregistering | Inactive, Registered)
            | (
                RegistrationFailed | Active | Draining | Deregistering
                | Inactive,
                Refused,
            )
            | (
                Registering | RegistrationFailed | Deregistering | Inactive,
                Drain | Activate,
            )
            | (Registering | RegistrationFailed | Inactive, DeregisterBegun) => {
                Err(IllegalStep {
                    noun: "container instance",
                    from: self.as_str(),
                    event: event.as_str(),
                })
            }
        }
    }

    /// Whether the instance counts as registered in its cluster.
    pub const fn is_registered(self) -> bool {
        match self {
            InstanceStatus::Active | InstanceStatus::Draining => true,
            InstanceStatus::Registering
            | InstanceStatus::RegistrationFailed
            | InstanceStatus::Deregistering
            | InstanceStatus::Inactive => false,
        }
    }
}
