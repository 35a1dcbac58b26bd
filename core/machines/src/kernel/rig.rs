//! A kernel with a clock, for tests: commands go in as users, and deadlines come first (K10).

use crate::ledger::fold::{Held, Part};
use crate::ledger::root::StateRoot;
use crate::ledger::snapshot::{Encoder, FrozenState, Restoring};

use super::budget::{Record, Reserve};
use super::config::KernelConfig;
use super::event::Event;
use super::ids::{Endpoint, ProcessId, ReservationId, UserId};
use super::lifecycle::Submit;
use super::names::{OnExhausted, Priority, ProcessState};
use super::part::KernelPart;
use super::principal::{Principal, Role};
use super::process::{Metadata, Process};
use super::query::{Query, Told};
use super::quota::{Amounts, Limit, QuotaField, QuotaPatch};
use super::reply::Reply;
use super::state::State;
use super::{At, Command, CommandBody, Kernel, Refusal, Time};

pub(super) fn pid(name: &str) -> ProcessId {
    ProcessId::parse("pid", name).unwrap()
}

pub(super) fn rsv(name: &str) -> ReservationId {
    ReservationId::parse("reservation_id", name).unwrap()
}

/// A user without further roles.
pub(super) fn user(name: &str) -> Principal {
    Principal::new(UserId::parse("user", name).unwrap(), &[Role::User])
}

pub(super) fn operator() -> Principal {
    Principal::new(UserId::parse("user", "op").unwrap(), &[Role::Operator])
}

pub(super) fn worker(name: &str) -> Principal {
    Principal::new(UserId::parse("user", name).unwrap(), &[Role::Worker])
}

pub(super) fn node() -> Principal {
    Principal::new(UserId::parse("user", "node").unwrap(), &[Role::Node])
}

/// So many calls of models.
pub(super) fn calls(llm_calls: u64) -> Amounts {
    Amounts { llm_calls, ..Amounts::ZERO }
}

pub(super) fn limits(fields: &[(QuotaField, u64)]) -> QuotaPatch {
    fields.iter().map(|(field, most)| (*field, Limit::at_most(*most))).collect()
}

pub(crate) fn submit(name: &str) -> Submit {
    Submit {
        pid: Some(pid(name)),
        request: None,
        user: None,
        session: None,
        priority: Priority::Normal,
        quota: QuotaPatch::new(),
        parent: None,
        on_exhausted: OnExhausted::Terminate,
        driven: false,
        metadata: Metadata::new(),
    }
}

pub(super) fn reserve(name: &str, id: &str, amounts: Amounts) -> CommandBody {
    CommandBody::Reserve(Box::new(Reserve {
        pid: pid(name),
        reservation: Some(rsv(id)),
        attempt: None,
        amounts,
        lease_ms: None,
    }))
}

pub(super) fn settle(name: &str, id: &str, actual: Amounts) -> CommandBody {
    CommandBody::Settle { pid: pid(name), reservation: rsv(id), actual }
}

pub(super) fn record(name: &str, amounts: Amounts) -> CommandBody {
    let pid = pid(name);
    let record = Record { pid, amounts, agent_hops: 0, attempt: None, record: None };
    CommandBody::RecordUsage(Box::new(record))
}

