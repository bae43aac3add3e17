//! Programs of the kernel's packet filter, as seccomp takes them.

use std::collections::BTreeSet;

/// Bytes of one instruction (`struct sock_filter`).
pub(crate) const INSTRUCTION_BYTES: usize = 8;
/// Offsets in `struct seccomp_data`: the call's number, its table, and the
/// lower half of its first argument.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
pub(super) const ARGUMENT: u32 = 16;
pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const JUMP_ANY_BIT: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;
pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;
pub(super) const UNKNOWN: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// One `struct sock_filter` as it lies in memory.
pub(super) fn instruction(
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
) -> [u8; INSTRUCTION_BYTES] {
    let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
    [code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]]
}

/// How far a jump goes. All here are single digits; a longer one would jump
/// out of the program, which the kernel refuses to install.
pub(super) fn jump(steps: usize) -> u8 {
    u8::try_from(steps).unwrap_or(u8::MAX)
}

/// Neighbours as first and last number, ascending.
pub(super) fn ranges(numbers: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = vec![];
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    ranges
}

/// Lets calls of one table with these numbers through at once, and leaves all
/// others to `rest`.
///
/// A compiler's program looks at one number after another. The kernel runs
/// the whole of it for each number there is when it is installed, which takes
/// a millisecond of every start.
pub(super) fn allow_first(
    arch: u32,
    numbers: &BTreeSet<u32>,
    rest: &[u8],
) -> Vec<u8> {
    let allow: Vec<_> = ranges(numbers)
        .into_iter()
        .flat_map(|(first, last)| {
            [
                instruction(JUMP_GREATER, 2, 0, last),
                instruction(JUMP_GREATER_EQUAL, 0, 1, first),
                instruction(RETURN, 0, 0, ALLOW),
            ]
        })
        .collect();
    let length = u32::try_from(allow.len() + 1).unwrap_or(u32::MAX);
    let mut whole = [
        instruction(LOAD, 0, 0, ARCH),
        instruction(JUMP_EQUAL, 1, 0, arch),
        instruction(JUMP, 0, 0, length),
        instruction(LOAD, 0, 0, NUMBER),
    ]
    .concat();
    whole.extend(allow.concat());
    whole.extend(rest);
    whole
}

/// The upper half of the first argument.
#[cfg(test)]
const ARGUMENT_UPPER: u32 = 20;
#[cfg(test)]
const AND: u16 = 0x54;

/// Runs a program of the kind above, as the kernel would.
#[cfg(test)]
pub(super) fn run(steps: &[u8], arch: u32, number: u32, argument: u32) -> u32 {
    let field = |step: usize, from: usize| {
        let at = step * INSTRUCTION_BYTES + from;
        u32::from_ne_bytes(steps[at..at + 4].try_into().unwrap())
    };
    let (mut at, mut loaded) = (0, 0);
    loop {
        let code = (field(at, 0) & 0xffff) as u16;
        let [_, _, yes, no] = field(at, 0).to_ne_bytes();
        let value = field(at, 4);
        let mut branch = |condition: bool| {
            at += usize::from(if condition { yes } else { no });
        };
        match code {
            LOAD => {
                loaded = match value {
                    NUMBER => number,
                    ARCH => arch,
                    ARGUMENT => argument,
                    ARGUMENT_UPPER => 0,
                    other => panic!("offset {other}"),
                }
            }
            AND => loaded &= value,
            JUMP => at += value as usize,
            JUMP_EQUAL => branch(loaded == value),
            JUMP_GREATER => branch(loaded > value),
            JUMP_GREATER_EQUAL => branch(loaded >= value),
            JUMP_ANY_BIT => branch(loaded & value != 0),
            RETURN => return value,
            other => panic!("code {other:#x}"),
        }
        at += 1;
    }
}
