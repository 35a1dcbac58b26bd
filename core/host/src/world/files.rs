//! The files of the ledger on real folders: positioned reads and writes, syncs, names (L20–L24).
//!
//! ```text
//!   submit ─► waiting ── nothing before it on its file, and a free worker ──► worker (a thread)
//!                                                                               │
//!   ended ◄──────────────────── inbox ◄── report: result, opened file ──────────┘
//! ```
//!
//! The queue and the open files belong to the one who submits; a worker gets one task at a time,
//! with the open file that it needs, and shares nothing. So filling a spare segment with zeros or
//! syncing a snapshot holds up no group commit.
//!
//! A file is written and synced through one and the same open file for as long as it is in use:
//! the operating system tells the failure of a write-back to those who had the file open then. So
//! reads leave the files that are open as they are.
//!
//! Reads go beside reads, writes and syncs of the same file: however many follow the events, the
//! group commit waits for none of them (L20).

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::future::pending;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use machines::ledger::journal::io::DiskError;
use machines::ledger::recovery::io::Listed;
use runtime::{Fault, Files, Folder, LedgerFile, Task, TaskId, Told};
use sync::{Channel, Inbox, MailboxOptions};

use crate::files;

/// As many tasks as a journal (write, sync, names, spare), a snapshot and the readers of events
/// (two at a time) have out.
const WORKERS: usize = 7;
/// Files kept open: the segment, the spare, a snapshot, and what was written before them.
const OPEN_MAX: usize = 8;
/// How many zeros are written at a time.
const ZEROS: usize = 1 << 20;

/// The files of one ledger. Dropping it waits for the tasks that were begun; only then is the data
/// folder free for another process (L2, L79).
pub struct LedgerFiles {
    data: PathBuf,
    workers: Vec<Worker>,
    /// Which workers have nothing to do.
    free: Vec<usize>,
    /// Submitted and not begun, oldest first.
    waiting: VecDeque<(TaskId, Task)>,
    running: Vec<(usize, Task)>,
    /// Open files, the one that was used last at the end.
    open: VecDeque<(LedgerFile, Arc<File>)>,
    reports: Inbox<Report>,
    /// Whoever writes holds the folder: given up after the last worker has ended.
    _held: files::Folder,
}

#[derive(Debug)]
struct Worker {
    /// Closed to end the thread.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    id: TaskId,
    task: Task,
    file: Option<Arc<File>>,
}

#[derive(Debug)]
struct Report {
    worker: usize,
    id: TaskId,
    result: Result<Told, Fault>,
    /// The file that is open now, and its name.
    open: Option<(LedgerFile, Arc<File>)>,
}

impl fmt::Debug for LedgerFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, waiting, running, .. } = self;
        let mut shown = f.debug_struct("LedgerFiles");
        shown.field("data", data).field("waiting", waiting).field("running", running).finish()
    }
}

