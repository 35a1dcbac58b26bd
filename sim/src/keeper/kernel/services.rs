//! Saboteurs of rates, services, dispatch, access and housekeeping; and copies of a process that
//! live on beside the run, for watches that ask what would come of something.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use machines::Instant;
use machines::codec::{Reader, Wire, put_count};
use machines::keeper::Keeper;
use machines::keeper::io::{self as keeper, Call, Op};
use machines::kernel::config::{KernelConfig, RateConfig, Retention};
use machines::kernel::dispatch::{Dispatch, DispatchOutcome, Stage};
use machines::kernel::event::Event;
use machines::kernel::ids::{LeaseId, ServiceName, UserId};
use machines::kernel::interrupts::interrupt::Interrupt;
use machines::kernel::part::KernelPart;
use machines::kernel::principal::{Principal, Role};
use machines::kernel::query::{Answer, Query};
use machines::kernel::quota::Limit;
use machines::kernel::rates::SLOTS;
use machines::kernel::services::Slot;
use machines::kernel::state::Counters;
use machines::kernel::{Code, Command, CommandBody, Kernel, Refusal, Time};
use machines::ledger::fold::Part;

use super::{Clerk, Output, Reply, Turn, is_of_now, rewrite, rows};
use crate::keeper::io::Number;

/// A row of a table: its key, and what stands there.
pub(super) type Stored = (Vec<u8>, Vec<u8>);

/// Returns the configuration for a crowd of services: what takes minutes takes a second or two.
pub(super) fn config(usual: KernelConfig) -> KernelConfig {
    let retention = Retention {
        terminated_ms: 2_000,
        zombie_ms: 3_000,
        interrupt_ms: 3_000,
        dispatch_ms: 2_500,
        envelope_ms: 2_000,
    };
    let default_rate = RateConfig { burst: Limit::at_most(8), ..RateConfig::DEFAULT };
    KernelConfig {
        task_lease_ms: 1_000,
        slot_lease_ms: 1_500,
        cleanup_interval_ms: 2_000,
        drain_ms: 2_000,
        max_lost: 2,
        tick_batch: 3,
        default_rate,
        retention,
        ..usual
    }
}

/// Returns the operator of the scenarios.
pub(crate) fn operator() -> Principal {
    let user = UserId::parse("user", "operator").expect("a name is an id");
    Principal::new(user, &[Role::Operator])
}

/// Where in memory a process is: its copy is elsewhere. Nothing may follow from it (K435).
#[derive(Debug, Default)]
pub(super) struct Place(u64);

impl Clone for Place {
    fn clone(&self) -> Self {
        Self(self.0 + 1)
    }
}

/// What came of a query.
pub type Told = Result<Box<Answer>, Box<Refusal>>;

// ---- saboteurs

impl Clerk {
    /// Breaks what is to be broken before a command. Returns what is to be released once more after
    /// it.
    pub(super) fn turn_services(
        &mut self,
        wall_ms: u64,
        command: &mut Command,
    ) -> Option<ServiceName> {
        match self.turn? {
            Turn::CountsFewerSlots => {
                let checks = matches!(command.body, CommandBody::CheckRateLimit { .. });
                if checks || command.rate.is_some() {
                    self.forget_old_slots(wall_ms);
                }
            }
            Turn::ReleasesTwice => {
                if let CommandBody::ReleaseSlot { lease } = &command.body {
                    let slot = self.kernel()?.state().slot(lease)?;
                    return Some(slot.service.clone());
                }
            }
            Turn::AcceptsOldLease => {
                if let CommandBody::CompleteTask(done) = &mut command.body
                    && let Some(live) = self.live_lease_for(&done.lease)
                {
                    done.lease = live;
                    command.by = operator();
                }
            }
            Turn::OrdersByAddress if self.place.0 % 2 == 1 => self.turn_waiting_around(),
            Turn::KeepsEnded => self.keep_ended(),
            Turn::HurriesClosed => self.hurry_closed(),
            Turn::HurriesEnvelopes => self.hurry_envelopes(),
            Turn::ForgetsDrain => self.forget_drain(),
            _ => {}
        }
        None
    }

