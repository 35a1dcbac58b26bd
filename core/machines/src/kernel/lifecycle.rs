//! The life of a process: submit, schedule, claim, change, end (section 3).

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use crate::codec::Wire;

use super::config::check_quota;
use super::decision::{Decision, foreign};
use super::event::{Body, Cause, ProcessEvent, Subject};
use super::ids::{LeaseId, ProcessId, RequestId, SessionId, UserId};
use super::names::{BlockReason, LapseCause, OnExhausted, Priority, ProcessState, TerminalReason};
use super::process::{Block, ContentHash, Metadata, Process, RunLease, short_hash};
use super::quota::{Quota, QuotaField, QuotaPatch};
use super::refusal::{Code, Refusal};
use super::time::Time;

/// What a process is to be (K63, K64, K84).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Submit {
    /// Its id, if the caller chooses it.
    pub pid: Option<ProcessId>,
    /// The caller's request.
    pub request: Option<RequestId>,
    /// For whom, if not for the caller.
    pub user: Option<UserId>,
    /// The caller's conversation.
    pub session: Option<SessionId>,
    /// How urgent.
    pub priority: Priority,
    /// What of the quota is not as by default.
    pub quota: QuotaPatch,
    /// Whose child.
    pub parent: Option<ProcessId>,
    /// What happens when a budget runs out.
    pub on_exhausted: OnExhausted,
    /// Whether the executor drives it (K290).
    pub driven: bool,
    /// What the caller keeps with it.
    pub metadata: Metadata,
}

impl Submit {
    /// Returns what a repeat is known by: all fields but the pid (2.3).
    fn digest(&self, user: &UserId) -> ContentHash {
        let mut bytes = Vec::new();
        self.request.encode(&mut bytes);
        user.encode(&mut bytes);
        self.session.encode(&mut bytes);
        self.priority.encode(&mut bytes);
        let mut quota = self.quota.clone();
        quota.sort_unstable();
        quota.encode(&mut bytes);
        self.parent.encode(&mut bytes);
        self.on_exhausted.encode(&mut bytes);
        self.driven.encode(&mut bytes);
        self.metadata.encode(&mut bytes);
        short_hash(&bytes)
    }
}

