//! The checkers of the kernel (kernel.md, section 15): each follows the events that everybody sees.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

mod approvals;
mod budgets;
mod driven;
mod flows;
mod polls;
mod refusals;
mod repeats;
mod services;
mod streams;
mod wakes;

use std::collections::BTreeMap;

use machines::Instant;
use machines::kernel::Kernel;
use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::ProcessId;
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::names::ProcessState;
use machines::kernel::quota::Resource;
use machines::ledger::root::StateRoot;

use super::book::{Book, Follow, events_of, is_legal};
use super::checkers::{Make, TooEarly, of_ledger};
use super::fairness::{Bound, InLine};
use super::kernel::next::next_answers;
use super::kernel::{Clerk, kernel_config};
use super::{Seen, Watch, World};

/// Lists the watches of the kernel's properties, and of the ledger's that its files must keep.
#[must_use]
pub(super) fn of_kernel() -> Vec<(&'static str, Make<Clerk>)> {
    let mut all: Vec<(&'static str, Make<Clerk>)> = of_ledger();
    let own: Vec<(&'static str, Make<Clerk>)> = vec![
        ("K420", || Box::new(budgets::NoOvershoot::default())),
        ("K421", || Box::new(Conserved::default())),
        ("K422", || Box::new(Each::new("K422", once))),
        ("K423", || Box::new(Each::new("K423", legal))),
        ("K426", || Box::new(wakes::NobodyForgotten::default())),
        ("K428", || Box::new(SameState::default())),
        ("K429", || Box::new(Bound::default())),
        ("K430", || Box::new(InLine::default())),
        ("K434", || Box::new(refusals::ChangeNothing::default())),
        ("K444", || Box::new(streams::Streams::default())),
        ("K445", || Box::new(TooEarly { property: "K445", after: None })),
        ("K448", || Box::new(repeats::Idempotent::default())),
        ("K449", || Box::new(Each::new("K449", later))),
    ];
    all.extend(own);
    let of_sessions: Vec<(&'static str, Make<Clerk>)> = vec![
        ("K424", || Box::new(polls::Polls::default())),
        ("K425", || Box::new(flows::Steered::one_attempt())),
        ("K437", || Box::new(flows::Steered::ends_together())),
        ("K439", || Box::new(flows::Steered::counted())),
        ("K440", || Box::new(flows::Ending::new())),
    ];
    all.extend(of_sessions);
    all.extend(services::of_services());
    all.extend(approvals::of_approvals());
    all.extend(driven::of_driven());
    all
}

type Check = fn(&Book, &Event) -> Result<bool, String>;

/// A property of each event, given those before it.
#[derive(Clone)]
struct Each {
    property: &'static str,
    check: Check,
    follow: Follow,
    book: Book,
}

impl Each {
    fn new(property: &'static str, check: Check) -> Self {
        Self { property, check, follow: Follow::default(), book: Book::default() }
    }
}

impl Watch<Clerk> for Each {
    fn property(&self) -> &'static str {
        self.property
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= (self.check)(&self.book, event)?;
                self.book.add(event);
            }
        }
        Ok(looked)
    }
}

/// K422: a question leaves Pending exactly once.
fn once(book: &Book, event: &Event) -> Result<bool, String> {
    let Body::Interrupt { event: body } = &event.body else {
        return Ok(false);
    };
    let (id, wanted) = match body {
        InterruptEvent::Raised { interrupt } => (&interrupt.id, None),
        InterruptEvent::Resolved { id, .. }
        | InterruptEvent::Expired { id, .. }
        | InterruptEvent::Cancelled { id, .. } => (id, Some(true)),
        InterruptEvent::Removed { ids } => {
            let pending = ids.iter().find(|id| book.asked.get(*id) == Some(&true));
            return pending.map_or(Ok(true), |id| Err(format!("{id} was pending: {body:?}")));
        }
    };
    let pending = book.asked.get(id).copied();
    match pending == wanted {
        true => Ok(wanted.is_some()),
        false => Err(format!("{id} was pending: {pending:?}, and then: {body:?}")),
    }
}

