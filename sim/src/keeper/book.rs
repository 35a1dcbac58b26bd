//! The kernel's events, added up by somebody else: what processes there are, and what they may use.
//!
//! It is written from the specification (sections 3 and 4), and shares nothing with the kernel but
//! the events themselves.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

pub mod attempts;
pub mod flows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machines::codec::Reader;
use machines::kernel::Time;
use machines::kernel::event::{Body, Cause, Event, ProcessEvent, QuotaEvent};
use machines::kernel::ids::{AttemptId, InterruptId, ProcessId, ReservationId, UserId};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::names::{Priority, ProcessState};
use machines::kernel::part::KernelPart;
use machines::kernel::quota::{Amounts, Quota};
use machines::ledger::fold::Frame;

use super::Seen;
use super::kernel::Clerk;
use attempts::Allowance;

/// One process.
#[derive(Clone, Debug)]
pub struct Known {
    /// Whose.
    pub user: UserId,
    /// How urgent.
    pub priority: Priority,
    /// Driven by the executor.
    pub driven: bool,
    /// Whose child.
    pub parent: Option<ProcessId>,
    /// Where it is.
    pub state: ProcessState,
    /// What it may use.
    pub quota: Quota,
    /// What it used, its descendants included.
    pub used: Amounts,
    /// What is reserved, its descendants' included.
    pub held: Amounts,
    /// What was used without having been reserved.
    pub unreserved: Amounts,
    /// Its own open reservations.
    pub open: BTreeMap<ReservationId, Amounts>,
    /// Since when it has been ready, and by which event.
    pub ready: Option<(Time, u64)>,
    /// Questions that block it.
    pub blocking: BTreeSet<InterruptId>,
    /// Until when it is Blocked, if it is and that is known.
    pub until: Option<Time>,
}

impl Known {
    /// Says whether it waits for its turn: it is ready, not held, and nobody drives it (K62, K70).
    #[must_use]
    pub fn waits(&self) -> bool {
        self.state == ProcessState::Ready && !self.driven && self.blocking.is_empty()
    }
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// The processes.
    pub known: BTreeMap<ProcessId, Known>,
    /// Processes that have children, with those.
    pub children: BTreeMap<ProcessId, BTreeSet<ProcessId>>,
    /// How many events there were.
    pub events: u64,
    /// The time of the last.
    pub last: Time,
    /// Questions that were asked, and whether they are pending.
    pub asked: BTreeMap<InterruptId, bool>,
    /// Processes of which something changed since this was taken last.
    pub touched: BTreeSet<ProcessId>,
    /// What is left of what live attempts hold.
    pub holds: BTreeMap<AttemptId, Amounts>,
    /// What sessions that have not ended may use.
    pub sessions: BTreeMap<ProcessId, Allowance>,
}

impl Book {
    /// Lists a process and its ancestors that are known, nearest first.
    #[must_use]
    pub fn lineage(&self, pid: &ProcessId) -> Vec<ProcessId> {
        let mut found = Vec::new();
        let mut next = Some(pid.clone());
        while let Some(pid) = next.filter(|pid| self.known.contains_key(pid)) {
            next = self.known[&pid].parent.clone();
            found.push(pid);
        }
        found
    }

    /// Adds an event.
    pub fn add(&mut self, event: &Event) {
        self.events += 1;
        self.last = self.last.max(event.time);
        let Some(pid) = &event.subject.pid else {
            return;
        };
        self.touched.insert(pid.clone());
        match &event.body {
            Body::Process { event: body } => self.add_process(event, pid, body),
            Body::Quota { event: body } => self.add_quota(pid, body),
            Body::Interrupt { event: body } => self.add_interrupt(event.time, pid, body),
            Body::Session { event: body } => self.add_session(pid, body),
            Body::Kernel { .. }
            | Body::Rate { .. }
            | Body::Envelope { .. }
            | Body::Approval { .. }
            | Body::Service { .. }
            | Body::Slot { .. }
            | Body::Dispatch { .. } => {}
        }
    }

