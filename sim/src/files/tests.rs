#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks what it asks about")]

use super::*;

fn write(file: &str, offset: u64, bytes: &[u8]) -> Operation {
    Operation::Write { file: file.to_owned(), offset, bytes: Arc::new(bytes.to_vec()) }
}

fn create(file: &str, bytes: u64) -> Operation {
    Operation::Create { file: file.to_owned(), bytes }
}

fn sync(file: &str) -> Operation {
    Operation::Sync { file: file.to_owned() }
}

fn sync_dir(folder: &str) -> Operation {
    Operation::SyncDir { folder: folder.to_owned() }
}

struct Disk {
    files: Files,
    choices: Choices,
}

impl Disk {
    fn new(seed: u64) -> Self {
        Self { files: Files::default(), choices: Choices::new(seed) }
    }

    fn run(&mut self, operation: Operation) -> Answer {
        let flight = self.files.begin(operation);
        self.files.finish(flight, &mut self.choices)
    }

    fn all(&mut self, operations: impl IntoIterator<Item = Operation>) {
        for operation in operations {
            assert_eq!(self.run(operation), Answer::Done);
        }
    }

    fn cut(&mut self, outcome: Outcome) {
        let mut fate = Fate::new(outcome, &mut self.choices);
        self.files.power_cut(Vec::new(), &mut fate);
    }

    fn read(&mut self, file: &str, offset: u64, bytes: u64) -> Vec<u8> {
        let file = file.to_owned();
        match self.run(Operation::ReadAt { file, offset, bytes }) {
            Answer::Read(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.files.paths().collect()
    }
}

/// A file that is there, durably, of four sectors of ones.
fn settled(seed: u64) -> Disk {
    let mut disk = Disk::new(seed);
    disk.all([create("a/f", 2_048), write("a/f", 0, &[1; 2_048]), sync("a/f"), sync_dir("a")]);
    disk
}

#[test]
fn before_a_sync_each_sector_is_old_or_new_and_after_it_all_are_new() {
    let left = |outcome| {
        let mut disk = settled(1);
        disk.all([write("a/f", 0, &[2; 2_048])]);
        disk.cut(outcome);
        let bytes = disk.read("a/f", 0, 2_048);
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        sectors
    };
    assert_eq!(left(Outcome::All), [2, 2, 2, 2]);
    assert_eq!(left(Outcome::None), [1, 1, 1, 1]);
    assert_eq!(left(Outcome::Alternate), [2, 1, 2, 1]);

    let mut disk = settled(1);
    disk.all([write("a/f", 0, &[2; 2_048]), sync("a/f")]);
    disk.cut(Outcome::None);
    assert_eq!(disk.read("a/f", 0, 2_048), [2; 2_048]);
}

#[test]
fn drawn_outcomes_differ_and_half_sectors_need_the_fault() {
    let mut seen = BTreeSet::new();
    let mut halves = 0;
    for seed in 0..40 {
        for torn in [false, true] {
            let mut disk = settled(seed);
            disk.files.faults.torn = torn;
            disk.all([write("a/f", 0, &[2; 2_048])]);
            disk.cut(Outcome::Drawn);
            let bytes = disk.read("a/f", 0, 2_048);
            let half = bytes.chunks(SECTOR).any(|sector| sector.iter().any(|b| *b != sector[0]));
            assert!(torn || !half, "seed {seed}");
            halves += u32::from(half);
            seen.insert(bytes.chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>());
        }
    }
    assert!(seen.len() > 8 && halves > 10, "{} outcomes, {halves} halves", seen.len());
}

#[test]
fn a_name_is_durable_only_after_its_folder_was_synced() {
    let mut disk = settled(2);
    disk.all([create("a/g", 512), write("a/g", 0, &[7; 512]), sync("a/g")]);
    let mut cut = Disk { files: disk.files.clone(), choices: Choices::new(0) };
    cut.cut(Outcome::None);
    assert_eq!(cut.names(), ["a/f"], "its content was durable, its name was not");

    disk.all([Operation::Rename { from: "a/g".to_owned(), to: "a/h".to_owned() }]);
    disk.all([Operation::Remove { file: "a/f".to_owned() }, sync_dir("b")]);
    let mut cut = Disk { files: disk.files.clone(), choices: Choices::new(0) };
    cut.cut(Outcome::None);
    assert_eq!(cut.names(), ["a/f"], "another folder was synced");
    disk.all([sync_dir("a")]);
    disk.cut(Outcome::None);
    assert_eq!(disk.names(), ["a/h"]);
    assert_eq!(disk.read("a/h", 0, 512), [7; 512]);
}

/// L63: the sectors that a failed sync did not write are clean all the same.
#[test]
fn a_sync_after_a_failed_one_reports_success_and_has_not_written() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut disk = settled(seed);
        disk.all([write("a/f", 0, &[2; 2_048])]);
        disk.files.faults.failed_sync = 1_000_000;
        assert_eq!(disk.run(sync("a/f")), Answer::Failed(Failure::Device));
        disk.files.faults = Faults::default();
        assert_eq!(disk.read("a/f", 0, 2_048), [2; 2_048], "the running system sees it");
        assert_eq!(disk.run(sync("a/f")), Answer::Done);
        disk.cut(Outcome::All);
        lost += u32::from(disk.read("a/f", 0, 2_048) != [2; 2_048]);
    }
    assert!(lost > 10, "{lost} of 20 lost something");
}

