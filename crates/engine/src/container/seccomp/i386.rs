//! What 32-bit programs may call on an x86_64 machine.
//!
//! They have a table of calls of their own, which seccompiler does not know:
//! this writes the program for it, from the same lists of names as the 64-bit
//! one, and puts it before that one.
//!
//! A socket's family can be filtered in `socket` but not in the older
//! `socketcall`, whose arguments lie in memory. A 64-bit program can make
//! 32-bit calls too, so that letting `socketcall` through would undo the
//! refusals for everybody: it answers ENOSYS. Programs that call `socket`
//! itself (musl) have a network; those that do not (Go, and a glibc built for
//! kernels before 4.3, as Debian's) run, but without one.

use std::collections::{BTreeMap, BTreeSet};

use super::program::{
    ALLOW, ARCH, ARGUMENT, INSTRUCTION_BYTES, JUMP, JUMP_ANY_BIT, JUMP_EQUAL,
    JUMP_GREATER, JUMP_GREATER_EQUAL, LOAD, NUMBER, REFUSE, RETURN, UNKNOWN,
    instruction, jump, ranges,
};
use super::{CLONE_NAMESPACES, PERSONALITIES, REFUSED_FAMILIES, caps, table};

/// `AUDIT_ARCH_I386`: how the kernel names the table a call came through.
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
/// `socketcall`, which no other table has.
const SOCKETCALL: u32 = 102;

/// Calls that only this table has, allowed to everyone.
const ONLY_I386: &str = "\
    _llseek _newselect chown32 clock_adjtime64 clock_getres_time64 \
    clock_gettime64 clock_nanosleep_time64 fadvise64_64 fchown32 fcntl64 \
    fstat64 fstatat64 fstatfs64 ftruncate64 futex_time64 getegid32 geteuid32 \
    getgid32 getgroups32 getresgid32 getresuid32 getuid32 \
    io_pgetevents_time64 ipc lchown32 lstat64 mmap2 mq_timedreceive_time64 \
    mq_timedsend_time64 nice ppoll_time64 pselect6_time64 recvmmsg_time64 \
    rt_sigtimedwait_time64 sched_rr_get_interval_time64 semtimedop_time64 \
    sendfile64 setfsgid32 setfsuid32 setgid32 setgroups32 setregid32 \
    setresgid32 setresuid32 setreuid32 setuid32 sigprocmask sigreturn stat64 \
    statfs64 timer_gettime64 timer_settime64 timerfd_gettime64 \
    timerfd_settime64 truncate64 ugetrlimit utimensat_time64 waitpid";

