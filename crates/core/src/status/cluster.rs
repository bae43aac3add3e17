//! The `status` of a cluster.

use super::{IllegalStep, named};

named! {
    /// The status of a cluster.
    ClusterStatus is a "cluster" {
        /// Resources of its capacity providers are being made.
        Provisioning = "PROVISIONING",
        /// It takes work.
        Active = "ACTIVE",
        /// Resources of its capacity providers are being removed.
        Deprovisioning = "DEPROVISIONING",
        /// The resources of its capacity providers could not be made.
        Failed = "FAILED",
        /// It is deleted; readers see it for a while.
        Inactive = "INACTIVE",
    }
}

named! {
    /// What happens to a cluster.
    ClusterEvent is a "cluster event" {
        /// A `CreateCluster` with nothing to wait for.
        Created = "Created",
        /// A `CreateCluster` that has to wait for capacity providers.
        CreateBegun = "CreateBegun",
        /// What it waited for is there.
        Provisioned = "Provisioned",
        /// What it waited for cannot be had.
        ProvisionFailed = "ProvisionFailed",
        /// A `DeleteCluster` that has to wait for capacity providers.
        DeleteBegun = "DeleteBegun",
        /// It is deleted.
        Deleted = "Deleted",
    }
}

impl ClusterStatus {
    /// The only place a cluster's status may change.
    pub fn step(
        self,
        event: ClusterEvent,
    ) -> Result<ClusterStatus, IllegalStep> {
        use {ClusterEvent::*, ClusterStatus::*};
        match (self, event) {
            // Creating what exists is a no-op; creating anew what was
            // deleted, or failed, starts afresh.
            (Active | Inactive | Failed, Created) => Ok(Active),
            (Provisioning, Created | CreateBegun) => Ok(Provisioning),
            (Inactive | Failed, CreateBegun) => Ok(Provisioning),
            (Active, CreateBegun) => Ok(Active),
            (Provisioning | Active, Provisioned) => Ok(Active),
            (Provisioning, ProvisionFailed) => Ok(Failed),
            (Active | Failed | Deprovisioning, DeleteBegun) => {
                Ok(Deprovisioning)
            }
            (Active | Failed | Deprovisioning | Inactive, Deleted) => {
                Ok(Inactive)
            }
            (Deprovisioning, Created | CreateBegun)
            | (Deprovisioning | Failed | Inactive, Provisioned)
            | (Active | Deprovisioning | Failed | Inactive, ProvisionFailed)
            | (Provisioning | Inactive, DeleteBegun)
            | (Provisioning, Deleted) => Err(IllegalStep {
                noun: "cluster",
                from: self.as_str(),
                event: event.as_str(),
            }),
        }
    }
}
