//! What the daemon and a shim say to each other.
//!
//! Frames of a 4-byte little-endian length and JSON, over a Unix socket in
//! the container's run directory. The daemon sends one request per connection;
//! `Watch` is answered by a stream of events until the container ends.
//!
//! A running shim keeps the binary it was started with, so the two sides may
//! be of different versions: every request carries the version, and a shim
//! refuses one it does not know rather than guess.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Exit, SecretEnv, Started, TerminalSize};

/// Version of requests and answers.
pub(crate) const PROTOCOL: u32 = 1;
/// Version of `launch.json`.
pub(crate) const LAUNCH: u32 = 2;
/// Longest frame: an exec's output (1 MiB, base64-free JSON numbers would not
/// fit, so it travels as hexadecimal) and room for the rest.
pub(crate) const FRAME_MAX_BYTES: usize = 4 << 20;
/// Most output of one exec that a shim keeps.
pub(crate) const EXEC_OUTPUT_MAX_BYTES: usize = 1 << 20;

/// All a shim needs to know besides the container's specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// [`LAUNCH`].
    pub(crate) version: u32,
    /// `root/<id>` and `run/<id>`.
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) cgroup: String,
    /// Where the shim itself goes, if the daemon's group would be killed with
    /// the daemon (a systemd unit).
    pub(crate) shim_cgroup: String,
    /// The layer below all others.
    pub(crate) mount_points: PathBuf,
    /// The directory of compiled seccomp filters.
    pub(crate) filters: PathBuf,
    /// `/proc/PID/ns/...` paths for namespaces taken from other containers.
    pub(crate) pid_namespace: Option<PathBuf>,
    pub(crate) ipc_namespace: Option<PathBuf>,
    /// Variables that are in this file, in memory, and nowhere else.
    #[serde(default)]
    pub(crate) secret_env: SecretEnv,
}

/// How to turn a process in the container's namespaces into the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Capability mask: the bounding set, and what root holds.
    pub(crate) capabilities: u64,
    /// The compiled main filter; `None` for privileged containers.
    pub(crate) seccomp: Option<PathBuf>,
    pub(crate) no_new_privileges: bool,
}

/// The first thing a shim says, on the pipe it was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LaunchReport {
    Started(Started),
    Failed(LaunchFailure),
}

/// Why a container could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaunchFailure {
    pub(crate) stage: LaunchStage,
    /// The system's error number, if one is known.
    pub(crate) errno: Option<i32>,
    pub(crate) message: String,
}

/// How far a start got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LaunchStage {
    /// The shim's own preparations.
    Shim,
    /// Root file system, user, devices, seccomp filter.
    Prepare,
    /// Namespaces, mounts, control groups.
    Create,
    /// Executing the command.
    Exec,
}

/// What a shim leaves in `running.json` once the container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) protocol: u32,
    pub(crate) started: Started,
    pub(crate) shim: ProcessMark,
    pub(crate) init: ProcessMark,
}

/// A process id with the time it began, so that a reused id is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessMark {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
}

impl ProcessMark {
    /// Marks a process that runs now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(ProcessMark { pid, start_ticks: start_ticks(&text)? })
    }

    /// Says whether that very process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        ProcessMark::of(self.pid) == Some(*self)
    }
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// What the daemon asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) protocol: u32,
    pub(crate) body: RequestBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RequestBody {
    Ping,
    Signal {
        number: i32,
    },
    Exec {
        process: Box<ProcessPlan>,
        output_max_bytes: usize,
    },
    /// As `Exec`, in a terminal of its own. Answered by [`Answer::Terminal`],
    /// then by `Ok` or `Refused`, and at the end by [`Answer::ExecEnded`].
    /// A shim of an earlier build refuses it as a request it cannot read.
    ExecTerminal {
        process: Box<ProcessPlan>,
        size: TerminalSize,
    },
    Watch,
}

/// What a shim answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Done.
    Ok,
    /// Not done, and why.
    Refused { message: String, errno: Option<i32> },
    /// The controlling end of an exec's terminal comes with this frame.
    Terminal,
    /// An exec has ended.
    ExecEnded { code: i32, output: Hex, truncated: bool },
    /// Event of a watch: new log lines have been written.
    Logged,
    /// Event of a watch, and its last: the container has ended.
    Exited(Exit),
}

/// Bytes as a hexadecimal string: twice their size, where JSON's array of
/// numbers would be up to four times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
        let text: String =
            self.0.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect();
        s.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let pair = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok().filter(|_| pair.len() == 2)
        };
        let bytes: Option<Vec<u8>> =
            text.as_bytes().chunks(2).map(pair).collect();
        bytes
            .map(Hex)
            .ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
    }
}

/// Makes a frame.
pub(crate) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= FRAME_MAX_BYTES)
        .ok_or_else(|| io::Error::from(ErrorKind::FileTooLarge))?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

/// Takes the first whole frame off a buffer, if there is one.
pub(crate) fn decode<T: DeserializeOwned>(
    buffer: &mut Vec<u8>,
) -> io::Result<Option<T>> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length =
        usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
    if length > FRAME_MAX_BYTES {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let Some(body) = buffer.get(4..4 + length) else { return Ok(None) };
    let value = serde_json::from_slice(body)?;
    buffer.drain(..4 + length);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut(bytes: Vec<u8>, cut in 1usize..9) {
            let answer = Answer::ExecEnded {
                code: 1, output: Hex(bytes), truncated: true,
            };
            let wire = [encode(&answer).unwrap(), encode(&Answer::Ok).unwrap()];
            let (mut buffer, mut got) = (vec![], vec![]);
            for chunk in wire.concat().chunks(cut) {
                buffer.extend_from_slice(chunk);
                while let Some(one) = decode::<Answer>(&mut buffer).unwrap() {
                    got.push(one);
                }
            }
            prop_assert_eq!(got, vec![answer, Answer::Ok]);
        }

        #[test]
        fn garbage_is_an_error_or_incomplete(mut bytes: Vec<u8>) {
            let _ = decode::<Request>(&mut bytes);
        }
    }

    #[test]
    fn a_frame_too_long_is_refused_before_it_is_read() {
        let mut buffer = u32::MAX.to_le_bytes().to_vec();
        assert!(decode::<Answer>(&mut buffer).is_err());
    }

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_id() {
        let own = i32::try_from(std::process::id()).unwrap();
        let mark = ProcessMark::of(own).unwrap();
        assert!(mark.is_alive());
        assert!(!ProcessMark { start_ticks: 1, ..mark }.is_alive());
        let odd = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0";
        assert_eq!(start_ticks(odd), Some(4242));
    }
}
