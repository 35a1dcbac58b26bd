//! The bytes of a snapshot, checked, as rows: total, strict, and without knowing what rows mean.
//!
//! ```text
//!   Header ─► Part ─► Rows ⟲ chunk, row, end of table ─► end of part ─► Part … ─► Footer ─► End
//!      └────────┴───────┴──────────────── anything wrong ──────────────────┴──► refused, for good
//! ```
//!
//! The tables' hash trees are built from the bytes alone, so the state root is checked for every
//! schema version, also those that the program no longer writes.

use std::fmt;
use std::mem;
use std::ops::Range;

use super::format::{CHUNK_BYTES, CHUNK_DOMAIN, CHUNK_START_BYTES, FILE_DOMAIN, FORMAT};
use super::format::{HASH_BYTES, HEADER_BYTES, HEADER_DOMAIN, MAGIC, PART_DOMAIN};
use super::format::{PART_START_BYTES, PartHeader, SnapshotHeader, hash};
use crate::cluster::ids::NodeId;
use crate::codec::{Malformed, Reader};
use crate::ledger::fold::Unreadable;
use crate::ledger::root::{StateRoot, part_root};
use crate::ledger::table::HashTree;

/// Why a snapshot is not taken for one. Recovery tries an older one (L30).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The file ends too early.
    Truncated {
        /// Where what is missing should begin.
        offset: u64,
    },
    /// Something follows the footer.
    Trailing {
        /// Where.
        offset: u64,
    },
    /// A hash does not hold.
    Damaged {
        /// Of what.
        what: &'static str,
        /// Where that begins.
        offset: u64,
    },
    /// The file does not begin as a snapshot does.
    Magic,
    /// A newer program wrote it.
    Format {
        /// The format found.
        found: u16,
    },
    /// The hash holds, and the bytes are wrong all the same: wrong code wrote them.
    Malformed {
        /// Where the thing begins that is wrong.
        offset: u64,
        /// What is wrong in it.
        why: Malformed,
    },
    /// It is another node's.
    Foreign {
        /// Whose.
        found: NodeId,
        /// Whose it should be.
        wanted: NodeId,
    },
    /// It is of another record than its name says.
    Record {
        /// Of which.
        found: u64,
        /// Of which it should be.
        wanted: u64,
    },
    /// The tables in the file do not have the root that its header tells: something was left out.
    Root {
        /// The root of what is there.
        found: StateRoot,
        /// The root that the header tells.
        wanted: StateRoot,
    },
    /// The tables that were loaded do not have the root of those in the file.
    Loaded {
        /// Of which part.
        part: &'static str,
    },
    /// The file is whole, and this program cannot read what is in it.
    Unreadable(Unreadable),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { offset } => write!(f, "ends at byte {offset}, too early"),
            Self::Trailing { offset } => write!(f, "goes on at byte {offset}, after its footer"),
            Self::Damaged { what, offset } => {
                write!(f, "damaged: the hash of the {what} at byte {offset} does not hold")
            }
            Self::Magic => write!(f, "not a snapshot"),
            Self::Format { found } => write!(f, "upgrade needed: format {found} is unknown"),
            Self::Malformed { offset, why } => write!(f, "malformed, from byte {offset}: {why}"),
            Self::Foreign { found, wanted } => write!(f, "of node {found}, not {wanted}"),
            Self::Record { found, wanted } => write!(f, "of record {found}, not {wanted}"),
            Self::Root { found, wanted } => {
                write!(f, "its tables have root {found}, its header says {wanted}")
            }
            Self::Loaded { part } => write!(f, "{part} has another root than its tables here"),
            Self::Unreadable(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// What a snapshot says, in this order.
#[derive(Debug)]
pub enum Item<'a> {
    /// What it is of.
    Header(&'a SnapshotHeader),
    /// A part begins.
    Part(&'a PartHeader),
    /// A row of the part's current table.
    Row {
        /// Number of the table.
        table: u32,
        /// The key in canonical bytes.
        key: &'a [u8],
        /// The value in canonical bytes.
        value: &'a [u8],
    },
    /// A table of the part has no more rows.
    TableEnd {
        /// Its number.
        table: u32,
        /// The hash tree of its rows.
        tree: HashTree,
    },
    /// The part has no more tables.
    PartEnd {
        /// Its root.
        root: [u8; 32],
    },
    /// All hashes and the state root hold.
    End,
}

/// An item, before the bytes that it shows are borrowed.
enum Found {
    Header,
    Part,
    Row {
        key: Range<usize>,
        value: Range<usize>,
    },
    TableEnd {
        table: usize,
        tree: HashTree,
    },
    PartEnd {
        root: [u8; 32],
    },
    End,
    /// Nothing to show yet; there may be something in the bytes at hand.
    Progress,
    /// More bytes are needed.
    Starved,
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Header,
    Part,
    Rows,
    Footer,
    Nothing,
}

/// Reads a snapshot whose bytes come in pieces of any size.
///
/// It holds one chunk and one row, whatever counts and lengths claim, and the hashes of one table.
#[derive(Clone, Debug)]
pub struct SnapshotReader {
    node: Option<NodeId>,
    record: Option<u64>,
    /// Bytes that came; those before `taken` were read.
    input: Vec<u8>,
    taken: usize,
    /// Where in the file the next byte to read is.
    offset: u64,
    /// Hashes all that was read.
    whole: blake3::Hasher,
    expect: Expect,
    header: Option<SnapshotHeader>,
    /// Tag and root of the parts read.
    parts: Vec<(u16, [u8; 32])>,
    part: PartHeader,
    /// Roots of the part's tables read.
    tables: Vec<[u8; 32]>,
    /// How many rows of the table were read.
    rows: u32,
    tree: HashTree,
    /// Chunks of the table, joined; those before `parsed` were read as rows.
    stream: Vec<u8>,
    parsed: usize,
    /// The table had a chunk that is not full: its last.
    is_last_chunk: bool,
    refused: Option<Refused>,
}

impl SnapshotReader {
    /// Reads a snapshot that must be of `node` and of the state after `record`, where given.
    #[must_use]
    pub fn new(node: Option<NodeId>, record: Option<u64>) -> Self {
        Self {
            node,
            record,
            input: Vec::new(),
            taken: 0,
            offset: 0,
            whole: blake3::Hasher::new_derive_key(FILE_DOMAIN),
            expect: Expect::Header,
            header: None,
            parts: Vec::new(),
            part: PartHeader { tag: 0, version: 0, rows: Vec::new() },
            tables: Vec::new(),
            rows: 0,
            tree: HashTree::new(),
            stream: Vec::new(),
            parsed: 0,
            is_last_chunk: false,
            refused: None,
        }
    }

    /// Takes the next bytes of the file. Drain [`SnapshotReader::poll`] after each.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.drain(..self.taken);
        self.taken = 0;
        self.input.extend_from_slice(bytes);
    }

    /// Takes the next item, or `None` if that needs more bytes.
    ///
    /// # Errors
    ///
    /// [`Refused`], from then on always the same. What was told before is void.
    pub fn poll(&mut self) -> Result<Option<Item<'_>>, Refused> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let found = loop {
            match self.step() {
                Ok(Found::Progress) => {}
                Ok(found) => break found,
                Err(refused) => {
                    self.refused = Some(refused.clone());
                    return Err(refused);
                }
            }
        };
        Ok(match found {
            Found::Progress | Found::Starved => None,
            Found::Header => self.header.as_ref().map(Item::Header),
            Found::Part => Some(Item::Part(&self.part)),
            Found::Row { key, value } => {
                let table = number(self.tables.len());
                Some(Item::Row { table, key: &self.stream[key], value: &self.stream[value] })
            }
            Found::TableEnd { table, tree } => Some(Item::TableEnd { table: number(table), tree }),
            Found::PartEnd { root } => Some(Item::PartEnd { root }),
            Found::End => Some(Item::End),
        })
    }

    /// Ends the reading, after all bytes were given and `poll` was drained: returns of what the
    /// snapshot is.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it was, or if the file is not whole.
    pub fn finish(&self) -> Result<SnapshotHeader, Refused> {
        match (&self.refused, self.expect, &self.header) {
            (Some(refused), _, _) => Err(refused.clone()),
            (None, Expect::Nothing, Some(header)) if self.at_hand().is_empty() => Ok(*header),
            (None, _, _) => Err(Refused::Truncated { offset: self.offset }),
        }
    }

    fn at_hand(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// Returns the next `count` bytes, if they are at hand.
    fn peek(&self, count: usize) -> Option<&[u8]> {
        self.at_hand().get(..count)
    }

    /// Has the next `count` bytes, which are at hand, read.
    fn take(&mut self, count: usize) {
        self.whole.update(&self.input[self.taken..self.taken + count]);
        self.taken += count;
        self.offset += count as u64;
    }

    fn damaged(&self, what: &'static str) -> Refused {
        Refused::Damaged { what, offset: self.offset }
    }

    fn malformed(&self, why: Malformed) -> Refused {
        Refused::Malformed { offset: self.offset, why }
    }

    fn step(&mut self) -> Result<Found, Refused> {
        match self.expect {
            Expect::Header => self.read_header(),
            Expect::Part => self.read_part(),
            Expect::Rows => self.read_rows(),
            Expect::Footer => self.read_footer(),
            Expect::Nothing if self.at_hand().is_empty() => Ok(Found::Starved),
            Expect::Nothing => Err(Refused::Trailing { offset: self.offset }),
        }
    }

    fn read_header(&mut self) -> Result<Found, Refused> {
        let start = self.at_hand().len().min(MAGIC.len());
        if self.at_hand()[..start] != MAGIC[..start] {
            return Err(Refused::Magic);
        }
        let Some(bytes) = self.peek(HEADER_BYTES) else {
            return Ok(Found::Starved);
        };
        let (content, given) = bytes.split_at(HEADER_BYTES - HASH_BYTES);
        let mut reader = Reader::new(&content[MAGIC.len()..]);
        let format = reader.u16().map_err(|why| self.malformed(why))?;
        // Every version keeps this header's size and its hash: damage is no newer version.
        if hash(HEADER_DOMAIN, content) != given {
            return Err(self.damaged("header"));
        }
        if format != FORMAT {
            return Err(Refused::Format { found: format });
        }
        let header = SnapshotHeader::decode(&mut reader).map_err(|why| self.malformed(why))?;
        match (self.node, self.record) {
            (Some(wanted), _) if wanted != header.node => {
                return Err(Refused::Foreign { found: header.node, wanted });
            }
            (_, Some(wanted)) if wanted != header.record => {
                return Err(Refused::Record { found: header.record, wanted });
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        self.header = Some(header);
        self.take(HEADER_BYTES);
        self.expect = self.after_part();
        Ok(Found::Header)
    }

    /// Returns what follows the parts that were read.
    fn after_part(&self) -> Expect {
        match self.header {
            Some(header) if self.parts.len() < header.parts as usize => Expect::Part,
            Some(_) | None => Expect::Footer,
        }
    }

    fn read_part(&mut self) -> Result<Found, Refused> {
        let Some(start) = self.at_hand().first_chunk::<PART_START_BYTES>() else {
            return Ok(Found::Starved);
        };
        let length = PartHeader::length(start).map_err(|why| self.malformed(why))?;
        let Some(bytes) = self.peek(length + HASH_BYTES) else {
            return Ok(Found::Starved);
        };
        let (content, given) = bytes.split_at(length);
        if hash(PART_DOMAIN, content) != given {
            return Err(self.damaged("part header"));
        }
        let part = PartHeader::decode(content).map_err(|why| self.malformed(why))?;
        if self.parts.last().is_some_and(|(tag, _)| *tag >= part.tag) {
            let why = Reader::new(content).malformed("a tag above the one before");
            return Err(self.malformed(why));
        }
        self.part = part;
        self.take(length + HASH_BYTES);
        self.expect = Expect::Rows;
        Ok(Found::Part)
    }

    fn read_rows(&mut self) -> Result<Found, Refused> {
        let table = self.tables.len();
        let Some(rows) = self.part.rows.get(table) else {
            let root = part_root(&mem::take(&mut self.tables));
            self.parts.push((self.part.tag, root));
            self.expect = self.after_part();
            return Ok(Found::PartEnd { root });
        };
        if self.rows == *rows {
            if self.parsed < self.stream.len() {
                return Err(self.malformed(self.in_table("the end of the table")));
            }
            let mut tree = mem::take(&mut self.tree);
            self.tables.push(tree.root());
            self.rows = 0;
            self.stream.clear();
            self.parsed = 0;
            self.is_last_chunk = false;
            return Ok(Found::TableEnd { table, tree });
        }
        if let Some((key, value)) = self.row() {
            self.rows += 1;
            self.parsed = value.end;
            self.tree.put(&self.stream[key.clone()], &self.stream[value.clone()]);
            if self.tree.len() < self.rows {
                return Err(self.malformed(self.in_table("a key that was not there before")));
            }
            return Ok(Found::Row { key, value });
        }
        self.read_chunk()
    }

    fn in_table(&self, expected: &'static str) -> Malformed {
        let mut reader = Reader::new(&self.stream);
        let passed = reader.take(self.parsed);
        assert!(passed.is_ok(), "what was parsed is in the stream");
        reader.malformed(expected)
    }

    /// Finds the next row in the chunks at hand.
    fn row(&self) -> Option<(Range<usize>, Range<usize>)> {
        let mut reader = Reader::new(self.stream.get(self.parsed..)?);
        let (key, value) = (reader.u32().ok()? as usize, reader.u32().ok()? as usize);
        reader.take(key).ok()?;
        reader.take(value).ok()?;
        let start = self.parsed + 8;
        Some((start..start + key, start + key..start + key + value))
    }

    fn read_chunk(&mut self) -> Result<Found, Refused> {
        if self.is_last_chunk {
            return Err(self.malformed(self.in_table("a row")));
        }
        let Some(start) = self.peek(CHUNK_START_BYTES) else {
            return Ok(Found::Starved);
        };
        let mut reader = Reader::new(start);
        let length = reader.u32().map_err(|why| self.malformed(why))? as usize;
        if !(1..=CHUNK_BYTES).contains(&length) {
            let why = Reader::new(start).malformed("1 byte to 1 MiB");
            return Err(self.malformed(why));
        }
        reader.zero(4).map_err(|why| self.malformed(why))?;
        let Some(bytes) = self.peek(CHUNK_START_BYTES + length) else {
            return Ok(Found::Starved);
        };
        let (start, content) = bytes.split_at(CHUNK_START_BYTES);
        if hash(CHUNK_DOMAIN, content) != start[CHUNK_START_BYTES - HASH_BYTES..] {
            return Err(self.damaged("chunk"));
        }
        let from = self.taken + CHUNK_START_BYTES;
        self.stream.drain(..self.parsed);
        self.parsed = 0;
        self.stream.extend_from_slice(&self.input[from..from + length]);
        self.is_last_chunk = length < CHUNK_BYTES;
        self.take(CHUNK_START_BYTES + length);
        Ok(Found::Progress)
    }

    fn read_footer(&mut self) -> Result<Found, Refused> {
        let Some(given) = self.at_hand().first_chunk::<HASH_BYTES>() else {
            return Ok(Found::Starved);
        };
        if self.whole.finalize() != *given {
            return Err(self.damaged("file, in its footer,"));
        }
        let found = StateRoot::of_parts(&self.parts);
        let wanted = self.header.map_or(found, |header| header.root);
        if found != wanted {
            return Err(Refused::Root { found, wanted });
        }
        self.take(HASH_BYTES);
        self.expect = Expect::Nothing;
        Ok(Found::End)
    }
}

/// Turns the place of a table in its part into its number.
fn number(table: usize) -> u32 {
    u32::try_from(table).expect("a part has at most 1024 tables")
}
