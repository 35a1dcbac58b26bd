//! Section 7, second half: dispatches and their tries (K200–K212).
//!
//! What is left open by the rules and taken as the kernel has it: a service of a type "accepts"
//! (K202) if K201 takes one more call of it; after a start a try of the node itself has its full
//! time again, as its lease is the same (K11, K204).

use machines::kernel::dispatch::{ApprovalUse, Target};
use machines::kernel::dispatch::{Completion, DispatchOutcome, ServiceRequest, Stage as Real};
use machines::kernel::ids::{DispatchId, LeaseId, ProcessId, ReservationId, ServiceName, UserId};
use machines::kernel::interrupts::approval::Use;
use machines::kernel::json::Json;
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::principal::Holder;
use machines::kernel::quota::Amounts;
use machines::kernel::state::State;
use machines::kernel::{Code, Time};

use super::process::{End, Open};
use super::services::Service;
use super::values::characters;
use super::{Answer, Kernel, Note, Wrong};

/// The end of a dispatch whose workers or service went away.
pub(super) const LOST: DispatchOutcome = DispatchOutcome::Lost;

/// What a try was completed with, to know a repeat by (K206).
type Done = (bool, Option<Json>, Option<String>, Option<ErrorKind>);

/// A try that is live.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in section 10")]
pub struct Try {
    pub lease: LeaseId,
    /// Nobody is the node itself.
    pub holder: Option<Holder>,
    pub deadline: Time,
    pub until: Time,
    /// What a start gives it again (K11).
    pub length: u64,
}

/// Where a dispatch stands.
#[derive(Clone, Debug)]
pub enum Stage {
    /// It waits for its turn.
    Waiting {
        /// Since when.
        since: Time,
        /// Its number among all that began to wait.
        number: u64,
    },
    /// It waits for the time of its next try.
    Pausing(Time),
    /// A try is live.
    Running(Try),
    /// It ended so, then.
    Over(DispatchOutcome, Time),
}

/// One dispatch.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in 2.5")]
pub struct Dispatch {
    pub user: UserId,
    /// What was asked for, but the id; and whether as inference.
    pub asked: (ServiceRequest, bool),
    pub service: ServiceName,
    pub made_at: Time,
    /// What is reserved until the first try (K212).
    pub kept: Option<ReservationId>,
    pub tries: u32,
    pub failures: u32,
    pub lost: u64,
    /// Tries that ended.
    pub ended: Vec<EndedTry>,
    pub stage: Stage,
}

/// A try that ended, which is its worker's still (K27, K206).
#[derive(Clone, Debug)]
pub struct EndedTry {
    /// Its lease.
    pub lease: LeaseId,
    /// The worker that had it; none where the node itself was to call.
    pub holder: Option<Holder>,
    /// What it was completed with.
    pub done: Option<Done>,
}

impl Dispatch {
    /// Says whether it has not ended (K207).
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Over(..))
    }

    const fn live(&self) -> Option<&Try> {
        match &self.stage {
            Stage::Running(live) => Some(live),
            Stage::Waiting { .. } | Stage::Pausing(_) | Stage::Over(..) => None,
        }
    }

    const fn band(&self) -> u8 {
        self.asked.0.priority.number() - 1
    }
}

impl Kernel {
    /// K200–K202, K212.
    pub(super) fn dispatch(&mut self, request: &ServiceRequest, inference: bool) -> Answer {
        self.only_caller(request.pid.as_ref())?;
        let user = match &request.pid {
            Some(pid) => self.of(pid).user.clone(),
            None => self.by.user.clone(),
        };
        let asked = (ServiceRequest { dispatch: None, ..request.clone() }, inference);
        if let Some(old) = request.dispatch.as_ref().and_then(|id| self.dispatches.get(id)) {
            if old.user != user && !self.is_trusted() {
                return Err(Code::PermissionDenied);
            }
            let same = old.user == user && old.asked == asked;
            return match same && !self.is(Wrong::DispatchAgain) {
                true => Ok(()),
                false => Err(Code::DispatchConflict),
            };
        }
        let id = request.dispatch.clone().or(self.minted.dispatch.clone());
        let (service, amounts) = self.may_dispatch(request, id.as_ref(), inference)?;
        let Some(id) = id else {
            self.note(Note::Recorded(ProcessId::parse("pid", "nobody").expect("it is an id")));
            return Ok(());
        };
        let mut kept = None;
        if let Some(pid) = &request.pid {
            if let Some(approval) = &request.approval {
                self.use_approval(pid, &use_by(approval, &id))?;
            }
            kept = amounts.and_then(|amounts| self.keep(pid, amounts));
        }
        let dispatch = Dispatch {
            user,
            asked,
            service,
            made_at: self.now,
            kept,
            tries: 0,
            failures: 0,
            lost: 0,
            ended: Vec::new(),
            stage: Stage::Pausing(self.now),
        };
        self.dispatches.insert(id.clone(), dispatch);
        self.note(Note::Queued(id.clone()));
        self.wait_for_turn(&id);
        self.start_waiting();
        if let Some(pid) = &request.pid {
            self.renew_lease(pid);
        }
        Ok(())
    }

