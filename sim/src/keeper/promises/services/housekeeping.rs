//! K447: nothing that is live or kept goes, and when all has ended and the longest retention has
//! passed, every table but those that stay is empty (K360, K361).
//!
//! Sessions, envelopes and questions go when they are kept no longer, or with their process: in the
//! decision that makes it Zombie, after which none of them is left (section 3, K175).
//!
//! The end is looked at in a copy of the kernel, at the end of the run: the operator ends every
//! process and every dispatch, lets time pass, and cleans up until nothing is left to clean.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use machines::codec::Wire;
use machines::kernel::config::Retention;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::envelopes::EnvelopeEvent;
use machines::kernel::event::{Body, Cause, Event, KernelEvent, ProcessEvent};
use machines::kernel::ids::{DispatchId, EnvelopeId, InterruptId, ProcessId};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::names::ProcessState;
use machines::kernel::part::KernelPart;
use machines::kernel::principal::Principal;
use machines::kernel::query::page::ListProcesses;
use machines::kernel::query::{Query, Told};
use machines::kernel::sessions::event::SessionEvent;
use machines::kernel::{At, Command, CommandBody, Kernel, Time};
use machines::ledger::fold::Part;

use crate::keeper::book::Follow;
use crate::keeper::kernel::Clerk;
use crate::keeper::kernel::services::{operator, rows_of};
use crate::keeper::{Seen, Watch, World};

/// The tables that stay.
const STAY: [&str; 4] = ["config", "counters", "services", "rate_configs"];
/// Longer than any retention of the scenarios, and than a hit of a day counts.
const LONGEST_MS: u64 = 90_000_000;
/// The most decisions of an afterlife.
const DECISIONS_MAX: u64 = 100_000;

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    follow: Follow,
    retention: Option<Retention>,
    live: BTreeSet<ProcessId>,
    /// When processes ended.
    ended: BTreeMap<ProcessId, Time>,
    /// When dispatches ended.
    finished: BTreeMap<DispatchId, Time>,
    /// Processes with a session.
    sessions: BTreeSet<ProcessId>,
    /// Whose envelopes are, if anybody's, and when they were changed last, if nobody's.
    envelopes: BTreeMap<EnvelopeId, (Option<ProcessId>, Time)>,
    /// Of which process questions are, and when they were closed, if they were.
    asked: BTreeMap<InterruptId, (ProcessId, Option<Time>)>,
    /// What went in this decision as it may only with its process: whose, and what.
    with: BTreeMap<ProcessId, String>,
}

impl Kept {
    fn add(&mut self, event: &Event) -> Result<bool, String> {
        match &event.body {
            Body::Kernel { event: KernelEvent::Started { config, .. } } => {
                self.retention = Some(config.retention);
                Ok(false)
            }
            Body::Process { event: body } => match &event.subject.pid {
                Some(pid) => self.add_process(event.time, pid, body),
                None => Ok(false),
            },
            Body::Dispatch { event: DispatchEvent::Finished { dispatch, .. } } => {
                self.finished.insert(dispatch.clone(), event.time);
                Ok(false)
            }
            Body::Dispatch { event: DispatchEvent::Removed { ids } } => {
                let kept = self.retention.map_or(0, |retention| retention.dispatch_ms);
                let early = |id: &&DispatchId| {
                    self.finished.get(*id).is_none_or(|at| event.time.since(*at) < kept)
                };
                match ids.iter().find(early) {
                    Some(id) => Err(format!("{id} went, and ended {:?}", self.finished.get(id))),
                    None => Ok(true),
                }
            }
            Body::Interrupt { event: body } => self.add_interrupt(event.time, event, body),
            Body::Envelope { event: body } => self.add_envelope(event.time, body),
            Body::Session { event: body } => self.add_session(event.time, event, body),
            Body::Kernel { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Approval { .. }
            | Body::Service { .. }
            | Body::Slot { .. }
            | Body::Dispatch { .. } => Ok(false),
        }
    }

    fn add_process(
        &mut self,
        now: Time,
        pid: &ProcessId,
        event: &ProcessEvent,
    ) -> Result<bool, String> {
        match event {
            ProcessEvent::Created { .. } => {
                self.live.insert(pid.clone());
                Ok(false)
            }
            ProcessEvent::Terminated { .. } => {
                self.live.remove(pid);
                self.ended.insert(pid.clone(), now);
                Ok(false)
            }
            ProcessEvent::StateChanged { to: ProcessState::Zombie, cause, .. } => {
                let kept = self.retention.map_or(0, |retention| retention.terminated_ms);
                let ended = self.ended.get(pid).copied();
                let early =
                    *cause == Cause::Retention && ended.is_none_or(|at| now.since(at) < kept);
                if early || self.live.contains(pid) {
                    return Err(format!("{pid} went at {now:?}, and ended {ended:?}"));
                }
                self.with.remove(pid);
                self.nothing_left_of(pid)
            }
            ProcessEvent::Removed => {
                self.ended.remove(pid);
                match self.live.contains(pid) {
                    true => Err(format!("{pid} went and was live")),
                    false => Ok(true),
                }
            }
            ProcessEvent::StateChanged { .. } | ProcessEvent::LeaseRenewed { .. } => Ok(false),
        }
    }
}

impl Kept {
    /// A process that is Zombie has no session, no envelope and no question (section 3).
    fn nothing_left_of(&self, pid: &ProcessId) -> Result<bool, String> {
        let envelope = self.envelopes.iter().find(|(_, (of, _))| of.as_ref() == Some(pid));
        let asked = self.asked.iter().find(|(_, (of, _))| of == pid);
        match (self.sessions.contains(pid), envelope, asked) {
            (false, None, None) => Ok(true),
            (session, envelope, asked) => Err(format!(
                "{pid} went, and left behind: session {session}, {:?}, {:?}",
                envelope.map(|(id, _)| id),
                asked.map(|(id, _)| id)
            )),
        }
    }

