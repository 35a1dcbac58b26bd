//! Fresh keys inside a living link: the XX handshake again, as frames (C35).
//!
//! ```text
//!  dialler                                    acceptor
//!  None ─ old, worn or RekeyWanted ─ Draw
//!  Drawing ─ drawn ─ Rekey1 ───────────────►  None ─ Draw
//!  First ◄───────────────────────── Rekey2 ─  Answering ─ drawn
//!  Third ─ Rekey3, own stream switches ────►  Second; peer's stream switches
//!  None ◄── Rekey4, peer's stream switches ─  None; own stream switches, datagrams too
//! ```
//!
//! Anything out of turn breaks the link; so does a rekey that takes 10 s.

use std::time::Duration;

use super::Links;
use super::fault::Fault;
use super::io::Output;
use super::link::{Epoch, Link};
use crate::cluster::counters::{Counter, Labelled};
use crate::cluster::handshake::{Keys, Noise, Role, part_entropy};
use crate::cluster::ids::Entropy;
use crate::cluster::sealer::{BadTag, Key, Sealer};
use crate::cluster::wire::{CloseReason, Control};
use crate::time::Instant;

/// How long a rekey may take.
pub(crate) const SLOW: Duration = Duration::from_secs(10);

/// Where a rekey stands.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Rekey {
    /// None is needed.
    None,
    /// The acceptor asked for one.
    Asked,
    /// The dialler waits for entropy.
    Drawing { since: Instant },
    /// The dialler sent Rekey1.
    First { since: Instant, noise: Box<Noise>, index: u32 },
    /// The acceptor waits for entropy, to answer this.
    Answering { since: Instant, message: [u8; 32] },
    /// The acceptor sent Rekey2.
    Second { since: Instant, noise: Box<Noise>, index: u32 },
    /// The next epoch is known; its last message is under way.
    Third { since: Instant },
}

impl Rekey {
    /// Returns when it started, if one runs.
    pub(crate) const fn since(&self) -> Option<Instant> {
        match self {
            Self::None | Self::Asked => None,
            Self::Drawing { since }
            | Self::First { since, .. }
            | Self::Answering { since, .. }
            | Self::Second { since, .. }
            | Self::Third { since } => Some(*since),
        }
    }

    /// Returns the link index that it holds, if it is not yet that of an epoch.
    pub(crate) const fn index(&self) -> Option<u32> {
        match self {
            Self::First { index, .. } | Self::Second { index, .. } => Some(*index),
            Self::None
            | Self::Asked
            | Self::Drawing { .. }
            | Self::Answering { .. }
            | Self::Third { .. } => None,
        }
    }

    /// Says whether the acceptor asked already.
    pub(crate) const fn asked(&self) -> bool {
        matches!(self, Self::Asked)
    }
}

fn failed() -> Fault {
    Fault { reason: CloseReason::RekeyFailed, ..Fault::protocol(Counter::FrameUnexpected) }
}

fn unexpected() -> Fault {
    Fault::protocol(Counter::FrameUnexpected)
}

impl Links {
    /// Starts a rekey, or asks the dialler for one.
    pub(super) fn rekey(&mut self, now: Instant, link: &mut Link) {
        match (&link.rekey, link.dialled) {
            (Rekey::None | Rekey::Asked, true) => {
                link.rekey = Rekey::Drawing { since: now };
                let conn = link.conn;
                self.outputs.push_back(Output::Draw { conn });
            }
            (Rekey::None, false) => {
                link.rekey = Rekey::Asked;
                link.push_control(Control::RekeyWanted);
            }
            (
                Rekey::Asked
                | Rekey::Drawing { .. }
                | Rekey::First { .. }
                | Rekey::Answering { .. }
                | Rekey::Second { .. }
                | Rekey::Third { .. },
                _,
            ) => {}
        }
    }

    /// Entropy for a rekey came.
    pub(super) fn rekey_drawn(&mut self, link: &mut Link, entropy: &Entropy) -> Result<(), Fault> {
        let (ephemeral, wish) = part_entropy(entropy);
        let index = self.free_index(wish);
        let prologue = link.rekey_prologue();
        let start = |role| {
            let (suite, key) = (self.terms.suite, &self.terms.key);
            Box::new(Noise::new(suite, role, key, ephemeral, &prologue))
        };
        match std::mem::replace(&mut link.rekey, Rekey::None) {
            Rekey::Drawing { since } => {
                let mut noise = start(Role::Initiator);
                link.push_control(Control::Rekey1(write(&mut noise, &[])));
                link.rekey = Rekey::First { since, noise, index };
            }
            Rekey::Answering { since, message } => {
                let mut noise = start(Role::Responder);
                noise.read(&message, &mut [0; 32]).map_err(|BadTag| failed())?;
                let body = write(&mut noise, &index.to_le_bytes());
                link.push_control(Control::Rekey2(body));
                link.rekey = Rekey::Second { since, noise, index };
            }
            // Nobody asked: the driver answered twice.
            other @ (Rekey::None
            | Rekey::Asked
            | Rekey::First { .. }
            | Rekey::Second { .. }
            | Rekey::Third { .. }) => {
                link.rekey = other;
                return Ok(());
            }
        }
        self.indexes.insert(index, link.conn);
        Ok(())
    }

