//! What the journal takes and gives, and its limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::record::MARKER_BYTES;
use crate::ledger::recovery::io::Head;
use crate::ledger::segment::{File, HEADER_BYTES};

/// Names one operation on the disk, from its output to the input that tells what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub u64);

/// Why an operation on the disk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskError {
    /// There is no room. Routine: the journal tries again every second (L23).
    NoSpace,
    /// Fewer bytes were written or read than were asked for (L25).
    Short,
    /// Any other error of the device or the file system.
    Device,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "no space is left",
            Self::Short => "fewer bytes than asked for",
            Self::Device => "the device failed",
        })
    }
}

/// The events of one decision, encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Kernel time of the decision, in milliseconds since 1970.
    pub time_ms: u64,
    /// How many events there are; at least one.
    pub count: u32,
    /// The events, one after the other (L15).
    pub body: Vec<u8>,
    /// Whether it frees space (a clean-up, a stop): taken even while the disk is full (L23).
    pub frees: bool,
}

/// What happens to the journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Append one record: its number is [`Journal::appended`](super::Journal::appended) after it.
    Append(Decision),
    /// All bytes of a write are in the file.
    Wrote(Op),
    /// A sync of a file returned without error.
    Synced(Op),
    /// A create, rename, removal or sync of the folder returned without error.
    Done(Op),
    /// An operation failed.
    Failed(Op, DiskError),
    /// A durable snapshot covers all records up to this one; kernel time is this (L43). If
    /// recovery should be able to fall back on an older snapshot, give the record of that one.
    Covered {
        /// The last record that no recovery needs.
        record: u64,
        /// Kernel time, in milliseconds since 1970.
        time_ms: u64,
    },
    /// Stop cleanly: take no more, make all durable, and say so in a synced marker (L16).
    Stop,
}

/// What the journal wants done. Every operation is answered by one input that names it; operations
/// that are out at the same time may be done in any order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Make the file, or empty it, and write this many zeros, so that later writes need no room.
    Create {
        /// The operation.
        op: Op,
        /// The file.
        file: File,
        /// Its size.
        bytes: u64,
    },
    /// Write bytes inside the file.
    Write {
        /// The operation.
        op: Op,
        /// The file.
        file: File,
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<Vec<u8>>,
    },
    /// Make durable what was written to the file.
    Sync {
        /// The operation.
        op: Op,
        /// The file.
        file: File,
    },
    /// Give the file another name, replacing the file of that name if there is one.
    Rename {
        /// The operation.
        op: Op,
        /// Its name.
        from: File,
        /// Its name from now on.
        to: File,
    },
    /// Remove the file. That there is none is no error.
    Remove {
        /// The operation.
        op: Op,
        /// The file.
        file: File,
    },
    /// Make the names in the folder durable.
    SyncDir {
        /// The operation.
        op: Op,
    },
    /// All records up to this one are durable (L26); its hash is what a snapshot names (L17).
    Durable(Head),
    /// Nothing will be written any more: the disk failed too often (L24).
    Stalled(DiskError),
    /// The clean stop is complete.
    Stopped,
}

/// Why a record was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Too much waits for the disk (L22). Routine under load.
    Busy,
    /// The disk is full (L23). Resumes by itself.
    DiskFull,
    /// Longer than [`Config::body_bytes_max`].
    TooLong,
    /// The journal is stopping, or has stopped.
    Stopping,
    /// The journal is read-only for good (L24).
    Stalled,
}

/// The limits of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How large a segment is preallocated: 1 MiB to 1 GiB.
    pub segment_bytes: u64,
    /// How much goes into one write, unless a single record is longer (L20).
    pub write_bytes_max: u64,
    /// How much may wait for the disk before records are refused (L22).
    pub unsynced_max: u64,
    /// How long a segment is kept after its last record (L43).
    pub journal_keep: Duration,
}

impl Limits {
    /// What the spec gives.
    pub const STANDARD: Self = Self {
        segment_bytes: 64 << 20,
        write_bytes_max: 1 << 20,
        unsynced_max: 16 << 20,
        journal_keep: Duration::from_secs(7 * 24 * 3_600),
    };
}

/// Limits that were checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config(Limits);

/// Why limits are not legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadLimit {
    /// `segment_bytes` is not from 1 MiB to 1 GiB, or no multiple of 4096.
    SegmentBytes,
    /// `write_bytes_max` is below 4 KiB or above the size of a segment.
    WriteBytes,
    /// `unsynced_max` is below `write_bytes_max`, or above 1 GiB.
    Unsynced,
}

impl Config {
    /// Checks limits.
    ///
    /// # Errors
    ///
    /// [`BadLimit`] names the first that is not legal.
    pub fn new(limits: Limits) -> Result<Self, BadLimit> {
        if !(1 << 20..=1 << 30).contains(&limits.segment_bytes) {
            return Err(BadLimit::SegmentBytes);
        }
        if !limits.segment_bytes.is_multiple_of(4_096) {
            return Err(BadLimit::SegmentBytes);
        }
        if !(4_096..=limits.segment_bytes).contains(&limits.write_bytes_max) {
            return Err(BadLimit::WriteBytes);
        }
        if !(limits.write_bytes_max..=1 << 30).contains(&limits.unsynced_max) {
            return Err(BadLimit::Unsynced);
        }
        Ok(Self(limits))
    }

    /// Takes limits as they are: segments of a few sectors turn over often.
    #[cfg(test)]
    pub(in crate::ledger) const fn unchecked(limits: Limits) -> Self {
        Self(limits)
    }

    /// Returns the limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.0
    }

    /// Returns how long the longest record is: it fits into a segment beside the header and a
    /// marker, and in what may wait for the disk.
    #[must_use]
    pub fn record_bytes_max(&self) -> u64 {
        let room = self.0.segment_bytes - HEADER_BYTES as u64 - MARKER_BYTES as u64;
        room.min(self.0.unsynced_max)
    }

    /// Returns how many bytes of events fit into the longest record.
    #[must_use]
    pub fn body_bytes_max(&self) -> u64 {
        (self.record_bytes_max() - MARKER_BYTES as u64) / 8 * 8
    }
}
