//! The shim: one small process per container that outlives the daemon.
//!
//! It is this binary, re-executed, with one thread and no runtime: it starts
//! the container, then sits in poll(2) copying output to log segments and
//! answering the daemon until the container ends. Being single-threaded is
//! what makes fork, setns and libcontainer's changes of working directory
//! safe, and what keeps it under 3 MiB.
//!
//! Life: *launch* (report on the inherited pipe) → *serve* (socket, logs,
//! execs) → *finish* (exit record, watchers told, control group removed).
//!
//! If the shim is killed the kernel kills the container (parent death
//! signal); see `process`.

mod bpf;
mod connection;
mod exec;
mod hierarchies;
mod launch;
mod process;
mod rootfs;
mod serve;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use super::containers::Kept;
use super::paths::{ContainerPaths, SOCKET, read_json};
use super::protocol::{
    LAUNCH, Launch, LaunchFailure, LaunchReport, LaunchStage,
};
use super::{ContainerSpec, NamespaceMode};

/// Runs a shim: the whole life of the process.
///
/// `args` is what followed the shim command: the path of `launch.json`. The
/// caller must not have started a thread; standard output must be the pipe on
/// which the daemon waits for the report.
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(path) = args.into_iter().next().map(PathBuf::from) else {
        return ExitCode::from(2);
    };
    let Ok(report) = detach() else { return ExitCode::FAILURE };
    let mut report = File::from(report);
    match run(&path, &mut report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&mut report, &LaunchReport::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, report: &mut File) -> Result<(), LaunchFailure> {
    let order: Launch = read(path)?;
    if order.version != LAUNCH {
        let source = io::Error::from(io::ErrorKind::Unsupported);
        return Err(failed("launch.json is of another version", &source));
    }
    let paths =
        ContainerPaths { root: order.root.clone(), run: order.run.clone() };
    let Kept::<ContainerSpec> { mut spec, .. } = read(&paths.spec())?;
    order.secret_env.set_in(&mut spec.env);
    let listener = listen(&paths.run)
        .map_err(|e| failed("could not listen on the socket", &e))?;
    let running = launch::launch(&spec, &order, &paths)?;
    tell(report, &LaunchReport::Started(running.started));
    // The daemon takes the end of the pipe for the end of the report.
    close_report(report);
    let container = serve::Served {
        cgroup: order.cgroup,
        shares_processes: spec.pid_mode != NamespaceMode::Private,
        log: spec.log,
    };
    serve::serve(container, &paths, listener, running);
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, LaunchFailure> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    read_json(path)
        .and_then(|found| found.ok_or_else(missing))
        .map_err(|e| failed(&format!("could not read {}", path.display()), &e))
}

/// Leaves the daemon: no inherited files, no terminal, no parent, own session.
/// Returns the pipe for the report.
fn detach() -> io::Result<OwnedFd> {
    let report = io::stdout().as_fd().try_clone_to_owned()?;
    // SAFETY: the process has one thread and has opened nothing it still uses
    // but `report`; the ranges below and above it hold only inherited files.
    unsafe {
        let keep = u32::try_from(report.as_raw_fd()).unwrap_or(3);
        if keep > 3 {
            libc::close_range(3, keep - 1, 0);
        }
        libc::close_range(keep + 1, u32::MAX, 0);
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for fd in 0..3 {
        // SAFETY: both are open descriptors of this process.
        if unsafe { libc::dup2(null.as_raw_fd(), fd) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: the process has one thread; the parent leaves at once, without
    // running destructors or exit handlers.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: ends this process only.
        _ => unsafe { libc::_exit(0) },
    }
    // SAFETY: plain calls without pointers, but for a static string.
    unsafe {
        libc::setsid();
        libc::umask(0o022);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"minato-shim".as_ptr());
    }
    std::env::set_current_dir("/")?;
    Ok(report)
}

/// Listens in the run directory, by way of a descriptor: the path itself may
/// be longer than a socket address holds.
fn listen(run: &Path) -> io::Result<UnixListener> {
    let dir = File::open(run)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The daemon may be gone; the container runs on all the same.
fn tell(report: &mut File, message: &LaunchReport) {
    if let Ok(bytes) = serde_json::to_vec(message) {
        let _ = report.write_all(&bytes);
    }
}

fn close_report(report: &mut File) {
    if let Ok(null) = File::open("/dev/null") {
        *report = null;
    }
}

fn failed(what: &str, source: &io::Error) -> LaunchFailure {
    LaunchFailure {
        stage: LaunchStage::Shim,
        errno: source.raw_os_error(),
        message: format!("{what}: {source}"),
    }
}
