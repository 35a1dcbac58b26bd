//! Section 3: how processes are made, change their state, and end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use machines::kernel::Code;
use machines::kernel::ids::ProcessId;
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{BlockReason, ProcessState, TerminalReason};
use machines::kernel::principal::Holder;
use machines::kernel::process::Block;
use machines::kernel::quota::{Limit, Quota, QuotaField, Resource};

use super::process::{Lease, Process};
use super::{Answer, Kernel, Note, Wrong};

impl Kernel {
    /// K63, K64, K84.
    pub(super) fn submit(&mut self, submit: &Submit) -> Answer {
        let user = submit.user.clone().unwrap_or_else(|| self.by.user.clone());
        if user != self.by.user && !self.by.is_operator() {
            return Err(Code::PermissionDenied);
        }
        if let Some(old) = submit.pid.as_ref().and_then(|pid| self.processes.get(pid)) {
            if old.user != self.by.user && !self.by.is_operator() {
                return Err(Code::PermissionDenied);
            }
            let same = old.user == user && same_submit(&old.submit, submit);
            return match same && !self.is(Wrong::SubmitAgain) {
                true => Ok(()),
                false => Err(Code::SubmitConflict),
            };
        }
        if let Some(parent) = &submit.parent {
            self.only_owner(parent)?; // K27: before anything else.
        }
        self.only_serving()?;
        let quota = self.quota_of(submit)?;
        let ancestors = self.ancestors_of(submit, &user)?;
        let live = self.processes.values().filter(|one| one.user == user && one.is_live());
        let limits = &self.config.limits;
        if self.processes.len() as u64 >= limits.processes
            || live.count() as u64 >= limits.processes_of_user
        {
            return Err(Code::ProcessLimit);
        }
        let Some((pid, request, session)) = self.minted.created.clone() else {
            self.note(Note::Created(submit.pid.clone().unwrap_or_else(nobody)));
            return Ok(());
        };
        let pid = submit.pid.clone().unwrap_or(pid);
        let process = Process {
            user,
            request: submit.request.clone().unwrap_or(request),
            session: submit.session.clone().unwrap_or(session),
            submit: submit.clone(),
            state: ProcessState::New,
            quota,
            used: BTreeMap::new(),
            held: BTreeMap::new(),
            unreserved: BTreeMap::new(),
            warned: BTreeSet::new(),
            exceeded: BTreeSet::new(),
            created_at: self.now,
            started_at: None,
            completed_at: None,
            last_scheduled_at: None,
            ready_at: None,
            running_since: None,
            ready_number: 0,
            block: None,
            wait: None,
            lease: None,
            ancestors,
            reason: None,
            message: None,
            interrupts_ever: 0,
            open: BTreeMap::new(),
            closed: VecDeque::new(),
        };
        self.processes.insert(pid.clone(), process);
        self.note(Note::Created(pid));
        Ok(())
    }

    /// The quota of a new process: what it was given, the default for the rest (K64).
    fn quota_of(&self, submit: &Submit) -> Result<Quota, Code> {
        let mut quota = self.config.default_quota;
        for (field, limit) in &submit.quota {
            let above =
                limit_number(*limit) > limit_number(self.config.quota_ceiling.field(*field));
            if above && !self.by.is_operator() {
                return Err(Code::QuotaAboveCeiling);
            }
            *quota.field_mut(*field) = *limit;
        }
        // "At most timeout_ms" (2.3): a warning by default is never after the end.
        if submit.quota.iter().all(|(field, _)| *field != QuotaField::SoftTimeoutMs) {
            quota.soft_timeout_ms = quota.soft_timeout_ms.min(quota.timeout_ms);
        }
        match soft_after_hard(&quota) {
            true => Err(Code::BadValue),
            false => Ok(quota),
        }
    }

