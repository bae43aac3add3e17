//! How many tasks of each task group a container instance has.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A task group, made ready to be looked for on thousands of instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    name: String,
    hash: u64,
}

impl Group {
    /// The task group of this name.
    pub fn named(name: &str) -> Group {
        Group { name: name.to_owned(), hash: hash(name) }
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

/// Tasks by their group, those that there are.
///
/// An instance has few groups, and a plan asks each of thousands of instances
/// for one, which most do not have: a bit tells that of most of them, and a
/// run over the hashes of the rest, without a look at any name.
#[derive(Clone, Default)]
pub struct Groups {
    /// The bits of all hashes.
    bits: u64,
    hashes: Vec<u64>,
    /// Each at the place of its hash.
    counts: Vec<(String, u32)>,
}

impl Groups {
    /// How many tasks there are of a group.
    pub fn count(&self, group: &Group) -> u32 {
        self.position(group.hash, &group.name).map_or(0, |at| self.counts[at].1)
    }

    /// Counts a task of the group of this name.
    pub fn add(&mut self, name: &str) {
        let hash = hash(name);
        match self.position(hash, name) {
            Some(at) => self.counts[at].1 += 1,
            None => {
                self.bits |= bit(hash);
                self.hashes.push(hash);
                self.counts.push((name.to_owned(), 1));
            }
        }
    }

    /// Counts a task of the group of this name no more.
    pub fn remove(&mut self, name: &str) {
        let Some(at) = self.position(hash(name), name) else { return };
        let count = &mut self.counts[at].1;
        *count -= 1;
        if *count == 0 {
            self.hashes.swap_remove(at);
            self.counts.swap_remove(at);
            self.bits = self.hashes.iter().fold(0, |all, it| all | bit(*it));
        }
    }

    /// The groups that have tasks, with their numbers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.counts.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// All tasks.
    pub fn total(&self) -> i64 {
        self.counts.iter().map(|(_, count)| i64::from(*count)).sum()
    }

    fn position(&self, hash: u64, name: &str) -> Option<usize> {
        if self.bits & bit(hash) == 0 {
            return None;
        }
        let mut hashes = self.hashes.iter().enumerate();
        let at = hashes
            .find(|(at, known)| **known == hash && self.counts[*at].0 == name);
        at.map(|(at, _)| at)
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

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// The bit that stands for a hash, one of 64.
fn bit(hash: u64) -> u64 {
    1 << (hash >> 58)
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

    #[test]
    fn names_of_equal_hash_are_told_apart() {
        let mut groups: Groups = ["a", "b"].into_iter().collect();
        // As if the two names had the same hash.
        groups.hashes = vec![hash("b"), hash("b")];
        groups.bits = bit(hash("b"));
        assert_eq!(groups.count(&Group::named("b")), 1);
        groups.remove("b");
        assert_eq!(groups.iter().collect::<Vec<_>>(), [("a", 1)]);
    }
}
