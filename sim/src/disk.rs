//! A node's disk: what was written, what of it is durable, and what goes wrong with it (T20).
//!
//! A write is pending until a sync that tells the truth; a crash takes what is pending, and with
//! torn writes on, keeps any part of it: of each 512-byte sector any prefix, in any order.

use machines::Choices;

/// The unit that a crash tears at.
pub const SECTOR: usize = 512;

/// A file that a node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// The session file (C7).
    Session,
}

const FILES: usize = 1;

/// What is wrong with a disk at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// A crash keeps any prefix of each unsynced sector.
    pub torn: bool,
    /// A sync reports done, and is not.
    pub lost_sync: bool,
    /// A write lands in another place.
    pub misdirected: bool,
    /// Reads fail.
    pub read_error: bool,
    /// Writes fail: there is no room.
    pub full: bool,
    /// Nothing ends before this true time.
    pub stalled_until: u64,
}

/// Why a disk refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// There is no room.
    Full,
    /// The bytes cannot be read.
    Read,
}

#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

/// The disk of one node.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: [Content; FILES],
    /// What is wrong with it now.
    pub faults: DiskFaults,
}

impl Disk {
    /// Reads a whole file, as the running system sees it: pending writes included.
    ///
    /// # Errors
    ///
    /// [`DiskError::Read`] while that fault is on. An absent file is empty.
    pub fn read(&self, file: File) -> Result<Vec<u8>, DiskError> {
        if self.faults.read_error {
            return Err(DiskError::Read);
        }
        let content = &self.files[file as usize];
        let mut bytes = content.durable.clone();
        for (offset, written) in &content.pending {
            put(&mut bytes, *offset, written);
        }
        Ok(bytes)
    }

    /// Writes `bytes` at `offset`. Durable only after a sync.
    ///
    /// # Errors
    ///
    /// [`DiskError::Full`] while that fault is on; nothing was written.
    pub fn write(
        &mut self,
        file: File,
        offset: usize,
        bytes: &[u8],
        node: u32,
        choices: &mut Choices,
    ) -> Result<(), DiskError> {
        if self.faults.full {
            return Err(DiskError::Full);
        }
        let mut offset = offset;
        if self.faults.misdirected {
            let by = choices.choose("disk.misdirect", [u64::from(node), file as u64], 64);
            offset += usize::try_from(by).expect("less than 64");
        }
        self.files[file as usize]
            .pending
            .push((offset, bytes.to_vec()));
        Ok(())
    }

    /// Makes what was written durable, unless syncs are lost. The caller cannot tell.
    pub fn sync(&mut self, file: File) {
        if self.faults.lost_sync {
            return;
        }
        let content = &mut self.files[file as usize];
        for (offset, bytes) in content.pending.drain(..) {
            put(&mut content.durable, offset, &bytes);
        }
    }

    /// The node crashed: what is pending goes, but for the parts that a torn write keeps.
    pub fn crash(&mut self, node: u32, choices: &mut Choices) {
        let torn = self.faults.torn;
        for (file, content) in self.files.iter_mut().enumerate() {
            for (offset, bytes) in content.pending.drain(..) {
                if !torn {
                    continue;
                }
                for (start, piece) in sectors(offset, &bytes) {
                    let bound = piece.len() as u64 + 1;
                    let kept = choices.choose("disk.torn", [u64::from(node), file as u64], bound);
                    let kept = usize::try_from(kept).expect("at most a sector");
                    put(&mut content.durable, start, &piece[..kept]);
                }
            }
        }
    }

    /// Flips one bit of what is durable, if there is anything.
    pub fn rot(&mut self, node: u32, choices: &mut Choices) {
        for (file, content) in self.files.iter_mut().enumerate() {
            let bits = content.durable.len() as u64 * 8;
            if bits > 0 {
                let bit = choices.choose("disk.rot", [u64::from(node), file as u64], bits);
                let byte = usize::try_from(bit / 8).expect("within the file");
                content.durable[byte] ^= 1 << (bit % 8);
            }
        }
    }

    /// Loses everything.
    pub fn wipe(&mut self) {
        self.files = Default::default();
    }

    /// Returns what would survive a crash now.
    #[must_use]
    pub fn durable(&self, file: File) -> &[u8] {
        &self.files[file as usize].durable
    }
}

/// Cuts a write at the borders of sectors.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let (mut start, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = SECTOR - start % SECTOR;
        let (piece, left) = rest.split_at(room.min(rest.len()));
        pieces.push((start, piece));
        start += piece.len();
        rest = left;
    }
    pieces
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(faults: DiskFaults, sync: bool) -> (Disk, Choices) {
        let (mut disk, mut choices) = (Disk::default(), Choices::new(3));
        disk.faults = faults;
        disk.write(File::Session, 500, &[7; 600], 0, &mut choices)
            .unwrap();
        if sync {
            disk.sync(File::Session);
        }
        (disk, choices)
    }

    #[test]
    fn a_crash_loses_unsynced_sectors_and_keeps_synced_ones() {
        let (mut disk, mut choices) = written(DiskFaults::default(), false);
        assert_eq!(
            disk.read(File::Session).unwrap().len(),
            1_100,
            "the system sees its writes"
        );
        disk.crash(0, &mut choices);
        assert!(disk.read(File::Session).unwrap().is_empty());

        let (mut disk, mut choices) = written(DiskFaults::default(), true);
        disk.crash(0, &mut choices);
        assert_eq!(disk.durable(File::Session)[500..], [7; 600]);
    }

    #[test]
    fn a_lost_sync_reports_done_and_the_crash_takes_the_bytes() {
        let (mut disk, mut choices) = written(
            DiskFaults {
                lost_sync: true,
                ..Default::default()
            },
            true,
        );
        disk.crash(0, &mut choices);
        assert!(disk.durable(File::Session).is_empty());
    }

    #[test]
    fn a_torn_write_keeps_a_prefix_of_each_sector() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.faults.torn = true;
            let mut choices = Choices::new(seed);
            disk.write(File::Session, 500, &[7; 600], 0, &mut choices)
                .unwrap();
            disk.crash(0, &mut choices);
            let first = (500..512).filter(|at| disk.durable(File::Session).get(*at) == Some(&7));
            seen.insert(first.count());
        }
        assert!(seen.len() > 3, "tears differ: {seen:?}");
    }

    #[test]
    fn full_unreadable_rotten_and_misdirected_disks_do_what_they_say() {
        let (mut disk, mut choices) = written(DiskFaults::default(), true);
        disk.faults.full = true;
        assert_eq!(
            disk.write(File::Session, 0, &[1], 0, &mut choices),
            Err(DiskError::Full)
        );
        disk.faults.read_error = true;
        assert_eq!(disk.read(File::Session), Err(DiskError::Read));
        let before = disk.durable(File::Session).to_vec();
        disk.rot(0, &mut choices);
        let changed = before
            .iter()
            .zip(disk.durable(File::Session))
            .filter(|(a, b)| a != b);
        assert_eq!(changed.count(), 1);
        let (disk, _) = written(
            DiskFaults {
                misdirected: true,
                ..Default::default()
            },
            true,
        );
        assert_ne!(
            disk.durable(File::Session).len(),
            1_100,
            "the write went elsewhere"
        );
    }
}
