//! The last steps of a process before it becomes the container's command.
//!
//! Runs in a forked, single-threaded child that is already in the container's
//! namespaces. Nothing here returns on success.

use std::ffi::CString;
use std::io;

use crate::container::caps::LAST_BIT;
use crate::container::plan::DEFAULT_PATH;
use crate::container::protocol::ProcessPlan;
use crate::container::seccomp::{self, INSTRUCTION_BYTES};

/// A plan made ready while files of the host can still be read.
#[derive(Clone, Debug)]
pub(super) struct Command {
    args: Vec<CString>,
    env: Vec<CString>,
    /// Where to look for a command without a slash.
    path: String,
    capabilities: u64,
    /// Compiled filters, in the order they are installed.
    filters: Vec<Vec<u8>>,
    no_new_privileges: bool,
}

impl Command {
    pub(super) fn prepare(plan: &ProcessPlan) -> io::Result<Self> {
        let c_strings = |list: &[String]| -> io::Result<Vec<CString>> {
            list.iter().map(|text| Ok(CString::new(text.as_bytes())?)).collect()
        };
        let path = plan.env.iter().rev().find_map(|e| e.strip_prefix("PATH="));
        let mut filters = vec![];
        if let Some(file) = &plan.seccomp {
            let refuse = seccomp::refuses_clone3(plan.capabilities);
            filters.push(std::fs::read(file)?);
            // Of two filters that refuse, the later one's error counts.
            filters.push(seccomp::outer_filter(refuse));
        }
        Ok(Command {
            args: c_strings(&plan.args)?,
            env: c_strings(&plan.env)?,
            path: path.unwrap_or(DEFAULT_PATH).to_owned(),
            capabilities: plan.capabilities,
            filters,
            no_new_privileges: plan.no_new_privileges,
        })
    }

    /// Gives up privileges and executes the command. Returns only if that
    /// failed, with the error number.
    pub(super) fn become_command(&self) -> i32 {
        if let Err(e) = self.restrict() {
            return e.raw_os_error().unwrap_or(libc::EIO);
        }
        self.execute()
    }

    fn restrict(&self) -> io::Result<()> {
        // Until it is the command, others in a shared process namespace could
        // reach through it what it has of the host's.
        // SAFETY: takes numbers only.
        check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
        die_with_parent()?;
        default_signals();
        if self.no_new_privileges {
            // SAFETY: takes numbers only.
            check(unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            })?;
        }
        // Filters first: installing them without no_new_privs takes
        // CAP_SYS_ADMIN, which the next step gives up.
        for filter in &self.filters {
            install_filter(filter)?;
        }
        self.drop_capabilities()
    }

    fn drop_capabilities(&self) -> io::Result<()> {
        for bit in 0..=LAST_BIT {
            if self.capabilities & (1 << bit) == 0 {
                // SAFETY: takes numbers only. EINVAL means that the kernel has
                // no such capability to drop.
                let dropped =
                    unsafe { libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0) };
                let error = io::Error::last_os_error();
                if dropped < 0 && error.raw_os_error() != Some(libc::EINVAL) {
                    return Err(error);
                }
            }
        }
        // Root holds the whole bounding set; others hold nothing until they
        // execute a file that grants something.
        // SAFETY: takes and returns numbers only.
        let is_root = unsafe { libc::geteuid() } == 0;
        let held = if is_root { self.capabilities & permitted()? } else { 0 };
        set_capabilities(held)
    }

    fn execute(&self) -> i32 {
        let argv = pointers(&self.args);
        let envp = pointers(&self.env);
        let Some(name) = self.args.first() else { return libc::EINVAL };
        if name.as_bytes().contains(&b'/') {
            return execve(name, &argv, &envp);
        }
        // As execvp(3), but a file that the kernel cannot run is an error and
        // not handed to a shell, and an unusable entry is remembered.
        let mut error = libc::ENOENT;
        for dir in self.path.split(':') {
            let dir = if dir.is_empty() { "." } else { dir };
            let file = [dir.as_bytes(), b"/", name.as_bytes()].concat();
            let Ok(file) = CString::new(file) else { continue };
            match execve(&file, &argv, &envp) {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => error = libc::EACCES,
                other => return other,
            }
        }
        error
    }
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// The capabilities this process may hold: not all that there are, if the
/// daemon itself has not got them.
fn permitted() -> io::Result<u64> {
    let mut header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable; low words, then high words.
    let mut data = [0u32; 6];
    // SAFETY: both arrays have the layout and length capget(2) asks of
    // version 3, and outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
}

