//! K448: what was accepted with an id, and is asked again while it is remembered, is answered the
//! same, and nothing happens.
//!
//! What names the thing that was made is the same in every answer. All else is, too, where nothing
//! has happened in between that the answer could tell of.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machines::keeper::io::Decided;
use machines::kernel::dispatch::ServiceResponse;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::envelopes::EnvelopeEvent;
use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::{DispatchId, EnvelopeId, InterruptId, ProcessId};
use machines::kernel::interrupts::event::{ApprovalEvent, InterruptEvent};
use machines::kernel::names::ProcessState;
use machines::kernel::rates::RateEvent;
use machines::kernel::reply::Done;
use machines::kernel::{Code, Command, CommandBody};

use super::super::book::{Book, Follow};
use super::super::kernel::{Clerk, Reply};
use super::super::{Seen, Watch, World};
use super::is_renewal;

/// How many accepted commands are asked for again: half of the closed reservations that a process
/// remembers for sure (K108), since each may have closed one and made one that another closed.
const REMEMBERED: usize = 32;

/// What remembers that something was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Process(ProcessId),
    Envelope(EnvelopeId),
    Dispatch(DispatchId),
    /// Of the question whose answer gave it.
    Approval(InterruptId),
}

/// What was accepted, and what it was answered.
#[derive(Clone, Debug)]
struct Accepted {
    command: Command,
    /// The last event that the answer knew of.
    as_of: u64,
    told: Done,
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Idempotent {
    follow: Follow,
    book: Book,
    /// Envelopes, dispatches and used approvals that there are.
    there: BTreeSet<Whose>,
    /// By the eldest of a family, whose budgets they share: the last event of one of them.
    changed: BTreeMap<ProcessId, u64>,
    /// The last event that may have changed something for everybody.
    changed_all: u64,
    /// What was accepted, the newest last.
    accepted: BTreeMap<Whose, VecDeque<Accepted>>,
}

impl Idempotent {
    fn eldest(&self, pid: &ProcessId) -> ProcessId {
        self.book.lineage(pid).pop().unwrap_or_else(|| pid.clone())
    }

    fn add(&mut self, event: &Event) {
        self.book.add(event);
        let number = self.book.events;
        match (&event.body, &event.subject.pid) {
            (Body::Process { event: ProcessEvent::Removed }, Some(pid)) => {
                self.accepted.remove(&Whose::Process(pid.clone()));
                self.changed_all = number;
            }
            (Body::Kernel { .. }, _) => self.changed_all = number,
            (_, Some(pid)) => _ = self.changed.insert(self.eldest(pid), number),
            (_, None) => {}
        }
        match &event.body {
            Body::Envelope { event } => match event {
                EnvelopeEvent::Created { id, .. } | EnvelopeEvent::Cloned { id, .. } => {
                    self.there.insert(Whose::Envelope(id.clone()));
                }
                EnvelopeEvent::Removed { ids } => self.forget(ids, Whose::Envelope),
                EnvelopeEvent::Updated { .. } => {}
            },
            Body::Dispatch { event: DispatchEvent::Queued { dispatch, .. } } => {
                self.there.insert(Whose::Dispatch(dispatch.clone()));
            }
            Body::Dispatch { event: DispatchEvent::Removed { ids } } => {
                self.forget(ids, Whose::Dispatch);
            }
            Body::Approval { event: ApprovalEvent::Consumed { interrupt, .. } } => {
                self.there.insert(Whose::Approval(interrupt.clone()));
            }
            Body::Interrupt { event: InterruptEvent::Removed { ids } } => {
                self.forget(ids, Whose::Approval);
            }
            _ => {}
        }
    }

    fn forget<I: Clone>(&mut self, ids: &[I], whose: fn(I) -> Whose) {
        for id in ids {
            let whose = whose(id.clone());
            self.accepted.remove(&whose);
            self.there.remove(&whose);
        }
    }

    /// Whether what would remember a command is still there.
    fn is_there(&self, whose: &Whose, body: &CommandBody) -> bool {
        match whose {
            Whose::Process(pid) => self.book.known.get(pid).is_some_and(|known| {
                known.state != ProcessState::Zombie || makes_process(body) // K85.
            }),
            other => self.there.contains(other),
        }
    }

    /// Whether something has happened since an event that an answer could tell of.
    fn has_changed(&self, whose: &Whose, since: u64) -> bool {
        match whose {
            Whose::Process(pid) => {
                let own = self.changed.get(&self.eldest(pid)).copied().unwrap_or(0);
                own.max(self.changed_all) > since
            }
            Whose::Approval(_) => false, // What is used stays as it is.
            Whose::Envelope(_) | Whose::Dispatch(_) => self.book.events > since,
        }
    }

    fn reply(&mut self, request: &Command, reply: &Reply) -> Result<bool, String> {
        let Some(whose) = remembered_by(&request.body) else {
            return Ok(false);
        };
        if !self.is_there(&whose, &request.body) {
            return Ok(false);
        }
        let known = self.accepted.get(&whose).into_iter().flatten();
        let before = known.clone().find(|before| before.command == *request);
        match (before, reply) {
            (None, Ok(done)) => {
                self.remember(whose, request, done);
                Ok(false)
            }
            (None, Err(_)) => Ok(false),
            (Some(before), Ok(done)) => {
                self.same(&whose, before, done).map_err(|why| format!("{why}: {request:?}"))
            }
            (Some(_), Err(refusal)) if is_passing(refusal.code) => Ok(false),
            // It is asked for a process that nobody knows any more (K27).
            (Some(_), Err(refusal)) if refusal.code == Code::ProcessNotFound => Ok(false),
            (Some(_), Err(refusal)) => {
                Err(format!("accepted before, and refused now: {refusal}: {request:?}"))
            }
        }
    }

