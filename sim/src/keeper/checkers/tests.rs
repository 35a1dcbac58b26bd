use machines::Choices;

use super::may_go;
use crate::files::{Answer, Files, Operation};

fn done(files: &mut Files, operation: Operation) {
    let flight = files.begin(operation);
    assert_eq!(files.finish(flight, &mut Choices::new(0)), Answer::Done);
}

fn create(files: &mut Files, file: &str) {
    done(files, Operation::Create { file: file.to_owned(), bytes: 0 });
    done(files, Operation::Sync { file: file.to_owned() });
}

fn name(files: &mut Files, from: &str, to: &str) {
    create(files, from);
    done(files, Operation::Rename { from: from.to_owned(), to: to.to_owned() });
}

fn sync(files: &mut Files, folder: &str) {
    done(files, Operation::SyncDir { folder: folder.to_owned() });
}

const OLD: &str = "journal/00000000000000000001.seg";
const NEW: &str = "journal/00000000000000000040.seg";

/// A segment of records 1 to 39, one that goes on at 40, and a snapshot of some record.
fn disk(snapshot: u64, is_named: bool) -> Files {
    let mut files = Files::default();
    name(&mut files, "journal/new", OLD);
    sync(&mut files, "journal");
    name(&mut files, "journal/new", NEW);
    if is_named {
        sync(&mut files, "journal");
    }
    name(&mut files, "snapshots/new", &format!("snapshots/{snapshot:020}.snap"));
    sync(&mut files, "snapshots");
    done(&mut files, Operation::Remove { file: OLD.to_owned() });
    files
}

/// L77: what the snapshot covers may go, once what goes on after it has its name for good.
#[test]
fn a_segment_that_goes_before_the_next_has_its_name_is_caught() {
    assert_eq!(may_go(&disk(39, true), OLD, 50), Ok(true));
    let early = may_go(&disk(39, false), OLD, 50).expect_err("the next may lose its name");
    assert!(early.contains("a power cut may leave none"), "{early}");
    let uncovered = may_go(&disk(38, true), OLD, 50).expect_err("record 39 is needed");
    assert!(uncovered.contains("records 1 to 39 went"), "{uncovered}");
}

/// L77: what is on its way out counts no more, though a power cut may leave it.
#[test]
fn a_segment_that_was_removed_and_is_not_gone_is_not_relied_on() {
    let mut files = disk(60, true);
    assert_eq!(may_go(&files, OLD, 70), Ok(true));
    done(&mut files, Operation::Remove { file: NEW.to_owned() });
    assert!(may_go(&files, NEW, 60).is_err(), "nothing goes on after record 60");
}
