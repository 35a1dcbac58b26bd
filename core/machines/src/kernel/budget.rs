//! Budgets: reserve, settle, release, record, adjust (section 4).

use crate::codec::Wire;

use super::decision::Decision;
use super::event::QuotaEvent;
use super::ids::{AttemptId, ProcessId, RecordId, ReservationId};
use super::process::{Closed, ContentHash, Process, Reservation, record_key, short_hash};
use super::quota::{Amounts, Limit, Quota, QuotaPatch, Resource, SUM_MAX, Usage};
use super::rates::counts_for_rate;
use super::refusal::{Code, Refusal};
use super::time::Millis;

/// A part of the budget to be kept for calls to come (K102).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reserve {
    /// Whose budget.
    pub pid: ProcessId,
    /// Its id, if the caller chooses it.
    pub reservation: Option<ReservationId>,
    /// For which attempt.
    pub attempt: Option<AttemptId>,
    /// How much.
    pub amounts: Amounts,
    /// For how long.
    pub lease_ms: Option<Millis>,
}

impl Reserve {
    /// Returns what a repeat is known by: all fields but the ids (K108).
    fn digest(&self) -> ContentHash {
        content(&[&|out| self.attempt.encode(out), &|out| self.amounts.encode(out), &|out| {
            self.lease_ms.encode(out)
        }])
    }
}

/// Use that is told after the fact (K109).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Whose.
    pub pid: ProcessId,
    /// How much.
    pub amounts: Amounts,
    /// Hops.
    pub agent_hops: u64,
    /// Of which attempt.
    pub attempt: Option<AttemptId>,
    /// What it is known by, so that it is taken once.
    pub record: Option<RecordId>,
}

/// Lists the resources of which more is used than allowed, as texts (K115).
#[must_use]
pub fn exceeded(quota: &Quota, usage: &Usage) -> Vec<String> {
    let text = |resource: Resource| {
        let (limit, used) = (quota.limit(resource), usage.of(resource));
        match (limit.allows(used), resource) {
            (true, _) => None,
            (false, Resource::ElapsedMs) => Some(format!("timeout_exceeded: {used} of {limit}")),
            (false, _) => Some(format!("max_{}_exceeded: {used} of {limit}", resource.name())),
        }
    };
    Resource::ALL.into_iter().filter_map(text).collect()
}

/// Writes a part of what was asked for.
type Part<'a> = &'a dyn Fn(&mut Vec<u8>);

