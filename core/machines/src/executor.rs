//! The executor: it drives the processes that are the node's own, with the commands that everybody
//! has, and hears of nothing before it is durable (K290).
//!
//! ```text
//!            NextRunnable               Running, by the node
//!   ready ───────────────► claimed ──────────────────────────► held ◄─────────────┐
//!                                                               │ NextInstruction │
//!                    refused: ask again after a pause           ▼                 │
//!                 ┌───────────────────────────────────────── a task               │
//!                 │                                             │ Dispatch        │
//!                 ▼                                             ▼                 │
//!             next poll ◄── refused ── ReportAgentResult ◄─── ended               │
//!                                            │                                    │
//!                                            └────────── next instruction ────────┘
//!
//!   held ── Ready, Blocked, ended, or Waiting with nothing under way ──► let go
//! ```
//!
//! What it knows of a process is which attempts are under way, and how far each is: that a dispatch
//! was asked for, that its end is waited for, that a report was sent. All else is in the kernel, so
//! whatever goes wrong is answered in one way: forget the attempt, and poll again after a pause.
//! The poll names the same attempt, the dispatch has the attempt's id and is known by it, and says
//! how it ended if it has. A restart is no different.
//!
//! # What wakes it
//!
//! - A process of the node's own that becomes Ready is claimed, as long as fewer than
//!   `executor_max` are held. So is one that was Ready and held (K62), once its last question is
//!   closed: no change of its state tells that, so whenever a question to one of them is closed,
//!   one more may wait.
//! - One that becomes Running under the node's own lease is held, and polled.
//! - An attempt that is closed by anything but a report is followed by a poll; so is the time at
//!   which a branch beside others can be tried, as the last instruction said.
//! - A dispatch that ends is reported.
//! - Nothing else happened for a third of the run lease: a poll keeps the lease (K78), and a claim
//!   finds what was not counted.
//!
//! What it held in the run before keeps its place: nothing is claimed before all of that is found.
//!
//! # Where the rules leave room
//!
//! - An attempt that is closed while its dispatch is under way has it cancelled: nobody waits for
//!   what it would come to.
//! - A dispatch has no time of its own: that of the attempt ends it.
//! - A result that is no report, or one that is refused for what it says, is a failure of kind
//!   Dispatch; so is a dispatch that is refused for what it is.
//!
//! # Known limits
//!
//! A task is one payload (K25): an envelope whose view is larger than that fails the stage.
//!
//! What a worker made is reported once there is room for that. If the disk is full for longer than
//! a run lease, the lease ends first (K10, K79): the attempt is lost, and the stage is done again,
//! as often as `max_lost` says (K272). Its dispatch still tells what the first one made.

mod hold;
mod listing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::Instant;
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::event::DispatchEvent;
use crate::kernel::event::{Body, Event, KernelEvent, ProcessEvent};
use crate::kernel::ids::{DispatchId, ProcessId};
use crate::kernel::interrupts::event::InterruptEvent;
use crate::kernel::names::ProcessState;
use crate::kernel::principal::Principal;
use crate::kernel::process::RunLease;
use crate::kernel::query::{Query, Told};
use crate::kernel::reply::Done;
use crate::kernel::sessions::event::SessionEvent;
use crate::kernel::{Code, CommandBody, Millis, Refusal, Time};
use crate::sometimes;
use hold::{Asked, Hold, is_passing};
use listing::Listing;

/// The first pause after a refusal; it doubles with each that follows, [`PAUSES_MAX`] times.
pub const PAUSE: Duration = Duration::from_millis(250);
/// See [`PAUSE`]: four seconds at most.
const PAUSES_MAX: u32 = 4;
/// How many claims may be under way.
const CLAIMS_MAX: u32 = 16;
/// It is not known how many processes are ready.
const UNKNOWN: u64 = u64::MAX;

/// Names something that the executor asked for; each number is used once in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happens to the executor. All of it is durable.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The start was decided: it looks for what it drives.
    Begin,
    /// Time has passed.
    Tick,
    /// Something happened; `driven` says whether to a process that the node drives.
    Event {
        /// What.
        event: &'a Event,
        /// To such a process.
        driven: bool,
    },
    /// What came of a command.
    Reply(Ticket, Result<&'a Done, &'a Refusal>),
    /// The answer to a query.
    Answer(Ticket, Result<&'a Told, &'a Refusal>),
}

