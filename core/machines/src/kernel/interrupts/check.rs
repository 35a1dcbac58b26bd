//! Asking: everything that can be wrong with a question, and then asking it (K151, K152, K168).

use std::sync::Arc;

use crate::kernel::decision::Decision;
use crate::kernel::expression::ExpressionLimits;
use crate::kernel::ids::{InterruptId, ProcessId};
use crate::kernel::json::{Json, View};
use crate::kernel::names::{ExpiryPolicy, InterruptKind, InterruptStatus};
use crate::kernel::process::Process;
use crate::kernel::quota::{Limit, Resource};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::time::Millis;

use super::event::InterruptEvent;
use super::interrupt::{Assignee, Interrupt, NewInterrupt, Origin};
use super::target::Target;

/// A question in which nothing is wrong, with what was not told filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::kernel) struct Prepared {
    new: NewInterrupt,
    ttl: Option<Millis>,
    auto_expire: bool,
    require_response: bool,
    on_expiry: ExpiryPolicy,
    blocking: bool,
    target: Option<Box<Target>>,
}

/// A budget that ran out, for the question for more of it (K112, K118).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exhausted {
    /// Which.
    pub resource: Resource,
    /// Used.
    pub used: u64,
    /// Reserved.
    pub held: u64,
    /// Of this limit.
    pub limit: Limit,
}

impl Exhausted {
    fn data(self) -> Json {
        let limit = self.limit.most().map_or(Json::NULL, Json::from);
        Json::object([
            ("resource", Json::from(self.resource.name())),
            ("used", Json::from(self.used)),
            ("held", Json::from(self.held)),
            ("limit", limit),
        ])
    }
}

