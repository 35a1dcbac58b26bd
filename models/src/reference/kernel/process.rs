//! What is known of one process, and whether the machine knows the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use machines::kernel::Time;
use machines::kernel::ids::{
    AttemptId, LeaseId, ProcessId, RequestId, ReservationId, SessionId, UserId,
};
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{BlockReason, ProcessState, TerminalReason};
use machines::kernel::principal::Holder;
use machines::kernel::process::{self as machine, Block};
use machines::kernel::quota::{Amounts, Quota, Resource};

use super::Kernel;

/// Counts by resource; what is absent is 0.
pub type Sums = BTreeMap<Resource, u64>;

/// Who runs a process, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Whose.
    pub holder: Holder,
    /// Until when.
    pub until: Time,
}

/// A reservation that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// What was asked for, but the id.
    pub asked: Asked,
    /// When it is charged.
    pub until: Time,
    /// For how long: what a start gives it again (K11).
    pub length: u64,
    /// Who asked.
    pub holder: Holder,
}

/// What a reservation is for: how much, for how long, and for which attempt.
pub type Asked = (Amounts, Option<u64>, Option<AttemptId>);

/// How a reservation or record was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With so much.
    Settled(Amounts),
    /// With nothing.
    Released,
    /// In full.
    Charged,
}

/// What a closed id is remembered as (K108).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// A reservation, and who asked for it.
    Reservation(ReservationId, Asked, End, Holder),
    /// A record: its id and what it told.
    Record(String, (Amounts, u64, Option<AttemptId>)),
}

/// One process.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as the fields of 2.3")]
pub struct Process {
    pub user: UserId,
    pub request: RequestId,
    pub session: SessionId,
    /// What was submitted, to know a repeat by.
    pub submit: Submit,
    pub state: ProcessState,
    pub quota: Quota,
    pub used: Sums,
    pub held: Sums,
    pub unreserved: Sums,
    pub warned: BTreeSet<Resource>,
    pub exceeded: BTreeSet<Resource>,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub last_scheduled_at: Option<Time>,
    pub ready_at: Option<Time>,
    pub running_since: Option<Time>,
    /// Its number among all that became ready.
    pub ready_number: u64,
    pub block: Option<Block>,
    pub wait: Option<Arc<str>>,
    pub lease: Option<Lease>,
    /// Parent, its parent, and so on.
    pub ancestors: Vec<ProcessId>,
    pub reason: Option<TerminalReason>,
    /// Interrupts ever raised of it (K25).
    pub interrupts_ever: u64,
    /// What whoever ended it said.
    pub message: Option<String>,
    pub open: BTreeMap<ReservationId, Open>,
    /// Oldest first, 64 at most.
    pub closed: VecDeque<Closed>,
}

impl Process {
    /// Says whether it has not ended.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.reason.is_none()
    }

    /// The band of its priority (K71).
    #[must_use]
    pub const fn band(&self) -> u8 {
        self.submit.priority.number() - 1
    }

    /// Used or held of a resource.
    #[must_use]
    pub fn taken(&self, resource: Resource) -> u64 {
        self.used(resource) + self.held.get(&resource).copied().unwrap_or(0)
    }

    /// Used of a resource, the running stretch not included.
    #[must_use]
    pub fn used(&self, resource: Resource) -> u64 {
        self.used.get(&resource).copied().unwrap_or(0)
    }

    /// Time spent Running until `now` (K111).
    #[must_use]
    pub fn elapsed(&self, now: Time) -> u64 {
        self.used(Resource::ElapsedMs) + self.running_since.map_or(0, |since| now.since(since))
    }
}

macro_rules! same {
    ($($what:expr => $model:expr, $machine:expr;)*) => {
        $(
            let (model, machine) = ($model, $machine);
            if model != machine {
                return Some(format!("{}: {machine:?}, not {model:?}", $what));
            }
        )*
    };
}

impl Kernel {
    /// Says in what the machine's idea of a process differs, at the time `at`; `machine` is `None`
    /// if it knows of none.
    #[must_use]
    pub fn differs(
        &self,
        at: Time,
        pid: &ProcessId,
        machine: Option<&machine::Process>,
    ) -> Option<String> {
        match (self.processes.get(pid), machine) {
            (None, None) => None,
            (Some(_), None) => Some(format!("{pid} is missing")),
            (None, Some(_)) => Some(format!("{pid} should not exist")),
            (Some(model), Some(machine)) => {
                let above = model.ancestors.first();
                if above != machine.parent.as_ref() {
                    return Some(format!("{pid}.parent: {:?}, not {above:?}", machine.parent));
                }
                let alike = tombstone(model, machine, self.time(at));
                let alike = alike.or_else(|| match model.state == ProcessState::Zombie {
                    true => None,
                    false => body(model, machine).or_else(|| self.asks(pid, machine)),
                });
                alike.map(|told| format!("{pid}.{told}"))
            }
        }
    }