/// What the executor asks for, as the node.
#[derive(Clone, Debug)]
pub enum Output {
    /// A command: [`Input::Reply`].
    Command(Ticket, Box<CommandBody>),
    /// A query: [`Input::Answer`].
    Query(Ticket, Box<Query>),
}

/// What a ticket is for.
#[derive(Clone, Debug)]
enum Errand {
    Claim,
    List,
    /// Of a dispatch, after so many refusals.
    Cancel(DispatchId, u32),
    Of(ProcessId, Asked),
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Executor {
    held_max: usize,
    /// How often a process that is held is polled at least, and a claim made.
    interval: Duration,
    /// The longest time that a try may have.
    span_ms: Millis,
    /// The longest text, in bytes.
    text_max: usize,
    clocks: (Instant, Time),
    listing: Listing,
    held: BTreeMap<ProcessId, Hold>,
    /// When to poll what is held, if nothing happens before.
    polls: BTreeSet<(Instant, ProcessId)>,
    /// When to poll it by the kernel's own time.
    wakes: BTreeSet<(Time, ProcessId)>,
    /// Dispatches that nobody waits for: when to cancel each again, and how often that was refused.
    cancels: BTreeSet<(Instant, DispatchId, u32)>,
    /// How many processes wait to be claimed, at most.
    ready: u64,
    claims: u32,
    /// No claim before.
    claim_at: Instant,
    /// When to claim though none is known to wait.
    look_at: Instant,
    /// Claims that were refused in a row.
    refused: u32,
    draining: bool,
    errands: BTreeMap<Ticket, Errand>,
    tickets: u64,
    outputs: VecDeque<Output>,
}

impl Executor {
    /// Makes the executor of a kernel of this configuration. It asks for nothing before
    /// [`Input::Begin`].
    #[must_use]
    pub fn new(config: &KernelConfig) -> Self {
        Self {
            held_max: usize::try_from(config.executor_max).unwrap_or(usize::MAX),
            interval: Duration::from_millis((config.run_lease_ms / 3).max(1)),
            span_ms: config.limits.span_ms,
            text_max: usize::try_from(config.limits.text_bytes).unwrap_or(usize::MAX),
            clocks: (Instant::START, Time::ZERO),
            listing: Listing::Before,
            held: BTreeMap::new(),
            polls: BTreeSet::new(),
            wakes: BTreeSet::new(),
            cancels: BTreeSet::new(),
            ready: 0,
            claims: 0,
            claim_at: Instant::START,
            look_at: Instant::START,
            refused: 0,
            draining: false,
            errands: BTreeMap::new(),
            tickets: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Says whether it matters to any executor that `event` happened.
    #[must_use]
    pub const fn follows(event: &Event) -> bool {
        match &event.body {
            Body::Kernel { event } => matches!(event, KernelEvent::Draining { .. }),
            Body::Process { event } => {
                matches!(event, ProcessEvent::StateChanged { .. } | ProcessEvent::Terminated { .. })
            }
            Body::Dispatch { event } => matches!(event, DispatchEvent::Finished { .. }),
            Body::Session { event } => matches!(
                event,
                SessionEvent::AttemptReported { .. } | SessionEvent::AttemptClosed { .. }
            ),
            Body::Interrupt { event } => closes(event),
            Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Approval { .. }
            | Body::Service { .. }
            | Body::Slot { .. }
            | Body::Envelope { .. } => false,
        }
    }

    /// Lets time pass up to `now`, and up to `time` in the kernel, then applies `input`. Polls and
    /// claims wait for the next [`Input::Tick`]: what one decision did is heard event by event, and
    /// all of it comes before.
    pub fn handle(&mut self, now: Instant, time: Time, input: Input<'_>) {
        self.clocks = (now, time);
        match input {
            Input::Begin => {
                self.ready = UNKNOWN;
                self.listing = Listing::at_start(now);
            }
            Input::Tick => {
                self.list();
                self.poll_due();
                self.cancel_due();
                self.claim();
            }
            Input::Event { event, driven } => self.happened(event, driven),
            Input::Reply(ticket, reply) => self.replied(ticket, reply),
            Input::Answer(ticket, told) => self.answered(ticket, told),
        }
    }

    /// Takes the next thing to ask for.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Says whether it has something to ask for.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// When to call `handle` at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let (now, time) = self.clocks;
        let poll = self.polls.first().map(|(at, _)| *at);
        let wake = self.wakes.first().map(|(at, _)| match *at <= time {
            true => now,
            false => now + Duration::from_millis(at.since(time)),
        });
        let claim = self.has_place().then(|| self.claims_at());
        let cancel = self.cancels.first().map(|(at, ..)| *at);
        let due = [poll, wake, claim, cancel, self.listing.due()];
        due.into_iter().flatten().min().unwrap_or(Instant::FAR)
    }

    /// How many processes it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    // ---- what is asked for

    fn ticket(&mut self, errand: Errand) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.errands.insert(ticket, errand);
        ticket
    }