    /// The parent must exist, be live and have the same owner (K84).
    fn ancestors_of(&self, submit: &Submit, user: &super::UserId) -> Result<Vec<ProcessId>, Code> {
        let Some(parent) = &submit.parent else {
            return Ok(Vec::new());
        };
        let of = self.known(parent)?;
        if of.user != *user {
            return Err(Code::PermissionDenied);
        }
        if !of.is_live() {
            return Err(Code::ParentTerminal);
        }
        if of.ancestors.len() as u64 + 2 > self.config.limits.tree_depth {
            return Err(Code::TooDeep);
        }
        if self.children(parent).len() as u64 >= self.config.limits.children {
            return Err(Code::TooMany);
        }
        let mut ancestors = vec![parent.clone()];
        ancestors.extend(of.ancestors.iter().cloned());
        Ok(ancestors)
    }

    /// The children that are still known, in order of pid.
    fn children(&self, pid: &ProcessId) -> Vec<ProcessId> {
        let of = self.processes.iter().filter(|(_, one)| one.ancestors.first() == Some(pid));
        of.map(|(child, _)| child.clone()).collect()
    }

    /// K65.
    pub(super) fn schedule(&mut self, pid: &ProcessId) -> Answer {
        self.only_owner(pid)?;
        match self.of(pid).state {
            ProcessState::Ready => Ok(()),
            ProcessState::New => self.schedule_new(pid),
            ProcessState::Running
            | ProcessState::Waiting
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie => Err(Code::IllegalTransition),
        }
    }

    pub(super) fn schedule_new(&mut self, pid: &ProcessId) -> Answer {
        let process = self.of(pid);
        let over = |one: &Resource| process.used(*one) > limit_number(process.quota.limit(*one));
        let late = process.elapsed(self.now) >= limit_number(process.quota.timeout_ms);
        // K115: what rolls up to an ancestor counts there as well.
        let above = process.ancestors.iter().map(|above| self.of(above)).any(|above| {
            let used = |one: &Resource| above.used(*one);
            Resource::RESERVABLE.iter().any(|one| used(one) > limit_number(above.quota.limit(*one)))
        });
        if late || above || Resource::ALL.iter().any(over) {
            return Err(Code::QuotaExceeded);
        }
        self.change(pid, ProcessState::Ready);
        Ok(())
    }

    /// K60, K61: the table of section 3.
    pub(super) fn transition(&mut self, pid: &ProcessId, to: ProcessState, reason: &str) -> Answer {
        self.only_party(pid)?;
        self.text(reason)?;
        let from = self.of(pid).state;
        if from == to {
            self.renew_lease(pid);
            return Ok(());
        }
        match (from, to) {
            (ProcessState::New, ProcessState::Ready) => return self.schedule_new(pid),
            (ProcessState::Ready, ProcessState::Running) => {
                if self.of(pid).submit.driven && !self.by.is_node() {
                    return Err(Code::NotHolder); // K74: it is the executor's.
                }
                if self.is_held(pid) && !self.is(Wrong::HeldRuns) {
                    return Err(Code::InterruptPending);
                }
                self.claim(pid);
            }
            (ProcessState::Waiting, ProcessState::Ready) if self.is(Wrong::NoWaking) => {
                return Err(Code::IllegalTransition);
            }
            (ProcessState::Waiting, ProcessState::Ready) if self.is_held(pid) => {
                return Err(Code::InterruptPending);
            }
            (
                ProcessState::Running | ProcessState::Waiting | ProcessState::Blocked,
                ProcessState::Ready,
            ) => {
                self.give_up_all(pid); // K61.
                self.change(pid, ProcessState::Ready);
            }
            (ProcessState::Running, ProcessState::Waiting) => {
                self.give_up_all(pid);
                self.change(pid, ProcessState::Waiting);
                self.of_mut(pid).wait = Some(Arc::from(reason));
            }
            (ProcessState::Running, ProcessState::Blocked) => {
                self.give_up_all(pid);
                self.change(pid, ProcessState::Blocked);
                let (reason, text) = (BlockReason::Manual, Arc::from(reason));
                self.of_mut(pid).block = Some(Block { reason, text, until: None });
            }
            (
                ProcessState::New
                | ProcessState::Ready
                | ProcessState::Running
                | ProcessState::Waiting
                | ProcessState::Blocked,
                ProcessState::Terminated,
            ) => self.end(pid, TerminalReason::UserCancelled, Some(reason)),
            (ProcessState::Terminated, ProcessState::Zombie) => self.bury(pid),
            _ => return Err(Code::IllegalTransition),
        }
        Ok(())
    }

