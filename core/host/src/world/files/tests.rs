//! Goal: the port does what its contract says on real folders, in the order that it says.
//! Method: folders that clean up after themselves; what stands in them is read by other means.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use machines::ledger::segment;
use machines::ledger::snapshot::FileName;
use tempfile::TempDir;

use super::*;

const SPARE: LedgerFile = LedgerFile::Journal(segment::File::Spare(1));
const SEGMENT: LedgerFile = LedgerFile::Journal(segment::File::Segment(1));
const SNAPSHOT: LedgerFile = LedgerFile::Snapshot(FileName::Snapshot(7));

struct Rig {
    files: LedgerFiles,
    next: u64,
    // Dropped after the files.
    lock: files::Folder,
    folder: TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lock = files::Folder::lock(folder.path()).unwrap();
        Self { files: LedgerFiles::open(&lock).unwrap(), next: 0, lock, folder }
    }

    fn submit(&mut self, task: Task) -> TaskId {
        self.next += 1;
        self.files.submit(TaskId(self.next), task);
        TaskId(self.next)
    }

    /// Waits for the next task to end.
    fn ended(&mut self) -> (TaskId, Result<Told, Fault>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.files.ended())
    }

    /// Does one task, while no other is out.
    fn run(&mut self, task: Task) -> Result<Told, Fault> {
        let id = self.submit(task);
        let (ended, result) = self.ended();
        assert_eq!(ended, id);
        result
    }

    /// A worker that was set to work by hand has done.
    fn reported_by(&mut self, worker: usize) {
        let result = Ok(Told::Read(Vec::new()));
        let (_, told) = self.files.reported(Report { worker, id: TaskId(0), result, open: None });
        told.unwrap();
    }

    fn bytes(&self, file: LedgerFile) -> Vec<u8> {
        fs::read(self.folder.path().join(file.to_string())).unwrap()
    }
}

fn write(file: LedgerFile, offset: u64, bytes: &[u8]) -> Task {
    Task::Write { file, offset, bytes: Arc::new(bytes.to_vec()) }
}

/// L21: zeros, and no holes: the file takes the room on the disk that its length says.
#[test]
fn a_new_file_is_full_of_zeros_that_take_room() {
    use std::os::unix::fs::MetadataExt;
    let mut rig = Rig::new();
    let bytes = 2 * ZEROS as u64 + 512;
    assert_eq!(rig.run(Task::Create { file: SPARE, bytes }), Ok(Told::Done));
    assert_eq!(rig.run(Task::Sync { file: SPARE }), Ok(Told::Done));
    assert!(rig.bytes(SPARE).iter().all(|byte| *byte == 0));
    let metadata = fs::metadata(rig.folder.path().join(SPARE.to_string())).unwrap();
    assert_eq!(metadata.len(), bytes);
    assert_eq!(metadata.mode() & 0o777, 0o600, "for its owner alone");
    assert!(metadata.blocks() * 512 >= bytes, "{} blocks", metadata.blocks());

    // Making it again empties it.
    assert_eq!(rig.run(write(SPARE, 0, b"old")), Ok(Told::Done));
    assert_eq!(rig.run(Task::Create { file: SPARE, bytes: 8 }), Ok(Told::Done));
    assert_eq!(rig.bytes(SPARE), [0; 8]);
}

