//! Hosts to which anything happens, as a seed draws it.

use std::sync::Arc;
use std::time::Duration;

use minato_wire::acs;
use serde_json::Value;
use tokio::time::sleep;

use super::{Course, End, Mishap, Nature, Said, Step, registration};
use crate::chance::Chance;
use crate::world::World;

pub(crate) struct Luck {
    world: Arc<World>,
    chance: Chance,
    zone: Option<&'static str>,
}

impl Luck {
    pub(crate) fn new(
        world: Arc<World>,
        seed: u64,
        zone: Option<&'static str>,
    ) -> Luck {
        Luck { world, chance: Chance::new(seed), zone }
    }

    fn faulty(&mut self, percent: u64) -> bool {
        self.world.has_faults() && self.chance.hits(percent)
    }

    /// Some time within so many milliseconds.
    fn within(&mut self, millis: u64) -> Duration {
        Duration::from_millis(1 + self.chance.below(millis))
    }
}

impl Nature for Luck {
    fn registration(&self) -> Value {
        registration(2048, 4096, self.zone, true)
    }

    fn registered(&mut self, _arn: &str) {}

    async fn rest(&mut self) {
        sleep(Duration::from_millis(100 + self.chance.below(900))).await;
    }

    async fn summons(&mut self) -> End {
        std::future::pending().await
    }

    async fn died(&mut self, arn: String) {
        self.world.mourn(arn);
        sleep(Duration::from_secs(1 + self.chance.below(60))).await;
    }

    fn course(&mut self, task: &acs::Task) -> Course {
        let mut steps = vec![];
        if self.faulty(10) {
            let stopped = Said::Status("STOPPED");
            let step = Step::new(self.within(3_000), stopped);
            let reason = Some("CannotPullContainerError: simulated");
            steps.push(Step { reason, ..step });
            return Course { is_checked: false, steps };
        }
        let slow = if self.faulty(10) { 90_000 } else { 2_000 };
        let start = self.within(slow);
        steps.push(Step::new(start, Said::Status("RUNNING")));
        let is_checked = task.family.as_deref() == Some("checked");
        if is_checked {
            self.check(start, &mut steps);
        }
        if self.faulty(10) {
            let ended = Said::Status("STOPPED");
            let step = Step::new(self.within(120_000), ended);
            steps.push(Step { exit_code: Some(1), ..step });
        }
        Course { is_checked, steps }
    }

    fn stops_in(&mut self, _arn: &str) -> Duration {
        // Some hang until they are killed.
        let patience = if self.faulty(20) { 30_000 } else { 1_000 };
        self.within(patience)
    }

    fn soon(&mut self) -> Duration {
        self.within(2_000)
    }

    fn suffers(&mut self, mishap: Mishap) -> bool {
        match mishap {
            Mishap::FrameLost => self.faulty(3),
            Mishap::FrameTwice | Mishap::AnswerLost => self.faulty(5),
            Mishap::ReportLost => self.faulty(10),
            Mishap::Death => self.faulty(1) && self.chance.hits(20),
        }
    }
}

impl Luck {
    /// A health check succeeds at last; before that, or after, it may fail.
    fn check(&mut self, start: Duration, steps: &mut Vec<Step>) {
        let mut at = start;
        let flaps = if self.faulty(20) { 1 + self.chance.below(3) } else { 0 };
        for _ in 0..flaps {
            at += self.within(20_000);
            steps.push(Step::new(at, Said::Health("UNHEALTHY")));
            at += self.within(5_000);
            steps.push(Step::new(at, Said::Health("HEALTHY")));
        }
        at += self.within(5_000);
        steps.push(Step::new(at, Said::Health("HEALTHY")));
    }
}