    fn command(&mut self, errand: Errand, body: CommandBody) -> Ticket {
        let ticket = self.ticket(errand);
        self.outputs.push_back(Output::Command(ticket, Box::new(body)));
        ticket
    }

    fn query(&mut self, errand: Errand, query: Query) -> Ticket {
        let ticket = self.ticket(errand);
        self.outputs.push_back(Output::Query(ticket, Box::new(query)));
        ticket
    }

    /// Says whether there is a place for another process. There is none before all is found that
    /// was held before (K294), and while the node drains: it would be told to wait (K362).
    fn has_place(&self) -> bool {
        let under_way = self.claims as usize;
        // After a refusal one is enough to see whether it is over.
        let most = if self.refused > 0 { 1 } else { CLAIMS_MAX };
        self.claims < most
            && self.held.len() + under_way < self.held_max
            && !self.draining
            && self.listing.is_done()
    }

    /// When to claim, if there is a place: at once if one may wait, else now and then.
    fn claims_at(&self) -> Instant {
        match self.ready > u64::from(self.claims) {
            true => self.claim_at,
            false => self.claim_at.max(self.look_at),
        }
    }

    /// Claims what is ready, as long as there is a place for it.
    fn claim(&mut self) {
        while self.has_place() && self.claims_at() <= self.clocks.0 {
            self.claims += 1;
            self.look_at = self.clocks.0 + self.interval;
            self.command(Errand::Claim, CommandBody::NextRunnable);
        }
    }

    /// Polls what is due.
    fn poll_due(&mut self) {
        let (now, time) = self.clocks;
        while let Some((_, pid)) = self.wakes.pop_first_if(|(at, _)| *at <= time) {
            if let Some(hold) = self.held.get_mut(&pid) {
                hold.wake = None;
            }
            self.ask(&pid);
        }
        while let Some((_, pid)) = self.polls.pop_first_if(|(at, _)| *at <= now) {
            self.ask(&pid);
        }
    }

    /// Cancels a dispatch that nobody waits for.
    fn cancel(&mut self, dispatch: DispatchId, refused: u32) {
        let body = CommandBody::CancelDispatch { dispatch: dispatch.clone() };
        self.command(Errand::Cancel(dispatch, refused), body);
    }

