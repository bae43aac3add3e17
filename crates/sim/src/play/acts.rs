//! What users do, whenever luck has it.

use serde_json::{Value, json};

use super::{DAEMON, EXTERNAL, FARGATE, Play, REPLICAS_MAX, is_unsure};
use crate::world::CLUSTER;

impl Play {
    pub(super) async fn act(&mut self) {
        if self.definitions.len() < 2 || self.chance.hits(5) {
            return self.define().await;
        }
        let definition = self.some_definition();
        match self.chance.below(14) {
            0 => self.run_some().await,
            1 => self.stop_some().await,
            2 => self.protect_some().await,
            3 => self.drain_some().await,
            4 => self.take_back().await,
            5 => self.delete_some().await,
            6 => self.reclaim().await,
            7 => self.scale_sets().await,
            8 => self.start_some().await,
            9 if self.shape.has_daemons => self.daemon().await,
            _ => self.serve(definition).await,
        }
    }

    /// Runs tasks, perhaps such that want a port or an address of their own.
    async fn run_some(&mut self) {
        let count = 1 + self.chance.below(3);
        let mut input = self.batch().await;
        input["count"] = json!(count);
        let _ = self.world.call("RunTask", input).await;
    }

    /// Starts a task on an instance that it names.
    async fn start_some(&mut self) {
        let Some(instance) = self.some_instance().await else { return };
        let mut input = self.batch().await;
        input["containerInstances"] = json!([instance]);
        let _ = self.world.call("StartTask", input).await;
    }

    /// What tasks of no service are of. One of two fixed ports is in use
    /// before long, and one zone's subnet is not good for every instance.
    async fn batch(&mut self) -> Value {
        let definition = self.some_definition();
        let input = json!({"cluster": CLUSTER, "taskDefinition": definition});
        let kind = self.chance.below(3);
        let mut container = json!({
            "name": "main", "image": "app", "cpu": 16, "memory": 32,
        });
        let port = 8000 + self.chance.below(2);
        let (family, mode) = match kind {
            0 => return input,
            1 => ("ported", "bridge"),
            _ => ("addressed", "awsvpc"),
        };
        container["portMappings"] = json!([
            {"containerPort": port, "hostPort": port},
        ]);
        let define = json!({
            "family": family, "networkMode": mode,
            "containerDefinitions": [container],
        });
        let _ = self.world.call("RegisterTaskDefinition", define).await;
        let mut input = json!({"cluster": CLUSTER, "taskDefinition": family});
        if mode == "awsvpc" {
            let pick = self.chance.below(self.subnets.len() as u64);
            let subnet = &self.subnets[usize::try_from(pick).unwrap_or(0)];
            input["networkConfiguration"] = json!({
                "awsvpcConfiguration": {"subnets": [subnet]},
            });
        }
        input
    }

    /// The ARN of one of the container instances.
    pub(super) async fn some_instance(&mut self) -> Option<Value> {
        let input = json!({"cluster": CLUSTER});
        let call = "ListContainerInstances";
        let list = self.world.call(call, input).await.ok()?;
        let all = list["containerInstanceArns"].as_array()?.clone();
        let pick = self.chance.below(all.len().max(1) as u64);
        all.get(usize::try_from(pick).unwrap_or(0)).cloned()
    }

    pub(super) fn some_definition(&mut self) -> String {
        let definition = self.chance.below(self.definitions.len() as u64);
        let definition = usize::try_from(definition).unwrap_or(0);
        self.definitions[definition].clone()
    }

