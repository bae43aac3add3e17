//! Runs a further command inside the running container.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use super::launch::{RunningContainer, pidfd_open, pipe, set_nonblocking};
use super::process::{
    Command, become_user, check, default_signals, die_with_parent,
};
use crate::container::protocol::ProcessPlan;

/// A command that runs, as the shim holds it.
#[derive(Debug)]
pub(super) struct RunningExec {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) output: OwnedFd,
}

/// Namespaces an exec enters: all but the user namespace, which is shared.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Limits a container's processes have and an exec takes over.
const LIMITS: std::ops::Range<libc::__rlimit_resource_t> = 0..16;

/// Starts a command; the error is that of the step that failed.
pub(super) fn start(
    container: &RunningContainer,
    cgroup: &str,
    plan: &ProcessPlan,
) -> io::Result<RunningExec> {
    let command = Command::prepare(plan)?;
    let (output, output_write) = pipe()?;
    let (report, report_write) = pipe()?;
    // SAFETY: the shim has one thread, so the child may go on as usual.
    let middle = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            let ends = Ends { output: output_write, report: report_write };
            enter(container, cgroup, plan, &command, &ends)
        }
        middle => middle,
    };
    drop((output_write, report_write));
    // First the command's process id as the shim sees it, then nothing
    // (executed) or an error number.
    let mut report = File::from(report);
    let mut words = vec![];
    report.read_to_end(&mut words)?;
    // SAFETY: waits for our own child, which has ended or is about to.
    unsafe { libc::waitpid(middle, std::ptr::null_mut(), 0) };
    let word = |at: usize| -> Option<i32> {
        let bytes = words.get(at..at + 4)?.try_into().ok()?;
        Some(i32::from_ne_bytes(bytes))
    };
    let pid = match (word(0), word(4)) {
        (Some(error), _) if error < 0 => {
            return Err(io::Error::from_raw_os_error(-error));
        }
        (Some(pid), Some(error)) => {
            // SAFETY: waits for our own child, which is ending.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            return Err(io::Error::from_raw_os_error(-error));
        }
        (Some(pid), None) => pid,
        (None, _) => return Err(io::ErrorKind::BrokenPipe.into()),
    };
    match set_nonblocking(&output).and_then(|()| pidfd_open(pid)) {
        Ok(pidfd) => Ok(RunningExec { pid, pidfd, output }),
        Err(e) => {
            // A child nobody waits for would keep the container from ending.
            // SAFETY: numbers only; the child is ours and not waited for yet.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
            Err(e)
        }
    }
}

struct Ends {
    output: OwnedFd,
    report: OwnedFd,
}

/// The child's part: never returns.
fn enter(
    container: &RunningContainer,
    cgroup: &str,
    plan: &ProcessPlan,
    command: &Command,
    ends: &Ends,
) -> ! {
    let errno = match prepare(container, cgroup, ends) {
        Err(e) => e.raw_os_error().unwrap_or(libc::EIO),
        // SAFETY: raw clone without a new stack is fork; CLONE_PARENT makes
        // the command a child of the shim, which can then wait for it.
        Ok(()) => match unsafe {
            let flags = libc::CLONE_PARENT | libc::SIGCHLD;
            libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0)
        } {
            0 => match inside(plan, ends) {
                Err(e) => e.raw_os_error().unwrap_or(libc::EIO),
                Ok(()) => command.become_command(),
            },
            pid if pid > 0 => {
                say(&ends.report, i32::try_from(pid).unwrap_or(-libc::EIO));
                // SAFETY: ends this process without running anything else.
                unsafe { libc::_exit(0) }
            }
            _ => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
        },
    };
    say(&ends.report, -errno);
    // SAFETY: ends this process without running anything that is the shim's.
    unsafe { libc::_exit(127) }
}

fn say(report: &OwnedFd, word: i32) {
    let _ = rustix::io::write(report, &word.to_ne_bytes());
}

/// Host side: group, limits, namespaces.
fn prepare(
    container: &RunningContainer,
    cgroup: &str,
    ends: &Ends,
) -> io::Result<()> {
    die_with_parent()?;
    container.layout.enter(cgroup).map_err(io::Error::other)?;
    for resource in LIMITS {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: reads into and sets from a structure of the right type.
        unsafe {
            check(libc::prlimit(
                container.pid,
                resource,
                std::ptr::null(),
                &raw mut limit,
            ))?;
            check(libc::setrlimit(resource, &raw const limit))?;
        }
    }
    // SAFETY: numbers only. A process that enters a container must not be
    // inspected by what runs there.
    unsafe {
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        check(libc::setns(container.pidfd.as_raw_fd(), NAMESPACES))?;
    }
    for fd in 1..3 {
        // SAFETY: both are open descriptors of this process.
        check(unsafe { libc::dup2(ends.output.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// Container side: own session, files, directory, user.
fn inside(plan: &ProcessPlan, ends: &Ends) -> io::Result<()> {
    default_signals();
    // SAFETY: numbers only.
    check(unsafe { libc::setsid() })?;
    let null = File::open("/dev/null")?;
    // SAFETY: both are open descriptors of this process.
    check(unsafe { libc::dup2(null.as_raw_fd(), 0) })?;
    // All else the shim has open closes when the command is executed.
    // SAFETY: marks descriptors; `ends.report` stays usable until then.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
    debug_assert!(ends.report.as_raw_fd() > 2, "not a standard stream");
    std::env::set_current_dir(&plan.cwd)?;
    become_user(plan)
}
