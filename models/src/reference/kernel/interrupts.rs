//! Section 6: questions to people, what answers allow, and how sessions go on with them.

use machines::kernel::expression::FieldRef;
use machines::kernel::ids::{AttemptId, InterruptId, ProcessId, StageName, UseId, UserId};
use machines::kernel::interrupts::approval::Use;
use machines::kernel::interrupts::interrupt::{Assignee, NewInterrupt, Response};
use machines::kernel::json::Json;
use machines::kernel::names::{
    ApprovalState, ExpiryPolicy, InterruptKind, InterruptStatus, OnExhausted, ProcessState,
    ReviewDecision, TerminalReason,
};
use machines::kernel::pipeline::kinds::Via;
use machines::kernel::quota::Resource;
use machines::kernel::{Code, Time};

use super::lifecycle::limit_number;
use super::sessions::{Unread, answer_json};
use super::values::target_hash;
use super::{Answer, Kernel, Note, Wrong};

/// One question.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as the fields of 2.5")]
pub struct Interrupt {
    pub pid: ProcessId,
    pub asked: NewInterrupt,
    /// Whether the kernel asks for more time (K112).
    pub for_time: bool,
    pub blocking: bool,
    pub auto_expire: bool,
    pub ttl: Option<u64>,
    pub on_expiry: ExpiryPolicy,
    pub assignee: Option<Assignee>,
    pub escalations: u64,
    /// Its number among all: the order of age.
    pub number: u64,
    pub expires_at: Option<Time>,
    pub status: InterruptStatus,
    pub closed_at: Option<Time>,
    /// The answer and who gave it.
    pub answer: Option<(Response, UserId)>,
    pub target_hash: Option<[u8; 32]>,
    /// The stage that asked, if one did, and whether as a branch.
    pub origin: Option<(StageName, bool)>,
}

/// Leave to do one thing (K170).
#[derive(Clone, Debug)]
pub struct Approval {
    /// Whose.
    pub pid: ProcessId,
    /// What became of it.
    pub state: ApprovalState,
    /// When it lapses.
    pub until: Time,
    /// What may be done.
    pub allowed: (String, Json, Vec<FieldRef>),
    /// The hash of that, with what it bound then.
    pub hash: [u8; 32],
    /// Its use.
    pub used_by: Option<UseId>,
}

/// What closing an interrupt means to its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// It was accepted, or left without an answer, and goes on.
    Wake,
    /// It was left without an answer, and goes on (K163).
    Unanswered,
    /// It was denied by a person, or by silence (K161, K166).
    Denied(bool),
    /// It ends.
    End(TerminalReason),
}

/// Which policies a kind may have (K150).
fn allows(kind: InterruptKind, policy: ExpiryPolicy) -> bool {
    use ExpiryPolicy::{Continue, Deny, Escalate, Fail};
    let allowed: &[ExpiryPolicy] = match kind {
        InterruptKind::Clarification => &[Deny, Fail, Continue, Escalate],
        InterruptKind::Confirmation | InterruptKind::AgentReview => &[Deny, Fail, Escalate],
        InterruptKind::Checkpoint => &[Continue, Fail],
        InterruptKind::ResourceExhausted | InterruptKind::Timeout | InterruptKind::SystemError => {
            &[Fail, Continue, Escalate]
        }
    };
    allowed.contains(&policy)
}

/// Confirmation and review: no silence is a yes (K151).
fn asks_leave(kind: InterruptKind) -> bool {
    matches!(kind, InterruptKind::Confirmation | InterruptKind::AgentReview)
}

impl Kernel {
    /// K151, K152.
    pub(super) fn create_interrupt(&mut self, pid: &ProcessId, asked: &NewInterrupt) -> Answer {
        self.only_party(pid)?;
        let known = |one: &&Interrupt| one.pid == *pid && one.asked.key == asked.key;
        if asked.key.is_some() && self.interrupts.values().any(|one| known(&one)) {
            self.renew_lease(pid);
            return Ok(());
        }
        self.only_live(pid)?;
        self.may_ask(pid, asked)?;
        self.renew_lease(pid);
        self.raise_asked(pid, asked, None);
        Ok(())
    }

