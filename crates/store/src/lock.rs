//! One process per directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::OpenStoreError;

/// Held as long as it lives; the kernel lets go when the process dies.
///
/// The file holds the process id of the holder, and nothing after a clean
/// close: what is found in it tells of a crash.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
    after_crash: bool,
}

impl DirectoryLock {
    /// Takes the lock of `directory`, or says who has it.
    pub(crate) fn take(
        directory: &Path,
    ) -> Result<DirectoryLock, OpenStoreError> {
        let path = directory.join("lock");
        let failed =
            |source| OpenStoreError::Directory { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let locked = file.try_lock();
        let mut holder = String::new();
        // Only to say it; a file that cannot be read is no reason for
        // another error.
        let read = (&mut file).take(20).read_to_string(&mut holder);
        let holder = holder.trim();
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = if holder.is_empty() { "unknown" } else { holder };
                return Err(OpenStoreError::InUse {
                    path: directory.to_owned(),
                    holder: holder.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let after_crash = read.is_err() || !holder.is_empty();
        // A full disk must not keep the store from opening for reading.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DirectoryLock { file, after_crash })
    }

    /// Whether the last holder did not close cleanly.
    pub(crate) fn after_crash(&self) -> bool {
        self.after_crash
    }

    /// Lets go after all was closed cleanly.
    pub(crate) fn release_clean(self) {
        // If this fails, the next opening is a little slower.
        let _ = self.file.set_len(0);
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that this process is just
        // starting has a copy of it until it executes its program.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_file_does_not_keep_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(directory.path()).unwrap();
        let copy = lock.file.try_clone().unwrap();
        let taken = DirectoryLock::take(directory.path());
        assert!(matches!(taken, Err(OpenStoreError::InUse { .. })));
        drop(lock);
        assert!(DirectoryLock::take(directory.path()).is_ok());
        drop(copy);
    }
}
