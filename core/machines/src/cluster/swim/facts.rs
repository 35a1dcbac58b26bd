//! What a fact does: to a row (C42), to oneself (C43), and to the stream of events (C44).

use crate::cluster::counters::Counter;
use crate::cluster::ids::{Addr, Incarnation, Life, NodeId, Session};
use crate::cluster::wire::{Fact, MemberRow, Meta, State};
use crate::time::Instant;

use super::io::{DeadCause, MemberEventKind, Output};
use super::suspicion::Suspicion;
use super::table::{ME, Row, Verdict, decide};
use super::timers::Timer;
use super::{Stage, Swim};

/// Says whether a node that was forgotten in `kept` may be held as `told` (C60).
///
/// A death that was forgotten stays so: others forget it later, and gossip carries no ages, so that
/// it would go round for ever.
fn may_return(kept: Life, told: (Life, State)) -> bool {
    let (life, state) = told;
    match state {
        _ if kept.incarnation == Incarnation::LEFT => life.session > kept.session,
        State::Alive | State::Suspect => life.session >= kept.session,
        State::Dead | State::Left => life > kept,
    }
}

/// A fact with all that its bearer knows besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) node: NodeId,
    pub(super) life: Life,
    pub(super) state: State,
    pub(super) addr: Option<Addr>,
    pub(super) meta: Meta,
    pub(super) accuser: NodeId,
    /// For how long it is so, in nanoseconds.
    pub(super) age: u64,
    /// Whether a repeated suspicion is an independent one (C54).
    pub(super) confirms: bool,
}

impl Claim {
    /// A gossiped fact, or one of our own.
    pub(super) fn of_fact(fact: &Fact) -> Self {
        let blank = |node, life, state, accuser| Self {
            node,
            life,
            state,
            addr: None,
            meta: Meta::EMPTY,
            accuser,
            age: 0,
            confirms: true,
        };
        match *fact {
            Fact::Alive { node, life, addr, meta } => {
                Self { addr: Some(addr), meta, ..blank(node, life, State::Alive, node) }
            }
            Fact::Suspect { node, life, accuser } => blank(node, life, State::Suspect, accuser),
            Fact::Dead { node, life, accuser } => blank(node, life, State::Dead, accuser),
            Fact::Left { node, session } => {
                let incarnation = Incarnation::LEFT;
                let life = Life { session, incarnation };
                blank(node, life, State::Left, node)
            }
        }
    }

    /// A row of a sync: its sender is the accuser, and never confirms (C54).
    pub(super) fn of_row(from: NodeId, row: &MemberRow) -> Self {
        Self {
            node: row.node,
            life: row.life,
            state: row.state,
            addr: row.addr,
            meta: row.meta,
            accuser: from,
            age: u64::from(row.age_ms) * 1_000_000,
            confirms: false,
        }
    }

    /// Since when it is so; the start of this node's time if it is older.
    const fn since(&self, now: Instant) -> Instant {
        Instant::from_nanos(now.as_nanos().saturating_sub(self.age))
    }

    /// Says whether any member could have said this: only Left has the last incarnation, and
    /// who is Alive listens somewhere.
    fn is_sound(&self) -> bool {
        let last = self.life.incarnation == Incarnation::LEFT;
        match self.state {
            State::Alive => !last && self.addr.is_some(),
            State::Suspect | State::Dead => !last,
            State::Left => last,
        }
    }
}

impl MemberEventKind {
    /// Returns the kind as the label of `member_events`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Join => 0,
            Self::Suspect => 1,
            Self::Alive => 2,
            Self::Changed => 3,
            Self::Left => 4,
            Self::Dead(DeadCause::Timeout) => 5,
            Self::Dead(DeadCause::Told) => 6,
            Self::Dead(DeadCause::Restarted) => 7,
            Self::Dead(DeadCause::Revoked) => 8,
        }
    }
}

impl Swim {
    /// Hears a gossiped fact from `from`.
    pub(super) fn hear(&mut self, now: Instant, from: NodeId, fact: &Fact) {
        self.learn(now, from, &Claim::of_fact(fact));
    }

    /// Applies a claim if C41–C43 say so.
    pub(super) fn learn(&mut self, now: Instant, from: NodeId, claim: &Claim) {
        if !claim.is_sound() {
            self.counters.count(Counter::FactStale);
        } else if claim.node == self.me {
            self.hear_of_myself(now, from, claim);
        } else if !self.allowed.has(claim.node) {
            self.counters.count(Counter::FactNotAllowed);
        } else {
            match self.table.find(claim.node) {
                None => self.meet(now, claim),
                Some(slot) => self.weigh(now, slot, claim),
            }
        }
    }