fn content(parts: &[Part<'_>]) -> ContentHash {
    let mut bytes = Vec::new();
    for part in parts {
        part(&mut bytes);
    }
    short_hash(&bytes)
}

impl Decision<'_> {
    /// Keeps a part of the budget, at every level (K102, K103, K108).
    pub(super) fn reserve(&mut self, reserve: &Reserve) -> Result<ReservationId, Refusal> {
        let pid = &reserve.pid;
        match &reserve.reservation {
            Some(id) => self.held_or_reserved(pid, id)?,
            None => self.held(pid)?,
        };
        self.check_amounts(&reserve.amounts)?;
        let lease = self.lease_length(reserve.lease_ms, self.state.config.reservation_lease_ms)?;
        let content = reserve.digest();
        if let Some(id) = &reserve.reservation
            && self.is_reserved(pid, id, content)?
        {
            return Ok(id.clone());
        }
        self.check_attempt(reserve.attempt.as_ref())?;
        let drawn = self.check_reserve(reserve)?;
        // The attempt that holds it was counted when it was handed out (K121).
        let counts = counts_for_rate(&reserve.amounts.minus(&drawn));
        if counts {
            self.refuse_process_rate(pid)?;
        }
        crate::sometimes!("kernel.hold_drawn", !drawn.is_zero());
        let taken = |state: &super::state::State, id: &ReservationId| {
            state.process(pid).is_some_and(|process| process.reservations.contains_key(id))
        };
        let reservation = match &reserve.reservation {
            Some(id) => id.clone(),
            None => self.mint(taken),
        };
        if counts {
            self.hit_process(pid);
        }
        let event = QuotaEvent::Reserved {
            reservation: reservation.clone(),
            attempt: reserve.attempt.clone(),
            amounts: reserve.amounts,
            until: self.now.plus(lease),
            content,
            holder: self.holder(),
        };
        self.emit_quota(pid, event);
        self.watch(pid);
        Ok(reservation)
    }

    /// Says whether a reservation was asked for before, with the same content (K108).
    fn is_reserved(
        &self,
        pid: &ProcessId,
        id: &ReservationId,
        content: ContentHash,
    ) -> Result<bool, Refusal> {
        self.check_id("reservation_id", id.as_str())?;
        let process = self.known(pid)?;
        let open = process.reservations.get(id).map(|open| open.content);
        let known = open.or_else(|| process.closed_as(id.as_str()).map(|one| one.content));
        match known {
            Some(known) if known == content => Ok(true),
            Some(_) => {
                let told = format!("reservation {id} exists with different content");
                Err(Refusal::new(Code::ReservationConflict, told))
            }
            None => Ok(false),
        }
    }

    /// Refuses what cannot be reserved; returns what an attempt holds of it already (K104).
    fn check_reserve(&self, reserve: &Reserve) -> Result<Amounts, Refusal> {
        let pid = &reserve.pid;
        let process = self.known(pid)?;
        refuse_terminal(pid, process)?;
        let most = self.state.config.limits.reservations;
        if process.reservations.len() as u64 >= most {
            let told = format!("open reservations of {pid}: at most {most}");
            return Err(Refusal::new(Code::TooMany, told));
        }
        let drawn = self.state.drawable(pid, reserve.attempt.as_ref(), &reserve.amounts);
        self.check_fits(pid, &reserve.amounts, &drawn)?;
        Ok(drawn)
    }

    pub(super) fn check_amounts(&self, amounts: &Amounts) -> Result<(), Refusal> {
        let most = self.state.config.limits.amount;
        let too_large = Resource::RESERVABLE.into_iter().find(|of| amounts.of(*of) > most);
        match too_large {
            Some(resource) => {
                let amount = amounts.of(resource);
                let told = format!("{}: {amount}, at most {most}", resource.name());
                Err(Refusal::new(Code::AmountTooLarge, told))
            }
            None => Ok(()),
        }
    }

    /// Refuses what does not fit the process, its session or an ancestor (K102), or one call's
    /// context (K103). What is `drawn` from the hold of an attempt fits already (K104).
    pub(super) fn check_fits(
        &self,
        pid: &ProcessId,
        amounts: &Amounts,
        drawn: &Amounts,
    ) -> Result<(), Refusal> {
        let anew = amounts.minus(drawn);
        if let Some(shortage) = self.state.shortage(pid, &anew) {
            return Err(Refusal::new(Code::QuotaExceeded, shortage.to_string()));
        }
        self.check_sums(pid, &anew)?;
        let context = amounts.tokens_in.saturating_add(amounts.tokens_out);
        let most = self.known(pid)?.quota.max_context_tokens;
        match most.allows(context) {
            true => Ok(()),
            false => {
                let told = format!("context_tokens: {context}, limit {most}");
                Err(Refusal::new(Code::QuotaExceeded, told))
            }
        }
    }

    /// Refuses what would take a sum past what is counted, at the process or an ancestor (K9).
    pub(super) fn check_sums(&self, pid: &ProcessId, anew: &Amounts) -> Result<(), Refusal> {
        for (_, process) in self.state.lineage(pid) {
            let over = Resource::RESERVABLE.into_iter().find(|resource| {
                process.account.taken(*resource).saturating_add(anew.of(*resource)) > SUM_MAX
            });
            if let Some(resource) = over {
                return Err(past_the_sum(resource));
            }
        }
        Ok(())
    }

    /// Charges what was really used (K105).
    pub(super) fn settle(
        &mut self,
        pid: &ProcessId,
        id: &ReservationId,
        actual: &Amounts,
    ) -> Result<(), Refusal> {
        let process = self.held_or_reserved(pid, id)?;
        self.check_amounts(actual)?;
        let Some(open) = process.reservations.get(id) else {
            return closed(process, id, Closed::Settled { actual: *actual });
        };
        refuse_kept(id, open)?;
        let excess = actual.minus(&open.amounts);
        self.check_sums(pid, &excess)?;
        let event = QuotaEvent::Settled { reservation: id.clone(), actual: *actual, excess };
        self.emit_quota(pid, event);
        self.watch(pid);
        Ok(())
    }

    /// Gives back what was not used (K106).
    pub(super) fn release(&mut self, pid: &ProcessId, id: &ReservationId) -> Result<(), Refusal> {
        let process = self.held_or_reserved(pid, id)?;
        let Some(open) = process.reservations.get(id) else {
            return closed(process, id, Closed::Released);
        };
        refuse_kept(id, open)?;
        self.emit_quota(pid, QuotaEvent::Released { reservation: id.clone() });
        Ok(())
    }

    /// A reservation's lease ended: the call may have been made (K107).
    pub(super) fn charge_in_full(&mut self, pid: &ProcessId, id: &ReservationId) {
        let open = self.state.process(pid).and_then(|process| process.reservations.get(id));
        if let Some(charged) = open.map(|open| open.amounts) {
            crate::sometimes!("kernel.reservation_charged");
            self.emit_quota(pid, QuotaEvent::Expired { reservation: id.clone(), charged });
            self.watch(pid);
        }
    }

    /// Charges everything that is still reserved (K122).
    pub(super) fn charge_all(&mut self, pid: &ProcessId) {
        let open = self.state.process(pid).map(|process| &process.reservations);
        let open: Vec<ReservationId> =
            open.into_iter().flat_map(|open| open.keys().cloned()).collect();
        for id in open {
            self.charge_in_full(pid, &id);
        }
    }

    fn check_attempt(&self, attempt: Option<&AttemptId>) -> Result<(), Refusal> {
        self.check_id("attempt_id", attempt.map_or("", AttemptId::as_str))
    }

    /// Finds the process of a record, which may be of who runs it, or who reserved for the same
    /// attempt and has not settled yet (K27).
    fn held_to_record(&self, record: &Record) -> Result<&Process, Refusal> {
        let (process, holder) = (self.known(&record.pid)?, self.holder());
        let mut open = process.reservations.values();
        match open.any(|open| open.holder == holder && open.attempt == record.attempt) {
            true => Ok(process),
            false => self.held(&record.pid),
        }
    }

    /// Takes down use that happened, whatever the limits (K109).
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Refusal> {
        let pid = &record.pid;
        let process = self.held_to_record(record)?;
        self.check_attempt(record.attempt.as_ref())?;
        self.check_amounts(&record.amounts)?;
        let most = self.state.config.limits.amount;
        if record.agent_hops > most {
            let told = format!("agent_hops: {}, at most {most}", record.agent_hops);
            return Err(Refusal::new(Code::AmountTooLarge, told));
        }
        let content = content(&[
            &|out| record.attempt.encode(out),
            &|out| record.amounts.encode(out),
            &|out| record.agent_hops.encode(out),
        ]);
        if let Some(id) = &record.record {
            self.check_id("record_id", id.as_str())?;
            match process.closed_as(&record_key(id)).map(|known| known.content == content) {
                Some(true) => return Ok(()),
                Some(false) => {
                    let told = format!("record {id} exists with different content");
                    return Err(Refusal::new(Code::ReservationConflict, told));
                }
                None => {}
            }
        }
        refuse_terminal(pid, process)?;
        self.check_sums(pid, &record.amounts)?;
        if process.account.used.agent_hops.saturating_add(record.agent_hops) > SUM_MAX {
            return Err(past_the_sum(Resource::AgentHops));
        }
        let event = QuotaEvent::Recorded {
            amounts: record.amounts,
            agent_hops: record.agent_hops,
            attempt: record.attempt.clone(),
            record: record.record.clone(),
            content,
        };
        self.emit_quota(pid, event);
        self.watch(pid);
        Ok(())
    }

    /// Sets limits of one process (K117).
    pub(super) fn adjust_quota(
        &mut self,
        pid: &ProcessId,
        patch: &QuotaPatch,
    ) -> Result<(), Refusal> {
        let process = self.owned(pid)?;
        let mut after = process.quota;
        for (field, limit) in patch {
            let before = process.quota.field(*field);
            if *limit > before && !self.by.is_operator() {
                let told = format!("{}: only an operator raises it above {before}", field.name());
                return Err(Refusal::new(Code::PermissionDenied, told));
            }
            *after.field_mut(*field) = *limit;
        }
        super::config::check_quota("quota", &after)?;
        for (field, new) in patch {
            let old = self.known(pid)?.quota.field(*field);
            if old != *new {
                let (field, new) = (*field, *new);
                self.emit_quota(pid, QuotaEvent::Adjusted { field, old, new });
            }
        }
        self.watch(pid);
        self.rate_adjusted(pid, patch);
        Ok(())
    }

    /// Records, once, that much or more than all of a resource is taken, at every level (K113,
    /// K114).
    pub(super) fn watch(&mut self, pid: &ProcessId) {
        let percent = self.state.config.soft_percent;
        let mut next = Some(pid.clone());
        while let Some(level) = next.take() {
            let Some(process) = self.state.process(&level) else {
                return;
            };
            next.clone_from(&process.parent);
            for event in signals(process, percent) {
                self.emit_quota(&level, event);
            }
        }
    }

    /// Warns that the time of a process is nearly used up (K113).
    pub(super) fn warn_of_time(&mut self, pid: &ProcessId) {
        if let Some(process) = self.state.process(pid) {
            let (used, held) = (process.elapsed(self.now), 0);
            let (resource, limit) = (Resource::ElapsedMs, process.quota.timeout_ms);
            self.emit_quota(pid, QuotaEvent::Warning { resource, used, held, limit });
        }
    }
}

