//! What a group uses, read from its files.

use std::fs;
use std::path::Path;

use super::Layout;
use crate::container::ContainerStats;

/// A version 1 limit at or above this is the kernel's word for "none".
const V1_UNLIMITED: u64 = 1 << 60;

impl Layout {
    /// Reads the counters of a group; `None` if the group is gone.
    pub(crate) fn stats(&self, path: &str) -> Option<ContainerStats> {
        let mut stats = match self {
            Layout::V1(_) => self.stats_v1(path)?,
            Layout::V2(mount) => {
                stats_v2(&mount.join(path.trim_start_matches('/')))?
            }
        };
        stats.read_at_ns = crate::time::now_ns();
        Some(stats)
    }

    fn stats_v1(&self, path: &str) -> Option<ContainerStats> {
        let mut stats = ContainerStats::default();
        let memory = self.dir("memory", path)?;
        stats.memory_usage_bytes =
            number(&memory.join("memory.usage_in_bytes"))?;
        stats.memory_max_usage_bytes =
            number(&memory.join("memory.max_usage_in_bytes"));
        stats.memory_limit_bytes =
            number(&memory.join("memory.limit_in_bytes"))
                .filter(|limit| *limit < V1_UNLIMITED);
        stats.memory_inactive_file_bytes =
            keyed(&memory.join("memory.stat"), "total_inactive_file")
                .unwrap_or(0);
        if let Some(dir) = self.dir("cpuacct", path) {
            stats.cpu_usage_ns =
                number(&dir.join("cpuacct.usage")).unwrap_or(0);
            stats.cpu_user_ns =
                number(&dir.join("cpuacct.usage_user")).unwrap_or(0);
            stats.cpu_system_ns =
                number(&dir.join("cpuacct.usage_sys")).unwrap_or(0);
        }
        if let Some(dir) = self.dir("cpu", path) {
            let file = dir.join("cpu.stat");
            stats.cpu_periods = keyed(&file, "nr_periods").unwrap_or(0);
            stats.cpu_throttled_periods =
                keyed(&file, "nr_throttled").unwrap_or(0);
        }
        if let Some(dir) = self.dir("pids", path) {
            stats.pids = number(&dir.join("pids.current")).unwrap_or(0);
        }
        if let Some(dir) = self.dir("blkio", path) {
            let file = dir.join("blkio.throttle.io_service_bytes");
            let text = fs::read_to_string(file).unwrap_or_default();
            stats.blkio_read_bytes = blkio_v1(&text, "Read");
            stats.blkio_write_bytes = blkio_v1(&text, "Write");
        }
        Some(stats)
    }

    /// How many processes of the group the kernel killed for want of memory.
    pub(crate) fn oom_kills(&self, path: &str) -> u64 {
        let Some(dir) = self.dir("memory", path) else { return 0 };
        let file = match self {
            Layout::V1(_) => dir.join("memory.oom_control"),
            Layout::V2(_) => dir.join("memory.events"),
        };
        keyed(&file, "oom_kill").unwrap_or(0)
    }
}

fn stats_v2(dir: &Path) -> Option<ContainerStats> {
    let cpu = fs::read_to_string(dir.join("cpu.stat")).ok()?;
    let cpu = |key| keyed_in(&cpu, key).unwrap_or(0);
    let io = fs::read_to_string(dir.join("io.stat")).unwrap_or_default();
    Some(ContainerStats {
        cpu_usage_ns: cpu("usage_usec").saturating_mul(1000),
        cpu_user_ns: cpu("user_usec").saturating_mul(1000),
        cpu_system_ns: cpu("system_usec").saturating_mul(1000),
        cpu_periods: cpu("nr_periods"),
        cpu_throttled_periods: cpu("nr_throttled"),
        memory_usage_bytes: number(&dir.join("memory.current")).unwrap_or(0),
        memory_max_usage_bytes: number(&dir.join("memory.peak")),
        memory_limit_bytes: number(&dir.join("memory.max")),
        memory_inactive_file_bytes: keyed(
            &dir.join("memory.stat"),
            "inactive_file",
        )
        .unwrap_or(0),
        pids: number(&dir.join("pids.current")).unwrap_or(0),
        blkio_read_bytes: io_v2(&io, "rbytes="),
        blkio_write_bytes: io_v2(&io, "wbytes="),
        read_at_ns: 0,
    })
}

/// Reads a file that holds one number (`max` and the like are `None`).
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn keyed(file: &Path, key: &str) -> Option<u64> {
    keyed_in(&fs::read_to_string(file).ok()?, key)
}

/// Finds `key value` among lines.
fn keyed_in(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// Sums `MAJOR:MINOR OPERATION BYTES` lines over the devices.
fn blkio_v1(text: &str, operation: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let is_device = words.next()?.contains(':');
            (is_device && words.next()? == operation)
                .then(|| words.next()?.parse::<u64>().ok())?
        })
        .fold(0, u64::saturating_add)
}

/// Sums `MAJOR:MINOR rbytes=N wbytes=N ...` lines over the devices.
fn io_v2(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_device_bytes_are_summed_over_devices() {
        let v1 = "8:0 Read 10\n8:0 Write 5\n8:16 Read 7\nTotal 22\n";
        assert_eq!(blkio_v1(v1, "Read"), 17);
        assert_eq!(blkio_v1(v1, "Write"), 5);
        let v2 = "8:0 rbytes=10 wbytes=5 rios=1\n8:16 rbytes=7 wbytes=x\n";
        assert_eq!(io_v2(v2, "rbytes="), 17);
        assert_eq!(io_v2(v2, "wbytes="), 5);
    }

    #[test]
    fn keyed_files_are_read_by_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed_in(text, "oom_kill"), Some(3));
        assert_eq!(keyed_in(text, "oom"), None);
    }
}