    fn add_process(&mut self, event: &Event, pid: &ProcessId, body: &ProcessEvent) {
        match body {
            ProcessEvent::Created { priority, quota, parent, driven, .. } => {
                let user = event.subject.user.clone();
                let known = Known {
                    user: user.expect("a process has an owner"),
                    priority: *priority,
                    driven: *driven,
                    parent: parent.clone(),
                    state: ProcessState::New,
                    quota: **quota,
                    used: Amounts::ZERO,
                    held: Amounts::ZERO,
                    unreserved: Amounts::ZERO,
                    open: BTreeMap::new(),
                    ready: None,
                    blocking: BTreeSet::new(),
                    until: None,
                };
                self.known.insert(pid.clone(), known);
                self.adopt(parent.as_ref(), pid);
            }
            ProcessEvent::StateChanged { to, block, .. } => {
                let until = block.as_ref().and_then(|block| block.until);
                self.enter(pid, (*to, until), event.time);
            }
            ProcessEvent::Terminated { .. } => {
                self.enter(pid, (ProcessState::Terminated, None), event.time);
            }
            ProcessEvent::LeaseRenewed { .. } => {}
            ProcessEvent::Removed => {
                // Those below go to the one above it, which is charged for them from now on (K102).
                let above = self.known.remove(pid).and_then(|known| known.parent);
                if let Some(siblings) = above.as_ref().and_then(|it| self.children.get_mut(it)) {
                    siblings.remove(pid);
                }
                for below in self.children.remove(pid).unwrap_or_default() {
                    self.adopt(above.as_ref(), &below);
                    if let Some(known) = self.known.get_mut(&below) {
                        known.parent.clone_from(&above);
                    }
                }
            }
        }
    }

    /// A process has another parent, or none.
    fn adopt(&mut self, parent: Option<&ProcessId>, pid: &ProcessId) {
        if let Some(parent) = parent {
            self.children.entry(parent.clone()).or_default().insert(pid.clone());
        }
    }

    fn enter(&mut self, pid: &ProcessId, (to, until): (ProcessState, Option<Time>), at: Time) {
        let number = self.events;
        if let Some(known) = self.known.get_mut(pid) {
            (known.state, known.until) = (to, until);
            known.ready = (to == ProcessState::Ready).then_some((at, number));
        }
    }

    fn add_interrupt(&mut self, at: Time, pid: &ProcessId, body: &InterruptEvent) {
        match body {
            InterruptEvent::Raised { interrupt } => {
                self.asked.insert(interrupt.id.clone(), true);
                if let Some(known) = self.known.get_mut(pid).filter(|_| interrupt.blocking) {
                    known.blocking.insert(interrupt.id.clone());
                }
            }
            InterruptEvent::Resolved { id, .. }
            | InterruptEvent::Expired { id, .. }
            | InterruptEvent::Cancelled { id, .. } => {
                self.asked.insert(id.clone(), false);
                let number = self.events;
                if let Some(known) = self.known.get_mut(pid)
                    && known.blocking.remove(id)
                    && known.waits()
                {
                    known.ready = Some((at, number)); // It was held (K62).
                }
            }
            InterruptEvent::Removed { ids } => {
                for id in ids {
                    self.asked.remove(id);
                }
            }
        }
    }

    fn add_quota(&mut self, pid: &ProcessId, body: &QuotaEvent) {
        match body {
            QuotaEvent::Reserved { reservation, attempt, amounts, .. } => {
                let drawn = self.draw(attempt.as_ref(), amounts);
                let anew = amounts.minus(&drawn);
                if let Some(known) = self.known.get_mut(pid) {
                    known.open.insert(reservation.clone(), *amounts);
                }
                self.each_level(pid, |known| known.held = known.held.plus(&anew));
            }
            QuotaEvent::Settled { reservation, actual, excess } => {
                self.close(pid, reservation);
                self.charge(pid, actual, excess);
            }
            QuotaEvent::Released { reservation } => self.close(pid, reservation),
            QuotaEvent::Expired { reservation, charged } => {
                self.close(pid, reservation);
                self.charge(pid, charged, &Amounts::ZERO);
            }
            QuotaEvent::Recorded { amounts, attempt, .. } => {
                let drawn = self.draw(attempt.as_ref(), amounts);
                self.each_level(pid, |known| known.held = known.held.minus(&drawn));
                self.charge(pid, amounts, &amounts.minus(&drawn));
            }
            QuotaEvent::Adjusted { field, new, .. } => {
                if let Some(known) = self.known.get_mut(pid) {
                    *known.quota.field_mut(*field) = *new;
                }
            }
            QuotaEvent::Warning { .. } | QuotaEvent::Exceeded { .. } => {}
        }
    }