impl Decision<'_> {
    /// Makes a process, or finds that it was made before (K63).
    pub(super) fn submit(&mut self, submit: &Submit) -> Result<ProcessId, Refusal> {
        let user = self.for_whom(submit.user.as_ref())?;
        let ids = [
            ("user_id", submit.user.as_ref().map(UserId::as_str)),
            ("pid", submit.pid.as_ref().map(ProcessId::as_str)),
            ("request_id", submit.request.as_ref().map(RequestId::as_str)),
            ("session_id", submit.session.as_ref().map(SessionId::as_str)),
        ];
        for (field, id) in ids {
            self.check_id(field, id.unwrap_or_default())?;
        }
        let digest = submit.digest(&user);
        if let Some(pid) = &submit.pid
            && let Some(known) = self.state.process(pid)
        {
            return match known.user == user && known.digest == digest {
                true => Ok(pid.clone()),
                false if known.user == self.by.user || self.by.is_operator() => {
                    let told = format!("process {pid} exists with different content");
                    Err(Refusal::new(Code::SubmitConflict, told))
                }
                false => Err(self.owned(pid).err().unwrap_or_else(|| foreign(pid))),
            };
        }
        if let Some(parent) = &submit.parent {
            self.owned(parent)?; // Access comes before anything else (K27).
        }
        self.refuse_draining()?;
        let quota = self.granted(&submit.quota)?;
        if let Some(parent) = &submit.parent {
            self.check_parent(parent, &user)?;
        }
        self.check_room(&user)?;
        self.check_metadata(&submit.metadata)?;

        let pid = match &submit.pid {
            Some(pid) => pid.clone(),
            None => self.mint(|state, pid| state.process(pid).is_some()),
        };
        let request = submit.request.clone().unwrap_or_else(|| self.mint(|_, _| false));
        let session = submit.session.clone().unwrap_or_else(|| self.mint(|_, _| false));
        let subject = Subject {
            pid: Some(pid.clone()),
            user: Some(user),
            session: Some(session),
            request: Some(request),
        };
        let event = ProcessEvent::Created {
            priority: submit.priority,
            quota: Box::new(quota),
            parent: submit.parent.clone(),
            driven: submit.driven,
            on_exhausted: submit.on_exhausted,
            digest,
            metadata: submit.metadata.clone(),
        };
        self.emit(subject, Body::Process { event });
        Ok(pid)
    }

    pub(super) fn for_whom(&self, user: Option<&UserId>) -> Result<UserId, Refusal> {
        match user {
            Some(user) if *user != self.by.user && !self.by.is_operator() => {
                let told = format!("only operators submit for others, such as {user}");
                Err(Refusal::new(Code::PermissionDenied, told))
            }
            Some(user) => Ok(user.clone()),
            None => Ok(self.by.user.clone()),
        }
    }

    pub(super) fn refuse_draining(&self) -> Result<(), Refusal> {
        match self.state.counters.draining {
            Some(_) => Err(Refusal::new(Code::Draining, "node is draining")),
            None => Ok(()),
        }
    }

    /// The quota of a new process: the default, changed as asked, below the ceiling (K64).
    fn granted(&self, patch: &QuotaPatch) -> Result<Quota, Refusal> {
        let mut quota = self.state.config.default_quota;
        let told = |field: QuotaField| patch.iter().any(|(given, _)| *given == field);
        for (field, limit) in patch {
            let ceiling = self.state.config.quota_ceiling.field(*field);
            if *limit > ceiling && !self.by.is_operator() {
                let told = format!("{}: {limit}, at most {ceiling}", field.name());
                return Err(Refusal::new(Code::QuotaAboveCeiling, told));
            }
            *quota.field_mut(*field) = *limit;
        }
        if !told(QuotaField::SoftTimeoutMs) {
            // Nobody asked for a warning after the end.
            quota.soft_timeout_ms = quota.soft_timeout_ms.min(quota.timeout_ms);
        }
        check_quota("quota", &quota)?;
        Ok(quota)
    }

    /// K84: a parent is there, live, of the same owner, and not too deep or too fertile.
    pub(super) fn check_parent(&self, parent: &ProcessId, user: &UserId) -> Result<(), Refusal> {
        let above = self.owned(parent)?;
        let limits = &self.state.config.limits;
        if above.user != *user {
            return Err(foreign(parent));
        }
        if !above.is_live() {
            let told = format!("parent {parent} has ended");
            return Err(Refusal::new(Code::ParentTerminal, told));
        }
        if u64::from(above.depth) + 2 > limits.tree_depth {
            let told = format!("tree depth {}, at most {}", above.depth + 2, limits.tree_depth);
            return Err(Refusal::new(Code::TooDeep, told));
        }
        if above.children.len() as u64 >= limits.children {
            let told = format!("children of {parent}: at most {}", limits.children);
            return Err(Refusal::new(Code::TooMany, told));
        }
        Ok(())
    }

    fn check_room(&self, user: &UserId) -> Result<(), Refusal> {
        let limits = &self.state.config.limits;
        let live = self.state.live_of.get(user).copied().unwrap_or(0);
        if u64::from(self.state.processes.len()) >= limits.processes {
            let (is, most) = (self.state.processes.len(), limits.processes);
            let told = format!("{is} processes, at most {most}");
            return Err(Refusal::new(Code::ProcessLimit, told));
        }
        if live >= limits.processes_of_user {
            let most = limits.processes_of_user;
            let told = format!("{live} live processes of {user}, at most {most}");
            return Err(Refusal::new(Code::ProcessLimit, told));
        }
        Ok(())
    }

    /// Lets a new process wait for its turn (K65).
    pub(super) fn schedule(&mut self, pid: &ProcessId) -> Result<(), Refusal> {
        let process = self.owned(pid)?;
        match process.state {
            ProcessState::Ready => return Ok(()),
            ProcessState::New => {}
            from @ (ProcessState::Running
            | ProcessState::Waiting
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie) => return Err(illegal(from, ProcessState::Ready)),
        }
        self.refuse_spent(pid, process)?;
        self.change(pid, ProcessState::Ready, Cause::Scheduled);
        Ok(())
    }

    /// Refuses to let a process begin below one that has, or has an ancestor that has, used too
    /// much of something (K65, K115).
    pub(super) fn refuse_spent_above(&self, parent: &ProcessId) -> Result<(), Refusal> {
        match self.state.exceeded_from(parent).next() {
            Some(text) => Err(Refusal::new(Code::QuotaExceeded, text)),
            None => Ok(()),
        }
    }

    /// Refuses to let a process begin that has used too much of something, it or an ancestor, or
    /// has no time left (K65, K115).
    pub(super) fn refuse_spent(&self, pid: &ProcessId, process: &Process) -> Result<(), Refusal> {
        if let Some(text) = self.state.exceeded(pid, self.now).first() {
            return Err(Refusal::new(Code::QuotaExceeded, text.clone()));
        }
        let (time, elapsed) = (process.quota.timeout_ms, process.elapsed(self.now));
        match time.less(elapsed) {
            Some(0) => {
                let told = format!("timeout_exceeded: {elapsed} of {time}");
                Err(Refusal::new(Code::QuotaExceeded, told))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Claims the process whose turn it is (K70–K74).
    pub(super) fn next_runnable(&mut self) -> Result<ProcessId, Refusal> {
        let ageing = self.state.config.ageing_ms;
        let ready = &self.state.ready[usize::from(self.by.is_node())];
        let (next, cause, of) = match self.by.takes_any_work() {
            true => (ready.next(ageing), Cause::Served, None),
            false => {
                let user = &self.by.user;
                (ready.next_of(user, ageing), Cause::Claimed, Some(user))
            }
        };
        let Some(pid) = next.cloned() else {
            return Err(Refusal::new(Code::NoRunnable, "no process waits to be run"));
        };
        crate::sometimes!("kernel.aged_claim", ready.is_after_better(&pid, of));
        self.claim(&pid, cause);
        Ok(pid)
    }

    /// Ready → Running under a run lease (K78).
    pub(super) fn claim(&mut self, pid: &ProcessId, cause: Cause) {
        let lease: LeaseId = self.mint(|_, _| false);
        let until = self.now.plus(self.state.config.run_lease_ms);
        let lease = RunLease { lease, holder: self.holder(), until };
        let from = self.state_of(pid);
        let to = ProcessState::Running;
        let (block, wait) = (None, None);
        let lease = Some(lease);
        self.emit_process(pid, ProcessEvent::StateChanged { from, to, cause, lease, block, wait });
    }

    /// Extends the run lease of its holder, recorded when less than half of it is left (K78).
    pub(super) fn touch_lease(&mut self, pid: &ProcessId) {
        let length = self.state.config.run_lease_ms;
        let Some(run) = self.state.process(pid).and_then(|process| process.run_lease.clone())
        else {
            return;
        };
        if run.holder == self.holder() && run.until.since(self.now) < length / 2 {
            let until = self.now.plus(length);
            self.emit_process(pid, ProcessEvent::LeaseRenewed { lease: run.lease, until });
        }
    }

    fn state_of(&self, pid: &ProcessId) -> ProcessState {
        self.state.process(pid).map_or(ProcessState::Zombie, |process| process.state)
    }

    pub(super) fn change(&mut self, pid: &ProcessId, to: ProcessState, cause: Cause) {
        let from = self.state_of(pid);
        let (lease, block, wait) = (self.kept_lease(pid), None, None);
        self.emit_process(pid, ProcessEvent::StateChanged { from, to, cause, lease, block, wait });
    }

    /// The run lease stays as long as somebody works for the process (K78).
    fn kept_lease(&self, pid: &ProcessId) -> Option<RunLease> {
        let lease = self.state.process(pid)?.run_lease.as_deref();
        lease.filter(|_| self.state.has_live_attempt(pid)).cloned()
    }

    /// `TransitionState` (K60, K61).
    pub(super) fn transition(
        &mut self,
        pid: &ProcessId,
        to: ProcessState,
        reason: &str,
    ) -> Result<(), Refusal> {
        let process = self.held(pid)?;
        self.check_text("reason", reason)?;
        let from = process.state;
        if from == to {
            return Ok(());
        }
        if !from.next().contains(&to) {
            return Err(illegal(from, to));
        }
        if to == ProcessState::Running && process.driven && !self.by.is_node() {
            // K74, K290: nobody else would go on with it.
            let told = format!("process {pid} is driven by the node");
            return Err(Refusal::new(Code::NotHolder, told));
        }
        // No approval can be walked around, from Waiting or while it is held (K61, K62).
        let runs = from == ProcessState::Waiting || to == ProcessState::Running;
        if runs && process.is_held() && !to.is_terminal() {
            let first = self.state.oldest_blocking(pid);
            let id = first.map_or_else(String::new, |first| first.id.to_string());
            let told = format!("interrupt {id} is pending");
            return Err(Refusal::new(Code::InterruptPending, told));
        }
        if from == ProcessState::Running && !to.is_terminal() {
            self.supersede(pid);
        }
        match to {
            ProcessState::Running => self.claim(pid, Cause::Claimed),
            ProcessState::Terminated => self.end(pid, TerminalReason::UserCancelled, reason),
            ProcessState::Ready if from == ProcessState::New => self.schedule(pid)?,
            ProcessState::New | ProcessState::Ready => {
                self.change(pid, to, Cause::Asked);
                self.return_to_holder(pid);
            }
            ProcessState::Zombie => self.bury(pid, Cause::Asked),
            ProcessState::Waiting => self.pause(pid, to, (None, Some(Arc::from(reason)))),
            ProcessState::Blocked => {
                let text = Arc::from(reason);
                let block = Block { reason: BlockReason::Manual, text, until: None };
                self.pause(pid, to, (Some(block), None));
            }
        }
        Ok(())
    }

    fn pause(
        &mut self,
        pid: &ProcessId,
        to: ProcessState,
        (block, wait): (Option<Block>, Option<Arc<str>>),
    ) {
        let (from, cause, lease) = (self.state_of(pid), Cause::Asked, None);
        self.emit_process(pid, ProcessEvent::StateChanged { from, to, cause, lease, block, wait });
    }

    /// `Terminate` (K82).
    pub(super) fn terminate(
        &mut self,
        pid: &ProcessId,
        message: &str,
        force: bool,
    ) -> Result<(), Refusal> {
        let process = self.owned(pid)?;
        self.check_text("message", message)?;
        match process.state {
            ProcessState::Terminated | ProcessState::Zombie => Ok(()),
            ProcessState::Running if !force => {
                let told = format!("process {pid} is running: use force");
                Err(Refusal::new(Code::ForceRequired, told))
            }
            ProcessState::New
            | ProcessState::Ready
            | ProcessState::Running
            | ProcessState::Waiting
            | ProcessState::Blocked => {
                self.end(pid, TerminalReason::UserCancelled, message);
                Ok(())
            }
        }
    }

    /// Ends a live process and, depth first in order of pid, all that descend from it (K84). Those
    /// for whom this decision has no room are due at once, in the same order ([`Due::Orphan`]).
    ///
    /// [`Due::Orphan`]: super::deadlines::Due::Orphan
    pub(super) fn end(&mut self, pid: &ProcessId, reason: TerminalReason, message: &str) {
        let mut rest = vec![(pid.clone(), reason, Arc::from(message))];
        let (mut freed, mut begun, mut open) = (BTreeSet::new(), false, 0);
        let (most, from) = (self.state.config.limits.dispatches_open(), self.bytes());
        while let Some((pid, reason, message)) = rest.pop() {
            open += self.state.desks.open_of(&pid);
            // Each dispatch that ends may let another start, below, for which there must be room.
            if mem::replace(&mut begun, true) && (open > most || self.is_full_since(from)) {
                crate::sometimes!("kernel.tree_cut");
                break;
            }
            if !self.state.process(&pid).is_some_and(Process::is_live) {
                continue;
            }
            self.supersede(&pid);
            self.cancel_pending(&pid, reason.name());
            self.lapse_approvals(&pid, LapseCause::ProcessEnded);
            self.end_session(&pid, reason, &message);
            let Some(process) = self.state.process(&pid) else {
                continue;
            };
            let (usage, children) = (process.usage(self.now), process.children.clone());
            let outcome = reason.outcome();
            freed.extend(self.cancel_dispatches(&pid));
            self.emit_process(&pid, ProcessEvent::Terminated { reason, outcome, message, usage });
            let message: Arc<str> = Arc::from(format!("parent {pid} has ended"));
            let below = children.into_iter().rev();
            rest.extend(
                below.map(|child| (child, TerminalReason::ParentTerminated, Arc::clone(&message))),
            );
        }
        freed.iter().for_each(|service| self.pump(service));
    }

    /// The rest of a tree whose end took more than one decision.
    pub(super) fn end_orphan(&mut self, pid: &ProcessId) {
        let parent = self.state.process(pid).and_then(|process| process.parent.clone());
        if let Some(parent) = parent {
            let message = format!("parent {parent} has ended");
            self.end(pid, TerminalReason::ParentTerminated, &message);
        }
    }

    /// Finds a process below that is to end and has not yet. While there is one its parent stays:
    /// it would have none, and go on.
    pub(super) fn first_live_child(&self, pid: &ProcessId) -> Option<&ProcessId> {
        let is_live = |pid: &&ProcessId| self.state.process(pid).is_some_and(Process::is_live);
        self.state.process(pid)?.children.iter().find(is_live)
    }

    /// `CleanupProcess`: through Zombie to nothing (K85).
    pub(super) fn clean_up(&mut self, pid: &ProcessId) -> Result<(), Refusal> {
        let process = self.owned(pid)?;
        let state = process.state;
        if process.is_live() {
            let told = format!("process {pid} is {}", state.name());
            return Err(Refusal::new(Code::ProcessNotTerminal, told));
        }
        if let Some(child) = self.first_live_child(pid) {
            let told = format!("process {child} below {pid} has not ended yet");
            return Err(Refusal::new(Code::ProcessNotTerminal, told));
        }
        if state == ProcessState::Terminated {
            self.bury(pid, Cause::Asked);
        }
        self.emit_process(pid, ProcessEvent::Removed);
        Ok(())
    }

    /// Terminated → Zombie: what is still reserved is charged (K122).
    pub(super) fn bury(&mut self, pid: &ProcessId, cause: Cause) {
        self.charge_all(pid);
        self.remove_session(pid);
        self.remove_envelope_of(pid);
        self.remove_interrupts_of(pid);
        self.change(pid, ProcessState::Zombie, cause);
    }
}

fn illegal(from: ProcessState, to: ProcessState) -> Refusal {
    let legal: Vec<&str> = from.next().iter().map(|state| state.name()).collect();
    let legal = match legal.is_empty() {
        true => "none is legal".to_owned(),
        false => format!("legal are {}", legal.join(", ")),
    };
    Refusal::new(Code::IllegalTransition, format!("{} -> {}: {legal}", from.name(), to.name()))
}

impl Process {
    /// Says which budgets are used up beyond their limits (K115).
    #[must_use]
    pub fn exceeded(&self, now: Time) -> Vec<String> {
        super::budget::exceeded(&self.quota, &self.usage(now))
    }
}
