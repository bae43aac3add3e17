//! The end of all trouble: what must come about then.

use serde_json::json;

use super::{EXTERNAL, PEACE_SECS, Play};
use crate::world::CLUSTER;

impl Play {
    /// Waits until every service has what it asks for.
    pub(super) async fn peace(&mut self) -> Result<(), String> {
        self.world.disk.spare();
        let mut is_active = false;
        let mut why = String::new();
        for _ in 0..PEACE_SECS {
            self.tick().await?;
            if !is_active {
                is_active =
                    self.forget_lost().await && self.activate_all().await;
            }
            match self.unsettled().await {
                None => return Ok(()),
                Some(found) => why = found,
            }
        }
        Err(format!("no peace after {PEACE_SECS} s: {why}"))
    }

    /// Deregisters instances that no agent speaks for: one whose registration
    /// was not answered registered again. `false` if that must be tried again.
    async fn forget_lost(&self) -> bool {
        let input = json!({"cluster": CLUSTER});
        let call = "ListContainerInstances";
        let Ok(list) = self.world.call(call, input).await else {
            return false;
        };
        let arns = &list["containerInstanceArns"];
        let input = json!({"cluster": CLUSTER, "containerInstances": arns});
        let call = "DescribeContainerInstances";
        let Ok(found) = self.world.call(call, input).await else {
            return false;
        };
        let all = found["containerInstances"].as_array();
        let mut is_done = true;
        for instance in all.into_iter().flatten() {
            if instance["agentConnected"] == true {
                continue;
            }
            let arn = &instance["containerInstanceArn"];
            let input = json!({
                "cluster": CLUSTER, "containerInstance": arn, "force": true,
            });
            let call = "DeregisterContainerInstance";
            is_done &= self.world.call(call, input).await.is_ok();
        }
        is_done
    }

    /// Has every container instance take tasks; `false` if that must be tried
    /// again.
    async fn activate_all(&self) -> bool {
        let input = json!({"cluster": CLUSTER, "status": "DRAINING"});
        let call = "ListContainerInstances";
        let Ok(list) = self.world.call(call, input).await else {
            return false;
        };
        let drained = &list["containerInstanceArns"];
        if *drained == json!([]) {
            return true;
        }
        let input = json!({
            "cluster": CLUSTER, "containerInstances": drained,
            "status": "ACTIVE",
        });
        let call = "UpdateContainerInstancesState";
        self.world.call(call, input).await.is_ok()
    }

    pub(super) async fn unsettled(&self) -> Option<String> {
        for (name, agreed) in &self.services {
            let Ok(found) = self.describe(name).await else {
                return Some(format!("{name} cannot be described"));
            };
            // Deleted by a call whose answer was lost, or before it was
            // made again.
            if found["status"] != "ACTIVE" {
                continue;
            }
            let desired = &found["desiredCount"];
            let rolled = &found["deployments"][0]["rolloutState"];
            if agreed.is_some_and(|agreed| *desired != json!(agreed)) {
                return Some(format!("{name} wants {desired}: {agreed:?}"));
            }
            // A deployment that failed with nothing to go back to is over.
            if rolled == "FAILED" {
                continue;
            }
            let is_one = found["deployments"].as_array().map(Vec::len);
            if found["runningCount"] != *desired
                || found["pendingCount"] != json!(0)
                || is_one != Some(1)
                || rolled != "COMPLETED"
            {
                let mut shown = found.clone();
                if let Some(events) = shown["events"].as_array_mut() {
                    events.truncate(3);
                }
                return Some(format!("{name}: {shown}"));
            }
        }
        if let Some(found) = self.unsettled_daemons() {
            return Some(found);
        }
        self.unsettled_sets().await
    }

    async fn unsettled_sets(&self) -> Option<String> {
        let Ok(found) = self.describe(EXTERNAL).await else {
            return Some("the task sets cannot be described".to_owned());
        };
        if found.is_null() || found["status"] != "ACTIVE" {
            return None;
        }
        let sets = found["taskSets"].as_array().into_iter().flatten();
        for set in sets {
            if set["stabilityStatus"] != "STEADY_STATE" {
                return Some(format!("a task set: {set}"));
            }
        }
        None
    }
}
