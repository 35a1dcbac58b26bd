//! The simulated streams: ordered bytes, with a window, that outlive short cuts of the network.
//!
//! Every chunk in flight has one event on the agenda; what an event brings is the front of the
//! queue, so that turned ties never reorder a stream.

use std::collections::VecDeque;

/// One end of a stream: 0 is the dialler's, 1 the acceptor's.
pub type Side = usize;

/// Bytes of one direction that may be in flight; more wait in the sender's process.
pub const WINDOW: u32 = 256 << 10;

/// What travels towards an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The other side has closed, after all its bytes.
    End,
    /// The other side is gone.
    Reset,
}

/// One end of a stream.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Whose.
    pub node: u32,
    /// Which process of that node.
    pub epoch: u32,
    /// Its name there; 0 until it has one.
    pub conn: u64,
    /// Whether the process holds it.
    pub open: bool,
    /// What travels towards it, in order.
    pub inbound: VecDeque<Chunk>,
    /// When the last of that arrives.
    pub last_arrival: u64,
    /// Bytes that this end has sent and that have not arrived.
    pub in_flight: u32,
    /// What waits for room in the window.
    pub unsent: VecDeque<Vec<u8>>,
    /// Close once all is sent.
    pub closing: bool,
}

/// A stream between two nodes.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Its ends.
    pub ends: [End; 2],
    /// Whether the acceptor knows of it.
    pub accepted: bool,
}

impl Stream {
    /// Makes the stream that `node` dials.
    #[must_use]
    pub fn dialled(node: u32, epoch: u32, conn: u64, to: u32) -> Self {
        let dialler = End {
            node,
            epoch,
            conn,
            open: true,
            ..End::default()
        };
        let acceptor = End {
            node: to,
            ..End::default()
        };
        Self {
            ends: [dialler, acceptor],
            accepted: false,
        }
    }

    /// Takes what can be sent from `side` now.
    pub fn sendable(&mut self, side: Side) -> Option<Chunk> {
        let end = &mut self.ends[side];
        if let Some(front) = end.unsent.front() {
            let length = u32::try_from(front.len()).unwrap_or(u32::MAX);
            if end.in_flight != 0 && end.in_flight.saturating_add(length) > WINDOW {
                return None;
            }
            end.in_flight = end.in_flight.saturating_add(length);
            return end.unsent.pop_front().map(Chunk::Bytes);
        }
        std::mem::take(&mut end.closing).then_some(Chunk::End)
    }

    /// The process at `side` is gone, or wants no more of it: nothing is kept for it.
    pub fn forget(&mut self, side: Side) {
        let end = &mut self.ends[side];
        end.open = false;
        end.unsent.clear();
        end.closing = false;
    }
}
