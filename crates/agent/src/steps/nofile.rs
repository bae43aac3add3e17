//! How many open files a Fargate container may have.

use std::fs;

/// Fargate's default (developer guide, "Fargate task definition parameters":
/// the `nofile` limit, soft and hard).
const FARGATE_NOFILE: i64 = 65_535;
/// `CAP_SYS_RESOURCE`: may raise a hard limit (capabilities(7)).
const CAP_SYS_RESOURCE: u32 = 24;

/// Fargate's default, or as near to it as this host lets its root go: inside
/// another container or virtual machine root may not raise limits.
pub(super) fn fargate_default() -> i64 {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    allowed(&read("/proc/self/limits"), &read("/proc/self/status"))
}

fn allowed(limits: &str, status: &str) -> i64 {
    if may_raise(status) {
        return FARGATE_NOFILE;
    }
    hard_limit(limits).map_or(FARGATE_NOFILE, |hard| hard.min(FARGATE_NOFILE))
}

fn may_raise(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> CAP_SYS_RESOURCE & 1 == 1)
}

fn hard_limit(limits: &str) -> Option<i64> {
    let line =
        limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 20000                files
";

    #[test]
    fn a_root_that_may_not_raise_limits_keeps_the_hosts() {
        let without = "CapEff:\t000001fffeffffff\n";
        assert_eq!(allowed(LIMITS, without), 20_000);
        let with = "CapEff:\t000001ffffffffff\n";
        assert_eq!(allowed(LIMITS, with), FARGATE_NOFILE);
    }
}