#[test]
fn tasks_on_one_file_go_in_order_though_many_are_out() {
    let mut rig = Rig::new();
    let create = rig.submit(Task::Create { file: SPARE, bytes: 3 * ZEROS as u64 });
    let mut ids = vec![create];
    for byte in 1..=40 {
        ids.push(rig.submit(write(SPARE, 0, &[byte; 64])));
    }
    ids.push(rig.submit(Task::Sync { file: SPARE }));
    ids.push(rig.submit(Task::Rename { from: SPARE, to: SEGMENT }));
    ids.push(rig.submit(Task::ReadAt { file: SEGMENT, offset: 0, bytes: 64 }));
    let ended: Vec<_> = ids.iter().map(|_| rig.ended()).collect();
    assert_eq!(ended.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    assert_eq!(ended.last().unwrap().1, Ok(Told::Read(vec![40; 64])));
}

/// A long task on one file holds up none on another, and none is lost in the queue behind it.
#[test]
fn files_do_not_wait_for_each_other() {
    let mut rig = Rig::new();
    let long = rig.submit(Task::Create { file: SPARE, bytes: 64 << 20 });
    let behind = rig.submit(Task::Sync { file: SPARE });
    let short = rig.submit(Task::Create { file: SNAPSHOT, bytes: 0 });
    let order = [rig.ended().0, rig.ended().0, rig.ended().0];
    assert_eq!(order, [short, long, behind]);
}

#[test]
fn a_write_does_not_wait_for_a_sync_of_its_file_but_a_sync_waits_for_a_write() {
    let sync = Task::Sync { file: SEGMENT };
    let task = write(SEGMENT, 0, b"x");
    assert!(!must_follow(&sync, &task));
    assert!(must_follow(&task, &sync));
    assert!(must_follow(&task, &task));
    assert!(must_follow(&task, &Task::Rename { from: SPARE, to: SEGMENT }));
    assert!(must_follow(&Task::Rename { from: SPARE, to: SEGMENT }, &task));
    assert!(!must_follow(&Task::Create { file: SPARE, bytes: 1 }, &task));
    assert!(!must_follow(&task, &Task::SyncDir { folder: Folder::Journal }));
}

fn read(file: LedgerFile) -> Task {
    Task::ReadAt { file, offset: 0, bytes: 64 }
}

/// L20: whoever reads a segment holds up neither what is written to it nor others who read it; what
/// takes its name or its place waits.
#[test]
fn writes_and_syncs_do_not_wait_for_reads_of_their_file() {
    let mut rig = Rig::new();
    rig.run(Task::Create { file: SEGMENT, bytes: 64 }).unwrap();
    // A read that the disk does not answer yet.
    let busy = rig.files.free.pop().unwrap();
    rig.files.running.push((busy, read(SEGMENT)));
    let (bytes, sync) = (write(SEGMENT, 0, b"new"), Task::Sync { file: SEGMENT });
    for task in [bytes, sync, read(SEGMENT)] {
        let id = rig.submit(task);
        assert!(rig.files.waiting.is_empty(), "{:?}", rig.files);
        let (ended, result) = rig.ended();
        assert_eq!(ended, id);
        result.unwrap();
    }
    let gone = rig.submit(Task::Remove { file: SEGMENT });
    assert_eq!(rig.files.waiting.len(), 1, "it waits for the read");
    rig.reported_by(busy);
    assert_eq!(rig.ended(), (gone, Ok(Told::Done)));
}

#[test]
fn reads_wait_for_what_makes_renames_and_removes_their_file_alone() {
    let segment = read(SEGMENT);
    let sync = Task::Sync { file: SEGMENT };
    for beside in [write(SEGMENT, 0, b"x"), sync, read(SEGMENT)] {
        assert!(!must_follow(&beside, &segment), "{beside:?}");
        assert!(!must_follow(&segment, &beside), "{beside:?}");
    }
    for other in [
        Task::Create { file: SEGMENT, bytes: 1 },
        Task::Rename { from: SPARE, to: SEGMENT },
        Task::Remove { file: SEGMENT },
    ] {
        assert!(must_follow(&other, &segment), "{other:?}");
        assert!(must_follow(&segment, &other), "{other:?}");
    }
}

/// A failed write-back is told to those who had the file open: reads of others do not close it.
#[test]
fn reads_leave_the_file_open_that_is_written() {
    let mut rig = Rig::new();
    rig.run(Task::Create { file: SEGMENT, bytes: 64 }).unwrap();
    let open = rig.files.find(SEGMENT).unwrap();
    for number in 2..=20 {
        let file = LedgerFile::Journal(segment::File::Segment(number));
        fs::write(rig.folder.path().join(file.to_string()), [7; 64]).unwrap();
        assert_eq!(rig.run(read(file)), Ok(Told::Read(vec![7; 64])));
    }
    rig.run(read(SEGMENT)).unwrap();
    let still = rig.files.find(SEGMENT).expect("it stays open");
    assert!(Arc::ptr_eq(&open, &still));
}

#[test]
fn a_dropped_wait_loses_nothing() {
    let mut rig = Rig::new();
    let id = rig.submit(Task::Create { file: SPARE, bytes: 32 << 20 });
    for _ in 0..3 {
        let mut wait = pin!(rig.files.ended());
        let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "32 MiB take a while");
    }
    assert_eq!(rig.ended(), (id, Ok(Told::Done)));
    let mut idle = pin!(rig.files.ended());
    let polled = idle.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending), "nothing is out");
}

