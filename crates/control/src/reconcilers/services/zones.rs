//! Which zones have hosts that can be reached: a service that balances its
//! tasks over zones has to look again when one comes or goes, and not whenever
//! any host does something.

use std::collections::BTreeMap;

use minato_core::placement::ZONE_ATTRIBUTE;
use minato_store::{Changed, Key, Row, Snapshot};

use crate::tables::Host;

/// The connected hosts by cluster and zone.
#[derive(Default)]
pub(super) struct Zones {
    /// Where each of them is.
    hosts: BTreeMap<Key, Key>,
    counts: BTreeMap<Key, usize>,
}

/// Account, region, cluster and zone of a host that is connected.
fn place(host: &Host) -> Option<Key> {
    let zone = host.attributes.get(ZONE_ATTRIBUTE)?.as_deref()?;
    let within = cluster(host).with(zone);
    host.is_connected.then_some(within)
}

fn cluster(host: &Host) -> Key {
    Key::of([&host.account, &host.region, &host.cluster])
}

impl Zones {
    pub(super) fn of(rows: &Snapshot) -> Zones {
        let mut zones = Zones::default();
        for host in rows.scan::<Host>(&Key::root()) {
            zones.set(host.key(), place(&host));
        }
        zones
    }

    /// Notes what became of a host; gives its cluster if a zone of that came
    /// or went.
    pub(super) fn note(&mut self, change: &Changed<Host>) -> Option<Key> {
        let now = change.after.as_deref().and_then(place);
        let is_changed = self.set(change.key.clone(), now);
        let row = change.after.as_deref().or(change.before.as_deref())?;
        is_changed.then(|| cluster(row))
    }

    /// Whether a zone came or went.
    fn set(&mut self, host: Key, now: Option<Key>) -> bool {
        let before = match &now {
            Some(place) => self.hosts.insert(host, place.clone()),
            None => self.hosts.remove(&host),
        };
        if before == now {
            return false;
        }
        let mut is_changed = false;
        if let Some(before) = before
            && let Some(count) = self.counts.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&before);
                is_changed = true;
            }
        }
        if let Some(now) = now {
            let count = self.counts.entry(now).or_insert(0);
            *count += 1;
            is_changed |= *count == 1;
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_and_the_last_of_a_zone_matter() {
        let mut zones = Zones::default();
        let host = |name: &str| Key::from(name);
        let at = |zone: &str| Some(Key::of(["c", zone]));
        assert!(zones.set(host("1"), at("a")));
        assert!(!zones.set(host("2"), at("a")));
        assert!(!zones.set(host("2"), at("a")), "nothing changed");
        assert!(zones.set(host("2"), at("b")), "b came");
        assert!(zones.set(host("2"), at("a")), "b went");
        assert!(!zones.set(host("1"), None));
        assert!(zones.set(host("2"), None));
        assert!(!zones.set(host("3"), None));
        assert!(zones.counts.is_empty() && zones.hosts.is_empty());
    }
}
