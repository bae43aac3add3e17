//! Which of the subnets of a call each of its tasks may be in.
//!
//! A subnet is in one zone. A task on a container instance gets its interface
//! in the instance's zone (developer guide, "Task networking for tasks hosted
//! on Amazon EC2"); Fargate's tasks are spread over the zones of the subnets.

use std::collections::{BTreeMap, BTreeSet};

use minato_wire::ecs::LaunchType;

use crate::services::ec2::rows::SubnetRow;
use crate::services::ecs::lookup::Read;
use crate::tables::namespace;

/// Subnets in the order given, with their zones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subnets {
    given: Vec<(String, String)>,
    /// Tasks by zone, where they are to be spread.
    tasks: BTreeMap<String, u32>,
}

impl Subnets {
    /// The subnets of these ids; one that is gone is left out.
    pub(crate) fn read(
        rows: &impl Read,
        account: &str,
        region: &str,
        ids: &[String],
    ) -> Subnets {
        let within = namespace(account, region);
        let given = ids.iter().filter_map(|id| {
            let row = rows.row::<SubnetRow>(&within.with(id))?;
            Some((id.clone(), row.zone.clone()))
        });
        Subnets { given: given.collect(), tasks: BTreeMap::new() }
    }

    /// Their zones.
    pub(crate) fn zones(&self) -> BTreeSet<String> {
        self.given.iter().map(|(_, zone)| zone.clone()).collect()
    }

    /// Counts a task that is there, for spreading.
    pub(crate) fn count(&mut self, zone: &str) {
        match self.tasks.get_mut(zone) {
            Some(tasks) => *tasks += 1,
            None => {
                self.tasks.insert(zone.to_owned(), 1);
            }
        }
    }

    /// Those that one more task may be in, of Fargate or on an instance in
    /// `zone`; `only` is the one zone where it should be, if there is one.
    pub(crate) fn of_task(
        &mut self,
        launch_type: LaunchType,
        zone: Option<&str>,
        only: Option<&str>,
    ) -> Vec<String> {
        match launch_type {
            LaunchType::Fargate => self.of_fargate(only),
            LaunchType::Ec2
            | LaunchType::External
            | LaunchType::ManagedInstances => self.of_instance(zone),
        }
    }

    /// Those that a task on a container instance in `zone` may be in; an
    /// instance that names no zone is in all of them.
    pub(crate) fn of_instance(&self, zone: Option<&str>) -> Vec<String> {
        self.pick(|known| zone.is_none_or(|zone| zone == known))
    }

    /// Those that one more Fargate task may be in, the first in the zone that
    /// has fewest of the tasks counted so far; with `only`, none of another
    /// zone. Counts the task.
    fn of_fargate(&mut self, only: Option<&str>) -> Vec<String> {
        let mut ids = self.pick(|zone| only.is_none_or(|only| only == zone));
        let zones: BTreeMap<&String, &String> =
            self.given.iter().map(|(id, zone)| (id, zone)).collect();
        // A stable sort: among equals the order given stands.
        ids.sort_by_key(|id| {
            let tasks = zones.get(id).and_then(|zone| self.tasks.get(*zone));
            tasks.copied().unwrap_or(0)
        });
        let zone = ids.first().and_then(|id| zones.get(id).copied().cloned());
        if let Some(zone) = zone {
            self.count(&zone);
        }
        ids
    }

    fn pick(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let given = self.given.iter().filter(|(_, zone)| wanted(zone));
        given.map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(given: &[(&str, &str)]) -> Subnets {
        let given = given.iter().map(|(id, zone)| (*id, *zone));
        Subnets {
            given: given.map(|(id, zone)| (id.into(), zone.into())).collect(),
            tasks: BTreeMap::new(),
        }
    }

    #[test]
    fn a_task_on_an_instance_is_in_a_subnet_of_its_zone() {
        let some = subnets(&[("s1", "a"), ("s2", "b"), ("s3", "a")]);
        assert_eq!(some.of_instance(Some("a")), ["s1", "s3"]);
        assert_eq!(some.of_instance(Some("b")), ["s2"]);
        assert!(some.of_instance(Some("c")).is_empty());
        assert_eq!(some.of_instance(None), ["s1", "s2", "s3"]);
    }

    #[test]
    fn fargate_tasks_are_spread_over_the_zones() {
        let mut some = subnets(&[("s1", "a"), ("s2", "a"), ("s3", "b")]);
        let mut firsts = vec![];
        for _ in 0..4 {
            firsts.push(some.of_fargate(None).remove(0));
        }
        assert_eq!(firsts, ["s1", "s3", "s1", "s3"]);
        // The others are there if the first has no address left.
        assert_eq!(some.of_fargate(None).len(), 3);
        assert_eq!(some.of_fargate(Some("b")), ["s3"]);
    }

    #[test]
    fn tasks_that_are_there_count() {
        let mut some = subnets(&[("s1", "a"), ("s2", "b")]);
        some.count("a");
        assert_eq!(some.of_fargate(None)[0], "s2");
        assert_eq!(some.of_fargate(None)[0], "s1");
    }
}
