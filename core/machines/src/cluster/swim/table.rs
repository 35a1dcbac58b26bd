//! The membership table and the law of C42: what a fact does to a row.
//!
//! Rows live in slots that do not move, so that lists can name them; a sorted index finds them.

use std::hash::{Hash, Hasher};

use crate::cluster::ids::{Addr, Life, NodeId};
use crate::cluster::wire::{Fact, MemberRow, Meta, State};
use crate::time::Instant;

use super::arithmetic::Spans;
use super::suspicion::Suspicion;

/// What C42 says a fact about a known member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it is not above the row.
    Stale,
    /// Alive of the very life that is held Alive: a conflict if it says something else.
    Repeat,
    /// Suspect of the very life that is suspected: counts if the accuser is new.
    Confirm,
    /// Alive stays Alive with a newer life.
    Update,
    /// Suspect is Alive again.
    Revive,
    /// Alive is suspected.
    Accuse,
    /// A newer life is suspected: the suspicion starts afresh.
    Renew,
    /// Alive or Suspect is Dead.
    Kill,
    /// Alive or Suspect has left.
    Depart,
    /// Dead or Left takes a newer life, still Dead or Left.
    Take,
    /// Dead or Left is Alive.
    Join,
    /// Dead or Left is back, and suspected.
    JoinSuspect,
    /// A new session of an Alive or Suspect member, Alive.
    RestartAlive,
    /// A new session of an Alive or Suspect member, suspected.
    RestartSuspect,
    /// A new session of an Alive or Suspect member, Dead or Left already.
    RestartGone,
}

/// Decides C42 for a known member: the row's life and state, and the fact's.
pub(super) fn decide(held: (Life, State), told: (Life, State)) -> Verdict {
    let (row, fact) = (held.0, told.0);
    let restarted = fact.session > row.session;
    match (held.1, told.1) {
        (State::Alive | State::Suspect, State::Alive) if restarted => Verdict::RestartAlive,
        (State::Alive | State::Suspect, State::Suspect) if restarted => Verdict::RestartSuspect,
        (State::Alive | State::Suspect, State::Dead | State::Left) if restarted => {
            Verdict::RestartGone
        }
        (State::Alive, State::Alive) if fact > row => Verdict::Update,
        (State::Alive, State::Alive) if fact == row => Verdict::Repeat,
        (State::Alive, State::Suspect) if fact >= row => Verdict::Accuse,
        (State::Suspect, State::Alive) if fact > row => Verdict::Revive,
        (State::Suspect, State::Suspect) if fact == row => Verdict::Confirm,
        (State::Suspect, State::Suspect) if fact > row => Verdict::Renew,
        (State::Alive | State::Suspect, State::Dead) if fact >= row => Verdict::Kill,
        (State::Alive | State::Suspect, State::Left) if fact.session == row.session => {
            Verdict::Depart
        }
        (State::Dead | State::Left, State::Alive) if fact > row => Verdict::Join,
        (State::Dead | State::Left, State::Suspect) if fact > row => Verdict::JoinSuspect,
        (State::Dead | State::Left, State::Dead) if fact > row => Verdict::Take,
        (State::Dead, State::Left) if fact.session == row.session => Verdict::Take,
        (State::Dead | State::Left, State::Left) if restarted => Verdict::Take,
        (
            State::Alive | State::Suspect | State::Dead | State::Left,
            State::Alive | State::Suspect | State::Dead | State::Left,
        ) => Verdict::Stale,
    }
}

/// Where a row's latest fact stands in the gossip queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    pub(super) sends: u32,
    pub(super) stamp: u64,
}

/// What is known of one node (C40).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) node: NodeId,
    pub(super) life: Life,
    pub(super) state: State,
    /// My Alive goes first in the next message to this member (C43).
    pub(super) owed: bool,
    /// Dead because its key was taken off the allowlist (C24).
    pub(super) revoked: bool,
    pub(super) since: Instant,
    /// When a Dead or Left row is forgotten (C60). Its age is told from here, since it can be
    /// older than this node's clock.
    pub(super) forget: Instant,
    pub(super) addr: Option<Addr>,
    pub(super) meta: Meta,
    /// Who accused in the latest applied Suspect or Dead fact.
    pub(super) accuser: NodeId,
    /// While Suspect, and only then.
    pub(super) suspicion: Option<Box<Suspicion>>,
    pub(super) ticket: Option<Ticket>,
}

impl Row {
    /// The row as a fact. Alive rows always have an address.
    pub(super) fn fact(&self) -> Fact {
        let (node, life, accuser) = (self.node, self.life, self.accuser);
        match self.state {
            State::Alive => Fact::Alive {
                node,
                life,
                addr: self.addr.expect("an Alive row has an address"),
                meta: self.meta,
            },
            State::Suspect => Fact::Suspect {
                node,
                life,
                accuser,
            },
            State::Dead => Fact::Dead {
                node,
                life,
                accuser,
            },
            State::Left => Fact::Left {
                node,
                session: life.session,
            },
        }
    }

