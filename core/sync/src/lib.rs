//! Lock-free memory: lanes, mailboxes, snapshots, generic over one port of atomics.
//!
//! | module | what it is | model |
//! |---|---|---|
//! | [`atomics`] | the port [`Atomics`], and [`StdAtomics`] | |
//! | [`lane`] | what the lanes have in common: [`Lane`] | |
//! | [`linked`] | lane (a): a list with a stub | `linked` |
//! | [`stack`] | lane (b): one head, taken whole | `stack` |
//! | [`segmented`] | lane (c): linked blocks of slots | `segmented` |
//! | [`ring`] | a bounded queue with stamps | `ring` |
//! | [`credit`] | who may send to a full mailbox next | `credit` |
//! | [`waker`] | a slot for the waker of one task | `waker` |
//! | [`mailbox`] | [`Channel`] and [`Inbox`]: two lanes, policies, waiting | `mailbox` |
//! | [`snapshot`](mod@snapshot) | a published value | `snapshot` |
//! | [`reply`](mod@reply) | a single-use port for an answer | `reply` |
//!
//! There is no lock here, and nothing blocks. This is the only crate with `unsafe`; each file says
//! its state, its numbered invariants and its orderings, each `unsafe` block names the invariant
//! that it relies on, and `models/` runs this very source under loom and shuttle.

pub mod atomics;
pub mod credit;
pub mod lane;
pub mod linked;
pub mod mailbox;
pub mod reply;
pub mod ring;
pub mod segmented;
pub mod snapshot;
pub mod stack;
pub mod waker;

pub use atomics::{Atomics, StdAtomics};
pub use lane::{Closed, Lane, Pop, Pushed};
pub use mailbox::{
    BadOption, Channel, Discarded, Inbox, LaneKind, MailboxOptions, Policy, Received, SendError,
    SendWait, Sent, Until, channel, channel_waking,
};
pub use reply::{Answer, Late, Reply, Unanswered, reply};
pub use snapshot::{Busy, Publisher, Snapshot, snapshot};
