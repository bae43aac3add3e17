//! Nothing goes wrong any more: a deployment, or a drained instance, must not
//! take a service below its `minimumHealthyPercent` for a single commit.

use minato_control::tables::Service;
use minato_core::service::rules;
use minato_core::status::{RolloutState, ServiceStatus};
use minato_store::Key;
use serde_json::json;

use super::{FARGATE, Play};
use crate::check::Floor;
use crate::world::CLUSTER;

/// Virtual seconds after which nothing of the trouble is left in the hosts:
/// what a task does was drawn when it started.
const ECHO_SECS: u32 = 130;
/// Virtual seconds within which a deployment must be over.
const CALM_SECS: u32 = 900;

impl Play {
    pub(super) async fn calm(&mut self) -> Result<(), String> {
        for _ in 0..ECHO_SECS {
            self.tick().await?;
        }
        self.settled().await?;
        // A failed deployment starts nothing, so its tasks stay where they are.
        let drained = match self.has_failed() {
            true => None,
            false => self.some_instance().await,
        };
        self.renew().await?;
        self.set_state(drained.clone(), "DRAINING").await?;
        self.settled().await?;
        self.checker.keep(vec![]);
        self.set_state(drained, "ACTIVE").await?;
        self.settled().await?;
        if self.daemons.has_definitions() {
            self.renew_daemons().await?;
            self.settled().await?;
            self.checker.keep(vec![]);
        }
        Ok(())
    }

    /// Whether a deployment failed with nothing to go back to.
    fn has_failed(&self) -> bool {
        let rows = self.process.store.snapshot();
        let mut services = rows.scan::<Service>(&Key::root());
        services.any(|service| {
            let primary = service.deployments.first();
            service.status == ServiceStatus::Active
                && primary
                    .is_some_and(|one| one.rollout == RolloutState::Failed)
        })
    }

    /// Waits until every service has what it asks for.
    async fn settled(&mut self) -> Result<(), String> {
        let mut why = String::new();
        for _ in 0..CALM_SECS {
            self.tick().await?;
            match self.unsettled().await {
                None => return Ok(()),
                Some(found) => why = found,
            }
        }
        Err(format!("not settled after {CALM_SECS} s: {why}"))
    }

    /// Waits until these floors hold, as they shall from then on.
    pub(super) async fn until(
        &mut self,
        floors: Vec<Floor>,
    ) -> Result<(), String> {
        for _ in 0..CALM_SECS {
            if self.checker.holds(&floors).is_ok() {
                self.checker.keep(floors);
                return Ok(());
            }
            self.tick().await?;
        }
        self.checker.holds(&floors)
    }

    async fn set_state(
        &self,
        instance: Option<serde_json::Value>,
        status: &str,
    ) -> Result<(), String> {
        let Some(instance) = instance else { return Ok(()) };
        let input = json!({
            "cluster": CLUSTER, "containerInstances": [instance],
            "status": status,
        });
        let call = "UpdateContainerInstancesState";
        self.world.try_call(call, input).await.map(|_| ())
    }

    /// Deploys every service anew, with another definition or the same one.
    async fn renew(&mut self) -> Result<(), String> {
        let rows = self.process.store.snapshot();
        let (mut floors, mut inputs) = (vec![], vec![]);
        for service in rows.scan::<Service>(&Key::root()) {
            let is_ours = service.status == ServiceStatus::Active
                && service.is_rolling()
                && !service.is_daemon();
            let primary = service.deployments.first();
            let is_well = primary
                .is_some_and(|one| one.rollout == RolloutState::Completed);
            if !is_ours || !is_well {
                continue;
            }
            let limits = rules::limits(&service.service);
            floors.push(Floor {
                service: service.id.clone(),
                name: service.name.clone(),
                healthy: limits.fewest_healthy(service.desired),
            });
            let definition = if service.name == FARGATE {
                self.fargate.last().cloned()
            } else {
                Some(self.some_definition())
            };
            inputs.push(json!({
                "cluster": CLUSTER, "service": service.name,
                "taskDefinition": definition, "forceNewDeployment": true,
            }));
        }
        // Settled is not healthy: a task that was replaced may have to pass its
        // health check first.
        self.until(floors).await?;
        for input in inputs {
            self.world.try_call("UpdateService", input).await?;
        }
        Ok(())
    }
}
