//! K447: nothing that is live or kept goes, and when all has ended and the longest retention has
//! passed, every table but those that stay is empty (K360, K361).
//!
//! The end is looked at in a copy of the kernel, at the end of the run: the operator ends every
//! process and every dispatch, lets time pass, and cleans up until nothing is left to clean.

use std::collections::{BTreeMap, BTreeSet};

use machines::codec::Wire;
use machines::kernel::config::Retention;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::event::{Body, Cause, Event, KernelEvent, ProcessEvent};
use machines::kernel::ids::{DispatchId, ProcessId};
use machines::kernel::names::ProcessState;
use machines::kernel::part::KernelPart;
use machines::kernel::principal::Principal;
use machines::kernel::query::page::ListProcesses;
use machines::kernel::query::{Query, Told};
use machines::kernel::{At, Command, CommandBody, Kernel, Time};
use machines::ledger::fold::Part;

use crate::keeper::book::{Follow, show_each};
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
            Body::Kernel { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Interrupt { .. }
            | Body::Approval { .. }
            | Body::Service { .. }
            | Body::Slot { .. }
            | Body::Dispatch { .. }
            | Body::Envelope { .. }
            | Body::Session { .. } => Ok(false),
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
                match early || self.live.contains(pid) {
                    true => Err(format!("{pid} went at {now:?}, and ended {ended:?}")),
                    false => Ok(true),
                }
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
        show_each(self, |watch| &mut watch.follow, seen, Self::add)
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
