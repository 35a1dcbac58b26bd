//! A fold: state that only events change, and the parts that a node's state is made of (L4, L15).
//!
//! ```text
//!   command ─► decide(&state) ─► events ─► journal ─────────► apply(&mut state)
//!                   │                         │                     ▲
//!                   └► refusal                └─ frames ─► read ────┘   recovery
//! ```
//!
//! A [`Part`] is a fold with a name and an *event tag* of its own in the journal, and with tables
//! that a snapshot holds. Its *schema version* counts the changes of its events' and rows'
//! encodings together: one more kind of event is a new version, too, so that a program that does
//! not know it says so and does not take it for damage (L36).
//!
//! # Format of an event in a record's body (L15)
//!
//! | size   | what                                                         |
//! |--------|--------------------------------------------------------------|
//! | 2      | event tag: which part                                        |
//! | 2      | schema version                                               |
//! | 4      | length of the body                                           |
//! | length | the event in the binary standard form of that schema version |
//!
//! Integers are little-endian. The length lets a reader count and pass over events that it cannot
//! read, and confines damage.

use std::fmt;

use super::table::{Frozen, HashTree, Stored};
use crate::codec::{Malformed, Reader, Wire, put_count};

/// Bytes of an event before its body.
const FRAME_HEADER: usize = 8;

/// Decisions and state as a function of events alone.
///
/// A type that implements this is a name for the three functions; the state is a value beside it.
pub trait Fold {
    /// What the events add up to.
    type State;
    /// What is asked for, with the time and the randomness that deciding may need.
    type Command;
    /// What happened.
    type Event: Wire;
    /// Why nothing did.
    type Refusal;

    /// Decides what `command` does to `state`, and changes nothing.
    ///
    /// # Errors
    ///
    /// The refusal; there are no events then, and nothing has changed.
    fn decide(
        state: &Self::State,
        command: &Self::Command,
    ) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// Changes `state` as `event` says. Total and deterministic: an event whose subject is missing
    /// changes nothing, and time is what the event says.
    fn apply(state: &mut Self::State, event: &Self::Event);

    /// Returns the part root of `state`: [`part_root`](super::root::part_root) over the roots of
    /// its tables.
    fn root(state: &mut Self::State) -> [u8; 32];
}

/// A fold that is part of a node's state.
pub trait Part: Fold<Event: 'static> {
    /// What people call it.
    const NAME: &'static str;
    /// What marks its events and tables in files, for ever.
    const TAG: u16;
    /// Which schema version it writes, from 1.
    const VERSION: u16;
    /// The older schema versions that it still reads, in order.
    const OLDER: &'static [Older<Self::Event>];
    /// The names of its tables, in the order of the part root.
    const TABLES: &'static [&'static str];

    /// Returns the table with that number in [`Part::TABLES`], or nothing if there is none.
    fn table(state: &mut Self::State, number: usize) -> Option<&mut dyn Stored>;

    /// Derives what follows from the tables and is in none of them (indexes, deadlines), after they
    /// were loaded.
    fn derive(state: &mut Self::State);
}

/// How what an older schema version wrote is read today (L36). Each has a golden vector.
#[derive(Clone, Copy, Debug)]
pub struct Older<E> {
    /// Which.
    pub version: u16,
    /// Reads an event of that version, and says it in today's words.
    pub event: fn(&mut Reader<'_>) -> Result<E, Malformed>,
    /// Turns a row of that version (number of the table, key, value) into one of today, or into
    /// nothing.
    pub row: OlderRow,
}

/// Turns a row of an older schema version into one of today, or into nothing.
pub type OlderRow = fn(u32, &[u8], &[u8]) -> Result<Option<Row>, Malformed>;

/// A row in canonical bytes, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Number of the table in its part.
    pub table: u32,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// Why this program cannot read what stands in a file whose hashes hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No part of this program has that tag. A newer program wrote it (L36).
    Tag {
        /// The tag.
        tag: u16,
    },
    /// The part is known, the schema version is not. A newer program wrote it, or one so old that
    /// its version is no longer read (L36).
    Version {
        /// The part.
        part: &'static str,
        /// Its tag.
        tag: u16,
        /// The version found.
        found: u16,
        /// The version that this program writes.
        written: u16,
    },
    /// The bytes are not what tag and version say: wrong code wrote them, or reads them.
    Malformed {
        /// The part.
        part: &'static str,
        /// The version found.
        version: u16,
        /// Which table, or nothing for an event.
        table: Option<u32>,
        /// Where in the event, or in the key or value of a row.
        why: Malformed,
    },
    /// A snapshot has more or fewer tables of the part than this program, at the same version.
    Tables {
        /// The part.
        part: &'static str,
        /// How many the snapshot has.
        found: u32,
        /// How many the part has.
        known: u32,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { tag } => write!(f, "upgrade needed: event tag {tag} is unknown"),
            Self::Version { part, tag, found, written } => write!(
                f,
                "upgrade needed: schema version {found} of {part} (tag {tag}) is unknown, \
                 this program writes {written}"
            ),
            Self::Malformed { part, version, table: None, why } => {
                write!(f, "event of {part}, schema version {version}: {why}")
            }
            Self::Malformed { part, version, table: Some(table), why } => {
                write!(f, "table {table} of {part}, schema version {version}: {why}")
            }
            Self::Tables { part, found, known } => {
                write!(f, "{found} tables of {part}, not {known}")
            }
        }
    }
}

