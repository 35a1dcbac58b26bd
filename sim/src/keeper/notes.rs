//! A small part of a node's state, for scenarios about the ledger alone: texts and counts by key.

use std::sync::Arc;

use machines::ledger::fold::{Fold, Older, Part};
use machines::ledger::root::part_root;
use machines::ledger::table::{Stored, Table};
use machines::{wire_enum, wire_struct};

/// The state.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// How often each key was written.
    pub counts: Table<u64, u64>,
    /// What was written last.
    pub texts: Table<u64, Text>,
}

/// A text of any length.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text {
    /// Its bytes.
    pub bytes: Arc<str>,
}

wire_struct!(Text { bytes });

/// What happened to the notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A text was written.
    Wrote {
        /// Under which key.
        key: u64,
        /// What.
        text: Text,
    },
    /// A key was counted.
    Counted {
        /// Which.
        key: u64,
    },
    /// A text was erased.
    Erased {
        /// Which.
        key: u64,
    },
}

wire_enum!(Event, "an event of notes" {
    Wrote { key, text } = 1,
    Counted { key } = 2,
    Erased { key } = 3,
});

/// What is asked of notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write a text, and count it: two events that belong together.
    Write {
        /// Under which key.
        key: u64,
        /// What.
        text: Text,
    },
    /// Erase a text.
    Erase {
        /// Which.
        key: u64,
    },
    /// How often was that key written?
    Read {
        /// Which.
        key: u64,
    },
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// Notes as a part of a node's state.
#[derive(Clone, Copy, Debug)]
pub struct NotesPart;

impl Fold for NotesPart {
    type State = Notes;
    type Command = Request;
    type Event = Event;
    type Refusal = Missing;

    fn decide(state: &Notes, command: &Request) -> Result<Vec<Event>, Missing> {
        match command {
            Request::Write { key, text } => {
                let (key, text) = (*key, text.clone());
                Ok(vec![Event::Wrote { key, text }, Event::Counted { key }])
            }
            Request::Erase { key } if state.texts.contains(key) => {
                Ok(vec![Event::Erased { key: *key }])
            }
            Request::Erase { .. } => Err(Missing),
            Request::Read { .. } => Ok(Vec::new()),
        }
    }

    fn apply(state: &mut Notes, event: &Event) {
        match event {
            Event::Wrote { key, text } => {
                state.texts.insert(*key, text.clone());
            }
            Event::Counted { key } => {
                let count = state.counts.get(key).copied().unwrap_or(0);
                state.counts.insert(*key, count + 1);
            }
            Event::Erased { key } => {
                state.texts.remove(key);
            }
        }
    }

    fn root(state: &mut Notes) -> [u8; 32] {
        part_root(&[state.counts.root(), state.texts.root()])
    }
}

impl Part for NotesPart {
    const NAME: &'static str = "notes";
    const TAG: u16 = 0x7001;
    const VERSION: u16 = 1;
    const OLDER: &'static [Older<Event>] = &[];
    const TABLES: &'static [&'static str] = &["counts", "texts"];

    fn table(state: &mut Notes, number: usize) -> Option<&mut dyn Stored> {
        match number {
            0 => Some(&mut state.counts),
            1 => Some(&mut state.texts),
            _ => None,
        }
    }

    fn derive(_: &mut Notes) {}
}

/// Returns the body of a record of `events`.
#[must_use]
pub fn body(events: &[Event]) -> Vec<u8> {
    let mut body = Vec::new();
    for event in events {
        machines::ledger::fold::put_event::<NotesPart>(&mut body, event);
    }
    body
}