fn past_the_sum(resource: Resource) -> Refusal {
    let told = format!("{}: the sum would pass 2^63 - 1", resource.name());
    Refusal::new(Code::AmountTooLarge, told)
}

/// Lists what is to be told of what a process has taken, and was not told yet (K113, K114).
fn signals(process: &Process, percent: u64) -> Vec<QuotaEvent> {
    let (account, mut events) = (&process.account, Vec::new());
    let counted = [Resource::AgentHops, Resource::Iterations];
    for resource in Resource::RESERVABLE.into_iter().chain(counted) {
        let (used, held) = (account.used.of(resource), account.held.of(resource));
        let (limit, bit) = (process.quota.limit(resource), resource.bit());
        let (warned, told) = (account.warned & bit != 0, account.exceeded & bit != 0);
        if !warned && is_near(limit, used.saturating_add(held), percent) {
            events.push(QuotaEvent::Warning { resource, used, held, limit });
        }
        if !told && !limit.allows(used) {
            events.push(QuotaEvent::Exceeded { resource, used, held, limit });
        }
    }
    events
}

/// Says whether so much of a limit is taken that a warning is due (K113).
fn is_near(limit: Limit, taken: u64, percent: u64) -> bool {
    let near = |most: u64| {
        let (taken, most) = (u128::from(taken), u128::from(most));
        taken > 0 && taken * 100 >= most * u128::from(percent)
    };
    limit.most().is_some_and(near)
}