    /// K25, K151.
    pub(super) fn may_ask(&self, pid: &ProcessId, asked: &NewInterrupt) -> Answer {
        let process = self.of(pid);
        let limits = &self.config.limits;
        if self.pending_of(pid).len() as u64 >= limits.interrupts_pending
            || process.interrupts_ever >= limits.interrupts
        {
            return Err(Code::TooMany);
        }
        let config = self.config.interrupts[usize::from(asked.kind.number()) - 1];
        let ttl = asked.ttl.or(config.default_ttl);
        let auto_expire = asked.auto_expire.unwrap_or(config.auto_expire);
        let on_expiry = asked.on_expiry.unwrap_or(config.on_expiry);
        let leave = asks_leave(asked.kind);
        if !allows(asked.kind, on_expiry) && !self.is(Wrong::YesBySilence) {
            return Err(Code::PolicyNotAllowed);
        }
        if (auto_expire && ttl.is_none()) || (leave && asked.blocking == Some(false)) {
            return Err(Code::BadValue);
        }
        let binds = asked.target.as_ref().is_some_and(|target| !target.binds.is_empty());
        if binds && self.running(pid).is_none() {
            return Err(Code::BadValue); // K168.
        }
        Ok(())
    }

    /// Asks what may be asked; `origin` is the stage that does, and its attempt.
    pub(super) fn raise_asked(
        &mut self,
        pid: &ProcessId,
        asked: &NewInterrupt,
        origin: Option<(StageName, Option<AttemptId>)>,
    ) {
        let config = self.config.interrupts[usize::from(asked.kind.number()) - 1];
        let ttl = asked.ttl.or(config.default_ttl);
        let auto_expire = asked.auto_expire.unwrap_or(config.auto_expire);
        let on_expiry = asked.on_expiry.unwrap_or(config.on_expiry);
        let blocking = asks_leave(asked.kind) || asked.blocking.unwrap_or(true);
        let target_hash = asked.target.as_ref().map(|target| {
            let fields = self.fields(pid);
            target_hash(pid, (&target.action, &target.params), &target.binds, &fields)
        });
        let grouped = self.running(pid).is_some_and(|session| session.group.is_some());
        let origin = origin.map(|(stage, _)| (stage, grouped));
        self.raise(Interrupt {
            pid: pid.clone(),
            asked: asked.clone(),
            for_time: false,
            blocking,
            auto_expire,
            ttl,
            on_expiry,
            assignee: asked.assignee.clone(),
            escalations: 0,
            number: 0,
            expires_at: None,
            status: InterruptStatus::Pending,
            closed_at: None,
            answer: None,
            target_hash,
            origin,
        });
    }

    /// Asks. A process that runs waits at once; any other is held (K62, K152).
    fn raise(&mut self, mut interrupt: Interrupt) {
        let Some(id) = self.minted.interrupts.pop_front() else {
            self.note(Note::Raised(interrupt.pid));
            return;
        };
        let pid = interrupt.pid.clone();
        self.asked += 1;
        interrupt.number = self.asked;
        interrupt.expires_at = interrupt.ttl.map(|ttl| self.now.plus(ttl));
        let blocking = interrupt.blocking;
        if blocking {
            self.leave_ready(&pid);
        }
        self.interrupts.insert(id, interrupt);
        self.of_mut(&pid).interrupts_ever += 1;
        self.note(Note::Raised(pid.clone()));
        if blocking && self.of(&pid).state == ProcessState::Running {
            self.change(&pid, ProcessState::Waiting);
        }
    }