impl LedgerFiles {
    /// Opens the ledger in the data folder that this process holds (L2), holds the folder as well,
    /// and makes its two folders if they are not there.
    ///
    /// # Errors
    ///
    /// A folder cannot be made, or a thread not be started.
    pub fn open(held: &files::Folder) -> io::Result<Self> {
        let data = held.path().to_owned();
        for folder in Folder::ALL {
            match DirBuilder::new().mode(0o700).create(data.join(folder.name())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        File::open(&data)?.sync_all()?;
        let (tell, reports) = sync::channel(MailboxOptions::unbounded());
        let workers: Vec<Worker> = (0..WORKERS)
            .map(|number| Worker::start(number, data.clone(), tell.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            data,
            free: (0..workers.len()).rev().collect(),
            workers,
            waiting: VecDeque::new(),
            running: Vec::new(),
            open: VecDeque::new(),
            reports,
            _held: held.clone(),
        })
    }

    /// Returns the data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Begins whatever can begin.
    fn advance(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() && !self.free.is_empty() {
            let task = &self.waiting[at].1;
            let before = self.waiting.iter().take(at).map(|(_, earlier)| earlier);
            let mut before = self.running.iter().map(|(_, earlier)| earlier).chain(before);
            if before.any(|earlier| must_follow(earlier, task)) {
                at += 1;
            } else if let Some((id, task)) = self.waiting.remove(at) {
                self.begin(id, task);
            }
        }
    }

    fn begin(&mut self, id: TaskId, task: Task) {
        let worker = self.free.pop().expect("the caller knows of a free worker");
        let file = match &task {
            Task::Write { file, .. } | Task::Sync { file } | Task::ReadAt { file, .. } => {
                self.find(*file)
            }
            Task::Create { file, .. } | Task::Remove { file } => {
                self.forget(*file);
                None
            }
            Task::Rename { from, to } => {
                self.forget(*to);
                self.forget(*from)
            }
            Task::SyncDir { .. } | Task::List { .. } | Task::Room => None,
        };
        self.running.push((worker, task.clone()));
        let jobs = self.workers[worker].jobs.as_ref().expect("it is closed by the drop alone");
        let sent = jobs.send(Job { id, task, file });
        sent.expect("a worker ends with its jobs");
    }

    /// Finds an open file, which is the one used last from now on.
    fn find(&mut self, file: LedgerFile) -> Option<Arc<File>> {
        let open = self.forget(file)?;
        self.open.push_back((file, Arc::clone(&open)));
        Some(open)
    }

    /// Takes a file from those that are open.
    fn forget(&mut self, file: LedgerFile) -> Option<Arc<File>> {
        let at = self.open.iter().position(|(known, _)| *known == file)?;
        self.open.remove(at).map(|(_, open)| open)
    }

    fn reported(&mut self, report: Report) -> (TaskId, Result<Told, Fault>) {
        self.free.push(report.worker);
        self.running.retain(|(worker, _)| *worker != report.worker);
        if let Some((file, open)) = report.open {
            self.forget(file);
            self.open.push_back((file, open));
            if self.open.len() > OPEN_MAX {
                self.open.pop_front();
            }
        }
        self.advance();
        (report.id, report.result)
    }
}

impl Files for LedgerFiles {
    fn submit(&mut self, id: TaskId, task: Task) {
        self.waiting.push_back((id, task));
        self.advance();
    }

    async fn ended(&mut self) -> (TaskId, Result<Told, Fault>) {
        match self.reports.receive().await {
            Some(report) => self.reported(report),
            None => pending().await,
        }
    }
}

impl Drop for LedgerFiles {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.jobs = None;
        }
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            // One that panicked does nothing any more either.
            let _ = thread.join();
        }
    }
}

/// Says whether `task` waits until the `earlier` one has ended: on the same file, but for a write
/// behind a sync, and a read beside whatever changes neither the name nor the length of the file.
fn must_follow(earlier: &Task, task: &Task) -> bool {
    let beside = matches!(
        (earlier, task),
        (Task::Sync { .. } | Task::ReadAt { .. }, Task::Write { .. })
            | (Task::ReadAt { .. }, Task::Sync { .. })
            | (Task::ReadAt { .. } | Task::Write { .. } | Task::Sync { .. }, Task::ReadAt { .. })
    );
    let shared = |file: &LedgerFile| files_of(task).contains(&Some(*file));
    !beside && files_of(earlier).iter().flatten().any(shared)
}

/// Returns the files that a task is about.
fn files_of(task: &Task) -> [Option<LedgerFile>; 2] {
    match task {
        Task::Create { file, .. }
        | Task::Write { file, .. }
        | Task::Sync { file }
        | Task::Remove { file }
        | Task::ReadAt { file, .. } => [Some(*file), None],
        Task::Rename { from, to } => [Some(*from), Some(*to)],
        Task::SyncDir { .. } | Task::List { .. } | Task::Room => [None, None],
    }
}

impl Worker {
    fn start(number: usize, data: PathBuf, tell: Channel<Report>) -> io::Result<Self> {
        let (jobs, inbox) = channel();
        let thread = thread::Builder::new()
            .name(format!("ledger-{number}"))
            .spawn(move || work(number, &data, &inbox, &tell))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }
}

fn work(worker: usize, data: &Path, jobs: &Receiver<Job>, tell: &Channel<Report>) {
    while let Ok(Job { id, task, file }) = jobs.recv() {
        // Nothing else is sent before this is reported.
        let goes_on = || matches!(jobs.try_recv(), Err(TryRecvError::Empty));
        let mut open = file;
        let done = perform(data, &task, &mut open, goes_on);
        let name = match (&task, &done) {
            (Task::Rename { .. }, Err(_)) => None,
            (Task::Rename { to, .. }, Ok(_)) => Some(*to),
            // Another may write the file meanwhile, through the open one that it found.
            (Task::ReadAt { .. }, Ok(_) | Err(_)) => None,
            (_, Ok(_) | Err(_)) => files_of(&task)[0],
        };
        let result = done.map_err(|error| fault(&task, &error));
        let open = name.zip(open);
        if tell.send(Report { worker, id, result, open }).is_err() {
            return;
        }
    }
}