impl std::error::Error for Unreadable {}

/// An event as it stands in a record, not yet read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which part.
    pub tag: u16,
    /// The schema version.
    pub version: u16,
    /// The event.
    pub body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a frame off the front of `reader`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes do not hold a whole one.
    pub fn take(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let (tag, version) = (reader.u16()?, reader.u16()?);
        let length = reader.count(1)?;
        Ok(Self { tag, version, body: reader.take(length)? })
    }

    /// Splits the body of a record that has `count` events.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are not exactly so many frames.
    pub fn split(body: &'a [u8], count: u32) -> Result<Vec<Self>, Malformed> {
        let mut reader = Reader::new(body);
        if (count as usize).checked_mul(FRAME_HEADER).is_none_or(|least| least > body.len()) {
            return Err(reader.malformed("as many events as the record counts"));
        }
        let frames = (0..count).map(|_| Self::take(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(frames)
    }

    /// Reads the event as one of part `P`, of whatever schema version.
    ///
    /// # Errors
    ///
    /// [`Unreadable`]: nothing may be applied, and the program may not start (L36).
    pub fn read<P: Part>(&self) -> Result<P::Event, Unreadable> {
        if self.tag != P::TAG {
            return Err(Unreadable::Tag { tag: self.tag });
        }
        let read = match older::<P>(self.version)? {
            None => P::Event::from_bytes(self.body),
            Some(older) => {
                let mut reader = Reader::new(self.body);
                (older.event)(&mut reader).and_then(|event| reader.finish().map(|()| event))
            }
        };
        let version = self.version;
        read.map_err(|why| Unreadable::Malformed { part: P::NAME, version, table: None, why })
    }
}

/// Appends `event` of part `P` to the body of a record.
pub fn put_event<P: Part>(out: &mut Vec<u8>, event: &P::Event) {
    out.extend_from_slice(&P::TAG.to_le_bytes());
    out.extend_from_slice(&P::VERSION.to_le_bytes());
    let length_at = out.len();
    put_count(out, 0);
    let start = out.len();
    event.encode(out);
    let length = u32::try_from(out.len() - start).expect("an event is far below 4 GiB");
    out[length_at..start].copy_from_slice(&length.to_le_bytes());
}

/// Finds how `version` of part `P` is read: as today, or as an older one.
fn older<P: Part>(version: u16) -> Result<Option<&'static Older<P::Event>>, Unreadable> {
    if version == P::VERSION {
        return Ok(None);
    }
    let found = P::OLDER.iter().find(|older| older.version == version);
    let (part, tag, written) = (P::NAME, P::TAG, P::VERSION);
    found.map(Some).ok_or(Unreadable::Version { part, tag, found: version, written })
}

/// The tables of one part at one moment, and its root then.
#[derive(Clone)]
pub struct FrozenPart {
    /// The part's tag.
    pub tag: u16,
    /// The schema version of its rows.
    pub version: u16,
    /// Its part root.
    pub root: [u8; 32],
    /// Its tables, in its order.
    pub tables: Vec<Box<dyn Frozen>>,
}

impl fmt::Debug for FrozenPart {
    /// Tag and number of rows: the rows themselves are many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<u32> = self.tables.iter().map(|table| table.rows()).collect();
        f.debug_struct("FrozenPart").field("tag", &self.tag).field("rows", &rows).finish()
    }
}

