//! What a disk says that does not give the bytes is told, and where (L33).

use super::*;

#[test]
fn why_a_segment_cannot_be_read_is_told_in_the_words_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let segment = folder.path().join("journal/00000000000000000001.seg");
    std::fs::create_dir_all(&segment).unwrap();
    // A folder is listed with a length that grows with what is in it.
    for number in 0..64 {
        std::fs::write(segment.join(format!("{number:064}")), "").unwrap();
    }
    let ledger = Ledger::open(folder.path(), Path::new("/nowhere")).unwrap();
    let told = ledger.verify().unwrap_err().to_string();
    let line = "journal/00000000000000000001.seg: at byte 0: Is a directory (os error 21)";
    assert_eq!(told, line);
    let report = ledger.examine().unwrap();
    assert_eq!(
        (&report.problems[..], &*report.start),
        (&[line.to_owned()][..], &*format!("refused: {line}"))
    );
}

#[test]
fn only_what_the_disk_failed_at_is_told_in_its_words() {
    let missing = Refusal::Missing { record: 3 };
    let failed = Some((4_096, "it hums".to_owned()));
    assert_eq!(unusable(missing, failed.clone()).to_string(), missing.to_string());
    let (file, error) =
        (segment::File::Segment(1), machines::ledger::journal::io::DiskError::Device);
    let unread = Refusal::Unreadable { file: Some(file), offset: 128, error };
    let told = unusable(unread, failed).to_string();
    assert_eq!(told, "journal/00000000000000000001.seg: at byte 4096: it hums");
    assert_eq!(unusable(unread, None).to_string(), unread.to_string());
}
