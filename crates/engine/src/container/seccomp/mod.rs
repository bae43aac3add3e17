//! The seccomp filter of a container, compiled once per set of capabilities.
//!
//! Two programs are installed. The *main* one holds Docker's default profile:
//! what it does not list fails with EPERM. The *outer* one answers ENOSYS for
//! `clone3` (its flags lie in memory, where a filter cannot look, and libc then
//! falls back to `clone`) and for calls newer than the table, so that programs
//! which probe for them fall back too. It goes last: of two refusals the kernel
//! takes the error of the filter that was installed later.
//!
//! A compiled filter is a file of 8-byte instructions that the first shim
//! writes and every later one only reads: compiling costs it nothing.

mod i386;
mod program;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use seccompiler::{BpfProgram, TargetArch, sock_filter};
use serde_json::{Value, json};

use super::caps;
pub(crate) use program::INSTRUCTION_BYTES;
use program::{
    ALLOW, JUMP_EQUAL, JUMP_GREATER, LOAD, NUMBER, RETURN, UNKNOWN,
    allow_first, instruction,
};

/// Raised whenever the tables or the way they are compiled change.
const PROFILE_VERSION: u32 = 3;
/// The highest call number in the tables of both architectures (Linux 6.12).
const LAST_KNOWN_CALL: u32 = 462;
/// `clone3` has the same number everywhere.
const CLONE3: u32 = 435;
/// How the kernel names the table a call came through (linux/audit.h).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
/// The kernel takes no longer programs.
const INSTRUCTIONS_MAX: usize = 4096;
/// Namespace flags of `clone`: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// Address families refused to all: AF_ALG, a part of the kernel that has
/// given root away (CVE-2026-31431), and AF_VSOCK, which reaches the hypervisor.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];
/// Personalities Docker lets through: Linux, UNAME26 and 32-bit, the query.
const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// A filter could not be compiled or stored.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// No tables for this machine.
    #[error("there is no seccomp profile for {arch}")]
    UnsupportedArch {
        /// The architecture.
        arch: &'static str,
    },
    /// The compiler refused the profile.
    #[error("could not compile the seccomp profile")]
    Compile {
        /// Why not.
        source: seccompiler::Error,
    },
    /// The compiled filter is empty or longer than the kernel takes.
    #[error("the seccomp profile compiled to {count} instructions")]
    Length {
        /// Its length.
        count: usize,
    },
    /// The filter could not be written.
    #[error("could not write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Returns the file with the compiled main filter for a capability set,
/// compiling it if there is none yet.
pub(crate) fn compiled(
    dir: &Path,
    capabilities: u64,
) -> Result<PathBuf, SeccompError> {
    let relevant = relevant(capabilities);
    let arch = std::env::consts::ARCH;
    let name = format!("{arch}-v{PROFILE_VERSION}-{relevant:x}.bpf");
    let path = dir.join(name);
    if path.exists() {
        return Ok(path);
    }
    let target = match arch {
        "x86_64" => TargetArch::x86_64,
        "aarch64" => TargetArch::aarch64,
        arch => return Err(SeccompError::UnsupportedArch { arch }),
    };
    let bytes = compile(target, relevant)?;
    let io_error = |source| SeccompError::Write { path: path.clone(), source };
    fs::create_dir_all(dir).map_err(io_error)?;
    // Two shims may compile the same filter; each renames a whole file.
    let thread = std::thread::current().id();
    let own = dir.join(format!(".{}-{thread:?}", std::process::id()));
    fs::write(&own, bytes).map_err(io_error)?;
    fs::rename(&own, &path).map_err(io_error)?;
    Ok(path)
}

/// Says whether the outer filter must refuse `clone3`.
pub(crate) fn refuses_clone3(capabilities: u64) -> bool {
    caps::bit("SYS_ADMIN").is_some_and(|bit| capabilities & bit == 0)
}

/// The capabilities that make a difference to the profile.
fn relevant(capabilities: u64) -> u64 {
    table::BY_CAPABILITY
        .iter()
        .filter_map(|(name, _)| caps::bit(name))
        .fold(0, |mask, bit| mask | (capabilities & bit))
}

fn compile(arch: TargetArch, caps: u64) -> Result<Vec<u8>, SeccompError> {
    let (conditional, plain): (Vec<_>, Vec<_>) =
        rules(arch, caps).into_iter().partition(|r| r["args"].is_array());
    // Whatever the compiler makes of them, it compares with their numbers.
    let numbers = compile_rules(arch, &plain)?
        .iter()
        .filter(|step| step.code == JUMP_EQUAL && step.k <= LAST_KNOWN_CALL)
        .map(|step| step.k)
        .collect();
    let rest = bytes(&compile_rules(arch, &conditional)?);
    let whole = match arch {
        TargetArch::x86_64 => {
            let main = allow_first(AUDIT_ARCH_X86_64, &numbers, &rest);
            i386::beside(&main, caps)
        }
        TargetArch::aarch64 => allow_first(AUDIT_ARCH_AARCH64, &numbers, &rest),
        TargetArch::riscv64 => {
            let arch = "riscv64";
            return Err(SeccompError::UnsupportedArch { arch });
        }
    };
    let count = whole.len() / INSTRUCTION_BYTES;
    if count > INSTRUCTIONS_MAX {
        return Err(SeccompError::Length { count });
    }
    Ok(whole)
}