    /// Cancels again what was refused for the moment: else a worker would have it for nobody.
    fn cancel_due(&mut self) {
        let now = self.clocks.0;
        while let Some((_, dispatch, refused)) = self.cancels.pop_first_if(|(at, ..)| *at <= now) {
            self.cancel(dispatch, refused);
        }
    }
}

/// Says whether a question is closed: its process may have been held for it alone (K62).
const fn closes(event: &InterruptEvent) -> bool {
    match event {
        InterruptEvent::Resolved { .. }
        | InterruptEvent::Expired { .. }
        | InterruptEvent::Cancelled { .. } => true,
        InterruptEvent::Raised { .. } | InterruptEvent::Removed { .. } => false,
    }
}

/// The pause after so many refusals.
fn pause(refused: u32) -> Duration {
    PAUSE * (1 << refused.min(PAUSES_MAX))
}

/// Takes the first entry if it is due.
trait PopFirstIf<T> {
    fn pop_first_if(&mut self, due: impl FnOnce(&T) -> bool) -> Option<T>;
}

impl<T: Ord> PopFirstIf<T> for BTreeSet<T> {
    fn pop_first_if(&mut self, due: impl FnOnce(&T) -> bool) -> Option<T> {
        match self.first() {
            Some(first) if due(first) => self.pop_first(),
            Some(_) | None => None,
        }
    }
}

// ---- what is heard

impl Executor {
    fn happened(&mut self, event: &Event, driven: bool) {
        if let Body::Kernel { event: KernelEvent::Draining { .. } } = &event.body {
            self.draining = true;
        }
        // What is held is driven, even if the kernel has forgotten it by now, or knows another of
        // its name.
        let concerns = |pid: &&ProcessId| driven || self.held.contains_key(*pid);
        let Some(pid) = event.subject.pid.as_ref().filter(concerns) else {
            return;
        };
        match &event.body {
            Body::Process { event: ProcessEvent::StateChanged { to, lease, .. } } => {
                self.changed(pid, *to, lease.as_ref());
            }
            Body::Process { event: ProcessEvent::Terminated { .. } } => self.let_go(pid),
            Body::Session { event } => self.followed(pid, event),
            Body::Dispatch { event } => self.dispatch_ended(pid, event),
            Body::Interrupt { event } if closes(event) => {
                self.ready = self.ready.saturating_add(1);
            }
            Body::Process { .. }
            | Body::Kernel { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Interrupt { .. }
            | Body::Approval { .. }
            | Body::Service { .. }
            | Body::Slot { .. }
            | Body::Envelope { .. } => {}
        }
    }

    /// A process of the node's own changed its state.
    fn changed(&mut self, pid: &ProcessId, to: ProcessState, lease: Option<&RunLease>) {
        match to {
            ProcessState::Running => {
                let own = lease.is_some_and(|lease| lease.holder.user == Principal::node().user);
                match own {
                    true => self.hold(pid),
                    false => self.let_go(pid),
                }
            }
            ProcessState::Ready => {
                self.let_go(pid);
                self.ready = self.ready.saturating_add(1);
            }
            ProcessState::Waiting => self.wait_for_people(pid),
            ProcessState::New
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie => self.let_go(pid),
        }
    }

    /// Something happened in its session.
    fn followed(&mut self, pid: &ProcessId, event: &SessionEvent) {
        match event {
            SessionEvent::AttemptReported { reported } => {
                self.closed(pid, &reported.attempt, false);
            }
            SessionEvent::AttemptClosed { attempt, .. } => self.closed(pid, attempt, true),
            SessionEvent::Started { .. }
            | SessionEvent::Ended { .. }
            | SessionEvent::Removed
            | SessionEvent::Moved { .. }
            | SessionEvent::AttemptIssued { .. }
            | SessionEvent::StageCompleted { .. }
            | SessionEvent::StageFailed { .. }
            | SessionEvent::RetryScheduled { .. }
            | SessionEvent::GroupOpened { .. }
            | SessionEvent::GroupJoined { .. }
            | SessionEvent::Checkpoint { .. } => {}
        }
    }

    fn replied(&mut self, ticket: Ticket, reply: Result<&Done, &Refusal>) {
        match self.errands.remove(&ticket) {
            Some(Errand::Claim) => self.claimed(reply.err()),
            Some(Errand::Of(pid, asked)) => self.told(&pid, (ticket, &asked), reply),
            Some(Errand::Cancel(dispatch, refused)) => {
                if reply.is_err_and(|refusal| is_passing(refusal.code)) {
                    sometimes!("executor: a cancellation is refused");
                    let at = self.clocks.0 + pause(refused);
                    self.cancels.insert((at, dispatch, refused.saturating_add(1)));
                }
            }
            Some(Errand::List) | None => {}
        }
    }

    fn answered(&mut self, ticket: Ticket, told: Result<&Told, &Refusal>) {
        match self.errands.remove(&ticket) {
            Some(Errand::List) => self.listed(told),
            Some(Errand::Of(pid, asked)) => self.shown(&pid, (ticket, &asked), told),
            Some(Errand::Claim | Errand::Cancel(..)) | None => {}
        }
    }

    /// What came of a claim. What was claimed is held already, by the event that says so.
    fn claimed(&mut self, refused: Option<&Refusal>) {
        self.claims -= 1;
        match refused {
            None => {
                self.refused = 0;
                self.ready = match self.ready {
                    // It was not counted: there may be more.
                    0 | UNKNOWN => UNKNOWN,
                    known => known - 1,
                };
            }
            Some(refusal) if refusal.code == Code::NoRunnable => {
                // Whatever came to wait since is heard of after this: that it became Ready, or that
                // its last question was closed.
                self.refused = 0;
                self.ready = 0;
            }
            Some(_) => {
                sometimes!("executor: a claim is refused");
                self.claim_at = self.clocks.0 + pause(self.refused);
                self.refused = self.refused.saturating_add(1);
            }
        }
    }
}
