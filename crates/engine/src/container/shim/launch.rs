//! Starts the container: libcontainer builds it, our executor finishes it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::process::Command;
use super::rootfs::Retreat;
use super::{bpf, failed, hierarchies, process, rootfs};
use crate::cgroup::Layout;
use crate::container::devices::{self, DeviceRule};
use crate::container::paths::{ContainerPaths, write_json};
use crate::container::plan::{self, Plan};
use crate::container::protocol::{
    Launch, LaunchFailure, LaunchStage, PROTOCOL, ProcessMark, Running,
};
use crate::container::{ContainerSpec, Started};
use crate::time::now_ms;

/// Exit code of a process that could not become its command; only seen if
/// the report of why was lost.
const EXIT_NOT_EXECUTED: i32 = 127;

/// A started container, as the shim holds it.
#[derive(Debug)]
pub(super) struct RunningContainer {
    pub(super) started: Started,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) stdout: OwnedFd,
    /// A terminal has one stream only.
    pub(super) stderr: Option<OwnedFd>,
    /// Kept open, never written to, if the container wants to read.
    pub(super) _stdin: Option<OwnedFd>,
    pub(super) layout: Layout,
}

pub(super) fn launch(
    spec: &ContainerSpec,
    order: &Launch,
    paths: &ContainerPaths,
) -> Result<RunningContainer, LaunchFailure> {
    let layout = Layout::detect().map_err(|e| create_failed(&e))?;
    layout.shelter(&order.shim_cgroup).map_err(|e| create_failed(&e))?;
    let started = start(spec, order, paths, layout.clone());
    if started.is_err() {
        let _ = layout.remove_tree(&order.cgroup);
        let _ = crate::tree::remove(&paths.runtime());
    }
    started
}

fn start(
    spec: &ContainerSpec,
    order: &Launch,
    paths: &ContainerPaths,
    layout: Layout,
) -> Result<RunningContainer, LaunchFailure> {
    let io = |e: io::Error| failed("could not prepare the container", &e);
    let retreat = Retreat::enter().map_err(io)?;
    let mut prepared = spec.clone();
    let netns = rootfs::hold_netns(&mut prepared)
        .map_err(|e| failed("could not open the network namespace", &e))?;
    let plan = prepare(prepared, order, paths, &layout)?;
    let command = Command::prepare(&plan.process).map_err(io)?;
    let (error_read, error_write) = pipe().map_err(io)?;
    let executor = ShimExecutor {
        command,
        init: spec.init,
        is_holder: spec.is_holder,
        error_pipe: error_write.as_raw_fd(),
    };
    let runtime = paths.runtime();
    fs::create_dir_all(&runtime).map_err(io)?;
    let mut streams = Streams::open(spec, paths).map_err(io)?;
    // libcontainer gives its own process the container's preference too.
    let own_score = fs::read("/proc/self/oom_score_adj").map_err(io)?;
    let mut builder =
        ContainerBuilder::new(spec.id.to_string(), SyscallType::Linux)
            .with_executor(executor)
            .with_root_path(&runtime)
            .and_then(ContainerBuilder::validate_id)
            .map_err(|e| create_failed(&e))?;
    if let Some((_, path)) = &streams.console {
        builder = builder.with_console_socket(Some(path));
    }
    if let Some([stdin, stdout, stderr]) = streams.inner.take() {
        builder =
            builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
    }
    let mut container = builder
        .as_init(&paths.run)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|e| create_failed(&e))?;
    drop(netns);
    let _ = fs::write("/proc/self/oom_score_adj", own_score);
    if let Some(dir) = layout.dir("devices", &order.cgroup) {
        limit_devices(&dir, &plan.device_rules, layout.is_unified())
            .map_err(|e| failed("could not limit the devices", &e))?;
    }
    let pid = container.pid().map(|pid| pid.as_raw()).unwrap_or(-1);
    let pidfd = pidfd_open(pid).map_err(io)?;
    container.start().map_err(|e| create_failed(&e))?;
    drop(error_write);
    await_exec(error_read, &plan.process.args)?;
    drop(container);
    drop(retreat);
    let (stdout, stderr) = streams.outer().map_err(io)?;
    let started = Started { pid, at_ms: now_ms() };
    remember(paths, started).map_err(io)?;
    trim_memory();
    Ok(RunningContainer {
        started,
        pid,
        pidfd,
        stdout,
        stderr,
        _stdin: streams.stdin,
        layout,
    })
}

