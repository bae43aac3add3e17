//! Device rules on cgroup version 2: a BPF program attached to the group.
//!
//! The program is a straight list: each rule is a few comparisons that jump
//! to the next rule when one fails, and allows when none does; after the last
//! rule everything is denied. No loops, no maps, no helpers.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::container::devices::{DeviceKind, DeviceRule};

const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;
const ACCESS_ALL: i32 = ACCESS_MKNOD | ACCESS_READ | ACCESS_WRITE;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn step(
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    Instruction { code, registers: to | (from << 4), offset, immediate }
}

// Registers: 1 the context and later scratch, 2 type, 3 access, 4 major, 5 minor.
const fn load_word(to: u8, offset: i16) -> Instruction {
    step(0x61, to, 1, offset, 0)
}
const fn jump_unless_equal(register: u8, value: i32, skip: i16) -> Instruction {
    step(0x55, register, 0, skip, value)
}
const fn jump_unless_same(a: u8, b: u8, skip: i16) -> Instruction {
    step(0x5d, a, b, skip, 0)
}
const fn and(register: u8, value: i32) -> Instruction {
    step(0x54, register, 0, 0, value)
}
const fn shift_right(register: u8, bits: i32) -> Instruction {
    step(0x74, register, 0, 0, bits)
}
const fn copy(to: u8, from: u8) -> Instruction {
    step(0xbc, to, from, 0, 0)
}
const fn answer(value: i32) -> [Instruction; 2] {
    [step(0xb7, 0, 0, 0, value), step(0x95, 0, 0, 0, 0)]
}

fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }
    let mut all = vec![
        load_word(2, 0),
        and(2, 0xffff),
        load_word(3, 0),
        shift_right(3, 16),
        load_word(4, 4),
        load_word(5, 8),
    ];
    for rule in rules {
        let steps = one_rule(rule);
        // The kernel refuses instructions that can never be reached, and
        // nothing behind a rule that allows everything can be.
        let allows_all = steps == answer(1);
        all.extend(steps);
        if allows_all {
            return all;
        }
    }
    all.extend(answer(0));
    all
}

fn one_rule(rule: &DeviceRule) -> Vec<Instruction> {
    let access = rule.access.chars().fold(0, |mask, letter| {
        mask | match letter {
            'r' => ACCESS_READ,
            'w' => ACCESS_WRITE,
            'm' => ACCESS_MKNOD,
            _ => 0,
        }
    });
    // Offsets are filled in below, when the rule's length is known.
    let mut steps = vec![];
    match rule.kind {
        Some(DeviceKind::Block) => {
            steps.push(jump_unless_equal(2, TYPE_BLOCK, 0));
        }
        Some(DeviceKind::Character) => {
            steps.push(jump_unless_equal(2, TYPE_CHARACTER, 0));
        }
        None => {}
    }
    if access != ACCESS_ALL {
        steps.push(copy(1, 3));
        steps.push(and(1, access));
        steps.push(jump_unless_same(1, 3, 0));
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            steps.push(jump_unless_equal(register, number.cast_signed(), 0));
        }
    }
    steps.extend(answer(1));
    let length = steps.len();
    for (at, one) in steps.iter_mut().enumerate() {
        if matches!(one.code, 0x55 | 0x5d) {
            one.offset = i16::try_from(length - at - 1).unwrap_or(0);
        }
    }
    steps
}