    /// Notes what goes and may only with its process.
    fn goes_with(&mut self, pid: &ProcessId, what: &str) -> Result<bool, String> {
        if self.live.contains(pid) {
            return Err(format!("{what} of {pid} went, which was live"));
        }
        self.with.insert(pid.clone(), what.to_owned());
        Ok(true)
    }

    fn add_interrupt(
        &mut self,
        now: Time,
        event: &Event,
        body: &InterruptEvent,
    ) -> Result<bool, String> {
        match body {
            InterruptEvent::Raised { interrupt } => {
                if let Some(pid) = &event.subject.pid {
                    self.asked.insert(interrupt.id.clone(), (pid.clone(), None));
                }
                Ok(false)
            }
            InterruptEvent::Resolved { id, .. }
            | InterruptEvent::Expired { id, .. }
            | InterruptEvent::Cancelled { id, .. } => {
                if let Some((_, closed)) = self.asked.get_mut(id) {
                    *closed = Some(now);
                }
                Ok(false)
            }
            InterruptEvent::Removed { ids } => {
                ids.iter().try_fold(false, |_, id| self.remove_asked(now, id))
            }
        }
    }

    /// K175.
    fn remove_asked(&mut self, now: Time, id: &InterruptId) -> Result<bool, String> {
        let kept = self.retention.map_or(0, |retention| retention.interrupt_ms);
        let Some((pid, closed)) = self.asked.remove(id) else {
            return Err(format!("{id} went, and was not there"));
        };
        match closed {
            None => Err(format!("{id} went, and nobody had answered it")),
            Some(at) if now.since(at) < kept => {
                self.goes_with(&pid, &format!("{id}, closed at {at:?} and gone at {now:?},"))
            }
            Some(_) => Ok(true),
        }
    }

    fn add_envelope(&mut self, now: Time, body: &EnvelopeEvent) -> Result<bool, String> {
        match body {
            EnvelopeEvent::Created { id, .. } | EnvelopeEvent::Cloned { id, .. } => {
                self.envelopes.insert(id.clone(), (None, now));
                Ok(false)
            }
            EnvelopeEvent::Updated { id, .. } => {
                if let Some((_, changed)) = self.envelopes.get_mut(id) {
                    *changed = now;
                }
                Ok(false)
            }
            EnvelopeEvent::Removed { ids } => {
                ids.iter().try_fold(false, |_, id| self.remove_envelope(now, id))
            }
        }
    }

    fn remove_envelope(&mut self, now: Time, id: &EnvelopeId) -> Result<bool, String> {
        let kept = self.retention.map_or(0, |retention| retention.envelope_ms);
        match self.envelopes.remove(id) {
            None => Err(format!("{id} went, and was not there")),
            Some((Some(pid), _)) => self.goes_with(&pid, &format!("the envelope {id}")),
            Some((None, at)) if now.since(at) < kept => {
                Err(format!("{id} went at {now:?}, and was changed at {at:?}"))
            }
            Some((None, _)) => Ok(true),
        }
    }

