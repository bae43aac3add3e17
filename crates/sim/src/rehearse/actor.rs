//! Hosts that do as the plan says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minato_wire::acs;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::plan::{Fault, Host, Tasks};
use crate::host::{Course, End, Mishap, Nature, Said, Step, registration};

/// How a host is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Up,
    /// Without a connection; its tasks run on.
    Apart,
    /// Gone.
    Down,
}

/// What hosts look up of the play.
#[derive(Default)]
pub(super) struct Script {
    /// How tasks behave, by family and revision.
    pub(super) tasks: Mutex<BTreeMap<(String, u32), (Tasks, bool)>>,
    /// The container instance of each host.
    pub(super) instances: Mutex<BTreeMap<String, String>>,
}

pub(super) struct Actor {
    host: Host,
    script: Arc<Script>,
    orders: watch::Receiver<Order>,
    /// How long each task takes to stop.
    stopping: BTreeMap<String, Duration>,
}

impl Actor {
    pub(super) fn new(
        host: Host,
        script: Arc<Script>,
        orders: watch::Receiver<Order>,
    ) -> Actor {
        Actor { host, script, orders, stopping: BTreeMap::new() }
    }
}

impl Nature for Actor {
    fn registration(&self) -> Value {
        let Host { cpu, memory, zone, .. } = &self.host;
        registration(*cpu, *memory, Some(zone), true)
    }

    fn registered(&mut self, arn: &str) {
        let mut instances = self.script.instances.lock();
        instances.insert(self.host.name.clone(), arn.to_owned());
    }

    async fn rest(&mut self) {
        // Whoever gives orders lives as long as the play.
        let _ = self.orders.wait_for(|order| *order == Order::Up).await;
        sleep(Duration::from_millis(200)).await;
    }

    async fn summons(&mut self) -> End {
        let order = self.orders.wait_for(|order| *order != Order::Up).await;
        match order.map(|order| *order) {
            Ok(Order::Down) => End::Died,
            Ok(Order::Apart | Order::Up) => End::Lost,
            Err(_) => std::future::pending().await,
        }
    }

    async fn died(&mut self, _arn: String) {
        self.stopping.clear();
    }

    fn course(&mut self, task: &acs::Task) -> Course {
        let family = task.family.clone().unwrap_or_default();
        let revision = task.version.as_deref().and_then(|it| it.parse().ok());
        let key = (family, revision.unwrap_or(0));
        let known = self.script.tasks.lock().get(&key).cloned();
        let Some((tasks, is_checked)) = known else {
            return Course::default();
        };
        self.stopping.insert(task.arn.clone(), tasks.stops_in);
        let stopped = |after| Step::new(after, Said::Status("STOPPED"));
        let mut steps = vec![];
        if tasks.fault == Fault::CannotPull {
            let reason = "CannotPullContainerError: image not found";
            let step = stopped(tasks.starts_in);
            steps.push(Step { reason: Some(reason), ..step });
            return Course { is_checked, steps };
        }
        let up = tasks.starts_in;
        steps.push(Step::new(up, Said::Status("RUNNING")));
        if is_checked {
            let health = if tasks.fault == Fault::Unhealthy {
                "UNHEALTHY"
            } else {
                "HEALTHY"
            };
            let told = up + tasks.healthy_in;
            steps.push(Step::new(told, Said::Health(health)));
        }
        if tasks.fault == Fault::Crash {
            let step = stopped(up + tasks.fails_in);
            steps.push(Step { exit_code: Some(1), ..step });
        }
        Course { is_checked, steps }
    }

    fn stops_in(&mut self, arn: &str) -> Duration {
        let known = self.stopping.get(arn).copied();
        known.unwrap_or(Duration::from_secs(1))
    }

    fn soon(&mut self) -> Duration {
        Duration::from_millis(500)
    }

    fn suffers(&mut self, _mishap: Mishap) -> bool {
        false
    }
}
