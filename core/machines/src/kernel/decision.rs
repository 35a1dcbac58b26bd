//! One decision: events that are applied as they are made, so that each sees what came before (K2,
//! K4, K8).
//!
//! Whatever can be refused is refused before the first event: a refusal changes nothing.
//!
//! # How long it may be
//!
//! The events of a decision are one record (L3), and a record ends somewhere. So
//!
//! - what consists of many steps (deadlines that are due, a cleanup, a stop, tasks that are handed
//!   out) begins none when a quarter of
//!   [`decision_bytes`](super::config::Limits::decision_bytes) is taken ([`Decision::is_full`]);
//!   what is left is due at once, or asked for again;
//! - the end of a tree of processes, which may be such a step, begins none when it has taken a
//!   quarter itself: where it is cut does not depend on what came before it (K10);
//! - anything else takes at most half, or what waits at a service three quarters when it starts at
//!   once, by the limits on what a command may bring
//!   ([`KernelConfig::check`](super::config::KernelConfig::check)) and on what ends with a process
//!   ([`Limits::dispatches_open`](super::config::Limits::dispatches_open));
//! - what might still be too long ([`size`](super::size)) is refused `too_large`, once it turns
//!   out to be.

use std::cell::Cell;

use crate::ledger::fold::put_event;

use super::event::{Body, Event, ProcessEvent, QuotaEvent, Subject};
use super::ids::{Minted, ProcessId, ReservationId, WorkerId};
use super::part::KernelPart;
use super::principal::{Holder, Principal};
use super::process::{Metadata, Process};
use super::rates::RateKey;
use super::refusal::{Code, Refusal};
use super::state::State;
use super::time::Time;

/// The alphabet of ULIDs: Crockford's base 32.
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// How many of them a ULID has.
const ULID_DIGITS: u32 = 26;

/// What a decision takes from outside: clock and entropy (K7, K8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// What the clock says.
    pub now: Time,
    /// New for each decision; the ticks of one moment share one (K435).
    pub nonce: [u8; 16],
}

/// Writes the ULID of a moment and 80 random bits.
#[must_use]
pub fn ulid(now: Time, random: [u8; 10]) -> String {
    let mut text = String::with_capacity(ULID_DIGITS as usize);
    put_ulid(&mut text, now, random);
    text
}

fn put_ulid(text: &mut String, now: Time, random: [u8; 10]) {
    let mut bits = u128::from(now.as_millis() & 0xffff_ffff_ffff);
    for byte in random {
        bits = bits << 8 | u128::from(byte);
    }
    let digit = |place: u32| {
        let low = (bits >> (5 * place)) & 31;
        char::from(BASE32[usize::try_from(low).expect("five bits index 32 digits")])
    };
    text.extend((0..ULID_DIGITS).rev().map(digit));
}

/// A decision under way.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    pub(super) state: &'a mut State,
    /// Kernel time (K7).
    pub(super) now: Time,
    pub(super) by: Principal,
    pub(super) worker: Option<WorkerId>,
    /// The hit that the command carries, until it is made (K136).
    pub(super) hit: Option<RateKey>,
    nonce: [u8; 16],
    /// In a Tick: the number of the last event before the deadline that is handled (K10).
    deadline: Option<u64>,
    minted: u32,
    events: Vec<Event>,
    /// Bytes that expressions of the session that goes on have looked at.
    pub(super) looked_at: Cell<u64>,
    /// How many of the events were measured, and how many bytes of a record they take.
    measured: (usize, u64),
}

impl<'a> Decision<'a> {
    pub(super) fn new(
        state: &'a mut State,
        at: At,
        by: Principal,
        worker: Option<WorkerId>,
    ) -> Self {
        crate::sometimes!("kernel.clock_back", at.now < state.counters.last);
        let now = at.now.max(state.counters.last);
        let (nonce, minted, events) = (at.nonce, 0, Vec::new());
        let (deadline, measured) = (None, (0, 0));
        let (hit, looked_at) = (None, Cell::new(0));
        Self { state, now, by, worker, hit, nonce, deadline, minted, events, looked_at, measured }
    }

