//! One Up link: its epochs, its stream both ways, and its clocks (C33–C37).

use std::collections::VecDeque;

use super::assembly::Assembly;
use super::fault::Fault;
use super::io::Output;
use super::outbox::{Outbox, Queued};
use super::rekey::{Rekey, SLOW};
use crate::cluster::config::LinksConfig;
use crate::cluster::counters::{Counter, Counters, Labelled};
use crate::cluster::handshake::{Agreed, Noise};
use crate::cluster::ids::{Conn, NodeId, Session};
use crate::cluster::sealer::{BadTag, COUNTER_MAX, RECORD_MAX, RECORD_MIN, Sealer, TAG};
use crate::cluster::wire::{
    AnyFrame, Class, CloseReason, Code, Control, DatagramHeader, Features, FrameKind, Hello,
    Message,
};
use crate::codec::Wire;
use crate::time::Instant;

/// Messages of one lane after which an epoch is renewed (C35).
const WORN: u64 = 1 << 60;
/// Frames that are not users' and wait at most; a peer that reads so little is lost.
const CONTROL_ITEMS_MAX: usize = 16_384;
/// The label of bytes read, in `stream_bytes{dir,class}`, is that of bytes written plus this.
const READ: u8 = 3;

/// One epoch of a link: keys, counters, and what each end calls it.
#[derive(Clone, Debug, Hash)]
pub struct Epoch {
    /// Keys and counters.
    pub sealer: Sealer,
    /// What the peer puts into datagrams for this end.
    pub local_index: u32,
    /// What this end puts into datagrams for the peer.
    pub remote_index: u32,
    /// The handshake hash.
    pub hash: [u8; 32],
    /// Since when the keys exist.
    pub since: Instant,
}

/// The epochs of a link: at most one before and one after the current (C35).
#[derive(Clone, Debug, Hash)]
pub struct Epochs {
    /// What datagrams are sealed with, and streams too if nothing else is said.
    pub current: Epoch,
    /// Known, but not yet taken over in both directions.
    pub next: Option<Epoch>,
    /// Whether the own stream is in the next epoch.
    pub tx_next: bool,
    /// Whether the peer's stream is in the next epoch.
    pub rx_next: bool,
    /// Opens late datagrams, until then.
    pub old: Option<(Epoch, Instant)>,
}

impl Epochs {
    /// Returns the epoch that the own stream is in.
    pub fn tx(&mut self) -> &mut Epoch {
        match &mut self.next {
            Some(next) if self.tx_next => next,
            Some(_) | None => &mut self.current,
        }
    }

    /// Returns the epoch that the peer's stream is in.
    pub fn rx(&mut self) -> &mut Epoch {
        match &mut self.next {
            Some(next) if self.rx_next => next,
            Some(_) | None => &mut self.current,
        }
    }

    /// Returns the epoch in which this end is called `index`.
    pub fn by_index(&mut self, index: u32) -> Option<&mut Epoch> {
        let all = [
            Some(&mut self.current),
            self.next.as_mut(),
            self.old.as_mut().map(|(epoch, _)| epoch),
        ];
        all.into_iter().flatten().find(|epoch| epoch.local_index == index)
    }

    /// Lists the epochs that are held, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Epoch> {
        let old = self.old.as_ref().map(|(epoch, _)| epoch);
        old.into_iter().chain([&self.current]).chain(&self.next)
    }
}

/// A link that is Up.
#[derive(Clone, Debug, Hash)]
pub struct Link {
    pub(crate) conn: Conn,
    pub(crate) agreed: Agreed,
    pub(crate) hello: Hello,
    pub(crate) dialled: bool,
    pub(crate) since: Instant,
    /// Keys, counters and indexes; public for checkers and saboteurs.
    pub epochs: Epochs,
    pub(crate) outbox: Outbox,
    pub(crate) assembly: Assembly,
    pub(crate) inbox: Vec<u8>,
    pub(crate) unsent: u32,
    pub(crate) sent_at: Instant,
    pub(crate) heard_at: Instant,
    pub(crate) used_at: Instant,
    pub(crate) rekey: Rekey,
    /// The last user frame written here, and how far the peer has confirmed (C84).
    pub(crate) written: u64,
    pub(crate) confirmed: u64,
    /// Link indexes that nothing uses any longer, to be given back.
    pub(crate) retired: Vec<u32>,
    /// When the timer of this link is set to go off.
    pub(crate) timer: Instant,
}