fn compile_rules(
    arch: TargetArch,
    rules: &[Value],
) -> Result<BpfProgram, SeccompError> {
    let text = json!({ "main": {
        "mismatch_action": { "errno": libc::EPERM },
        "match_action": "allow",
        "filter": rules,
    }})
    .to_string();
    let mut programs = seccompiler::compile_from_json(text.as_bytes(), arch)
        .map_err(|source| SeccompError::Compile { source })?;
    let program = programs.remove("main").unwrap_or_default();
    if program.is_empty() {
        return Err(SeccompError::Length { count: 0 });
    }
    Ok(program)
}

fn bytes(program: &[sock_filter]) -> Vec<u8> {
    let steps = program.iter();
    steps.flat_map(|s| instruction(s.code, s.jt, s.jf, s.k)).collect()
}

fn rules(arch: TargetArch, capabilities: u64) -> Vec<Value> {
    let mut names: BTreeSet<&str> = table::COMMON.iter().copied().collect();
    if matches!(arch, TargetArch::x86_64) {
        names.extend(table::ONLY_X86_64);
        if capabilities & caps::bit("SYS_RAWIO").unwrap_or(0) != 0 {
            names.extend(["iopl", "ioperm"]);
        }
    }
    for (capability, calls) in table::BY_CAPABILITY {
        if capabilities & caps::bit(capability).unwrap_or(0) != 0 {
            names.extend(*calls);
        }
    }
    let mut rules: Vec<Value> =
        names.iter().map(|name| json!({ "syscall": name })).collect();
    let argument = |call: &str, kind: &str, op: Value, value: u32| {
        json!({ "syscall": call, "args": [
            { "index": 0, "type": kind, "op": op, "val": value },
        ]})
    };
    let families = REFUSED_FAMILIES.map(
        |family| json!({ "index": 0, "type": "dword", "op": "ne", "val": family }),
    );
    rules.push(json!({ "syscall": "socket", "args": families }));
    for personality in PERSONALITIES {
        let op = json!("eq");
        rules.push(argument("personality", "dword", op, personality));
    }
    if !names.contains("clone") {
        let op = json!({ "masked_eq": CLONE_NAMESPACES });
        rules.push(argument("clone", "qword", op, 0));
    }
    rules
}

/// The outer filter: ENOSYS for `clone3` and for calls newer than the table.
pub(crate) fn outer_filter(refuse_clone3: bool) -> Vec<u8> {
    let refused = if refuse_clone3 { CLONE3 } else { u32::MAX };
    [
        instruction(LOAD, 0, 0, NUMBER),
        instruction(JUMP_GREATER, 2, 0, LAST_KNOWN_CALL),
        instruction(JUMP_EQUAL, 1, 0, refused),
        instruction(RETURN, 0, 0, ALLOW),
        instruction(RETURN, 0, 0, UNKNOWN),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_architectures_compile_for_no_and_all_capabilities() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            for capabilities in [0, caps::DEFAULT, caps::ALL] {
                let bytes = compile(arch, capabilities).unwrap();
                assert_eq!(bytes.len() % INSTRUCTION_BYTES, 0);
            }
        }
    }

    #[test]
    fn a_short_filter_decides_as_the_compiler_s_long_one() {
        for (target, arch) in [
            (TargetArch::x86_64, AUDIT_ARCH_X86_64),
            (TargetArch::aarch64, AUDIT_ARCH_AARCH64),
        ] {
            for capabilities in [0, caps::DEFAULT, caps::ALL] {
                let rules = rules(target, capabilities);
                let long = bytes(&compile_rules(target, &rules).unwrap());
                let short = compile(target, capabilities).unwrap();
                let calls = 0..=LAST_KNOWN_CALL;
                // Of the 64-bit machine's third table, and nobody's.
                let strange = [LAST_KNOWN_CALL + 1, 1 << 30, u32::MAX];
                for call in calls.chain(strange) {
                    let arguments = [REFUSED_FAMILIES[0], PERSONALITIES[1]];
                    for argument in [0, 1, CLONE_NAMESPACES, u32::MAX]
                        .into_iter()
                        .chain(arguments)
                    {
                        assert_eq!(
                            program::run(&short, arch, call, argument),
                            program::run(&long, arch, call, argument),
                            "{call} of {argument:#x}",
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_compiled_filter_is_reused_and_depends_on_capabilities() {
        let dir = tempfile::tempdir().unwrap();
        let plain = compiled(dir.path(), caps::DEFAULT).unwrap();
        let written = fs::metadata(&plain).unwrap().modified().unwrap();
        let chown = caps::bit("CHOWN").unwrap();
        // CHOWN opens no system call, so the same file serves.
        let same = compiled(dir.path(), caps::DEFAULT & !chown).unwrap();
        assert_eq!(plain, same);
        assert_eq!(fs::metadata(&same).unwrap().modified().unwrap(), written);
        let more = compiled(dir.path(), caps::ALL).unwrap();
        assert_ne!(plain, more);
        assert_ne!(fs::read(plain).unwrap(), fs::read(more).unwrap());
    }

    #[test]
    fn clone_is_limited_only_without_sys_admin() {
        let limited = |capabilities| {
            rules(TargetArch::x86_64, capabilities).iter().any(|rule| {
                rule["syscall"] == "clone" && !rule["args"].is_null()
            })
        };
        assert!(limited(caps::DEFAULT));
        assert!(!limited(caps::ALL));
        assert!(refuses_clone3(caps::DEFAULT));
        assert!(!refuses_clone3(caps::ALL));
    }

    #[test]
    fn the_outer_filter_is_five_instructions() {
        assert_eq!(outer_filter(true).len(), 5 * INSTRUCTION_BYTES);
    }
}