    /// The pending interrupts of a process, oldest first (K153).
    pub(super) fn pending_of(&self, pid: &ProcessId) -> Vec<InterruptId> {
        let pending = |one: &Interrupt| one.pid == *pid && one.status == InterruptStatus::Pending;
        let mut all: Vec<_> = self.interrupts.iter().filter(|(_, one)| pending(one)).collect();
        all.sort_by_key(|(_, one)| one.number);
        all.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// Says whether a blocking interrupt is pending (K62).
    pub(super) fn is_held(&self, pid: &ProcessId) -> bool {
        self.pending_of(pid).iter().any(|id| self.interrupts[id].blocking)
    }

    /// K155, K156, K169.
    pub(super) fn resolve(&mut self, id: &InterruptId, response: &Response) -> Answer {
        let one = self.interrupts.get(id).ok_or(Code::InterruptNotFound)?.clone();
        let meant = one.assignee.as_ref().is_some_and(|assignee| assignee.is(&self.by));
        let owner = self.of(&one.pid).user == self.by.user;
        if !(meant || owner || self.by.is_operator()) {
            return Err(Code::PermissionDenied);
        }
        match one.status {
            InterruptStatus::Pending => {}
            InterruptStatus::Expired => return Err(Code::InterruptExpired),
            InterruptStatus::Resolved
                if one.answer == Some((response.clone(), self.by.user.clone()))
                    || self.is(Wrong::SecondAnswer) =>
            {
                return Ok(());
            }
            InterruptStatus::Resolved | InterruptStatus::Cancelled => {
                return Err(Code::InterruptNotPending);
            }
        }
        suits(one.asked.kind, response)?;
        match (&one.target_hash, &response.target_hash) {
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(Code::ResponseInvalid),
            (Some(shown), Some(quoted)) if shown == quoted => {}
            (Some(_), Some(_)) => return Err(Code::StaleTarget),
        }
        if let (Some(shown), Some(target)) = (&one.target_hash, &one.asked.target) {
            let fields = self.fields(&one.pid);
            let now = (&*target.action, &target.params);
            let current = target_hash(&one.pid, now, &target.binds, &fields);
            if current != *shown && !self.is(Wrong::BindsForgotten) {
                return Err(Code::StaleTarget);
            }
        }
        let kind = one.asked.kind;
        let yes = match kind {
            InterruptKind::Confirmation => response.approved == Some(true),
            InterruptKind::AgentReview => response.decision != Some(ReviewDecision::Reject),
            InterruptKind::Clarification
            | InterruptKind::Checkpoint
            | InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError => true,
        };
        if let Some(open) = self.interrupts.get_mut(id) {
            open.answer = Some((response.clone(), self.by.user.clone()));
        }
        self.note(Note::Resolved(id.clone()));
        if let (true, true, Some(target)) = (yes, asks_leave(kind), &one.asked.target) {
            let modified = match response.decision {
                Some(ReviewDecision::Modify) => response.data.clone(),
                Some(ReviewDecision::Approve | ReviewDecision::Reject) | None => None,
            };
            let params = modified.unwrap_or_else(|| target.params.clone());
            let hash = target_hash(
                &one.pid,
                (&target.action, &params),
                &target.binds,
                &self.fields(&one.pid),
            );
            let approval = Approval {
                hash,
                pid: one.pid.clone(),
                state: ApprovalState::Granted,
                until: self.now.plus(self.config.approval_ttl_ms),
                allowed: (target.action.to_string(), params, target.binds.clone()),
                used_by: None,
            };
            self.approvals.insert(id.clone(), approval);
            self.note(Note::Granted(id.clone()));
        }
        let closing = if yes { Closing::Wake } else { Closing::Denied(true) };
        self.close_interrupt(id, InterruptStatus::Resolved, closing);
        self.renew_lease(&one.pid);
        Ok(())
    }

    /// K158.
    pub(super) fn cancel(&mut self, id: &InterruptId, reason: &str) -> Answer {
        let pid = self.interrupts.get(id).ok_or(Code::InterruptNotFound)?.pid.clone();
        self.only_owner(&pid)?;
        self.text(reason)?;
        match self.interrupts[id].status {
            InterruptStatus::Pending => {}
            InterruptStatus::Expired => return Err(Code::InterruptExpired),
            InterruptStatus::Resolved | InterruptStatus::Cancelled => {
                return Err(Code::InterruptNotPending);
            }
        }
        self.note(Note::Cancelled(id.clone()));
        let denies = asks_leave(self.interrupts[id].asked.kind);
        let closing = if denies { Closing::Denied(true) } else { Closing::Wake };
        self.close_interrupt(id, InterruptStatus::Cancelled, closing);
        self.renew_lease(&pid);
        Ok(())
    }

    /// K160–K164.
    pub(super) fn expire(&mut self, id: &InterruptId) {
        let one = self.interrupts[id].clone();
        let mut policy = one.on_expiry;
        let escalates = policy == ExpiryPolicy::Escalate;
        self.note(Note::Expired(id.clone()));
        if escalates && one.escalations < self.config.max_escalations {
            // In one decision: the process never wakes in between.
            let operators = Assignee::OPERATORS;
            let next = one.asked.escalate_to.clone().unwrap_or(operators);
            self.raise(Interrupt {
                assignee: Some(next),
                escalations: one.escalations + 1,
                answer: None,
                ..one
            });
            if let Some(old) = self.interrupts.get_mut(id) {
                old.status = InterruptStatus::Expired;
                old.closed_at = Some(self.now);
            }
            return;
        }
        if escalates {
            policy = match asks_leave(one.asked.kind) {
                true => ExpiryPolicy::Deny,
                false => ExpiryPolicy::Fail,
            };
        }
        let closing = match policy {
            ExpiryPolicy::Deny => Closing::Denied(false),
            ExpiryPolicy::Fail => Closing::End(TerminalReason::InterruptExpired),
            ExpiryPolicy::Continue | ExpiryPolicy::Escalate => Closing::Unanswered,
        };
        let closing = if self.is(Wrong::YesBySilence) { Closing::Unanswered } else { closing };
        self.close_interrupt(id, InterruptStatus::Expired, closing);
    }

    /// Closes a pending interrupt. What blocks nothing changes nothing else (K152); the last that
    /// blocked wakes the process in the same decision (K159).
    fn close_interrupt(&mut self, id: &InterruptId, status: InterruptStatus, closing: Closing) {
        let Some(one) = self.interrupts.get_mut(id) else {
            return;
        };
        one.status = status;
        one.closed_at = Some(self.now);
        let one = one.clone();
        let pid = one.pid.clone();
        if !one.blocking {
            let answer = one.answer.as_ref();
            let said = answer.map(|(said, by)| answer_json(said, by.as_str(), self.now));
            if let Some(said) = said.filter(|_| self.running(&pid).is_some()) {
                self.session_mut(&pid).response = Some(said);
            }
            return;
        }
        match closing {
            Closing::End(reason) => return self.end(&pid, reason, None),
            Closing::Denied(_) if self.running(&pid).is_some() => self.deny(id, closing),
            Closing::Denied(false) => {
                return self.end(&pid, TerminalReason::InterruptDenied, None);
            }
            Closing::Wake | Closing::Unanswered | Closing::Denied(true) => {
                self.resume(id, closing == Closing::Wake);
            }
        }
        if !self.of(&pid).is_live() {
            return;
        }
        if one.for_time && self.is_out_of_time(&pid) {
            // K112: it goes on only if it was given more time.
            self.end(&pid, TerminalReason::TimeoutExceeded, None);
            return;
        }
        if self.is_held(&pid) || self.is(Wrong::ForgetWake) {
            return;
        }
        match self.of(&pid).state {
            ProcessState::Waiting => {
                self.change(&pid, ProcessState::Ready);
                let lease = self.of(&pid).lease.clone();
                if let Some(lease) = lease.filter(|_| self.has_live_attempt(&pid)) {
                    // K81: as if it had never left.
                    self.claim_for(&pid, lease.holder.clone());
                    self.of_mut(&pid).lease = Some(lease);
                }
            }
            ProcessState::Ready => {
                let now = self.now;
                self.of_mut(&pid).ready_at = Some(now);
                self.join_ready(&pid);
            }
            ProcessState::New
            | ProcessState::Running
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie => {}
        }
    }

    /// The session goes on with an answer, or without one (K163, K165, K167).
    fn resume(&mut self, id: &InterruptId, accepted: bool) {
        let one = self.interrupts[id].clone();
        let pid = &one.pid;
        if self.running(pid).is_none() {
            return;
        }
        if one.answer.is_some() || !accepted {
            self.tell_session(id);
        }
        let pipeline = self.session(pid).pipeline.clone();
        let next = match one.asked.kind {
            InterruptKind::Clarification => &pipeline.clarification_resume_stage,
            InterruptKind::Confirmation => &pipeline.confirmation_resume_stage,
            InterruptKind::AgentReview => &pipeline.agent_review_resume_stage,
            InterruptKind::Checkpoint
            | InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError => &None,
        };
        let alone = one.origin.is_some_and(|(_, branch)| !branch);
        let next = next.as_ref().filter(|_| accepted && alone);
        let next = next.filter(|_| self.session(pid).group.is_none());
        if let Some(next) = next {
            self.move_to(pid, next, Via::Resume);
        }
        if self.is(Wrong::ResumeAtFirst) && self.running(pid).is_some() {
            let first = pipeline.stages[0].name.clone();
            self.session_mut(pid).position = first;
        }
    }

    /// What the next task and expressions are told of a question that was closed (K163, K167).
    fn tell_session(&mut self, id: &InterruptId) {
        let one = self.interrupts[id].clone();
        let now = self.now;
        let response = one.answer.as_ref().map(|(said, by)| answer_json(said, by.as_str(), now));
        let news = Unread {
            interrupt: id.clone(),
            stage: one.origin.map(|(stage, _)| stage),
            response: response.clone(),
            expired: one.status == InterruptStatus::Expired,
        };
        let session = self.session_mut(&one.pid);
        session.response = response.or(session.response.take());
        session.unread.push(news);
    }

    /// K166: to the denied stage, or the end.
    fn deny(&mut self, id: &InterruptId, closing: Closing) {
        let one = self.interrupts[id].clone();
        let pid = &one.pid;
        let others = self.pending_of(pid);
        let to = self.session(pid).pipeline.denied_stage.clone();
        if one.answer.is_some() {
            self.tell_session(id);
        }
        let by_person = closing == Closing::Denied(true) && one.status == InterruptStatus::Resolved;
        match to.filter(|_| one.origin.is_some()) {
            None => {
                let text = format!("user denied {} {id}", one.asked.kind.name());
                let text = Some(text.as_str()).filter(|_| by_person);
                self.end_session(pid, TerminalReason::InterruptDenied, text);
            }
            Some(to) => {
                for other in others {
                    self.cancel_quietly(&other);
                }
                if self.session(pid).group.is_some() {
                    self.give_up_all(pid);
                    self.close_group(pid, None, Vec::new());
                }
                if self.session(pid).is_parallel() {
                    self.session_mut(pid).denied = Some(to.clone());
                }
                self.move_to(pid, &to, Via::Denied);
            }
        }
    }

    fn cancel_quietly(&mut self, id: &InterruptId) {
        if let Some(one) = self.interrupts.get_mut(id) {
            one.status = InterruptStatus::Cancelled;
            one.closed_at = Some(self.now);
        }
        self.note(Note::Cancelled(id.clone()));
    }

    /// A session is replaced: what it asked is taken back, what was granted lapses (K230, K171).
    pub(super) fn cancel_questions_of_session(&mut self, pid: &ProcessId) {
        self.end_interrupts(pid);
    }

    fn is_out_of_time(&self, pid: &ProcessId) -> bool {
        let process = self.of(pid);
        process.elapsed(self.now) >= limit_number(process.quota.timeout_ms)
    }

    /// The time of a process is used up (K112).
    pub(super) fn time_out(&mut self, pid: &ProcessId) {
        if self.running(pid).is_some() {
            self.tell_exceeded(pid, Resource::ElapsedMs);
        }
        if self.of(pid).submit.on_exhausted == OnExhausted::Terminate {
            self.end(pid, TerminalReason::TimeoutExceeded, None);
            return;
        }
        self.raise_by_kernel(pid, InterruptKind::Timeout, true);
    }

    /// The kernel itself asks: for time, or for more of a budget (K112, K118).
    pub(super) fn raise_by_kernel(&mut self, pid: &ProcessId, kind: InterruptKind, for_time: bool) {
        let config = self.config.interrupts[usize::from(kind.number()) - 1];
        self.raise(Interrupt {
            pid: pid.clone(),
            asked: NewInterrupt::new(kind),
            for_time,
            blocking: true,
            auto_expire: config.auto_expire,
            ttl: config.default_ttl,
            on_expiry: config.on_expiry,
            assignee: None,
            escalations: 0,
            number: 0,
            expires_at: None,
            status: InterruptStatus::Pending,
            closed_at: None,
            answer: None,
            target_hash: None,
            origin: None,
        });
    }

    /// The end of a process: what was asked is taken back, what was granted lapses (K171, K173).
    pub(super) fn end_interrupts(&mut self, pid: &ProcessId) {
        for id in self.pending_of(pid) {
            if let Some(one) = self.interrupts.get_mut(&id) {
                one.status = InterruptStatus::Cancelled;
                one.closed_at = Some(self.now);
            }
            self.note(Note::Cancelled(id));
        }
        let granted = |one: &Approval| one.pid == *pid && one.state == ApprovalState::Granted;
        let all = self.approvals.iter().filter(|(_, one)| granted(one));
        let all: Vec<InterruptId> = all.map(|(id, _)| id.clone()).collect();
        all.iter().for_each(|id| self.lapse(id));
    }

    /// K171.
    pub(super) fn lapse(&mut self, id: &InterruptId) {
        if let Some(approval) = self.approvals.get_mut(id) {
            approval.state = ApprovalState::Lapsed;
            self.note(Note::Lapsed(id.clone()));
        }
    }

    /// A Zombie keeps no interrupts (section 3, K175).
    pub(super) fn drop_interrupts(&mut self, pid: &ProcessId) {
        self.interrupts.retain(|_, one| one.pid != *pid);
        self.approvals.retain(|_, one| one.pid != *pid);
    }

    /// Until when a closed interrupt is kept (K175); for as long as leave can still be used.
    pub(super) fn remembered_until(&self, id: &InterruptId) -> Option<Time> {
        let granted = |one: &Approval| one.state == ApprovalState::Granted;
        if self.approvals.get(id).is_some_and(granted) {
            return None;
        }
        let closed_at = self.interrupts.get(id)?.closed_at?;
        Some(closed_at.plus(self.config.retention.interrupt_ms))
    }

    /// K175, K361.
    pub(super) fn forget_interrupts(&mut self) {
        let due = |id: &InterruptId| self.remembered_until(id).is_some_and(|at| at <= self.now);
        let due: Vec<InterruptId> = self.interrupts.keys().filter(|id| due(id)).cloned().collect();
        for id in due {
            self.interrupts.remove(&id);
            self.approvals.remove(&id);
            self.swept = true;
        }
    }

    /// K170.
    pub(super) fn consume(&mut self, wanted: &Use) -> Answer {
        let id = &wanted.interrupt;
        let pid = self.interrupts.get(id).ok_or(Code::InterruptNotFound)?.pid.clone();
        self.only_party(&pid)?;
        if !self.holds(&pid) {
            return Err(Code::NotHolder);
        }
        self.use_approval(&pid, wanted)?;
        self.renew_lease(&pid);
        Ok(())
    }

    /// Uses an approval of a process, once (K170).
    pub(super) fn use_approval(&mut self, pid: &ProcessId, wanted: &Use) -> Answer {
        self.may_use(pid, wanted)?;
        let id = &wanted.interrupt;
        if let Some(approval) = self.approvals.get_mut(id)
            && approval.state == ApprovalState::Granted
        {
            approval.state = ApprovalState::Consumed;
            approval.used_by = Some(wanted.use_id.clone());
            self.note(Note::Consumed(id.clone()));
        }
        Ok(())
    }

    /// Says whether it may be used so, or was (K170).
    pub(super) fn may_use(&self, pid: &ProcessId, wanted: &Use) -> Answer {
        let id = &wanted.interrupt;
        if self.interrupts.get(id).is_none_or(|one| one.pid != *pid) {
            return Err(Code::InterruptNotFound);
        }
        let approval = self.approvals.get(id).ok_or(Code::ApprovalNotUsable)?;
        let binds = &approval.allowed.2;
        let about = (&*wanted.action, &wanted.params);
        let same = target_hash(pid, about, binds, &self.fields(pid)) == approval.hash;
        let used_so = approval.used_by.as_ref() == Some(&wanted.use_id);
        match approval.state {
            ApprovalState::Lapsed => Err(Code::ApprovalNotUsable),
            ApprovalState::Consumed if !used_so => Err(Code::ApprovalNotUsable),
            ApprovalState::Granted | ApprovalState::Consumed => {
                match same || self.is(Wrong::AnyParams) {
                    true => Ok(()),
                    false => Err(Code::StaleTarget),
                }
            }
        }
    }

    /// Says in what the machine's interrupts and approvals differ.
    #[must_use]
    pub fn interrupts_differ(&self, state: &machines::kernel::state::State) -> Option<String> {
        self.interrupts.iter().find_map(|(id, one)| {
            let Some(machine) = state.interrupt(id) else {
                return Some(format!("{id} is missing"));
            };
            let model = (one.status, one.expires_at, one.blocking, one.escalations);
            let real = (machine.status, machine.expires_at, machine.blocking, machine.escalations);
            let hash = machine.target.as_ref().map(|target| target.hash);
            if model != real || one.assignee != machine.assignee || one.target_hash != hash {
                return Some(format!("{id}: {machine:?}, not {one:?}"));
            }
            let model = self.approvals.get(id).map(|one| (one.state, one.until, &one.used_by));
            let real = state.approval(id).map(|one| (one.state, one.until, &one.used_by));
            (model != real).then(|| format!("approval {id}: {real:?}, not {model:?}"))
        })
    }
}

/// The needed part is there, and none that does not belong to the kind (K150, K156).
fn suits(kind: InterruptKind, response: &Response) -> Answer {
    let (text, data) = (response.text.is_some(), response.data.is_some());
    let (approved, decision) = (response.approved.is_some(), response.decision.is_some());
    let modify = response.decision == Some(ReviewDecision::Modify);
    let right = match kind {
        InterruptKind::Clarification => {
            let said = response.text.as_ref().is_some_and(|text| !text.is_empty());
            said && !approved && !decision
        }
        InterruptKind::Confirmation => approved && !text && !decision && !data,
        InterruptKind::AgentReview => decision && !approved && data == modify,
        InterruptKind::Checkpoint
        | InterruptKind::ResourceExhausted
        | InterruptKind::Timeout
        | InterruptKind::SystemError => !approved && !decision,
    };
    match right {
        true => Ok(()),
        false => Err(Code::ResponseInvalid),
    }
}