    /// A slot that was released is released again: somebody else's goes.
    pub(super) fn release_again(&mut self, service: Option<ServiceName>) {
        let Some(service) = service else {
            return;
        };
        let mut done = false;
        self.put_rows("slots", |_, row| {
            let slot = Slot::from_bytes(&row).expect("a row that was frozen");
            let again = !done && slot.service == service && slot.dispatch.is_none();
            done |= again;
            if again { None } else { Some(row) }
        });
    }

    /// Forgets hits of the shortest window that are in the 50th slot or before.
    fn forget_old_slots(&mut self, wall_ms: u64) {
        /// So long is a slot of ten seconds.
        const SLOT_MS: u64 = 200;
        let newest = wall_ms / SLOT_MS;
        self.put_rows("rates", |_, row| {
            let mut reader = Reader::new(&row);
            let count = reader.count(12).expect("a row that was frozen");
            let mut slot = || (reader.u64().expect("a slot"), reader.u32().expect("its hits"));
            let mut slots: Vec<(u64, u32)> = (0..count).map(|_| slot()).collect();
            let last = slots.last().copied();
            slots.retain(|slot| slot.0 + SLOTS - 1 > newest || Some(*slot) == last);
            let mut changed = Vec::new();
            put_count(&mut changed, slots.len());
            for (number, hits) in slots {
                changed.extend_from_slice(&number.to_le_bytes());
                changed.extend_from_slice(&hits.to_le_bytes());
            }
            let rest = row.len() - reader.remaining();
            changed.extend_from_slice(&row[rest..]);
            Some(changed)
        });
    }

    /// Finds the live try of the dispatch that a try under `lease` was of, and has ended.
    fn live_lease_for(&mut self, lease: &LeaseId) -> Option<LeaseId> {
        let kernel = self.keeper.as_mut().and_then(Keeper::kernel_mut)?;
        rows_of(kernel, "dispatches").into_iter().find_map(|(_, row)| {
            let dispatch = Dispatch::from_bytes(&row).expect("a row that was frozen");
            let ended = dispatch.remembered.iter().any(|ended| ended.lease == *lease);
            dispatch.live().filter(|_| ended).map(|live| live.lease.clone())
        })
    }

    /// Lets the newest dispatch that waits come first.
    fn turn_waiting_around(&mut self) {
        /// Between what is counted forwards and what is counted backwards.
        const MIDDLE: u64 = 1 << 40;
        self.put_rows("dispatches", |_, row| {
            let mut dispatch = Dispatch::from_bytes(&row).expect("a row that was frozen");
            if let Stage::Waiting { number, .. } = &mut dispatch.stage
                && *number < MIDDLE
            {
                *number = 2 * MIDDLE - *number;
            }
            Some(dispatch.to_bytes())
        });
    }

    /// Lets dispatches that were cancelled be over only in a far future.
    fn keep_ended(&mut self) {
        self.put_rows("dispatches", |_, row| {
            let mut dispatch = Dispatch::from_bytes(&row).expect("a row that was frozen");
            if let Stage::Ended { end } = &mut dispatch.stage
                && end.outcome == DispatchOutcome::Cancelled
            {
                end.at = Time::from_millis(1 << 60);
            }
            Some(dispatch.to_bytes())
        });
    }

    /// Lets questions that were closed have been so since ever.
    fn hurry_closed(&mut self) {
        self.put_rows("interrupts", |_, row| {
            let mut asked = Interrupt::from_bytes(&row).expect("a row that was frozen");
            asked.closed_at = asked.closed_at.map(|_| Time::ZERO);
            Some(asked.to_bytes())
        });
    }

