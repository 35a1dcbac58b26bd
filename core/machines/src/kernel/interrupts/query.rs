//! What can be asked about interrupts (K153, K172, K174).

use std::collections::BTreeSet;

use crate::kernel::Kernel;
use crate::kernel::decision;
use crate::kernel::ids::{InterruptId, ProcessId, RequestId, SessionId, UserId, WorkerId};
use crate::kernel::names::{InterruptKind, InterruptStatus};
use crate::kernel::principal::{Principal, Role};
use crate::kernel::process::Process;
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::state::State;

use super::approval::Approval;
use super::fold::InterruptCounts;
use super::index::Scope;
use super::interrupt::{Assignee, Interrupt};

/// How many rows a page looks at for each that it may have: filters that fit hardly anything end
/// the page early.
const LOOKS: u64 = 16;

/// Which interrupts (K172). What is absent or empty fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Of this process.
    pub pid: Option<ProcessId>,
    /// Of the processes of this user.
    pub user: Option<UserId>,
    /// Of this conversation.
    pub session: Option<SessionId>,
    /// Of these kinds.
    pub kinds: BTreeSet<InterruptKind>,
    /// Of this status.
    pub status: Option<InterruptStatus>,
}

impl Filter {
    fn fits(&self, interrupt: &Interrupt) -> bool {
        self.pid.as_ref().is_none_or(|pid| interrupt.pid == *pid)
            && self.user.as_ref().is_none_or(|user| interrupt.user == *user)
            && self.session.as_ref().is_none_or(|session| interrupt.session == *session)
    }
}

/// Some of a list, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Them.
    pub interrupts: Vec<&'a Interrupt>,
    /// What to continue after; absent at the end.
    pub next: Option<u64>,
}

/// What a principal sees of interrupts.
#[derive(Clone, Copy, Debug)]
pub struct Interrupts<'a> {
    state: &'a State,
    by: &'a Principal,
    worker: Option<&'a WorkerId>,
}

impl Kernel {
    /// Shows interrupts as `by`, with its worker, may see them.
    #[must_use]
    pub const fn interrupts<'a>(
        &'a self,
        by: &'a Principal,
        worker: Option<&'a WorkerId>,
    ) -> Interrupts<'a> {
        Interrupts { state: self.state(), by, worker }
    }
}

