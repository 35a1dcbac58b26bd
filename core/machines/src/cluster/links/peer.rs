//! What is remembered of a peer, with a link or without (C25, C27, C31, C32, C83).

use std::collections::VecDeque;

use super::link::Link;
use super::outbox::Queued;
use crate::cluster::config::LinksConfig;
use crate::cluster::ids::{Addr, Conn, Instance, Session};
use crate::cluster::swim::io::Seed;
use crate::cluster::wire::{CloseReason, Hello, Message};
use crate::time::Instant;

/// The most peers remembered: above any number of members (C107), so that a member is forgotten
/// only when strangers of an open cluster push it out.
pub(super) const PEERS_MAX: usize = 16_384;
/// The most peers of which the session alone is remembered (C60).
pub(super) const FORGOTTEN_MAX: usize = 65_536;
/// The most seeds that may wait for one peer.
pub(super) const SEEDS_MAX: usize = 64;

/// A node that was heard of, dialled, or wanted.
#[derive(Clone, Debug, Hash)]
pub struct Peer {
    /// +1 with each dial started and each link that came up (C25).
    pub(crate) ordinal: u32,
    /// The highest session known; 0 if none is.
    pub(crate) session: Session,
    /// The process of that session, once one proved it.
    pub(crate) instance: Option<Instance>,
    /// The process that `seen` counts.
    pub(crate) counted: Option<Instance>,
    /// The highest user frame number accepted from it (C83).
    pub(crate) seen: u64,
    /// Where it was last said to listen.
    pub(crate) addr: Option<Addr>,
    /// Failures in a row (C32).
    pub(crate) failures: u32,
    /// No redial before.
    pub(crate) not_before: Instant,
    /// When a redial is set to start; FAR if none is.
    pub(crate) redial: Instant,
    /// The link that is Up.
    pub(crate) link: Option<Box<Link>>,
    /// The own dial that is not finished.
    pub(crate) dial: Option<Conn>,
    /// Its dial, waiting for the end of ours (C25).
    pub(crate) parked: Option<Conn>,
    /// The latest datagram, while a link comes up (C31).
    pub(crate) waiting: Option<Message>,
    /// Someone asked for a link, and waits to hear what came of it.
    pub(crate) wanted: bool,
    /// User frames that no stream has seen, and their bytes.
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: usize,
    /// Seeds that turned out to be this peer, or were said to be, and wait for an answer.
    pub(crate) seeds: Vec<Seed>,
    /// Whether a link was Up before.
    pub(crate) linked: bool,
    /// Why the last link closed.
    pub(crate) closed: Option<CloseReason>,
    /// When something last happened here.
    pub(crate) touched: Instant,
}

/// What waited for a link that is Up now.
pub(super) struct Waited {
    /// Seeds that this peer is.
    pub(super) seeds: Vec<Seed>,
    /// The latest datagram.
    pub(super) message: Option<Message>,
    /// User frames that no stream has seen.
    pub(super) frames: VecDeque<Queued>,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            ordinal: 0,
            session: Session(0),
            instance: None,
            counted: None,
            seen: 0,
            addr: None,
            failures: 0,
            not_before: Instant::START,
            redial: Instant::FAR,
            link: None,
            dial: None,
            parked: None,
            waiting: None,
            wanted: false,
            queue: VecDeque::new(),
            queue_bytes: 0,
            seeds: Vec::new(),
            linked: false,
            closed: None,
            touched: now,
        }
    }

    /// Returns the link, if it is Up.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.link.as_deref()
    }

    /// Returns the link, to be changed by a simulation that breaks a promise on purpose (T32).
    pub fn link_mut(&mut self) -> Option<&mut Link> {
        self.link.as_deref_mut()
    }

    /// Says whether an own dial runs.
    #[must_use]
    pub const fn is_dialling(&self) -> bool {
        self.dial.is_some()
    }

    /// Says whether its dial waits for the end of ours.
    #[must_use]
    pub const fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Returns the highest session known of it; 0 if none is.
    #[must_use]
    pub const fn session(&self) -> Session {
        self.session
    }

    /// Returns the highest user frame number accepted from its process.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns why the last link closed.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Returns how many user bytes wait without a link.
    #[must_use]
    pub const fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Says whether nothing would be lost but memory of it.
    pub(super) fn is_idle(&self) -> bool {
        let held = self.link.is_some() || self.dial.is_some() || self.parked.is_some();
        !held && !self.is_wanted()
    }

    /// Says whether something needs a link (C30).
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted || self.waiting.is_some() || !self.queue.is_empty() || !self.seeds.is_empty()
    }

    /// Queues a frame without a link, if there is room.
    pub(super) fn enqueue(&mut self, queued: Queued, config: &LinksConfig) -> bool {
        let bytes = self.queue_bytes + queued.body.len();
        let room = bytes <= config.dial_queue_bytes_max as usize
            && self.queue.len() < config.dial_queue_items_max as usize;
        if room || self.queue.is_empty() {
            self.queue_bytes = bytes;
            self.queue.push_back(queued);
            return true;
        }
        false
    }

    /// Puts frames of a closed link in front: they are older than what waits.
    pub(super) fn requeue(&mut self, frames: VecDeque<Queued>) {
        for queued in frames.into_iter().rev() {
            self.queue_bytes += queued.body.len();
            self.queue.push_front(queued);
        }
    }

    /// Forgets what waits for a link.
    pub(super) fn drop_waiting(&mut self) {
        self.wanted = false;
        self.waiting = None;
        self.queue.clear();
        self.queue_bytes = 0;
    }

    /// A link with it comes up: its process proved itself. Returns what waited for that.
    pub(super) fn met(&mut self, hello: &Hello) -> Waited {
        self.session = hello.life.session;
        self.instance = Some(hello.instance);
        if self.counted != Some(hello.instance) {
            self.counted = Some(hello.instance);
            self.seen = 0;
        }
        self.ordinal = self.ordinal.saturating_add(1);
        self.addr = Some(hello.addr);
        self.linked = true;
        self.wanted = false;
        self.queue_bytes = 0;
        Waited {
            seeds: std::mem::take(&mut self.seeds),
            message: self.waiting.take(),
            frames: std::mem::take(&mut self.queue),
        }
    }

    /// Returns what the Hello to it says was seen.
    pub(super) fn seen_from(&self, instance: Option<Instance>) -> u64 {
        match instance.is_none() || instance == self.counted {
            true => self.seen,
            false => 0,
        }
    }
}