    /// Says whether a synced row says just what is held: Alive in that life, with those words.
    /// Most rows of most syncs do.
    pub(super) fn says(&self, row: &MemberRow) -> bool {
        self.state == State::Alive
            && row.state == State::Alive
            && self.life == row.life
            && self.addr == row.addr
            && self.meta == row.meta
    }

    /// Says whether the node is a member: Alive or Suspect.
    pub(super) const fn is_member(&self) -> bool {
        match self.state {
            State::Alive | State::Suspect => true,
            State::Dead | State::Left => false,
        }
    }

    /// The row as synced (C54).
    pub(super) fn synced(&self, now: Instant, spans: &Spans) -> MemberRow {
        let left = self.forget.nanos_since(now);
        let age = spans.keep(self.state).saturating_sub(left) / 1_000_000;
        MemberRow {
            node: self.node,
            life: self.life,
            state: self.state,
            age_ms: u32::try_from(age).unwrap_or(u32::MAX),
            addr: self.addr,
            meta: self.meta,
        }
    }
}

/// All rows. Slot 0 is the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// Sorted, and `slots` beside it.
    nodes: Vec<NodeId>,
    slots: Vec<u32>,
    free: Vec<u32>,
    revision: Revision,
}

/// Counts what may have changed rows: whoever watches need look again only when it has moved. No
/// part of the state.
#[derive(Clone, Copy, Debug, Default)]
struct Revision(u64);

impl PartialEq for Revision {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Revision {}

impl Hash for Revision {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The slot of the node itself.
pub(super) const ME: u32 = 0;

impl Table {
    /// A table of one row: the node itself.
    pub(super) fn new(me: Row) -> Self {
        Self {
            nodes: vec![me.node],
            slots: vec![ME],
            rows: vec![me],
            free: Vec::new(),
            revision: Revision::default(),
        }
    }

    /// Rows held, oneself included.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn find(&self, node: NodeId) -> Option<u32> {
        let (low, high) = self.bracket(node);
        let at = self.nodes[low..high].binary_search(&node).ok()?;
        Some(self.slots[low + at])
    }

    /// Narrows the place of `node` down. Ids are hashes, so the place can be guessed from the
    /// first bits; steps of doubling length from there find both ends for any ids.
    fn bracket(&self, node: NodeId) -> (usize, usize) {
        let len = self.nodes.len();
        let guess = (u128::from(node.entity()) * len as u128) >> 64;
        let guess = usize::try_from(guess).expect("a guess is below the length");
        let (mut low, mut high, mut step) = (guess, guess, 4);
        while low > 0 && self.nodes[low] > node {
            low = low.saturating_sub(step);
            step *= 2;
        }
        while high < len && self.nodes[high] < node {
            high = (high + step).min(len);
            step *= 2;
        }
        (low, (high + 1).min(len))
    }

    /// [`Table::find`] for one of many ascending nodes: `place` is where the last one was found.
    pub(super) fn find_after(&self, node: NodeId, place: &mut usize) -> Option<u32> {
        let next = (0..3).map(|step| *place + step);
        let near = next.take_while(|at| *at < self.nodes.len());
        if let Some(at) = near.into_iter().find(|at| self.nodes[*at] == node) {
            *place = at;
            return Some(self.slots[at]);
        }
        let at = self.nodes.binary_search(&node).ok()?;
        *place = at;
        Some(self.slots[at])
    }

    pub(super) fn row(&self, slot: u32) -> &Row {
        &self.rows[slot as usize]
    }

    /// Counts the changes of rows.
    pub(super) const fn revision(&self) -> u64 {
        self.revision.0
    }

    pub(super) fn row_mut(&mut self, slot: u32) -> &mut Row {
        self.revision.0 += 1;
        &mut self.rows[slot as usize]
    }

    /// Stores a row of a node that has none, and returns its slot.
    pub(super) fn insert(&mut self, row: Row) -> u32 {
        self.revision.0 += 1;
        let at = match self.nodes.binary_search(&row.node) {
            Err(at) => at,
            Ok(_) => unreachable!("a node has one row"),
        };
        self.nodes.insert(at, row.node);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.rows[slot as usize] = row;
                slot
            }
            None => {
                self.rows.push(row);
                u32::try_from(self.rows.len() - 1).expect("members_max is below u32::MAX")
            }
        };
        self.slots.insert(at, slot);
        slot
    }

    /// Forgets a row. The caller has taken its slot off every list.
    pub(super) fn remove(&mut self, slot: u32) {
        self.revision.0 += 1;
        let node = self.row(slot).node;
        let at = self
            .nodes
            .binary_search(&node)
            .expect("a slot in use is indexed");
        self.nodes.remove(at);
        self.slots.remove(at);
        self.free.push(slot);
    }

    /// All rows by ascending node, oneself among them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> + '_ {
        self.slots.iter().map(|slot| self.row(*slot))
    }

    /// All slots by ascending node.
    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }
}
