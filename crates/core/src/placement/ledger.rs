//! What a host has, and what its tasks hold of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::task_definition::Demand;

/// What a host has in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// CPU units, 1024 for each core.
    pub cpu: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// TCP ports that no task can have.
    pub reserved_ports: BTreeSet<u16>,
    /// UDP ports that no task can have.
    pub reserved_ports_udp: BTreeSet<u16>,
    /// GPUs.
    pub gpus: u32,
    /// Network interfaces for tasks; `None` is as many as they like.
    pub enis: Option<u32>,
}

/// What one task holds of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// CPU units.
    pub cpu: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Fixed TCP ports of the host.
    pub ports: BTreeSet<u16>,
    /// Fixed UDP ports of the host.
    pub ports_udp: BTreeSet<u16>,
    /// GPUs.
    pub gpus: u32,
    /// Network interfaces.
    pub enis: u32,
}

impl Claim {
    /// The claim of one task of a definition.
    pub fn of(demand: &Demand) -> Claim {
        Claim {
            cpu: i64::from(demand.cpu_units),
            memory_mib: i64::from(demand.memory_mib),
            ports: demand.tcp_ports.iter().copied().collect(),
            ports_udp: demand.udp_ports.iter().copied().collect(),
            gpus: demand.gpus,
            enis: demand.enis,
        }
    }
}

/// What a host lacks for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// CPU units: asked for and free.
    Cpu(i64, i64),
    /// MiB of memory: asked for and free.
    Memory(i64, i64),
    /// A TCP port that is taken.
    Port(u16),
    /// A UDP port that is taken.
    PortUdp(u16),
    /// GPUs: asked for and free.
    Gpu(u32, u32),
    /// Network interfaces: free.
    Eni(u32),
}

/// A host's books. Ports are counted, so that a release never frees a port
/// that another task still holds.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    capacity: Capacity,
    cpu: i64,
    memory_mib: i64,
    ports: BTreeMap<u16, u32>,
    ports_udp: BTreeMap<u16, u32>,
    gpus: u32,
    enis: u32,
}

impl Ledger {
    /// Empty books.
    pub fn new(capacity: Capacity) -> Ledger {
        Ledger { capacity, ..Ledger::default() }
    }

    /// The host has become larger or smaller; what is held of it stays.
    pub fn set_capacity(&mut self, capacity: Capacity) {
        self.capacity = capacity;
    }

    /// What the host has in all.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// CPU units nobody holds; negative if the host shrank under its tasks.
    pub fn free_cpu(&self) -> i64 {
        self.capacity.cpu - self.cpu
    }

    /// MiB of memory nobody holds.
    pub fn free_memory_mib(&self) -> i64 {
        self.capacity.memory_mib - self.memory_mib
    }

    /// TCP ports in use or reserved, as `remainingResources` lists them.
    pub fn used_ports(&self) -> BTreeSet<u16> {
        let reserved = self.capacity.reserved_ports.iter();
        reserved.chain(self.ports.keys()).copied().collect()
    }

    /// UDP ports in use or reserved.
    pub fn used_ports_udp(&self) -> BTreeSet<u16> {
        let reserved = self.capacity.reserved_ports_udp.iter();
        reserved.chain(self.ports_udp.keys()).copied().collect()
    }

    /// The first thing the host lacks for the claim.
    pub fn shortage(&self, claim: &Claim) -> Option<Shortage> {
        self.shortages(claim).next()
    }

    /// Everything the host lacks for the claim.
    pub fn shortages<'a>(
        &'a self,
        claim: &'a Claim,
    ) -> impl Iterator<Item = Shortage> + 'a {
        let (cpu, memory) = (self.free_cpu(), self.free_memory_mib());
        let cpu = (claim.cpu > cpu).then_some(Shortage::Cpu(claim.cpu, cpu));
        let memory = (claim.memory_mib > memory)
            .then_some(Shortage::Memory(claim.memory_mib, memory));
        let is_taken = move |port: &&u16| {
            self.ports.contains_key(port)
                || self.capacity.reserved_ports.contains(port)
        };
        let ports = claim.ports.iter().filter(is_taken);
        let is_taken_udp = move |port: &&u16| {
            self.ports_udp.contains_key(port)
                || self.capacity.reserved_ports_udp.contains(port)
        };
        let ports_udp = claim.ports_udp.iter().filter(is_taken_udp);
        let gpus = self.capacity.gpus.saturating_sub(self.gpus);
        let gpu =
            (claim.gpus > gpus).then_some(Shortage::Gpu(claim.gpus, gpus));
        let enis = self.capacity.enis.map(|all| all.saturating_sub(self.enis));
        let eni = enis.filter(|free| claim.enis > *free).map(Shortage::Eni);
        cpu.into_iter()
            .chain(memory)
            .chain(ports.map(|port| Shortage::Port(*port)))
            .chain(ports_udp.map(|port| Shortage::PortUdp(*port)))
            .chain(gpu)
            .chain(eni)
    }

    /// Enters a claim, also of a task that is there against the odds: the
    /// books must show what is, not what should be.
    pub fn add(&mut self, claim: &Claim) {
        self.cpu += claim.cpu;
        self.memory_mib += claim.memory_mib;
        for port in &claim.ports {
            *self.ports.entry(*port).or_insert(0) += 1;
        }
        for port in &claim.ports_udp {
            *self.ports_udp.entry(*port).or_insert(0) += 1;
        }
        self.gpus += claim.gpus;
        self.enis += claim.enis;
    }

    /// Takes a claim out again.
    pub fn remove(&mut self, claim: &Claim) {
        self.cpu -= claim.cpu;
        self.memory_mib -= claim.memory_mib;
        release(&mut self.ports, &claim.ports);
        release(&mut self.ports_udp, &claim.ports_udp);
        self.gpus = self.gpus.saturating_sub(claim.gpus);
        self.enis = self.enis.saturating_sub(claim.enis);
    }
}

fn release(held: &mut BTreeMap<u16, u32>, ports: &BTreeSet<u16>) {
    for port in ports {
        if let Some(count) = held.get_mut(port) {
            *count -= 1;
            if *count == 0 {
                held.remove(port);
            }
        }
    }
}