    /// Lets no envelope be kept for any time.
    fn hurry_envelopes(&mut self) {
        if let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) {
            rewrite(kernel, "config", |_, row| {
                let mut config = KernelConfig::from_bytes(&row).expect("a row that was frozen");
                config.retention.envelope_ms = 0;
                config.to_bytes()
            });
        }
    }

    /// Tells whoever may not ask that somebody else holds what it asked for.
    pub(super) fn turn_refusal(&self, reply: Reply) -> Reply {
        if !self.turned(Turn::TellsOfHolder) {
            return reply;
        }
        reply.map_err(|mut refusal| {
            if refusal.code == Code::PermissionDenied {
                refusal.code = Code::NotHolder;
            }
            refusal
        })
    }

    /// Returns the session of a process that is about to go, if it has attempts that are closed.
    pub(super) fn closed_attempts(&mut self, body: &CommandBody) -> Option<Stored> {
        let CommandBody::CleanupProcess { pid } = body else {
            return None;
        };
        let session = self.kernel()?.state().session(pid)?;
        if !self.turned(Turn::KeepsAttempts) || session.closed.is_empty() {
            return None;
        }
        let kernel = self.keeper.as_mut().and_then(Keeper::kernel_mut)?;
        rows_of(kernel, "sessions").into_iter().find(|(key, _)| *key == pid.to_bytes())
    }

    /// Keeps a session that has gone.
    pub(super) fn keep_attempts(&mut self, kept: Option<Stored>) {
        let (Some(kept), Some(kernel)) = (kept, self.keeper.as_mut().and_then(Keeper::kernel_mut))
        else {
            return;
        };
        let mut rows = rows_of(kernel, "sessions");
        if let Err(place) = rows.binary_search_by(|(key, _)| key.cmp(&kept.0)) {
            rows.insert(place, kept);
            self.replace_rows("sessions", &rows);
        }
    }

    fn forget_drain(&mut self) {
        self.put_rows("counters", |_, row| {
            let mut counters = Counters::from_bytes(&row).expect("a row that was frozen");
            counters.draining = None;
            Some(counters.to_bytes())
        });
    }

    /// Makes the kernel anew of its own rows, those of one table changed or left out, if that
    /// changes anything.
    pub(super) fn put_rows(
        &mut self,
        table: &str,
        mut change: impl FnMut(&[u8], Vec<u8>) -> Option<Vec<u8>>,
    ) {
        let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return;
        };
        let before = rows_of(kernel, table);
        let changed = |(key, row): &Stored| change(key, row.clone()).map(|row| (key.clone(), row));
        let after: Vec<Stored> = before.iter().filter_map(changed).collect();
        if after != before {
            self.replace_rows(table, &after);
        }
    }

    /// Makes the kernel anew of its own rows, those of one table replaced.
    fn replace_rows(&mut self, table: &str, after: &[Stored]) {
        let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return;
        };
        let mut new = Kernel::new(super::kernel_config()).expect("the configuration is legal");
        for (number, name) in KernelPart::TABLES.iter().enumerate() {
            let rows = if *name == table { after.to_vec() } else { rows_of(kernel, name) };
            let stored = KernelPart::table(&mut new, number).expect("it has the tables it names");
            for (key, row) in rows {
                stored.put(&key, &row).expect("a sound row can be put");
            }
        }
        KernelPart::derive(&mut new);
        *kernel = new;
    }
}

/// Lists the rows of a table, in order of key, in canonical bytes.
pub(crate) fn rows_of(kernel: &mut Kernel, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let _ = kernel.root(); // So that all of the state is in the tables.
    let number = KernelPart::TABLES.iter().position(|name| *name == table);
    let stored = KernelPart::table(kernel, number.expect("there is such a table"));
    let mut bytes = Vec::new();
    stored.expect("it has the tables it names").freeze().take(&mut bytes, usize::MAX);
    rows(&bytes)
}

// ---- copies

/// A copy of a process that lives on beside the run: its disk does everything at once, and nobody
/// else asks it for anything.
#[derive(Clone, Debug)]
pub struct Aside {
    clerk: Clerk,
    now: Instant,
    wall_ms: u64,
    calls: Number,
    replies: BTreeMap<Number, Reply>,
    /// What everybody may see, in order.
    pub events: Vec<Event>,
}

/// The first call of a copy: far from those of the run.
const FIRST_CALL: Number = 1 << 62;

/// Steps of the disk after which a copy is given up.
const SETTLED_MAX: u32 = 10_000;

impl Clerk {
    /// Makes a copy that lives on at `now`, when the wall clock shows `wall_ms`.
    #[must_use]
    pub fn aside(&self, now: Instant, wall_ms: u64) -> Aside {
        let mut aside = Aside {
            clerk: self.clone(),
            now,
            wall_ms,
            calls: FIRST_CALL,
            replies: BTreeMap::new(),
            events: Vec::new(),
        };
        aside.settle();
        aside
    }

