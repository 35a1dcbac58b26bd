//! The audit: shortly before the end every client looks every name up, so that a run shows whether
//! each member finds what is held (C149), however seldom its workload asks.

use machines::node::io::{Call, Input};
use machines::time::nanos;

use super::{Due, World};
use crate::guest::Guest;

/// The time between two look-ups of one client, so that few are in flight at once.
const GAP: u64 = 100_000_000;

impl<G: Guest> World<G> {
    /// Returns when the audit begins: never if nobody registers names, or nothing is quiet.
    pub(super) fn audit_at(&self) -> Option<u64> {
        let names = u64::from(self.setup.work.names) * GAP;
        let takes = names + 2 * nanos(self.setup.config.registry.lookup_timeout) + 1_000_000_000;
        let at = self.setup.duration.checked_sub(takes)?;
        (self.setup.work.register > 0 && at > self.setup.quiet_at).then_some(at)
    }

    /// Every client that runs looks up one name after the other.
    pub(super) fn audit(&mut self) {
        self.note("audit", u32::MAX);
        for node in 0..self.setup.nodes {
            if self.hosts[node as usize].guest.is_none() {
                continue;
            }
            let epoch = self.hosts[node as usize].epoch;
            for (place, name) in (0..).zip(self.clients.names()) {
                let (call, request) = (self.clients.name_call(), Call::Lookup(name));
                let input = Box::new(Input::Call { call, request });
                self.agenda.push(self.now + place * GAP, Due::Input { node, epoch, input });
            }
        }
    }
}
