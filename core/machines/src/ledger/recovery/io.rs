//! What recovery takes and gives.

use std::fmt;

use crate::cluster::ids::NodeId;
use crate::codec::Malformed;
use crate::ledger::journal::Known;
use crate::ledger::journal::io::{DiskError, Op};
use crate::ledger::piece::Piece;
use crate::ledger::record::Chain;
use crate::ledger::segment::File;

/// A place in the chain: a record, and its hash. Zeros before record 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Head {
    /// The number of the record.
    pub record: u64,
    /// Its hash.
    pub hash: Chain,
}

/// A file of the folder `journal`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Its name, inside the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// What happens to a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The files of the folder.
    Listed(Vec<Listed>),
    /// The bytes that were asked for.
    Read(Op, Vec<u8>),
    /// They, or the list, could not be read.
    Failed(Op, DiskError),
}

/// What recovery wants done, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// List the files of the folder `journal`.
    List {
        /// The operation.
        op: Op,
    },
    /// Read bytes of a file.
    ReadAt {
        /// The operation.
        op: Op,
        /// The file.
        file: File,
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The next record, to be applied. If the recovery is refused after all, forget what it gave.
    Record(Entry),
    /// All is read. This is what [`Journal::new`](crate::ledger::journal::Journal::new) needs.
    Recovered(Box<Recovered>),
    /// The node must not start (L33, L34). Nothing was changed.
    Refused(Refusal),
}

/// A valid record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Kernel time, in milliseconds since 1970.
    pub time_ms: u64,
    /// How many events there are.
    pub count: u32,
    /// The events and up to 7 zeros: end the reading with
    /// [`padding`](crate::ledger::record::padding).
    pub body: Piece,
    /// Its hash.
    pub hash: Chain,
}

/// Valid records at the end that nothing proves durable. They may stand in the memory of the
/// operating system alone, so the journal writes them anew before it announces them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tail {
    /// The hash of the record before the first of them.
    pub chain: Chain,
    /// The records.
    pub bytes: Vec<u8>,
}

/// Bytes after the last record that are no record: a write that a crash cut short (L32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Torn {
    /// Where they stand.
    pub file: File,
    /// Where they begin.
    pub offset: u64,
    /// The record that would have been there.
    pub record: u64,
}

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// The last record.
    pub head: Head,
    /// The last one that something in the files proves durable.
    pub durable: u64,
    /// The records after that.
    pub tail: Option<Tail>,
    /// Kernel time of the youngest record or segment, in milliseconds since 1970.
    pub time_ms: u64,
    /// The segments, by first record.
    pub segments: Vec<Known>,
    /// Numbers of spare files that are of no use.
    pub leftovers: Vec<u64>,
    /// Files of other names: to be reported, and left alone (L18).
    pub strangers: Vec<String>,
    /// A torn tail, to be reported. The next segment supersedes it.
    pub torn: Option<Torn>,
}

/// Why a node must not start on this journal. None is routine; all leave the files as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// An acknowledged record is damaged (L33).
    Corrupt {
        /// Where.
        file: File,
        /// Where in the file.
        offset: u64,
        /// The first damaged record.
        record: u64,
        /// How many acknowledged records from there on there were, at least.
        at_stake: u64,
    },
    /// Records are missing between two that are there (L34).
    Gap {
        /// Where.
        file: File,
        /// Where in the file.
        offset: u64,
        /// The first that is missing.
        record: u64,
        /// The next that is there.
        next: u64,
    },
    /// Two segments tell different records under one number (L34).
    Overlap {
        /// The later segment.
        file: File,
        /// The first number that is known to be told twice.
        record: u64,
    },
    /// The first record that is needed is in no segment.
    Missing {
        /// Its number.
        record: u64,
    },
    /// The snapshot belongs to another journal: the record has another hash here.
    Differs {
        /// The record of the snapshot.
        record: u64,
    },
    /// The header of a segment is damaged.
    BadHeader {
        /// Which.
        file: File,
        /// What is wrong.
        malformed: Malformed,
    },
    /// The segment was written by a later release.
    UnknownFormat {
        /// Which.
        file: File,
        /// Its format.
        format: u16,
    },
    /// The segment belongs to another node.
    ForeignNode {
        /// Which.
        file: File,
        /// Whose it is.
        node: NodeId,
    },
    /// The disk did not give the bytes.
    Unreadable {
        /// Of which file; none if the folder could not be listed.
        file: Option<File>,
        /// From where on.
        offset: u64,
        /// Why.
        error: DiskError,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { file, offset, record, at_stake } => write!(
                f,
                "journal/{file}: at byte {offset}: record {record} is damaged; at least \
                 {at_stake} acknowledged records are at stake"
            ),
            Self::Gap { file, offset, record, next } => write!(
                f,
                "journal/{file}: at byte {offset}: records {record} to {} are missing; at least \
                 {} acknowledged records are at stake",
                next.saturating_sub(1),
                next.saturating_sub(*record)
            ),
            Self::Overlap { file, record } => {
                write!(f, "journal/{file}: another segment has a different record {record}")
            }
            Self::Missing { record } => {
                write!(f, "journal: record {record} is in no segment, and no snapshot covers it")
            }
            Self::Differs { record } => {
                write!(f, "journal: record {record} is not the one that the snapshot was made of")
            }
            Self::BadHeader { file, malformed } => {
                write!(f, "journal/{file}: the header is damaged {malformed}")
            }
            Self::UnknownFormat { file, format } => {
                write!(f, "journal/{file}: format {format} is of a later release: upgrade needed")
            }
            Self::ForeignNode { file, node } => {
                write!(f, "journal/{file}: the journal belongs to node {node}")
            }
            Self::Unreadable { file: Some(file), offset, error } => {
                write!(f, "journal/{file}: at byte {offset}: {error}")
            }
            Self::Unreadable { file: None, offset: _, error } => {
                write!(f, "journal: the folder cannot be listed: {error}")
            }
        }
    }
}

impl std::error::Error for Refusal {}