/// Version 1 has the rules in the OCI configuration, but the runtime adds some
/// of its own: tunnels for everybody.
fn limit_devices(
    group: &Path,
    rules: &[DeviceRule],
    is_unified: bool,
) -> io::Result<()> {
    if is_unified {
        return bpf::attach_device_filter(group, rules);
    }
    let [major, minor] = devices::TUNNEL;
    if devices::is_named(rules, major, minor) {
        return Ok(());
    }
    fs::write(group.join("devices.deny"), format!("c {major}:{minor} rwm"))
}

/// Mounts the root file system, looks up what is named in it and writes the
/// OCI configuration.
fn prepare(
    mut spec: ContainerSpec,
    order: &Launch,
    paths: &ContainerPaths,
    layout: &Layout,
) -> Result<Plan, LaunchFailure> {
    let stage = LaunchStage::Prepare;
    rootfs::confine(&mut spec, paths).map_err(|e| flattened(stage, &e))?;
    if let Some(ipc) = &order.ipc_namespace {
        rootfs::share_shm(&mut spec, ipc, paths)
            .map_err(|e| flattened(stage, &e))?;
    }
    rootfs::mount(&spec, &order.mount_points, paths)
        .map_err(|e| flattened(stage, &e))?;
    let tree = paths.run.join("mounts").join("cgroup");
    let hierarchies = match layout {
        // What is privileged may change its groups.
        Layout::V1(mounts) if !spec.privileged => {
            hierarchies::mount(mounts, &order.cgroup, &tree).map_err(|e| {
                failed("could not mount the control groups", &e)
            })?;
            Some(tree.as_path())
        }
        Layout::V1(_) | Layout::V2(_) => None,
    };
    let is_unified = layout.is_unified();
    let rootfs = paths.rootfs();
    let plan = plan::plan(&spec, order, &rootfs, hierarchies, is_unified)
        .map_err(|e| flattened(stage, &e))?;
    write_json(&paths.config(), &plan.config)
        .map_err(|e| failed("could not write the configuration", &e))?;
    Ok(plan)
}

/// Waits until the first process is the command, or says why it is not.
fn await_exec(pipe: OwnedFd, args: &[String]) -> Result<(), LaunchFailure> {
    let mut errno = [0; 4];
    match File::from(pipe).read_exact(&mut errno) {
        // Closed by execve: it runs.
        Err(_) => Ok(()),
        Ok(()) => {
            let errno = i32::from_ne_bytes(errno);
            let name = args.first().map(String::as_str).unwrap_or("");
            let why = io::Error::from_raw_os_error(errno);
            Err(LaunchFailure {
                stage: LaunchStage::Exec,
                errno: Some(errno),
                message: format!("exec {name:?}: {why}"),
            })
        }
    }
}

fn remember(paths: &ContainerPaths, started: Started) -> io::Result<()> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let shim = ProcessMark::of(own).ok_or_else(gone)?;
    // A command that is done already has no mark any more; its id is all
    // that anybody will ask for.
    let init = ProcessMark::of(started.pid)
        .unwrap_or(ProcessMark { pid: started.pid, start_ticks: 0 });
    let running = Running { protocol: PROTOCOL, started, shim, init };
    write_json(&paths.running(), &running)
}

/// Gives libcontainer's leavings back; the shim needs next to nothing now.
fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: returns unused heap pages to the kernel; no pointer is touched.
    unsafe {
        libc::malloc_trim(0);
    }
}

pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let flags = rustix::process::PidfdFlags::empty();
    Ok(rustix::process::pidfd_open(pid, flags)?)
}

pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

pub(super) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// The container's ends of its streams and ours.
#[derive(Debug)]
struct Streams {
    inner: Option<[OwnedFd; 3]>,
    pipes: Option<(OwnedFd, OwnedFd)>,
    stdin: Option<OwnedFd>,
    console: Option<(UnixListener, std::path::PathBuf)>,
}