    /// All that can refuse one that is new.
    fn may_dispatch(
        &mut self,
        request: &ServiceRequest,
        id: Option<&DispatchId>,
        inference: bool,
    ) -> Result<(ServiceName, Option<Amounts>), Code> {
        self.only_serving()?;
        if request.method.is_empty() {
            return Err(Code::Required);
        }
        let spans = std::iter::once(request.try_timeout_ms).chain(request.deadline_ms);
        let most = self.config.limits.span_ms;
        if spans.into_iter().any(|span| span == 0 || span > most) {
            return Err(Code::BadValue);
        }
        if let Some(pid) = &request.pid {
            self.only_live(pid)?;
        }
        let service = self.find(&request.target)?;
        self.service(&service)?;
        if !request.queue {
            self.takes(&service)?;
        }
        let idle = |one: &Dispatch| {
            let idle = matches!(one.stage, Stage::Waiting { .. } | Stage::Pausing(_));
            one.service == service && idle
        };
        let waiting = self.dispatches.values().filter(|one| idle(one)).count();
        if waiting as u64 >= self.config.limits.dispatches_waiting {
            return Err(Code::QueueFull);
        }
        let amounts = match inference {
            true => Some(self.may_infer(request)?),
            false => None,
        };
        if let Some(approval) = &request.approval {
            let pid = request.pid.as_ref().ok_or(Code::ApprovalNotUsable)?;
            let nobody = || DispatchId::parse("dispatch", "nobody").expect("it is an id");
            self.may_use(pid, &use_by(approval, &id.cloned().unwrap_or_else(nobody)))?;
        }
        Ok((service, amounts))
    }

    /// K202.
    fn find(&self, target: &Target) -> Result<ServiceName, Code> {
        let (of, can) = match target {
            Target::Name { name } => return Ok(name.clone()),
            Target::Type { service_type, capability } => (service_type, capability),
        };
        let able = |one: &Service| {
            let can = can.as_ref().is_none_or(|can| one.info.capabilities.contains(can));
            one.info.service_type == *of && can
        };
        let all = || self.services.iter().filter(|(_, one)| able(one));
        let share = |name: &ServiceName, one: &Service| {
            self.load(name) * 1_000_000 / self.capacity(one).max(1)
        };
        let open = all().filter(|(name, _)| self.takes(name).is_ok());
        let best = open.min_by_key(|(name, one)| (share(name, one), (*name).clone()));
        let best = best.filter(|_| !self.is(Wrong::AnyOfType));
        let other = || all().min_by_key(|(name, _)| (self.waiting(name), (*name).clone()));
        best.or_else(other).map(|(name, _)| name.clone()).ok_or(Code::ServiceNotFound)
    }

    /// K120, K212.
    fn may_infer(&mut self, request: &ServiceRequest) -> Result<Amounts, Code> {
        let pid = request.pid.as_ref().ok_or(Code::Required)?;
        let inference_input_chars = characters(&request.data);
        let amounts = Amounts { inference_requests: 1, inference_input_chars, ..Amounts::ZERO };
        if self.of(pid).open.len() as u64 >= self.config.limits.reservations {
            return Err(Code::TooMany);
        }
        self.fits(pid, &amounts)?;
        self.pass_process_rate(pid, &amounts)?;
        Ok(amounts)
    }