    /// What it waits for people to say (2.3).
    fn asks(&self, pid: &ProcessId, machine: &machine::Process) -> Option<String> {
        same! {
            "interrupts" => self.pending_of(pid), machine.interrupts.clone();
            "held" => self.is_held(pid), machine.blocking > 0;
        }
        let at = self.tried_at(pid);
        let shown = machine.current_service.as_ref();
        // Which of several is shown is not said.
        let right = shown.map_or(at.is_empty(), |one| at.contains(one));
        (!right).then(|| format!("current_service: {shown:?}, not of {at:?}"))
    }

    /// Returns the pids of all processes.
    #[must_use]
    pub fn pids(&self) -> Vec<ProcessId> {
        self.processes.keys().cloned().collect()
    }
}

/// What is kept for as long as the process is known (K85).
fn tombstone(model: &Process, machine: &machine::Process, now: Time) -> Option<String> {
    same! {
        "user" => &model.user, &machine.user;
        "request" => &model.request, &machine.request;
        "session" => &model.session, &machine.session;
        "state" => model.state, machine.state;
        "created_at" => model.created_at, machine.created_at;
        "started_at" => model.started_at, machine.started_at;
        "completed_at" => model.completed_at, machine.completed_at;
        "terminal_reason" => model.reason, machine.terminal_reason;
        "elapsed_ms" => model.elapsed(now), machine.elapsed(now);
    }
    let usage = machine.usage(now);
    let counted = Resource::ALL.into_iter().filter(|one| *one != Resource::ElapsedMs);
    for resource in counted {
        same! { format!("used {resource:?}") => model.used(resource), usage.of(resource); }
    }
    None
}

/// What a process is Blocked for; only who stopped it says that in words.
fn shown(block: &Block) -> (BlockReason, Option<Time>, Option<Arc<str>>) {
    let manual = block.reason == BlockReason::Manual;
    (block.reason, block.until, manual.then(|| Arc::clone(&block.text)))
}

/// What is kept until the process becomes Zombie.
fn body(model: &Process, machine: &machine::Process) -> Option<String> {
    let set = |bits: u16| -> BTreeSet<Resource> {
        Resource::ALL.into_iter().filter(|one| bits & one.bit() != 0).collect()
    };
    let lease = machine.run_lease.as_ref();
    same! {
        "priority" => model.submit.priority, machine.priority;
        "driven" => model.submit.driven, machine.driven;
        "on_exhausted" => model.submit.on_exhausted, machine.on_exhausted;
        "quota" => model.quota, machine.quota;
        "warned" => &model.warned, &set(machine.account.warned);
        "exceeded" => &model.exceeded, &set(machine.account.exceeded);
        "last_scheduled_at" => model.last_scheduled_at, machine.last_scheduled_at;
        "ready_at" => model.ready_at.filter(|_| model.is_live()),
            machine.ready_at.filter(|_| machine.is_live());
        "block" => model.block.as_ref().map(shown), machine.block.as_ref().map(shown);
        "wait" => &model.wait, &machine.wait;
        "lease.id" => model.lease.as_ref().map(|one| &one.id), lease.map(|one| &one.lease);
        "lease.holder" => model.lease.as_ref().map(|one| &one.holder), lease.map(|one| &one.holder);
        "lease.until" => model.lease.as_ref().map(|one| one.until), lease.map(|one| one.until);
        "metadata" => &model.submit.metadata, &machine.metadata;
        "reservations" => model.open.keys().collect::<Vec<_>>(),
            machine.reservations.keys().collect::<Vec<_>>();
    }
    if let (Some(model), Some(machine)) = (&model.message, &machine.termination_message) {
        same! { "message" => model.as_str(), &**machine; }
    }
    for resource in Resource::RESERVABLE {
        let of = |sums: &Sums| sums.get(&resource).copied().unwrap_or(0);
        same! {
            format!("held {resource:?}") => of(&model.held), machine.account.held.of(resource);
            format!("unreserved {resource:?}") =>
                of(&model.unreserved), machine.account.unreserved.of(resource);
        }
    }
    for (id, open) in &model.open {
        let machine = &machine.reservations[id];
        same! {
            format!("{id}.amounts") => open.asked.0, machine.amounts;
            format!("{id}.until") => open.until, machine.until;
        }
    }
    None
}
