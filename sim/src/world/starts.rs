//! How processes start, and what keeps them from it (C7).

use std::sync::Arc;

use machines::cluster::identity::{self, Allowed};
use machines::cluster::ids::{Instance, NodeId, Session};
use machines::cluster::swim::io::Seed;
use machines::digest::mix;
use machines::node::io::Input;

use super::{Due, Setup, World};
use crate::boot::Refusal;
use crate::build::config_of;
use crate::checker::Notice;
use crate::disk::{DiskError, File};
use crate::guest::{Birth, Guest};
use crate::host::{Host, State, address};

/// Writing and syncing a session takes so long.
const STORE: u64 = 1_000_000;
/// A process that the disk kept from starting, or from going on, is started again after this.
const AGAIN: u64 = 1_000_000_000;
/// Keys are taken from a pool of so many, from a place that the seed decides: so the order of the
/// ids differs between seeds, and their public halves are computed only once.
const KEYS: u64 = 1_024;

/// Makes the nodes of a run. Their keys are a keyed hash of the seed: see the head of
/// [`world`](super).
pub(super) fn hosts<G: Guest>(setup: &Setup<G>) -> Vec<Host<G>> {
    let first = mix(setup.seed ^ 0x6b65_7973, 0xd6e8_feb8_6659_fd93);
    let pool = KEYS.max(u64::from(setup.nodes));
    let keys = (0..u64::from(setup.nodes)).map(|node| secret((first % pool + node) % pool));
    keys.map(|secret| Host::new(secret, NodeId::of_key(&G::public_key(&secret)))).collect()
}

/// Returns the allowlist of a run, less those that were taken off it.
pub(super) fn allowed<G: Guest>(setup: &Setup<G>, hosts: &[Host<G>], off: &[u32]) -> Arc<Allowed> {
    let friends = setup.nodes - setup.strangers;
    let keys = (0..friends).filter(|node| !off.contains(node));
    let keys = keys.map(|node| G::public_key(&hosts[node as usize].secret));
    Arc::new(Allowed::only(keys))
}

/// Returns the secret key at a place of the pool. Only a simulation has such keys.
fn secret(place: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    for (word, part) in (0_u64..).zip(secret.chunks_exact_mut(8)) {
        let drawn = mix(place ^ 0x9e37_79b9_7f4a_7c15, word ^ 0xe703_7ed1_a0b4_28db);
        part.copy_from_slice(&drawn.to_le_bytes());
    }
    secret
}

impl<G: Guest> World<G> {
    /// A start that was laid out before; whatever happened to the process since then calls it off.
    pub(super) fn try_start(&mut self, node: u32, epoch: u32) {
        if self.hosts[node as usize].epoch == epoch {
            self.start(node);
        }
    }

    /// The process of `node` starts: it counts its session up, and goes on when that is durable.
    pub(super) fn start(&mut self, node: u32) {
        let host = &mut self.hosts[node as usize];
        if matches!(host.state, State::Up | State::Booting) {
            return;
        }
        host.epoch += 1;
        host.dark = false;
        host.state = State::Booting;
        self.note("start", node);
        match self.count_up(node) {
            Ok(session) => {
                let host = &mut self.hosts[node as usize];
                host.session = session;
                let (epoch, at) = (host.epoch, host.disk.done_at(self.now, STORE));
                self.agenda.push(at, Due::Booted { node, epoch });
            }
            Err(refusal) => self.refuse(node, refusal),
        }
    }

    fn count_up(&mut self, node: u32) -> Result<Session, Refusal> {
        let host = &mut self.hosts[node as usize];
        let file = host.disk.read(File::Session).map_err(|_| Refusal::Unreadable)?;
        let file = (!file.is_empty()).then_some(file);
        let session = identity::next_session(file.as_deref(), host.id)?;
        let (offset, bytes) = identity::session_slot(session, host.id);
        let offset = usize::try_from(offset).expect("the session file has 32 bytes");
        let written = host.disk.write(File::Session, offset, &bytes, node, &mut self.choices);
        written.map_err(|_| Refusal::DiskFull)?;
        Ok(session)
    }

    fn refuse(&mut self, node: u32, refusal: Refusal) {
        let host = &mut self.hosts[node as usize];
        host.state = State::Refused(refusal);
        let epoch = host.epoch;
        *self.refusals.entry(refusal.name()).or_insert(0) += 1;
        self.note(refusal.name(), node);
        match refusal {
            Refusal::Unreadable | Refusal::DiskFull => {
                self.agenda.push(self.now + AGAIN, Due::Start { node, epoch });
            }
            Refusal::SessionCorrupt | Refusal::Exhausted => {}
        }
        self.notify(Notice::Refused(node, refusal));
    }