/// The numbers of all calls that the profile names. One text and not a table
/// of pointers, which would cost every shim its relocated pages.
const NUMBERS: &str = "\
    restart_syscall=0 exit=1 fork=2 read=3 write=4 open=5 close=6 waitpid=7 \
    creat=8 link=9 unlink=10 execve=11 chdir=12 time=13 mknod=14 chmod=15 \
    lchown=16 lseek=19 getpid=20 mount=21 umount=22 setuid=23 getuid=24 \
    stime=25 ptrace=26 alarm=27 pause=29 utime=30 access=33 nice=34 sync=36 \
    kill=37 rename=38 mkdir=39 rmdir=40 dup=41 pipe=42 times=43 brk=45 \
    setgid=46 getgid=47 geteuid=49 getegid=50 acct=51 umount2=52 ioctl=54 \
    fcntl=55 setpgid=57 umask=60 chroot=61 dup2=63 getppid=64 getpgrp=65 \
    setsid=66 setreuid=70 setregid=71 sethostname=74 setrlimit=75 \
    getrlimit=76 getrusage=77 gettimeofday=78 settimeofday=79 getgroups=80 \
    setgroups=81 select=82 symlink=83 readlink=85 reboot=88 mmap=90 \
    munmap=91 truncate=92 ftruncate=93 fchmod=94 fchown=95 getpriority=96 \
    setpriority=97 statfs=99 fstatfs=100 ioperm=101 syslog=103 setitimer=104 \
    getitimer=105 stat=106 lstat=107 fstat=108 iopl=110 vhangup=111 \
    wait4=114 sysinfo=116 ipc=117 fsync=118 sigreturn=119 clone=120 \
    setdomainname=121 uname=122 modify_ldt=123 adjtimex=124 mprotect=125 \
    sigprocmask=126 init_module=128 delete_module=129 quotactl=131 \
    getpgid=132 fchdir=133 personality=136 setfsuid=138 setfsgid=139 \
    _llseek=140 getdents=141 _newselect=142 flock=143 msync=144 readv=145 \
    writev=146 getsid=147 fdatasync=148 mlock=150 munlock=151 mlockall=152 \
    munlockall=153 sched_setparam=154 sched_getparam=155 \
    sched_setscheduler=156 sched_getscheduler=157 sched_yield=158 \
    sched_get_priority_max=159 sched_get_priority_min=160 \
    sched_rr_get_interval=161 nanosleep=162 mremap=163 setresuid=164 \
    getresuid=165 poll=168 setresgid=170 getresgid=171 prctl=172 \
    rt_sigreturn=173 rt_sigaction=174 rt_sigprocmask=175 rt_sigpending=176 \
    rt_sigtimedwait=177 rt_sigqueueinfo=178 rt_sigsuspend=179 pread64=180 \
    pwrite64=181 chown=182 getcwd=183 capget=184 capset=185 sigaltstack=186 \
    sendfile=187 vfork=190 ugetrlimit=191 mmap2=192 truncate64=193 \
    ftruncate64=194 stat64=195 lstat64=196 fstat64=197 lchown32=198 \
    getuid32=199 getgid32=200 geteuid32=201 getegid32=202 setreuid32=203 \
    setregid32=204 getgroups32=205 setgroups32=206 fchown32=207 \
    setresuid32=208 getresuid32=209 setresgid32=210 getresgid32=211 \
    chown32=212 setuid32=213 setgid32=214 setfsuid32=215 setfsgid32=216 \
    mincore=218 madvise=219 getdents64=220 fcntl64=221 gettid=224 \
    readahead=225 setxattr=226 lsetxattr=227 fsetxattr=228 getxattr=229 \
    lgetxattr=230 fgetxattr=231 listxattr=232 llistxattr=233 flistxattr=234 \
    removexattr=235 lremovexattr=236 fremovexattr=237 tkill=238 \
    sendfile64=239 futex=240 sched_setaffinity=241 sched_getaffinity=242 \
    set_thread_area=243 get_thread_area=244 io_setup=245 io_destroy=246 \
    io_getevents=247 io_submit=248 io_cancel=249 fadvise64=250 \
    exit_group=252 lookup_dcookie=253 epoll_create=254 epoll_ctl=255 \
    epoll_wait=256 remap_file_pages=257 set_tid_address=258 timer_create=259 \
    timer_settime=260 timer_gettime=261 timer_getoverrun=262 \
    timer_delete=263 clock_settime=264 clock_gettime=265 clock_getres=266 \
    clock_nanosleep=267 statfs64=268 fstatfs64=269 tgkill=270 utimes=271 \
    fadvise64_64=272 mbind=274 get_mempolicy=275 set_mempolicy=276 \
    mq_open=277 mq_unlink=278 mq_timedsend=279 mq_timedreceive=280 \
    mq_notify=281 mq_getsetattr=282 waitid=284 ioprio_set=289 ioprio_get=290 \
    inotify_init=291 inotify_add_watch=292 inotify_rm_watch=293 openat=295 \
    mkdirat=296 mknodat=297 fchownat=298 futimesat=299 fstatat64=300 \
    unlinkat=301 renameat=302 linkat=303 symlinkat=304 readlinkat=305 \
    fchmodat=306 faccessat=307 pselect6=308 ppoll=309 unshare=310 \
    set_robust_list=311 get_robust_list=312 splice=313 sync_file_range=314 \
    tee=315 vmsplice=316 getcpu=318 epoll_pwait=319 utimensat=320 \
    signalfd=321 timerfd_create=322 eventfd=323 fallocate=324 \
    timerfd_settime=325 timerfd_gettime=326 signalfd4=327 eventfd2=328 \
    epoll_create1=329 dup3=330 pipe2=331 inotify_init1=332 preadv=333 \
    pwritev=334 rt_tgsigqueueinfo=335 perf_event_open=336 recvmmsg=337 \
    fanotify_init=338 fanotify_mark=339 prlimit64=340 name_to_handle_at=341 \
    open_by_handle_at=342 clock_adjtime=343 syncfs=344 sendmmsg=345 \
    setns=346 process_vm_readv=347 process_vm_writev=348 kcmp=349 \
    finit_module=350 sched_setattr=351 sched_getattr=352 renameat2=353 \
    seccomp=354 getrandom=355 memfd_create=356 bpf=357 execveat=358 \
    socket=359 socketpair=360 bind=361 connect=362 listen=363 accept4=364 \
    getsockopt=365 setsockopt=366 getsockname=367 getpeername=368 sendto=369 \
    sendmsg=370 recvfrom=371 recvmsg=372 shutdown=373 membarrier=375 \
    mlock2=376 copy_file_range=377 preadv2=378 pwritev2=379 \
    pkey_mprotect=380 pkey_alloc=381 pkey_free=382 statx=383 arch_prctl=384 \
    io_pgetevents=385 rseq=386 semget=393 semctl=394 shmget=395 shmctl=396 \
    shmat=397 shmdt=398 msgget=399 msgsnd=400 msgrcv=401 msgctl=402 \
    clock_gettime64=403 clock_settime64=404 clock_adjtime64=405 \
    clock_getres_time64=406 clock_nanosleep_time64=407 timer_gettime64=408 \
    timer_settime64=409 timerfd_gettime64=410 timerfd_settime64=411 \
    utimensat_time64=412 pselect6_time64=413 ppoll_time64=414 \
    io_pgetevents_time64=416 recvmmsg_time64=417 mq_timedsend_time64=418 \
    mq_timedreceive_time64=419 semtimedop_time64=420 \
    rt_sigtimedwait_time64=421 futex_time64=422 \
    sched_rr_get_interval_time64=423 pidfd_send_signal=424 open_tree=428 \
    move_mount=429 fsopen=430 fsconfig=431 fsmount=432 fspick=433 \
    pidfd_open=434 clone3=435 close_range=436 openat2=437 pidfd_getfd=438 \
    faccessat2=439 process_madvise=440 epoll_pwait2=441 mount_setattr=442 \
    quotactl_fd=443 landlock_create_ruleset=444 landlock_add_rule=445 \
    landlock_restrict_self=446 memfd_secret=447 process_mrelease=448 \
    futex_waitv=449 set_mempolicy_home_node=450 cachestat=451 fchmodat2=452 \
    map_shadow_stack=453 futex_wake=454 futex_wait=455 futex_requeue=456 \
    statmount=457 listmount=458 lsm_get_self_attr=459 lsm_set_self_attr=460 \
    lsm_list_modules=461 mseal=462";

