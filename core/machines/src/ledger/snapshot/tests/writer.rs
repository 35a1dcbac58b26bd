//! The steps of a snapshot to the disk, one by one, and what each failure leaves behind.

use std::time::Duration;

use super::*;
use crate::Instant;

const CONFIG: SnapshotConfig =
    SnapshotConfig { records: 10, bytes: 1000, retry: Duration::from_secs(10) };

/// A writer and the time.
struct Bench {
    now: Instant,
    writer: SnapshotWriter,
}

impl Bench {
    fn new(names: &[&str], vouched: &[u64], durable: u64) -> Self {
        let mut shelf = Shelf::of(names.iter().copied());
        vouched.iter().for_each(|record| shelf.vouch(*record));
        Self { now: Instant::START, writer: SnapshotWriter::new(CONFIG, shelf, durable) }
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.writer.handle(self.now, input).expect("not busy");
        std::iter::from_fn(|| self.writer.poll()).collect()
    }

    fn begin(&mut self, record: u64) -> Vec<Output> {
        self.tell(Input::Begin(frozen(&mut small(), record)))
    }

    /// Ends the only operation under way well.
    fn done(&mut self, outputs: &[Output]) -> Vec<Output> {
        self.tell(Input::Done(only_op(outputs)))
    }

    fn fail(&mut self, outputs: &[Output]) -> Vec<Output> {
        self.tell(Input::Failed { op: only_op(outputs), error: "no luck".to_owned() })
    }

    /// Ends operations well until `stop` is the next.
    fn until(&mut self, mut outputs: Vec<Output>, stop: &str) -> Vec<Output> {
        while !told(&outputs).iter().any(|step| step.starts_with(stop)) {
            outputs = self.done(&outputs);
        }
        outputs
    }

    fn shelf(&self) -> Vec<u64> {
        self.writer.shelf().newest_first().collect()
    }
}

fn op(output: &Output) -> Option<Op> {
    match output {
        Output::Create { op, .. }
        | Output::Write { op, .. }
        | Output::Sync { op, .. }
        | Output::Rename { op, .. }
        | Output::SyncDir { op }
        | Output::Remove { op, .. } => Some(*op),
        Output::Current(_) | Output::Abandoned { .. } => None,
    }
}

fn only_op(outputs: &[Output]) -> Op {
    let ops: Vec<Op> = outputs.iter().filter_map(op).collect();
    assert_eq!(ops.len(), 1, "one operation at a time: {outputs:?}");
    ops[0]
}

fn short(file: &FileName) -> String {
    match file {
        FileName::Snapshot(record) => format!("{record}"),
        FileName::Temporary(record) => format!("{record}.tmp"),
    }
}

/// Says outputs in short.
fn told(outputs: &[Output]) -> Vec<String> {
    let tell = |output: &Output| match output {
        Output::Create { file, .. } => format!("create {}", short(file)),
        Output::Write { file, .. } => format!("write {}", short(file)),
        Output::Sync { file, .. } => format!("sync {}", short(file)),
        Output::Rename { from, to, .. } => format!("rename {} {}", short(from), short(to)),
        Output::SyncDir { .. } => "sync folder".to_owned(),
        Output::Remove { file, .. } => format!("remove {}", short(file)),
        Output::Current(header) => format!("current {}", header.record),
        Output::Abandoned { record, error } => format!("abandoned {record}: {error}"),
    };
    outputs.iter().map(tell).collect()
}