    /// The session is durable: the machine is born.
    pub(super) fn booted(&mut self, node: u32, epoch: u32) {
        let host = &self.hosts[node as usize];
        if host.epoch != epoch || host.state != State::Booting {
            return;
        }
        let stranger = node >= self.setup.nodes - self.setup.strangers;
        let allowed = if stranger { Arc::new(Allowed::Any) } else { self.allowlist_of(node) };
        let host = &mut self.hosts[node as usize];
        host.disk.sync(File::Session);
        host.drawn += 1;
        let instance = Instance(mix(self.setup.seed ^ host.id.entity(), host.drawn));
        let addr = address(node, host.moves);
        let scope = u64::from(epoch) << 32 | u64::from(node + 1);
        let choices = machines::Choices::new(self.setup.seed).scoped(scope);
        let choices = if self.answers.is_some() { choices.recording() } else { choices };
        let birth = Birth {
            node,
            nodes: self.setup.nodes,
            secret: host.secret,
            session: host.session,
            instance,
            addr,
            allowed,
            seeds: Vec::new(),
            config: config_of(&self.setup.config, &self.setup.builds, node, self.now),
            choices: choices.with_overrides(self.setup.overrides.clone()),
            cipher: self.setup.cipher,
        };
        let seeds = self.seeds(node);
        let host = &mut self.hosts[node as usize];
        let local = host.clock.read(self.now);
        host.guest = Some(G::new(&self.setup.kind, local, Birth { seeds, ..birth }));
        host.state = State::Up;
        host.started_at = self.now;
        host.busy_until = 0;
        self.note("up", node);
        self.notify(Notice::Started(node));
        self.handle(node, Input::Tick);
        if self.clients.are_busy() {
            let (call, request) = self.clients.started(node);
            self.call(node, call, request);
            self.deliver(node, Input::Meta(self.clients.meta()));
            self.agenda.push(self.now, Due::Client { node, epoch });
        }
    }

    fn seeds(&self, node: u32) -> Vec<Seed> {
        let friends = self.setup.nodes - self.setup.strangers;
        let others = (0..friends).filter(|other| *other != node);
        let others = others.take(self.setup.contacts as usize);
        let moves = |other: u32| self.hosts[other as usize].moves;
        others.map(|other| Seed { addr: address(other, moves(other)), node: None }).collect()
    }

    /// The node burnt a session while it runs (C27): write it, sync it, say so. One write is under
    /// way at a time, as in production.
    pub(super) fn store(&mut self, node: u32, what: (Session, u64, [u8; 16])) {
        let host = &mut self.hosts[node as usize];
        host.stores.push_back(what);
        if host.stores.len() == 1 {
            let epoch = host.epoch;
            self.write_session(node, epoch);
        }
    }

    /// Begins the write of the oldest session that is not durable.
    fn write_session(&mut self, node: u32, epoch: u32) {
        let host = &mut self.hosts[node as usize];
        if host.epoch != epoch {
            return;
        }
        let Some((_, offset, bytes)) = host.stores.front() else {
            return;
        };
        let offset = usize::try_from(*offset).expect("the session file has 32 bytes");
        match host.disk.write(File::Session, offset, bytes, node, &mut self.choices) {
            Ok(()) => {
                let at = host.disk.done_at(self.now, STORE);
                self.agenda.push(at, Due::Stored { node, epoch });
            }
            // Production ends its process, and whoever runs it starts it again.
            Err(DiskError::Full | DiskError::Read) => {
                self.stop(node, State::Down, false);
                let epoch = self.hosts[node as usize].epoch;
                self.agenda.push(self.now + AGAIN, Due::Start { node, epoch });
                self.note("stopped", node);
                self.notify(Notice::Stopped(node));
            }
        }
    }

    /// The oldest burnt session is durable.
    pub(super) fn stored(&mut self, node: u32, epoch: u32) {
        let host = &mut self.hosts[node as usize];
        if host.epoch != epoch {
            return;
        }
        let Some((session, ..)) = host.stores.pop_front() else {
            return;
        };
        host.disk.sync(File::Session);
        host.session = session;
        self.deliver(node, Input::SessionStored(session));
        self.write_session(node, epoch);
    }
}
