//! What users and the operator do: submit with pipelines, answer questions, change their minds.

use std::sync::Arc;

use machines::Choices;
use machines::kernel::CommandBody;
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::ids::{EnvelopeId, InterruptId, ProcessId};
use machines::kernel::interrupts::interrupt::{Interrupt, NewInterrupt, Response};
use machines::kernel::interrupts::target::TargetHash;
use machines::kernel::json::Json;
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{InterruptKind, OnExhausted, Priority, ProcessState, ReviewDecision};
use machines::kernel::process::Metadata;
use machines::kernel::quota::{Limit, QuotaField};
use machines::kernel::sessions::start::{EnvelopeChoice, Initialize};

use super::{Flows, REMEMBERED, USERS, approvals, id, pipelines, place};

/// A question that somebody may answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: InterruptId,
    kind: InterruptKind,
    /// Of what is to be approved.
    hash: Option<TargetHash>,
}

impl Asked {
    pub(super) fn of(interrupt: &Interrupt) -> Self {
        let hash = interrupt.target.as_ref().map(|target| target.hash);
        Self { id: interrupt.id.clone(), kind: interrupt.kind, hash }
    }

    /// A yes or a no, whatever is asked; now and then to something else than was shown.
    pub(super) fn answer(&self, who: [u64; 2], choices: &mut Choices) -> Response {
        let yes = choices.choose("flow.yes", who, 3) < 2;
        let mut response = Response { target_hash: self.hash, ..Response::default() };
        if choices.choose("flow.blind", who, 12) == 11 {
            response.target_hash = self.hash.map(|_| [7; 32]);
        }
        match self.kind {
            InterruptKind::Clarification => response.text = Some(Arc::from("so be it")),
            InterruptKind::Confirmation => response.approved = Some(yes),
            InterruptKind::AgentReview if yes && choices.choose("flow.modify", who, 3) == 2 => {
                response.decision = Some(ReviewDecision::Modify);
                response.data = Some(Json::object([("sum", Json::from(5_u64))]));
            }
            InterruptKind::AgentReview => {
                let (good, bad) = (ReviewDecision::Approve, ReviewDecision::Reject);
                response.decision = Some(if yes { good } else { bad });
            }
            InterruptKind::Checkpoint
            | InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError => {}
        }
        response
    }
}

impl Flows {
    pub(super) fn use_it(
        &mut self,
        caller: u32,
        user: u64,
        choices: &mut Choices,
    ) -> Option<CommandBody> {
        if let Some(planned) = self.callers[caller as usize].plan.pop_front() {
            return Some(planned);
        }
        let who = [u64::from(caller), 0];
        let pid = self.some(user, who, choices);
        match (choices.choose("flow.deed", who, 36), pid) {
            (0..=7, _) | (_, None) => self.submit(caller, user, choices),
            (8..=29, Some(_)) => self.reply_to(user, who, choices),
            (30, Some(pid)) => {
                let force = choices.choose("flow.force", who, 2) == 1;
                Some(CommandBody::Terminate { pid, message: "enough".to_owned(), force })
            }
            (31, Some(pid)) => Some(self.initialize(caller, pid, true, choices)),
            (32, Some(pid)) => Some(adjust(pid, who, choices)),
            (33, Some(pid)) => Some(self.ask(caller, pid, choices)),
            (34, Some(pid)) => Some(CommandBody::Schedule { pid }),
            (_, Some(_)) => None,
        }
    }

    /// Submits a process; what follows is planned.
    fn submit(&mut self, caller: u32, user: u64, choices: &mut Choices) -> Option<CommandBody> {
        if self.work.records.is_some_and(|most| self.submitted >= most) {
            return None;
        }
        self.submitted += 1;
        let who = [u64::from(caller), 1];
        let pid = id(ProcessId::parse("pid", &self.names.next(caller, "p")));
        let parent = match choices.choose("flow.parent", who, 8) {
            7 => self.some(user, who, choices),
            _ => None,
        };
        let priority = Priority::ALL[place(choices.choose("flow.priority", who, 5))];
        let mut quota = Vec::new();
        let fields = [
            (QuotaField::MaxIterations, 1, 4),
            (QuotaField::MaxAgentHops, 4, 12),
            (QuotaField::MaxLlmCalls, 4, 24),
            (QuotaField::TimeoutMs, 3_000, 6_000),
        ];
        for (field, least, more) in fields {
            if choices.choose("flow.quota", who, 4) == 3 {
                let limit = least + choices.choose("flow.limit", who, more);
                quota.push((field, Limit::at_most(limit)));
            }
        }
        let on_exhausted = match choices.choose("flow.exhausted", who, 4) {
            3 => OnExhausted::Interrupt,
            _ => OnExhausted::Terminate,
        };
        let begin = self.initialize(caller, pid.clone(), false, choices);
        let plan = &mut self.callers[caller as usize].plan;
        plan.push_back(begin);
        if choices.choose("flow.schedule", who, 6) < 5 {
            plan.push_back(CommandBody::Schedule { pid: pid.clone() });
        }
        let pids = &mut self.pids[place(user)];
        pids.push(pid.clone());
        let over = pids.len().saturating_sub(REMEMBERED);
        pids.drain(..over);
        Some(CommandBody::Submit(Box::new(Submit {
            pid: Some(pid),
            request: None,
            user: None,
            session: None,
            priority,
            quota,
            parent,
            on_exhausted,
            driven: false,
            metadata: Metadata::new(),
        })))
    }

