//! K424: a poll repeated is answered the same, and nothing happens.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::{BTreeMap, VecDeque};

use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::ProcessId;
use machines::kernel::principal::Holder;
use machines::kernel::sessions::instruction::InstructionBody;
use machines::kernel::{Command, CommandBody, Time};

use super::super::book::flows::Flows;
use super::super::book::{Book, Follow};
use super::super::kernel::{Clerk, Reply, kernel_config};
use super::super::{Seen, Watch, World};
use super::flows::{holder, instructed};
use super::is_renewal;

/// How many changes of a family of processes are remembered.
const CHANGES: usize = 64;

/// What a poll was answered.
#[derive(Clone, Debug)]
struct Polled {
    by: Holder,
    /// The last event that it knew of.
    as_of: u64,
    body: InstructionBody,
    /// When a branch that had failed could be handed out again, by the next poll, whoever else
    /// works (K269).
    next: Option<Time>,
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Polls {
    follow: Follow,
    book: Book,
    flows: Flows,
    /// The latest that any clock has shown.
    now: Time,
    /// By the eldest of a family, whose budgets they share: events that changed something.
    changes: BTreeMap<ProcessId, VecDeque<u64>>,
    /// The newest event that may have changed something for everybody.
    changed: u64,
    /// The newest poll of each process.
    polled: BTreeMap<ProcessId, Polled>,
}

impl Polls {
    fn eldest(&self, pid: &ProcessId) -> ProcessId {
        self.book.lineage(pid).pop().unwrap_or_else(|| pid.clone())
    }

    fn add(&mut self, event: &Event) {
        let number = self.book.events + 1;
        match (&event.subject.pid, &event.body) {
            (Some(_), _) if is_renewal(event) => {}
            // What a removed process leaves changes its family.
            (_, Body::Kernel { .. })
            | (Some(_), Body::Process { event: ProcessEvent::Removed }) => self.changed = number,
            (Some(pid), _) => self.note(&self.eldest(pid), number),
            (None, Body::Envelope { .. }) => self.changed = number,
            (None, _) => {}
        }
        self.book.add(event);
        self.flows.add(event, kernel_config().max_lost);
    }

    fn note(&mut self, family: &ProcessId, number: u64) {
        let changes = self.changes.entry(family.clone()).or_default();
        changes.push_back(number);
        if changes.len() > CHANGES {
            changes.pop_front();
        }
    }

    /// Says whether anything happened after one event and up to another that could change what a
    /// process is told.
    fn changed_between(&self, pid: &ProcessId, (after, until): (u64, u64)) -> bool {
        let between = |number: &u64| (after + 1..=until).contains(number);
        let changes = self.changes.get(&self.eldest(pid));
        let forgotten = changes.is_some_and(|changes| {
            changes.len() == CHANGES && changes.front().is_some_and(|oldest| *oldest > after)
        });
        let changed = changes.is_some_and(|changes| changes.iter().any(between));
        forgotten || changed || self.changed > after
    }

    /// Returns when the first branch that waits for its retry is due.
    fn next_retry(&self, pid: &ProcessId) -> Option<Time> {
        self.flows.known.get(pid)?.retries.values().min().copied()
    }

    fn poll(&mut self, pid: &ProcessId, command: &Command, reply: &Reply) -> Result<bool, String> {
        let (Ok(done), Some(told)) = (reply, instructed(reply)) else {
            return Ok(false);
        };
        let (by, as_of, body) = (holder(command), done.reply.as_of, same(&told.body));
        let polled = Polled { by, as_of, body, next: self.next_retry(pid) };
        let own = polled.as_of - done.events.len() as u64;
        let Some(last) = self.polled.insert(pid.clone(), polled.clone()) else {
            return Ok(false);
        };
        let fresh = last.by != polled.by
            || self.changed_between(pid, (last.as_of, own))
            || last.next.is_some_and(|next| next <= self.now);
        if fresh {
            return Ok(false);
        }
        if let Some(event) = done.events.iter().find(|event| !is_renewal(event)) {
            let (kind, told) = (event.body.kind(), brief(&last.body));
            return Err(format!("{pid} is polled again after {told}, and that is a {kind}"));
        }
        match last.body == polled.body {
            true => Ok(true),
            false => Err(format!(
                "{pid} is polled again: {}, and before it was {}",
                brief(&polled.body),
                brief(&last.body)
            )),
        }
    }
}

/// Leaves out until when the lease lasts, which a poll extends (K78).
fn same(body: &InstructionBody) -> InstructionBody {
    let mut body = body.clone();
    match &mut body {
        InstructionBody::RunAgent(task) => task.lease_until = None,
        InstructionBody::RunAgents(tasks) => {
            tasks.iter_mut().for_each(|task| task.lease_until = None);
        }
        _ => {}
    }
    body
}

/// Names an instruction, with the attempts that it hands out.
fn brief(body: &InstructionBody) -> String {
    let attempts: Vec<&str> = match body {
        InstructionBody::RunAgent(task) => vec![task.attempt.as_str()],
        InstructionBody::RunAgents(tasks) => {
            tasks.iter().map(|task| task.attempt.as_str()).collect()
        }
        other => return format!("{other:?}"),
    };
    format!("{} {attempts:?}", body.kind().name())
}

impl Watch<Clerk> for Polls {
    fn property(&self) -> &'static str {
        "K424"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        self.now = self.now.max(Time::from_millis(world.wall_ms()));
        for events in self.follow.see(seen) {
            for event in events.iter() {
                self.add(event);
            }
        }
        self.now = self.now.max(self.book.last);
        let Seen::Replied { request, reply, .. } = seen else {
            return Ok(false);
        };
        match &request.body {
            CommandBody::NextInstruction { pid } => self.poll(pid, request, reply),
            _ => Ok(false),
        }
    }
}