    /// Reserves for a dispatch: no lease ends it before the first try or the end (K212).
    fn keep(&mut self, pid: &ProcessId, amounts: Amounts) -> Option<ReservationId> {
        let id = self.minted.reservation.clone()?;
        // Nobody can ask for a lease of 0 ms: so none asks for the same.
        let open = Open {
            asked: (amounts, Some(0), None),
            until: Time::FAR,
            length: 0,
            holder: self.holder.clone(),
        };
        self.take_process_hit(pid, &amounts);
        self.hold(pid, &id, open);
        Some(id)
    }

    /// It waits from now on; a user that enters a band of a service takes the last turn (K203).
    fn wait_for_turn(&mut self, id: &DispatchId) {
        self.queued += 1;
        let stage = Stage::Waiting { since: self.now, number: self.queued };
        let one = self.dispatches.get_mut(id).expect("it was made");
        one.stage = stage;
        let line = self.lines.entry((one.service.clone(), one.band())).or_default();
        if !line.contains(&one.user) {
            line.push(one.user.clone());
        }
    }

    /// It waits no more. A user that was served goes to the end; one with no more leaves (K72).
    fn leave_line(&mut self, id: &DispatchId, served: bool) {
        let one = &self.dispatches[id];
        if !matches!(one.stage, Stage::Waiting { .. }) {
            return;
        }
        let (place, user) = ((one.service.clone(), one.band()), one.user.clone());
        let waits = |of: &DispatchId, one: &Dispatch| {
            let here = one.service == place.0 && one.band() == place.1 && one.user == user;
            of != id && here && matches!(one.stage, Stage::Waiting { .. })
        };
        let more = self.dispatches.iter().any(|(of, one)| waits(of, one));
        let line = self.lines.entry(place).or_default();
        if served || !more {
            line.retain(|one| *one != user);
        }
        if served && more {
            line.push(user);
        }
    }

    /// K203: as K70–K72, while there is room and the node does not drain (K362).
    fn next_dispatch(&self, name: &ServiceName) -> Option<DispatchId> {
        let room = self.load(name) < self.capacity(self.services.get(name)?);
        if !room || (self.drain.is_some() && !self.is(Wrong::DrainStarts)) {
            return None;
        }
        let since = |one: &Dispatch| match one.stage {
            Stage::Waiting { since, number } if one.service == *name => Some((since, number)),
            Stage::Waiting { .. } | Stage::Pausing(_) | Stage::Running(_) | Stage::Over(..) => None,
        };
        let all = || self.dispatches.iter().filter_map(|(id, one)| Some((since(one)?, id, one)));
        let age = |band: u8| {
            let first =
                all().filter(|(_, _, one)| one.band() == band).map(|(at, _, _)| at).min()?;
            Some((first.0.as_millis() + u64::from(band) * self.config.ageing_ms, band))
        };
        let band = (0..5).filter_map(age).min()?.1;
        let user = self.lines.get(&(name.clone(), band))?.first()?;
        let mine = all().filter(|(_, _, one)| one.band() == band && one.user == *user);
        let next = match self.is(Wrong::NewestDispatch) {
            true => mine.max_by_key(|(at, _, _)| *at),
            false => mine.min_by_key(|(at, _, _)| *at),
        };
        next.map(|(_, id, _)| id.clone())
    }

    /// The node itself starts what it can, at once (K204).
    pub(super) fn start_waiting(&mut self) {
        let names = self.services.iter().filter(|(_, one)| one.is_push() && one.bound);
        let names: Vec<ServiceName> = names.map(|(name, _)| name.clone()).collect();
        for name in names {
            while let Some(id) = self.next_dispatch(&name) {
                self.start_try(&id, None);
            }
        }
    }

    /// K205.
    pub(super) fn lease_tasks(&mut self, name: &ServiceName, max: u32) -> Answer {
        self.only_worker_of(name)?;
        if self.service(name)?.is_push() {
            return Err(Code::BadValue);
        }
        if u64::from(max) > self.config.limits.page {
            return Err(Code::TooLarge);
        }
        for _ in 0..max {
            let Some(id) = self.next_dispatch(name) else {
                break;
            };
            self.start_try(&id, Some(self.holder.clone()));
        }
        Ok(())
    }