fn set_capabilities(held: u64) -> io::Result<()> {
    let [low, high] = [held & 0xffff_ffff, held >> 32]
        .map(|half| u32::try_from(half).unwrap_or(0));
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable; low words, then high words.
    let data: [u32; 6] = [low, low, 0, high, high, 0];
    // SAFETY: both arrays have the layout and length capset(2) asks of
    // version 3, and outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn install_filter(program: &[u8]) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let count = program.len() / INSTRUCTION_BYTES;
    let filter = libc::sock_fprog {
        len: u16::try_from(count)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `filter` describes `count` whole instructions that outlive the
    // call; the kernel copies them byte by byte and checks every one, so
    // neither their alignment nor their content can hurt this process.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const filter)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel kill this process when the shim dies. For the first process
/// of a process namespace that ends the whole container.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

/// Undoes what the Rust runtime and the shim did to signals: a command must
/// start with the defaults and nothing blocked.
pub(super) fn default_signals() {
    // SAFETY: sets dispositions and the mask of a process about to execute;
    // no handler of ours remains that could be missed.
    unsafe {
        for number in 1..=64 {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut(),
        );
    }
}

/// Becomes a user, keeping capabilities for the steps that follow.
pub(super) fn become_user(plan: &ProcessPlan) -> io::Result<()> {
    // SAFETY: numbers, and a list of groups that outlives the call with its
    // true length.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setgroups(plan.groups.len(), plan.groups.as_ptr()))?;
        check(libc::setresgid(plan.gid, plan.gid, plan.gid))?;
        check(libc::setresuid(plan.uid, plan.uid, plan.uid))?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0))?;
    }
    // Changing the user emptied the effective set; the permitted one is kept.
    set_capabilities(permitted()?)
}

pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter()
        .map(|text| text.as_ptr())
        .chain(Some(std::ptr::null()))
        .collect()
}

fn execve(
    file: &CString,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
) -> i32 {
    // SAFETY: all strings end in a zero byte, both lists end in a null
    // pointer, and all of it outlives the call.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// Stays as the container's first process and reaps what the command leaves
/// behind; ends as the command ends.
///
/// Signals sent to it are passed on to the command. It holds no more
/// privileges than the command and cannot be inspected by it.
pub(super) fn be_init(child: i32, command: &Command) -> ! {
    let all = become_reaper(command);
    loop {
        let number = await_signal(&all);
        if number != libc::SIGCHLD {
            // SAFETY: sends a signal to a child that is not yet waited for.
            unsafe { libc::kill(child, number) };
            continue;
        }
        reap(|pid, status| {
            if pid == child {
                // SAFETY: ends the process, nothing of the shim's is run.
                unsafe { libc::_exit(exit_code(status)) }
            }
        });
    }
}

/// Stays as the first process of namespaces that other containers join, and
/// reaps what these leave behind, until it is told to end.
pub(super) fn be_holder(command: &Command) -> ! {
    let all = become_reaper(command);
    loop {
        match await_signal(&all) {
            // SAFETY: ends the process, nothing of the shim's is run.
            libc::SIGTERM | libc::SIGINT => unsafe { libc::_exit(0) },
            libc::SIGCHLD => reap(|_, _| {}),
            _ => {}
        }
    }
}

/// Gives up what the shim had, and all privileges that the command has not;
/// the signals to wait for.
fn become_reaper(command: &Command) -> libc::sigset_t {
    // SAFETY: one thread, and nothing of the shim's is used any more: closes
    // files, sets flags and a mask that is a live value, and exits.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"init".as_ptr());
        libc::close_range(3, u32::MAX, 0);
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null_mut(),
        );
        if die_with_parent().is_err() {
            libc::_exit(1);
        }
        for filter in &command.filters {
            if install_filter(filter).is_err() {
                libc::_exit(1);
            }
        }
        if command.drop_capabilities().is_err() {
            libc::_exit(1);
        }
        all
    }
}

fn await_signal(all: &libc::sigset_t) -> i32 {
    let mut number = 0;
    loop {
        // SAFETY: reads a live set and writes a live number.
        if unsafe { libc::sigwait(all, &raw mut number) } == 0 {
            return number;
        }
    }
}

/// Waits for every child that has ended.
fn reap(mut ended: impl FnMut(i32, i32)) {
    let mut status = 0;
    loop {
        // SAFETY: writes a live number.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return;
        }
        ended(pid, status);
    }
}

/// Kills all processes of a session, given its leader, until none is found: a
/// killed one may have forked just before.
pub(super) fn kill_session(leader: i32) {
    const LOOKS_MAX: usize = 8;
    for _ in 0..LOOKS_MAX {
        let found = session_members(leader);
        if found.is_empty() {
            return;
        }
        for pid in found {
            // SAFETY: numbers only. The process was of this session a moment
            // ago; ids are not used again that soon.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}

/// Processes of a session that are not dead yet.
fn session_members(leader: i32) -> Vec<i32> {
    let Ok(list) = std::fs::read_dir("/proc") else { return vec![] };
    let is_member = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|text| is_of_session(&text, leader))
    };
    list.flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(is_member)
        .collect()
}

/// Fields 3 and 6 of `/proc/PID/stat`; the name in field 2 may hold anything.
fn is_of_session(stat: &str, leader: i32) -> bool {
    let Some((_, after_name)) = stat.rsplit_once(')') else { return false };
    let mut fields = after_name.split_ascii_whitespace();
    let is_dead = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    !is_dead && fields.nth(2).and_then(|id| id.parse().ok()) == Some(leader)
}

/// An exit code as shells write it: a signal counts from 128.
pub(super) fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }
}
