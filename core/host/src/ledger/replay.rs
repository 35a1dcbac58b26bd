//! The state that snapshots and records add up to: the same parts and the same `apply` as a node's.

use machines::codec::{Malformed, Reader};
use machines::kernel::Kernel;
use machines::kernel::config::KernelConfig;
use machines::kernel::part::KernelPart;
use machines::ledger::fold::{Fold, Frame, Held, Part, PartState, Unreadable};
use machines::ledger::record;
use machines::ledger::recovery::io::Entry;
use machines::ledger::root::StateRoot;
use machines::ledger::snapshot::{Refused, Restoring};

use crate::failure::Failure;

/// A node's state, as far as it was read.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    kernel: Kernel,
}

impl Replay {
    /// Begins before the first event, which brings the configuration along.
    pub(super) fn new() -> Self {
        let kernel = Kernel::new(KernelConfig::new());
        Self { kernel: kernel.expect("the standard configuration is legal") }
    }

    /// Loads the next bytes of a snapshot.
    pub(super) fn load(&mut self, restoring: &mut Restoring, bytes: &[u8]) -> Result<(), Refused> {
        let mut kernel = Held::<KernelPart>(&mut self.kernel);
        restoring.push(bytes, &mut [&mut kernel])
    }

    /// Applies the events of a record, all or none.
    pub(super) fn apply(&mut self, entry: &Entry) -> Result<(), Failure> {
        let unknown = |why| Failure::LedgerUnknown { record: entry.number, why };
        let mut events = Vec::new();
        for frame in frames(entry)? {
            events.push(frame.read::<KernelPart>().map_err(unknown)?);
        }
        for event in &events {
            KernelPart::apply(&mut self.kernel, event);
        }
        Ok(())
    }

    /// Returns the root of the state.
    pub(super) fn root(&mut self) -> StateRoot {
        let kernel = Held::<KernelPart>(&mut self.kernel).root();
        StateRoot::of_parts(&[(KernelPart::TAG, kernel)])
    }
}

/// Splits the events of a record (L15).
pub(super) fn frames<'a>(entry: &'a Entry) -> Result<Vec<Frame<'a>>, Failure> {
    let split = |mut reader: Reader<'a>| -> Result<Vec<Frame<'a>>, Malformed> {
        let frames =
            (0..entry.count).map(|_| Frame::take(&mut reader)).collect::<Result<_, _>>()?;
        record::padding(&mut reader)?;
        Ok(frames)
    };
    split(Reader::new(&entry.body)).map_err(|why| Failure::LedgerUnknown {
        record: entry.number,
        why: Unreadable::Malformed { part: "unknown", version: 0, table: None, why },
    })
}
