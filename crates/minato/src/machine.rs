//! The real machine: its clock, its randomness, its size.

use std::time::{SystemTime, UNIX_EPOCH};

use minato_core::env::{Clock, Ids};
use minato_wire::Timestamp;

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where the machine is asked for the time"
        )]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is a clock at 1970.
        let millis = since.map_or(0, |since| since.as_millis());
        Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// Random UUIDs of the operating system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RandomIds;

impl Ids for RandomIds {
    fn uuid(&self) -> u128 {
        let mut bytes = [0; 16];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            // Without randomness no id and no secret can be trusted.
            unreachable!("the operating system has no randomness");
        }
        // Version 4 and variant 1 (RFC 9562, section 5.4).
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        u128::from_be_bytes(bytes)
    }
}

/// What the host has for tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostSize {
    /// CPU units, 1024 for each core.
    pub(crate) cpu_units: i32,
    /// Memory in MiB.
    pub(crate) memory_mib: i32,
}

impl HostSize {
    /// Measures this host.
    pub(crate) fn measure() -> HostSize {
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let meminfo = std::fs::read_to_string("/proc/meminfo");
        let memory_mib = meminfo.ok().as_deref().and_then(total_mib);
        HostSize {
            cpu_units: i32::try_from(cores * 1024).unwrap_or(i32::MAX),
            memory_mib: memory_mib.unwrap_or(1024),
        }
    }
}

/// `MemTotal` of `/proc/meminfo`, in MiB.
fn total_mib(meminfo: &str) -> Option<i32> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
    i32::try_from(kib / 1024).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mib() {
        let text = "MemTotal:       24117248 kB\nMemFree:  1 kB\n";
        assert_eq!(total_mib(text), Some(23552));
        assert_eq!(total_mib("nothing"), None);
    }

    #[test]
    fn ids_differ() {
        assert_ne!(RandomIds.uuid(), RandomIds.uuid());
    }
}
