//! Section 4: the one ledger.

use machines::kernel::Code;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::config::LEASE_MS_MIN;
use machines::kernel::ids::{ProcessId, ReservationId};
use machines::kernel::names::{BlockReason, ProcessState};
use machines::kernel::quota::{Amounts, QuotaField, QuotaPatch, Resource};

use super::attempts::amounts_of;
use super::lifecycle::{limit_number, raised, soft_after_hard};
use super::process::{Asked, Closed, End, Open, Sums};
use super::{Answer, Kernel, Note, Wrong};

/// How a charge changes a row of the ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Charge {
    pub(super) used: Sums,
    pub(super) unreserved: Sums,
    pub(super) hold: Sums,
    pub(super) free: Sums,
}

impl Kernel {
    /// K102.
    pub(super) fn reserve(&mut self, reserve: &Reserve) -> Answer {
        let pid = &reserve.pid;
        match &reserve.reservation {
            Some(id) => self.only_party_or_reserver(pid, id)?,
            None => self.only_party(pid)?,
        }
        self.amounts(&reserve.amounts)?;
        let length = reserve.lease_ms.unwrap_or(self.config.reservation_lease_ms);
        if length < LEASE_MS_MIN {
            return Err(Code::BadValue);
        }
        if length > self.config.limits.lease_ms {
            return Err(Code::TooLarge); // K25.
        }
        let asked = (reserve.amounts, reserve.lease_ms, reserve.attempt.clone());
        if let Some(id) = &reserve.reservation
            && let Some(earlier) = self.asked_before(pid, id)
        {
            // K108.
            return match earlier == asked {
                true => {
                    self.renew_lease(pid);
                    Ok(())
                }
                false => Err(Code::ReservationConflict),
            };
        }
        self.only_live(pid)?;
        if self.of(pid).open.len() as u64 >= self.config.limits.reservations {
            return Err(Code::TooMany);
        }
        let quoted = self.quoted(pid, reserve.attempt.as_ref());
        let whole = reserve.amounts.tokens_in + reserve.amounts.tokens_out;
        if whole > limit_number(self.of(pid).quota.max_context_tokens) {
            return Err(Code::QuotaExceeded);
        }
        let anew = self.anew(pid, quoted, &reserve.amounts);
        self.fits(pid, &anew)?;
        self.pass_process_rate(pid, &anew)?;
        let id = reserve.reservation.clone().or(self.minted.reservation.clone());
        let Some(id) = id else {
            self.note(Note::Recorded(pid.clone()));
            return Ok(());
        };
        let (until, holder) = (self.now.plus(length), self.holder.clone());
        self.take_process_hit(pid, &anew);
        if let Some(at) = quoted {
            self.draw_hold(pid, at, &sums(&reserve.amounts));
        }
        let hold = sums(&anew);
        self.of_mut(pid).open.insert(id.clone(), Open { asked, until, length, holder });
        self.note(Note::Reserved(pid.clone(), id.clone()));
        self.charge(pid, &Charge { hold, ..Charge::default() });
        self.renew_lease(pid);
        Ok(())
    }

    /// Access of who runs the process, of its owner and operators, and of who asked for the
    /// reservation while it is open or remembered: it has a lease of its own (K27, K122).
    pub(super) fn only_party_or_reserver(&self, pid: &ProcessId, id: &ReservationId) -> Answer {
        let process = self.known(pid)?;
        let closed = process.closed.iter().rev().find_map(|one| match one {
            Closed::Reservation(other, _, _, holder) if other == id => Some(holder),
            Closed::Reservation(..) | Closed::Record(..) => None,
        });
        let asked = process.open.get(id).map(|open| &open.holder).or(closed);
        match asked == Some(&self.holder) && !self.is(Wrong::ReserverForgotten) {
            true => Ok(()),
            false => self.only_party(pid),
        }
    }

    /// Something is held from now on.
    pub(super) fn hold(&mut self, pid: &ProcessId, id: &ReservationId, open: Open) {
        let hold = sums(&open.asked.0);
        self.of_mut(pid).open.insert(id.clone(), open);
        self.note(Note::Reserved(pid.clone(), id.clone()));
        self.charge(pid, &Charge { hold, ..Charge::default() });
    }

    /// What an id was asked for, if it is open or remembered (K108).
    fn asked_before(&self, pid: &ProcessId, id: &ReservationId) -> Option<Asked> {
        let process = self.of(pid);
        if let Some(open) = process.open.get(id) {
            return Some(open.asked.clone());
        }
        process.closed.iter().rev().find_map(|one| match one {
            Closed::Reservation(other, asked, ..) if other == id => Some(asked.clone()),
            Closed::Reservation(..) | Closed::Record(..) => None,
        })
    }