    /// Puts a process into another live state.
    pub(super) fn change(&mut self, pid: &ProcessId, to: ProcessState) {
        let from = self.of(pid).state;
        self.leave(pid);
        let now = self.now;
        let process = self.of_mut(pid);
        process.state = to;
        process.block = None;
        process.wait = None;
        if to == ProcessState::Ready {
            process.ready_at = Some(now);
            if !self.is_held(pid) {
                self.join_ready(pid);
            }
        }
        self.note(Note::Changed(pid.clone(), from, to));
    }

    /// What ends with any state: its place among the ready, its running stretch, its lease.
    fn leave(&mut self, pid: &ProcessId) {
        self.leave_ready(pid);
        let (now, working) = (self.now, self.has_live_attempt(pid));
        let process = self.of_mut(pid);
        let elapsed = process.elapsed(now);
        if process.running_since.take().is_some() {
            process.used.insert(Resource::ElapsedMs, elapsed);
        }
        if !working {
            process.lease = None;
        }
    }

    /// A claim by the caller: Ready to Running, with a run lease (K78).
    pub(super) fn claim(&mut self, pid: &ProcessId) {
        let holder = self.holder.clone();
        self.claim_for(pid, holder);
    }

    /// The same by whoever it is.
    pub(super) fn claim_for(&mut self, pid: &ProcessId, holder: Holder) {
        let (now, counts_queue) = (self.now, self.is(Wrong::QueueTimeCounts));
        self.change(pid, ProcessState::Running);
        let until = now.plus(self.config.run_lease_ms);
        let lease = self.minted.leases.pop_front();
        let process = self.of_mut(pid);
        process.lease = lease.map(|id| Lease { id, holder, until });
        process.started_at = process.started_at.or(Some(now));
        process.last_scheduled_at = Some(now);
        process.running_since = Some(now);
        if counts_queue {
            process.running_since = process.ready_at;
        }
    }

    /// K82.
    pub(super) fn terminate(&mut self, pid: &ProcessId, message: &str, force: bool) -> Answer {
        self.only_owner(pid)?;
        self.text(message)?;
        let process = self.of(pid);
        if !process.is_live() {
            return Ok(());
        }
        if process.state == ProcessState::Running && !force {
            return Err(Code::ForceRequired);
        }
        self.end(pid, TerminalReason::UserCancelled, Some(message));
        Ok(())
    }

    /// The end of a process, and of its live descendants, depth first (K82, K84).
    pub(super) fn end(&mut self, pid: &ProcessId, reason: TerminalReason, message: Option<&str>) {
        self.give_up_all(pid);
        self.end_its_session(pid, reason, message);
        self.cancel_dispatches(pid);
        self.leave(pid);
        let now = self.now;
        let process = self.of_mut(pid);
        process.state = ProcessState::Terminated;
        process.block = None;
        process.wait = None;
        process.reason = Some(reason);
        process.message = message.map(str::to_owned);
        process.completed_at = Some(now);
        self.note(Note::Ended(pid.clone(), reason));
        self.end_interrupts(pid);
        self.drop_rates(pid);
        if self.is(Wrong::OrphansLive) {
            return;
        }
        let mut children = self.children(pid);
        if self.is(Wrong::SiblingsReversed) {
            children.reverse();
        }
        for child in children {
            if self.of(&child).is_live() {
                self.end(&child, TerminalReason::ParentTerminated, None);
            }
        }
    }