    fn close(&mut self, pid: &ProcessId, reservation: &ReservationId) {
        let open = self.known.get_mut(pid).and_then(|known| known.open.remove(reservation));
        if let Some(amounts) = open {
            self.each_level(pid, |known| known.held = known.held.minus(&amounts));
        }
    }

    fn charge(&mut self, pid: &ProcessId, actual: &Amounts, excess: &Amounts) {
        self.each_level(pid, |known| {
            known.used = known.used.plus(actual);
            known.unreserved = known.unreserved.plus(excess);
        });
    }

    fn each_level(&mut self, pid: &ProcessId, change: impl Fn(&mut Known)) {
        for level in self.lineage(pid) {
            if let Some(known) = self.known.get_mut(&level) {
                change(known);
            }
            self.touched.insert(level);
        }
    }
}

/// Says whether a process may go from one state to another (section 3), and by that cause.
#[must_use]
pub const fn is_legal(from: ProcessState, to: ProcessState) -> bool {
    use ProcessState as P;
    matches!(
        (from, to),
        (P::New | P::Running | P::Waiting | P::Blocked, P::Ready)
            | (P::Ready, P::Running)
            | (P::Running, P::Waiting | P::Blocked)
            | (P::New | P::Ready | P::Running | P::Waiting | P::Blocked, P::Terminated)
            | (P::Terminated, P::Zombie)
    )
}

/// Returns which process was claimed because it was its user's turn.
#[must_use]
pub fn served(event: &Event) -> Option<&ProcessId> {
    match &event.body {
        Body::Process { event: ProcessEvent::StateChanged { cause: Cause::Served, .. } } => {
            event.subject.pid.as_ref()
        }
        Body::Process { .. }
        | Body::Kernel { .. }
        | Body::Quota { .. }
        | Body::Rate { .. }
        | Body::Envelope { .. }
        | Body::Interrupt { .. }
        | Body::Approval { .. }
        | Body::Service { .. }
        | Body::Slot { .. }
        | Body::Dispatch { .. }
        | Body::Session { .. } => None,
    }
}

/// Follows the events of a kernel through crashes: those that everybody saw, and after a start
/// those that were on the disk before anybody had seen them.
#[derive(Clone, Debug, Default)]
pub struct Follow {
    /// By record: what was written and not yet seen, and how many events that is. Most is seen
    /// soon, so it is read only where it is all that there is.
    written: BTreeMap<u64, (Arc<[u8]>, u32)>,
    record: u64,
}

impl Follow {
    /// Returns the events that have become certain, in order: those of one decision each.
    pub fn see(&mut self, seen: &Seen<'_, Clerk>) -> Vec<Arc<[Event]>> {
        match seen {
            Seen::Written(written) if written.number > self.record => {
                self.written.insert(written.number, (written.body.into(), written.count));
                Vec::new()
            }
            Seen::Events(_, events) => {
                self.record += 1;
                self.written.remove(&self.record);
                vec![Arc::clone(events)]
            }
            Seen::Recovered(found) => {
                let rest = self.written.split_off(&(found.record + 1));
                drop(rest);
                self.record = found.record;
                let unseen = std::mem::take(&mut self.written).into_values();
                unseen.map(|(body, count)| events_of(&body, count).into()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the last record that is certain.
    #[must_use]
    pub const fn record(&self) -> u64 {
        self.record
    }
}

/// Shows a watch each event that has become certain, in order. Returns whether it looked at one.
///
/// # Errors
///
/// What the watch found.
pub fn show_each<W>(
    watch: &mut W,
    follow: fn(&mut W) -> &mut Follow,
    seen: &Seen<'_, Clerk>,
    show: fn(&mut W, &Event) -> Result<bool, String>,
) -> Result<bool, String> {
    let mut looked = false;
    for events in follow(watch).see(seen) {
        for event in events.iter() {
            looked |= show(watch, event)?;
        }
    }
    Ok(looked)
}

/// Reads the events in the body of a record.
#[must_use]
pub fn events_of(body: &[u8], count: u32) -> Vec<Event> {
    let mut reader = Reader::new(body);
    let event = |_| {
        let frame = Frame::take(&mut reader).expect("a record holds whole events");
        frame.read::<KernelPart>().expect("this program wrote the event")
    };
    (0..count).map(event).collect()
}