    fn add_session(
        &mut self,
        now: Time,
        event: &Event,
        body: &SessionEvent,
    ) -> Result<bool, String> {
        let Some(pid) = &event.subject.pid else {
            return Ok(false);
        };
        match body {
            SessionEvent::Started { envelope, .. } => {
                self.sessions.insert(pid.clone());
                self.bind(now, pid, envelope);
                Ok(false)
            }
            SessionEvent::Removed if self.sessions.remove(pid) => {
                self.goes_with(pid, "the session")
            }
            SessionEvent::Removed => Err(format!("a session of {pid} went, which had none")),
            _ => Ok(false),
        }
    }

    /// A process has one envelope: the one before it is nobody's from now on (K32).
    fn bind(&mut self, now: Time, pid: &ProcessId, id: &EnvelopeId) {
        for (of, changed) in self.envelopes.values_mut() {
            if of.as_ref() == Some(pid) {
                (*of, *changed) = (None, now);
            }
        }
        self.envelopes.insert(id.clone(), (Some(pid.clone()), now));
    }

    /// What went with its process went in the decision in which that became Zombie.
    fn decided(&mut self) -> Result<(), String> {
        match self.with.pop_first() {
            None => Ok(()),
            Some((pid, what)) => Err(format!("{what} of {pid} went, and {pid} did not")),
        }
    }
}

/// A kernel after the run.
struct Afterlife {
    kernel: Kernel,
    now: Time,
    decisions: u64,
}

impl Afterlife {
    /// Decides as the operator, or the node.
    fn decide(&mut self, by: Principal, body: CommandBody) -> Result<Vec<Event>, String> {
        self.decisions += 1;
        if self.decisions > DECISIONS_MAX {
            return Err("there is no end of deadlines, or of what is to be cleaned".to_owned());
        }
        let mut nonce = [0xee; 16];
        nonce[..8].copy_from_slice(&self.decisions.to_le_bytes());
        let command = Command { by, worker: None, rate: None, body };
        let decided = self.kernel.execute(At { now: self.now, nonce }, &command);
        decided.map_err(|refusal| format!("{:?} is refused: {refusal}", command.body))
    }

    fn live(&self) -> Vec<ProcessId> {
        let list = ListProcesses { page_size: 1_000, ..ListProcesses::default() };
        let query = Query::ListProcesses(Box::new(list));
        let mut live = Vec::new();
        if let Ok(answer) = self.kernel.query(self.now, &operator(), &query)
            && let Told::Processes(page) = answer.told
        {
            let processes = page.processes.into_iter();
            live.extend(processes.filter(|it| !it.state.is_terminal()).map(|it| it.pid));
        }
        live
    }

    /// Lets everything end, and everything that is over go.
    fn end(&mut self) -> Result<(), String> {
        loop {
            let live = self.live();
            for pid in &live {
                let message = "the world ends".to_owned();
                let end = CommandBody::Terminate { pid: pid.clone(), message, force: true };
                self.decide(operator(), end)?;
            }
            if live.is_empty() {
                break;
            }
        }
        for (key, _) in rows_of(&mut self.kernel, "dispatches") {
            let dispatch = DispatchId::from_bytes(&key).expect("a row that was frozen");
            self.decide(operator(), CommandBody::CancelDispatch { dispatch })?;
        }
        let end = self.now.plus(LONGEST_MS);
        while let Some(due) = self.kernel.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.decide(Principal::node(), CommandBody::Tick)?;
        }
        self.now = end;
        while !self.decide(operator(), CommandBody::Cleanup)?.is_empty() {}
        Ok(())
    }

    /// Lists what is left and should not be.
    fn left(&mut self) -> Vec<String> {
        let tables = KernelPart::TABLES.iter().filter(|name| !STAY.contains(name));
        let counted = tables.map(|name| (name, rows_of(&mut self.kernel, name).len()));
        counted.filter(|(_, rows)| *rows > 0).map(|(name, rows)| format!("{rows} {name}")).collect()
    }
}

impl Watch<Clerk> for Kept {
    fn property(&self) -> &'static str {
        "K447"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= self.add(event)?;
            }
            self.decided()?;
        }
        Ok(looked)
    }

    fn end(&mut self, world: &World<Clerk>) -> Result<bool, String> {
        let Some(kernel) = world.guest().and_then(Clerk::kernel) else {
            return Ok(false);
        };
        let kernel = kernel.clone();
        let now = Time::from_millis(world.wall_ms());
        let mut afterlife = Afterlife { kernel, now, decisions: 0 };
        afterlife.end()?;
        match afterlife.left() {
            left if left.is_empty() => Ok(true),
            left => Err(format!("all has ended and gone, but {}", left.join(", "))),
        }
    }
}
