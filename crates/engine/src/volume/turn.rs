//! Turns at a path: one at a time works on it, and nobody waits for others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use parking_lot::{Condvar, Mutex};

static TAKEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static GIVEN_BACK: Condvar = Condvar::new();

/// A turn; dropped, the next one has it.
pub(super) struct Turn {
    path: PathBuf,
}

/// Waits until nobody else has a turn at the path.
pub(super) fn take(path: &Path) -> Turn {
    let mut taken = TAKEN.lock();
    while !taken.insert(path.to_owned()) {
        GIVEN_BACK.wait(&mut taken);
    }
    Turn { path: path.to_owned() }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.lock().remove(&self.path);
        GIVEN_BACK.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn one_waits_for_the_same_path_only() {
        let path = Path::new("/turn/a");
        let first = take(path);
        drop(take(Path::new("/turn/b")));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let next = scope.spawn(|| {
                let _turn = take(path);
                is_over.load(Ordering::SeqCst)
            });
            is_over.store(true, Ordering::SeqCst);
            drop(first);
            assert!(next.join().expect("it ends"));
        });
    }
}