    fn remember(&mut self, whose: Whose, request: &Command, done: &Decided) {
        let (as_of, told) = (done.reply.as_of, done.reply.done.clone());
        let accepted = self.accepted.entry(whose).or_default();
        accepted.push_back(Accepted { command: request.clone(), as_of, told });
        if accepted.len() > REMEMBERED {
            accepted.pop_front();
        }
    }

    /// Whether a repeat was answered as the command was the first time.
    fn same(&self, whose: &Whose, before: &Accepted, done: &Decided) -> Result<bool, String> {
        if !done.events.iter().all(is_about_asking) {
            return Err(format!("accepted before, and now {:?}", done.events));
        }
        let (was, is) = (&before.told, &done.reply.done);
        if named(was) != named(is) {
            return Err(format!("answered {} before, and now {}", named(was), named(is)));
        }
        if end_of(was).is_some() && end_of(was) != end_of(is) {
            return Err(format!("ended as {:?} before, and now as {:?}", end_of(was), end_of(is)));
        }
        let still = done.events.is_empty() && !self.has_changed(whose, before.as_of);
        match still && timeless(was) != timeless(is) {
            true => Err(format!("nothing has happened since {was:?}, and now it is {is:?}")),
            false => Ok(true),
        }
    }
}

impl Watch<Clerk> for Idempotent {
    fn property(&self) -> &'static str {
        "K448"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        for events in self.follow.see(seen) {
            for event in events.iter() {
                self.add(event);
            }
        }
        match seen {
            Seen::Replied { request, reply, .. } => self.reply(request, reply),
            _ => Ok(false),
        }
    }
}

/// Returns what remembers a command that has an id of its caller's (2.1, K85, K108, K170).
fn remembered_by(body: &CommandBody) -> Option<Whose> {
    Some(match body {
        CommandBody::Submit(submit) => Whose::Process(submit.pid.clone()?),
        CommandBody::ExecutePipeline(asked) => Whose::Process(asked.submit.pid.clone()?),
        CommandBody::Reserve(reserve) => {
            reserve.reservation.as_ref()?;
            Whose::Process(reserve.pid.clone())
        }
        CommandBody::RecordUsage(record) => {
            record.record.as_ref()?;
            Whose::Process(record.pid.clone())
        }
        CommandBody::Settle { pid, .. } | CommandBody::Release { pid, .. } => {
            Whose::Process(pid.clone())
        }
        CommandBody::CreateEnvelope(new) => Whose::Envelope(new.id.clone()?),
        CommandBody::Dispatch(request) | CommandBody::DispatchInference(request) => {
            Whose::Dispatch(request.dispatch.clone()?)
        }
        CommandBody::ConsumeApproval(wanted) => Whose::Approval(wanted.interrupt.clone()),
        _ => return None,
    })
}

const fn makes_process(body: &CommandBody) -> bool {
    matches!(body, CommandBody::Submit(_) | CommandBody::ExecutePipeline(_))
}

/// Names what an answer is about: that is the same whatever has happened since.
fn named(done: &Done) -> String {
    match done {
        Done::Process(shown) => format!(
            "process {} of {}, {} and {}, made at {:?} as {:?}",
            shown.pid,
            shown.user_id,
            shown.request_id,
            shown.session_id,
            shown.created_at,
            shown.submit_digest
        ),
        Done::Reserved { reservation, .. } => format!("reservation {reservation}"),
        Done::Closed { .. } => "a closed reservation".to_owned(),
        Done::Recorded { .. } => "a record".to_owned(),
        Done::Envelope { envelope, .. } => {
            let content = &envelope.envelope;
            format!(
                "envelope {} of {}, {} and {}, come at {:?}",
                envelope.id, content.user, content.request, content.session, content.received_at
            )
        }
        Done::Dispatched { dispatch, .. } => format!("dispatch {dispatch}"),
        other => format!("{other:?}"),
    }
}

/// Returns how a dispatch ended: once it has, that stays.
fn end_of(done: &Done) -> Option<&ServiceResponse> {
    match done {
        Done::Dispatched { response, .. } => response.as_deref(),
        _ => None,
    }
}

/// Leaves out how long a process has run, which changes without an event of its own (K111).
fn timeless(done: &Done) -> Done {
    let mut done = done.clone();
    match &mut done {
        Done::Process(shown) => shown.usage.used.elapsed_ms = 0,
        Done::Reserved { remaining, .. } => remaining.time_ms = None,
        Done::Closed { usage, remaining } => {
            (usage.used.elapsed_ms, remaining.time_ms) = (0, None);
        }
        Done::Recorded { usage, .. } => usage.used.elapsed_ms = 0,
        _ => {}
    }
    done
}

/// What a repeat may do all the same: whoever asks keeps its lease, and counts for the rate that
/// the command carries (K136).
const fn is_about_asking(event: &Event) -> bool {
    is_renewal(event) || matches!(event.body, Body::Rate { event: RateEvent::Recorded { .. } })
}

/// Whether a refusal says something about the moment or the asker, not about the command.
const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Busy
            | Code::DiskFull
            | Code::RateLimited
            | Code::NotDurable
            | Code::Draining
            | Code::Overloaded
            | Code::PermissionDenied
            | Code::NotHolder
    )
}
