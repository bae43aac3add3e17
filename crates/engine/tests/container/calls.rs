//! Which system calls a container may make, through both of an x86_64
//! kernel's tables. Each case is a program written by hand that makes one call
//! and exits with what that returned, negated: an error's own number.

#![cfg(target_arch = "x86_64")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use minato_engine::container::ContainerSpec;

use super::support::{Host, id, is_possible};

/// Where the programs are loaded, and how much of them is headers.
const BASE: u32 = 0x0804_8000;

#[tokio::test]
async fn calls_of_64_bit_programs_are_filtered() {
    let cases = [
        ("socket-inet", [41, 2, 1, 0], 253),
        ("socket-alg", [41, 38, 5, 0], 1),
        ("socket-vsock", [41, 40, 1, 0], 1),
        ("getpid", [39, 0, 0, 0], 255),
        ("mount", [165, 0, 0, 0], 1),
        // What libc takes as the word to fall back to `clone`.
        ("clone3", [435, 0, 0, 0], 38),
        ("too-new", [900, 0, 0, 0], 38),
    ];
    check(program_64, &cases).await;
}

/// Calls that have been ways out of containers, or into the kernel.
#[tokio::test]
async fn calls_that_lead_out_are_refused() {
    let user_namespace = 0x1000_0000;
    let cases = [
        ("getpid", [39, 0, 0, 0], 255),
        ("unshare", [272, user_namespace, 0, 0], 1),
        ("clone-user", [56, user_namespace | 17, 0, 0], 1),
        ("setns", [308, 0, 0, 0], 1),
        ("pivot-root", [155, 0, 0, 0], 1),
        ("umount2", [166, 0, 0, 0], 1),
        ("open-tree", [428, 0, 0, 0], 1),
        ("move-mount", [429, 0, 0, 0], 1),
        ("fsopen", [430, 0, 0, 0], 1),
        ("mount-setattr", [442, 0, 0, 0], 1),
        ("by-handle", [304, 0, 0, 0], 1),
        ("bpf", [321, 0, 0, 0], 1),
        ("perf-event", [298, 0, 0, 0], 1),
        ("userfaultfd", [323, 0, 0, 0], 1),
        ("io-uring", [425, 1, 0, 0], 1),
        ("keyctl", [250, 0, 0, 0], 1),
        ("add-key", [248, 0, 0, 0], 1),
        ("request-key", [249, 0, 0, 0], 1),
        ("init-module", [175, 0, 0, 0], 1),
        ("finit-module", [313, 0, 0, 0], 1),
        ("kexec", [246, 0, 0, 0], 1),
        ("reboot", [169, 0, 0, 0], 1),
        ("swapon", [167, 0, 0, 0], 1),
        ("iopl", [172, 3, 0, 0], 1),
        ("quotactl", [179, 0, 0, 0], 1),
        ("syslog", [103, 3, 0, 0], 1),
        ("settime", [227, 0, 0, 0], 1),
    ];
    check(program_64, &cases).await;
}

#[tokio::test]
async fn calls_of_32_bit_programs_are_filtered() {
    let cases = [
        ("socket-inet", [359, 2, 1, 0], 253),
        ("socket-alg", [359, 38, 5, 0], 1),
        ("socket-vsock", [359, 40, 1, 0], 1),
        // Would reach the families above past every filter.
        ("socketcall", [102, 1, 0, 0], 38),
        ("getpid", [20, 0, 0, 0], 255),
        ("mount", [21, 0, 0, 0], 1),
        // The 64-bit table has `kill` here, which is allowed.
        ("umount", [22, 0, 0, 0], 1),
        ("clone-namespace", [120, 0x1000_0000, 0, 0], 1),
        // What libc takes as the word to fall back to `clone`.
        ("clone3", [435, 0, 0, 0], 38),
        ("too-new", [900, 0, 0, 0], 38),
    ];
    check(program_32, &cases).await;
}

async fn check(
    program: fn([u32; 4]) -> Vec<u8>,
    cases: &[(&str, [u32; 4], i32)],
) {
    if !is_possible() {
        return;
    }
    let host = Host::new().await;
    for (name, call, _) in cases {
        write(&host.rootfs.join("bin").join(name), &program(*call));
    }
    if Command::new(host.rootfs.join("bin/getpid")).status().is_err() {
        eprintln!("skipped: this kernel does not run 32-bit programs");
        return host.close().await;
    }
    for (name, call, expected) in cases {
        let layers = vec![host.rootfs.clone()];
        let args = vec![format!("/bin/{name}")];
        let ran = host.run(&ContainerSpec::new(id(name), layers, args)).await;
        assert_eq!(ran.exit.code, *expected, "{name} {call:?}");
    }
    host.close().await;
}

fn write(path: &Path, program: &[u8]) {
    fs::write(path, program).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `mov REGISTER, value` for 32-bit registers, by their opcodes.
fn set(registers: [u8; 4], values: [u32; 4]) -> Vec<u8> {
    let one = |(register, value): (u8, u32)| {
        [vec![register], value.to_le_bytes().to_vec()].concat()
    };
    registers.into_iter().zip(values).flat_map(one).collect()
}

fn program_32(call: [u32; 4]) -> Vec<u8> {
    // eax, ebx, ecx, edx; int 0x80; neg eax; mov ebx, eax; exit.
    let mut code = set([0xb8, 0xbb, 0xb9, 0xba], call);
    code.extend([0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3]);
    code.extend([0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    let size = 52 + 32 + u32::try_from(code.len()).unwrap();
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    for word in [1, BASE + 52 + 32, 52, 0, 0] {
        elf.extend(u32::to_le_bytes(word));
    }
    for half in [52_u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1, 0, BASE, BASE, size, size, 5, 4096] {
        elf.extend(u32::to_le_bytes(word));
    }
    [elf, code].concat()
}

fn program_64(call: [u32; 4]) -> Vec<u8> {
    // eax, edi, esi, edx; syscall; neg eax; mov edi, eax; exit.
    let mut code = set([0xb8, 0xbf, 0xbe, 0xba], call);
    code.extend([0x0f, 0x05, 0xf7, 0xd8, 0x89, 0xc7]);
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    let size = 64 + 56 + code.len() as u64;
    let base = u64::from(BASE);
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0".to_vec();
    elf.extend(1_u32.to_le_bytes());
    for long in [base + 64 + 56, 64, 0] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    for long in [0, base, base, size, size, 4096] {
        elf.extend(long.to_le_bytes());
    }
    [elf, code].concat()
}