/// `union bpf_attr` as BPF_PROG_LOAD uses it, up to what is needed.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// `union bpf_attr` as BPF_PROG_ATTACH uses it.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Allows a group's processes what the rules allow and nothing else. The
/// kernel drops the program together with the group.
pub(super) fn attach_device_filter(
    group: &Path,
    rules: &[DeviceRule],
) -> io::Result<()> {
    let instructions = program(rules);
    let load = LoadAttributes {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len())
            .unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    // SAFETY: `load` begins as the kernel's union does and points to
    // instructions and a string that outlive the call; the kernel verifies
    // the program.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    // SAFETY: the kernel has just handed out this descriptor to us alone.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let group = File::open(group)?;
    let number = |fd: i32| u32::try_from(fd).unwrap_or(u32::MAX);
    let attach = AttachAttributes {
        target: number(group.as_raw_fd()),
        program: number(program.as_raw_fd()),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attach` begins as the kernel's union does; both descriptors
    // are open.
    unsafe { bpf(BPF_PROG_ATTACH, &attach) }?;
    Ok(())
}

/// # Safety
/// `attributes` must begin as `union bpf_attr` does for this command, and
/// what it points to must outlive the call.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the caller vouches for `attributes`; its size is its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, on one question.
    fn allows(
        rules: &[DeviceRule],
        access: i32,
        kind: i32,
        dev: (i32, i32),
    ) -> bool {
        let context = [(access << 16) | kind, dev.0, dev.1];
        let mut registers = [0i32; 6];
        let (all, mut at) = (program(rules), 0);
        loop {
            let one = all[at];
            at += 1;
            let to = usize::from(one.registers & 15);
            let from = usize::from(one.registers >> 4);
            let skip = usize::try_from(one.offset).unwrap();
            match one.code {
                0x61 => registers[to] = context[skip / 4],
                0x54 => registers[to] &= one.immediate,
                0x74 => registers[to] >>= one.immediate,
                0xbc => registers[to] = registers[from],
                0xb7 => registers[to] = one.immediate,
                0x55 if registers[to] != one.immediate => at += skip,
                0x5d if registers[to] != registers[from] => at += skip,
                0x55 | 0x5d => {}
                0x95 => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn only_what_a_rule_allows_is_allowed() {
        let rule = |kind, major, minor, access: &str| DeviceRule {
            kind,
            major,
            minor,
            access: access.into(),
        };
        let rules = [
            rule(Some(DeviceKind::Character), None, None, "m"),
            rule(Some(DeviceKind::Character), Some(1), Some(3), "rwm"),
            rule(Some(DeviceKind::Block), Some(8), None, "r"),
        ];
        let (c, b) = (TYPE_CHARACTER, TYPE_BLOCK);
        assert!(allows(&rules, ACCESS_MKNOD, c, (10, 200)));
        assert!(!allows(&rules, ACCESS_READ, c, (10, 200)));
        assert!(allows(&rules, ACCESS_READ | ACCESS_WRITE, c, (1, 3)));
        assert!(!allows(&rules, ACCESS_READ, c, (1, 4)));
        assert!(allows(&rules, ACCESS_READ, b, (8, 17)));
        assert!(!allows(&rules, ACCESS_READ | ACCESS_WRITE, b, (8, 17)));
        assert!(!allows(&rules, ACCESS_READ, b, (9, 0)));
        assert!(!allows(&[], ACCESS_READ, c, (1, 3)));
        let all = [rule(None, None, None, "rwm")];
        assert!(allows(&all, ACCESS_ALL, b, (8, 0)));
    }

    #[test]
    fn the_kernel_enforces_it() {
        // On a hybrid host the unified hierarchy serves as well.
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let unified =
            |root: &&str| Path::new(root).join("cgroup.controllers").exists();
        let Some(root) = roots.into_iter().find(unified) else { return };
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let group = Path::new(root)
            .join(format!("minato-bpf-test-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let rules = crate::container::devices::rules(&[], false);
        let all = crate::container::devices::rules(&[], true);
        let attached = attach_device_filter(&group, &all)
            .and_then(|()| attach_device_filter(&group, &rules));
        let script = "echo $$ > \"$0/cgroup.procs\"; \
            head -c1 /dev/zero >/dev/null && echo zero; \
            head -c1 /dev/kmsg 2>/dev/null || echo refused";
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(&group)
            .output();
        std::fs::remove_dir(&group).unwrap();
        attached.unwrap();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(said, "zero\nrefused\n");
    }
}
