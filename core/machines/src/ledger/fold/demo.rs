//! A small part for tests: counters by name, and who asked for what.

use super::{Fold, Older, Part, Row};
use crate::codec::{Malformed, Reader, Wire};
use crate::ledger::root::part_root;
use crate::ledger::table::{Stored, Table};

/// A key whose order is not that of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) u32);

impl Wire for Key {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(reader.u32()?))
    }
}

/// A value of any length.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl Wire for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        crate::codec::put_count(out, self.0.len());
        out.extend_from_slice(&self.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = reader.count(1)?;
        Ok(Self(reader.take(length)?.to_vec()))
    }
}

/// The state: two tables, and what follows from the second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Notes {
    pub(crate) counts: Table<Key, Key>,
    pub(crate) texts: Table<Key, Text>,
    /// Length of all texts.
    pub(crate) length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Counted { key: Key, by: Key },
    Wrote { key: Key, text: Text },
    Erased { key: Key },
}

impl Wire for Event {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Counted { key, by } => {
                out.push(1);
                key.encode(out);
                by.encode(out);
            }
            Self::Wrote { key, text } => {
                out.push(2);
                key.encode(out);
                text.encode(out);
            }
            Self::Erased { key } => {
                out.push(3);
                key.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        match reader.u8()? {
            1 => Ok(Self::Counted { key: Key::decode(reader)?, by: Key::decode(reader)? }),
            2 => Ok(Self::Wrote { key: Key::decode(reader)?, text: Text::decode(reader)? }),
            3 => Ok(Self::Erased { key: Key::decode(reader)? }),
            _ => Err(here.malformed("an event of notes, 1 to 3")),
        }
    }
}

/// What is asked of notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Write a text where there is none, and count.
    Write { key: Key, text: Text },
    /// Erase a text.
    Erase { key: Key },
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Taken,
    Missing,
}

/// Tables of counts and texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotesPart;

impl Fold for NotesPart {
    type State = Notes;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(state: &Notes, command: &Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Write { key, .. } if state.texts.contains(key) => Err(Refusal::Taken),
            Command::Write { key, text } => {
                let (key, text) = (*key, text.clone());
                Ok(vec![Event::Wrote { key, text }, Event::Counted { key, by: Key(1) }])
            }
            Command::Erase { key } if state.texts.contains(key) => {
                Ok(vec![Event::Erased { key: *key }])
            }
            Command::Erase { .. } => Err(Refusal::Missing),
        }
    }

    fn apply(state: &mut Notes, event: &Event) {
        match event {
            Event::Counted { key, by } => {
                let count = state.counts.get(key).map_or(0, |count| count.0);
                state.counts.insert(*key, Key(count.wrapping_add(by.0)));
            }
            Event::Wrote { key, text } => {
                state.texts.insert(*key, text.clone());
            }
            Event::Erased { key } => {
                state.texts.remove(key);
            }
        }
        Self::derive(state);
    }

    fn root(state: &mut Notes) -> [u8; 32] {
        part_root(&[state.counts.root(), state.texts.root()])
    }
}

impl Part for NotesPart {
    const NAME: &'static str = "notes";
    const TAG: u16 = 7;
    const VERSION: u16 = 2;
    const OLDER: &'static [Older<Event>] =
        &[Older { version: 1, event: event_of_version_1, row: row_of_version_1 }];
    const TABLES: &'static [&'static str] = &["counts", "texts"];

    fn table(state: &mut Notes, number: usize) -> Option<&mut dyn Stored> {
        match number {
            0 => Some(&mut state.counts),
            1 => Some(&mut state.texts),
            _ => None,
        }
    }

    fn derive(state: &mut Notes) {
        state.length = state.texts.iter().map(|(_, text)| text.0.len() as u64).sum();
    }
}

/// Version 1 had texts only, each at most 255 bytes, and could not erase.
fn event_of_version_1(reader: &mut Reader<'_>) -> Result<Event, Malformed> {
    let key = Key::decode(reader)?;
    Ok(Event::Wrote { key, text: Text(reader.str8()?.to_vec()) })
}

/// Version 1 had one table, of texts; one without a text meant nothing.
fn row_of_version_1(_: u32, key: &[u8], value: &[u8]) -> Result<Option<Row>, Malformed> {
    let mut reader = Reader::new(value);
    let text = Text(reader.str8()?.to_vec());
    reader.finish()?;
    let is_text = !text.0.is_empty();
    Ok(is_text.then(|| Row { table: 1, key: key.to_vec(), value: text.to_bytes() }))
}