    /// Registers a revision: plain, with a health check, or for Fargate.
    async fn define(&mut self) {
        // No fixed ports: they could fill the hosts so that no peace comes.
        let mut container = json!({
            "name": "main", "image": "app", "cpu": 64, "memory": 128,
        });
        let kind = self.chance.below(3);
        let family = ["app", "checked", "fargate"];
        let family = family[usize::try_from(kind).unwrap_or(0)];
        if family == "checked" {
            container["healthCheck"] = json!({"command": ["CMD", "true"]});
        }
        let mut input =
            json!({"family": family, "containerDefinitions": [container]});
        let is_fargate = family == "fargate";
        if is_fargate {
            input["networkMode"] = json!("awsvpc");
            input["requiresCompatibilities"] = json!(["FARGATE"]);
            input["cpu"] = json!("256");
            input["memory"] = json!("512");
        }
        let answer = self.world.call("RegisterTaskDefinition", input).await;
        let Ok(answer) = answer else { return };
        let arn = &answer["taskDefinition"]["taskDefinitionArn"];
        let of =
            if is_fargate { &mut self.fargate } else { &mut self.definitions };
        of.extend(arn.as_str().map(str::to_owned));
    }

    /// Deletes a service; one of its name may come again.
    async fn delete_some(&mut self) {
        let name = self.some_name();
        let input = json!({"cluster": CLUSTER, "service": name, "force": true});
        // Done or not, it is promised no more.
        self.services.remove(&name);
        let _ = self.world.call("DeleteService", input).await;
    }

    /// Takes Spot capacity from under a service's tasks.
    async fn reclaim(&mut self) {
        let input = json!({
            "cluster": CLUSTER, "service": FARGATE,
            "count": 1 + self.chance.below(3),
        });
        let _ = self.world.call_minato("InterruptSpotTasks", input).await;
    }

    /// Makes, scales or deletes a task set.
    async fn scale_sets(&mut self) {
        let on = json!({"cluster": CLUSTER, "service": EXTERNAL});
        let listed = self.world.call("DescribeTaskSets", on.clone()).await;
        let Ok(listed) = listed else {
            let input = json!({
                "cluster": CLUSTER, "serviceName": EXTERNAL,
                "desiredCount": self.chance.below(REPLICAS_MAX + 1),
                "deploymentController": {"type": "EXTERNAL"},
            });
            let _ = self.world.call("CreateService", input).await;
            return;
        };
        let sets = listed["taskSets"].as_array().cloned().unwrap_or_default();
        let pick = self.chance.below(sets.len().max(1) as u64);
        let set = sets.get(usize::try_from(pick).unwrap_or(0));
        let scale = json!({"value": self.chance.below(101)});
        let mut input = on;
        let call = match (self.chance.below(4), set) {
            (0 | 1, _) | (_, None) if sets.len() < 3 => {
                input["taskDefinition"] = json!(self.some_definition());
                input["scale"] = scale;
                "CreateTaskSet"
            }
            (2, Some(set)) => {
                input["taskSet"] = set["id"].clone();
                input["force"] = json!(true);
                "DeleteTaskSet"
            }
            (_, Some(set)) => {
                input["taskSet"] = set["id"].clone();
                input["scale"] = scale;
                "UpdateTaskSet"
            }
            (_, None) => return,
        };
        let _ = self.world.call(call, input).await;
    }

    fn some_name(&mut self) -> String {
        match self.chance.below(self.shape.services + 2) {
            0 => FARGATE.to_owned(),
            1 => DAEMON.to_owned(),
            number => format!("service-{}", number - 2),
        }
    }

    async fn stop_some(&mut self) {
        let input = json!({"cluster": CLUSTER});
        let Ok(list) = self.world.call("ListTasks", input).await else {
            return;
        };
        let arns = list["taskArns"].as_array().cloned().unwrap_or_default();
        if arns.is_empty() {
            return;
        }
        let pick = self.chance.below(arns.len() as u64);
        let pick = usize::try_from(pick).unwrap_or(0);
        let input = json!({"cluster": CLUSTER, "task": arns[pick]});
        let _ = self.world.call("StopTask", input).await;
    }

    /// The ARN of one of the tasks that should run.
    async fn some_task(&mut self) -> Option<Value> {
        let input = json!({"cluster": CLUSTER});
        let list = self.world.call("ListTasks", input).await.ok()?;
        let arns = list["taskArns"].as_array().cloned().unwrap_or_default();
        let pick = self.chance.below(arns.len().max(1) as u64);
        arns.get(usize::try_from(pick).unwrap_or(0)).cloned()
    }

