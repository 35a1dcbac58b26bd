//! Frames out of records: fragments are joined as their bytes arrive (C14, C112).
//!
//! Nothing is allocated by a claim: a body grows with what came, and never past `max_message`.

use super::fault::Fault;
use crate::cluster::counters::Counter;
use crate::cluster::wire::{AnyFrame, FrameHeader, FrameKind};
use crate::codec::{Reader, Wire};

/// A body of which more is to come.
#[derive(Clone, Debug, Hash)]
struct Partial {
    kind: FrameKind,
    total: u32,
    body: Vec<u8>,
}

/// The unfinished bodies of one link, one per class at the most.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Assembly {
    open: [Option<Partial>; 3],
}

impl Assembly {
    /// Takes the plaintext of one record; gives a frame if it completes one.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the link must close; nothing was delivered.
    pub(crate) fn take(&mut self, plain: &[u8], total_max: u32) -> Result<Option<AnyFrame>, Fault> {
        let kind = plain.first().copied().unwrap_or_default();
        let mut reader = Reader::new(plain);
        let header = FrameHeader::decode(&mut reader).map_err(|_| Fault::malformed(kind))?;
        let fragment = reader.rest();
        if header.total > total_max {
            return Err(Fault::protocol(Counter::FrameTooLarge));
        }
        let slot = &mut self.open[header.kind.class() as usize];
        match slot.take() {
            None if header.first && header.last => match fragment.len() == header.total as usize {
                true => decode(header.kind, fragment).map(Some),
                false => Err(Fault::protocol(Counter::FrameFragment)),
            },
            None if header.first => {
                let partial = Partial {
                    kind: header.kind,
                    total: header.total,
                    body: Vec::new(),
                };
                join(slot, partial, &header, fragment)
            }
            Some(partial) if !header.first => join(slot, partial, &header, fragment),
            None | Some(_) => Err(Fault::protocol(Counter::FrameFragment)),
        }
    }

    /// Returns how many bytes are held.
    pub(crate) fn bytes(&self) -> usize {
        let held = |open: &Option<Partial>| open.as_ref().map_or(0, |partial| partial.body.len());
        self.open.iter().map(held).sum()
    }
}

/// Appends a fragment, and decodes the body if it was the last.
fn join(
    slot: &mut Option<Partial>,
    mut partial: Partial,
    header: &FrameHeader,
    fragment: &[u8],
) -> Result<Option<AnyFrame>, Fault> {
    let len = partial.body.len() + fragment.len();
    let total = partial.total as usize;
    let same = header.kind == partial.kind && header.total == partial.total;
    let fits = match header.last {
        true => len == total,
        false => len < total && !fragment.is_empty(),
    };
    if !same || !fits {
        return Err(Fault::protocol(Counter::FrameFragment));
    }
    partial.body.extend_from_slice(fragment);
    if header.last {
        return decode(partial.kind, &partial.body).map(Some);
    }
    *slot = Some(partial);
    Ok(None)
}

fn decode(kind: FrameKind, body: &[u8]) -> Result<AnyFrame, Fault> {
    AnyFrame::decode_body(kind, body).map_err(|_| Fault::malformed(kind as u8))
}
