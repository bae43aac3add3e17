//! Addresses of bridge mode.
//!
//! The truth is in the kernel: each interface on the bridge carries its id and
//! address in its alias, so a lease lives exactly as long as the interface.
//! This is the index over it.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use super::Ipv4Cidr;

/// The leases of one range.
#[derive(Debug)]
pub(super) struct Leases {
    range: Ipv4Cidr,
    by_id: HashMap<String, Ipv4Addr>,
    taken: HashSet<Ipv4Addr>,
    /// Where the search for a free address starts: after the newest lease,
    /// so that an address rests as long as possible before it is used again.
    next: u32,
}

impl Leases {
    /// A range whose first address is the gateway's.
    pub(super) fn new(range: Ipv4Cidr) -> Leases {
        let (by_id, taken) = (HashMap::new(), HashSet::new());
        Leases { range, by_id, taken, next: FIRST_OFFSET }
    }

    pub(super) fn range(&self) -> Ipv4Cidr {
        self.range
    }

    /// Notes a lease found in the kernel.
    pub(super) fn restore(&mut self, id: &str, address: Ipv4Addr) {
        if self.range.contains(address) && self.taken.insert(address) {
            self.by_id.insert(id.to_owned(), address);
            let network = self.range.network().to_bits();
            self.next = self.next.max(address.to_bits() - network + 1);
        }
    }

    /// The address of `id`, a new one if it has none.
    pub(super) fn lease(&mut self, id: &str) -> Option<Ipv4Addr> {
        if let Some(address) = self.by_id.get(id) {
            return Some(*address);
        }
        let (after, before) =
            (self.next..self.end(), FIRST_OFFSET..self.next.min(self.end()));
        let address = after
            .chain(before)
            .filter_map(|offset| self.range.nth(offset))
            .find(|address| !self.taken.contains(address))?;
        self.restore(id, address);
        let network = self.range.network().to_bits();
        self.next = address.to_bits() - network + 1;
        Some(address)
    }

    /// The address of `id`, if it has one.
    pub(super) fn of(&self, id: &str) -> Option<Ipv4Addr> {
        self.by_id.get(id).copied()
    }

    /// Whether someone has `address`.
    pub(super) fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.taken.contains(&address)
    }

    pub(super) fn release(&mut self, id: &str) {
        if let Some(address) = self.by_id.remove(id) {
            self.taken.remove(&address);
        }
    }

    /// The offset of the broadcast address.
    fn end(&self) -> u32 {
        self.range.broadcast().to_bits() - self.range.network().to_bits()
    }
}

/// Offset 0 is the network, 1 the gateway.
const FIRST_OFFSET: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leases(range: &str) -> Leases {
        Leases::new(range.parse().unwrap())
    }

    #[test]
    fn a_full_range_says_so() {
        let mut leases = leases("10.0.0.0/29");
        for n in 0..5 {
            assert!(leases.lease(&n.to_string()).is_some());
        }
        assert_eq!(leases.lease("one more"), None);
        let freed = leases.of("3");
        leases.release("3");
        assert_eq!(leases.lease("one more"), freed);
    }

    #[test]
    fn a_freed_address_rests() {
        let mut leases = leases("10.0.0.0/24");
        let first = leases.lease("a");
        assert_eq!(leases.lease("a"), first, "leases are idempotent");
        leases.release("a");
        assert_ne!(leases.lease("b"), first);
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(
            steps in proptest::collection::vec((any::<bool>(), 0u8..20), 1..200),
        ) {
            let mut leases = leases("10.0.0.0/28");
            for (take, id) in steps {
                let id = id.to_string();
                if take {
                    leases.lease(&id);
                } else {
                    leases.release(&id);
                }
                let held: HashSet<_> = leases.by_id.values().collect();
                prop_assert_eq!(held.len(), leases.by_id.len());
                prop_assert_eq!(held.len(), leases.taken.len());
                let bad = leases.taken.iter().any(|a| {
                    let last = a.octets()[3];
                    !(2..=14).contains(&last)
                });
                prop_assert!(!bad);
            }
        }
    }
}