    fn start_try(&mut self, id: &DispatchId, holder: Option<Holder>) {
        self.leave_line(id, true);
        let none = || LeaseId::parse("lease", "none").expect("it is an id");
        let lease = self.minted.tries.pop_front().unwrap_or_else(none);
        let (now, task) = (self.now, self.config.task_lease_ms);
        let one = self.dispatches.get_mut(id).expect("it waits");
        let timeout = one.asked.0.try_timeout_ms;
        let length = if holder.is_some() { task } else { timeout };
        let (deadline, until) = (now.plus(timeout), now.plus(length));
        one.stage = Stage::Running(Try { lease, holder, deadline, until, length });
        one.tries += 1;
        let (tries, kept, pid) = (one.tries, one.kept.take(), one.asked.0.pid.clone());
        self.note(Note::Tried(id.clone(), tries));
        // Whatever comes of it (K212).
        if let (Some(kept), Some(pid)) = (kept, pid) {
            let amounts = self.of(&pid).open.get(&kept).map(|open| open.asked.0);
            match amounts.filter(|_| !self.is(Wrong::TriesAreFree)) {
                Some(amounts) => self.close_with(&pid, &kept, End::Settled(amounts)),
                None => self.close_with(&pid, &kept, End::Released),
            }
        }
    }

    /// The dispatch whose live try has a lease.
    pub(super) fn trying(&self, lease: &LeaseId) -> Option<DispatchId> {
        let live = |one: &Dispatch| one.live().is_some_and(|live| live.lease == *lease);
        self.dispatches.iter().find(|(_, one)| live(one)).map(|(id, _)| id.clone())
    }

    /// Where dispatches of a process are tried now (2.3).
    pub(super) fn tried_at(&self, pid: &ProcessId) -> Vec<ServiceName> {
        let of = |one: &&Dispatch| one.asked.0.pid.as_ref() == Some(pid) && one.live().is_some();
        self.dispatches.values().filter(of).map(|one| one.service.clone()).collect()
    }

    /// K205, K211. What the node itself works on ends at its deadline and not before (K204).
    pub(super) fn renew_try(&mut self, id: &DispatchId, asked: Option<u64>) -> Answer {
        let holder = self.dispatches[id].live().and_then(|live| live.holder.clone());
        if !holder.is_some_and(|holder| self.has(&holder) || self.by.is_operator()) {
            return Err(Code::NotHolder);
        }
        let until = self.now.plus(self.length(asked, self.config.task_lease_ms)?);
        let one = self.dispatches.get_mut(id).expect("it is tried");
        let service = one.service.clone();
        let watched = self.services.get(&service).is_some_and(Service::is_watched);
        if let Stage::Running(live) = &mut one.stage
            && (until > live.until || watched)
        {
            live.until = live.until.max(until);
            self.note(Note::TryRenewed(id.clone()));
            self.hear(&service);
        }
        Ok(())
    }

    /// The try that had a lease, and ended.
    pub(super) fn ended_try(&self, lease: &LeaseId) -> Option<&EndedTry> {
        let mut ended = self.dispatches.values().flat_map(|one| &one.ended);
        ended.find(|ended| ended.lease == *lease)
    }

    /// Access of who works on a try, live or ended, and of operators (K27, K370).
    pub(super) fn only_works_on(&self, worker: Option<&Holder>) -> Answer {
        let may = match worker {
            Some(holder) => self.has(holder) || self.by.is_operator(),
            None => self.by.is_node(),
        };
        if may { Ok(()) } else { Err(Code::NotHolder) }
    }

    /// K206.
    pub(super) fn complete(&mut self, told: &Completion) -> Answer {
        let done = (told.success, told.data.clone(), told.error.clone(), told.error_kind);
        let Some(id) = self.trying(&told.lease) else {
            let ended = self.ended_try(&told.lease).ok_or(Code::StaleLease)?;
            self.only_works_on(ended.holder.as_ref())?;
            return match ended.done == Some(done) || self.is(Wrong::OldLease) {
                true => Ok(()),
                false => Err(Code::StaleLease),
            };
        };
        let holder = self.dispatches[&id].live().and_then(|live| live.holder.clone());
        self.only_works_on(holder.as_ref())?;
        self.text(told.error.as_deref().unwrap_or_default())?;
        let kinds = [None, Some(ErrorKind::Tool), Some(ErrorKind::Llm), Some(ErrorKind::Policy)];
        let failed = told.error.is_some() || told.error_kind.is_some();
        if !kinds.contains(&told.error_kind) || (told.success && failed) {
            return Err(Code::BadValue);
        }
        let service = self.dispatches[&id].service.clone();
        self.hear(&service);
        match told.success {
            true => self.finish(&id, DispatchOutcome::Succeeded, Some(done)),
            false => {
                let kind = told.error_kind.unwrap_or(ErrorKind::Dispatch);
                self.fail(&id, kind, Some(done));
            }
        }
        Ok(())
    }