impl Streams {
    fn open(spec: &ContainerSpec, paths: &ContainerPaths) -> io::Result<Self> {
        if spec.tty {
            let path = paths.run.join("console.sock");
            let _ = fs::remove_file(&path);
            let listener = UnixListener::bind(&path)?;
            let console = Some((listener, path));
            let (inner, pipes, stdin) = (None, None, None);
            return Ok(Streams { inner, pipes, stdin, console });
        }
        let (stdin_read, stdin) = if spec.stdin {
            let (read, write) = pipe()?;
            (read, Some(write))
        } else {
            (OwnedFd::from(File::open("/dev/null")?), None)
        };
        let (stdout, stdout_write) = pipe()?;
        let (stderr, stderr_write) = pipe()?;
        Ok(Streams {
            inner: Some([stdin_read, stdout_write, stderr_write]),
            pipes: Some((stdout, stderr)),
            stdin,
            console: None,
        })
    }

    /// Our ends for reading: two pipes, or the terminal's master.
    fn outer(&mut self) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        if let Some((stdout, stderr)) = self.pipes.take() {
            set_nonblocking(&stdout)?;
            set_nonblocking(&stderr)?;
            return Ok((stdout, Some(stderr)));
        }
        let lost = || io::Error::from(io::ErrorKind::NotConnected);
        let (listener, path) = self.console.take().ok_or_else(lost)?;
        let master = receive_terminal(&listener)?;
        let _ = fs::remove_file(path);
        set_nonblocking(&master)?;
        Ok((master, None))
    }
}

/// Takes the terminal's master that the container's first process has sent.
fn receive_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    use rustix::net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg,
    };
    let (stream, _) = listener.accept()?;
    let mut space = [std::mem::MaybeUninit::uninit(); 64];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut parts = [io::IoSliceMut::new(&mut name)];
    recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    control
        .drain()
        .find_map(|message| {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fds.next()
            } else {
                None
            }
        })
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn create_failed(error: &dyn std::error::Error) -> LaunchFailure {
    flattened(LaunchStage::Create, error)
}

/// Flattens an error with its causes into one line.
fn flattened(
    stage: LaunchStage,
    error: &dyn std::error::Error,
) -> LaunchFailure {
    let mut message = error.to_string();
    let mut errno = None;
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            errno = io.raw_os_error();
        }
        source = cause.source();
    }
    LaunchFailure { stage, errno, message }
}

/// Finishes what libcontainer began, in the container's first process.
///
/// Its own executor compiles seccomp anew for each container and reports a
/// failing execve as nothing but an exit code.
#[derive(Clone, Debug)]
struct ShimExecutor {
    command: Command,
    init: bool,
    is_holder: bool,
    error_pipe: RawFd,
}

impl ShimExecutor {
    fn report(&self, errno: i32) -> ! {
        // SAFETY: writes four bytes of a live array to an open pipe, then
        // ends the process without running anything that belongs to the shim.
        unsafe {
            let bytes = errno.to_ne_bytes();
            libc::write(self.error_pipe, bytes.as_ptr().cast(), bytes.len());
            libc::_exit(EXIT_NOT_EXECUTED)
        }
    }
}

impl Executor for ShimExecutor {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        if self.is_holder {
            // It closes the pipe, which says that it runs.
            process::be_holder(&self.command);
        }
        if self.init {
            // SAFETY: one thread; the child goes on below, the parent stays
            // in `reap_until`, touching nothing of the shim's.
            match unsafe { libc::fork() } {
                -1 => self.report(
                    io::Error::last_os_error().raw_os_error().unwrap_or(0),
                ),
                0 => {}
                child => process::be_init(child, &self.command),
            }
        }
        self.report(self.command.become_command())
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        // execve itself is the judge, and its answer reaches the daemon.
        Ok(())
    }

    fn setup_envs(
        &self,
        _: HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        // The command is executed with an environment of its own, in order.
        Ok(())
    }
}

/// Removes what libcontainer keeps about a container.
pub(super) fn forget(runtime: &Path) {
    let _ = fs::remove_dir_all(runtime);
}
