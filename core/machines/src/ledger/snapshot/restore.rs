//! From the bytes of a snapshot to the state of a node (L30).
//!
//! ```text
//!   bytes ─► SnapshotReader ─► Part: begin ─► rows: load ─► table: seal ─► part: end, same root?
//! ```

use super::format::SnapshotHeader;
use super::read::{Item, Refused, SnapshotReader};
use crate::cluster::ids::NodeId;
use crate::ledger::fold::{PartState, Unreadable};

/// Loads a snapshot that comes in pieces into the parts of a node.
#[derive(Clone, Debug)]
pub struct Restoring {
    reader: SnapshotReader,
    part: Option<Loading>,
}

/// The part that is being loaded.
#[derive(Clone, Copy, Debug)]
struct Loading {
    /// Its place among the parts of the node.
    place: usize,
    version: u16,
    /// The version is the one that this program writes: the root must come out equal.
    is_current: bool,
}

impl Restoring {
    /// Begins with a snapshot that must be of `node` and of the state after `record`.
    #[must_use]
    pub fn new(node: NodeId, record: u64) -> Self {
        Self { reader: SnapshotReader::new(Some(node), Some(record)), part: None }
    }

    /// Loads what `bytes`, the next of the file, hold. `parts` are all that the node has, empty at
    /// first; those that the snapshot does not know, being older than they, stay empty.
    ///
    /// # Errors
    ///
    /// [`Refused`]: `parts` hold nothing of use then.
    pub fn push(&mut self, bytes: &[u8], parts: &mut [&mut dyn PartState]) -> Result<(), Refused> {
        let Self { reader, part: current } = self;
        reader.feed(bytes);
        while let Some(item) = reader.poll()? {
            if let Item::Part(header) = item {
                let found = parts.iter().position(|part| part.tag() == header.tag);
                let unknown = Refused::Unreadable(Unreadable::Tag { tag: header.tag });
                let place = found.ok_or(unknown)?;
                let tables = u32::try_from(header.rows.len()).unwrap_or(u32::MAX);
                let begun = parts[place].begin(header.version, tables);
                let is_current = begun.map_err(Refused::Unreadable)?;
                *current = Some(Loading { place, version: header.version, is_current });
            } else if let Some(loading) = *current {
                load(loading, item, &mut *parts[loading.place])?;
            }
        }
        Ok(())
    }

    /// Ends the loading, after all bytes were pushed: returns of what the snapshot is.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it was, or if the file is not whole.
    pub fn finish(&self) -> Result<SnapshotHeader, Refused> {
        self.reader.finish()
    }
}

/// Hands `item` to the part that it belongs to.
fn load(loading: Loading, item: Item<'_>, part: &mut dyn PartState) -> Result<(), Refused> {
    let version = loading.version;
    match item {
        Item::Row { table, key, value } => {
            part.load(version, (table, key, value)).map_err(Refused::Unreadable)
        }
        Item::TableEnd { table, tree } => {
            part.seal(version, table, tree).map_err(Refused::Unreadable)
        }
        Item::PartEnd { root } => {
            part.end();
            match loading.is_current && part.root() != root {
                true => Err(Refused::Loaded { part: part.name() }),
                false => Ok(()),
            }
        }
        Item::Header(_) | Item::Part(_) | Item::End => Ok(()),
    }
}
