//! Log files on the host that are rotated: `NAME`, `NAME.1`, `NAME.2` and so
//! on, the newest first, as Docker's `json-file` does.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// The open file, and how it is followed by the next.
pub(crate) struct LogFiles {
    path: PathBuf,
    file: File,
    size: u64,
    max_size_bytes: Option<u64>,
    max_files: u32,
}

impl LogFiles {
    /// Goes on with what is there.
    pub(crate) async fn open(
        path: &Path,
        max_size_bytes: Option<u64>,
        max_files: u32,
    ) -> io::Result<LogFiles> {
        if let Some(dir) = path.parent() {
            tokio::fs::create_dir_all(dir).await?;
        }
        let (file, size) = open(path).await?;
        let path = path.to_owned();
        Ok(LogFiles { path, file, size, max_size_bytes, max_files })
    }

    /// Writes lines, each whole into one file.
    pub(crate) async fn append(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        for line in lines {
            let len = line.len() as u64;
            let is_full = self
                .max_size_bytes
                .is_some_and(|max| self.size.saturating_add(len) > max);
            if is_full && self.size > 0 {
                self.rotate().await?;
            }
            self.file.write_all(line).await?;
            self.size += len;
        }
        self.file.flush().await
    }

    async fn rotate(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        for number in (1..self.max_files).rev() {
            let from = numbered(&self.path, number - 1);
            match tokio::fs::rename(from, numbered(&self.path, number)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        if self.max_files <= 1 {
            tokio::fs::remove_file(&self.path).await?;
        }
        (self.file, self.size) = open(&self.path).await?;
        Ok(())
    }
}

async fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = File::options().create(true).append(true).open(path).await?;
    let size = file.metadata().await?.len();
    Ok((file, size))
}

/// The file that so many newer ones follow.
fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_rotated_and_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/app-json.log");
        for number in 0..10 {
            // Anew each time, as a new agent would.
            let mut files = LogFiles::open(&path, Some(30), 3).await.unwrap();
            let line = format!("line number {number}\n").into_bytes();
            files.append(&[line]).await.unwrap();
        }
        let read =
            |number| std::fs::read_to_string(numbered(&path, number)).unwrap();
        assert_eq!(read(0), "line number 8\nline number 9\n");
        assert_eq!(read(1), "line number 6\nline number 7\n");
        assert_eq!(read(2), "line number 4\nline number 5\n");
        assert!(!numbered(&path, 3).exists());
    }

    #[tokio::test]
    async fn a_line_longer_than_a_file_has_one_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut files = LogFiles::open(&path, Some(4), 1).await.unwrap();
        let lines = [b"too long\n".to_vec(), b"b\n".to_vec()];
        files.append(&lines).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b\n");
    }
}
