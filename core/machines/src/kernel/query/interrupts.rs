//! Questions to people as callers see them (K153, K172, K174).

use super::page::{bad_token, page_token, read_token};
use super::{Inquiry, Told};
use crate::codec::Wire;
use crate::kernel::ids::{ProcessId, RequestId, UserId};
use crate::kernel::interrupts::interrupt::Interrupt;
use crate::kernel::interrupts::query::{Filter, Interrupts};
use crate::kernel::process::{Process, short_hash};
use crate::kernel::refusal::Refusal;
use crate::kernel::state::State;

/// Of what the oldest pending interrupt is asked (K153).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PendingOf {
    /// Of a process.
    Process(ProcessId),
    /// Of all processes of a request.
    Request(RequestId),
}

/// Which interrupts (K172).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListInterrupts {
    /// Those that fit it.
    pub filter: Filter,
    /// So many at once, at the most; 0 is the default.
    pub page_size: u64,
    /// What the page before said; empty for the first.
    pub page_token: String,
}

/// Some interrupts, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InterruptPage {
    /// The interrupts. A page may have none and still go on.
    pub interrupts: Vec<Interrupt>,
    /// How to ask for the next page; empty after the last.
    pub next_page_token: String,
}

impl ListInterrupts {
    /// Hashes what a token is bound to: the filter, and whose view it is.
    fn seal(&self, by: &UserId) -> [u8; 8] {
        let mut bytes = b"ListInterrupts".to_vec();
        let Filter { pid, user, session, kinds, status } = &self.filter;
        pid.encode(&mut bytes);
        user.encode(&mut bytes);
        session.encode(&mut bytes);
        kinds.encode(&mut bytes);
        status.encode(&mut bytes);
        by.encode(&mut bytes);
        short_hash(&bytes)
    }
}

impl State {
    /// Returns the oldest question that a process waits for.
    pub(super) fn oldest_pending(&self, process: &Process) -> Option<Box<Interrupt>> {
        let oldest = process.interrupts.first().and_then(|id| self.interrupt(id));
        oldest.cloned().map(Box::new)
    }
}

impl<'a> Inquiry<'a> {
    pub(super) const fn interrupts(self) -> Interrupts<'a> {
        self.kernel.interrupts(self.by, None)
    }

    /// Answers `GetPendingInterrupt`.
    pub(super) fn pending(self, of: &PendingOf) -> Result<Told, Refusal> {
        let interrupts = self.interrupts();
        let pending = match of {
            PendingOf::Process(pid) => interrupts.pending(pid)?,
            PendingOf::Request(request) => interrupts.pending_of(request),
        };
        Ok(Told::Pending(pending.cloned().map(Box::new)))
    }

    /// Answers `ListInterrupts`.
    pub(super) fn list_interrupts(self, list: &ListInterrupts) -> Result<InterruptPage, Refusal> {
        let size = self.page_size(list.page_size)? as u64;
        let seal = list.seal(&self.by.user);
        let after = match read_token(seal, &list.page_token)? {
            None => 0,
            Some(last) => {
                u64::from_bytes(&last).map_err(|_| bad_token("page_token: it is none"))?
            }
        };
        let page = self.interrupts().list(&list.filter, after, size)?;
        let next = page.next.map(|last| page_token(seal, &last.to_bytes()));
        let interrupts = page.interrupts.into_iter().cloned().collect();
        Ok(InterruptPage { interrupts, next_page_token: next.unwrap_or_default() })
    }
}