impl<'a> Interrupts<'a> {
    /// `GetInterrupt`.
    ///
    /// # Errors
    ///
    /// `interrupt_not_found`, `permission_denied`.
    pub fn get(&self, id: &InterruptId) -> Result<&'a Interrupt, Refusal> {
        let interrupt = self.state.interrupts.get(id).ok_or_else(|| super::unknown(id))?;
        match self.sees(interrupt) {
            true => Ok(interrupt),
            false => Err(super::foreign(id)),
        }
    }

    /// The approval that the answer to an interrupt gave, if it gave one.
    ///
    /// # Errors
    ///
    /// As [`Interrupts::get`].
    pub fn approval(&self, id: &InterruptId) -> Result<Option<&'a Approval>, Refusal> {
        self.get(id)?;
        Ok(self.state.approvals.get(id))
    }

    /// `GetPendingInterrupt`: the oldest of a process (K153).
    ///
    /// # Errors
    ///
    /// `process_not_found`, `permission_denied`.
    pub fn pending(&self, pid: &ProcessId) -> Result<Option<&'a Interrupt>, Refusal> {
        let process = self.process(pid)?;
        let oldest = process.interrupts.first().and_then(|id| self.state.interrupts.get(id));
        match self.may(process) || oldest.is_some_and(|oldest| self.sees(oldest)) {
            true => Ok(oldest),
            false => Err(decision::foreign(pid)),
        }
    }

    /// `GetPendingInterrupt` by request: the oldest over the request's processes (K153). A request
    /// is but a label, which others may use, too: what the caller may not see is left out (K446).
    #[must_use]
    pub fn pending_of(&self, request: &RequestId) -> Option<&'a Interrupt> {
        let scope = Scope::Request(request.clone());
        let pending = InterruptStatus::Pending;
        let oldest = |kind: &InterruptKind| {
            let mut found = self.state.asked.of(scope.clone(), pending, *kind, 0);
            found.find_map(|(number, id)| {
                let interrupt = self.state.interrupts.get(id).filter(|one| self.sees(one));
                interrupt.map(|interrupt| (number, interrupt))
            })
        };
        let found = InterruptKind::ALL.iter().filter_map(oldest);
        found.min_by_key(|(number, _)| *number).map(|(_, interrupt)| interrupt)
    }

    /// `HasPending`: whether anything waits for an answer, blocking or not.
    ///
    /// # Errors
    ///
    /// As [`Interrupts::pending`].
    pub fn has_pending(&self, pid: &ProcessId) -> Result<bool, Refusal> {
        self.pending(pid).map(|pending| pending.is_some())
    }

    /// `ListInterrupts`: those that fit and come after `after`, oldest first (K172). What the
    /// caller may not see is left out. A page may have fewer than there are and still go on.
    ///
    /// # Errors
    ///
    /// `process_not_found` and `permission_denied` for a process that is named.
    pub fn list(&self, filter: &Filter, after: u64, most: u64) -> Result<Page<'a>, Refusal> {
        if let Some(pid) = &filter.pid
            && !self.may(self.process(pid)?)
        {
            return Err(decision::foreign(pid));
        }
        let most = most.clamp(1, self.state.config.limits.page);
        let looks = most.saturating_mul(LOOKS);
        let mut page = Page { interrupts: Vec::new(), next: None };
        let (mut last, mut looked) = (after, 0);
        for (number, id) in self.found(filter, after) {
            if page.interrupts.len() as u64 >= most || looked >= looks {
                page.next = Some(last);
                break;
            }
            (last, looked) = (number, looked + 1);
            let interrupt = self.state.interrupts.get(id);
            let fits = |one: &&Interrupt| filter.fits(one) && self.sees(one);
            page.interrupts.extend(interrupt.filter(fits));
        }
        Ok(page)
    }

    /// Goes through those in the scopes that matter that come after `after`, oldest first.
    fn found(
        &self,
        filter: &Filter,
        after: u64,
    ) -> impl Iterator<Item = (u64, &'a InterruptId)> + use<'a> {
        let kind = |kind: &InterruptKind| filter.kinds.is_empty() || filter.kinds.contains(kind);
        let status = |status: &InterruptStatus| filter.status.is_none_or(|one| one == *status);
        let mut sources = Vec::new();
        for scope in self.scopes(filter) {
            for status in InterruptStatus::ALL.iter().copied().filter(status) {
                for kind in InterruptKind::ALL.iter().copied().filter(kind) {
                    let source = self.state.asked.of(scope.clone(), status, kind, after);
                    sources.push(source.peekable());
                }
            }
        }
        std::iter::from_fn(move || {
            let first = sources.iter_mut().filter_map(|source| source.peek().copied()).min()?;
            // What is in two scopes, of the owner and given to it, is found once.
            for source in &mut sources {
                source.next_if_eq(&first);
            }
            Some(first)
        })
    }

    /// Lists the narrowest scopes that together have all that fits and may be seen.
    fn scopes(&self, filter: &Filter) -> Vec<Scope> {
        if let Some(pid) = &filter.pid {
            return vec![Scope::Process(pid.clone())];
        }
        let user = || filter.user.clone().map(Scope::User);
        let session = || filter.session.clone().map(Scope::Session);
        if self.by.is_operator() || self.by.is_node() {
            return vec![session().or_else(user).unwrap_or(Scope::All)];
        }
        let own = self.by.user.clone();
        let roles = Role::ALL.iter().filter(|role| self.by.roles.has(**role));
        let roles = roles.map(|role| Assignee::Role { role: *role });
        let assigned = [Assignee::User { user: own.clone() }].into_iter().chain(roles);
        [Scope::User(own)].into_iter().chain(assigned.map(Scope::Assignee)).collect()
    }

    /// `GetInterruptStats` (K174).
    ///
    /// # Errors
    ///
    /// `permission_denied` for all but operators.
    pub fn stats(&self) -> Result<InterruptCounts, Refusal> {
        match self.by.is_operator() || self.by.is_node() {
            true => Ok(self.state.counters.interrupts),
            false => Err(Refusal::new(Code::PermissionDenied, "only operators see statistics")),
        }
    }

    fn process(&self, pid: &ProcessId) -> Result<&'a Process, Refusal> {
        let missing = || Refusal::new(Code::ProcessNotFound, format!("process not found: {pid}"));
        self.state.process(pid).ok_or_else(missing)
    }

    /// Says whether the principal is owner, holder or operator (K27). Without a worker, any of its
    /// workers may be the holder.
    fn may(&self, process: &Process) -> bool {
        let held = |worker: &WorkerId| {
            process.run_lease.as_ref().is_some_and(|run| run.holder.worker == *worker)
        };
        let owns = process.user == self.by.user || self.by.sees_all();
        owns || (self.by.may_see(process) && self.worker.is_none_or(held))
    }

    fn sees(&self, interrupt: &Interrupt) -> bool {
        let assigned = interrupt.assignee.as_ref().is_some_and(|assignee| assignee.is(self.by));
        assigned || self.state.process(&interrupt.pid).is_some_and(|process| self.may(process))
    }
}