pub(super) fn refuse_terminal(pid: &ProcessId, process: &Process) -> Result<(), Refusal> {
    match process.is_live() {
        true => Ok(()),
        false => Err(Refusal::new(Code::ProcessTerminal, format!("process {pid} has ended"))),
    }
}

/// What is reserved for a dispatch is charged when its first try starts, whatever the outcome:
/// nobody settles or releases it before (K212).
fn refuse_kept(id: &ReservationId, open: &Reservation) -> Result<(), Refusal> {
    match open.is_of_dispatch() {
        true => {
            let told = format!("reservation {id} is of a dispatch, which closes it");
            Err(Refusal::new(Code::ReservationClosed, told))
        }
        false => Ok(()),
    }
}

/// Answers for a reservation that is not open: the same end again is a repeat (K108).
fn closed(process: &Process, id: &ReservationId, asked: Closed) -> Result<(), Refusal> {
    let Some(known) = process.closed_as(id.as_str()) else {
        let told = format!("reservation not found: {id}");
        return Err(Refusal::new(Code::ReservationNotFound, told));
    };
    let how = match known.closed {
        same if same == asked => return Ok(()),
        Closed::Settled { .. } => "was settled",
        Closed::Released => "was released",
        Closed::Charged => "was charged at the end of its lease",
        Closed::Recorded { .. } => "is a record of use",
    };
    Err(Refusal::new(Code::ReservationClosed, format!("reservation {id} {how}")))
}