/// Returns `main` with the 32-bit table's program behind it and, in front, the
/// jump to the one that a call belongs to.
pub(super) fn beside(main: &[u8], capabilities: u64) -> Vec<u8> {
    let length = u32::try_from(main.len() / INSTRUCTION_BYTES).unwrap_or(0);
    let mut whole = [
        instruction(LOAD, 0, 0, ARCH),
        instruction(JUMP_EQUAL, 0, 1, AUDIT_ARCH_I386),
        instruction(JUMP, 0, 0, length),
    ]
    .concat();
    whole.extend(main);
    whole.extend(program(capabilities).concat());
    whole
}

fn program(capabilities: u64) -> Vec<[u8; INSTRUCTION_BYTES]> {
    let numbers = numbers();
    let mut allowed: BTreeSet<u32> = names(capabilities)
        .into_iter()
        .filter_map(|name| numbers.get(name).copied())
        .collect();
    let mut steps = vec![
        instruction(LOAD, 0, 0, NUMBER),
        instruction(JUMP_EQUAL, 0, 1, SOCKETCALL),
        instruction(RETURN, 0, 0, UNKNOWN),
    ];
    for (name, tests) in with_argument() {
        let number = numbers[name];
        if name == "clone" && allowed.contains(&number) {
            continue;
        }
        allowed.remove(&number);
        let skip = jump(tests.len() + 1);
        steps.push(instruction(JUMP_EQUAL, 0, skip, number));
        steps.push(instruction(LOAD, 0, 0, ARGUMENT));
        steps.extend(tests);
    }
    for (first, last) in ranges(&allowed) {
        steps.extend([
            instruction(JUMP_GREATER, 3, 0, last),
            instruction(JUMP_GREATER_EQUAL, 0, 1, first),
            instruction(RETURN, 0, 0, ALLOW),
            instruction(RETURN, 0, 0, REFUSE),
        ]);
    }
    steps.push(instruction(RETURN, 0, 0, REFUSE));
    steps
}

