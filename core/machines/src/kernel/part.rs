//! The kernel as a part of a node's state: what the journal, snapshots and the root see (K12, L4).
//!
//! Configuration and counters are plain values in the state, which every command reads; their
//! tables, of one row each, follow them when a root is asked for.

use crate::codec::{Malformed, Reader, Wire};
use crate::ledger::fold::{Fold, Older, Part};
use crate::ledger::root::{StateRoot, part_root};
use crate::ledger::table::{Stored, Table};

use super::config::KernelConfig;
use super::decision::At;
use super::envelopes::index::EnvelopeIndex;
use super::event::Event;
use super::refusal::Refusal;
use super::state::{Counters, State};
use super::{Command, Kernel};

/// The key of a table of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Only;

impl Wire for Only {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self)
    }
}

/// Says which tables there are, once: their names, and where in the state they are.
macro_rules! tables {
    ($($name:literal: $($place:ident).+ $([$at:literal] . $rest:ident)?;)*) => {
        /// The names of the tables, in their order.
        const NAMES: &[&str] = &[$($name),*];

        impl State {
            /// Returns a table by its number in [`NAMES`].
            fn table(&mut self, number: usize) -> Option<&mut dyn Stored> {
                let mut rest = number;
                $(
                    if rest == 0 {
                        return Some(&mut self.$($place).+ $([$at].$rest)?);
                    }
                    rest = rest.wrapping_sub(1);
                )*
                let _ = rest;
                None
            }

            /// Takes the rows of another state, which both share from now on.
            fn adopt(&mut self, other: &Self) {
                $(self.$($place).+ $([$at].$rest)? = other.$($place).+ $([$at].$rest)?.clone();)*
            }

            /// Computes the roots of the tables, in their order, and keeps nothing of it. Those of
            /// one row are as they were settled last.
            fn current_roots(&self) -> Vec<[u8; 32]> {
                vec![$(self.$($place).+ $([$at].$rest)?.current_root()),*]
            }
        }
    };
}

tables! {
    "config": singles.config;
    "counters": singles.counters;
    "processes": processes;
    "ready": ready[0].rows;
    "ready_driven": ready[1].rows;
    "rates": rates.keys;
    "rate_configs": rates.scopes;
    "envelopes": envelopes;
    "sessions": sessions;
    "interrupts": interrupts;
    "approvals": approvals;
    "services": services;
    "slots": slots;
    "dispatches": dispatches;
    "dispatch_turns": turns;
}

/// The rows of configuration and counters.
#[derive(Clone, Debug)]
pub(super) struct Singles {
    config: Table<Only, KernelConfig>,
    counters: Table<Only, Counters>,
}

impl Singles {
    pub(super) fn new() -> Self {
        Self { config: Table::new(), counters: Table::new() }
    }
}

impl State {
    /// Lets the tables of one row say what is so.
    fn settle_singles(&mut self) {
        if self.singles.config.get(&Only) != Some(&self.config) {
            self.singles.config.insert(Only, self.config.clone());
        }
        if self.singles.counters.get(&Only) != Some(&self.counters) {
            self.singles.counters.insert(Only, self.counters);
        }
    }

    /// Returns the root of the tables, in their order.
    fn part_root(&mut self) -> [u8; 32] {
        self.settle_singles();
        let mut roots = Vec::with_capacity(NAMES.len());
        for number in 0..NAMES.len() {
            let table = self.table(number);
            roots.push(table.expect("a part has the tables that it names").root());
        }
        part_root(&roots)
    }

    /// Returns the root of the state, for a checkpoint (K291).
    pub(super) fn root(&mut self) -> StateRoot {
        StateRoot::of_parts(&[(KernelPart::TAG, self.part_root())])
    }

    /// Returns a copy of the tables alone, which costs nothing that grows with them.
    pub(super) fn checkpoint(&mut self) -> Self {
        self.settle_singles();
        let mut kept = Self::new(self.config.clone());
        kept.adopt(self);
        kept
    }

    /// Becomes what it was at a checkpoint: the rest is found again, as after a start (K12).
    pub(super) fn return_to(&mut self, mut kept: Self) {
        kept.derive();
        *self = kept;
    }

    /// Finds what follows from the tables (K12).
    fn derive(&mut self) {
        if let Some(config) = self.singles.config.get(&Only) {
            self.config = config.clone();
        }
        if let Some(counters) = self.singles.counters.get(&Only) {
            self.counters = *counters;
        }
        for ready in &mut self.ready {
            ready.derive();
        }
        self.rates.derive();
        self.derive_processes();
        self.derive_interrupts();
        self.derive_services();
        self.derive_leases();
        self.envelope_index = EnvelopeIndex::derive(&self.envelopes);
        self.follow_housekeeping();
        self.derive_sessions();
    }
}

/// The kernel, as a fold (L4).
#[derive(Clone, Copy, Debug)]
pub struct KernelPart;

impl Fold for KernelPart {
    type State = Kernel;
    type Command = (At, Command);
    type Event = Event;
    type Refusal = Refusal;

    fn decide(kernel: &Kernel, (at, command): &(At, Command)) -> Result<Vec<Event>, Refusal> {
        kernel.decide(*at, command)
    }

    fn apply(kernel: &mut Kernel, event: &Event) {
        kernel.apply(event);
    }

    fn root(kernel: &mut Kernel) -> [u8; 32] {
        kernel.state.part_root()
    }
}

impl Part for KernelPart {
    const NAME: &'static str = "kernel";
    const TAG: u16 = 1;
    const VERSION: u16 = 1;
    const OLDER: &'static [Older<Event>] = &[];
    const TABLES: &'static [&'static str] = NAMES;

    fn table(kernel: &mut Kernel, number: usize) -> Option<&mut dyn Stored> {
        kernel.state.table(number)
    }

    fn derive(kernel: &mut Kernel) {
        kernel.state.derive();
    }
}

impl Kernel {
    /// Returns the root of the state (K12). What changed since it was asked for last is hashed now.
    #[must_use]
    pub fn root(&mut self) -> StateRoot {
        StateRoot::of_parts(&[(KernelPart::TAG, KernelPart::root(self))])
    }

    /// Returns the same root without keeping what was hashed for it.
    #[must_use]
    pub fn current_root(&self) -> StateRoot {
        let mut roots = self.state.current_roots();
        let mut singles = Singles::new();
        singles.config.insert(Only, self.state.config.clone());
        singles.counters.insert(Only, self.state.counters);
        roots[..2].copy_from_slice(&[singles.config.root(), singles.counters.root()]);
        StateRoot::of_parts(&[(KernelPart::TAG, part_root(&roots))])
    }
}