/// Does one task. `open` is the file, if it is open already, and becomes it, if it is then.
fn perform(
    data: &Path,
    task: &Task,
    open: &mut Option<Arc<File>>,
    goes_on: impl Fn() -> bool,
) -> io::Result<Told> {
    match task {
        Task::Create { file, bytes } => {
            let file = Arc::new(options().create(true).truncate(true).open(path(data, *file))?);
            *open = Some(Arc::clone(&file));
            fill(&file, *bytes, goes_on)?;
        }
        Task::Write { file, offset, bytes } => {
            opened(data, *file, open)?.write_all_at(bytes, *offset)?;
        }
        Task::Sync { file } => opened(data, *file, open)?.sync_data()?,
        Task::Rename { from, to } => fs::rename(path(data, *from), path(data, *to))?,
        Task::Remove { file } => match fs::remove_file(path(data, *file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        },
        Task::SyncDir { folder } => File::open(data.join(folder.name()))?.sync_all()?,
        Task::List { folder } => return list(&data.join(folder.name())).map(Told::Listed),
        Task::ReadAt { file, offset, bytes } => {
            let file = opened(data, *file, open)?;
            return read_at(&file, *offset, *bytes).map(Told::Read);
        }
        Task::Room => return room(data).map(Told::Room),
    }
    Ok(Told::Done)
}

fn path(data: &Path, file: LedgerFile) -> PathBuf {
    data.join(file.to_string())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn opened(data: &Path, file: LedgerFile, open: &mut Option<Arc<File>>) -> io::Result<Arc<File>> {
    if let Some(open) = open {
        return Ok(Arc::clone(open));
    }
    let file = Arc::new(options().open(path(data, file))?);
    *open = Some(Arc::clone(&file));
    Ok(file)
}

/// Writes zeros, in pieces: nobody waits for all of them when the port is dropped.
fn fill(file: &File, bytes: u64, goes_on: impl Fn() -> bool) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut offset = 0;
    while offset < bytes {
        if !goes_on() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "nobody waits for it"));
        }
        let piece = usize::try_from(bytes - offset).unwrap_or(ZEROS).min(ZEROS);
        file.write_all_at(&zeros[..piece], offset)?;
        offset += piece as u64;
    }
    Ok(())
}

/// Lists a folder in order of name. A name that is no text is shown as one that is not ours.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let bytes = match entry.metadata() {
            Ok(metadata) => metadata.len(),
            // It was removed while the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        listed.push(Listed { name: entry.file_name().to_string_lossy().into_owned(), bytes });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// Reads bytes, fewer if the file ends before.
pub(crate) fn read_at(file: &File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    // What is asked for may be nonsense; what is there is not.
    let there = file.metadata()?.len().saturating_sub(offset).min(bytes);
    let mut buffer = vec![0; usize::try_from(there).map_err(io::Error::other)?];
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(read);
    Ok(buffer)
}

/// Returns how many bytes are free for this process on the file system of `path`.
///
/// # Errors
///
/// The file system does not say.
pub(crate) fn room(path: &Path) -> io::Result<u64> {
    let told = rustix::fs::statvfs(path)?;
    Ok(told.f_bavail.saturating_mul(told.f_frsize))
}

/// Names an error in the machines' words (L23, L25).
#[must_use]
pub(crate) fn kind(error: &io::Error) -> DiskError {
    let kind = error.kind();
    if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&kind) {
        DiskError::NoSpace
    } else if [io::ErrorKind::WriteZero, io::ErrorKind::UnexpectedEof].contains(&kind) {
        DiskError::Short
    } else {
        DiskError::Device
    }
}

fn fault(task: &Task, error: &io::Error) -> Fault {
    let what = match task {
        Task::Create { file, .. } => format!("cannot make {file}"),
        Task::Write { file, .. } => format!("cannot write {file}"),
        Task::Sync { file } => format!("cannot sync {file}"),
        Task::Rename { from, to } => format!("cannot rename {from} to {to}"),
        Task::Remove { file } => format!("cannot remove {file}"),
        Task::SyncDir { folder } => format!("cannot sync the folder {folder}"),
        Task::List { folder } => format!("cannot list the folder {folder}"),
        Task::ReadAt { file, .. } => format!("cannot read {file}"),
        Task::Room => "cannot ask for the free space".to_owned(),
    };
    Fault { kind: kind(error), why: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests;
