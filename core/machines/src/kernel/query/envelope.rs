//! An envelope as callers see it, with what it shows of its process (2.4, K100).

use crate::kernel::envelopes::Envelope;
use crate::kernel::ids::EnvelopeId;
use crate::kernel::interrupts::interrupt::Interrupt;
use crate::kernel::process::Process;
use crate::kernel::quota::{Limit, Usage};
use crate::kernel::sessions::Session;
use crate::kernel::state::State;

/// What an envelope shows of the ledger (K100). Without a process: nothing used, no limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LedgerView {
    /// What its session used.
    pub used: Usage,
    /// How many calls of models it may make.
    pub max_llm_calls: Limit,
    /// How many stages may be issued to agents.
    pub max_agent_hops: Limit,
}

/// An envelope as callers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EnvelopeView {
    /// Its id.
    pub id: EnvelopeId,
    /// What it holds.
    pub envelope: Envelope,
    /// The bounds of its process.
    pub bounds: LedgerView,
    /// The oldest question that its process waits for.
    pub interrupt: Option<Box<Interrupt>>,
}

impl EnvelopeView {
    /// Shows an envelope.
    #[must_use]
    pub fn of(state: &State, id: &EnvelopeId, envelope: &Envelope) -> Self {
        let process = envelope.process.as_ref().and_then(|pid| state.process(pid));
        let session = envelope.process.as_ref().and_then(|pid| state.session(pid));
        let session = session.filter(|session| session.envelope == *id);
        Self {
            id: id.clone(),
            envelope: envelope.clone(),
            bounds: LedgerView::of(process, session),
            interrupt: process.and_then(|process| state.oldest_pending(process)),
        }
    }
}

impl LedgerView {
    /// A session's use is the row less its reading at the session's start (K100).
    #[must_use]
    pub fn of(process: Option<&Process>, session: Option<&Session>) -> Self {
        let (none, unlimited) = (Usage::default(), Limit::UNLIMITED);
        match (process, session) {
            (None, _) => Self { used: none, max_llm_calls: unlimited, max_agent_hops: unlimited },
            (Some(process), None) => Self {
                used: process.account.used,
                max_llm_calls: process.quota.max_llm_calls,
                max_agent_hops: process.quota.max_agent_hops,
            },
            (Some(process), Some(session)) => Self {
                used: process.account.used.since(&session.base),
                max_llm_calls: session.pipeline.max_llm_calls,
                max_agent_hops: session.pipeline.max_agent_hops,
            },
        }
    }
}
