//! Who is curious: a share of what callers of a kernel ask is to be told something (K5, K370).
//!
//! They ask about what they have heard of, newest first, as themselves or as operators. What they
//! are told is not looked at here; that all of it is durable by then is (K445).

use std::collections::VecDeque;

use machines::Choices;
use machines::kernel::Command;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::envelopes::EnvelopeEvent;
use machines::kernel::event::{Body, Event};
use machines::kernel::ids::{
    DispatchId, Endpoint, EnvelopeId, InterruptId, ProcessId, ServiceName, UserId,
};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::principal::Principal;
use machines::kernel::query::Query;
use machines::kernel::query::bounds::BoundsOf;
use machines::kernel::query::interrupts::PendingOf;
use machines::kernel::services::event::ServiceEvent;

use super::io::{Heard, Work};
use super::kernel::Reply;
use super::kernel::asked::Asked;
use super::kernel::services::operator;
use super::parts::place;

/// One of so many calls is a question.
const EVERY: u64 = 8;
/// The most of each kind that is remembered.
const REMEMBERED: usize = 16;

/// See the file's header.
#[derive(Clone, Debug)]
pub(super) struct Curious {
    /// As whom each caller asked last.
    callers: Vec<Option<Principal>>,
    users: VecDeque<UserId>,
    pids: VecDeque<ProcessId>,
    envelopes: VecDeque<EnvelopeId>,
    interrupts: VecDeque<InterruptId>,
    services: VecDeque<ServiceName>,
    dispatches: VecDeque<DispatchId>,
}

/// Remembers the newest.
fn remember<T: Clone + PartialEq>(list: &mut VecDeque<T>, new: &T) {
    if list.contains(new) {
        return;
    }
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(new.clone());
}

impl Curious {
    pub(super) fn new(work: &Work) -> Self {
        Self {
            callers: vec![None; work.callers as usize],
            users: VecDeque::new(),
            pids: VecDeque::new(),
            envelopes: VecDeque::new(),
            interrupts: VecDeque::new(),
            services: VecDeque::new(),
            dispatches: VecDeque::new(),
        }
    }

    /// Takes down who asked, and what came of it.
    pub(super) fn heard(&mut self, caller: u32, request: &Command, heard: &Heard<'_, Reply>) {
        self.callers[caller as usize] = Some(request.by.clone());
        match heard {
            Heard::Reply(Ok(done)) => done.events.iter().for_each(|event| self.learn(event)),
            Heard::Reply(Err(_)) | Heard::Nothing => {}
        }
    }

    fn learn(&mut self, event: &Event) {
        event.subject.pid.iter().for_each(|pid| remember(&mut self.pids, pid));
        event.subject.user.iter().for_each(|user| remember(&mut self.users, user));
        match &event.body {
            Body::Interrupt { event: InterruptEvent::Raised { interrupt } } => {
                remember(&mut self.interrupts, &interrupt.id);
            }
            Body::Envelope { event: EnvelopeEvent::Created { id, .. } } => {
                remember(&mut self.envelopes, id);
            }
            Body::Service { event: ServiceEvent::Registered { info, .. } } => {
                remember(&mut self.services, &info.name);
            }
            Body::Dispatch { event: DispatchEvent::Queued { dispatch, .. } } => {
                remember(&mut self.dispatches, dispatch);
            }
            Body::Kernel { .. }
            | Body::Process { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Interrupt { .. }
            | Body::Approval { .. }
            | Body::Envelope { .. }
            | Body::Session { .. }
            | Body::Service { .. }
            | Body::Slot { .. }
            | Body::Dispatch { .. } => {}
        }
    }

    /// What a caller wants to be told, if it is curious now.
    pub(super) fn question(&self, caller: u32, choices: &mut Choices) -> Option<Asked> {
        let who = [u64::from(caller), 0];
        if choices.choose("curious.asks", who, EVERY) + 1 < EVERY {
            return None;
        }
        let own = self.callers[caller as usize].clone();
        let by = match choices.choose("curious.as", who, 3) {
            0 | 1 => own.unwrap_or_else(operator),
            _ => operator(),
        };
        let of_all = choices.choose("curious.of", who, 4) == 0;
        let mut queries = if of_all { of_the_node() } else { self.of_something(who, choices) };
        if queries.is_empty() {
            queries = of_the_node();
        }
        let nth = choices.choose("curious.what", who, queries.len() as u64);
        Some(Asked { by, query: queries.swap_remove(place(nth)) })
    }

    /// What can be asked about one of the newest things of each kind.
    fn of_something(&self, who: [u64; 2], choices: &mut Choices) -> Vec<Query> {
        let back = place(choices.choose("curious.back", who, 4));
        let mut all = newest(&self.pids, back).map(of_a_process).unwrap_or_default();
        if let Some(id) = newest(&self.envelopes, back) {
            all.push(Query::GetEnvelope { id: id.clone() });
            all.push(Query::CheckBounds { of: BoundsOf::Envelope(id.clone()) });
        }
        let interrupt = newest(&self.interrupts, back);
        all.extend(interrupt.map(|id| Query::GetInterrupt { id: id.clone() }));
        if let Some(service) = newest(&self.services, back) {
            let service = || service.clone();
            all.push(Query::GetService { service: service() });
            all.push(Query::CanAccept { service: service() });
            all.push(Query::GetServiceStats { service: Some(service()) });
        }
        let dispatch = newest(&self.dispatches, back);
        all.extend(dispatch.map(|id| Query::GetDispatch { dispatch: id.clone() }));
        if let Some(user) = newest(&self.users, back) {
            let (user, endpoint) = (|| user.clone(), Endpoint::whole);
            all.push(Query::CheckRateLimit { user: user(), endpoint: endpoint() });
            all.push(Query::GetRateLimitUsage { user: user(), endpoint: endpoint() });
        }
        all
    }
}

fn newest<T>(list: &VecDeque<T>, back: usize) -> Option<&T> {
    list.iter().rev().take(back + 1).last()
}

/// What operators may ask of the node.
pub(super) fn of_the_node() -> Vec<Query> {
    vec![
        Query::ListProcesses(Box::default()),
        Query::GetProcessCounts,
        Query::GetSystemStatus,
        Query::GetSystemUsage,
        Query::ListInterrupts(Box::default()),
        Query::GetInterruptStats,
        Query::ListServices(Box::default()),
        Query::GetServiceStats { service: None },
    ]
}

/// Lists all that can be asked of a process alone.
pub(super) fn of_a_process(pid: &ProcessId) -> Vec<Query> {
    let pid = || pid.clone();
    vec![
        Query::GetProcess { pid: pid() },
        Query::CheckQuota { pid: pid() },
        Query::GetUsage { pid: pid() },
        Query::GetQuota { pid: pid() },
        Query::GetRemainingBudget { pid: pid() },
        Query::CheckInferenceQuota { pid: pid(), requests: 1, chars: 1 },
        Query::CheckBounds { of: BoundsOf::Process(pid()) },
        Query::GetRequestStatus { pid: pid() },
        Query::GetSessionState { pid: pid() },
        Query::GetPendingInterrupt { of: PendingOf::Process(pid()) },
        Query::HasPending { pid: pid() },
    ]
}