#[test]
fn a_folder_is_listed_with_what_is_not_ours_and_reads_end_with_the_file() {
    let mut rig = Rig::new();
    fs::write(rig.folder.path().join("journal/notes.txt"), "mine").unwrap();
    rig.run(Task::Create { file: SEGMENT, bytes: 100 }).unwrap();
    rig.run(write(SEGMENT, 90, b"end")).unwrap();
    let listed = |name: &str, bytes| Listed { name: name.to_owned(), bytes };
    assert_eq!(
        rig.run(Task::List { folder: Folder::Journal }),
        Ok(Told::Listed(vec![listed("00000000000000000001.seg", 100), listed("notes.txt", 4)]))
    );
    let read = |offset, bytes| Task::ReadAt { file: SEGMENT, offset, bytes };
    assert_eq!(rig.run(read(90, 4)), Ok(Told::Read(b"end\0".to_vec())));
    assert_eq!(rig.run(read(98, u64::MAX)), Ok(Told::Read(vec![0; 2])));
    assert_eq!(rig.run(read(u64::MAX, 1)), Ok(Told::Read(Vec::new())));
    assert!(matches!(rig.run(Task::Room), Ok(Told::Room(1..))));
}

#[test]
fn what_fails_is_told_with_its_kind_and_the_file() {
    let mut rig = Rig::new();
    let fault = rig.run(Task::Sync { file: SEGMENT }).unwrap_err();
    assert_eq!(fault.kind, DiskError::Device);
    assert!(fault.why.starts_with("cannot sync journal/00000000000000000001.seg: "), "{fault}");
    rig.run(Task::Rename { from: SPARE, to: SEGMENT }).expect_err("there is no such file");
    assert_eq!(rig.run(Task::Remove { file: SPARE }), Ok(Told::Done), "to be gone is enough");

    for (error, expected) in [
        (io::ErrorKind::StorageFull, DiskError::NoSpace),
        (io::ErrorKind::QuotaExceeded, DiskError::NoSpace),
        (io::ErrorKind::WriteZero, DiskError::Short),
        (io::ErrorKind::PermissionDenied, DiskError::Device),
    ] {
        assert_eq!(kind(&error.into()), expected);
    }
}

/// L23: a file system that is full says so, and that is told as what it is.
#[test]
fn a_full_device_is_told_as_no_space() {
    let mut rig = Rig::new();
    std::os::unix::fs::symlink("/dev/full", rig.folder.path().join(SEGMENT.to_string())).unwrap();
    let fault = rig.run(write(SEGMENT, 0, b"x")).unwrap_err();
    assert_eq!(fault.kind, DiskError::NoSpace, "{fault}");
}

/// L2, L79: whoever took the lock may give it up first; the folder is held as long as there is a
/// writer, and is free when there is none.
#[test]
fn dropping_the_port_ends_long_work_and_frees_the_folder() {
    let mut rig = Rig::new();
    rig.submit(Task::Create { file: SPARE, bytes: 4 << 30 });
    let Rig { files, lock, folder, .. } = rig;
    drop(lock);
    let refused = files::Folder::lock(folder.path()).expect_err("somebody writes in it");
    assert_eq!(refused.exit(), crate::Exit::InUse);
    drop(files);
    let left = fs::metadata(folder.path().join(SPARE.to_string())).map_or(0, |file| file.len());
    assert!(left < 4 << 30, "it does not fill 4 GiB for nobody");
    files::Folder::lock(folder.path()).unwrap();
}

/// One open file serves a file for as long as it is in use, also under its new name.
#[test]
fn few_files_stay_open() {
    let mut rig = Rig::new();
    for number in 1..=20 {
        let file = LedgerFile::Journal(segment::File::Spare(number));
        rig.run(Task::Create { file, bytes: 8 }).unwrap();
    }
    assert_eq!(rig.files.open.len(), OPEN_MAX);
    let last = LedgerFile::Journal(segment::File::Spare(20));
    let open = rig.files.find(last).unwrap();
    rig.run(Task::Rename { from: last, to: SEGMENT }).unwrap();
    let renamed = rig.files.find(SEGMENT).unwrap();
    assert!(Arc::ptr_eq(&open, &renamed));
    assert!(rig.files.find(last).is_none());
    rig.run(Task::Remove { file: SEGMENT }).unwrap();
    assert!(rig.files.find(SEGMENT).is_none());
}
