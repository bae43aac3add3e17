//! Runs a further command inside the running container.

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg,
};

use super::launch::{RunningContainer, pidfd_open, pipe, set_nonblocking};
use super::process::{
    Command, become_user, check, default_signals, die_with_parent,
};
use crate::container::TerminalSize;
use crate::container::protocol::{Answer, ProcessPlan, encode};

/// A command that runs, as the shim holds it.
#[derive(Debug)]
pub(super) struct RunningExec {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) has_terminal: bool,
}

/// Where the command's standard streams lead.
enum Streams<'a> {
    /// Input from nowhere, output into a pipe.
    Pipe(OwnedFd),
    /// A terminal, whose other end goes to who asked for it.
    Terminal { size: TerminalSize, to: &'a UnixStream },
}

/// Namespaces an exec enters: all but the user namespace, which is shared.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Limits a container's processes have and an exec takes over.
const LIMITS: usize = 16;

/// Starts a command and answers where its output comes from; the error is that
/// of the step that failed.
pub(super) fn start(
    container: &RunningContainer,
    cgroup: &str,
    plan: &ProcessPlan,
) -> io::Result<(RunningExec, OwnedFd)> {
    let (output, output_write) = pipe()?;
    set_nonblocking(&output)?;
    let streams = Streams::Pipe(output_write);
    Ok((launch(container, cgroup, plan, streams)?, output))
}

/// Starts a command in a terminal of its own; [`Answer::Terminal`] goes to
/// `to` with the terminal's other end.
pub(super) fn start_terminal(
    container: &RunningContainer,
    cgroup: &str,
    plan: &ProcessPlan,
    size: TerminalSize,
    to: &UnixStream,
) -> io::Result<RunningExec> {
    let streams = Streams::Terminal { size, to };
    launch(container, cgroup, plan, streams)
}