    /// Protects a task for a few minutes, or ends its protection.
    async fn protect_some(&mut self) {
        let Some(arn) = self.some_task().await else { return };
        let input = json!({
            "cluster": CLUSTER, "tasks": [arn],
            "protectionEnabled": self.chance.hits(80),
            "expiresInMinutes": 1 + self.chance.below(5),
        });
        let _ = self.world.call("UpdateTaskProtection", input).await;
    }

    /// Drains a container instance, or makes it active again.
    async fn drain_some(&mut self) {
        let Some(arn) = self.some_instance().await else { return };
        let is_drain = self.chance.hits(40);
        let input = json!({
            "cluster": CLUSTER, "containerInstances": [arn],
            "status": if is_drain { "DRAINING" } else { "ACTIVE" },
        });
        let call = "UpdateContainerInstancesState";
        let _ = self.world.call(call, input).await;
    }

    /// Asks that a deployment under way be taken back.
    async fn take_back(&mut self) {
        let name = self.some_name();
        let Ok(found) = self.describe(&name).await else { return };
        let arn = found["currentServiceDeployment"].clone();
        let input = json!({"serviceDeploymentArn": arn});
        let call = "StopServiceDeployment";
        let _ = self.world.call(call, input).await;
    }

    /// Creates a service, or changes its definition and count.
    async fn serve(&mut self, definition: String) {
        let name = self.some_name();
        let count = self.chance.below(REPLICAS_MAX + 1);
        let mut input = json!({
            "cluster": CLUSTER, "taskDefinition": definition,
        });
        // Pairs that let every deployment move, whatever the count.
        let (min, max) = match self.chance.below(4) {
            0 => (0, 100),
            1 => (50, 200),
            2 => (100, 200),
            _ => (100, 300),
        };
        let is_new = !self.services.contains_key(&name);
        input["deploymentConfiguration"] = json!({
            "minimumHealthyPercent": min, "maximumPercent": max,
            "deploymentCircuitBreaker": {
                "enable": self.chance.hits(20), "rollback": true,
            },
        });
        let is_daemon = name == DAEMON;
        if is_daemon {
            input["deploymentConfiguration"] = json!({});
            if is_new {
                input["schedulingStrategy"] = json!("DAEMON");
            }
        } else {
            input["desiredCount"] = json!(count);
            let is_balanced = self.shape.has_zones && max > 100;
            input["availabilityZoneRebalancing"] =
                json!(if is_balanced { "ENABLED" } else { "DISABLED" });
        }
        if name == FARGATE {
            let Some(definition) = self.fargate.last() else { return };
            input["taskDefinition"] = json!(definition);
            input["availabilityZoneRebalancing"] = json!("ENABLED");
            if max == 100 {
                input["availabilityZoneRebalancing"] = json!("DISABLED");
            }
            input["networkConfiguration"] = json!({
                "awsvpcConfiguration": {"subnets": self.subnets},
            });
            if is_new {
                input["capacityProviderStrategy"] = json!([
                    {"capacityProvider": "FARGATE", "weight": 1},
                    {"capacityProvider": "FARGATE_SPOT", "weight": 2},
                ]);
            }
        }
        if self.chance.hits(20) && !is_new {
            input["forceNewDeployment"] = json!(true);
        }
        let agreed = (!is_daemon).then_some(count);
        let call = if is_new { "CreateService" } else { "UpdateService" };
        input[if is_new { "serviceName" } else { "service" }] = json!(name);
        match self.world.call(call, input).await {
            Ok(_) => drop(self.services.insert(name, agreed)),
            Err(code) if is_unsure(code.as_deref()) => {
                // It may have been done or not.
                if let Some(agreed) = self.services.get_mut(&name) {
                    *agreed = None;
                }
            }
            // Made by a call whose answer was lost.
            Err(_) if is_new => drop(self.services.insert(name, None)),
            Err(_) => {}
        }
    }
}
