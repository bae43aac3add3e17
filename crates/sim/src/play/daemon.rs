//! Managed daemons: on every instance of a capacity provider.

use std::collections::BTreeMap;

use minato_control::tables::{
    ContainerInstance, Daemon, DaemonDeployment, Task,
};
use minato_core::service::rules;
use minato_core::status::RolloutState;
use minato_store::{Key, Row};
use minato_wire::ecs::DaemonDeploymentStatus;
use serde_json::json;

use super::Play;
use crate::check::Floor;
use crate::host::GROUP;
use crate::world::{ACCOUNT, CLUSTER, REGION};

const PROVIDER: &str = "fleet";
const NAMES: [&str; 2] = ["agent", "shipper"];

/// What is known of daemons.
#[derive(Debug, Default)]
pub(super) struct Daemons {
    /// Whether the cluster has the capacity provider.
    has_provider: bool,
    definitions: Vec<String>,
}

impl Daemons {
    /// Whether there is anything to make a daemon of.
    pub(super) fn has_definitions(&self) -> bool {
        !self.definitions.is_empty()
    }
}

fn arn_of(kind: &str, name: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}/{name}")
}

/// Whether its deployment failed with nothing to go back to: that is over,
/// whatever came of it.
fn has_failed(daemon: &Daemon) -> bool {
    let primary = daemon.deployments.first();
    primary.is_some_and(|one| one.rollout == RolloutState::Failed)
}

impl Play {
    /// Makes, changes or deletes a managed daemon.
    pub(super) async fn daemon(&mut self) {
        if !self.daemons.has_provider {
            return self.provide().await;
        }
        if self.daemons.definitions.len() < 2 || self.chance.hits(10) {
            return self.define_daemon().await;
        }
        let pick = self.chance.below(self.daemons.definitions.len() as u64);
        let pick = usize::try_from(pick).unwrap_or(0);
        let definition = self.daemons.definitions[pick].clone();
        let name = NAMES[usize::from(self.chance.hits(50))];
        let mut input = json!({
            "daemonTaskDefinitionArn": definition,
            "capacityProviderArns": [arn_of("capacity-provider", PROVIDER)],
            "deploymentConfiguration": {
                "drainPercent": 1 + self.chance.below(100),
            },
        });
        let arn = arn_of("daemon", &format!("{CLUSTER}/{name}"));
        let call = match self.chance.below(5) {
            0 | 1 => {
                input["daemonName"] = json!(name);
                "CreateDaemon"
            }
            2 | 3 => {
                input["daemonArn"] = json!(arn);
                "UpdateDaemon"
            }
            _ => {
                input = json!({"daemonArn": arn});
                "DeleteDaemon"
            }
        };
        let _ = self.world.call(call, input).await;
    }

    async fn provide(&mut self) {
        let group = json!({"autoScalingGroupArn": GROUP});
        let input =
            json!({"name": PROVIDER, "autoScalingGroupProvider": group});
        // Made already by a call whose answer was lost, perhaps.
        let _ = self.world.call("CreateCapacityProvider", input).await;
        let input = json!({
            "cluster": CLUSTER,
            "capacityProviders": [PROVIDER, "FARGATE", "FARGATE_SPOT"],
            "defaultCapacityProviderStrategy": [],
        });
        let put = self.world.call("PutClusterCapacityProviders", input).await;
        self.daemons.has_provider = put.is_ok();
    }

    async fn define_daemon(&mut self) {
        let input = json!({
            "family": "agent",
            "containerDefinitions": [
                {"name": "main", "image": "agent", "cpu": 16, "memory": 16},
            ],
        });
        let call = "RegisterDaemonTaskDefinition";
        let Ok(answer) = self.world.call(call, input).await else { return };
        let arn = answer["daemonTaskDefinitionArn"].as_str();
        self.daemons.definitions.extend(arn.map(str::to_owned));
    }

    /// The instances that a daemon should be on.
    fn manned(&self) -> Vec<String> {
        let rows = self.process.store.snapshot();
        rows.scan::<ContainerInstance>(&Key::root())
            .filter(|row| row.status == "ACTIVE")
            .filter(|row| row.capacity_provider.as_deref() == Some(PROVIDER))
            .map(|row| row.arn())
            .collect()
    }

    /// What is not as it should be once all is at peace.
    pub(super) fn unsettled_daemons(&self) -> Option<String> {
        let rows = self.process.store.snapshot();
        for daemon in rows.scan::<Daemon>(&Key::root()) {
            let name = daemon.name();
            if daemon.is_deleted {
                return Some(format!("daemon {name} is not gone"));
            }
            if has_failed(&daemon) {
                continue;
            }
            let key = daemon.key();
            let mut on: BTreeMap<String, usize> = BTreeMap::new();
            for task in rows.by_index::<Task>("service", &key) {
                let runs = task.should_run() && task.last_status() == "RUNNING";
                if let Some(arn) = &task.task.container_instance_arn
                    && runs
                {
                    *on.entry(arn.clone()).or_insert(0) += 1;
                }
            }
            let should: BTreeMap<String, usize> =
                self.manned().into_iter().map(|arn| (arn, 1)).collect();
            if on != should {
                return Some(format!("daemon {name} is on {on:?}: {should:?}"));
            }
            let of = daemon.of.key();
            let mut deployments = rows.scan::<DaemonDeployment>(&of);
            let last = deployments.find(|row| row.id == daemon.deployment);
            let status = last.map(|row| row.status());
            let is_final = matches!(
                status,
                Some(
                    DaemonDeploymentStatus::Successful
                        | DaemonDeploymentStatus::Stopped
                        | DaemonDeploymentStatus::RollbackSuccessful
                        | DaemonDeploymentStatus::RollbackFailed
                )
            );
            if !is_final {
                return Some(format!("daemon {name} is {status:?}"));
            }
        }
        None
    }

    /// Deploys every daemon anew, each to keep its part at work.
    pub(super) async fn renew_daemons(&mut self) -> Result<(), String> {
        let rows = self.process.store.snapshot();
        let instances = u32::try_from(self.manned().len()).unwrap_or(0);
        let mut floors = vec![];
        let mut inputs = vec![];
        for daemon in rows.scan::<Daemon>(&Key::root()) {
            if has_failed(&daemon) {
                continue;
            }
            let drain = daemon.configuration.drain_percent.unwrap_or(25.0);
            floors.push(Floor {
                service: daemon.of.id.clone(),
                name: daemon.name().to_owned(),
                healthy: instances
                    .saturating_sub(rules::at_a_time(instances, drain)),
            });
            let pick = self.chance.below(self.daemons.definitions.len() as u64);
            let pick = usize::try_from(pick).unwrap_or(0);
            inputs.push(json!({
                "daemonArn": daemon.arn(),
                "daemonTaskDefinitionArn": self.daemons.definitions[pick],
                "capacityProviderArns": [arn_of("capacity-provider", PROVIDER)],
                "deploymentConfiguration": {"drainPercent": drain},
            }));
        }
        self.until(floors).await?;
        for input in inputs {
            self.world.try_call("UpdateDaemon", input).await?;
        }
        Ok(())
    }
}