    /// A try failed (K209).
    pub(super) fn fail(&mut self, id: &DispatchId, kind: ErrorKind, done: Option<Done>) {
        let one = &self.dispatches[id];
        let (failures, policy) = (one.failures + 1, one.asked.0.retry.clone());
        let most = policy.max_retries + u32::from(self.is(Wrong::OneMoreRetry));
        let again = kind != ErrorKind::Policy && policy.retry_on.contains(&kind);
        if failures > most || !again {
            self.finish(id, DispatchOutcome::Failed, done);
            return;
        }
        let mut wait = policy.initial_backoff_ms;
        for _ in 1..failures {
            wait = wait * u64::from(policy.multiplier_pct) / 100;
        }
        let wait = wait.min(policy.max_backoff_ms);
        // Chance takes a part of it away: which, only the machine knows.
        let mut drawn = (0..=u64::from(policy.jitter_pct))
            .map(|percent| self.now.plus(wait - wait * percent / 100));
        let minted = self.minted.retries.pop_front();
        let right = minted.filter(|minted| drawn.any(|at| at == *minted));
        let at = right.unwrap_or(self.now.plus(wait));
        self.end_try(id, done);
        self.note(Note::Retried(id.clone(), kind));
        let one = self.dispatches.get_mut(id).expect("it was tried");
        one.failures += 1;
        one.stage = Stage::Pausing(at);
        if at <= self.now {
            self.wait_for_turn(id);
        }
    }

    /// Its worker was not heard of (K210).
    pub(super) fn lose(&mut self, id: &DispatchId) {
        if self.dispatches[id].lost >= self.config.max_lost {
            self.finish(id, LOST, None);
            return;
        }
        let counts = self.is(Wrong::LostIsFailure);
        self.minted.retries.pop_front();
        self.end_try(id, None);
        self.note(Note::Retried(id.clone(), ErrorKind::WorkerLost));
        let one = self.dispatches.get_mut(id).expect("it was tried");
        match counts {
            true => one.failures += 1,
            false => one.lost += 1,
        }
        self.wait_for_turn(id);
    }

    /// The time of the next try has come (K209).
    pub(super) fn wake(&mut self, id: &DispatchId) {
        self.note(Note::Requeued(id.clone()));
        self.wait_for_turn(id);
    }

    fn end_try(&mut self, id: &DispatchId, done: Option<Done>) {
        let one = self.dispatches.get_mut(id).expect("it was made");
        if let Some(Try { lease, holder, .. }) = one.live().cloned() {
            one.ended.push(EndedTry { lease, holder, done });
        }
    }

    /// It ends, once (K207). What was never tried costs nothing (K212).
    pub(super) fn finish(&mut self, id: &DispatchId, outcome: DispatchOutcome, done: Option<Done>) {
        if !self.dispatches[id].is_open() {
            return;
        }
        self.leave_line(id, false);
        self.end_try(id, done);
        let now = self.now;
        let one = self.dispatches.get_mut(id).expect("it was made");
        one.stage = Stage::Over(outcome, now);
        let (kept, pid) = (one.kept.take(), one.asked.0.pid.clone());
        self.note(Note::Finished(id.clone(), outcome));
        if let (Some(kept), Some(pid)) = (kept, pid)
            && self.of(&pid).open.contains_key(&kept)
        {
            self.close_with(&pid, &kept, End::Released);
        }
    }

    /// K211; one that has ended stays as it is.
    pub(super) fn cancel_dispatch(&mut self, id: &DispatchId) -> Answer {
        let one = self.dispatches.get(id).ok_or(Code::DispatchNotFound)?;
        if one.user != self.by.user && !self.is_trusted() {
            return Err(Code::PermissionDenied);
        }
        self.finish(id, DispatchOutcome::Cancelled, None);
        Ok(())
    }