/// What a link's clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// Nothing yet.
    None,
    /// Close.
    Close(CloseReason),
    /// Renew the epoch, or ask for it.
    Rekey,
    /// Wipe the old epoch.
    Forget,
    /// Say that this end is still there.
    Keepalive,
}

impl Link {
    /// Returns the peer: the hash of the key that completed the handshake (C130).
    #[must_use]
    pub const fn peer(&self) -> NodeId {
        self.agreed.peer
    }

    /// Returns the key that completed the handshake (C130).
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        &self.agreed.key
    }

    /// Returns the connection.
    #[must_use]
    pub const fn conn(&self) -> Conn {
        self.conn
    }

    /// Returns what the peer said of itself.
    #[must_use]
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Says whether this end dialled.
    #[must_use]
    pub const fn dialled(&self) -> bool {
        self.dialled
    }

    /// Returns since when it is Up.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Returns the version in use (C135).
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.agreed.version
    }

    /// Returns the features in use (C135).
    #[must_use]
    pub const fn features(&self) -> Features {
        self.agreed.features
    }

    /// Returns the number of the current epoch.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epochs.current.sealer.epoch
    }

    /// Returns how many user bytes wait.
    #[must_use]
    pub const fn queue_bytes(&self) -> usize {
        self.outbox.bytes(Class::User)
    }

    /// Returns how many bytes of unfinished bodies and records are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.assembly.bytes() + self.inbox.len()
    }

    /// Says whether it must not close to make room, or because nobody used it: something waits,
    /// or was sent and is not confirmed (C30).
    pub(crate) fn is_busy(&self) -> bool {
        !self.outbox.is_empty() || self.rekey.since().is_some() || self.written > self.confirmed
    }

    /// Queues a frame of the link itself.
    pub(crate) fn push_control(&mut self, control: Control) {
        let frame = AnyFrame::Control(control);
        self.outbox.push(Queued::new(&frame, Session(0)));
    }

    /// Queues a frame that no user sent.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the peer reads so little that too much waits: two of the longest bodies.
    pub(crate) fn push(&mut self, queued: Queued, config: &LinksConfig) -> Result<(), Fault> {
        let class = queued.kind.class();
        let bytes = self.outbox.bytes(class) + queued.body.len();
        let full = bytes > 2 * config.message_bytes_max as usize;
        if full || self.outbox.items(class) >= CONTROL_ITEMS_MAX {
            return Err(Fault::plain(CloseReason::Silent));
        }
        self.outbox.push(queued);
        Ok(())
    }

    /// Seals and writes what may be written now.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the epoch is used up.
    pub(crate) fn pump(
        &mut self,
        now: Instant,
        config: &LinksConfig,
        counters: &mut Counters,
        outputs: &mut VecDeque<Output>,
    ) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        let first = outputs.len();
        let mut ended = Ok(());
        while let Some(len) = self.outbox.next_len() {
            let record = 2 + len + TAG;
            let waiting = self.unsent as usize + bytes.len();
            if waiting > 0 && waiting + record > config.unsent_bytes_max as usize {
                break;
            }
            if self.epochs.tx().sealer.stream_tx >= COUNTER_MAX {
                ended = Err(Fault::plain(CloseReason::KeyExpired));
                break;
            }
            bytes.reserve(record);
            let start = bytes.len();
            let class = self.seal_next(now, config, &mut bytes, outputs);
            let sealed = (bytes.len() - start) as u64;
            counters.add_labelled(Labelled::StreamBytes, class as u8, sealed);
        }
        if !bytes.is_empty() {
            self.wrote(now, &bytes, counters);
            let conn = self.conn;
            outputs.insert(first, Output::Write { conn, bytes });
        }
        ended
    }

    /// Seals one record and lets an epoch begin where it must.
    fn seal_next(
        &mut self,
        now: Instant,
        config: &LinksConfig,
        bytes: &mut Vec<u8>,
        outputs: &mut VecDeque<Output>,
    ) -> Class {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 2]);
        let taken = self.outbox.take(bytes).expect("its length was known");
        self.epochs.tx().sealer.seal_record(bytes, start);
        if taken.kind as u8 >= FrameKind::Swim as u8 {
            self.used_at = now;
        }
        if let Some(number) = taken.written {
            self.written = number;
            let to = self.agreed.peer;
            outputs.push_back(Output::Written { to, number });
        }
        if matches!(taken.kind, FrameKind::Rekey3 | FrameKind::Rekey4) {
            self.epochs.tx_next = true;
            self.settle(now, config);
        }
        taken.kind.class()
    }

    fn wrote(&mut self, now: Instant, bytes: &[u8], counters: &mut Counters) {
        self.sent_at = now;
        let len = u32::try_from(bytes.len()).expect("unsent_max bounds what is written at once");
        self.unsent = self.unsent.saturating_add(len);
        counters.add(Counter::StreamBytesOut, u64::from(len));
    }

    /// Seals a Close as the last record.
    pub(crate) fn farewell(&mut self, reason: CloseReason) -> Option<Vec<u8>> {
        let sealer = &mut self.epochs.tx().sealer;
        (sealer.stream_tx < COUNTER_MAX).then(|| {
            let mut bytes = Vec::new();
            sealer.seal_control(&Control::Close(reason), &mut bytes);
            bytes
        })
    }

    /// Seals `message` into a datagram.
    pub(crate) fn datagram(&mut self, now: Instant, message: &Message) -> Result<Vec<u8>, Fault> {
        let epoch = &mut self.epochs.current;
        if epoch.sealer.datagram_tx >= COUNTER_MAX {
            return Err(Fault::plain(CloseReason::KeyExpired));
        }
        let mut bytes = Vec::with_capacity(DatagramHeader::LEN + message.encoded_len() + TAG);
        bytes.extend_from_slice(&[0; DatagramHeader::LEN]);
        message.encode(&mut bytes);
        epoch.sealer.seal_datagram(epoch.remote_index, &mut bytes);
        self.used_at = now;
        Ok(bytes)
    }

    /// Takes the next whole record off `inbox` at `at`, opened, as a frame if it completes one.
    /// `None` if bytes are missing.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the link must close.
    pub(crate) fn next_frame(
        &mut self,
        config: &LinksConfig,
        counters: &mut Counters,
        inbox: &mut [u8],
        at: &mut usize,
    ) -> Result<Option<Option<AnyFrame>>, Fault> {
        let Some((head, rest)) = inbox[*at..].split_first_chunk_mut::<2>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_le_bytes(*head));
        if !(RECORD_MIN..=RECORD_MAX).contains(&len) {
            return Err(Fault::protocol(Counter::RecLength));
        }
        let Some(text) = rest.get_mut(..len) else {
            return Ok(None);
        };
        let sealer = &mut self.epochs.rx().sealer;
        if sealer.stream_rx >= COUNTER_MAX {
            return Err(Fault::plain(CloseReason::KeyExpired));
        }
        let plain = sealer.open_record(text);
        let plain = plain.map_err(|BadTag| Fault::protocol(Counter::RecBadTag))?;
        *at += 2 + len;
        if let Some(kind) = plain.first().copied().and_then(FrameKind::from_u8) {
            let label = READ + kind.class() as u8;
            counters.add_labelled(Labelled::StreamBytes, label, 2 + len as u64);
        }
        let total_max = config.message_bytes_max;
        self.assembly.take(plain, total_max).map(Some)
    }

    /// Returns when the clock of this link must be looked at again.
    pub(crate) fn due(&self, config: &LinksConfig) -> Instant {
        let epoch = &self.epochs.current;
        let mut due = self.sent_at + config.keepalive;
        due = due.min(self.heard_at + config.keepalive * 3);
        if !self.is_busy() {
            due = due.min(self.used_at + config.link_idle);
        }
        due = due.min(epoch.since + config.reject_after);
        match self.rekey.since() {
            Some(since) => due = due.min(since + SLOW),
            None => due = due.min(self.rekey_due(config)),
        }
        if let Some((_, until)) = &self.epochs.old {
            due = due.min(*until);
        }
        due
    }

    fn rekey_due(&self, config: &LinksConfig) -> Instant {
        let since = self.epochs.current.since;
        match (self.dialled, self.rekey.asked()) {
            (true, _) => since + config.rekey_after,
            // The dialler has its own clock; this is for one that is late.
            (false, false) => since + config.rekey_after + SLOW,
            (false, true) => Instant::FAR,
        }
    }

    /// Says whether the record just opened is the first that the dialler sent on its new link.
    pub(crate) const fn is_fresh(&self) -> bool {
        let epoch = &self.epochs.current.sealer;
        !self.dialled && epoch.epoch == 0 && epoch.stream_rx == 1
    }

    /// Says whether one of the own counters asks for a rekey (C35).
    pub(crate) fn is_worn(&self) -> bool {
        self.epochs.current.sealer.used() > WORN
            && match (&self.rekey, self.dialled) {
                (Rekey::None, _) => true,
                (Rekey::Asked, dialled) => dialled,
                (
                    Rekey::Drawing { .. }
                    | Rekey::First { .. }
                    | Rekey::Answering { .. }
                    | Rekey::Second { .. }
                    | Rekey::Third { .. },
                    _,
                ) => false,
            }
    }

    /// Says what the clock asks for; the caller does it and asks again.
    pub(crate) fn alarm(&self, now: Instant, config: &LinksConfig) -> Alarm {
        let epoch = &self.epochs.current;
        if self.heard_at + config.keepalive * 3 <= now {
            return Alarm::Close(CloseReason::Silent);
        }
        if epoch.since + config.reject_after <= now {
            return Alarm::Close(CloseReason::KeyExpired);
        }
        if matches!(&self.epochs.old, Some((_, until)) if *until <= now) {
            return Alarm::Forget;
        }
        match self.rekey.since() {
            Some(since) if since + SLOW <= now => {
                return Alarm::Close(CloseReason::RekeyFailed);
            }
            None if self.rekey_due(config) <= now => return Alarm::Rekey,
            Some(_) | None => {}
        }
        if self.used_at + config.link_idle <= now && !self.is_busy() {
            return Alarm::Close(CloseReason::Idle);
        }
        if self.sent_at + config.keepalive <= now {
            return Alarm::Keepalive;
        }
        Alarm::None
    }

    /// Takes the next epoch over once both streams are in it.
    pub(crate) fn settle(&mut self, now: Instant, config: &LinksConfig) {
        if !(self.epochs.tx_next && self.epochs.rx_next) {
            return;
        }
        let next = self.epochs.next.take().expect("a stream switched to it");
        let old = std::mem::replace(&mut self.epochs.current, next);
        let until = now + config.rekey_grace;
        if let Some((older, _)) = self.epochs.old.replace((old, until)) {
            self.retired.push(older.local_index);
        }
        self.epochs.tx_next = false;
        self.epochs.rx_next = false;
        self.rekey = Rekey::None;
        crate::sometimes!("link.rekeyed");
    }

    /// Returns the handshake of the next epoch's first message: its prologue binds it to this
    /// epoch (C35).
    pub(crate) fn rekey_prologue(&self) -> Vec<u8> {
        let epoch = &self.epochs.current;
        let mut prologue = b"lockstep/rekey/1".to_vec();
        prologue.extend_from_slice(&epoch.hash);
        prologue.extend_from_slice(&(epoch.sealer.epoch + 1).to_le_bytes());
        prologue
    }

    /// Checks that a rekey was run with the very key that completed the handshake.
    pub(crate) fn same_key(&self, noise: &Noise) -> Result<(), Code> {
        match noise.remote() == Some(self.agreed.key) {
            true => Ok(()),
            false => Err(Code::NotAllowed),
        }
    }
}
