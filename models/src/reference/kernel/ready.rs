//! Who is served next (K70–K74).

use machines::kernel::Code;
use machines::kernel::ids::{ProcessId, UserId};
use machines::kernel::names::ProcessState;

use super::process::Process;
use super::{Answer, Kernel, Wrong};

impl Kernel {
    /// A process joins the ready set; a user that enters a band takes the last turn (K72).
    pub(super) fn join_ready(&mut self, pid: &ProcessId) {
        self.readied += 1;
        let number = self.readied;
        let process = self.of_mut(pid);
        process.ready_number = number;
        let place = (process.submit.driven, process.band());
        let user = process.user.clone();
        let turns = self.turns.entry(place).or_default();
        if !turns.contains(&user) {
            turns.push(user);
        }
    }

    /// A process that is Ready leaves the ready set; a user with no more leaves the band.
    pub(super) fn leave_ready(&mut self, pid: &ProcessId) {
        let process = self.of(pid);
        if process.state != ProcessState::Ready {
            return;
        }
        let (place, user) = ((process.submit.driven, process.band()), process.user.clone());
        let more = self
            .ready(place.0)
            .any(|(other, one)| other != pid && one.user == user && one.band() == place.1);
        if !more && !self.is(Wrong::OldTurn) {
            self.turns.entry(place).or_default().retain(|one| *one != user);
        }
    }

    /// The ready set: of the executor, or of everyone else (K74, K290).
    fn ready(&self, driven: bool) -> impl Iterator<Item = (&ProcessId, &Process)> {
        self.processes.iter().filter(move |(pid, one)| {
            let ready = one.state == ProcessState::Ready && one.submit.driven == driven;
            ready && (!self.is_held(pid) || self.is(Wrong::HeldRuns))
        })
    }

    /// K71–K74.
    pub(super) fn next_runnable(&mut self) -> Answer {
        let executor = self.by.is_node();
        let user = (!self.by.takes_any_work()).then(|| self.by.user.clone());
        let band = self.next_band(executor, user.as_ref()).ok_or(Code::NoRunnable)?;
        let turns = self.turns.get(&(executor, band)).cloned().unwrap_or_default();
        let has = |user: &&UserId| self.oldest(executor, band, user).is_some();
        let first = turns.iter().find(has).cloned();
        let served = user.clone().or(first).ok_or(Code::NoRunnable)?;
        let pid = self.oldest(executor, band, &served).ok_or(Code::NoRunnable)?;
        self.claim(&pid);
        if user.is_none() && !self.is(Wrong::NoTurns) {
            let turns = self.turns.entry((executor, band)).or_default();
            if turns.contains(&served) {
                turns.retain(|one| *one != served);
                turns.push(served);
            }
        }
        Ok(())
    }

    /// The band with the least oldest + band × ageing; on a tie the lower one (K71).
    fn next_band(&self, executor: bool, user: Option<&UserId>) -> Option<u8> {
        let mine = |one: &&Process| user.is_none_or(|user| one.user == *user);
        let ageing = match self.is(Wrong::NoAgeing) {
            true => u64::MAX >> 8,
            false => self.config.ageing_ms,
        };
        let oldest = |band: u8| {
            let of = self.ready(executor).map(|(_, one)| one).filter(mine);
            let at = of.filter(|one| one.band() == band).filter_map(|one| one.ready_at).min();
            at.map(|at| (at.as_millis() + u64::from(band) * ageing, band))
        };
        (0..5).filter_map(oldest).min().map(|(_, band)| band)
    }

    /// The oldest of a user in a band (K70).
    fn oldest(&self, executor: bool, band: u8, user: &UserId) -> Option<ProcessId> {
        let of = self.ready(executor).filter(|(_, one)| one.band() == band && one.user == *user);
        let found = match self.is(Wrong::Lifo) {
            true => of.max_by_key(|(_, one)| one.ready_number),
            false => of.min_by_key(|(_, one)| one.ready_number),
        };
        found.map(|(pid, _)| pid.clone())
    }
}