impl Decision<'_> {
    /// Finds everything that is wrong with a question of a process. Nothing is left to refuse when
    /// it is [raised](Decision::raise) in the same decision.
    ///
    /// # Errors
    ///
    /// `process_not_found`, `process_terminal`, `too_many` (K25), `policy_not_allowed`, `bad_value`
    /// (K151, K168), and what is wrong with texts and payloads.
    pub(in crate::kernel) fn check_interrupt(
        &self,
        pid: &ProcessId,
        new: &NewInterrupt,
    ) -> Result<Prepared, Refusal> {
        let process = self.known(pid)?;
        self.check_parts(new)?;
        self.check_room_to_ask(pid, process)?;
        let kind = new.kind;
        let config = *self.state.config.interrupt(kind);
        let on_expiry = new.on_expiry.unwrap_or(config.on_expiry);
        if !on_expiry.suits(kind) {
            let told = format!("{} cannot {} on expiry", kind.name(), on_expiry.name());
            return Err(Refusal::new(Code::PolicyNotAllowed, told));
        }
        let blocking = new.blocking.unwrap_or(true);
        if kind.asks_leave() && !blocking {
            return Err(bad(format!("blocking: {} always blocks", kind.one())));
        }
        let ttl = new.ttl.or(config.default_ttl);
        if let Some(ttl) = ttl {
            self.state.config.limits.check_span("ttl_ms", ttl)?;
        }
        let auto_expire = new.auto_expire.unwrap_or(config.auto_expire);
        if auto_expire && ttl.is_none() {
            return Err(bad("auto_expire needs ttl_ms".to_owned()));
        }
        let target = self.check_target(pid, new)?;
        Ok(Prepared {
            new: new.clone(),
            ttl,
            auto_expire,
            require_response: config.require_response,
            on_expiry,
            blocking,
            target,
        })
    }

    fn check_room_to_ask(&self, pid: &ProcessId, process: &Process) -> Result<(), Refusal> {
        if !process.is_live() {
            return Err(Refusal::new(Code::ProcessTerminal, format!("process {pid} has ended")));
        }
        let limits = &self.state.config.limits;
        let most = limits.interrupts_pending;
        if process.interrupts.len() as u64 >= most {
            let told = format!("pending interrupts of {pid}: at most {most}");
            return Err(Refusal::new(Code::TooMany, told));
        }
        let most = limits.interrupts_of_life();
        if u64::from(process.interrupts_ever) >= most {
            let told = format!("interrupts of {pid} over its life: at most {most}");
            return Err(Refusal::new(Code::TooMany, told));
        }
        Ok(())
    }

    fn check_parts(&self, new: &NewInterrupt) -> Result<(), Refusal> {
        for (field, text) in [("question", &new.question), ("message", &new.message)] {
            self.check_text(field, text.as_deref().unwrap_or_default())?;
        }
        for (field, label) in [("key", &new.key), ("trace_id", &new.trace), ("span_id", &new.span)]
        {
            if let Some(label) = label {
                self.check_label(field, label)?;
            }
        }
        for (field, person) in [("assignee", &new.assignee), ("escalate_to", &new.escalate_to)] {
            if let Some(Assignee::User { user }) = person {
                self.check_id(field, user.as_str())?;
            }
        }
        match &new.data {
            Some(data) => self.check_object("data", data),
            None => Ok(()),
        }
    }

    fn check_label(&self, field: &str, label: &Arc<str>) -> Result<(), Refusal> {
        if label.is_empty() {
            return Err(Refusal::new(Code::Required, format!("{field} is required")));
        }
        self.check_id(field, label)?;
        self.check_text(field, label)
    }

    fn check_target(
        &self,
        pid: &ProcessId,
        new: &NewInterrupt,
    ) -> Result<Option<Box<Target>>, Refusal> {
        let Some(target) = &new.target else {
            return Ok(None);
        };
        if target.action.is_empty() {
            return Err(Refusal::new(Code::Required, "target.action is required"));
        }
        self.check_text("target.action", &target.action)?;
        self.check_payload("target.params", &target.params)?;
        if !target.binds.is_empty() && !self.state.binds_fields(pid) {
            return Err(bad("target.binds: only with a session".to_owned()));
        }
        let limits = &self.state.config.limits;
        if target.binds.len() as u64 > limits.entries {
            let (count, most) = (target.binds.len(), limits.entries);
            let told = format!("target.binds: {count} entries, at most {most}");
            return Err(Refusal::new(Code::TooMany, told));
        }
        let segments = u32::try_from(limits.path_segments).unwrap_or(u32::MAX);
        let paths = ExpressionLimits { segments, ..ExpressionLimits::CEILING };
        for (at, field) in target.binds.iter().enumerate() {
            field.check(&paths).map_err(|told| bad(format!("target.binds[{at}]: {told}")))?;
            if field.bytes() > limits.text_bytes {
                let (bytes, most) = (field.bytes(), limits.text_bytes);
                let told = format!("target.binds[{at}]: keys of {bytes} bytes, at most {most}");
                return Err(Refusal::new(Code::TooLong, told));
            }
        }
        let (action, params) = (Arc::clone(&target.action), target.params.clone());
        let hash = self.state.target_now(pid, &action, &params, &target.binds);
        Ok(Some(Box::new(Target { action, params, binds: target.binds.clone(), hash })))
    }

    /// Refuses a payload that is no object, or passes a limit.
    pub(super) fn check_object(&self, field: &str, json: &Json) -> Result<(), Refusal> {
        self.check_payload(field, json)?;
        match json.as_object() {
            Some(_) => Ok(()),
            None => Err(bad(format!("{field}: expected an object, got {}", json.type_name()))),
        }
    }

    /// Refuses a payload that passes a limit (K25).
    pub(in crate::kernel) fn check_payload(&self, field: &str, json: &Json) -> Result<(), Refusal> {
        let limits = &self.state.config.limits;
        if u64::from(json.depth()) > limits.json_depth {
            let told = format!("{field}: depth {}, at most {}", json.depth(), limits.json_depth);
            return Err(Refusal::new(Code::TooDeep, told));
        }
        if json.length() as u64 > limits.json_bytes {
            let told = format!("{field}: {} bytes, at most {}", json.length(), limits.json_bytes);
            return Err(Refusal::new(Code::TooLarge, told));
        }
        match widest(json) {
            count if count as u64 <= limits.entries => Ok(()),
            count => {
                let told = format!("{field}: {count} entries, at most {}", limits.entries);
                Err(Refusal::new(Code::TooMany, told))
            }
        }
    }

    /// Asks a question in which nothing is wrong. A process that runs waits for the answer (K152).
    pub(in crate::kernel) fn raise(
        &mut self,
        pid: &ProcessId,
        prepared: Prepared,
        origin: Origin,
    ) -> InterruptId {
        let id: InterruptId = self.mint(|state, id| state.interrupts.contains(id));
        let process = self.state.process(pid).expect("whom a question is of was looked up");
        let Prepared { new, ttl, auto_expire, require_response, on_expiry, blocking, target } =
            prepared;
        let interrupt = Interrupt {
            id: id.clone(),
            number: self.state.counters.events + 1,
            pid: pid.clone(),
            request: process.request.clone(),
            user: process.user.clone(),
            session: process.session.clone(),
            envelope: self.state.envelope_of(pid).cloned(),
            kind: new.kind,
            question: new.question,
            message: new.message,
            data: new.data,
            key: new.key,
            origin,
            blocking,
            auto_expire,
            require_response,
            on_expiry,
            assignee: new.assignee,
            escalate_to: new.escalate_to,
            escalated_from: None,
            escalations: 0,
            target,
            trace: new.trace,
            span: new.span,
            created_at: self.now,
            expires_at: ttl.map(|ttl| self.now.plus(ttl)),
            status: InterruptStatus::Pending,
            answer: None,
            cancel_reason: None,
            closed_at: None,
        };
        self.emit_interrupt(pid, InterruptEvent::Raised { interrupt: Box::new(interrupt) });
        if blocking {
            self.wait_for_answer(pid);
        }
        id
    }

    /// Asks for more of a budget in the kernel's name (K118); of time with `Timeout` (K112). There
    /// may be no room for the question: `None`, and the caller ends what it would end.
    pub(in crate::kernel) fn ask_for_more(
        &mut self,
        pid: &ProcessId,
        exhausted: Exhausted,
        origin: Origin,
    ) -> Option<InterruptId> {
        let Exhausted { resource, used, held, limit } = exhausted;
        let (kind, name) = match resource == Resource::ElapsedMs {
            true => (InterruptKind::Timeout, "timeout".to_owned()),
            false => (InterruptKind::ResourceExhausted, format!("max_{}", resource.name())),
        };
        let message = format!("{name}_exceeded: {used} used, {held} held, limit {limit}");
        let new = NewInterrupt {
            message: Some(Arc::from(message)),
            data: Some(exhausted.data()),
            ..NewInterrupt::new(kind)
        };
        let prepared = self.check_interrupt(pid, &new).ok()?;
        Some(self.raise(pid, prepared, origin))
    }

    /// The time of a process is used up: it ends, or asks for more (K112).
    pub(in crate::kernel) fn time_out(&mut self, pid: &ProcessId) {
        use crate::kernel::names::{OnExhausted, TerminalReason};

        let Some(process) = self.state.process(pid) else {
            return;
        };
        let (used, limit) = (process.elapsed(self.now), process.quota.timeout_ms);
        let exhausted = Exhausted { resource: Resource::ElapsedMs, used, held: 0, limit };
        let on_exhausted = process.on_exhausted;
        if self.state.running_session(pid).is_some() {
            self.exceed(pid, (Resource::ElapsedMs, used, 0), limit);
        }
        let asked = match on_exhausted {
            OnExhausted::Interrupt => self.ask_for_more(pid, exhausted, Origin::Kernel),
            OnExhausted::Terminate => None,
        };
        if asked.is_none() {
            let message = "the time of the process is used up";
            self.end(pid, TerminalReason::TimeoutExceeded, message);
        }
    }
}

/// Counts the entries of the list or object that has the most.
fn widest(json: &Json) -> usize {
    let mut most = 0;
    let mut left = vec![json];
    while let Some(json) = left.pop() {
        match json.view() {
            View::Null | View::Bool(_) | View::Number(_) | View::Text(_) => {}
            View::List(items) => {
                most = most.max(items.len());
                left.extend(items);
            }
            View::Object(object) => {
                most = most.max(object.len());
                left.extend(object.iter().map(|(_, value)| value));
            }
        }
    }
    most
}

fn bad(told: String) -> Refusal {
    Refusal::new(Code::BadValue, told)
}