/// A part of a node's state, whatever its types, as the making and the reading of snapshots see it.
pub trait PartState {
    /// Returns the part's name.
    fn name(&self) -> &'static str;

    /// Returns the part's tag.
    fn tag(&self) -> u16;

    /// Returns the part root.
    fn root(&mut self) -> [u8; 32];

    /// Does at most `steps` of the work that the root needs, each a row or a node to hash. Returns
    /// how many steps are left over: none if there may be more to do.
    fn settle(&mut self, steps: u32) -> u32;

    /// Returns the tables as they are now, for a snapshot.
    fn freeze(&mut self) -> FrozenPart;

    /// Begins the loading of `tables` tables of schema `version`. All tables are empty.
    /// Returns whether the version is today's, so that the root must come out equal.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if the version is unknown, or is today's and has other tables.
    fn begin(&mut self, version: u16, tables: u32) -> Result<bool, Unreadable>;

    /// Loads a row of schema `version`. Rows come in the order of tables and keys.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if it is none.
    fn load(&mut self, version: u16, row: (u32, &[u8], &[u8])) -> Result<(), Unreadable>;

    /// Ends table number `table` of schema `version`, of which `tree` is the hash tree.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if there is no such table.
    fn seal(&mut self, version: u16, table: u32, tree: HashTree) -> Result<(), Unreadable>;

    /// Ends the loading, and derives what follows from the tables.
    fn end(&mut self);
}

/// The state of part `P`, borrowed as a [`PartState`].
pub struct Held<'a, P: Part>(pub &'a mut P::State);

impl<P: Part> fmt::Debug for Held<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", P::NAME)
    }
}

impl<P: Part> Held<'_, P> {
    fn table(&mut self, table: u32) -> Result<&mut dyn Stored, Unreadable> {
        let known = tables::<P>();
        let found = table.saturating_add(1);
        let missing = Unreadable::Tables { part: P::NAME, found, known };
        P::table(self.0, table as usize).ok_or(missing)
    }
}

fn tables<P: Part>() -> u32 {
    u32::try_from(P::TABLES.len()).expect("a part has a handful of tables")
}

impl<P: Part> PartState for Held<'_, P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn tag(&self) -> u16 {
        P::TAG
    }

    fn root(&mut self) -> [u8; 32] {
        P::root(self.0)
    }

    fn settle(&mut self, steps: u32) -> u32 {
        (0..P::TABLES.len()).fold(steps, |steps, number| {
            P::table(self.0, number).expect("a part has the tables that it names").settle(steps)
        })
    }

    fn freeze(&mut self) -> FrozenPart {
        let root = P::root(self.0);
        let tables = 0..P::TABLES.len();
        let tables = tables.map(|number| {
            P::table(self.0, number).expect("a part has the tables that it names").freeze()
        });
        FrozenPart { tag: P::TAG, version: P::VERSION, tables: tables.collect(), root }
    }

    fn begin(&mut self, version: u16, found: u32) -> Result<bool, Unreadable> {
        let today = older::<P>(version)?.is_none();
        let known = tables::<P>();
        match today && found != known {
            true => Err(Unreadable::Tables { part: P::NAME, found, known }),
            false => Ok(today),
        }
    }

    fn load(
        &mut self,
        version: u16,
        (table, key, value): (u32, &[u8], &[u8]),
    ) -> Result<(), Unreadable> {
        let malformed =
            |why| Unreadable::Malformed { part: P::NAME, version, table: Some(table), why };
        let Some(older) = older::<P>(version)? else {
            return self.table(table)?.load(key, value).map_err(malformed);
        };
        let Some(row) = (older.row)(table, key, value).map_err(malformed)? else {
            return Ok(());
        };
        self.table(row.table)?.put(&row.key, &row.value).map_err(malformed)
    }

    fn seal(&mut self, version: u16, table: u32, tree: HashTree) -> Result<(), Unreadable> {
        if older::<P>(version)?.is_none() {
            self.table(table)?.seal(tree);
        }
        Ok(()) // Of older rows the tree would be wrong: theirs was built as they were put.
    }

    fn end(&mut self) {
        P::derive(self.0);
    }
}

#[cfg(test)]
pub(super) mod demo;
#[cfg(test)]
mod tests;