/// K423: legal transitions only.
fn legal(book: &Book, event: &Event) -> Result<bool, String> {
    let (Body::Process { event: body }, Some(pid)) = (&event.body, &event.subject.pid) else {
        return Ok(false);
    };
    let now = book.known.get(pid).map(|known| known.state);
    let fine = match body {
        ProcessEvent::Created { .. } => now.is_none(),
        ProcessEvent::StateChanged { from, to, .. } => now == Some(*from) && is_legal(*from, *to),
        ProcessEvent::Terminated { .. } => {
            now.is_some_and(|now| is_legal(now, ProcessState::Terminated))
        }
        ProcessEvent::LeaseRenewed { .. } => now.is_some(),
        ProcessEvent::Removed => now == Some(ProcessState::Zombie),
    };
    match fine {
        true => Ok(true),
        false => Err(format!("{pid} was {now:?}: {body:?}")),
    }
}

/// K449: time in events never decreases.
fn later(book: &Book, event: &Event) -> Result<bool, String> {
    match event.time < book.last {
        true => Err(format!("an event of {:?} after one of {:?}", event.time, book.last)),
        false => Ok(true),
    }
}

/// K421: accounts are what the events add up to; no row without a process.
#[derive(Clone, Debug, Default)]
struct Conserved {
    follow: Follow,
    book: Book,
}

impl Watch<Clerk> for Conserved {
    fn property(&self) -> &'static str {
        "K421"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        for events in self.follow.see(seen) {
            for event in events.iter() {
                self.book.add(event);
            }
        }
        let Some(kernel) = world.guest().and_then(Clerk::kernel) else {
            return Ok(false);
        };
        if !matches!(seen, Seen::Replied { .. }) || kernel.last_event() != self.book.events {
            return Ok(false);
        }
        let touched = std::mem::take(&mut self.book.touched);
        for pid in &touched {
            self.compare(kernel, pid)?;
        }
        Ok(!touched.is_empty())
    }
}

impl Conserved {
    fn compare(&self, kernel: &Kernel, pid: &ProcessId) -> Result<(), String> {
        let (known, process) = match (self.book.known.get(pid), kernel.process(pid)) {
            (None, None) => return Ok(()),
            (Some(known), Some(process)) => (known, process),
            (known, process) => {
                let (known, there) = (known.is_some(), process.is_some());
                return Err(format!("{pid} should be there: {known}, and is: {there}"));
            }
        };
        let account = &process.account;
        let sums = [
            ("used", known.used, account.used.amounts),
            ("held", known.held, account.held),
            ("unreserved", known.unreserved, account.unreserved),
        ];
        if let Some((what, sum, said)) = sums.into_iter().find(|(_, sum, said)| sum != said) {
            return Err(format!("{pid} has {what} {said:?}, and its events add up to {sum:?}"));
        }
        let children = self.book.children.get(pid).into_iter().flatten();
        let children = children.filter_map(|child| self.book.known.get(child));
        for resource in Resource::RESERVABLE {
            let below: u64 = children.clone().map(|child| child.used.of(resource)).sum();
            if account.used.amounts.of(resource) < below {
                return Err(format!("{pid} has used less {} than its children", resource.name()));
            }
        }
        Ok(())
    }
}

/// K428: the state is what the events on the disk make of it, at every record, whoever made it: the
/// kernel that decided, or the one that was loaded from a snapshot and the records after it.
#[derive(Clone, Debug)]
struct SameState {
    /// Follows the records as they are written.
    follower: Box<Kernel>,
    record: u64,
    /// What the records make of it that everybody has seen the events of.
    certain: Box<Kernel>,
    seen: u64,
    /// The events of the records after that.
    written: BTreeMap<u64, Vec<Event>>,
    /// By record: the root of the follower.
    roots: BTreeMap<u64, StateRoot>,
    /// Roots that the kernel had and that the follower has not reached.
    told: BTreeMap<u64, StateRoot>,
}

