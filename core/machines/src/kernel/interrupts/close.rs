//! Closing: by an answer, by taking back, by silence, or with the process (K155 – K164, K173).

use std::sync::Arc;

use crate::kernel::decision::Decision;
use crate::kernel::ids::{InterruptId, ProcessId};
use crate::kernel::names::{ExpiryPolicy, InterruptKind, InterruptStatus, ReviewDecision};
use crate::kernel::refusal::{Code, Refusal};

use super::approval::stale;
use super::event::InterruptEvent;
use super::interrupt::{Assignee, Interrupt, Response};
use super::resume::Closing;

impl Decision<'_> {
    /// `ResolveInterrupt`: the first valid answer is the answer (K155).
    pub(in crate::kernel) fn resolve(
        &mut self,
        id: &InterruptId,
        response: &Response,
    ) -> Result<(), Refusal> {
        let interrupt = self.answerable(id)?;
        let repeated = |answer: &super::interrupt::Answer| {
            answer.response == *response && answer.by == self.by.user
        };
        if interrupt.answer.as_deref().is_some_and(repeated) {
            return Ok(());
        }
        self.refuse_closed(interrupt)?;
        self.check_response(interrupt, response)?;
        self.check_shown(interrupt, response)?;

        let (pid, accepted) = (interrupt.pid.clone(), !denies(interrupt.kind, response));
        let (id, by) = (id.clone(), self.by.user.clone());
        let response = Box::new(response.clone());
        let event = InterruptEvent::Resolved { id: id.clone(), response, by, accepted };
        self.emit_interrupt(&pid, event);
        let closing = |interrupt: &Interrupt| match accepted {
            true => Closing::Accepted,
            false => Closing::Denied { message: Arc::from(interrupt.refused()) },
        };
        if let Some(interrupt) = self.closed(&id) {
            if accepted && interrupt.kind.asks_leave() {
                self.grant(&interrupt);
            }
            let closing = closing(&interrupt);
            self.go_on(&interrupt, closing);
        }
        Ok(())
    }

    /// Refuses what is not pending, naming what became of it (K155).
    fn refuse_closed(&self, interrupt: &Interrupt) -> Result<(), Refusal> {
        let id = &interrupt.id;
        let late = interrupt.due_at().is_some_and(|at| at <= self.now);
        let here = interrupt.auto_expire && interrupt.expires_at == Some(self.now);
        let told = match interrupt.status {
            InterruptStatus::Pending if !late => return Ok(()),
            InterruptStatus::Pending | InterruptStatus::Expired => {
                crate::sometimes!("kernel.resolve_at_expiry", here);
                let at = interrupt.expires_at.map_or(0, |at| at.as_millis());
                let told = format!("interrupt {id} expired at {at}");
                return Err(Refusal::new(Code::InterruptExpired, told));
            }
            status @ (InterruptStatus::Resolved | InterruptStatus::Cancelled) => {
                format!("interrupt {id} is {}", status.name())
            }
        };
        Err(Refusal::new(Code::InterruptNotPending, told))
    }

    /// Refuses an answer that lacks what its kind needs, or has what does not belong to it (K156).
    fn check_response(&self, interrupt: &Interrupt, response: &Response) -> Result<(), Refusal> {
        let kind = interrupt.kind;
        let modifies = response.decision == Some(ReviewDecision::Modify);
        let (needed, allowed): (&[&str], &[&str]) = match kind {
            InterruptKind::Clarification => (&["text"], &["text", "data"]),
            InterruptKind::Confirmation => (&["approved"], &["approved"]),
            InterruptKind::AgentReview if modifies => {
                (&["decision", "data"], &["decision", "data", "text"])
            }
            InterruptKind::AgentReview => (&["decision"], &["decision", "text"]),
            InterruptKind::Checkpoint
            | InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError => (&[], &["text", "data"]),
        };
        let parts = [
            ("text", response.text.is_some(), response.text.as_deref() == Some("")),
            ("approved", response.approved.is_some(), false),
            ("decision", response.decision.is_some(), false),
            ("data", response.data.is_some(), false),
        ];
        for (part, there, empty) in parts {
            let needs = needed.contains(&part) && (interrupt.require_response || modifies);
            if needs && (!there || empty) {
                return Err(invalid(format!("{part} is required for {}", kind.one())));
            }
            if there && !allowed.contains(&part) {
                return Err(invalid(format!("{part} does not belong to {}", kind.one())));
            }
        }
        self.check_text("text", response.text.as_deref().unwrap_or_default())?;
        match &response.data {
            Some(data) => self.check_object("data", data),
            None => Ok(()),
        }
    }

    /// Refuses an answer to something else than what is there now (K169).
    fn check_shown(&self, interrupt: &Interrupt, response: &Response) -> Result<(), Refusal> {
        let Some(target) = &interrupt.target else {
            return match response.target_hash {
                None => Ok(()),
                Some(_) => {
                    Err(invalid(format!("target_hash: interrupt {} has no target", interrupt.id)))
                }
            };
        };
        let Some(quoted) = response.target_hash else {
            return Err(invalid("target_hash is required for a target".to_owned()));
        };
        let (action, params, binds) = (&target.action, &target.params, &target.binds);
        let now = || self.state.target_now(&interrupt.pid, action, params, binds);
        match quoted == target.hash && now() == target.hash {
            true => Ok(()),
            false => Err(stale()),
        }
    }

    /// `CancelInterrupt`: of what asks leave a denial, of all else acceptance without an answer
    /// (K158).
    pub(in crate::kernel) fn cancel(
        &mut self,
        id: &InterruptId,
        reason: &str,
    ) -> Result<(), Refusal> {
        let interrupt = self.interrupt(id)?;
        let known = self.known(&interrupt.pid)?;
        if known.user != self.by.user && !self.by.is_operator() && !self.by.is_node() {
            return Err(super::foreign(id));
        }
        self.refuse_closed(interrupt)?;
        self.check_text("reason", reason)?;

        let (pid, id) = (interrupt.pid.clone(), id.clone());
        let reason = Arc::from(reason);
        self.emit_interrupt(&pid, InterruptEvent::Cancelled { id: id.clone(), reason });
        if let Some(interrupt) = self.closed(&id) {
            let closing = match interrupt.kind.asks_leave() {
                true => Closing::Denied { message: Arc::from(interrupt.refused()) },
                false => Closing::Accepted,
            };
            self.go_on(&interrupt, closing);
        }
        Ok(())
    }

    /// Nobody answered in time (K160 – K164).
    pub(in crate::kernel) fn expire(&mut self, id: &InterruptId) {
        let pending = self.state.interrupts.get(id).filter(|interrupt| interrupt.is_pending());
        let Some(interrupt) = pending.cloned() else {
            return;
        };
        let often = interrupt.escalations >= self.state.config.max_escalations;
        let policy = match (interrupt.on_expiry, interrupt.kind.asks_leave()) {
            (ExpiryPolicy::Escalate, true) if often => ExpiryPolicy::Deny,
            (ExpiryPolicy::Escalate, false) if often => ExpiryPolicy::Fail,
            (policy, _) => policy,
        };
        // The other is asked first, so that the process does not wake in between.
        let escalated_to = match policy {
            ExpiryPolicy::Escalate => Some(self.escalate(&interrupt)),
            ExpiryPolicy::Deny | ExpiryPolicy::Fail | ExpiryPolicy::Continue => None,
        };
        let event = InterruptEvent::Expired { id: id.clone(), policy, escalated_to };
        self.emit_interrupt(&interrupt.pid, event);
        let Some(interrupt) = self.closed(id) else {
            return;
        };
        let closing = match policy {
            ExpiryPolicy::Escalate => return,
            ExpiryPolicy::Continue => Closing::Continued,
            ExpiryPolicy::Fail => Closing::Failed,
            ExpiryPolicy::Deny => {
                crate::sometimes!("kernel.expired_deny");
                Closing::Denied { message: Arc::from(interrupt.unanswered()) }
            }
        };
        self.go_on(&interrupt, closing);
    }

    /// Asks somebody else the same (K164).
    fn escalate(&mut self, interrupt: &Interrupt) -> InterruptId {
        crate::sometimes!("kernel.escalated");
        let id: InterruptId = self.mint(|state, id| state.interrupts.contains(id));
        let ttl = interrupt.expires_at.map(|at| at.since(interrupt.created_at));
        let other = interrupt.escalate_to.clone().unwrap_or(Assignee::OPERATORS);
        let again = Interrupt {
            id: id.clone(),
            number: self.state.counters.events + 1,
            assignee: Some(other),
            escalated_from: Some(interrupt.id.clone()),
            escalations: interrupt.escalations + 1,
            created_at: self.now,
            expires_at: ttl.map(|ttl| self.now.plus(ttl)),
            ..interrupt.clone()
        };
        let event = InterruptEvent::Raised { interrupt: Box::new(again) };
        self.emit_interrupt(&interrupt.pid, event);
        id
    }

    /// Takes back all that a process waits for, without further effect (K166, K173, K230).
    pub(in crate::kernel) fn cancel_pending(&mut self, pid: &ProcessId, reason: &str) {
        let pending = self.state.process(pid).map(|process| process.interrupts.clone());
        let reason: Arc<str> = Arc::from(reason);
        for id in pending.unwrap_or_default() {
            let reason = Arc::clone(&reason);
            self.emit_interrupt(pid, InterruptEvent::Cancelled { id, reason });
        }
    }

    /// What closing does to the process; to one that did not wait, nothing (K152).
    fn go_on(&mut self, interrupt: &Interrupt, closing: Closing) {
        if interrupt.blocking {
            self.resume(&interrupt.pid, interrupt, closing);
        }
    }

    fn closed(&self, id: &InterruptId) -> Option<Interrupt> {
        self.state.interrupts.get(id).cloned()
    }

    /// Finds an interrupt that the principal may answer (K155).
    fn answerable(&self, id: &InterruptId) -> Result<&Interrupt, Refusal> {
        let interrupt = self.interrupt(id)?;
        let assigned = interrupt.assignee.as_ref().is_some_and(|assignee| assignee.is(&self.by));
        match interrupt.user == self.by.user || self.by.is_operator() || assigned {
            true => Ok(interrupt),
            false => Err(super::foreign(id)),
        }
    }
}

/// K156: a no is a no, and so is anything but a yes to what asks leave.
const fn denies(kind: InterruptKind, response: &Response) -> bool {
    match kind {
        InterruptKind::Confirmation => !matches!(response.approved, Some(true)),
        InterruptKind::AgentReview => match response.decision {
            Some(ReviewDecision::Approve | ReviewDecision::Modify) => false,
            Some(ReviewDecision::Reject) | None => true,
        },
        InterruptKind::Clarification
        | InterruptKind::Checkpoint
        | InterruptKind::ResourceExhausted
        | InterruptKind::Timeout
        | InterruptKind::SystemError => false,
    }
}

fn invalid(told: String) -> Refusal {
    Refusal::new(Code::ResponseInvalid, told)
}