/// Calls that depend on their first argument, each with the end of a program
/// that decides on it.
fn with_argument() -> [(&'static str, Vec<[u8; INSTRUCTION_BYTES]>); 3] {
    let end = |otherwise: u32, matched: u32| {
        [
            instruction(RETURN, 0, 0, otherwise),
            instruction(RETURN, 0, 0, matched),
        ]
    };
    let any_of = |values: &[u32], matched: u32, otherwise: u32| {
        let count = jump(values.len());
        (0_u8..)
            .zip(values)
            .map(|(at, value)| instruction(JUMP_EQUAL, count - at, 0, *value))
            .chain(end(otherwise, matched))
            .collect()
    };
    let namespaces =
        std::iter::once(instruction(JUMP_ANY_BIT, 1, 0, CLONE_NAMESPACES));
    [
        ("socket", any_of(&REFUSED_FAMILIES, REFUSE, ALLOW)),
        ("personality", any_of(&PERSONALITIES, ALLOW, REFUSE)),
        ("clone", namespaces.chain(end(ALLOW, REFUSE)).collect()),
    ]
}

fn names(capabilities: u64) -> BTreeSet<&'static str> {
    let has =
        |name: &str| caps::bit(name).is_some_and(|bit| capabilities & bit != 0);
    let mut names: BTreeSet<&str> = table::COMMON
        .iter()
        .chain(table::ONLY_X86_64)
        .copied()
        .chain(ONLY_I386.split_whitespace())
        .collect();
    for (capability, calls) in table::BY_CAPABILITY {
        if has(capability) {
            names.extend(*calls);
        }
    }
    let older: [(&str, &[&str]); 3] = [
        ("SYS_RAWIO", &["ioperm", "iopl"]),
        ("SYS_ADMIN", &["umount"]),
        ("SYS_TIME", &["clock_settime64", "stime"]),
    ];
    for (capability, calls) in older {
        if has(capability) {
            names.extend(calls);
        }
    }
    names
}

fn numbers() -> BTreeMap<&'static str, u32> {
    NUMBERS
        .split_whitespace()
        .filter_map(|entry| entry.split_once('='))
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::seccomp::program::run;

    #[test]
    fn each_call_is_allowed_or_refused_as_the_profile_names_it() {
        for capabilities in [0, caps::DEFAULT, caps::ALL] {
            let main = [instruction(RETURN, 0, 0, 1)].concat();
            let whole = beside(&main, capabilities);
            assert_eq!(run(&whole, 0xc000_003e, 0, 0), 1, "the 64-bit table");
            let numbers = numbers();
            let named: BTreeSet<u32> = names(capabilities)
                .iter()
                .filter_map(|name| numbers.get(name).copied())
                .collect();
            for number in 0..600 {
                let verdict = run(&whole, AUDIT_ARCH_I386, number, 0);
                let known = named.contains(&number)
                    || with_argument()
                        .iter()
                        .any(|(n, _)| numbers[n] == number);
                let expected = match number {
                    SOCKETCALL => UNKNOWN,
                    _ if known => ALLOW,
                    _ => REFUSE,
                };
                assert_eq!(verdict, expected, "{number} {capabilities:x}");
            }
        }
    }

    #[test]
    fn arguments_decide_where_they_must() {
        let whole = beside(&[], caps::DEFAULT);
        let mighty = beside(&[], caps::ALL);
        let numbers = numbers();
        let cases = [
            ("socket", libc::AF_INET as u32, ALLOW, ALLOW),
            ("socket", libc::AF_ALG as u32, REFUSE, REFUSE),
            ("socket", libc::AF_VSOCK as u32, REFUSE, REFUSE),
            ("personality", 0x8, ALLOW, ALLOW),
            ("personality", 0xffff_ffff, ALLOW, ALLOW),
            ("personality", 0x4_0000, REFUSE, REFUSE),
            ("clone", libc::SIGCHLD as u32, ALLOW, ALLOW),
            ("clone", libc::CLONE_NEWUSER as u32, REFUSE, ALLOW),
        ];
        for (name, argument, plain, all) in cases {
            let number = numbers[name];
            let verdict = run(&whole, AUDIT_ARCH_I386, number, argument);
            assert_eq!(verdict, plain, "{name}({argument:#x})");
            let verdict = run(&mighty, AUDIT_ARCH_I386, number, argument);
            assert_eq!(verdict, all, "{name}({argument:#x}), capable");
        }
    }

    #[test]
    fn every_name_of_this_table_has_a_number() {
        let numbers = numbers();
        for name in ONLY_I386.split_whitespace() {
            assert!(numbers.contains_key(name), "{name}");
        }
        assert_eq!(numbers.len(), NUMBERS.split_whitespace().count());
    }
}