impl Default for SameState {
    fn default() -> Self {
        let new = Box::new(Kernel::new(kernel_config()).expect("the configuration is legal"));
        Self {
            follower: new.clone(),
            record: 0,
            certain: new,
            seen: 0,
            written: BTreeMap::new(),
            roots: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }
}

impl SameState {
    /// Records up to this one are certain.
    fn settle(&mut self, record: u64) {
        while self.seen < record
            && let Some(events) = self.written.remove(&(self.seen + 1))
        {
            events.iter().for_each(|event| self.certain.apply(event));
            self.seen += 1;
        }
        let old = self.seen.saturating_sub(8);
        self.roots = self.roots.split_off(&old);
        self.told = self.told.split_off(&old);
    }

    /// What a start answers next is what a kernel would that has seen all events and was never
    /// loaded: what the roots do not cover is the same, too (K12).
    fn compare_next(&self, world: &World<Clerk>) -> Result<(), String> {
        let Some(guest) = world.newest() else {
            return Ok(());
        };
        let wall_ms = world.wall_ms();
        let aside = guest.aside(Instant::from_nanos(world.now()), wall_ms);
        let mut follower = (*self.certain).clone();
        aside.events.iter().for_each(|event| follower.apply(event));
        let Some(mut started) = aside.kernel().cloned() else {
            return Ok(());
        };
        if started.last_event() != follower.last_event() {
            return Ok(()); // It has stalled, and nobody hears of what it decided last.
        }
        let next = next_answers(&mut started, wall_ms);
        match next.difference(&next_answers(&mut follower, wall_ms)) {
            Some(what) => Err(format!("after a start at record {}: {what}", self.seen)),
            None => Ok(()),
        }
    }

    fn compare(&self, record: u64) -> Result<bool, String> {
        match (self.told.get(&record), self.roots.get(&record)) {
            (Some(told), Some(made)) if told != made => Err(format!(
                "the kernel had root {told:?} at record {record}, and its events make {made:?}"
            )),
            (Some(_), Some(_)) => Ok(true),
            (None, _) | (_, None) => Ok(false),
        }
    }
}

impl Watch<Clerk> for SameState {
    fn property(&self) -> &'static str {
        "K428"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        match seen {
            Seen::Written(written) if written.number == self.record + 1 => {
                let events = events_of(written.body, written.count);
                events.iter().for_each(|event| self.follower.apply(event));
                self.record += 1;
                self.written.insert(self.record, events);
                self.roots.insert(self.record, self.follower.root());
                self.compare(self.record)
            }
            Seen::Events(..) => {
                self.settle(self.seen + 1);
                Ok(false)
            }
            Seen::Decided(decided) => {
                self.told.extend(decided.root.map(|root| (decided.record, root)));
                self.compare(decided.record)
            }
            Seen::Recovered(found) => {
                self.settle(found.record);
                if self.seen != found.record {
                    return Err(format!("record {} was never written", found.record));
                }
                let made = self.certain.root();
                // Before the first record nobody has told the kernel how it is configured.
                let told = found.root.filter(|_| found.record > 0);
                if let Some(root) = told.filter(|root| *root != made) {
                    let record = found.record;
                    return Err(format!(
                        "a start found root {root:?} at record {record}, and its events make \
                         {made:?}"
                    ));
                }
                self.written.clear();
                (self.record, self.follower) = (self.seen, self.certain.clone());
                self.roots.split_off(&(found.record + 1));
                self.told.split_off(&(found.record + 1));
                self.compare_next(world)?;
                Ok(told.is_some())
            }
            _ => Ok(false),
        }
    }
}

/// A holder that asks for anything keeps its lease (K78).
const fn is_renewal(event: &Event) -> bool {
    matches!(event.body, Body::Process { event: ProcessEvent::LeaseRenewed { .. } })
}