    /// C42, the row "unknown".
    fn meet(&mut self, now: Instant, claim: &Claim) {
        let kept = self.remembered.get(claim.node);
        if kept.is_some_and(|kept| !may_return(kept, (claim.life, claim.state))) {
            return self.counters.count(Counter::FactStale);
        }
        if claim.state == State::Suspect {
            return self.counters.count(Counter::FactUnknown);
        }
        if self.table.len() >= self.config.members_max as usize {
            return self.counters.count(Counter::MembersFull);
        }
        self.remembered.take(claim.node);
        // Left is on no list; the state is set next.
        let slot = self.table.insert(Row {
            node: claim.node,
            life: claim.life,
            state: State::Left,
            owed: false,
            revoked: false,
            since: claim.since(now),
            forget: self.spans.forget_at(now, claim.state, claim.age),
            addr: claim.addr,
            meta: claim.meta,
            accuser: claim.accuser,
            suspicion: None,
            ticket: None,
        });
        self.set_state(slot, claim.state);
        match claim.state {
            State::Alive => self.emit(slot, MemberEventKind::Join),
            State::Suspect | State::Dead | State::Left => self.tell_session(slot),
        }
        self.enqueue(now, slot);
    }

    /// Tells the session of a row of which no event tells: links and references of lower ones are
    /// stale all the same (C27, C80).
    fn tell_session(&mut self, slot: u32) {
        let row = self.table.row(slot);
        self.outputs.push_back(Output::Known { node: row.node, session: row.life.session });
    }

    /// C42, all rows but "unknown".
    fn weigh(&mut self, now: Instant, slot: u32, claim: &Claim) {
        let row = self.table.row(slot);
        let verdict = decide((row.life, row.state), (claim.life, claim.state));
        match verdict {
            Verdict::Stale => return self.counters.count(Counter::FactStale),
            Verdict::Repeat => return self.repeat(slot, claim),
            Verdict::Confirm => return self.confirm(now, slot, claim),
            Verdict::JoinSuspect if row.addr.is_none() && claim.addr.is_none() => {
                // Nobody can be suspected who cannot be asked (C40).
                return self.counters.count(Counter::FactUnknown);
            }
            Verdict::Update
            | Verdict::Revive
            | Verdict::Accuse
            | Verdict::Renew
            | Verdict::Kill
            | Verdict::Depart
            | Verdict::Take
            | Verdict::Join
            | Verdict::JoinSuspect
            | Verdict::RestartAlive
            | Verdict::RestartSuspect
            | Verdict::RestartGone => {}
        }
        if let Verdict::RestartAlive | Verdict::RestartSuspect | Verdict::RestartGone = verdict {
            self.set_state(slot, State::Dead);
            self.emit(slot, MemberEventKind::Dead(DeadCause::Restarted));
        }
        let held = self.table.row(slot).life.session;
        let differs = self.take_claim(now, slot, claim);
        self.set_state(slot, claim.state);
        if claim.state == State::Suspect {
            self.begin_suspicion(now, slot, claim.accuser);
        }
        self.announce(slot, verdict, differs);
        if let Verdict::Take | Verdict::RestartGone = verdict
            && claim.life.session > held
        {
            self.tell_session(slot);
        }
        self.enqueue(now, slot);
    }

    /// Emits what C42 says about an applied fact.
    fn announce(&mut self, slot: u32, verdict: Verdict, differs: bool) {
        match verdict {
            Verdict::Update => {}
            Verdict::Revive => self.emit(slot, MemberEventKind::Alive),
            Verdict::Accuse => self.emit(slot, MemberEventKind::Suspect),
            Verdict::Kill => {
                let mine = self.table.row(slot).accuser == self.me;
                let cause = match mine {
                    true => DeadCause::Timeout,
                    false => DeadCause::Told,
                };
                self.emit(slot, MemberEventKind::Dead(cause));
            }
            Verdict::Depart => self.emit(slot, MemberEventKind::Left),
            Verdict::Join | Verdict::RestartAlive => {
                crate::sometimes!("swim.revived", verdict == Verdict::Join);
                self.emit(slot, MemberEventKind::Join);
            }
            Verdict::JoinSuspect | Verdict::RestartSuspect => {
                self.emit(slot, MemberEventKind::Join);
                self.emit(slot, MemberEventKind::Suspect);
            }
            Verdict::Renew | Verdict::Take | Verdict::RestartGone => {}
            Verdict::Stale | Verdict::Repeat | Verdict::Confirm => {}
        }
        if let Verdict::Update | Verdict::Revive = verdict
            && differs
        {
            self.emit(slot, MemberEventKind::Changed);
        }
    }

