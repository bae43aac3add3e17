//! What containers use, in the form of Docker's statistics.

use std::collections::HashMap;

use minato_wire::Timestamp;
use serde_json::{Map, Value, json};

use super::Endpoint;
use crate::runtime::Usage;
use crate::task::plan::{ContainerPlan, TaskPlan};

/// Samples kept for rates; then all are forgotten, and rates begin anew.
const SAMPLES_MAX: usize = 10_000;

/// The last look at each container.
pub(super) type Samples = HashMap<String, (Timestamp, Usage)>;

impl Endpoint {
    /// Of one container; null where it does not run.
    pub(super) async fn container_stats(
        &self,
        plan: &TaskPlan,
        name: &str,
    ) -> Value {
        match plan.container(name) {
            Some(container) => self.stats(container).await,
            None => Value::Null,
        }
    }

    /// Of every container of the task, by its id.
    pub(super) async fn task_stats(&self, plan: &TaskPlan) -> Value {
        let mut all = Map::new();
        for container in &plan.containers {
            all.insert(container.id.clone(), self.stats(container).await);
        }
        Value::Object(all)
    }

    async fn stats(&self, container: &ContainerPlan) -> Value {
        let usage = self.services.runtime.usage(&container.id).await;
        // It has not started, or has ended.
        let Ok(usage) = usage else { return Value::Null };
        let look = (self.now(), usage);
        let before = {
            let mut samples = self.samples.lock();
            if samples.len() >= SAMPLES_MAX {
                samples.clear();
            }
            samples.insert(container.id.clone(), look)
        };
        let cpus = self.services.config.cpu_units / 1024;
        body(container, u64::try_from(cpus).unwrap_or(1), before, look)
    }
}

fn body(
    container: &ContainerPlan,
    cpus: u64,
    before: Option<(Timestamp, Usage)>,
    (now, usage): (Timestamp, Usage),
) -> Value {
    let cpu = |(time, usage): (Timestamp, Usage)| {
        // All time of all CPUs, busy or not, since the epoch: only its
        // growth from one look to the next is of use to anybody.
        let millis = u64::try_from(time.as_millis()).unwrap_or(0);
        let system = millis.saturating_mul(1_000_000).saturating_mul(cpus);
        json!({
            "cpu_usage": {"total_usage": usage.cpu_ns},
            "system_cpu_usage": system,
            "online_cpus": cpus,
        })
    };
    let (read, written) = usage.storage;
    let total = read.saturating_add(written);
    let mut body = json!({
        "read": now.to_iso(),
        "preread": before.map(|(then, _)| then.to_iso()),
        "cpu_stats": cpu((now, usage)),
        "precpu_stats": before.map(cpu),
        "memory_stats": {
            "usage": usage.memory_bytes,
            "limit": container.memory_bytes,
        },
        "blkio_stats": {"io_service_bytes_recursive": [
            {"op": "Read", "value": read},
            {"op": "Write", "value": written},
            {"op": "Total", "value": total},
        ]},
        "name": container.name,
        "id": container.id,
    });
    if let Some((received, sent)) = usage.network {
        body["networks"] =
            json!({"eth0": {"rx_bytes": received, "tx_bytes": sent}});
    }
    if let Some(rates) = rates(before, (now, usage)) {
        body["network_rate_stats"] = rates;
    }
    body
}

fn rates(
    before: Option<(Timestamp, Usage)>,
    (now, usage): (Timestamp, Usage),
) -> Option<Value> {
    let (then, old) = before?;
    let millis = u64::try_from(now.millis_since(then)).ok()?;
    let rate = |new: u64, old: u64| {
        let grown = u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX);
        let millis = u32::try_from(millis).unwrap_or(u32::MAX);
        f64::from(grown) * 1000.0 / f64::from(millis)
    };
    let ((received, sent), (old_received, old_sent)) =
        (usage.network?, old.network?);
    (millis > 0).then(|| {
        json!({
            "rx_bytes_per_sec": rate(received, old_received),
            "tx_bytes_per_sec": rate(sent, old_sent),
        })
    })
}
