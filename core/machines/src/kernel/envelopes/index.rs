//! What is found of envelopes without looking at each, and how events change them (K3, K12, K360).

use std::collections::{BTreeMap, BTreeSet};

use super::{Envelope, EnvelopeEvent};
use crate::kernel::ids::{EnvelopeId, ProcessId};
use crate::kernel::state::State;
use crate::kernel::time::Time;
use crate::ledger::table::Table;

/// Indexes over the table of envelopes, derived from it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EnvelopeIndex {
    /// Which envelope a process's session has.
    of_process: BTreeMap<ProcessId, EnvelopeId>,
    /// Those that serve no process, by their last change.
    free: BTreeSet<(Time, EnvelopeId)>,
}

impl EnvelopeIndex {
    /// Finds the indexes again from their table.
    #[must_use]
    pub fn derive(envelopes: &Table<EnvelopeId, Envelope>) -> Self {
        let mut index = Self::default();
        for (id, envelope) in envelopes {
            index.add(id, envelope);
        }
        index
    }

    /// Takes note of a change of an envelope that served a process, or none since a time.
    fn shift(
        &mut self,
        id: &EnvelopeId,
        (process, at): (Option<ProcessId>, Time),
        after: &Envelope,
    ) {
        if process.is_some() && process == after.process {
            return;
        }
        match process {
            Some(pid) => drop(self.of_process.remove(&pid)),
            None => drop(self.free.remove(&(at, id.clone()))),
        }
        self.add(id, after);
    }

    fn add(&mut self, id: &EnvelopeId, envelope: &Envelope) {
        match &envelope.process {
            Some(pid) => drop(self.of_process.insert(pid.clone(), id.clone())),
            None => drop(self.free.insert((envelope.updated_at, id.clone()))),
        }
    }

    fn remove(&mut self, id: &EnvelopeId, envelope: &Envelope) {
        match &envelope.process {
            Some(pid) => drop(self.of_process.remove(pid)),
            None => drop(self.free.remove(&(envelope.updated_at, id.clone()))),
        }
    }
}

impl State {
    /// Returns an envelope.
    #[must_use]
    pub fn envelope(&self, id: &EnvelopeId) -> Option<&Envelope> {
        self.envelopes.get(id)
    }

    /// Returns the live process whose session an envelope serves (K32: `envelope_in_use`).
    #[must_use]
    pub fn bound_to(&self, id: &EnvelopeId) -> Option<&ProcessId> {
        let pid = self.envelope(id)?.process.as_ref()?;
        self.process(pid).filter(|process| process.is_live()).map(|_| pid)
    }

    /// Returns the envelope of a process's session.
    #[must_use]
    pub fn envelope_of(&self, pid: &ProcessId) -> Option<&EnvelopeId> {
        self.envelope_index.of_process.get(pid)
    }

    /// Lists envelopes that serve neither a live nor a Terminated process and were not changed for
    /// as long as they are kept, the oldest first, `most` at the most (K360).
    #[must_use]
    pub fn envelopes_due_for_removal(&self, now: Time, most: usize) -> Vec<EnvelopeId> {
        let kept = self.config.retention.envelope_ms;
        let due = self.envelope_index.free.iter().take_while(|(at, _)| at.plus(kept) <= now);
        due.take(most).map(|(_, id)| id.clone()).collect()
    }

    /// Returns when the first envelope is kept no longer (K360).
    #[must_use]
    pub fn first_envelope_due(&self) -> Option<Time> {
        let kept = self.config.retention.envelope_ms;
        self.envelope_index.free.first().map(|(at, _)| at.plus(kept))
    }

    /// Changes an envelope as one event does: its version rises by one (2.4).
    pub(in crate::kernel) fn change_envelope(
        &mut self,
        now: Time,
        id: &EnvelopeId,
        change: impl FnOnce(&mut Envelope),
    ) {
        let index = &mut self.envelope_index;
        self.envelopes.update(id, |envelope| {
            let before = (envelope.process.clone(), envelope.updated_at);
            change(envelope);
            envelope.touch(now);
            index.shift(id, before, envelope);
        });
    }

    /// Lets an envelope serve the session of a process, and no other envelope that one (K32).
    pub(in crate::kernel) fn bind_envelope(&mut self, now: Time, pid: &ProcessId, id: &EnvelopeId) {
        self.free_envelope(now, pid);
        self.change_envelope(now, id, |envelope| envelope.bind(Some(pid.clone())));
    }

    /// Lets the envelope of a process's session serve nobody (K230: force; K360).
    pub(in crate::kernel) fn free_envelope(&mut self, now: Time, pid: &ProcessId) {
        if let Some(id) = self.envelope_of(pid).cloned() {
            self.change_envelope(now, &id, |envelope| envelope.bind(None));
        }
    }

    /// Changes envelopes as an event says (K3).
    pub(in crate::kernel) fn apply_envelope(&mut self, now: Time, event: &EnvelopeEvent) {
        match event {
            EnvelopeEvent::Created { id, envelope } => {
                self.put_envelope(id, envelope.as_ref().clone());
            }
            EnvelopeEvent::Updated { id, patch, version: _, advanced: _ } => {
                self.change_envelope(now, id, |envelope| {
                    envelope.patch(now, patch);
                });
            }
            EnvelopeEvent::Cloned { id, from } => {
                if let Some(copy) = self.envelope(from).map(|old| old.copy_of(from, now)) {
                    self.put_envelope(id, copy);
                }
            }
            EnvelopeEvent::Removed { ids } => {
                for id in ids {
                    if let Some(envelope) = self.envelopes.remove(id) {
                        self.envelope_index.remove(id, &envelope);
                    }
                }
            }
        }
    }

    fn put_envelope(&mut self, id: &EnvelopeId, envelope: Envelope) {
        if let Some(before) = self.envelopes.get(id) {
            self.envelope_index.remove(id, before);
        }
        self.envelope_index.add(id, &envelope);
        self.envelopes.insert(id.clone(), envelope);
    }
}

/// Says whether a session that has not ended owns an envelope (K32).
#[must_use]
pub fn session_owns(state: &State, id: &EnvelopeId) -> bool {
    state.bound_to(id).is_some_and(|pid| {
        state.running_session(pid).is_some_and(|session| session.envelope == *id)
    })
}