    /// Gives a process a pipeline to follow, and an envelope of its own.
    fn initialize(
        &mut self,
        caller: u32,
        pid: ProcessId,
        force: bool,
        choices: &mut Choices,
    ) -> CommandBody {
        let who = [u64::from(caller), 2];
        let pipeline = match self.asks_leave() {
            true => approvals::drawn(who, choices),
            false => pipelines::drawn(who, self.is_rough(), choices),
        };
        let envelope = id(EnvelopeId::parse("envelope_id", &self.names.next(caller, "e")));
        let new = NewEnvelope {
            id: Some(envelope),
            raw_input: "please".to_owned(),
            ..NewEnvelope::default()
        };
        let envelope = EnvelopeChoice::New(Box::new(new));
        CommandBody::InitializeSession(Box::new(Initialize { pid, pipeline, envelope, force }))
    }

    /// Answers one of the newest questions of a user, takes it back, or leaves it to expire.
    fn reply_to(&self, user: u64, who: [u64; 2], choices: &mut Choices) -> Option<CommandBody> {
        let asked = &self.asked[place(user)];
        let back = choices.choose("flow.answer", who, 8) + 1;
        let question = &asked[asked.len().checked_sub(place(back))?];
        let id = question.id.clone();
        match choices.choose("flow.reply", who, 12) {
            0 => Some(CommandBody::CancelInterrupt { id, reason: "never mind".to_owned() }),
            1..=4 => None,
            _ => {
                let response = Box::new(question.answer(who, choices));
                Some(CommandBody::ResolveInterrupt { id, response })
            }
        }
    }

    /// Asks something that no stage asked.
    fn ask(&mut self, caller: u32, pid: ProcessId, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 3];
        let kinds =
            [InterruptKind::Clarification, InterruptKind::Checkpoint, InterruptKind::SystemError];
        let kind = kinds[place(choices.choose("flow.question", who, kinds.len() as u64))];
        let mut new = NewInterrupt::new(kind);
        new.question = Some(Arc::from("may I?"));
        new.key = Some(Arc::from(self.names.next(caller, "ask")));
        new.ttl = Some(200 + choices.choose("flow.ttl", who, 1_500));
        new.blocking = Some(choices.choose("flow.blocking", who, 3) > 0);
        CommandBody::CreateInterrupt { pid, interrupt: Box::new(new) }
    }

    pub(super) fn operate(&mut self, caller: u32, choices: &mut Choices) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let user = choices.choose("flow.user", who, USERS);
        let pid = self.some(user, who, choices)?;
        match choices.choose("flow.operate", who, 16) {
            0 => Some(CommandBody::Terminate { pid, message: "stop".to_owned(), force: true }),
            1 => {
                let to = [
                    ProcessState::Ready,
                    ProcessState::Blocked,
                    ProcessState::Waiting,
                    ProcessState::Terminated,
                ];
                let to = to[place(choices.choose("flow.to", who, to.len() as u64))];
                let reason = "because".to_owned();
                Some(CommandBody::TransitionState { pid, to, reason })
            }
            2 => Some(adjust(pid, who, choices)),
            3 => Some(CommandBody::CleanupProcess { pid }),
            4..=7 => self.reply_to(user, who, choices),
            // Who was moved is let go again.
            8 => {
                let (to, reason) = (ProcessState::Ready, "go on".to_owned());
                Some(CommandBody::TransitionState { pid, to, reason })
            }
            _ => None,
        }
    }
}

fn adjust(pid: ProcessId, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let fields = [QuotaField::MaxIterations, QuotaField::MaxAgentHops, QuotaField::MaxLlmCalls];
    let field = fields[place(choices.choose("flow.field", who, fields.len() as u64))];
    let limit = Limit::at_most(2 + choices.choose("flow.limit", who, 20));
    CommandBody::AdjustQuota { pid, quota: vec![(field, limit)] }
}