    /// Asks for something to be told.
    pub(super) fn ask(
        &mut self,
        (now, wall_ms): (Instant, u64),
        call: Number,
        by: Principal,
        query: Query,
    ) {
        let forgets = self.turned(Turn::ForgetsToLook) && matches!(query, Query::GetUsage { .. });
        let by = Box::new(if forgets { operator() } else { by });
        let (call, query) = (Call(call), Box::new(query));
        self.input(now, wall_ms, keeper::Input::Query { call, by, query });
    }

    /// Takes down what a query of a copy came to; one of the run is told of.
    pub(super) fn told(&mut self, call: Call, told: Told) {
        if call.0 > FIRST_CALL {
            return self.answers.push_back((call, told));
        }
        if self.answered.contains(&call) {
            return self.answered.retain(|answered| *answered != call);
        }
        let tells = !matches!(&told, Err(refusal) if is_of_now(refusal.code));
        self.outputs.push_back(Output::Told { call: call.0, tells });
    }
}

/// Answers to queries that nobody has taken yet.
pub(super) type Answers = VecDeque<(Call, Told)>;

impl Aside {
    /// Lets the disk do all that is asked of it.
    fn settle(&mut self) {
        for _ in 0..SETTLED_MAX {
            for output in mem::take(&mut self.clerk.outputs) {
                match output {
                    Output::Reply { call, reply } => {
                        self.replies.insert(call, reply);
                    }
                    Output::Events { events, .. } => self.events.extend(events.iter().cloned()),
                    Output::Disk { .. }
                    | Output::Told { .. }
                    | Output::Effect { .. }
                    | Output::Decided(_)
                    | Output::Durable(_)
                    | Output::Read { .. }
                    | Output::Late { .. }
                    | Output::Recovered(_)
                    | Output::Refused { .. }
                    | Output::Stalled => {}
                }
            }
            let Some(op) = self.clerk.out.pop_first() else {
                return;
            };
            self.clerk.input(self.now, self.wall_ms, keeper::Input::Done(Op(op)));
        }
    }

    /// Lets the kernel handle so many deadlines in one decision.
    pub fn batch(&mut self, tick_batch: u64) {
        if let Some(kernel) = self.clerk.keeper.as_mut().and_then(Keeper::kernel_mut) {
            rewrite(kernel, "config", |_, row| {
                let mut config = KernelConfig::from_bytes(&row).expect("a row that was frozen");
                config.tick_batch = tick_batch;
                config.to_bytes()
            });
        }
    }

    /// Lets time pass, all at once.
    pub fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.wall_ms += millis;
        self.clerk.input(self.now, self.wall_ms, keeper::Input::Tick);
        self.settle();
    }

    /// Asks for something to be done. Returns what came of it, if anything did.
    pub fn command(&mut self, command: Command) -> Option<Reply> {
        self.calls += 1;
        self.clerk.command(self.now, self.wall_ms, self.calls, command);
        self.settle();
        self.replies.remove(&self.calls)
    }

    /// Asks for something to be told. Returns what came of it, if anything did.
    pub fn query(&mut self, by: Principal, query: Query) -> Option<Told> {
        self.calls += 1;
        self.clerk.ask((self.now, self.wall_ms), self.calls, by, query);
        self.settle();
        let answers = mem::take(&mut self.clerk.answers);
        answers.into_iter().find(|(call, _)| call.0 == self.calls).map(|(_, told)| told)
    }

    /// Returns the kernel, if it still serves.
    #[must_use]
    pub fn kernel(&self) -> Option<&Kernel> {
        self.clerk.kernel()
    }

    /// Returns the roots of all tables but the configuration.
    pub fn roots(&mut self) -> Vec<[u8; 32]> {
        let Some(kernel) = self.clerk.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return Vec::new();
        };
        let _ = kernel.root(); // So that all of the state is in the tables.
        let tables = 1..KernelPart::TABLES.len(); // The first is the configuration.
        let root = |number| KernelPart::table(kernel, number).expect("it has the table").root();
        tables.map(root).collect()
    }
}