    /// Ends the decision.
    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Says whether nothing was decided yet.
    pub(super) const fn is_untouched(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns how many bytes of a record the events take.
    pub(super) fn bytes(&mut self) -> u64 {
        let (count, mut bytes) = self.measured;
        let mut frame = Vec::new();
        for event in &self.events[count..] {
            frame.clear();
            put_event::<KernelPart>(&mut frame, event);
            bytes += frame.len() as u64;
        }
        self.measured = (self.events.len(), bytes);
        bytes
    }

    /// Says whether no further step may begin, since it may take more than is left. The first may,
    /// however little room there is: else what is due would stay so for ever.
    pub(super) fn is_full(&mut self) -> bool {
        !self.events.is_empty() && self.is_full_since(0)
    }

    /// As [`Decision::is_full`], of what came after the first so many bytes.
    pub(super) fn is_full_since(&mut self, from: u64) -> bool {
        self.bytes() - from >= self.state.config.limits.decision_bytes / 4
    }

    /// Makes an event, which takes effect at once.
    pub(super) fn emit(&mut self, subject: Subject, body: Body) {
        self.take_hit();
        let event = Event { time: self.now, subject, body };
        self.state.apply(&event);
        self.events.push(event);
    }

    /// Makes an event of a process.
    pub(super) fn emit_process(&mut self, pid: &ProcessId, event: ProcessEvent) {
        let subject = self.subject(pid);
        self.emit(subject, Body::Process { event });
    }

    /// Makes an event of a process's budget.
    pub(super) fn emit_quota(&mut self, pid: &ProcessId, event: QuotaEvent) {
        let subject = self.subject(pid);
        self.emit(subject, Body::Quota { event });
    }

    pub(super) fn subject(&self, pid: &ProcessId) -> Subject {
        let process = self.state.process(pid);
        Subject {
            pid: Some(pid.clone()),
            user: process.map(|process| process.user.clone()),
            session: process.map(|process| process.session.clone()),
            request: process.map(|process| process.request.clone()),
        }
    }

    /// Begins with the next deadline of a Tick. What it draws follows from the nonce and from its
    /// place among all events, not from how many deadlines the decision has handled before: so the
    /// ids and waits are the same for every `tick_batch` (K10, K435).
    pub(super) fn begin_deadline(&mut self) {
        self.deadline = Some(self.state.counters.events);
        self.minted = 0;
        self.looked_at.set(0);
    }

    /// Returns random bits that no other draw of the decision has (K8).
    fn random(&mut self) -> [u8; 32] {
        let mut input = Vec::with_capacity(32);
        input.extend_from_slice(&self.nonce);
        if let Some(deadline) = self.deadline {
            input.extend_from_slice(&deadline.to_be_bytes());
        }
        input.extend_from_slice(&self.minted.to_be_bytes());
        self.minted += 1;
        *blake3::hash(&input).as_bytes()
    }

    /// Draws a number of `0..=most` (K8).
    pub(super) fn draw(&mut self, most: u32) -> u32 {
        let random = self.random();
        let bits = u64::from_be_bytes(*random.first_chunk().expect("a hash has 32 bytes"));
        let drawn = bits % (u64::from(most) + 1);
        u32::try_from(drawn).expect("it is at most a u32")
    }

    /// Makes an id that `taken` does not know (K8).
    pub(super) fn mint<T: Minted>(&mut self, taken: impl Fn(&State, &T) -> bool) -> T {
        loop {
            let random = *self.random().first_chunk().expect("a hash has 32 bytes");
            let mut text = String::with_capacity(T::PREFIX.len() + ULID_DIGITS as usize);
            text.push_str(T::PREFIX);
            put_ulid(&mut text, self.now, random);
            let id = T::of(&text);
            if !taken(self.state, &id) {
                return id;
            }
        }
    }

    /// Returns who would hold what is claimed now (K27).
    pub(super) fn holder(&self) -> Holder {
        let user = self.by.user.clone();
        let own = || WorkerId::parse("worker_id", user.as_str());
        let worker = self.worker.clone().or_else(|| own().ok());
        Holder { worker: worker.expect("an id of a user is an id of a worker"), user }
    }

    /// Finds a process that the principal may act on as its owner (K27).
    pub(super) fn owned(&self, pid: &ProcessId) -> Result<&Process, Refusal> {
        let process = self.known(pid)?;
        match self.is_owner(process) || self.by.is_node() {
            true => Ok(process),
            false => Err(foreign(pid)),
        }
    }

    /// Finds a process that the principal may act on as its owner or holder (K370: O H P).
    pub(super) fn held(&self, pid: &ProcessId) -> Result<&Process, Refusal> {
        let process = self.known(pid)?;
        let holds = |process: &Process| {
            process.run_lease.as_ref().is_some_and(|run| run.holder == self.holder())
        };
        match self.is_owner(process) || self.by.is_node() || holds(process) {
            true => Ok(process),
            false => Err(foreign(pid)),
        }
    }

    /// Finds a process that the principal may act on as [`Decision::held`] says, or as who reserved
    /// under an id: a reservation has a lease of its own, which may outlive the run lease and even
    /// the process's end (K27, K122).
    pub(super) fn held_or_reserved(
        &self,
        pid: &ProcessId,
        id: &ReservationId,
    ) -> Result<&Process, Refusal> {
        let process = self.known(pid)?;
        match process.reserver(id) == Some(&self.holder()) {
            true => Ok(process),
            false => self.held(pid),
        }
    }

    fn is_owner(&self, process: &Process) -> bool {
        process.user == self.by.user || self.by.is_operator()
    }

    pub(super) fn known(&self, pid: &ProcessId) -> Result<&Process, Refusal> {
        let missing = || Refusal::new(Code::ProcessNotFound, format!("process not found: {pid}"));
        self.state.process(pid).ok_or_else(missing)
    }

    /// Refuses text that is too long (K25).
    pub(super) fn check_text(&self, field: &str, text: &str) -> Result<(), Refusal> {
        let most = self.state.config.limits.text_bytes;
        if text.len() as u64 > most {
            let told = format!("{field}: {} bytes, at most {most}", text.len());
            return Err(Refusal::new(Code::TooLong, told));
        }
        match text.bytes().position(|byte| byte == 0) {
            Some(at) => Err(Refusal::new(Code::BadValue, format!("{field}: NUL at byte {at}"))),
            None => Ok(()),
        }
    }

    /// Refuses a map or list that has too many entries (K25).
    pub(super) fn check_count(&self, field: &str, count: usize) -> Result<(), Refusal> {
        let most = self.state.config.limits.entries;
        match count as u64 > most {
            true => {
                let told = format!("{field}: {count} entries, at most {most}");
                Err(Refusal::new(Code::TooMany, told))
            }
            false => Ok(()),
        }
    }

    /// Refuses metadata of which a key is no text, or a value no payload (K24), or that as one JSON
    /// object would pass a limit (K25).
    pub(super) fn check_metadata(&self, metadata: &Metadata) -> Result<(), Refusal> {
        self.check_count("metadata", metadata.len())?;
        for (key, json) in metadata {
            self.check_text("metadata", key)?;
            self.check_payload(&format!("metadata.{key}"), json)?;
        }
        let bytes: usize = metadata.iter().map(|(key, json)| key.len() + json.length()).sum();
        let most = self.state.config.limits.json_bytes;
        match bytes as u64 > most {
            true => {
                let told = format!("metadata: {bytes} bytes, at most {most}");
                Err(Refusal::new(Code::TooLarge, told))
            }
            false => Ok(()),
        }
    }

    /// Refuses a name of a caller that is too long (K25).
    pub(super) fn check_name(&self, field: &str, name: &str) -> Result<(), Refusal> {
        let most = self.state.config.limits.name_bytes;
        match name.len() as u64 > most {
            true => {
                let told = format!("{field}: {} bytes, at most {most}", name.len());
                Err(Refusal::new(Code::BadName, told))
            }
            false => Ok(()),
        }
    }

    /// Refuses anyone but operators and the node (K370).
    pub(super) fn only_operator(&self) -> Result<(), Refusal> {
        match self.by.is_operator() || self.by.is_node() {
            true => Ok(()),
            false => Err(Refusal::new(Code::PermissionDenied, "only operators do this")),
        }
    }

    /// Refuses a caller whose names are too long to be kept with what it holds (K25).
    pub(super) fn check_names(&self) -> Result<(), Refusal> {
        self.check_id("user_id", self.by.user.as_str())?;
        self.check_id("worker_id", self.worker.as_ref().map_or("", WorkerId::as_str))
    }

    /// Refuses an id of a caller that is too long (K25).
    pub(super) fn check_id(&self, field: &str, id: &str) -> Result<(), Refusal> {
        let most = self.state.config.limits.id_bytes;
        match id.len() as u64 > most {
            true => {
                let told = format!("{field}: {} bytes, at most {most}", id.len());
                Err(Refusal::new(Code::BadId, told))
            }
            false => Ok(()),
        }
    }
}

/// Refuses for a process of somebody else.
pub(super) fn foreign(pid: &ProcessId) -> Refusal {
    Refusal::new(Code::PermissionDenied, format!("process {pid} belongs to another user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_is_26_digits_of_time_and_chance() {
        assert_eq!(ulid(Time::ZERO, [0; 10]), "0".repeat(26));
        // The example of the ULID specification: the time part of 1469918176385 is 01ARYZ6S41.
        let id = ulid(Time::from_millis(1_469_918_176_385), [0xff; 10]);
        assert_eq!(id, "01ARYZ6S41ZZZZZZZZZZZZZZZZ");
    }

    #[test]
    fn later_ids_sort_later() {
        let early = ulid(Time::from_millis(5), [0xff; 10]);
        assert!(early < ulid(Time::from_millis(6), [0; 10]));
    }
}