#[test]
fn l42_written_synced_renamed_folder_synced_and_only_then_current() {
    let names = ["00000000000000000010.snap", "00000000000000000020.snap", "notes.txt"];
    let mut bench = Bench::new(&names, &[10, 20], 100);
    let mut outputs = bench.begin(30);
    let (mut steps, mut bytes) = (told(&outputs), Vec::new());
    while outputs.iter().any(|output| op(output).is_some()) {
        for output in &outputs {
            if let Output::Write { offset, bytes: piece, .. } = output {
                assert_eq!(*offset, bytes.len() as u64);
                bytes.extend_from_slice(piece);
            }
        }
        outputs = bench.done(&outputs);
        steps.extend(told(&outputs));
    }
    let write = "write 30.tmp";
    let wanted = [
        &["create 30.tmp", write, write, write, write, write][..],
        &["sync 30.tmp", "rename 30.tmp 30", "sync folder", "current 30", "remove 10"],
    ];
    assert_eq!(steps, wanted.concat());
    assert!(bytes == file(frozen(&mut small(), 30)), "the file is the snapshot");
    assert_eq!(bench.shelf(), [30, 20], "L42: the newest two");
}

/// L42, L62: the name of the snapshot that a process begins with may not be durable, so the one
/// before it stays when the next is current, and goes with the one after that.
#[test]
fn the_snapshot_before_the_first_one_of_a_process_is_kept_for_once() {
    let names = ["00000000000000000010.snap", "00000000000000000020.snap"];
    let mut shelf = Shelf::of(names);
    shelf.begin_with(20);
    assert_eq!(shelf.vouched_before(30), Some(10), "what segments may go for");
    let mut bench = Bench { now: Instant::START, writer: SnapshotWriter::new(CONFIG, shelf, 100) };
    for (record, kept) in [(30, &[30, 20, 10][..]), (40, &[40, 30])] {
        let mut outputs = bench.begin(record);
        while outputs.iter().any(|output| op(output).is_some()) {
            outputs = bench.done(&outputs);
        }
        assert_eq!(bench.shelf(), kept);
    }
    let mut alone = Shelf::of(["00000000000000000020.snap"]);
    alone.begin_with(20);
    assert_eq!(alone.vouched_before(30), None);
}

#[test]
fn a_snapshot_waits_for_the_journal_to_be_durable_up_to_its_record() {
    let mut bench = Bench::new(&[], &[], 28);
    let begun = bench.begin(30);
    let synced = bench.until(begun, "sync");
    assert_eq!(told(&bench.done(&synced)), [""; 0]);
    assert_eq!(told(&bench.tell(Input::Durable(29))), [""; 0]);
    assert_eq!(told(&bench.tell(Input::Tick)), [""; 0]);
    assert_eq!(told(&bench.tell(Input::Durable(30))), ["rename 30.tmp 30"]);
    let mut other = Bench::new(&[], &[], 28);
    let begun = other.begin(30);
    assert_eq!(told(&other.tell(Input::Durable(31))), [""; 0]);
    let synced = other.until(begun, "sync");
    assert_eq!(told(&other.done(&synced)), ["rename 30.tmp 30"]);
}

/// L40.
#[test]
fn l40_a_snapshot_is_due_after_so_many_records_or_bytes() {
    let mut bench = Bench::new(&[], &[], 100);
    bench.tell(Input::Appended { records: 9, bytes: 999 });
    assert!(!bench.writer.is_due(bench.now));
    assert_eq!(bench.writer.deadline(), Instant::FAR);
    bench.tell(Input::Appended { records: 1, bytes: 0 });
    assert!(bench.writer.is_due(bench.now));

    let mut bytes = Bench::new(&[], &[], 100);
    bytes.tell(Input::Appended { records: 1, bytes: 1000 });
    assert!(bytes.writer.is_due(bytes.now));
    let begun = bytes.begin(30);
    assert!(!bytes.writer.is_due(bytes.now), "one at a time");
    bytes.tell(Input::Appended { records: 9, bytes: 10 });
    let named = bytes.until(begun, "sync folder");
    bytes.done(&named);
    assert!(!bytes.writer.is_due(bytes.now));
    bytes.tell(Input::Appended { records: 1, bytes: 10 });
    assert!(bytes.writer.is_due(bytes.now), "what came after the record counts");
    let standard = SnapshotConfig::STANDARD;
    assert_eq!((standard.records, standard.bytes), (100_000, 268_435_456));
}