    /// What the hold of a quoted attempt does not cover (K104).
    fn anew(&self, pid: &ProcessId, quoted: Option<usize>, amounts: &Amounts) -> Amounts {
        let hold = quoted.and_then(|at| self.session(pid).works[at].live());
        let hold = hold.filter(|_| !self.is(Wrong::HoldNotDrawn));
        hold.map_or(*amounts, |live| amounts_of(&minus(&sums(amounts), &live.hold)))
    }

    /// Says whether everything fits the process and all above it that are known (K101–K103).
    pub(super) fn fits(&self, pid: &ProcessId, amounts: &Amounts) -> Answer {
        match self.shortage(pid, amounts) {
            None => Ok(()),
            Some(_) => Err(Code::QuotaExceeded),
        }
    }

    /// The first resource of which an amount does not fit: the process, its session, or one above
    /// (K102, K103).
    pub(super) fn shortage(&self, pid: &ProcessId, amounts: &Amounts) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| self.is_short(pid, *resource, amounts))
    }

    fn is_short(&self, pid: &ProcessId, resource: Resource, amounts: &Amounts) -> bool {
        let process = self.of(pid);
        if resource == Resource::ContextTokens {
            let context = amounts.tokens_in + amounts.tokens_out;
            return context > limit_number(process.quota.max_context_tokens);
        }
        let asked = amounts.of(resource);
        if !Resource::RESERVABLE.contains(&resource) || asked == 0 {
            return false;
        }
        if let Some(session) = self.running(pid)
            && resource == Resource::LlmCalls
            && !self.is(Wrong::CallsOfSessionUncounted)
        {
            let base = session.base.get(&resource).copied().unwrap_or(0);
            let sum = (process.taken(resource) + asked).saturating_sub(base);
            if sum > limit_number(session.pipeline.max_llm_calls) {
                return true;
            }
        }
        let more = u64::from(self.is(Wrong::LimitOffByOne));
        self.levels(pid).into_iter().any(|level| {
            let level = self.of(&level);
            level.taken(resource) + asked + more > limit_number(level.quota.limit(resource))
        })
    }

    /// The process and those above it, nearest first (K102).
    fn levels(&self, pid: &ProcessId) -> Vec<ProcessId> {
        let above = match self.is(Wrong::NoRollUp) {
            true => &[][..],
            false => &self.of(pid).ancestors[..],
        };
        std::iter::once(pid).chain(above).cloned().collect()
    }

    /// Charges every level, and says what was reached by it (K102, K113, K114).
    pub(super) fn charge(&mut self, pid: &ProcessId, charge: &Charge) {
        for level in self.levels(pid) {
            for resource in Resource::RESERVABLE {
                let of = |sums: &Sums| sums.get(&resource).copied().unwrap_or(0);
                let process = self.of_mut(&level);
                *process.used.entry(resource).or_default() += of(&charge.used);
                *process.unreserved.entry(resource).or_default() += of(&charge.unreserved);
                let held = process.held.entry(resource).or_default();
                *held = (*held + of(&charge.hold)).saturating_sub(of(&charge.free));
                if of(&charge.used) > 0 || of(&charge.hold) > 0 {
                    self.warn(&level, resource);
                }
                if of(&charge.used) > 0 {
                    self.pass(&level, resource);
                }
            }
        }
    }

    /// K113.
    pub(super) fn warn(&mut self, pid: &ProcessId, resource: Resource) {
        let process = self.of(pid);
        let Some(limit) = process.quota.limit(resource).most() else {
            return;
        };
        let percent = u128::from(self.config.soft_percent);
        let reached = u128::from(process.taken(resource)) * 100 >= u128::from(limit) * percent;
        let first = !process.warned.contains(&resource) || self.is(Wrong::WarnTwice);
        if reached && first && process.taken(resource) > 0 {
            self.of_mut(pid).warned.insert(resource);
            self.note(Note::Warned(pid.clone(), resource));
        }
    }

    /// K114.
    pub(super) fn pass(&mut self, pid: &ProcessId, resource: Resource) {
        let process = self.of(pid);
        let passed = process.used(resource) > limit_number(process.quota.limit(resource));
        if passed && !process.exceeded.contains(&resource) {
            self.of_mut(pid).exceeded.insert(resource);
            self.note(Note::Exceeded(pid.clone(), resource));
        }
    }

    /// K105.
    pub(super) fn settle(
        &mut self,
        pid: &ProcessId,
        id: &ReservationId,
        actual: &Amounts,
    ) -> Answer {
        self.only_party_or_reserver(pid, id)?;
        self.amounts(actual)?;
        let Some(open) = self.of(pid).open.get(id).cloned() else {
            return self.close_again(pid, id, &End::Settled(*actual));
        };
        if open.asked.1 == Some(0) {
            // It is of a dispatch, which closes it (K212).
            return Err(Code::ReservationClosed);
        }
        let reserved = open.asked.0;
        let excess = match self.is(Wrong::ForgetExcess) {
            true => Sums::new(),
            false => minus(&sums(actual), &sums(&reserved)),
        };
        let (used, free) = (sums(actual), sums(&reserved));
        self.close(pid, id, End::Settled(*actual));
        self.note(Note::Settled(pid.clone(), id.clone()));
        self.charged_for(pid, open.asked.2.as_ref(), &used);
        self.charge(pid, &Charge { used, unreserved: excess, free, ..Charge::default() });
        self.renew_lease(pid);
        Ok(())
    }

    /// K106.
    pub(super) fn release(&mut self, pid: &ProcessId, id: &ReservationId) -> Answer {
        self.only_party_or_reserver(pid, id)?;
        let Some(open) = self.of(pid).open.get(id).cloned() else {
            return self.close_again(pid, id, &End::Released);
        };
        if open.asked.1 == Some(0) {
            return Err(Code::ReservationClosed);
        }
        self.close_with(pid, id, End::Released);
        self.renew_lease(pid);
        Ok(())
    }

    /// Ends what is held: with what was used, or with nothing.
    pub(super) fn close_with(&mut self, pid: &ProcessId, id: &ReservationId, end: End) {
        let Some(open) = self.of(pid).open.get(id).cloned() else {
            return;
        };
        let free = sums(&open.asked.0);
        let (used, note) = match &end {
            End::Settled(actual) => (sums(actual), Note::Settled(pid.clone(), id.clone())),
            End::Released => (Sums::new(), Note::Released(pid.clone(), id.clone())),
            End::Charged => (free.clone(), Note::Charged(pid.clone(), id.clone())),
        };
        self.close(pid, id, end);
        self.note(note);
        self.charged_for(pid, open.asked.2.as_ref(), &used);
        self.charge(pid, &Charge { used, free, ..Charge::default() });
    }

    /// The end of a reservation's lease, or of its process's time as Terminated (K107, K122).
    pub(super) fn charge_in_full(&mut self, pid: &ProcessId, id: &ReservationId) {
        let Some(open) = self.of(pid).open.get(id).cloned() else {
            return;
        };
        let amounts = sums(&open.asked.0);
        let used = match self.is(Wrong::ChargeNothingAtExpiry) {
            true => Sums::new(),
            false => amounts.clone(),
        };
        self.close(pid, id, End::Charged);
        self.note(Note::Charged(pid.clone(), id.clone()));
        self.charged_for(pid, open.asked.2.as_ref(), &used);
        self.charge(pid, &Charge { used, free: amounts, ..Charge::default() });
    }

    /// One that is closed: the same end again is no news, any other is refused (K108).
    fn close_again(&mut self, pid: &ProcessId, id: &ReservationId, end: &End) -> Answer {
        let known = self.of(pid).closed.iter().rev().find_map(|one| match one {
            Closed::Reservation(other, _, end, _) if other == id => Some(end.clone()),
            Closed::Reservation(..) | Closed::Record(..) => None,
        });
        match known.ok_or(Code::ReservationNotFound)? == *end && !self.is(Wrong::SettleTwice) {
            true => {
                self.renew_lease(pid);
                Ok(())
            }
            false => Err(Code::ReservationClosed),
        }
    }

    fn close(&mut self, pid: &ProcessId, id: &ReservationId, end: End) {
        if let Some(open) = self.of_mut(pid).open.remove(id) {
            self.remember(pid, Closed::Reservation(id.clone(), open.asked, end, open.holder));
        }
    }

    /// The newest 64 are remembered (K108).
    fn remember(&mut self, pid: &ProcessId, closed: Closed) {
        let list = &mut self.of_mut(pid).closed;
        list.push_back(closed);
        if list.len() > 64 {
            list.pop_front();
        }
    }

    /// K109.
    pub(super) fn record(&mut self, record: &Record) -> Answer {
        let pid = &record.pid;
        // Quoted attempts are none of these sequences': every reservation is the process's.
        let mut open = self.known(pid)?.open.values();
        if !open.any(|open| open.holder == self.holder) {
            self.only_party(pid)?;
        }
        self.amounts(&record.amounts)?;
        if record.agent_hops > self.config.limits.amount {
            return Err(Code::AmountTooLarge);
        }
        let told = (record.amounts, record.agent_hops, record.attempt.clone());
        if let Some(id) = &record.record {
            let known = self.of(pid).closed.iter().rev().find_map(|one| match one {
                Closed::Record(other, told) if other == id.as_str() => Some(told.clone()),
                Closed::Reservation(..) | Closed::Record(..) => None,
            });
            match known.filter(|_| !self.is(Wrong::RecordTwice)) {
                Some(known) if known == told => {
                    self.renew_lease(pid);
                    return Ok(());
                }
                Some(_) => return Err(Code::ReservationConflict),
                None => {}
            }
        }
        self.only_live(pid)?;
        let quoted = self.quoted(pid, record.attempt.as_ref());
        if let Some(id) = &record.record {
            self.remember(pid, Closed::Record(id.as_str().to_owned(), told));
        }
        self.note(Note::Recorded(pid.clone()));
        let all = sums(&record.amounts);
        let free = quoted.map(|at| self.draw_hold(pid, at, &all)).unwrap_or_default();
        self.charged_for(pid, record.attempt.as_ref(), &all);
        let unreserved = minus(&all, &free);
        self.charge(pid, &Charge { used: all, unreserved, free, ..Charge::default() });
        if record.agent_hops > 0 {
            let process = self.of_mut(pid);
            *process.used.entry(Resource::AgentHops).or_default() += record.agent_hops;
            self.warn(pid, Resource::AgentHops);
            self.pass(pid, Resource::AgentHops);
        }
        self.renew_lease(pid);
        Ok(())
    }

    /// No amount of one command passes the limit (K25).
    pub(super) fn amounts(&self, amounts: &Amounts) -> Answer {
        let most = self.config.limits.amount;
        match Resource::RESERVABLE.into_iter().any(|one| amounts.of(one) > most) {
            true => Err(Code::AmountTooLarge),
            false => Ok(()),
        }
    }

    /// K117: an owner may only lower.
    pub(super) fn adjust(&mut self, pid: &ProcessId, patch: &QuotaPatch) -> Answer {
        self.only_owner(pid)?;
        let old = self.of(pid).quota;
        let mut new = old;
        for (field, limit) in patch {
            *new.field_mut(*field) = *limit;
            if raised(&old, *field, *limit) && !self.by.is_operator() {
                return Err(Code::PermissionDenied);
            }
        }
        if soft_after_hard(&new) {
            return Err(Code::BadValue);
        }
        self.of_mut(pid).quota = new;
        let changed = |field: &QuotaField| new.field(*field) != old.field(*field);
        for field in QuotaField::ALL.into_iter().filter(changed) {
            self.set_limit(pid, field, raised(&old, field, new.field(field)));
            let counted = |one: &Resource| !matches!(one, Resource::ElapsedMs);
            if let Some(resource) = field.resource().filter(counted) {
                // What is taken may be near the limit now, or above it.
                self.warn(pid, resource);
                self.pass(pid, resource);
            }
        }
        let rates =
            [QuotaField::RateLimitRpm, QuotaField::RateLimitRph, QuotaField::RateLimitBurst];
        let process = self.of(pid);
        let reason = process.block.as_ref().map(|block| block.reason);
        let waits = process.state == ProcessState::Blocked && reason == Some(BlockReason::Rate);
        if waits && patch.iter().any(|(field, _)| rates.contains(field)) {
            // K121: its next call says until when it has to wait now, if it does.
            self.change(pid, ProcessState::Ready);
        }
        self.renew_lease(pid);
        Ok(())
    }

    fn set_limit(&mut self, pid: &ProcessId, field: QuotaField, raised: bool) {
        self.note(Note::Adjusted(pid.clone(), field));
        if !raised || self.is(Wrong::RaiseDoesNotArm) {
            return;
        }
        let process = self.of_mut(pid);
        match (field, field.resource()) {
            (QuotaField::SoftTimeoutMs, _) => {
                process.warned.remove(&Resource::ElapsedMs);
            }
            (_, Some(resource)) => {
                process.warned.remove(&resource);
                process.exceeded.remove(&resource);
            }
            (_, None) => {}
        }
    }
}

/// The same, by resource.
pub(super) fn sums(amounts: &Amounts) -> Sums {
    Resource::RESERVABLE.into_iter().map(|one| (one, amounts.of(one))).collect()
}

/// What of `one` is above `other`.
pub(super) fn minus(one: &Sums, other: &Sums) -> Sums {
    let of = |resource| other.get(resource).copied().unwrap_or(0);
    one.iter().map(|(resource, n)| (*resource, n.saturating_sub(of(resource)))).collect()
}