#[test]
fn a_lying_sync_writes_nothing_until_an_honest_one_does() {
    let mut disk = settled(3);
    disk.files.faults.lost_sync = true;
    disk.all([write("a/f", 0, &[2; 512]), sync("a/f")]);
    let mut cut = Disk { files: disk.files.clone(), choices: Choices::new(0) };
    cut.cut(Outcome::None);
    assert_eq!(cut.read("a/f", 0, 1), [1]);
    disk.files.faults = Faults::default();
    disk.all([sync("a/f")]);
    disk.cut(Outcome::None);
    assert_eq!(disk.read("a/f", 0, 1), [2]);
}

#[test]
fn a_sync_takes_along_what_was_written_before_it_began() {
    let mut disk = settled(4);
    disk.all([write("a/f", 0, &[2; 512])]);
    let flight = disk.files.begin(sync("a/f"));
    disk.all([write("a/f", 512, &[3; 512])]);
    assert_eq!(disk.files.finish(flight, &mut disk.choices), Answer::Done);
    let inode = disk.files.inode("a/f").expect("it is there");
    assert!(disk.files.is_durable(inode, 0, &[2; 512], |name| name == "a/f"));
    assert!(!disk.files.is_durable(inode, 512, &[3; 512], |_| true));
    assert!(!disk.files.is_durable(inode, 0, &[2; 512], |name| name == "a/g"));
    disk.cut(Outcome::None);
    assert_eq!(disk.read("a/f", 0, 1_024), [[2; 512], [1; 512]].concat());
}

#[test]
fn an_operation_that_a_crash_interrupts_is_done_in_part() {
    let mut disk = settled(5);
    let flights = vec![disk.files.begin(write("a/f", 256, &[9; 1_024]))];
    let mut fate = Fate::new(Outcome::Alternate, &mut disk.choices);
    disk.files.process_end(flights, &mut fate);
    let bytes = disk.read("a/f", 0, 2_048);
    assert_eq!(bytes[..256], [1; 256]);
    assert_eq!(bytes[256..512], [9; 256]);
    assert_eq!(bytes[512..1_024], [1; 512]);
    assert_eq!(bytes[1_024..1_280], [9; 256]);
}

#[test]
fn full_failing_misdirecting_and_rotting_disks_do_what_they_say() {
    let mut disk = settled(6);
    disk.files.faults.full = true;
    assert_eq!(disk.run(create("a/g", 10)), Answer::Failed(Failure::NoSpace));
    assert_eq!(disk.run(write("a/f", 2_000, &[1; 100])), Answer::Failed(Failure::NoSpace));
    disk.files.faults = Faults { failed_write: 1_000_000, ..Faults::default() };
    assert!(matches!(disk.run(write("a/f", 0, &[1; 100])), Answer::Failed(_)));
    disk.files.faults = Faults { read_error: true, ..Faults::default() };
    let read = || Operation::ReadAt { file: "a/f".to_owned(), offset: 0, bytes: 9 };
    assert!((0..20).any(|_| disk.run(read()) == Answer::Failed(Failure::Device)));
    disk.files.faults = Faults { misdirected: true, ..Faults::default() };
    for _ in 0..20 {
        disk.all([write("a/f", 0, &[5; 512])]);
    }
    assert!(disk.read("a/f", 512, 1_536).contains(&5), "a write landed elsewhere");
    let counts = disk.files.struck().clone().into_counts();
    assert!(["full", "failed-write", "read-error", "misdirected"].map(|k| counts[k]).len() == 4);

    let mut disk = Disk::new(7);
    assert_eq!(disk.files.rot(&mut disk.choices), None, "there is nothing to rot");
    disk.all([create("journal/f", 1_024), write("journal/f", 600, &[1; 9]), sync("journal/f")]);
    let rotten = disk.files.rot(&mut disk.choices).expect("something stands there");
    assert!((512..1_024).contains(&rotten.offset));
    let now = disk.read("journal/f", 0, 1_024);
    let changed = now.iter().zip(rotten.before.iter()).filter(|(now, before)| now != before);
    assert_eq!(changed.count(), 1);
}

#[test]
fn one_process_at_a_time_has_the_lock() {
    let mut files = Files::default();
    assert_eq!(files.lock(1), Ok(()));
    assert_eq!(files.lock(2), Err(1));
    files.unlock(2);
    assert_eq!(files.lock(2), Err(1));
    files.unlock(1);
    assert_eq!(files.lock(2), Ok(()));
}