fn launch(
    container: &RunningContainer,
    cgroup: &str,
    plan: &ProcessPlan,
    streams: Streams<'_>,
) -> io::Result<RunningExec> {
    let has_terminal = matches!(streams, Streams::Terminal { .. });
    let command = Command::prepare(plan)?;
    let limits = limits_of(container.pid)?;
    let (report, report_write) = pipe()?;
    // SAFETY: the shim has one thread, so the child may go on as usual.
    let middle = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            let ends = Ends { limits, streams, report: report_write };
            enter(container, cgroup, plan, &command, &ends)
        }
        middle => middle,
    };
    drop((streams, report_write));
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
    match pidfd_open(pid) {
        Ok(pidfd) => Ok(RunningExec { pid, pidfd, has_terminal }),
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

/// A process's limits, by their numbers. From the file, as asking with
/// prlimit(2) takes a capability where the process is another user's.
fn limits_of(pid: i32) -> io::Result<Vec<libc::rlimit>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    parse_limits(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// One line for each limit, in the order of their numbers, in columns of fixed
/// width (`fs/proc/base.c`).
fn parse_limits(text: &str) -> Option<Vec<libc::rlimit>> {
    let value = |text: &str| match text.trim() {
        "unlimited" => Some(libc::RLIM_INFINITY),
        number => number.parse().ok(),
    };
    let limit = |line: &str| {
        let soft = value(line.get(26..47)?)?;
        let hard = value(line.get(47..68)?)?;
        Some(libc::rlimit { rlim_cur: soft, rlim_max: hard })
    };
    let limits: Option<Vec<_>> = text.lines().skip(1).map(limit).collect();
    limits.filter(|all| all.len() == LIMITS)
}

struct Ends<'a> {
    limits: Vec<libc::rlimit>,
    streams: Streams<'a>,
    report: OwnedFd,
}

/// The child's part: never returns.
fn enter(
    container: &RunningContainer,
    cgroup: &str,
    plan: &ProcessPlan,
    command: &Command,
    ends: &Ends<'_>,
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
    ends: &Ends<'_>,
) -> io::Result<()> {
    die_with_parent()?;
    container.layout.enter(cgroup).map_err(io::Error::other)?;
    // The host's: the container's processes may have put anything, such as a
    // pipe that nobody writes to, in the place of theirs.
    let null = File::open("/dev/null")?;
    for (resource, limit) in (0..).zip(&ends.limits) {
        // SAFETY: sets from a structure of the right type.
        unsafe { check(libc::setrlimit(resource, limit))? };
    }
    // SAFETY: numbers only. A process that enters a container must not be
    // inspected by what runs there.
    unsafe {
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        check(libc::setns(container.pidfd.as_raw_fd(), NAMESPACES))?;
    }
    match &ends.streams {
        Streams::Pipe(output) => {
            redirect(&null, 0..1)?;
            redirect(output, 1..3)
        }
        Streams::Terminal { size, to } => {
            redirect(&open_terminal(*size, to)?, 0..3)
        }
    }
}

fn redirect(
    to: &impl AsRawFd,
    streams: std::ops::Range<i32>,
) -> io::Result<()> {
    for fd in streams {
        // SAFETY: both are open descriptors of this process.
        check(unsafe { libc::dup2(to.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// Opens a terminal of the container's and hands its other end to the daemon.
///
/// In the container's mount namespace, where its processes may have put
/// anything at this path: only the multiplexer of a devpts will do.
fn open_terminal(size: TerminalSize, to: &UnixStream) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let ours = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    let is_devpts = rustix::fs::fstatfs(&ours)?.f_type == DEVPTS_MAGIC;
    if !is_devpts || rustix::fs::fstat(&ours)?.st_rdev != libc::makedev(5, 2) {
        return Err(io::Error::from_raw_os_error(libc::ENOTTY));
    }
    rustix::termios::tcsetwinsize(&ours, size.into())?;
    let unlocked: libc::c_int = 0;
    let raw = ours.as_raw_fd();
    // SAFETY: requests of terminals with the arguments they ask for, on a
    // descriptor that was found to be one.
    let theirs = unsafe {
        check(libc::ioctl(raw, libc::TIOCSPTLCK, &raw const unlocked))?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let theirs = libc::ioctl(raw, libc::TIOCGPTPEER, flags);
        check(theirs)?;
        OwnedFd::from_raw_fd(theirs)
    };
    hand_over(&ours, to)?;
    Ok(theirs)
}

/// Sends a descriptor with the frame that announces it. It fits: nothing was
/// said on this connection before.
fn hand_over(fd: &OwnedFd, to: &UnixStream) -> io::Result<()> {
    let frame = encode(&Answer::Terminal)?;
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = sendmsg(
        to,
        &[IoSlice::new(&frame)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    if sent == frame.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Container side: own session, files, directory, user.
fn inside(plan: &ProcessPlan, ends: &Ends<'_>) -> io::Result<()> {
    default_signals();
    // SAFETY: numbers only.
    check(unsafe { libc::setsid() })?;
    if matches!(ends.streams, Streams::Terminal { .. }) {
        // SAFETY: numbers only; standard input is the terminal by now.
        unsafe {
            check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            check(libc::fchown(0, plan.uid, u32::MAX))?;
        }
    }
    close_all_but(&ends.report)?;
    enter_directory(&plan.cwd)?;
    become_user(plan)
}

/// Closes what the shim has open, but the standard streams and `report`, which
/// closes when the command is executed.
fn close_all_but(report: &OwnedFd) -> io::Result<()> {
    let report = u32::try_from(report.as_raw_fd()).unwrap_or(0);
    debug_assert!(report > 2, "not a standard stream");
    let ranges = [(3, report.saturating_sub(1)), (report + 1, u32::MAX)];
    for (first, last) in ranges.into_iter().filter(|(a, b)| a <= b) {
        // SAFETY: numbers only. What owns these descriptors in this process
        // is not used and not dropped any more: it executes, or exits.
        check(unsafe { libc::close_range(first, last, 0) })?;
    }
    Ok(())
}

/// Makes a directory of the container's the current one.
///
/// Its path may be a link of the container's making that leads by way of
/// `/proc` to a directory another process has open, such as one of the host's
/// (CVE-2024-21626): nothing may be open here, and nothing that is not below
/// the container's root will do.
fn enter_directory(path: &str) -> io::Result<()> {
    std::env::set_current_dir(path)?;
    match std::env::current_dir() {
        Ok(entered) if entered.is_absolute() => Ok(()),
        Ok(_) | Err(_) => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_in_the_order_of_their_numbers() {
        let own = i32::try_from(std::process::id()).unwrap();
        let limits = limits_of(own).unwrap();
        for (resource, limit) in (0..).zip(&limits) {
            let mut asked = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: writes into a structure of the right type.
            let got = unsafe { libc::getrlimit(resource, &raw mut asked) };
            assert_eq!(got, 0);
            assert_eq!(limit.rlim_cur, asked.rlim_cur, "{resource}");
            assert_eq!(limit.rlim_max, asked.rlim_max, "{resource}");
        }
        assert!(parse_limits("").is_none());
        assert!(parse_limits("Limit\nMax cpu time  1 2 seconds\n").is_none());
    }
}
