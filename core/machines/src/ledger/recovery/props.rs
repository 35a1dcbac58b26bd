//! Properties of recovery: it ends on any bytes, and never makes records up.

use proptest::prelude::*;

use super::io::Head;
use crate::ledger::rig::{NODE, Rig, SMALL, read};
use crate::ledger::segment::File;

/// A journal of three segments, one of them with a marker, as a process left it that just ended.
fn whole() -> Rig {
    let mut rig = Rig::new(&SMALL, None);
    rig.settle();
    for n in 0..28 {
        rig.append(250 + n, false).expect("there is room");
        rig.settle();
        rig.wait(std::time::Duration::from_millis(n as u64));
        rig.settle();
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Bytes are overwritten, files cut off, removed and renamed: recovery ends, what it hands out
    /// is the beginning of what there was, and it does the same again.
    #[test]
    fn damage_ends_in_a_refusal_or_in_a_prefix(
        changes in prop::collection::vec(
            (0..3_usize, 0..4_096_usize, prop::collection::vec(any::<u8>(), 0..90), 0..8_u8),
            0..6,
        ),
    ) {
        let rig = whole();
        let (entries, _) = rig.read().expect("it is whole");
        let mut disk = rig.disk.clone();
        for (nth, at, bytes, how) in changes {
            let segments: Vec<File> =
                disk.files().into_iter().filter(|file| matches!(file, File::Segment(_))).collect();
            let Some(file) = segments.get(nth).copied() else { continue };
            let mut content = disk.read(file).to_vec();
            match how {
                0 => content.truncate(at),
                1 => disk.put(File::Segment(at as u64 + 1), content.clone()),
                _ => {
                    let end = (at + bytes.len()).min(content.len());
                    let at = at.min(end);
                    content[at..end].copy_from_slice(&bytes[..end - at]);
                }
            }
            disk.put(file, content);
        }
        let after = read(&disk, NODE, Head::default());
        prop_assert_eq!(&after, &read(&disk, NODE, Head::default()));
        if let Ok((survivors, _)) = after {
            prop_assert!(entries.starts_with(&survivors));
        }
    }
}
