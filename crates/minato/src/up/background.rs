//! `minato up --detach`: the same command again, in the background.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::home::Home;
use crate::out::say;

/// Longest wait until the background process is ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How often the wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts Minato in the background and waits until it is ready.
pub(super) fn start(home: &Home) -> Result<ExitCode> {
    if let Ok(running) = home.running() {
        bail!("Minato is already running at {}", running.endpoint());
    }
    let log = home.dir().join("minato.log");
    let open = OpenOptions::new().create(true).append(true).open(&log);
    let output =
        open.with_context(|| format!("could not open {}", log.display()))?;
    let program = std::env::current_exe().context("where am I?")?;
    let words = std::env::args_os().skip(1).filter(|word| word != "--detach");
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("could not share the log")?)
        .stderr(output)
        // Its own group: a Ctrl-C here is not meant for it.
        .process_group(0);
    let mut child =
        command.spawn().context("could not start the background process")?;
    let looks = READY_MAX.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if let Ok(running) = home.running() {
            say!(
                "Minato is ready at {}: eval \"$(minato env --data-dir {})\"",
                running.endpoint(),
                home.dir().display()
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) = child.try_wait().context("lost the process")? {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last = text.lines().last().unwrap_or_default();
            bail!("Minato ended with {status}: {last} (see {})", log.display());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    bail!("Minato is not ready yet; see {}", log.display())
}