    fn repeat(&mut self, slot: u32, claim: &Claim) {
        let row = self.table.row(slot);
        let same = row.addr == claim.addr && row.meta == claim.meta;
        self.counters.count(match same {
            true => Counter::FactStale,
            false => Counter::FactConflict,
        });
    }

    fn confirm(&mut self, now: Instant, slot: u32, claim: &Claim) {
        let row = self.table.row_mut(slot);
        let Some(suspicion) = row.suspicion.as_mut().filter(|_| claim.confirms) else {
            return self.counters.count(Counter::FactStale);
        };
        if !suspicion.confirm(claim.accuser) {
            return self.counters.count(Counter::FactStale);
        }
        crate::sometimes!("swim.confirmed_to_min", suspicion.is_confirmed());
        let deadline = suspicion.deadline();
        row.accuser = claim.accuser;
        self.counters.count(Counter::SuspicionConfirmations);
        // The shorter wait may be over already: that is no timer that came late (C53).
        self.timers.advance(Timer::Suspicion, deadline.max(now));
        self.enqueue(now, slot);
    }

    /// Takes what a claim says but its state; true if address or words changed.
    fn take_claim(&mut self, now: Instant, slot: u32, claim: &Claim) -> bool {
        let forget = self.spans.forget_at(now, claim.state, claim.age);
        let row = self.table.row_mut(slot);
        let differs = claim.addr.is_some() && (row.addr != claim.addr || row.meta != claim.meta);
        row.life = claim.life;
        row.since = claim.since(now);
        row.forget = forget;
        row.accuser = claim.accuser;
        if claim.addr.is_some() {
            row.addr = claim.addr;
            row.meta = claim.meta;
        }
        differs
    }

    /// Puts a row into a state, and on the lists of that state.
    pub(super) fn set_state(&mut self, slot: u32, to: State) {
        let row = self.table.row_mut(slot);
        let (from, was) = (row.state, row.is_member());
        let special = |state| matches!(state, State::Suspect | State::Dead);
        let owed = row.owed;
        row.state = to;
        row.suspicion = None;
        let is = row.is_member();
        if !owed {
            self.special += u32::from(special(to));
            self.special -= u32::from(special(from));
        }
        self.alive += u32::from(to == State::Alive);
        self.alive -= u32::from(from == State::Alive);
        match from {
            State::Suspect => self.suspects.retain(|at| *at != slot),
            State::Dead => self.dead.retain(|at| *at != slot),
            State::Alive | State::Left => {}
        }
        match to {
            State::Suspect => self.suspects.push(slot),
            State::Dead => self.dead.push(slot),
            State::Alive | State::Left => {}
        }
        if was && !is && slot != ME {
            self.take_off_order(slot);
        }
        if is && !was {
            // Drawn at each round from all still to come: any place among them is random (C46).
            self.order.push(slot);
        }
        if !is {
            self.plan_to_forget(slot);
        }
    }

    /// Notes whether the next message to a member starts with my Alive (C43).
    pub(super) fn set_owed(&mut self, slot: u32, owed: bool) {
        let row = self.table.row_mut(slot);
        let special = matches!(row.state, State::Suspect | State::Dead);
        if row.owed != owed && !special {
            self.special = match owed {
                true => self.special + 1,
                false => self.special - 1,
            };
        }
        row.owed = owed;
    }

    fn begin_suspicion(&mut self, now: Instant, slot: u32, accuser: NodeId) {
        crate::sometimes!("swim.suspected");
        let rates = (self.config.suspicion_min, self.config.suspicion_max);
        let members = self.member_count();
        let suspicion = Suspicion::new(now, rates, self.spans.period, members, accuser);
        self.timers.advance(Timer::Suspicion, suspicion.deadline());
        self.table.row_mut(slot).suspicion = Some(Box::new(suspicion));
    }

    /// Declares dead whose suspicion ran out (C48), and looks for the next one to do so.
    pub(super) fn end_suspicions(&mut self, now: Instant) {
        let deadline = |swim: &Self, slot: u32| match &swim.table.row(slot).suspicion {
            Some(suspicion) => suspicion.deadline(),
            None => Instant::FAR,
        };
        let due: Vec<u32> =
            self.suspects.iter().copied().filter(|slot| deadline(self, *slot) <= now).collect();
        for slot in due {
            let row = self.table.row(slot);
            let fact = Fact::Dead { node: row.node, life: row.life, accuser: self.me };
            self.hear(now, self.me, &fact);
        }
        let next =
            self.suspects.iter().map(|slot| deadline(self, *slot)).fold(Instant::FAR, Instant::min);
        self.timers.set(Timer::Suspicion, next);
    }

