//! How many tasks of each task group a container instance has.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A task group, made ready to be looked for on thousands of instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: String,
    mark: Mark,
}

impl Group {
    /// The task group of this name.
    pub fn named(name: &str) -> Group {
        Group { name: name.to_owned(), mark: Mark::of(name) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Group {
    fn default() -> Group {
        Group::named("")
    }
}

/// Two hashes of a name: nobody will ever see two names that have both in
/// common, so the names themselves are not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark(u64, u64);

impl Mark {
    fn of(name: &str) -> Mark {
        let hash = |number: u8| {
            let mut hasher = DefaultHasher::new();
            (number, name).hash(&mut hasher);
            hasher.finish()
        };
        Mark(hash(0), hash(1))
    }

    /// The bit that stands for it, one of 64.
    fn bit(self) -> u64 {
        1 << (self.0 >> 58)
    }
}

/// Tasks by their group, those that there are.
///
/// An instance has few groups, and a plan asks each of thousands of instances
/// for one: a bit tells of most that they do not have it, and a run over what
/// lies side by side finds the number of the rest. Their names, each of them
/// somewhere else in memory, would take longer than all the rest.
#[derive(Clone, Default)]
pub struct Groups {
    /// The bits of all marks.
    bits: u64,
    counts: Vec<(Mark, u32)>,
    /// Each at the place of its mark.
    names: Vec<String>,
}

impl Groups {
    /// How many tasks there are of a group.
    pub fn count(&self, group: &Group) -> u32 {
        self.position(group.mark).map_or(0, |at| self.counts[at].1)
    }

    /// Counts a task of the group of this name.
    pub fn add(&mut self, name: &str) {
        let mark = Mark::of(name);
        match self.position(mark) {
            Some(at) => self.counts[at].1 += 1,
            None => {
                self.bits |= mark.bit();
                self.counts.push((mark, 1));
                self.names.push(name.to_owned());
            }
        }
    }

    /// Counts a task of the group of this name no more.
    pub fn remove(&mut self, name: &str) {
        let Some(at) = self.position(Mark::of(name)) else { return };
        let count = &mut self.counts[at].1;
        *count -= 1;
        if *count == 0 {
            self.counts.swap_remove(at);
            self.names.swap_remove(at);
            let marks = self.counts.iter().map(|(mark, _)| mark.bit());
            self.bits = marks.fold(0, |all, bit| all | bit);
        }
    }

    /// The groups that have tasks, with their numbers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let counts = self.counts.iter().map(|(_, count)| *count);
        self.names.iter().map(String::as_str).zip(counts)
    }

    /// All tasks.
    pub fn total(&self) -> i64 {
        self.counts.iter().map(|(_, count)| i64::from(*count)).sum()
    }

    fn position(&self, mark: Mark) -> Option<usize> {
        if self.bits & mark.bit() == 0 {
            return None;
        }
        self.counts.iter().position(|(known, _)| *known == mark)
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().collect::<BTreeMap<_, _>>()).finish()
    }
}

/// The names of the groups of tasks, one for each task.
impl<'a> FromIterator<&'a str> for Groups {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Groups {
        let mut groups = Groups::default();
        names.into_iter().for_each(|name| groups.add(name));
        groups
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_those_of_a_map(
            steps in proptest::collection::vec((0_u8..6, any::<bool>()), 0..80),
        ) {
            let mut groups = Groups::default();
            let mut map: BTreeMap<String, u32> = BTreeMap::new();
            for (number, comes) in steps {
                let name = format!("service:{number}");
                if comes {
                    groups.add(&name);
                    *map.entry(name).or_insert(0) += 1;
                } else {
                    groups.remove(&name);
                    let left = map.get(&name).copied().unwrap_or(0);
                    match left {
                        0 | 1 => drop(map.remove(&name)),
                        _ => drop(map.insert(name, left - 1)),
                    }
                }
                let seen: BTreeMap<String, u32> = groups
                    .iter()
                    .map(|(name, count)| (name.to_owned(), count))
                    .collect();
                prop_assert_eq!(&seen, &map);
                let total: u32 = map.values().sum();
                prop_assert_eq!(groups.total(), i64::from(total));
                for number in 0..6 {
                    let name = format!("service:{number}");
                    let count = groups.count(&Group::named(&name));
                    prop_assert_eq!(count, map.get(&name).copied().unwrap_or(0));
                }
            }
        }
    }
}