    /// The end of a process (K82, K211).
    pub(super) fn cancel_dispatches(&mut self, pid: &ProcessId) {
        let of = |one: &Dispatch| one.is_open() && one.asked.0.pid.as_ref() == Some(pid);
        let all = self.dispatches.iter().filter(|(_, one)| of(one));
        let all: Vec<DispatchId> = all.map(|(id, _)| id.clone()).collect();
        for id in all {
            self.finish(&id, DispatchOutcome::Cancelled, None);
        }
    }

    /// When those that ended are kept no longer (K360).
    pub(super) fn dispatches_kept_until(&self) -> Vec<(Time, DispatchId)> {
        let kept = self.config.retention.dispatch_ms;
        let until = |one: &Dispatch| match one.stage {
            Stage::Over(_, at) => Some(at.plus(kept)),
            Stage::Waiting { .. } | Stage::Pausing(_) | Stage::Running(_) => None,
        };
        let all = self.dispatches.iter();
        let mut all: Vec<_> = all.filter_map(|(id, one)| Some((until(one)?, id.clone()))).collect();
        all.sort();
        all
    }

    /// K360, K361: oldest first.
    pub(super) fn forget_dispatches(&mut self) {
        let due = self.dispatches_kept_until().into_iter().filter(|(at, _)| *at <= self.now);
        let due: Vec<DispatchId> = due.map(|(_, id)| id).collect();
        if !due.is_empty() {
            self.dispatches.retain(|id, _| !due.contains(id));
            self.note(Note::DispatchesGone(due));
        }
    }

    /// Leases and times of tries after a start (K11).
    pub(super) fn restart_tries(&mut self) {
        let now = self.now;
        for one in self.dispatches.values_mut() {
            if let Stage::Running(live) = &mut one.stage {
                live.until = live.until.max(now.plus(live.length));
                if live.holder.is_none() {
                    live.deadline = live.deadline.max(live.until);
                }
            }
        }
    }

    /// Says in what the machine's dispatches differ.
    #[must_use]
    pub fn dispatches_differ(&self, state: &State) -> Option<String> {
        self.dispatches.iter().find_map(|(id, one)| {
            let Some(real) = state.dispatch(id) else {
                return Some(format!("{id} is missing"));
            };
            let lease = |lease: &LeaseId| state.slot(lease).map(|slot| slot.until);
            let alike = match (&one.stage, &real.stage) {
                (Stage::Waiting { since, .. }, Real::Waiting { since: real, .. }) => since == real,
                (Stage::Pausing(until), Real::Pausing { until: real }) => until == real,
                (Stage::Running(live), Real::Running { live: real }) => {
                    (&live.lease, live.deadline) == (&real.lease, real.deadline)
                        && lease(&live.lease) == Some(live.until)
                        && state.worker_of(id) == live.holder.as_ref()
                }
                (Stage::Over(outcome, at), Real::Ended { end }) => {
                    (*outcome, *at) == (end.outcome, end.at)
                }
                (_, _) => false,
            };
            let counts = (one.tries, one.failures, one.lost);
            let counts = (real.tries, real.failures, u64::from(real.lost)) == counts;
            let whose = real.user == one.user && real.service == one.service;
            let right = alike && counts && whose;
            (!right).then(|| format!("{id}: {real:?}, not {one:?}"))
        })
    }

    /// Says whether the machine still knows dispatches that are gone.
    #[must_use]
    pub fn dispatch_stays(&self, state: &State, ids: &[DispatchId]) -> Option<String> {
        let stays =
            |id: &&DispatchId| state.dispatch(id).is_some() && !self.dispatches.contains_key(*id);
        ids.iter().find(stays).map(|id| format!("{id} should not exist"))
    }
}

/// The use of an approval by a dispatch, whose id is what it is known by (K170).
fn use_by(approval: &ApprovalUse, id: &DispatchId) -> Use {
    let use_id = machines::kernel::ids::UseId::parse("use_id", id.as_str());
    Use {
        interrupt: approval.interrupt.clone(),
        action: approval.action.clone(),
        params: approval.params.clone(),
        use_id: use_id.expect("an id of a dispatch is an id of a use"),
    }
}
