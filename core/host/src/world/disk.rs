//! The session file: small writes at fixed places, durable before they are told (C7).

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use runtime::Disk;
use tokio::task::{JoinHandle, spawn_blocking};

/// A small file that is written in place, off the threads that run the node.
#[derive(Debug)]
pub struct SessionFile {
    path: PathBuf,
    waiting: VecDeque<(u64, Vec<u8>)>,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl SessionFile {
    /// The file at `path`; it is made when it is first written.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, waiting: VecDeque::new(), running: None }
    }

    /// Starts the oldest write if none runs: writes reach the disk one after the other.
    fn advance(&mut self) {
        if self.running.is_none()
            && let Some((offset, bytes)) = self.waiting.pop_front()
        {
            let path = self.path.clone();
            self.running = Some(spawn_blocking(move || store(&path, offset, &bytes)));
        }
    }
}

impl Disk for SessionFile {
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let path = self.path.clone();
        let read = spawn_blocking(move || match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        read.await.map_err(io::Error::other)?
    }

    fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        self.waiting.push_back((offset, bytes));
        self.advance();
    }

    async fn written(&mut self) -> io::Result<()> {
        self.advance();
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let written = running.await.map_err(io::Error::other);
        self.running = None;
        self.advance();
        written?
    }
}

/// Writes and syncs, and syncs the folder too, so that the file's name survives a crash.
///
/// A file that is not there yet is made whole under another name and then renamed: a crash leaves
/// either none, which means session 1, or one with a valid slot. In place it could leave one
/// without, with which no node may start (C7).
fn store(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    if path.try_exists()? {
        write_at(path, offset, bytes)?;
    } else {
        let fresh = path.with_added_extension("new");
        write_at(&fresh, offset, bytes)?;
        fs::rename(&fresh, path)?;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    file.write_all_at(bytes, offset)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_written_in_place_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.session");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut disk = SessionFile::new(path);
            assert_eq!(disk.read().await.unwrap(), None);
            disk.write(16, vec![2; 16]);
            disk.write(0, vec![1; 16]);
            disk.written().await.unwrap();
            disk.written().await.unwrap();
            let bytes = disk.read().await.unwrap().unwrap();
            assert_eq!(bytes, [[1; 16], [2; 16]].concat());
            let left_over = folder.path().join("node.session.new");
            assert!(!left_over.exists(), "the first write is renamed into place");
        });
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("node.session");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut disk = SessionFile::new(path);
            disk.write(0, vec![1; 16]);
            let error = disk.written().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        });
    }
}