    /// K83.
    fn end_its_session(&mut self, pid: &ProcessId, reason: TerminalReason, message: Option<&str>) {
        if self.running(pid).is_none() {
            return;
        }
        self.note(Note::SessionEnded(pid.clone(), reason));
        let now = self.now;
        let session = self.session_mut(pid);
        session.ended = Some((reason, message.map(str::to_owned)));
        let id = session.envelope.clone();
        let envelope = self.envelopes.get_mut(&id).expect("it is bound");
        envelope.show_end(now, reason);
    }

    /// A Zombie keeps no session and no envelope (section 3).
    fn drop_session(&mut self, pid: &ProcessId) {
        if let Some(session) = self.sessions.remove(pid) {
            self.note(Note::SessionRemoved(pid.clone()));
            // It may serve another process by now.
            if self.envelopes[&session.envelope].process.as_ref() == Some(pid) {
                self.envelopes.remove(&session.envelope);
                self.note(Note::EnvelopesGone(vec![session.envelope]));
            }
        }
    }

    /// Terminated to Zombie: open reservations are charged, a tombstone is left (K85, K122).
    pub(super) fn bury(&mut self, pid: &ProcessId) {
        let open: Vec<_> = self.of(pid).open.keys().cloned().collect();
        if !self.is(Wrong::ForgetHoldAtZombie) {
            for id in open {
                self.charge_in_full(pid, &id);
            }
        }
        let process = self.of_mut(pid);
        process.state = ProcessState::Zombie;
        process.open.clear();
        process.closed.clear();
        self.drop_interrupts(pid);
        self.drop_session(pid);
        self.note(Note::Changed(pid.clone(), ProcessState::Terminated, ProcessState::Zombie));
    }

    /// Zombie to nothing: those below skip it (K102).
    pub(super) fn remove(&mut self, pid: &ProcessId) {
        self.processes.remove(pid);
        let stop = self.is(Wrong::StopAtRemovedAncestor);
        for process in self.processes.values_mut() {
            let Some(at) = process.ancestors.iter().position(|one| one == pid) else {
                continue;
            };
            match stop {
                true => process.ancestors.truncate(at),
                false => {
                    process.ancestors.remove(at);
                }
            }
        }
        self.note(Note::Removed(pid.clone()));
    }

    /// K85.
    pub(super) fn clean_up(&mut self, pid: &ProcessId) -> Answer {
        self.only_owner(pid)?;
        if self.of(pid).is_live() {
            return Err(Code::ProcessNotTerminal);
        }
        if self.of(pid).state == ProcessState::Terminated {
            self.bury(pid);
        }
        self.remove(pid);
        Ok(())
    }
}

/// The number of a limit, with no limit above all numbers (K23).
pub(super) fn limit_number(limit: Limit) -> u64 {
    limit.most().unwrap_or(u64::MAX)
}

/// A warning after the end is none (2.3).
pub(super) fn soft_after_hard(quota: &Quota) -> bool {
    let (soft, hard) = (quota.soft_timeout_ms, quota.timeout_ms);
    soft.most().is_some() && limit_number(soft) > limit_number(hard)
}

/// The submit digest is over what was asked for, whoever asked (K63).
fn same_submit(one: &Submit, other: &Submit) -> bool {
    let plain = |submit: &Submit| Submit { user: None, ..submit.clone() };
    plain(one) == plain(other)
}

/// A pid that no process has.
fn nobody() -> ProcessId {
    ProcessId::parse("pid", "nobody").expect("it is an id")
}

/// Says whether a field was raised.
pub(super) fn raised(quota: &Quota, field: QuotaField, to: Limit) -> bool {
    limit_number(to) > limit_number(quota.field(field))
}
