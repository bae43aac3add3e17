//! Commands that must end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait_for;

/// Longest run of one command: seconds on an idle machine, so that only one
/// that hangs takes all of it.
const LONGEST: Duration = Duration::from_secs(180);

/// Runs a command to its end, with `input` as its standard input. One that
/// does not end is killed with what it started, and the error has what it
/// said.
pub fn run_to_end(command: &mut Command, input: &[u8]) -> Result<Output> {
    let (mut said, mut complaint) = (file()?, file()?);
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command
        .process_group(0)
        .stdin(stdin)
        .stdout(said.try_clone()?)
        .stderr(complaint.try_clone()?)
        .spawn()
        .with_context(|| format!("could not start {command:?}"))?;
    let ended = std::thread::scope(|scope| {
        if let Some(mut stdin) = child.stdin.take() {
            // A command that ends before it has read all is no failure.
            scope.spawn(move || stdin.write_all(input));
        }
        let ended =
            wait_for(LONGEST, || child.try_wait().transpose()).transpose();
        if !matches!(ended, Ok(Some(_))) {
            let group = i32::try_from(child.id()).map(Pid::from_raw);
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            let _ = child.wait();
        }
        ended
    })?;
    let (stdout, stderr) = (all(&mut said)?, all(&mut complaint)?);
    let Some(status) = ended else {
        bail!(
            "{command:?} did not end; it said: {}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    };
    Ok(Output { status, stdout, stderr })
}

/// A file and not a pipe: nobody must read for the command to go on, and what
/// the command leaves running cannot hold its end up.
fn file() -> Result<File> {
    tempfile::tempfile().context("no temporary file")
}

fn all(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