#[test]
fn a_second_snapshot_is_refused_while_one_is_being_written() {
    let mut bench = Bench::new(&[], &[], 100);
    let begun = bench.begin(30);
    let second = Input::Begin(frozen(&mut small(), 31));
    assert_eq!(bench.writer.handle(bench.now, second), Err(Busy));
    assert_eq!(bench.writer.poll(), None);
    assert_eq!(told(&bench.done(&begun)), ["write 30.tmp"]);
}

/// Goal: whatever fails before the folder is synced, older snapshots stay and the half one goes.
#[test]
fn a_failure_removes_the_temporary_file_and_nothing_else() {
    for stop in ["create", "write", "sync 30", "rename"] {
        let names = ["00000000000000000010.snap", "00000000000000000020.snap"];
        let mut bench = Bench::new(&names, &[10, 20], 100);
        bench.tell(Input::Appended { records: 10, bytes: 0 });
        let begun = bench.begin(30);
        let reached = bench.until(begun, stop);
        let discarding = bench.fail(&reached);
        assert_eq!(told(&discarding), ["remove 30.tmp"], "{stop}");
        let end = match stop {
            "write" => bench.fail(&discarding),
            _ => bench.done(&discarding),
        };
        assert_eq!(told(&end), ["abandoned 30: no luck"], "{stop}");
        let named = if stop == "rename" { &[30][..] } else { &[] };
        assert_eq!(bench.shelf(), [named, &[20, 10]].concat(), "{stop}");
        assert!(!bench.writer.is_due(bench.now), "{stop}");
        assert_eq!(bench.writer.deadline(), Instant::from_millis(10_000), "{stop}");
        bench.now = bench.writer.deadline();
        assert!(bench.writer.is_due(bench.now), "{stop}");
        let again = bench.begin(31);
        let again = bench.until(again, "current");
        let removing = bench.until(again, "remove 10");
        let left_behind = told(&bench.done(&removing));
        assert_eq!(left_behind, [""; 0], "{stop}");
        assert_eq!(bench.shelf(), [&[31], named, &[20]].concat(), "{stop}");
    }
}

#[test]
fn l77_a_folder_that_cannot_be_synced_lets_nothing_go() {
    let names = ["00000000000000000010.snap", "00000000000000000020.snap"];
    let mut bench = Bench::new(&names, &[10, 20], 100);
    let begun = bench.begin(30);
    let named = bench.until(begun, "sync folder");
    assert_eq!(told(&bench.fail(&named)), ["abandoned 30: no luck"]);
    assert_eq!(bench.shelf(), [30, 20, 10]);
    let begun = bench.begin(40);
    let current = bench.until(begun, "current");
    assert_eq!(told(&current), ["current 40", "remove 10"]);
    assert_eq!(told(&bench.done(&current)), [""; 0]);
    assert_eq!(bench.shelf(), [40, 30, 20], "30 counts for nothing, so 20 stays");
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again_next_time() {
    let names = [
        "00000000000000000005.snap",
        "00000000000000000010.snap",
        "00000000000000000020.snap",
        "00000000000000000007.snap.tmp",
    ];
    let mut bench = Bench::new(&names, &[20], 100);
    let begun = bench.begin(30);
    let mut outputs = bench.until(begun, "current");
    let mut removed = Vec::new();
    while outputs.iter().any(|output| op(output).is_some()) {
        removed.extend(told(&outputs).into_iter().filter(|step| step.starts_with("remove")));
        outputs = bench.fail(&outputs);
    }
    assert_eq!(removed, ["remove 7.tmp", "remove 10", "remove 5"]);
    assert_eq!(bench.shelf(), [30, 20, 10, 5]);
    let begun = bench.begin(40);
    let outputs = bench.until(begun, "remove 5");
    assert_eq!(told(&bench.done(&outputs)), [""; 0]);
    assert_eq!(bench.shelf(), [40, 30]);
}

#[test]
#[should_panic(expected = "one operation is under way")]
fn an_operation_that_nobody_asked_for_cannot_end() {
    Bench::new(&[], &[], 0).tell(Input::Done(Op(1)));
}
