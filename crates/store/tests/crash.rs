//! `kill -9` at random points, hundreds of times, and a disk that is really
//! full.
//!
//! The test runs itself as a child, which writes and says on a pipe what was
//! acknowledged. The seed decides when it is killed; where in its work that
//! finds it is up to the machine.

mod common;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
    time::Duration,
};

use common::{Follower, Rng, SayOnPanic, assert_kept, positions, step};
use minato_store::{OpenStoreError, Store, StoreOptions};
use tempfile::TempDir;

const CHILD: &str = "MINATO_STORE_CRASH_CHILD";
const WRITERS: u64 = 3;

/// A directory in memory where there is one: what a killed process wrote is
/// there whether or not it was synced, and hundreds of lives take seconds.
fn directory() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        tempfile::tempdir_in(shared_memory).expect("a directory")
    } else {
        tempfile::tempdir().expect("a directory")
    }
}

fn open(path: &Path) -> Result<Store, OpenStoreError> {
    let mut options = StoreOptions::default();
    // A checkpoint every few milliseconds, so that many a kill hits one.
    options.checkpoint_frames = 5;
    Store::open_dir(path, common::tables(), options)
}

/// Not a test of its own: what the child runs until it is killed.
#[test]
fn child() {
    let Some(directory) = env::var_os(CHILD) else { return };
    let store = open(Path::new(&directory)).expect("the child opens");
    let at = positions(&store.snapshot());
    let mut follower = Follower::new(&store);
    for writer in 0..WRITERS {
        let store = store.clone();
        let mut n = at.get(&writer).copied().unwrap_or(0);
        thread::spawn(move || {
            loop {
                n += 1;
                store.transact_blocking(step(writer, n)).expect("it writes");
                // One write below the size of a pipe's buffer: not torn.
                let line = format!("{writer} {n}\n");
                std::io::stderr().write_all(line.as_bytes()).expect("a pipe");
            }
        });
    }
    loop {
        // Panics, and so ends the child early, if the watch has a gap.
        follower.look();
        thread::sleep(Duration::from_millis(1));
    }
}

struct Killed {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Killed {
    fn start(directory: &Path) -> Killed {
        let this = env::current_exe().expect("the test's own binary");
        let mut child = Command::new(this)
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, directory)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let lines = child.stderr.take().expect("its pipe");
        Killed { child, lines: BufReader::new(lines) }
    }

    fn read(&mut self, acked: &mut BTreeMap<u64, u64>) -> bool {
        let mut line = String::new();
        if self.lines.read_line(&mut line).expect("the pipe reads") == 0 {
            return false;
        }
        let numbers: Option<(u64, u64)> = line
            .trim()
            .split_once(' ')
            .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (writer, n) = numbers.unwrap_or_else(|| {
            let mut rest = String::new();
            let _ = std::io::Read::read_to_string(&mut self.lines, &mut rest);
            panic!("the child said: {line}{rest}")
        });
        let before = acked.insert(writer, n).unwrap_or(0);
        assert!(n > before, "acknowledged in order");
        true
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One life of the child: a kill after some acknowledgements or some time.
fn life(path: &Path, rng: &mut Rng, acked: &mut BTreeMap<u64, u64>) {
    let mut killed = Killed::start(path);
    if rng.chance(4) {
        // While it opens, as likely as not.
        thread::sleep(Duration::from_micros(rng.below(12_000)));
    } else {
        for _ in 0..=rng.below(40) {
            assert!(killed.read(acked), "the child ended by itself");
        }
        thread::sleep(Duration::from_micros(rng.below(1500)));
    }
    killed.child.kill().expect("it is there to be killed");
    while killed.read(acked) {}
}

fn checkpoint_names(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).expect("the directory");
    let names = entries.map(|entry| entry.expect("an entry").path());
    names.filter(|path| path.extension().is_some_and(|e| e == "zst")).collect()
}

#[test]
fn acknowledged_writes_outlive_kill_9() {
    let seed = common::seeds(1)[0];
    let _say = SayOnPanic(seed);
    let mut rng = Rng(seed);
    let directory = directory();
    let mut acked = BTreeMap::new();
    let mut checkpoints = std::collections::BTreeSet::new();
    let mut unfinished = 0;
    for _ in 0..300 {
        life(directory.path(), &mut rng, &mut acked);
        checkpoints.extend(checkpoint_names(directory.path()));
        let half_done = directory.path().join("checkpoint.tmp");
        unfinished += u32::from(half_done.exists());
        let store = open(directory.path()).expect("it opens after a kill");
        let found = positions(&store.snapshot());
        assert_kept(&found, &acked);
        // What was under way may have happened, and counts from here on.
        acked = found;
    }
    println!("{} checkpoints, {unfinished} cut", checkpoints.len());
    assert!(checkpoints.len() > 50, "kills across checkpoints");
}

/// A tmpfs of its own in a mount namespace of its own. Gone with its thread.
fn on_small_disk(test: impl FnOnce(&Path) + Send) {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    if !nix::unistd::geteuid().is_root() {
        println!("not run: mounting a small disk takes root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let none = None::<&str>;
    thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).expect("private mounts");
            let flags = MsFlags::empty();
            mount(none, path, Some("tmpfs"), flags, Some("size=4m"))
                .expect("a small disk");
            test(path);
        });
    });
}

fn enlarge(path: &Path) {
    let flags = nix::mount::MsFlags::MS_REMOUNT;
    let none = None::<&str>;
    nix::mount::mount(none, path, none, flags, Some("size=64m"))
        .expect("a larger disk");
}

#[test]
fn a_full_disk_stops_writing_and_loses_nothing() {
    on_small_disk(|path| {
        let path = path.join("store");
        let store = open(&path).expect("it opens");
        let (mut big, mut refused) = (0u64, None);
        while refused.is_none() {
            big += 1;
            refused = store.transact_blocking(fill(big)).err();
        }
        big -= 1;
        let refused = refused.map(|e| e.flatten(|e| e.to_string()));
        let text = refused.unwrap_or_default();
        assert!(text.contains("takes no more writes"), "{text}");
        assert!(text.contains("No space left on device"), "{text}");
        let again = store.transact_blocking(step(0, 1));
        assert!(common::is_stopped(&again), "{again:?}");
        let readable =
            |store: &Store| store.snapshot().count::<common::Entry>() as u64;
        assert_eq!(readable(&store), big);
        assert!(big > 5, "the disk was not full from the start");
        drop(store);

        // Still full: it may open or say why not, but loses nothing.
        match open(&path) {
            Ok(store) => assert!(readable(&store) >= big),
            Err(error) => println!("full, it does not open: {error:?}"),
        }
        enlarge(path.parent().expect("the mount"));
        let store = open(&path).expect("with room it opens");
        assert!(readable(&store) >= big);
        store.transact_blocking(fill(1000)).expect("with room it writes");
    });
}

/// A row of 64 KiB that does not compress.
fn fill(
    n: u64,
) -> impl FnOnce(&mut minato_store::Tx) -> Result<(), String> + Send + 'static {
    let mut rng = Rng(n);
    let padding = (0..4096).map(|_| format!("{:016x}", rng.next())).collect();
    let row = common::Entry { writer: 9, n, padding };
    move |tx| {
        tx.put(row);
        Ok(())
    }
}
