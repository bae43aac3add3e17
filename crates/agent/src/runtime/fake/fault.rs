//! Network faults of fake tasks.

use super::World;
use crate::runtime::fault::{FaultAnswer, FaultCall, ImpairmentKind};

impl World {
    pub(super) fn fault(
        &mut self,
        task: &str,
        call: &FaultCall,
    ) -> FaultAnswer {
        let key = |name: String| (task.to_owned(), name);
        let kinds = [ImpairmentKind::Latency, ImpairmentKind::PacketLoss];
        let (key, starts, stops) = match call {
            FaultCall::BlackholeStart(hole) => {
                (key(hole.port.to_string()), true, false)
            }
            FaultCall::BlackholeStop(port) => {
                (key(port.to_string()), false, true)
            }
            FaultCall::BlackholeStatus(port) => {
                (key(port.to_string()), false, false)
            }
            FaultCall::ImpairmentStart { impairment, .. } => {
                let is_on = |kind: &ImpairmentKind| {
                    self.faults.contains(&key(format!("{kind:?}")))
                };
                if let Some(kind) = kinds.into_iter().find(is_on) {
                    return FaultAnswer::Conflict(kind);
                }
                (key(format!("{:?}", impairment.kind())), true, false)
            }
            FaultCall::ImpairmentStop(kind) => {
                (key(format!("{kind:?}")), false, true)
            }
            FaultCall::ImpairmentStatus(kind) => {
                (key(format!("{kind:?}")), false, false)
            }
        };
        if stops {
            self.faults.remove(&key);
        }
        if starts {
            self.faults.insert(key.clone());
        }
        if self.faults.contains(&key) {
            FaultAnswer::Running
        } else {
            FaultAnswer::NotRunning
        }
    }
}