    /// Rekey1, at the acceptor.
    pub(super) fn rekey1(
        &mut self,
        now: Instant,
        link: &mut Link,
        message: [u8; 32],
    ) -> Result<(), Fault> {
        let idle = matches!(link.rekey, Rekey::None | Rekey::Asked);
        if link.dialled || !idle {
            return Err(unexpected());
        }
        link.rekey = Rekey::Answering { since: now, message };
        let conn = link.conn;
        self.outputs.push_back(Output::Draw { conn });
        Ok(())
    }

    /// Rekey2, at the dialler.
    pub(super) fn rekey2(
        &mut self,
        now: Instant,
        link: &mut Link,
        message: &[u8; 100],
    ) -> Result<(), Fault> {
        let rekey = std::mem::replace(&mut link.rekey, Rekey::None);
        let Rekey::First { since, mut noise, index } = rekey else {
            link.rekey = rekey; // What it holds goes with the link.
            return Err(unexpected());
        };
        let remote = self.rekey_read(link, &mut noise, index, message)?;
        let body = write(&mut noise, &index.to_le_bytes());
        let Keys { to_responder, to_initiator, hash } = noise.keys();
        self.next_epoch(now, link, to_responder, to_initiator, hash, index, remote);
        link.push_control(Control::Rekey3(body));
        link.rekey = Rekey::Third { since };
        Ok(())
    }

    /// Rekey3, at the acceptor: the dialler's stream is in the next epoch from here on.
    pub(super) fn rekey3(
        &mut self,
        now: Instant,
        link: &mut Link,
        message: &[u8; 68],
    ) -> Result<(), Fault> {
        let rekey = std::mem::replace(&mut link.rekey, Rekey::None);
        let Rekey::Second { since, mut noise, index } = rekey else {
            link.rekey = rekey; // What it holds goes with the link.
            return Err(unexpected());
        };
        let remote = self.rekey_read(link, &mut noise, index, message)?;
        let Keys { to_responder, to_initiator, hash } = noise.keys();
        self.next_epoch(now, link, to_initiator, to_responder, hash, index, remote);
        link.epochs.rx_next = true;
        link.push_control(Control::Rekey4);
        link.rekey = Rekey::Third { since };
        self.counters.count_labelled(Labelled::Rekeys, 0);
        Ok(())
    }

    /// Rekey4, at the dialler: the acceptor's stream is in the next epoch from here on.
    pub(super) fn rekey4(&mut self, now: Instant, link: &mut Link) -> Result<(), Fault> {
        let third = matches!(link.rekey, Rekey::Third { .. });
        if !link.dialled || !third || !link.epochs.tx_next {
            return Err(unexpected());
        }
        link.epochs.rx_next = true;
        link.settle(now, &self.config);
        self.counters.count_labelled(Labelled::Rekeys, 0);
        Ok(())
    }

    /// RekeyWanted, at the dialler.
    pub(super) fn rekey_wanted(&mut self, now: Instant, link: &mut Link) -> Result<(), Fault> {
        match link.dialled {
            true => self.rekey(now, link),
            false => return Err(unexpected()),
        }
        Ok(())
    }

    /// Reads a Noise message whose payload is a link index, from the same key as ever. If it is
    /// not, the index `drawn` for the epoch that will not be is free again (C150).
    fn rekey_read(
        &mut self,
        link: &Link,
        noise: &mut Noise,
        drawn: u32,
        message: &[u8],
    ) -> Result<u32, Fault> {
        let read = self.rekey_index(link, noise, message);
        if read.is_err() {
            self.indexes.remove(&drawn);
        }
        read
    }

    fn rekey_index(&self, link: &Link, noise: &mut Noise, message: &[u8]) -> Result<u32, Fault> {
        let mut payload = [0; 4];
        let opened = noise.read(message, &mut payload);
        opened.map_err(|BadTag| failed())?;
        link.same_key(noise).map_err(|_| failed())?;
        if !self.allowed.has(link.peer()) {
            return Err(Fault::plain(CloseReason::Revoked));
        }
        match u32::from_le_bytes(payload) {
            0 => Err(failed()),
            index => Ok(index),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are what an epoch is")]
    fn next_epoch(
        &self,
        now: Instant,
        link: &mut Link,
        tx: Key,
        rx: Key,
        hash: [u8; 32],
        local_index: u32,
        remote_index: u32,
    ) {
        let number = link.epoch() + 1;
        link.epochs.next = Some(Epoch {
            sealer: Sealer::new(self.terms.suite, number, tx, rx),
            local_index,
            remote_index,
            hash,
            since: now,
        });
    }
}

/// Writes a message of exactly `N` bytes.
fn write<const N: usize>(noise: &mut Noise, payload: &[u8]) -> [u8; N] {
    let mut out = Vec::with_capacity(N);
    noise.write(payload, &mut out);
    out.try_into().expect("each message of XX has one length")
}
