//! Checkpoints as files in a directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{Checkpoints, WriteContent};

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".zst";
/// While it is written; left by a crash, removed on opening.
const UNFINISHED: &str = "checkpoint.tmp";

/// [`Checkpoints`] as `checkpoint-<revision>.zst` in one directory.
#[derive(Debug)]
pub struct CheckpointDirectory {
    path: PathBuf,
}

impl CheckpointDirectory {
    /// Uses `path`, which must exist; removes what a crash left half-done.
    pub fn open(path: &Path) -> io::Result<CheckpointDirectory> {
        let directory = CheckpointDirectory { path: path.to_owned() };
        directory.discard_unfinished()?;
        Ok(directory)
    }

    fn discard_unfinished(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(UNFINISHED)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn file(&self, revision: u64) -> PathBuf {
        // As wide as u64 gets, so that `ls` lists them in order.
        self.path.join(format!("{PREFIX}{revision:020}{SUFFIX}"))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn write_and_rename(
        &self,
        revision: u64,
        content: &mut WriteContent<'_>,
    ) -> io::Result<()> {
        let unfinished = self.path.join(UNFINISHED);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600) // it holds what the journal holds
            .open(&unfinished)?;
        let mut out = BufWriter::new(file);
        content(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        fs::rename(&unfinished, self.file(revision))?;
        self.sync()
    }
}

impl Checkpoints for CheckpointDirectory {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        let mut revisions = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let revision: Option<u64> = name
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX))
                .and_then(|name| name.strip_suffix(SUFFIX))
                .and_then(|revision| revision.parse().ok());
            revisions.extend(revision);
        }
        Ok(revisions)
    }

    fn open(&self, revision: u64) -> io::Result<Box<dyn Read>> {
        let file = File::open(self.file(revision))?;
        Ok(Box::new(BufReader::new(file)))
    }

    fn write(
        &self,
        revision: u64,
        content: &mut WriteContent<'_>,
    ) -> io::Result<()> {
        let written = self.write_and_rename(revision, content);
        if written.is_err() {
            // Its space may be what the disk lacks. If this fails too, the
            // next opening tries again.
            let _ = self.discard_unfinished();
        }
        written
    }

    fn remove(&self, revision: u64) -> io::Result<()> {
        fs::remove_file(self.file(revision))
    }
}
