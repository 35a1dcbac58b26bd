//! What users do: submit processes, call services for them, count against their rates, keep
//! envelopes, hold slots.

use std::sync::Arc;

use machines::Choices;
use machines::kernel::CommandBody;
use machines::kernel::budget::Reserve;
use machines::kernel::dispatch::{ServiceRequest, Target};
use machines::kernel::envelopes::EnvelopePatch;
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::ids::{
    Capability, DispatchId, EnvelopeId, ProcessId, ReservationId, ServiceType,
};
use machines::kernel::interrupts::interrupt::NewInterrupt;
use machines::kernel::json::Json;
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{InterruptKind, OnExhausted, Priority};
use machines::kernel::pipeline::retry::RetryPolicy;
use machines::kernel::process::Metadata;
use machines::kernel::quota::{Amounts, Limit, QuotaField};

use super::{CREWS, Services, endpoint, id, pick, place, remember, service, user};

/// How many of the newest processes are used.
const NEWEST: u64 = 4;

impl Services {
    /// A user's next deed.
    pub(super) fn call(
        &mut self,
        caller: u32,
        number: u64,
        choices: &mut Choices,
    ) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let pids = &self.pids[place(number)];
        let Some(pid) = pick(pids, NEWEST.min(self.work.keys), who, choices) else {
            return Some(self.submit(caller, number, choices));
        };
        let me = &self.callers[caller as usize];
        Some(match choices.choose("user.deed", who, 25) {
            0 => self.submit(caller, number, choices),
            1..=7 => {
                let alone = choices.choose("user.alone", who, 12) == 11;
                let pid = if alone { None } else { Some(pid) };
                CommandBody::Dispatch(Box::new(self.request(caller, pid, choices)))
            }
            8..=9 => {
                let mut request = self.request(caller, Some(pid), choices);
                request.data = Json::object([("text", Json::from(Arc::<str>::from("hello")))]);
                CommandBody::DispatchInference(Box::new(request))
            }
            10..=14 => CommandBody::CheckRateLimit {
                user: user(number),
                endpoint: endpoint(who, choices),
                record: choices.choose("user.record", who, 8) > 0,
            },
            15..=17 => self.keep(caller, number, choices),
            18 => {
                let service = service(choices.choose("services.any", who, 2 * CREWS));
                CommandBody::AcquireSlot { service, pid: Some(pid), lease_ms: None }
            }
            19 => match pick(&me.slots, 3, who, choices) {
                Some(lease) => CommandBody::ReleaseSlot { lease },
                None => CommandBody::Schedule { pid },
            },
            20 => self.reserve(caller, pid),
            21 => match pick(&self.dispatches, 12, who, choices) {
                Some(dispatch) => CommandBody::CancelDispatch { dispatch },
                None => CommandBody::Schedule { pid },
            },
            22 if choices.choose("user.end", who, 3) == 2 => {
                CommandBody::Terminate { pid, message: "enough".to_owned(), force: true }
            }
            23 => {
                let mut interrupt = NewInterrupt::new(InterruptKind::Clarification);
                (interrupt.ttl, interrupt.blocking) = (Some(2_000), Some(false));
                CommandBody::CreateInterrupt { pid, interrupt: Box::new(interrupt) }
            }
            _ => CommandBody::Schedule { pid },
        })
    }

    fn submit(&mut self, caller: u32, number: u64, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 2];
        let pid = id(ProcessId::parse("pid", &self.names.next(caller, "p")));
        let mut quota = Vec::new();
        if choices.choose("user.limited", who, 2) == 1 {
            let most = 1 + choices.choose("user.burst", who, 4);
            quota.push((QuotaField::RateLimitBurst, Limit::at_most(most)));
        }
        remember(&mut self.pids[place(number)], pid.clone());
        CommandBody::Submit(Box::new(Submit {
            pid: Some(pid),
            request: None,
            user: None,
            session: None,
            priority: Priority::Normal,
            quota,
            parent: None,
            on_exhausted: OnExhausted::Terminate,
            driven: false,
            metadata: Metadata::new(),
        }))
    }

    fn reserve(&mut self, caller: u32, pid: ProcessId) -> CommandBody {
        let reservation = id(ReservationId::parse("id", &self.names.next(caller, "rsv")));
        let amounts = Amounts { llm_calls: 1, ..Amounts::ZERO };
        let reservation = Some(reservation);
        let reserve = Reserve { pid, reservation, attempt: None, amounts, lease_ms: Some(1_000) };
        CommandBody::Reserve(Box::new(reserve))
    }

    /// Describes a call of some service, by its name or its type.
    pub(super) fn request(
        &mut self,
        caller: u32,
        pid: Option<ProcessId>,
        choices: &mut Choices,
    ) -> ServiceRequest {
        let who = [u64::from(caller), 3];
        let target = match choices.choose("call.target", who, 3 * CREWS) {
            by_type if by_type >= 2 * CREWS => {
                let thinks = choices.choose("call.thinks", who, 2) == 1;
                let capability = id(Capability::parse("capability", "think"));
                Target::Type {
                    service_type: id(ServiceType::parse("type", "flow")),
                    capability: Some(capability).filter(|_| thinks),
                }
            }
            number => Target::Name { name: service(number) },
        };
        let mut request = ServiceRequest::new(target, "run", Json::from(true));
        let mut chance = |site, bound| choices.choose(site, who, bound);
        if chance("call.named", 8) > 0 {
            let name = self.names.next(caller, "d");
            request.dispatch = Some(id(DispatchId::parse("dispatch_id", &name)));
        }
        request.pid = pid;
        request.priority = Priority::ALL[place(chance("call.priority", 5))];
        request.queue = chance("call.queue", 4) > 0;
        request.try_timeout_ms = 400 + chance("call.timeout", 2_000);
        if chance("call.deadline", 3) > 0 {
            request.deadline_ms = Some(500 + chance("call.until", 4_000));
        }
        request.retry = RetryPolicy {
            max_retries: u32::try_from(chance("call.retries", 3)).expect("few"),
            initial_backoff_ms: 50 + chance("call.backoff", 300),
            jitter_pct: 50,
            ..RetryPolicy::default()
        };
        request
    }

    /// Makes an envelope, changes one, or copies one.
    fn keep(&mut self, caller: u32, number: u64, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 4];
        let known = pick(&self.envelopes[place(number)], 6, who, choices);
        match (choices.choose("user.envelope", who, 4), known) {
            (0, _) | (_, None) => {
                let id = id(EnvelopeId::parse("envelope_id", &self.names.next(caller, "env")));
                let new = NewEnvelope { id: Some(id), ..NewEnvelope::default() };
                CommandBody::CreateEnvelope(Box::new(new))
            }
            (1, Some(id)) => CommandBody::CloneEnvelope { id },
            (_, Some(id)) => {
                let add_feedback = vec![Arc::from("more of this")];
                let patch = Box::new(EnvelopePatch { add_feedback, ..EnvelopePatch::default() });
                let version = choices.choose("user.version", who, 6);
                let expected_version = Some(version).filter(|version| *version > 0);
                CommandBody::UpdateEnvelope { id, patch, expected_version }
            }
        }
    }
}
