//! Services that were deleted, and deployments of long ago.

use std::collections::BTreeSet;

use minato_core::status::ServiceStatus;
use minato_store::{Key, Row, Snapshot, Tx};
use minato_wire::Timestamp;

use super::BATCH_MAX;
use crate::tables::{
    Daemon, DaemonDeployment, DaemonRevision, Service, ServiceDeployment,
    ServiceEvent, ServiceRevision, TaskSet,
};

/// How long a service deployment is remembered (API reference,
/// ListServiceDeployments: 90 days).
const DEPLOYMENT_LIFE_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// What is to be forgotten.
pub(super) struct Expired {
    services: Vec<Key>,
    deployments: Vec<Key>,
    revisions: Vec<Key>,
    events: Vec<Key>,
    daemon_deployments: Vec<Key>,
    daemon_revisions: Vec<Key>,
}

impl Expired {
    /// Finds services that are `INACTIVE` for longer than `kept_ms` and
    /// deployments that are over for long.
    pub(super) fn find(
        rows: &Snapshot,
        now: Timestamp,
        kept_ms: i64,
    ) -> Expired {
        let all: Vec<_> = rows.scan::<Service>(&Key::root()).collect();
        let services = all.iter().filter(|row| {
            let over = row.inactive_at;
            row.status == ServiceStatus::Inactive
                && over.is_none_or(|at| now.millis_since(at) > kept_ms)
        });
        let services: Vec<Key> =
            services.map(|row| row.key()).take(BATCH_MAX).collect();
        // What a living service still needs, and whose parts those are.
        let mut needed = BTreeSet::new();
        let mut owners = BTreeSet::new();
        for row in all.iter().filter(|row| !services.contains(&row.key())) {
            let owner = row.owner().key();
            let revisions = row.deployments.iter().map(|one| &one.revision);
            for id in revisions.chain(&row.completed_revision) {
                needed.insert(owner.with(id));
            }
            owners.insert(owner);
        }
        for row in rows.scan::<Daemon>(&Key::root()) {
            let owner = row.of.key();
            let revisions = row.deployments.iter().map(|one| &one.revision);
            for id in revisions.chain(&row.completed_revision) {
                needed.insert(owner.with(id));
            }
            needed.insert(owner.with(&row.deployment));
            owners.insert(owner);
        }
        let sets = rows.scan::<TaskSet>(&Key::root());
        needed.extend(sets.map(|row| row.key()));
        let is_orphan = |of: Key| !owners.contains(&of);
        let is_old = |created: Option<Timestamp>| {
            created.is_none_or(|at| now.millis_since(at) > DEPLOYMENT_LIFE_MS)
        };
        let daemon_deployments = rows
            .scan::<DaemonDeployment>(&Key::root())
            .filter(|row| is_old(row.shown.created_at))
            .map(|row| row.key())
            .filter(|key| !needed.contains(key));
        let daemon_revisions = rows
            .scan::<DaemonRevision>(&Key::root())
            .filter(|row| is_old(row.shown.created_at))
            .map(|row| row.key())
            .filter(|key| !needed.contains(key));
        let deployments = rows
            .scan::<ServiceDeployment>(&Key::root())
            .filter(|row| {
                (row.status.is_final() && is_old(row.deployment.created_at))
                    || is_orphan(row.of.key())
            })
            .map(|row| row.key());
        let revisions = rows
            .scan::<ServiceRevision>(&Key::root())
            .filter(|row| {
                (is_old(row.revision.created_at)
                    && !needed.contains(&row.key()))
                    || is_orphan(row.of.key())
            })
            .map(|row| row.key());
        let events = rows
            .scan::<ServiceEvent>(&Key::root())
            .filter(|row| is_orphan(row.of.key()))
            .map(|row| row.key());
        Expired {
            deployments: deployments.take(BATCH_MAX).collect(),
            revisions: revisions.take(BATCH_MAX).collect(),
            events: events.take(BATCH_MAX).collect(),
            daemon_deployments: daemon_deployments.take(BATCH_MAX).collect(),
            daemon_revisions: daemon_revisions.take(BATCH_MAX).collect(),
            services,
        }
    }

    /// Whether there is nothing to forget.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.deployments.is_empty()
            && self.revisions.is_empty()
            && self.events.is_empty()
            && self.daemon_deployments.is_empty()
            && self.daemon_revisions.is_empty()
    }

    /// Forgets it.
    pub(super) fn remove(self, tx: &mut Tx) {
        for key in self.services {
            // One of the same name may have come since.
            let is_over = tx
                .get::<Service>(&key)
                .is_some_and(|row| row.status == ServiceStatus::Inactive);
            if is_over {
                tx.delete::<Service>(&key);
            }
        }
        for key in self.deployments {
            tx.delete::<ServiceDeployment>(&key);
        }
        for key in self.revisions {
            tx.delete::<ServiceRevision>(&key);
        }
        for key in self.daemon_deployments {
            tx.delete::<DaemonDeployment>(&key);
        }
        for key in self.daemon_revisions {
            tx.delete::<DaemonRevision>(&key);
        }
        for key in self.events {
            tx.delete::<ServiceEvent>(&key);
        }
    }
}