    /// C43: a fact about this node.
    fn hear_of_myself(&mut self, now: Instant, from: NodeId, claim: &Claim) {
        let me = self.table.row(ME);
        if me.state == State::Left {
            return;
        }
        let mine = me.life;
        if claim.life.session > mine.session {
            return self.fall_behind(claim.life.session);
        }
        let heard = claim.life.incarnation;
        let same = me.addr == claim.addr && me.meta == claim.meta;
        if claim.life < mine {
            self.counters.count(Counter::FactStale);
            return self.owe(from);
        }
        if heard > mine.incarnation && claim.state != State::Left {
            self.counters.count(Counter::SelfAhead);
            return self.lived_before();
        }
        match claim.state {
            State::Left => self.fall_behind(mine.session),
            State::Dead if self.stage == Stage::Joining => self.lived_before(),
            State::Suspect | State::Dead => self.refute(now, from, heard),
            State::Alive if same => self.counters.count(Counter::FactStale),
            State::Alive => self.refute(now, from, heard),
        }
    }

    /// A process before this one had the session: others know of an incarnation that this one was
    /// never in, or that it is dead before it has joined. Its session file is lost, and nobody is
    /// left who met that process and could tell the two apart by their instances (C27).
    ///
    /// C43 would have it refuted. But that passes this process off as that one: with references
    /// made to its actors, and with its names, whose serials stand above this one's (C76).
    fn lived_before(&mut self) {
        crate::sometimes!("swim.lived_before");
        self.use_up();
    }

    /// Says that this node is alive, above what was heard of it.
    fn refute(&mut self, now: Instant, from: NodeId, heard: Incarnation) {
        crate::sometimes!("swim.refuted");
        self.counters.count(Counter::Refutations);
        self.owe(from);
        self.raise(now, heard);
        self.worsen(1);
    }

    /// Raises the own incarnation above `heard`, or asks for a new session if none is left (C8).
    pub(super) fn raise(&mut self, now: Instant, heard: Incarnation) {
        let me = self.table.row_mut(ME);
        match me.life.incarnation.above(heard) {
            Some(incarnation) => me.life.incarnation = incarnation,
            None => return self.use_up(),
        }
        self.enqueue(now, ME);
        self.tell_change();
    }

    pub(super) fn tell_change(&mut self) {
        let me = self.table.row(ME);
        self.outputs.push_back(Output::SelfChanged {
            life: me.life,
            addr: me.addr.expect("this node listens somewhere"),
        });
    }

    fn owe(&mut self, to: NodeId) {
        if let Some(slot) = self.table.find(to)
            && slot != ME
        {
            self.set_owed(slot, true);
        }
    }

    /// A session of this node is known that is not over yet, or over already (C27): reported once.
    fn fall_behind(&mut self, above: Session) {
        if self.behind.is_none_or(|known| above > known) {
            self.behind = Some(above);
            self.outputs.push_back(Output::SessionBehind { above });
        }
    }

    /// The incarnations of this session are used up (C8), or are another's: reported once.
    fn use_up(&mut self) {
        let session = self.table.row(ME).life.session;
        if self.behind.is_none_or(|known| session > known) {
            self.behind = Some(session);
            self.outputs.push_back(Output::UsedUp);
        }
    }

    /// Goes on in a new session (C27).
    pub(super) fn renew(&mut self, now: Instant, session: Session) {
        let me = self.table.row_mut(ME);
        if me.state == State::Left || session <= me.life.session {
            return;
        }
        me.life = Life { session, incarnation: Incarnation(0) };
        self.behind = self.behind.filter(|above| *above >= session);
        self.enqueue(now, ME);
        self.tell_change();
    }

    /// Takes a new address or new words of this node (C58).
    pub(super) fn restate(&mut self, now: Instant, addr: Option<Addr>, meta: Option<Meta>) {
        let me = self.table.row_mut(ME);
        if me.state == State::Left {
            return;
        }
        let (old, heard) = ((me.addr, me.meta), me.life.incarnation);
        me.addr = addr.or(me.addr);
        me.meta = meta.unwrap_or(me.meta);
        if (me.addr, me.meta) != old {
            self.raise(now, heard);
        }
    }
}
