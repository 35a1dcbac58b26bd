//! What ends an Up link from inside, and what counts it (C112).

use crate::cluster::counters::{Counter, Labelled};
use crate::cluster::wire::CloseReason;

/// Why a link must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: CloseReason,
    pub(crate) counter: Option<Counter>,
    pub(crate) labelled: Option<(Labelled, u8)>,
    /// Whether the peer is told: not if it closed, or does not hear.
    pub(crate) told: bool,
}

impl Fault {
    /// A protocol error that `counter` counts.
    pub(crate) const fn protocol(counter: Counter) -> Self {
        Self {
            counter: Some(counter),
            ..Self::plain(CloseReason::ProtocolError)
        }
    }

    /// An end for another reason, counted by it alone.
    pub(crate) const fn plain(reason: CloseReason) -> Self {
        Self {
            reason,
            counter: None,
            labelled: None,
            told: true,
        }
    }

    /// An end that the peer knows of, or would not hear of.
    pub(crate) const fn untold(reason: CloseReason) -> Self {
        Self {
            told: false,
            ..Self::plain(reason)
        }
    }

    /// A frame or body of this kind that does not decode.
    pub(crate) const fn malformed(kind: u8) -> Self {
        Self {
            labelled: Some((Labelled::FrameMalformed, kind)),
            ..Self::plain(CloseReason::ProtocolError)
        }
    }
}