/// A kernel, its clock, and all that happened.
#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) kernel: Kernel,
    pub(super) now: Time,
    pub(super) events: Vec<Event>,
    /// What commands carry (K136).
    pub(super) rate: Option<Endpoint>,
    /// After each decision that made events: how many there were by then, and the root.
    pub(super) records: Vec<(usize, StateRoot)>,
    nonce: u64,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(KernelConfig::new())
    }

    pub(super) fn with(config: KernelConfig) -> Self {
        let kernel = Kernel::new(config.clone()).unwrap();
        let now = Time::from_millis(1_000_000);
        let mut rig =
            Self { kernel, now, events: Vec::new(), rate: None, records: Vec::new(), nonce: 0 };
        rig.run(&node(), CommandBody::Start { config: Box::new(config) }).unwrap();
        rig
    }

    fn at(&mut self) -> At {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        At { now: self.now, nonce }
    }

    pub(super) fn run(&mut self, by: &Principal, body: CommandBody) -> Result<Vec<Event>, Refusal> {
        let at = self.at();
        let command = Command { by: by.clone(), worker: None, rate: self.rate.clone(), body };
        let decided = self.kernel.decide(at, &command);
        let before = self.kernel.clone();
        let events = self.kernel.execute(at, &command);
        assert_eq!(events, decided, "to decide is to execute on a copy (K2)");
        if let Ok(events) = &events {
            let mut follower = before;
            events.iter().for_each(|event| follower.apply(event));
            let root = self.kernel.clone().root();
            assert_eq!(self.kernel.current_root(), root, "every table is looked at");
            assert_eq!(follower.root(), root, "events are all that changes the state (K3)");
            assert_eq!(follower.state.derived(), self.kernel.state.derived());
            if self.nonce.is_multiple_of(8) {
                let mut loaded = reloaded(&self.kernel);
                assert_eq!(loaded.root(), root, "a snapshot is all of the state (L72)");
                assert_eq!(loaded.state.derived(), self.kernel.state.derived(), "K12");
            }
            self.events.extend(events.iter().cloned());
            if !events.is_empty() {
                self.records.push((self.events.len(), root));
            }
        } else {
            assert_same(&self.kernel.state, &before.state);
        }
        events
    }

    /// Runs what is due, then the command (K10).
    pub(super) fn say(&mut self, by: &Principal, body: CommandBody) -> Result<Vec<Event>, Refusal> {
        self.tick();
        self.run(by, body)
    }

    /// As [`Rig::say`], with the reply.
    pub(super) fn answered(
        &mut self,
        by: &Principal,
        body: CommandBody,
    ) -> Result<(Vec<Event>, Reply), Refusal> {
        let command = Command { by: by.clone(), worker: None, rate: None, body };
        let events = self.say(by, command.body.clone())?;
        let reply = self.kernel.reply(self.now, &command, &events);
        Ok((events, reply))
    }

    /// Asks the kernel as it is.
    pub(super) fn query(&self, by: &Principal, query: &Query) -> Result<Told, Refusal> {
        let answer = self.kernel.query(self.now, by, query)?;
        assert_eq!(answer.as_of, self.kernel.state.counters.events, "K5");
        Ok(answer.told)
    }

    fn tick(&mut self) {
        while self.kernel.next_deadline().is_some_and(|due| due <= self.now) {
            self.run(&node(), CommandBody::Tick).unwrap();
        }
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn pass(&mut self, millis: u64) {
        let end = self.now.plus(millis);
        while let Some(due) = self.kernel.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.tick();
        }
        self.now = end;
    }

    /// Submits, and schedules.
    pub(super) fn ready(&mut self, by: &Principal, submit: Submit) {
        let pid = submit.pid.clone().unwrap();
        self.say(by, CommandBody::Submit(Box::new(submit))).unwrap();
        self.say(by, CommandBody::Schedule { pid }).unwrap();
    }

    pub(super) fn process(&self, name: &str) -> &Process {
        self.kernel.process(&pid(name)).unwrap()
    }

    pub(super) fn state(&self, name: &str) -> ProcessState {
        self.process(name).state
    }

    pub(super) fn kinds(&self, from: usize) -> Vec<&'static str> {
        self.events[from..].iter().map(|event| event.body.kind()).collect()
    }
}

/// Writes a snapshot and loads it.
pub(super) fn reloaded(kernel: &Kernel) -> Kernel {
    let (node, record) = (crate::cluster::ids::NodeId::from_bytes([7; 16]), 5);
    let mut kernel = kernel.clone();
    let mut held = Held::<KernelPart>(&mut kernel);
    let frozen = FrozenState::of(node, record, [9; 32], &mut [&mut held]);
    let mut loaded = Kernel::new(KernelConfig::new()).unwrap();
    let (mut encoder, mut restoring) = (Encoder::new(frozen), Restoring::new(node, record));
    while let Some(piece) = encoder.piece() {
        let mut held = Held::<KernelPart>(&mut loaded);
        restoring.push(&piece, &mut [&mut held]).unwrap();
    }
    restoring.finish().unwrap();
    loaded
}

/// Says whether everything that is derived is what a start would find from the tables (K12).
pub(super) fn check_derived(kernel: &Kernel) -> Result<(), String> {
    let (mut kept, mut fresh) = (kernel.clone(), kernel.clone());
    let _ = fresh.root(); // So that the tables of one row say what is so.
    KernelPart::derive(&mut fresh);
    kept.state.desks.forget_next_turns();
    fresh.state.desks.forget_next_turns();
    let (kept, fresh) = (&kept.state, &fresh.state);
    match kept.derived() == fresh.derived()
        && kept.desks == fresh.desks
        && kept.leases == fresh.leases
    {
        true => Ok(()),
        false => Err(format!("K12: {:?} is {:?}", kept.derived(), fresh.derived())),
    }
}

/// Asserts that two states are the same, and that what is derived follows from the tables (K3,
/// K12).
pub(super) fn assert_same(one: &State, other: &State) {
    let (mut one, mut other) = (one.clone(), other.clone());
    assert_eq!(one.counters, other.counters, "events are all that changes the state (K3)");
    other.derive_services();
    other.derive_leases();
    one.desks.forget_next_turns();
    other.desks.forget_next_turns();
    assert_eq!(one.desks, other.desks, "indexes follow from the tables (K12)");
    assert_eq!(one.leases, other.leases, "indexes follow from the tables (K12)");
    assert_eq!(one.deadlines, other.deadlines, "deadlines follow from the tables (K12)");
}

/// The refusal as one line.
pub(super) fn told(result: Result<Vec<Event>, Refusal>) -> String {
    match result {
        Ok(events) => format!("{} events", events.len()),
        Err(refusal) => refusal.to_string(),
    }
}
