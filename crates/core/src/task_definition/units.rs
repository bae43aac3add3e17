//! The units of task-level `cpu` and `memory`, and Fargate's table of them.

/// CPU units of one vCPU.
pub const UNITS_PER_VCPU: u32 = 1024;

/// MiB of one GB, as ECS counts.
pub const MIB_PER_GB: u32 = 1024;

/// CPU units of `"256"`, `".25 vCPU"` or `"1vcpu"`.
pub fn cpu_units(text: &str) -> Option<u32> {
    number(text, "vcpu", UNITS_PER_VCPU)
}

/// MiB of `"512"`, `".5 GB"` or `"2gb"`.
pub fn memory_mib(text: &str) -> Option<u32> {
    number(text, "gb", MIB_PER_GB)
}

/// A whole number, or a decimal one with the unit.
fn number(text: &str, unit: &str, scale: u32) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    match text.strip_suffix(unit) {
        None => whole(&text),
        Some(amount) => scaled(amount.trim_end(), scale),
    }
}

fn whole(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// `amount` times `scale`, where that is a whole number.
fn scaled(amount: &str, scale: u32) -> Option<u32> {
    let (integer, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    // Ten binary places are all that 1024ths need.
    if fraction.len() > 10 || (integer.is_empty() && fraction.is_empty()) {
        return None;
    }
    let high = if integer.is_empty() { 0 } else { whole(integer)? };
    let ten = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let low = if fraction.is_empty() {
        0
    } else {
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        fraction.parse::<u64>().ok()?.checked_mul(u64::from(scale))?
    };
    if !low.is_multiple_of(ten) {
        return None;
    }
    let high = u64::from(high).checked_mul(u64::from(scale))?;
    u32::try_from(high.checked_add(low / ten)?).ok()
}

/// Whether Fargate has tasks of this size.
pub fn is_fargate_size(cpu: u32, memory: u32) -> bool {
    let steps = |low: u32, high: u32, step: u32| {
        (low..=high).contains(&memory) && (memory - low).is_multiple_of(step)
    };
    match cpu {
        256 => matches!(memory, 512 | 1024 | 2048),
        512 => steps(1024, 4096, 1024),
        1024 => steps(2048, 8192, 1024),
        2048 => steps(4096, 16384, 1024),
        4096 => steps(8192, 30720, 1024),
        8192 => steps(16384, 61440, 4096),
        16384 => steps(32768, 122_880, 8192),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_units_are_read() {
        for (text, units) in [
            ("256", 256),
            ("1 vCPU", 1024),
            ("1vcpu", 1024),
            (".5 vCPU", 512),
            ("0.25vCPU", 256),
            (" 2 ", 2),
            ("1.5 VCPU", 1536),
        ] {
            assert_eq!(cpu_units(text), Some(units), "{text}");
        }
        assert_eq!(memory_mib("2GB"), Some(2048));
        assert_eq!(memory_mib(".5 gb"), Some(512));
        assert_eq!(memory_mib("30 GB"), Some(30720));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "vcpu",
            ". vcpu",
            "1.5",
            "-1",
            "+1",
            "1e3",
            "0.3333 vCPU",
            "1 core",
            "4294967296",
            "9999999 vCPU",
            "1.00000000000 vCPU",
        ] {
            assert_eq!(cpu_units(text), None, "{text}");
        }
        assert_eq!(memory_mib("1 MB"), None);
    }

    #[test]
    fn the_table_of_fargate() {
        for (cpu, memory) in [
            (256, 512),
            (256, 2048),
            (512, 3072),
            (1024, 2048),
            (2048, 16384),
            (4096, 30720),
            (8192, 20480),
            (16384, 122_880),
        ] {
            assert!(is_fargate_size(cpu, memory), "{cpu} {memory}");
        }
        for (cpu, memory) in [
            (256, 1536),
            (256, 3072),
            (512, 512),
            (1024, 2500),
            (4096, 31744),
            (8192, 17408),
            (16384, 24576),
            (128, 512),
            (32768, 65536),
        ] {
            assert!(!is_fargate_size(cpu, memory), "{cpu} {memory}");
        }
    }
}
